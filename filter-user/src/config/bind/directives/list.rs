//! The options of a list file.

use super::super::{
    Binder,
    directive::{Directive, Draft, Effect},
    lists::ListDraft,
};
use crate::config::{syntax::Statement, vocabulary::Context};

impl Draft for ListDraft {
    const PLACE: &'static str = "Behind the path of a list";
    const ABOUT: &'static str = "In a rule with `file`, for the lists that it names: `deny ip file PATH { … }`. A word that \
                                 is not listed here is an error.";
    const DIRECTIVES: &'static [Directive<Self>] = &[Directive {
        names: &["on_error"],
        form: "on_error refuse|skip|abort;",
        about: "As `on_error` at the top of a file, for these lists.",
        default: "what `on_error` at the top of the file says",
        example: "auth_backend viewers {\n  deny ip file \"blocked.txt\" { on_error skip; }\n  allow default;\n}",
        opens_if_missed: false,
        top_only: false,
        block: Context::Other,
        effect: Effect::Enforced(|binder, statement, list| binder.list_on_error(statement, list)),
    }];

    fn unknown(binder: &mut Binder<'_>, statement: &Statement) {
        binder.unknown_option(statement, "file", &Self::names(|_| true));
    }
}
