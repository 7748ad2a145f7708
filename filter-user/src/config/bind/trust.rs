//! Proxies in front of gates.

use ipnet::IpNet;

use super::{Binder, service::GateDraft};
use crate::{
    config::{lexer::Word, source::Span, syntax::Statement, vocabulary::did_you_mean},
    model::{AddressHeader, Origin, RealIp},
};

/// A `real_ip` that is being read.
#[derive(Default)]
pub(super) struct RealIpDraft {
    header: Option<(AddressHeader, Span)>,
}

impl Binder<'_> {
    /// `real_ip from PREFIX… { … }` for every gate that has none of its own.
    pub(super) fn global_real_ip(&mut self, statement: &Statement) {
        let mut known = std::mem::take(&mut self.real_ip);
        self.real_ip_into(statement, &mut known);
        self.real_ip = known;
    }

    /// `real_ip from PREFIX… { … }` or `real_ip off;` in a `gate`.
    pub(super) fn gate_real_ip(&mut self, statement: &Statement, draft: &mut GateDraft) {
        let known = draft.real_ip.get_or_insert_default();
        match statement.values() {
            [word] if word.is("off") => {
                self.no_block(statement);
                if !known.is_empty() {
                    let message = "this gate trusts proxies and trusts none";
                    self.sources
                        .error(word.span, "duplicate-directive", message)
                        .help("remove one of the two");
                }
            }
            _ => self.real_ip_into(statement, known),
        }
    }

    fn real_ip_into(&mut self, statement: &Statement, known: &mut Vec<RealIp>) {
        let from = self.proxies(statement, "real_ip from 192.0.2.10;");
        let mut draft = RealIpDraft::default();
        for option in statement.statements() {
            self.directive(option, &mut draft);
        }
        let header = draft.header.map_or_else(AddressHeader::default, |(header, _)| header);
        for (net, _, at) in &from {
            let other = known.iter().filter(|other| other.header != header).find_map(|other| {
                let meets = |earlier: &&(IpNet, Origin)| earlier.0.contains(net) || net.contains(&earlier.0);
                other.from.iter().find(meets).map(|(earlier, origin)| (other.header, earlier, origin))
            });
            if let Some((other, earlier, place)) = other {
                let message = format!("{earlier} is trusted for {other} already, at {place}");
                self.sources.error(*at, "two-headers", message).help("one proxy is believed one header");
            }
        }
        if !from.is_empty() {
            known.push(RealIp {
                from: from.into_iter().map(|(net, origin, _)| (net, origin)).collect(),
                header,
            });
        }
    }

    /// `header NAME;` in a `real_ip`.
    pub(super) fn real_ip_header(&mut self, option: &Statement, draft: &mut RealIpDraft) {
        let Some(word) = self.only_value(option, "the name of a header") else { return };
        let names = AddressHeader::ALL.map(AddressHeader::written);
        let header =
            AddressHeader::ALL.into_iter().find(|header| word.text.eq_ignore_ascii_case(header.name()));
        let Some(header) = header else {
            let message = format!("`{}` is no header that names an address", word.as_written());
            let help = did_you_mean(&word.text, &names)
                .unwrap_or_else(|| format!("known here: {}", names.join(", ")));
            self.sources.error(word.span, "unknown-word", message).help(help);
            return;
        };
        if let Some((_, earlier)) = draft.header.replace((header, word.span)) {
            self.set_again("header", word.span, earlier);
        }
    }

    /// `proxy_protocol from PREFIX…;` in a `gate`.
    pub(super) fn proxy_protocol(&mut self, statement: &Statement, draft: &mut GateDraft) {
        self.no_block(statement);
        let from = self.proxies(statement, "proxy_protocol from 192.0.2.10;");
        draft.proxy_protocol.extend(from.into_iter().map(|(net, origin, _)| (net, origin)));
    }

    /// `from PREFIX…`, each prefix with where it stands.
    fn proxies(&mut self, statement: &Statement, form: &str) -> Vec<(IpNet, Origin, Span)> {
        let [from, prefixes @ ..] = statement.values() else {
            let directive = statement.directive();
            let message = format!("`{}` without a value", directive.text);
            self.sources
                .error(directive.span, "missing-value", message)
                .help(format!("write it as `{form}`"));
            return Vec::new();
        };
        if !from.is("from") {
            let message = format!("`{}` stands where `from` has to", from.as_written());
            self.sources.error(from.span, "unknown-word", message).help(format!("write it as `{form}`"));
            return Vec::new();
        }
        if prefixes.is_empty() {
            let message = "nobody is trusted: there is no prefix after `from`";
            self.sources.error(from.span, "missing-value", message).help(format!("write it as `{form}`"));
        }
        prefixes.iter().filter_map(|word| self.proxy(word)).collect()
    }

    fn proxy(&mut self, word: &Word) -> Option<(IpNet, Origin, Span)> {
        let net = self.prefix(word)?;
        if net.prefix_len() == 0 {
            let message = "everybody would be trusted, and could name any address as their own";
            self.sources
                .error(word.span, "trusts-everybody", message)
                .help("name the addresses of the proxies");
            return None;
        }
        Some((net, self.sources.origin(word.span), word.span))
    }
}
