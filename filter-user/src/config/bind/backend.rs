//! `backend` lines: who is asked, and how.

use std::time::Duration;

use super::{Binder, policy::PolicyDraft};
use crate::{
    config::{
        quantity::{TIME_FORM, number, time},
        source::Span,
        syntax::Statement,
    },
    model::{Authority, BackendOptions, BackendRule},
};

/// More questions at once than any backend can take.
const MOST_QUESTIONS: u64 = 65_536;

/// The block of a `backend` that is being read.
#[derive(Default)]
pub(super) struct BackendDraft {
    pub(super) options: BackendOptions,
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
        if line.block.is_some() && !matches!(authority, Authority::Http(_)) {
            let message = format!("`{}` is not asked over HTTP, and has no options", word.as_written());
            self.sources.error(line.span(), "unexpected-block", message).help("end it with `;`");
        }
        let options = block.options;
        let origin = self.sources.origin(word.span);
        if let Some(same) = draft.backends.iter().find(|backend| backend.authority == authority) {
            let message = format!("this backend is asked already, at {}", same.origin);
            self.sources.warning(word.span, "duplicate-value", message);
        }
        self.compare_options(&authority, &options, word.span);
        let text = format!("backend {}", word.as_written()).into();
        draft.backends.push(BackendRule { authority, options, text, origin });
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
