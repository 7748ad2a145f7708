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
    const DIRECTIVES: &'static [Directive<Self>] = &[
        Directive {
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
        },
        Directive {
            names: &["player_token"],
            form: "player_token auto|playlist|cookie|off;",
            about: "How a player keeps its token from the playlist to the segments, whose references do not have it.                 `playlist`: it is written into the references of HLS playlists and DASH manifests that lead to the same                 stream and have none. `auto`: the same, unless it came as a cookie. `cookie`: it is given as a cookie of                 the stream. A player that comes without a token gets one of nicgate's own, unless `no_auto_token;` is                 written: it makes the player one session, and no rule or backend is shown it. `off`: neither.",
            default: "`auto`",
            example: "gate 80 { upstream http://127.0.0.1:8080; player_token cookie; }",
            opens_if_missed: false,
            top_only: false,
            block: Context::Other,
            effect: Effect::Enforced(|binder, statement, gate| binder.player_token(statement, gate)),
        },
        Directive {
            names: &["token_from"],
            form: "token_from query|header|cookie|path...;",
            about: "Where a token may stand: in the query (`?token=VALUE`), in `Authorization: Bearer VALUE`, in a cookie                 `token=VALUE`, or as a segment `token=VALUE` of the path, which is taken out before the path is read                 (`auth_token` names it in all of them). A request with two tokens that differ is answered 400.",
            default: "`query`",
            example: "gate 80 { upstream http://127.0.0.1:8080; token_from query header; }",
            opens_if_missed: false,
            top_only: false,
            block: Context::Other,
            effect: Effect::Enforced(|binder, statement, gate| binder.token_from(statement, gate)),
        },
        Directive {
            names: &["cors"],
            form: "cors any|off|ORIGIN...;",
            about: "Which pages may read answers of nicgate's own, such as 403, in a browser, and whose preflights it answers.                 Pages of origins that are named may also send cookies with every method.",
            default: "`any`",
            example: "gate 80 { upstream http://127.0.0.1:8080; cors https://portal.example.com; }",
            opens_if_missed: false,
            top_only: false,
            block: Context::Other,
            effect: Effect::Enforced(|binder, statement, gate| binder.cors(statement, gate)),
        },
    ];

    fn unknown(binder: &mut Binder<'_>, statement: &Statement) {
        binder.unknown_option(statement, "gate", &Self::names(|_| true));
    }
}
