//! The options of an `interface`.

use super::super::{
    Binder,
    directive::{Directive, Draft, Effect},
    setting::InterfaceDraft,
};
use crate::config::{syntax::Statement, vocabulary::Context};

impl Draft for InterfaceDraft {
    const PLACE: &'static str = "In an `interface`";
    const ABOUT: &'static str = "A word that is not listed here is an error.";
    const DIRECTIVES: &'static [Directive<Self>] = &[
        Directive {
            names: &["mode"],
            form: "mode auto|native|generic|offload;",
            about: "How the kernel runs the program: in the driver (`native`), behind it (`generic`: everywhere, and about \
                    ten times slower), or on the card (`offload`). `auto` takes `native`, and `generic` where the \
                    driver cannot; `nicgate status` says which it was.",
            default: "`auto`",
            example: "interface eth0 { mode native; }",
            opens_if_missed: false,
            top_only: false,
            block: Context::Other,
            effect: Effect::Enforced(|binder, statement, interface| {
                binder.interface_mode(statement, interface);
            }),
        },
        Directive {
            names: &["required"],
            form: "required;",
            about: "Start and reload only if this interface can be filtered.",
            default: "what can be put in force is, and an alarm names the interface that could not be filtered",
            example: "interface eth0 { required; }",
            opens_if_missed: false,
            top_only: false,
            block: Context::Other,
            effect: Effect::Enforced(|binder, statement, interface| {
                interface.required |= binder.bare(statement);
            }),
        },
    ];

    fn unknown(binder: &mut Binder<'_>, statement: &Statement) {
        binder.unknown_option(statement, "interface", &Self::names(|_| true));
    }
}
