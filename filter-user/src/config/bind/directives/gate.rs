//! The options of a `gate`.

use super::super::{
    Binder,
    directive::{Directive, Draft, Effect},
    service::GateDraft,
};
use crate::config::{syntax::Statement, vocabulary::Context};

impl Draft for GateDraft {
    const PLACE: &'static str = "In a `gate`";
    const ABOUT: &'static str = "A word that is not listed here is an error.";
    const DIRECTIVES: &'static [Directive<Self>] = &[Directive {
        names: &["upstream"],
        form: "upstream http://HOST[:PORT];",
        about: "Where admitted requests go: the media server's own port, over plain HTTP and without a path. Every gate \
                needs one, and it must not lead back to a gate of the same host.",
        default: "",
        example: "gate 80 { upstream http://127.0.0.1:8080; }",
        opens_if_missed: false,
        top_only: false,
        block: Context::Other,
        effect: Effect::Enforced(|binder, statement, gate| binder.gate_upstream(statement, gate)),
    }];

    fn unknown(binder: &mut Binder<'_>, statement: &Statement) {
        binder.unknown_option(statement, "gate", &Self::names(|_| true));
    }
}
