//! What restricts who may play or publish a stream, beside its policy.

use super::Binder;
use crate::{
    config::{lexer::Word, source::Span, syntax::Statement},
    model::{Country, Host},
};

/// Values of a directive, as it is written.
#[derive(Clone)]
pub(super) struct Written<T> {
    pub(super) values: Vec<T>,
    pub(super) text: String,
    pub(super) at: Span,
}

/// What a block says of who may play or publish.
#[derive(Clone, Default)]
pub(super) struct Restrictions {
    pub(super) allowed_countries: Option<Written<Option<Country>>>,
    pub(super) disallowed_countries: Vec<Written<Option<Country>>>,
    pub(super) domains: Option<Written<Host>>,
    pub(super) password: Option<Written<Box<str>>>,
}

impl Restrictions {
    /// These, and what `others` say where these say nothing.
    pub(super) fn or(&self, others: Option<&Self>) -> Self {
        let mut all = self.clone();
        let Some(others) = others else { return all };
        all.allowed_countries = all.allowed_countries.or_else(|| others.allowed_countries.clone());
        if all.disallowed_countries.is_empty() {
            all.disallowed_countries.clone_from(&others.disallowed_countries);
        }
        all.domains = all.domains.or_else(|| others.domains.clone());
        all.password = all.password.or_else(|| others.password.clone());
        all
    }

    /// Whether they restrict who plays.
    pub(super) fn of_play(&self) -> bool {
        self.countries().next().is_some() || self.domains.is_some()
    }

    /// Those about countries.
    pub(super) fn countries(&self) -> impl Iterator<Item = &Written<Option<Country>>> {
        self.allowed_countries.iter().chain(&self.disallowed_countries)
    }
}

/// Adds further values of a directive that is written twice: both lines hold.
fn add<T>(so_far: &mut Option<Written<T>>, more: Written<T>) {
    match so_far {
        None => *so_far = Some(more),
        Some(written) => {
            let values = more.text.split_once(' ').map_or("", |(_, values)| values);
            written.text = format!("{} {values}", written.text);
            written.values.extend(more.values);
        }
    }
}

impl Binder<'_> {
    /// `allowed_countries CODE…;`
    pub(super) fn allowed_countries(&mut self, statement: &Statement, restrictions: &mut Restrictions) {
        let values = self.read_values(statement, "the codes of countries", Self::country_or_unknown);
        if let Some(values) = values {
            add(&mut restrictions.allowed_countries, values);
        }
    }

    /// `disallowed_countries CODE…;`
    pub(super) fn disallowed_countries(&mut self, statement: &Statement, restrictions: &mut Restrictions) {
        let Some(Written { values, .. }) =
            self.read_values(statement, "the codes of countries", Self::country_or_unknown)
        else {
            return;
        };
        let name = &statement.directive().text;
        for (word, country) in statement.values().iter().zip(values) {
            let text = format!("{name} {}", word.as_written());
            restrictions.disallowed_countries.push(Written { values: vec![country], text, at: word.span });
        }
    }

    /// `domains HOST…;`
    pub(super) fn domains(&mut self, statement: &Statement, restrictions: &mut Restrictions) {
        // Every page is none too few.
        if statement.values().iter().any(|word| &*word.text == "*") {
            return;
        }
        let values = self.read_values(statement, "the hosts of pages", |binder: &mut Self, word: &Word| {
            let host = Host::new(&word.text);
            if host.is_none() {
                let message = format!("`{}` is no host of a page", word.as_written());
                binder
                    .sources
                    .error(word.span, "bad-domain", message)
                    .help("write a host alone, `example.com`, or with all below it, `*.example.com`");
            }
            host
        });
        if let Some(values) = values {
            add(&mut restrictions.domains, values);
        }
    }

    /// `password TEXT;`
    pub(super) fn password(&mut self, statement: &Statement, restrictions: &mut Restrictions) {
        let Some(word) = self.only_value(statement, "the password") else { return };
        if !self.plainly_quoted(word) || !self.non_empty(word) {
            return;
        }
        let text = format!("password {}", word.as_written());
        let written = Written { values: vec![word.text.clone()], text, at: word.span };
        if let Some(Written { at, .. }) = restrictions.password.replace(written) {
            self.set_again("password", word.span, at);
        }
    }

    fn country_or_unknown(&mut self, word: &Word) -> Option<Option<Country>> {
        if word.text.eq_ignore_ascii_case("unknown") { Some(None) } else { self.country(word).map(Some) }
    }

    /// The values of a directive; `None` when there are none, or one is wrong.
    fn read_values<T>(
        &mut self,
        statement: &Statement,
        what: &str,
        read: fn(&mut Self, &Word) -> Option<T>,
    ) -> Option<Written<T>> {
        self.no_block(statement);
        self.first_value(statement, what)?;
        let read: Vec<Option<T>> = statement.values().iter().map(|word| read(self, word)).collect();
        let words: Vec<String> = statement.values().iter().map(Word::as_written).collect();
        let text = format!("{} {}", statement.directive().text, words.join(" "));
        Some(Written {
            values: read.into_iter().collect::<Option<_>>()?,
            text,
            at: statement.values()[0].span,
        })
    }
}
