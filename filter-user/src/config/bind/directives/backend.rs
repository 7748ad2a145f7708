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
        Directive {
            names: &["header"],
            form: "header NAME VALUE;",
            about: "nicgate's own: a header that every question to the backend has; several are allowed. Its value is shown \
                    nowhere.",
            default: "",
            example: "auth_backend viewers { backend http://127.0.0.1:9000/auth { header X-Api-Key \"a secret\"; } }",
            opens_if_missed: true,
            top_only: false,
            block: Context::Other,
            effect: Effect::Enforced(|binder, statement, draft| binder.backend_header(statement, draft)),
        },
        Directive {
            names: &["ca"],
            form: "ca PATH;",
            about: "nicgate's own: a PEM file of the authorities whose certificates an `https` backend can have.",
            default: "those that the system trusts",
            example: "auth_backend viewers { backend https://portal.example.com/auth { ca /etc/nicgate/portal.pem; } }",
            opens_if_missed: true,
            top_only: false,
            block: Context::Other,
            effect: Effect::Enforced(|binder, statement, draft| binder.backend_ca(statement, draft)),
        },
        Directive {
            names: &["certificate"],
            form: "certificate PATH;",
            about: "nicgate's own: a PEM file of the certificate that an `https` backend is shown, with its chain.",
            default: "the backend is shown none",
            example: "auth_backend viewers {\n  backend https://portal.example.com/auth {\n    certificate \
                      /etc/nicgate/edge.pem;\n    key /etc/nicgate/edge.key;\n  }\n}",
            opens_if_missed: true,
            top_only: false,
            block: Context::Other,
            effect: Effect::Enforced(|binder, statement, draft| {
                draft.certificate = binder.pem(statement, draft).or_else(|| draft.certificate.take());
            }),
        },
        Directive {
            names: &["key"],
            form: "key PATH;",
            about: "nicgate's own: a PEM file of the key of `certificate`.",
            default: "it is in the file of the certificate",
            example: "auth_backend viewers {\n  backend https://portal.example.com/auth {\n    certificate \
                      /etc/nicgate/edge.pem;\n    key /etc/nicgate/edge.key;\n  }\n}",
            opens_if_missed: true,
            top_only: false,
            block: Context::Other,
            effect: Effect::Enforced(|binder, statement, draft| {
                draft.key = binder.pem(statement, draft).or_else(|| draft.key.take());
            }),
        },
    ];

    fn unknown(binder: &mut Binder<'_>, statement: &Statement) {
        binder.unknown_option(statement, "backend", &Self::names(|_| true));
    }
}
