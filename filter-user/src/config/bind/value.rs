//! The values of rules: prefixes, countries, texts, and the lists that hold many of them.

use ipnet::IpNet;

use super::Binder;
use crate::{
    config::{
        lexer::{Word, foreign_quote},
        prefix::{covers_mapped, parse_prefix},
    },
    model::Country,
};

impl Binder<'_> {
    /// A prefix with its warnings.
    pub(super) fn prefix(&mut self, word: &Word) -> Option<IpNet> {
        match parse_prefix(&word.text) {
            Ok((net, masked)) => {
                if masked {
                    self.sources
                        .warning(word.span, "host-bits", "host bits below the mask are set, and are masked")
                        .label(format!("read as {net}"));
                }
                if covers_mapped(&net) {
                    let message = "this IPv6 prefix includes the IPv4-mapped addresses, \
                                   but does not match IPv4 clients";
                    self.sources
                        .warning(word.span, "mapped-not-covered", message)
                        .help("add the IPv4 prefix that is meant; all of IPv4 is 0/0");
                }
                Some(net)
            }
            Err(error) => {
                let part = word.part(&error.part());
                self.sources.error(part, error.code(), error.to_string()).help = error.help();
                None
            }
        }
    }

    /// Reports a value whose quotes are not what nicgate reads as quotes, or that opens them in its middle.
    pub(super) fn plainly_quoted(&mut self, word: &Word) -> bool {
        let message = if word.option {
            "a quote inside a word"
        } else if !word.quoted && foreign_quote(&word.text) {
            "values are quoted with double quotes only"
        } else if word.text.contains('\0') {
            "this value holds a NUL, which no request can"
        } else {
            return true;
        };
        self.sources
            .error(word.span, "stray-quote", message)
            .help("put the whole value into double quotes, with \\\" for a quote inside of it");
        false
    }

    pub(super) fn non_empty(&mut self, word: &Word) -> bool {
        if word.text.is_empty() {
            self.sources
                .error(word.span, "empty-value", "this value is empty")
                .help("an empty User-Agent part would match everyone, an empty token nobody");
        }
        !word.text.is_empty()
    }

    pub(super) fn country(&mut self, word: &Word) -> Option<Country> {
        let Some(country) = Country::new(&word.text) else {
            self.sources
                .error(word.span, "country-form", format!("`{}` is no country code", word.as_written()))
                .help("a country is two letters, as in ISO 3166-1 (RU, US, GB), or `unknown`");
            return None;
        };
        Some(country)
    }
}
