//! The options of a `real_ip`.

use super::super::{
    Binder,
    directive::{Directive, Draft, Effect},
    trust::RealIpDraft,
};
use crate::config::{syntax::Statement, vocabulary::Context};

impl Draft for RealIpDraft {
    const PLACE: &'static str = "In a `real_ip`";
    const ABOUT: &'static str = "A word that is not listed here is an error.";
    const DIRECTIVES: &'static [Directive<Self>] = &[Directive {
        names: &["header"],
        form: "header X-Forwarded-For|X-Real-IP|Forwarded|CF-Connecting-IP;",
        about: "The header in which these proxies name the address of their client. It has to be theirs alone to set: a \
                request in which it is there twice, or an alias of it with `_` or `.`, is answered 400. In a list of \
                addresses the one farthest to the right that is no trusted proxy is the client.",
        default: "`X-Forwarded-For`",
        example: "real_ip from 192.0.2.10 { header X-Real-IP; }",
        opens_if_missed: false,
        top_only: false,
        block: Context::Other,
        effect: Effect::Enforced(|binder, statement, proxies| binder.real_ip_header(statement, proxies)),
    }];

    fn unknown(binder: &mut Binder<'_>, statement: &Statement) {
        binder.unknown_option(statement, "real_ip", &Self::names(|_| true));
    }
}
