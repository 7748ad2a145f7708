//! The options of an `upstream`.

use super::super::{
    Binder,
    directive::{Directive, Draft, Effect},
    upstream::UpstreamDraft,
};
use crate::config::{syntax::Statement, vocabulary::Context};

impl Draft for UpstreamDraft {
    const PLACE: &'static str = "In an `upstream`";
    const ABOUT: &'static str =
        "Media servers that have the same streams. A word that is not listed here is an error.";
    const DIRECTIVES: &'static [Directive<Self>] = &[
        Directive {
            names: &["server"],
            form: "server HOST[:PORT]|unix:/PATH [weight=N] [max_fails=N] [fail_timeout=TIME];",
            about: "A media server, reached over plain HTTP; several are allowed. A request goes to the one that has the \
                    fewest requests for its `weight`. After `max_fails` failures in a row (no connection, broken off, or \
                    no answer in time) a server gets one request each `fail_timeout`, and all others only while no \
                    other server is up; the first answer brings it back.",
            default: "port 80, `weight=1`, `max_fails=3`, `fail_timeout=10s`",
            example: "upstream media { server 127.0.0.1:8080; server 192.0.2.7:8080 weight=2; }\n\
                      gate 80 { upstream media; }",
            opens_if_missed: false,
            top_only: false,
            block: Context::Other,
            effect: Effect::Enforced(|binder, statement, draft| binder.upstream_server(statement, draft)),
        },
        Directive {
            names: &["health"],
            form: "health path=PATH [interval=TIME] [timeout=TIME];",
            about: "Each server is asked for this path every `interval`, over a connection of its own. Two answers in a row \
                    that are late or neither 2xx nor 3xx take it out, until one is good: it gets no requests meanwhile, \
                    and when every server is out, clients are answered 503.",
            default: "servers are judged by the requests that they get; `interval=5s`, `timeout=2s`",
            example: "upstream media { server 127.0.0.1:8080; health path=/health interval=2s; }\n\
                      gate 80 { upstream media; }",
            opens_if_missed: false,
            top_only: false,
            block: Context::Other,
            effect: Effect::Enforced(|binder, statement, draft| binder.upstream_health(statement, draft)),
        },
        Directive {
            names: &["proxy_protocol"],
            form: "proxy_protocol;",
            about: "Each connection to a server begins with a header of the PROXY protocol, version 2, which names the client. \
                    Every request has a connection of its own then.",
            default: "the client is named by `X-Forwarded-For`, `X-Real-IP` and `Forwarded` alone",
            example: "upstream media { server 127.0.0.1:8080; proxy_protocol; }\ngate 80 { upstream media; }",
            opens_if_missed: false,
            top_only: false,
            block: Context::Other,
            effect: Effect::Enforced(|binder, statement, draft| {
                binder.upstream_proxy_protocol(statement, draft);
            }),
        },
    ];

    fn unknown(binder: &mut Binder<'_>, statement: &Statement) {
        binder.unknown_option(statement, "upstream", &Self::names(|_| true));
    }
}
