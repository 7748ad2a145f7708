//! `backend` lines: who is asked, and how.

use std::{sync::Arc, time::Duration};

use super::{Binder, policy::PolicyDraft};
use crate::{
    config::{
        lexer::Word,
        quantity::{TIME_FORM, number, time},
        source::Span,
        syntax::Statement,
    },
    model::{Authority, BackendOptions, BackendRule, Pem, Secret},
    tls::{Identity, certificates},
};

/// More questions at once than any backend can take.
const MOST_QUESTIONS: u64 = 65_536;

/// Headers that say how a request is carried, which is not for an operator to say.
const CARRIAGE: &[&str] = &[
    "connection",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The block of a `backend` that is being read.
#[derive(Default)]
pub(super) struct BackendDraft {
    pub(super) options: BackendOptions,
    headers: Vec<(Arc<str>, Secret)>,
    pub(super) certificate: Option<(Pem, Span)>,
    pub(super) key: Option<(Pem, Span)>,
    /// The first option that only makes sense with TLS.
    needs_tls: Option<Span>,
    /// The options that were set, and where.
    seen: Vec<(Box<str>, Span)>,
}

impl Binder<'_> {
    /// `backend URL;` and `backend URL { … }`
    pub(super) fn backend(&mut self, line: &Statement, draft: &mut PolicyDraft) {
        let Some(word) = self.first_value(line, "its URL") else { return };
        self.no_more(line, 1);
        let Some(authority) = self.authority(word) else { return };
        self.warn_of(&authority, word);
        let mut block = BackendDraft::default();
        for option in line.statements() {
            self.directive(option, &mut block);
        }
        self.fits(&authority, line, word, &block);
        let options = self.options_of(block);
        let origin = self.sources.origin(word.span);
        if let Some(same) = draft.backends.iter().find(|backend| backend.authority == authority) {
            let message = format!("this backend is asked already, at {}", same.origin);
            self.sources.warning(word.span, "duplicate-value", message);
        }
        self.compare_options(&authority, &options, word.span);
        let text = format!("backend {}", word.as_written()).into();
        draft.backends.push(BackendRule { authority, options, text, origin });
    }

    /// Reports options that mean nothing for this backend.
    fn fits(&mut self, authority: &Authority, line: &Statement, word: &Word, block: &BackendDraft) {
        match authority {
            Authority::Http(url) => {
                if let Some(at) = block.needs_tls.filter(|_| url.scheme() != "https") {
                    self.sources
                        .error(at, "needs-https", "certificates are for backends that are reached over https")
                        .help("write https://HOST/PATH, or remove the line");
                }
            }
            _ if line.block.is_some() => {
                let message = format!("`{}` is not asked over HTTP, and has no options", word.as_written());
                self.sources.error(line.span(), "unexpected-block", message).help("end it with `;`");
            }
            _ => {}
        }
    }

    /// Puts together what stands in several lines of a block.
    fn options_of(&mut self, block: BackendDraft) -> BackendOptions {
        let BackendDraft { mut options, headers, certificate, key, needs_tls: _, seen: _ } = block;
        options.headers = headers.into();
        match (certificate, key) {
            (Some((chain, at)), key) => {
                let key = key.map_or_else(|| chain.clone(), |(key, _)| key);
                match Identity::new(&chain.bytes, &key.bytes) {
                    Ok(_) => options.identity = Some((chain, key)),
                    Err(error) => {
                        let files = if chain.path == key.path {
                            format!("`{}`", chain.path)
                        } else {
                            format!("`{}` with `{}`", chain.path, key.path)
                        };
                        self.sources.error(at, "bad-certificate", format!("{files} cannot be used: {error}"));
                    }
                }
            }
            (None, Some((_, at))) => {
                self.sources
                    .error(at, "missing-value", "a `key` without a `certificate`")
                    .help("name the certificate: `certificate PATH;`");
            }
            (None, None) => {}
        }
        options
    }

    /// Takes note that an option is set, and warns when it was before.
    fn option(&mut self, option: &Statement, draft: &mut BackendDraft) {
        let word = option.directive();
        let earlier = draft.seen.iter().find(|(name, _)| *name == word.text).map(|(_, at)| *at);
        if let Some(earlier) = earlier {
            self.set_again(&word.text, word.span, earlier);
        }
        draft.seen.push((word.text.clone(), word.span));
    }

    /// `max_questions NUMBER;`
    pub(super) fn max_questions(&mut self, option: &Statement, draft: &mut BackendDraft) {
        self.option(option, draft);
        let Some(word) = self.only_value(option, "how many questions at once, such as 256") else { return };
        let most = number(&word.text).filter(|most| (1..=MOST_QUESTIONS).contains(most));
        let Some(most) = most.and_then(|most| usize::try_from(most).ok()) else {
            let message = format!("`{}` is no number from 1 to {MOST_QUESTIONS}", word.as_written());
            self.sources
                .error(word.span, "bad-number", message)
                .help("write how many questions the backend can answer at once");
            return;
        };
        draft.options.max_questions = most;
    }

    /// `header NAME VALUE;`
    pub(super) fn backend_header(&mut self, option: &Statement, draft: &mut BackendDraft) {
        self.no_block(option);
        let [name, value, ..] = option.values() else {
            self.sources
                .error(option.span(), "missing-value", "`header` needs a name and a value")
                .help("write it as `header X-Api-Key \"VALUE\";`");
            return;
        };
        self.no_more(option, 2);
        let lower = name.text.to_ascii_lowercase();
        if http::HeaderName::try_from(&*lower).is_err() || CARRIAGE.contains(&&*lower) {
            let message = format!("`{}` is no header that can be set", name.as_written());
            self.sources
                .error(name.span, "bad-header", message)
                .help("how the question is carried is nicgate's business; its host is that of the URL");
            return;
        }
        // The value is a secret, so that no message shows it.
        if http::HeaderValue::try_from(&*value.text).is_err() {
            self.sources.error(
                value.span,
                "bad-header",
                "this value has characters that a header cannot have",
            );
            return;
        }
        if draft.headers.iter().any(|(other, _)| **other == *lower) {
            self.sources
                .warning(name.span, "duplicate-directive", "this header is set already")
                .help("the later one counts; remove one of the two");
            draft.headers.retain(|(other, _)| **other != *lower);
        }
        draft.headers.push((lower.into(), Secret::new(&value.text)));
    }

    /// `ca PATH;`
    pub(super) fn backend_ca(&mut self, option: &Statement, draft: &mut BackendDraft) {
        let Some((pem, at)) = self.pem(option, draft) else { return };
        match certificates(&pem.bytes) {
            Ok(_) => draft.options.ca = Some(pem),
            Err(error) => {
                let message = format!("`{}` cannot be used: {error}", pem.path);
                self.sources.error(at, "bad-certificate", message);
            }
        }
    }

    /// An option that names a PEM file.
    pub(super) fn pem(&mut self, option: &Statement, draft: &mut BackendDraft) -> Option<(Pem, Span)> {
        self.option(option, draft);
        draft.needs_tls.get_or_insert(option.span());
        let word = self.only_value(option, "the path of a PEM file")?;
        let path = self.relative(word);
        let bytes = self.read(word, &path)?.into();
        if !self.list_files.contains(&path) {
            self.list_files.push(path);
        }
        Some((Pem { path: (&*word.text).into(), bytes }, word.span))
    }

    /// An option of a backend that is a time.
    pub(super) fn option_time(&mut self, option: &Statement, draft: &mut BackendDraft) -> Option<Duration> {
        self.option(option, draft);
        self.time(option)
    }

    /// The one value of a directive that is a time.
    pub(super) fn time(&mut self, statement: &Statement) -> Option<Duration> {
        let word = self.only_value(statement, "a time, such as 3s")?;
        let read = time(&word.text);
        if read.is_none() {
            self.sources
                .error(word.span, "bad-timeout", format!("`{}` is no time", word.as_written()))
                .help(TIME_FORM);
        }
        read
    }

    /// Warns when the same backend is asked in another way elsewhere: the two count for themselves.
    pub(super) fn compare_options(&mut self, authority: &Authority, options: &BackendOptions, at: Span) {
        let Authority::Http(url) = authority else { return };
        let first = self.backend_options.entry(url.clone()).or_insert_with(|| (options.clone(), at));
        if first.0 != *options {
            let place = self.sources.place(first.1);
            self.sources
                .warning(at, "backend-options", format!("this backend has other options at {place}"))
                .help("the two are asked each for itself: together more questions than either allows");
        }
    }
}
