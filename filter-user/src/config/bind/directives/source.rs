//! The directives of a `source`.

use super::super::{
    Binder,
    directive::{Directive, Draft, Effect},
    stream::SourceDraft,
};
use crate::config::{syntax::Statement, vocabulary::Context};

impl Draft for SourceDraft {
    const PLACE: &'static str = "In a `source`";
    const ABOUT: &'static str =
        "Other words concern how the media server reaches the other one, and are passed over.";
    const DIRECTIVES: &'static [Directive<Self>] = &[
        Directive {
            names: &["on_play"],
            form: "on_play auth://NAME|http://HOST/PATH;",
            about: "Who judges playing the other server's streams on ports that are guarded with `streams`. A gate \
                    answers 404 to names that no `stream` has.",
            default: "the `on_play` at the top of the file; if there is none, everyone is admitted and a guard with \
                      `streams` drops nothing",
            example: "auth_backend viewers { deny ip 198.51.100.0/24; allow default; }\n\
                      source origin.example.com { on_play auth://viewers; }",
            opens_if_missed: true,
            top_only: false,
            block: Context::Other,
            effect: Effect::Enforced(|binder, statement, source| {
                binder.judge(statement, &mut source.judges.on_play);
            }),
        },
        Directive {
            names: &["auth"],
            form: "auth auth://NAME|http://HOST/PATH;",
            about: "The older name of `on_play`, which goes before it.",
            default: "",
            example: "auth_backend viewers { deny ip 198.51.100.0/24; allow default; }\n\
                      source origin.example.com { auth auth://viewers; }",
            opens_if_missed: false,
            top_only: false,
            block: Context::Other,
            effect: Effect::Enforced(|binder, statement, source| {
                binder.judge(statement, &mut source.judges.auth);
            }),
        },
        Directive {
            names: &["allowed_countries"],
            form: "allowed_countries CODE…;",
            about: "As in a `stream`, for the other server's streams. `unknown` is the word for addresses without a country. Without `geoip` nicgate warns, and leaves it to \
                    the media server.",
            default: "every country",
            example: "geoip /var/lib/GeoIP/GeoLite2-Country.mmdb;\nsource origin.example.com { allowed_countries DE AT CH; }",
            opens_if_missed: true,
            top_only: false,
            block: Context::Other,
            effect: Effect::Enforced(|binder, statement, source| {
                binder.allowed_countries(statement, &mut source.restrictions);
            }),
        },
        Directive {
            names: &["disallowed_countries"],
            form: "disallowed_countries CODE…;",
            about: "As in a `stream`, for the other server's streams.",
            default: "no country",
            example: "geoip /var/lib/GeoIP/GeoLite2-Country.mmdb;\nsource origin.example.com { disallowed_countries CN; }",
            opens_if_missed: true,
            top_only: false,
            block: Context::Other,
            effect: Effect::Enforced(|binder, statement, source| {
                binder.disallowed_countries(statement, &mut source.restrictions);
            }),
        },
    ];

    fn unknown(binder: &mut Binder<'_>, statement: &Statement) {
        binder.pass_over_unless_misspelt(statement, &Self::names(|directive| directive.opens_if_missed));
    }
}
