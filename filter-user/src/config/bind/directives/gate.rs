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
            form: "upstream HOST:PORT|http://HOST[:PORT]|unix:/PATH|NAME;",
            about: "Where admitted requests go: the media server's own port, over plain HTTP and without a path, its Unix \
                socket, or the servers of the `upstream` of this name at the top of a file. Every gate needs one, and it \
                must not lead back to a gate of the same host.",
            default: "",
            example: "gate 80 { upstream http://127.0.0.1:8080; }",
            opens_if_missed: false,
            top_only: false,
            block: Context::Other,
            effect: Effect::Enforced(|binder, statement, gate| binder.gate_upstream(statement, gate)),
        },
        Directive {
            names: &["path"],
            form: "path PREFIX;",
            about: "What the paths of this gate begin with, in whole segments: it is taken off before a request is judged and \
                forwarded, and put before the media server's redirects to itself. Paths that begin otherwise are \
                answered 404. Playlists are not changed on account of it: the media server has to write relative \
                references.",
            default: "paths reach the media server as they are",
            example: "gate 80 { upstream http://127.0.0.1:8080; path /tv; }",
            opens_if_missed: false,
            top_only: false,
            block: Context::Other,
            effect: Effect::Enforced(|binder, statement, gate| binder.gate_path(statement, gate)),
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
        Directive {
            names: &["real_ip"],
            form: "real_ip from PREFIX… [{ header NAME; }]",
            about: "Proxies in front of this gate, in place of those that the `real_ip` at the top of a file names. \
                `real_ip off;` trusts none.",
            default: "what stands at the top of a file",
            example: "gate 80 { upstream http://127.0.0.1:8080; real_ip from 192.0.2.10 { header X-Real-IP; } }",
            opens_if_missed: false,
            top_only: false,
            block: Context::RealIp,
            effect: Effect::Enforced(|binder, statement, gate| binder.gate_real_ip(statement, gate)),
        },
        Directive {
            names: &["proxy_protocol"],
            form: "proxy_protocol from PREFIX…;",
            about: "Proxies that begin each connection with a header of the PROXY protocol, version 1 or 2, such as HAProxy with \
                `send-proxy` or `send-proxy-v2`. The address in it is judged, logged and limited in place of the \
                proxy's. From these addresses a connection without the header is refused, and from all others one with \
                it. The network card never drops these addresses on the gate's port.",
            default: "a connection that begins with such a header is refused",
            example: "gate 80 { upstream http://127.0.0.1:8080; proxy_protocol from 192.0.2.10; }",
            opens_if_missed: false,
            top_only: false,
            block: Context::Other,
            effect: Effect::Enforced(|binder, statement, gate| binder.proxy_protocol(statement, gate)),
        },
    ];

    fn unknown(binder: &mut Binder<'_>, statement: &Statement) {
        binder.unknown_option(statement, "gate", &Self::names(|_| true));
    }
}
