//! The directives of an `auth_backend`.

use super::super::{
    Binder,
    directive::{Directive, Draft, Effect},
    policy::PolicyDraft,
};
use crate::{
    config::{syntax::Statement, vocabulary::Context},
    model::Action,
};

impl Draft for PolicyDraft {
    const PLACE: &'static str = "In an `auth_backend`";
    const ABOUT: &'static str = "The rules of one policy. Their order in the file never matters: README.md has the order \
                                 in which they are looked at. A word that is not listed here is an error.";
    const DIRECTIVES: &'static [Directive<Self>] = &[
        Directive {
            names: &["allow"],
            form: "allow ip|token|country|ua VALUE…; allow ip|token file PATH; allow default;",
            about: "Admits who has one of the values, unless an earlier step denies. A list that does not match denies \
                    nothing by itself. `ip`: addresses and prefixes, `10.10/16` is 10.10.0.0/16. `token`: exact. \
                    `country`: ISO 3166-1 codes, which need `geoip`. `ua` (or `useragent`): a part of the User-Agent, \
                    case-sensitive. `file`: a list, one value a line, read again at every reload; a block behind \
                    it says more of the list. `default`: everyone about whom nothing else is said.",
            default: "who is in no list, and whom no backend admits, is denied",
            example: "auth_backend viewers {\n  allow ip 192.0.2.0/24 2001:db8::/32;\n  allow token \"a;b\";\n  allow \
                      ua MAG;\n  allow default;\n}",
            opens_if_missed: true,
            top_only: false,
            block: Context::List,
            effect: Effect::Enforced(|binder, line, policy| binder.rules(Action::Allow, line, policy)),
        },
        Directive {
            names: &["deny"],
            form: "deny ip|token|country|ua VALUE…; deny ip|token file PATH;",
            about: "Denies who has one of the values, unless an earlier step admits: for each kind, `allow` comes before \
                    `deny`. The network card drops an address that is denied whatever its token may be.",
            default: "",
            example: "auth_backend viewers {\n  deny ip 198.51.100.0/24;\n  deny ua VLC;\n  allow default;\n}",
            opens_if_missed: true,
            top_only: false,
            block: Context::List,
            effect: Effect::Enforced(|binder, line, policy| binder.rules(Action::Deny, line, policy)),
        },
        Directive {
            names: &["drop"],
            form: "drop ip|country VALUE…; drop ip file PATH;",
            about: "nicgate's own: denies before every other step, so that not even a good token helps, and the network \
                    card drops the address.",
            default: "",
            example: "auth_backend viewers {\n  drop ip 203.0.113.0/24;\n  allow token secret;\n}",
            opens_if_missed: true,
            top_only: false,
            block: Context::List,
            effect: Effect::Enforced(|binder, line, policy| binder.rules(Action::Drop, line, policy)),
        },
        Directive {
            names: &["backend"],
            form: "backend http[s]://[USER:PASSWORD@]HOST[:PORT]/PATH|http+unix://SOCKET/PATH|securetoken://KEY [{ … }]",
            about: "Asks when no list has decided. All backends are asked in parallel: 2xx admits at once, 3xx and 4xx \
                    deny once none can admit any more, and if none responds the default holds. `https` \
                    trusts the system's authorities and speaks HTTP/2 with backends that do; redirects are not \
                    followed. The path of a Unix socket is percent-encoded: `http+unix://%2Frun%2Fauth.sock/PATH`. \
                    `iptv://` is read, warned of, and counts as not responding.",
            default: "",
            example: "auth_backend viewers { backend http://127.0.0.1:9000/auth; }",
            opens_if_missed: true,
            top_only: false,
            block: Context::Backend,
            effect: Effect::Enforced(|binder, line, policy| binder.backend(line, policy)),
        },
        Directive {
            names: &["allowed_countries"],
            form: "allowed_countries CODE…;",
            about: "nicgate's own here: drops every address from another country before any other step. `unknown` is the word for addresses without a country. Without `geoip` nicgate warns, and leaves it to \
                    the media server.",
            default: "every country",
            example: "geoip /var/lib/GeoIP/GeoLite2-Country.mmdb;\nauth_backend viewers { allowed_countries DE AT CH; allow token secret; }",
            opens_if_missed: true,
            top_only: false,
            block: Context::Other,
            effect: Effect::Enforced(|binder, statement, policy| {
                binder.allowed_countries(statement, &mut policy.restrictions);
            }),
        },
        Directive {
            names: &["disallowed_countries"],
            form: "disallowed_countries CODE…;",
            about: "nicgate's own here: the same as `drop country`.",
            default: "no country",
            example: "geoip /var/lib/GeoIP/GeoLite2-Country.mmdb;\nauth_backend viewers { disallowed_countries CN; allow token secret; }",
            opens_if_missed: true,
            top_only: false,
            block: Context::Other,
            effect: Effect::Enforced(|binder, statement, policy| {
                binder.disallowed_countries(statement, &mut policy.restrictions);
            }),
        },
        Directive {
            names: &["domains", "domain"],
            form: "domains HOST…;",
            about: "nicgate's own here: only pages on these hosts may show a stream that this policy judges, whatever its other rules say: the host of the Referer or, where there is none, of the Origin. `*.example.com` is every host below \
                    that one, but not itself. A request that names no page is refused; programs can name any page.",
            default: "every page",
            example: "auth_backend viewers { domains example.com *.example.com; allow default; }",
            opens_if_missed: true,
            top_only: false,
            block: Context::Other,
            effect: Effect::Enforced(|binder, statement, policy| {
                binder.domains(statement, &mut policy.restrictions);
            }),
        },
        Directive {
            names: &["max_sessions"],
            form: "max_sessions N per token|address;",
            about: "nicgate's own: how many sessions there may be at once on the streams that this policy judges, for each \
                    token that players show, or for each address; over all gates. Of players without a token of their \
                    own, `per token` counts each address. One more gets 403, unless one of the others has just gone \
                    quiet: a player that changes channels. Both lines can stand in one policy.",
            default: "as many as the backends allow (X-Max-Sessions)",
            example: "auth_backend viewers {\n  allow token secret;\n  max_sessions 2 per token;\n}\n\
                      stream news { on_play auth://viewers; }\ngate 80 { upstream http://127.0.0.1:8080; }",
            opens_if_missed: true,
            top_only: false,
            block: Context::Other,
            effect: Effect::Enforced(|binder, line, policy| binder.policy_max_sessions(line, policy)),
        },
    ];

    fn unknown(binder: &mut Binder<'_>, statement: &Statement) {
        binder.unknown_rule(statement, &Self::names(|_| true));
    }
}
