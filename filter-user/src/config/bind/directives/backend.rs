//! The options of a `backend`.

use super::super::{
    Binder,
    backend::BackendDraft,
    directive::{Directive, Draft, Effect},
};
use crate::config::{syntax::Statement, vocabulary::Context};

impl Draft for BackendDraft {
    const PLACE: &'static str = "In a `backend`";
    const ABOUT: &'static str = "How this backend is asked. A word that is not listed here is an error.";
    const DIRECTIVES: &'static [Directive<Self>] = &[
        Directive {
            names: &["max_questions"],
            form: "max_questions NUMBER;",
            about: "nicgate's own: how many questions the backend is asked at once at most. One address never has more \
                    than half of them. While answers are late, nicgate asks fewer, as long as that makes them quicker.",
            default: "`256`",
            example: "auth_backend viewers { backend http://127.0.0.1:9000/auth { max_questions 64; } }",
            opens_if_missed: true,
            top_only: false,
            block: Context::Other,
            effect: Effect::Enforced(|binder, statement, draft| binder.max_questions(statement, draft)),
        },
        Directive {
            names: &["timeout"],
            form: "timeout TIME;",
            about: "nicgate's own: how long a question may take from when it is sent, connecting included, from `1ms` to \
                    an hour. Then the backend counts as not responding.",
            default: "what `backend_timeout` says",
            example: "auth_backend viewers { backend http://127.0.0.1:9000/auth { timeout 1500ms; } }",
            opens_if_missed: true,
            top_only: false,
            block: Context::Other,
            effect: Effect::Enforced(|binder, statement, draft| {
                draft.options.timeout = binder.option_time(statement, draft).or(draft.options.timeout);
            }),
        },
        Directive {
            names: &["queue_timeout"],
            form: "queue_timeout TIME;",
            about: "nicgate's own: how long a question may wait for its turn. One that waits longer is not sent: its \
                    request is answered 503 with `Retry-After`, and the default does not apply.",
            default: "`3s`",
            example: "auth_backend viewers { backend http://127.0.0.1:9000/auth { queue_timeout 1s; } }",
            opens_if_missed: true,
            top_only: false,
            block: Context::Other,
            effect: Effect::Enforced(|binder, statement, draft| {
                if let Some(time) = binder.option_time(statement, draft) {
                    draft.options.queue_timeout = time;
                }
            }),
        },
    ];

    fn unknown(binder: &mut Binder<'_>, statement: &Statement) {
        binder.unknown_option(statement, "backend", &Self::names(|_| true));
    }
}
