//! The directives at the top of a file.

use super::{
    super::{
        Binder,
        directive::{Directive, Draft, Effect},
        policy::PolicyDraft,
    },
    Top,
};
use crate::config::{syntax::Statement, vocabulary::Context};

impl Draft for Top {
    const PLACE: &'static str = "At the top of a file";
    const ABOUT: &'static str = "A word that is not listed here is passed over with a note, unless it is nearly one that \
                                 would be missed: then it is an error.";
    const DIRECTIVES: &'static [Directive<Self>] = &[
        Directive {
            names: &["include"],
            form: "include PATH;",
            about: "Reads another file here, a `flussonic.conf` for example. The path is relative to the file that names \
                    it; with `*`, `?` or `[…]` every file of that pattern is read, in the order of the names.",
            default: "",
            example: "include \"/etc/flussonic/flussonic.conf\";",
            opens_if_missed: true,
            top_only: true,
            block: Context::Other,
            effect: Effect::Enforced(|binder, statement, _| binder.include(statement)),
        },
        Directive {
            names: &["interface"],
            form: "interface NAME [{ … }]",
            about: "nicgate's own: a network interface whose packets are filtered. Several are allowed.",
            default: "nothing is dropped at the network card",
            example: "interface eth0;",
            opens_if_missed: true,
            top_only: true,
            block: Context::Interface,
            effect: Effect::Enforced(|binder, statement, _| binder.interface(statement)),
        },
        Directive {
            names: &["gate"],
            form: "gate [ADDR:]PORT { upstream ADDR; … }",
            about: "nicgate's own: a TCP port that nicgate serves itself. The network card drops what the address alone \
                    decides; every other request is judged by the policy of its stream, and goes to the upstream when \
                    it is admitted.",
            default: "",
            example: "gate 80 { upstream http://127.0.0.1:8080; }",
            opens_if_missed: true,
            top_only: true,
            block: Context::Gate,
            effect: Effect::Enforced(|binder, statement, _| binder.gate(statement)),
        },
        Directive {
            names: &["upstream"],
            form: "upstream NAME { server ADDR; … }",
            about: "nicgate's own: media servers that have the same streams, under a name that gates give as their `upstream`.",
            default: "",
            example: "upstream media { server 127.0.0.1:8080; server 192.0.2.7:8080; }\ngate 80 { upstream media; }",
            opens_if_missed: false,
            top_only: false,
            block: Context::Upstream,
            effect: Effect::Enforced(|binder, statement, _| binder.named_upstream(statement)),
        },
        Directive {
            names: &["guard"],
            form: "guard tcp|udp|sctp [ADDR:]PORT auth://NAME…|streams;",
            about: "nicgate's own: a port of another server, protected at the network card only. An address is dropped \
                    where each of the named policies denies it; with `streams`, each policy that a stream on the port \
                    could have.",
            default: "",
            example: "auth_backend blocked { deny ip 198.51.100.0/24; allow default; }\nguard tcp 1935 auth://blocked;",
            opens_if_missed: true,
            top_only: true,
            block: Context::Other,
            effect: Effect::Enforced(|binder, statement, _| binder.guard(statement)),
        },
        Directive {
            names: &["real_ip"],
            form: "real_ip from PREFIX… [{ header NAME; }]",
            about: "nicgate's own: proxies in front of the gates, and the header in which they name the address of their \
                    client. It is believed from these addresses only. What it names is judged, banned, logged, limited and \
                    passed on in place of the proxy's address; a request without it is the proxy's own. The network card \
                    never drops these addresses on a gate's port. Several are allowed, for proxies with different headers.",
            default: "the address that the connection comes from is judged",
            example: "real_ip from 192.0.2.10 192.0.2.11;",
            opens_if_missed: true,
            top_only: false,
            block: Context::RealIp,
            effect: Effect::Enforced(|binder, statement, _| binder.global_real_ip(statement)),
        },
        Directive {
            names: &["never_drop"],
            form: "never_drop PREFIX…;",
            about: "nicgate's own: addresses that nothing drops at the network card, neither rules nor bans. Gates judge \
                    them all the same.",
            default: "no address",
            example: "never_drop 192.0.2.0/28;",
            opens_if_missed: true,
            top_only: true,
            block: Context::Other,
            effect: Effect::Enforced(|binder, statement, _| binder.never_drop(statement)),
        },
        Directive {
            names: &["shadow"],
            form: "shadow;",
            about: "nicgate's own: judges and counts, and neither drops nor denies.",
            default: "what is denied is denied",
            example: "shadow;",
            opens_if_missed: true,
            top_only: false,
            block: Context::Other,
            effect: Effect::Enforced(|binder, statement, _| binder.shadow |= binder.bare(statement)),
        },
        Directive {
            names: &["engine"],
            form: "engine flat|lpm;",
            about: "nicgate's own: how the program looks up addresses. `flat` is faster; `lpm` is the kernel's own trie and \
                    takes more than 32,768 classes of addresses. A change takes effect when nicgate is restarted.",
            default: "`flat`",
            example: "engine lpm;",
            opens_if_missed: true,
            top_only: false,
            block: Context::Other,
            effect: Effect::Enforced(|binder, statement, _| binder.engine(statement)),
        },
        Directive {
            names: &["list_guard"],
            form: "list_guard on|off;",
            about: "nicgate's own: refuses `deny` and `drop` lists that hold every address of a family or, after a reload, \
                    have no entry any more. `on_error` says what becomes of a list that is refused.",
            default: "`on`",
            example: "list_guard off;",
            opens_if_missed: true,
            top_only: false,
            block: Context::Other,
            effect: Effect::Enforced(|binder, statement, _| binder.list_guard(statement)),
        },
        Directive {
            names: &["on_error"],
            form: "on_error refuse|skip|abort;",
            about: "nicgate's own: what becomes of a list that cannot be used, because it is missing, has a line that cannot \
                    be read, or `list_guard` refuses it. `refuse`: its former contents stay in force, the rest of the \
                    configuration is taken, and `status` has an alarm; so with the country database. `skip`: the same, but \
                    lines that cannot be read are left out; how many, and the first ten, are named. `abort`: the whole \
                    configuration is refused. Where nothing former is kept, the configuration is refused in any case.",
            default: "`refuse`",
            example: "on_error skip;",
            opens_if_missed: false,
            top_only: false,
            block: Context::Other,
            effect: Effect::Enforced(|binder, statement, _| binder.on_error(statement)),
        },
        Directive {
            names: &["backend_timeout"],
            form: "backend_timeout TIME;",
            about: "nicgate's own: how long a question to a backend may take from when it is sent, connecting included, \
                    from `1ms` to an hour; a number alone is seconds. Then the backend counts as not responding. The \
                    block of a backend can say otherwise.",
            default: "`3s`",
            example: "backend_timeout 1500ms;",
            opens_if_missed: true,
            top_only: false,
            block: Context::Other,
            effect: Effect::Enforced(|binder, statement, _| binder.backend_timeout(statement)),
        },
        Directive {
            names: &["session_follows"],
            form: "session_follows ip_prefix V4/V6|token|off;",
            about: "nicgate's own: whether a session goes on when its player comes from another address, with the same token. \
                    `ip_prefix 24/56`: within a network of IPv4 and one of IPv6 of these lengths. `token`: from anywhere. \
                    `off`: it is another session, and the backends are asked about it. A session is in one place at a \
                    time: while it is in use there, whoever shows its token elsewhere gets 403.",
            default: "`off`",
            example: "session_follows ip_prefix 24/56;",
            opens_if_missed: false,
            top_only: false,
            block: Context::Other,
            effect: Effect::Enforced(|binder, statement, _| binder.session_follows(statement)),
        },
        Directive {
            names: &["session_idle"],
            form: "session_idle TIME;",
            about: "nicgate's own: how long a player may be quiet, at least, before its session ends: it is no longer counted, \
                    and its place is free. Where its playlist has longer segments, two of them.",
            default: "`30s`",
            example: "session_idle 1m;",
            opens_if_missed: false,
            top_only: false,
            block: Context::Other,
            effect: Effect::Enforced(|binder, statement, _| binder.session_idle(statement)),
        },
        Directive {
            names: &["limit"],
            form: "limit NAME VALUE;",
            about: "nicgate's own: a limit of its own, which says nothing about a client or a backend. What exceeds it is \
                    answered with a status where HTTP has one, counted by its name, and logged once a minute. Sizes take \
                    `k`, `m` and `g`. The names stand in a part of their own.",
            default: "each name says it",
            example: "limit connections_per_address 1024;\nlimit head_bytes 16k;",
            opens_if_missed: true,
            top_only: false,
            block: Context::Other,
            effect: Effect::Enforced(|binder, statement, _| binder.limit(statement)),
        },
        Directive {
            names: &["auth_backend"],
            form: "auth_backend NAME { … }",
            about: "A policy: lists of rules, backends, a default.",
            default: "",
            example: "auth_backend viewers {\n  deny ip 198.51.100.0/24;\n  allow default;\n}",
            opens_if_missed: true,
            top_only: true,
            block: Context::Policy,
            effect: Effect::Enforced(|binder, statement, _| binder.policy(statement)),
        },
        Directive {
            names: &["stream"],
            form: "stream NAME { … }",
            about: "A stream, and who judges it. A request belongs to the stream with the longest name that its path begins \
                    with; a gate answers 404 where there is none.",
            default: "",
            example: "stream news { input udp://239.0.0.1:1234; on_play http://127.0.0.1:9000/auth; }",
            opens_if_missed: true,
            top_only: true,
            block: Context::Stream,
            effect: Effect::Enforced(|binder, statement, _| binder.stream(statement)),
        },
        Directive {
            names: &["vod", "ondemand"],
            form: "vod NAME { … }",
            about: "A location of files, or a stream that runs while it is watched: a stream to nicgate.",
            default: "",
            example: "vod films { on_play http://127.0.0.1:9000/auth; }",
            opens_if_missed: false,
            top_only: true,
            block: Context::Stream,
            effect: Effect::Enforced(|binder, statement, _| binder.stream(statement)),
        },
        Directive {
            names: &["live", "file", "rewrite"],
            form: "live NAME { … }",
            about: "Older kinds of locations: streams to nicgate. To a `live` one clients can publish.",
            default: "",
            example: "auth_backend studio { allow ip 192.0.2.0/24; }\n\
                      live studio { on_play auth://studio; on_publish auth://studio; }",
            opens_if_missed: false,
            top_only: false,
            block: Context::Stream,
            effect: Effect::Enforced(|binder, statement, _| binder.stream(statement)),
        },
        Directive {
            names: &["template"],
            form: "template NAME { … }",
            about: "What streams that name it have in common, and, with `prefix`, every stream below a path.",
            default: "",
            example: "template sport { prefix sport; on_play http://127.0.0.1:9000/auth; }",
            opens_if_missed: true,
            top_only: false,
            block: Context::Stream,
            effect: Effect::Enforced(|binder, statement, _| binder.template(statement)),
        },
        Directive {
            names: &["source"],
            form: "source HOST { … }",
            about: "Another server whose streams appear here, under any name.",
            default: "",
            example: "source origin.example.com { on_play http://127.0.0.1:9000/auth; }",
            opens_if_missed: false,
            top_only: false,
            block: Context::Source,
            effect: Effect::Enforced(|binder, statement, _| binder.other_server(statement)),
        },
        Directive {
            names: &["on_play"],
            form: "on_play auth://NAME|http://HOST/PATH;",
            about: "Who judges playing for every stream that does not say so, itself or by its template.",
            default: "everyone may play those streams",
            example: "on_play http://127.0.0.1:9000/auth;",
            opens_if_missed: true,
            top_only: false,
            block: Context::Other,
            effect: Effect::Enforced(|binder, statement, _| {
                binder.default_judge(statement, |judges| &mut judges.on_play);
            }),
        },
        Directive {
            names: &["auth"],
            form: "auth auth://NAME|http://HOST/PATH|NAME;",
            about: "The older name of `on_play`, which goes before it.",
            default: "",
            example: "auth http://127.0.0.1:9000/auth;",
            opens_if_missed: false,
            top_only: false,
            block: Context::Other,
            effect: Effect::Enforced(|binder, statement, _| {
                binder.default_judge(statement, |judges| &mut judges.auth);
            }),
        },
        Directive {
            names: &["on_publish"],
            form: "on_publish auth://NAME|http://HOST/PATH;",
            about: "Who judges publishing, for every stream to which clients can publish and that does not say so.",
            default: "a guarded port admits everyone who publishes; a gate refuses it",
            example: "on_publish http://127.0.0.1:9000/auth;",
            opens_if_missed: true,
            top_only: false,
            block: Context::Other,
            effect: Effect::Enforced(|binder, statement, _| {
                binder.default_judge(statement, |judges| &mut judges.on_publish);
            }),
        },
        Directive {
            names: &["geoip"],
            form: "geoip PATH;",
            about: "The country database, an MMDB file such as GeoLite2-Country. Rules about countries need it.",
            default: "no rule about a country matches",
            example: "geoip /var/lib/GeoIP/GeoLite2-Country.mmdb;",
            opens_if_missed: true,
            top_only: false,
            block: Context::Other,
            effect: Effect::Enforced(|binder, statement, _| binder.geoip(statement)),
        },
        Directive {
            names: &["auth_token"],
            form: "auth_token NAME;",
            about: "The query parameter that carries the token.",
            default: "`token`",
            example: "auth_token key;",
            opens_if_missed: true,
            top_only: false,
            block: Context::Other,
            effect: Effect::Enforced(|binder, statement, _| binder.auth_token(statement)),
        },
        Directive {
            names: &["no_auto_token"],
            form: "no_auto_token;",
            about: "Refuses requests that bring no token.",
            default: "such a request is judged like any other",
            example: "no_auto_token;",
            opens_if_missed: true,
            top_only: false,
            block: Context::Other,
            effect: Effect::Enforced(|binder, statement, _| binder.no_auto_token |= binder.bare(statement)),
        },
        Directive {
            names: &["http", "https", "rtmp", "rtsp", "srt", "admin_http", "admin_https"],
            form: "http [ADDR:]PORT;",
            about: "Where the media server itself listens. On the port of `srt`, `guard udp PORT streams;` meets the \
                    policies of every stream.",
            default: "",
            example: "http 8080;",
            opens_if_missed: false,
            top_only: false,
            block: Context::Other,
            effect: Effect::Read(
                |binder, statement, _| binder.listener(statement),
                "`nicgate check` names ports of the media server that nothing protects",
            ),
        },
        Directive {
            names: &["srt_play", "srt_publish"],
            form: "srt_play { port [ADDR:]PORT; }",
            about: "An SRT port that all streams share.",
            default: "",
            example: "srt_play { port 9998; }",
            opens_if_missed: false,
            top_only: false,
            block: Context::Other,
            effect: Effect::Read(
                |binder, statement, _| binder.shared_srt_port(statement),
                "`nicgate check` names ports of the media server that nothing protects",
            ),
        },
        Directive {
            names: &["view_auth", "edit_auth"],
            form: "view_auth USER PASSWORD;",
            about: "Who may see or change the media server's settings.",
            default: "",
            example: "view_auth viewer secret;",
            opens_if_missed: false,
            top_only: false,
            block: Context::Other,
            effect: Effect::Read(
                |binder, statement, _| binder.credentials(statement),
                "its form is looked at; the media server enforces it",
            ),
        },
        Directive {
            names: &["api_allowed_from"],
            form: "api_allowed_from PREFIX…;",
            about: "From where the media server's API can be reached.",
            default: "",
            example: "api_allowed_from 192.0.2.0/28;",
            opens_if_missed: false,
            top_only: false,
            block: Context::Other,
            effect: Effect::Read(
                |binder, statement, _| binder.api_allowed_from(statement),
                "its prefixes are looked at; the media server enforces it",
            ),
        },
        Directive {
            names: &["iptv"],
            form: "iptv DATABASE;",
            about: "Flussonic's own subscriber database, which nicgate cannot ask: a `backend iptv://…` counts as not \
                    responding.",
            default: "",
            example: "iptv sqlite:///opt/flussonic/priv/iptv.db;",
            opens_if_missed: false,
            top_only: false,
            block: Context::Other,
            effect: Effect::Read(|binder, statement, _| binder.iptv(statement), "a note says so"),
        },
        Directive::passed_over(
            &["aws_s3", "cache", "dvr", "dvr_global", "google_cloud", "live_dvr"],
            "what is recorded and kept",
        ),
        Directive::passed_over(
            &["balancer", "cluster_ingest", "cluster_key", "cluster_streams", "peer"],
            "other servers of a cluster",
        ),
        Directive::passed_over(
            &["event_sink", "log_level", "loglevel", "notify", "on_event", "session_log", "session_logs"],
            "logs and events",
        ),
        Directive::passed_over(&["sessions_log", "pulsedb"], "logs and events"),
        Directive::passed_over(&["sessions_keys"], "what makes a viewer one viewer to the media server"),
        Directive::passed_over(
            &["dvb_card", "ingest", "mpegts_udp", "push", "transponder"],
            "where streams come from and go to",
        ),
        Directive::passed_over(
            &["hls_scte35", "mosaic", "retroview", "transcoder", "vision"],
            "pictures, sound and tracks",
        ),
        Directive::passed_over(&["fetch_ssl", "ssl_ciphers", "ssl_protocols"], "certificates and ciphers"),
        Directive::passed_over(
            &["listen", "rtmps", "rtsps", "webrtc"],
            "further ports, which `check` does not know",
        ),
        Directive::passed_over(
            &["license", "plugin", "server_id", "streamer_id", "system", "total_bandwidth", "url_prefix"],
            "the server itself",
        ),
        Directive::passed_over(&["user_agent", "web_script", "worker"], "the server itself"),
    ];

    fn unknown(binder: &mut Binder<'_>, statement: &Statement) {
        if PolicyDraft::find(&statement.directive().text).is_some() {
            binder.outside_policy(statement);
        } else {
            binder.pass_over_unless_misspelt(statement, &Self::names(|directive| directive.opens_if_missed));
        }
    }
}
