//! The directives of a stream, a location or a template.

use super::super::{
    Binder,
    directive::{Directive, Draft, Effect},
    stream::StreamDraft,
};
use crate::config::{syntax::Statement, vocabulary::Context};

impl Draft for StreamDraft {
    const PLACE: &'static str = "In a `stream`, a `template` or a location";
    const ABOUT: &'static str = "All of these are Flussonic's. What a stream does not say itself it has from its \
                                 `template`, and then from the top of the file. A word that is not listed here is \
                                 passed over with a note, unless it is nearly one that would be missed.";
    const DIRECTIVES: &'static [Directive<Self>] = &[
        Directive {
            names: &["on_play"],
            form: "on_play auth://NAME|http://HOST/PATH|securetoken://KEY;",
            about: "Who judges playing: an `auth_backend`, or a backend that is asked as if it were the only one of a \
                    policy. Further words and a block are options of the media server; they are warned of.",
            default: "everyone may play, and ports on which the stream can be played drop nothing",
            example: "auth_backend viewers { deny ip 198.51.100.0/24; allow default; }\n\
                      stream news { input udp://239.0.0.1:1234; on_play auth://viewers; }",
            opens_if_missed: true,
            top_only: false,
            block: Context::Other,
            effect: Effect::Enforced(|binder, statement, stream| {
                binder.judge(statement, &mut stream.judges.on_play);
            }),
        },
        Directive {
            names: &["auth"],
            form: "auth auth://NAME|http://HOST/PATH|NAME;",
            about: "The older name of `on_play`. An `on_play` of the stream or of its template goes before it.",
            default: "",
            example: "stream news { input udp://239.0.0.1:1234; auth http://127.0.0.1:9000/auth; }",
            opens_if_missed: false,
            top_only: false,
            block: Context::Other,
            effect: Effect::Enforced(|binder, statement, stream| {
                binder.judge(statement, &mut stream.judges.auth);
            }),
        },
        Directive {
            names: &["on_publish"],
            form: "on_publish auth://NAME|http://HOST/PATH;",
            about: "Who judges publishing, as `on_play` judges playing.",
            default: "where something can be published, a guarded port admits everyone; a gate refuses what no \
                      policy allows to be published",
            example: "auth_backend studio { allow ip 192.0.2.0/24; }\n\
                      stream news { input publish://; on_play auth://studio; on_publish auth://studio; }",
            opens_if_missed: true,
            top_only: false,
            block: Context::Other,
            effect: Effect::Enforced(|binder, statement, stream| {
                binder.judge(statement, &mut stream.judges.on_publish);
            }),
        },
        Directive {
            names: &["template"],
            form: "template NAME;",
            about: "Takes who judges, what can be published, restrictions, `disabled` and SRT ports from the template of this \
                    name.",
            default: "",
            example: "auth_backend viewers { deny ip 198.51.100.0/24; allow default; }\n\
                      template sport { on_play auth://viewers; }\n\
                      stream football { input udp://239.0.0.1:1234; template sport; }",
            opens_if_missed: true,
            top_only: false,
            block: Context::Other,
            effect: Effect::Enforced(|binder, statement, stream| binder.stream_template(statement, stream)),
        },
        Directive {
            names: &["prefix"],
            form: "prefix PATH;",
            about: "In a template: every stream below this path is judged as the template says. With an empty one, \
                    every stream that is not named.",
            default: "",
            example: "auth_backend viewers { deny ip 198.51.100.0/24; allow default; }\n\
                      template sport { prefix sport; on_play auth://viewers; }",
            opens_if_missed: false,
            top_only: false,
            block: Context::Other,
            effect: Effect::Enforced(|binder, statement, stream| binder.stream_prefix(statement, stream)),
        },
        Directive {
            names: &["input", "url"],
            form: "input URL;",
            about: "`publish://` says that clients can publish to the stream; other inputs say nothing about access.",
            default: "nothing can be published, except to a `live` location",
            example: "auth_backend studio { allow ip 192.0.2.0/24; }\n\
                      stream news { input publish://; on_play auth://studio; on_publish auth://studio; }",
            opens_if_missed: false,
            top_only: false,
            block: Context::Other,
            effect: Effect::Enforced(|_, statement, stream| stream.input(statement)),
        },
        Directive {
            names: &["publish", "publish_enabled"],
            form: "publish;",
            about: "An older way of `input publish://`.",
            default: "",
            example: "auth_backend studio { allow ip 192.0.2.0/24; }\n\
                      stream news { publish; on_play auth://studio; on_publish auth://studio; }",
            opens_if_missed: false,
            top_only: false,
            block: Context::Other,
            effect: Effect::Enforced(|_, _, stream| stream.publishes = true),
        },
        Directive {
            names: &["disabled"],
            form: "disabled [false];",
            about: "The media server does not run the stream, so nobody is admitted to it.",
            default: "",
            example: "stream news { disabled; }",
            opens_if_missed: false,
            top_only: false,
            block: Context::Other,
            effect: Effect::Enforced(|_, statement, stream| {
                stream.disabled = statement.values().first().is_none_or(|word| !word.is("false"));
            }),
        },
        Directive {
            names: &["srt"],
            form: "srt [ADDR:]PORT;",
            about: "An SRT port of this stream alone: `guard udp PORT streams;` there meets this stream's policies only.",
            default: "the stream is reached on the SRT ports that all streams share",
            example: "stream news { srt 9998; on_play http://127.0.0.1:9000/auth; }\nguard udp 9998 streams;",
            opens_if_missed: false,
            top_only: false,
            block: Context::Other,
            effect: Effect::Enforced(|binder, statement, stream| binder.stream_srt(statement, stream)),
        },
        Directive {
            names: &["srt_play"],
            form: "srt_play { port [ADDR:]PORT; }",
            about: "An SRT port on which this stream alone is played, as `srt`.",
            default: "",
            example: "stream news { srt_play { port 9998; } on_play http://127.0.0.1:9000/auth; }\n\
                      guard udp 9998 streams;",
            opens_if_missed: false,
            top_only: false,
            block: Context::Other,
            effect: Effect::Enforced(|binder, statement, stream| {
                stream.srt_ports.extend(binder.srt_block(statement));
            }),
        },
        Directive {
            names: &["srt_publish"],
            form: "srt_publish { port [ADDR:]PORT; }",
            about: "An SRT port on which this stream alone is published. It says that clients can publish to it.",
            default: "",
            example: "auth_backend studio { allow ip 192.0.2.0/24; }\n\
                      stream news { srt_publish { port 9998; } on_play auth://studio; on_publish auth://studio; }\n\
                      guard udp 9998 streams;",
            opens_if_missed: false,
            top_only: false,
            block: Context::Other,
            effect: Effect::Enforced(|binder, statement, stream| {
                stream.publishes = true;
                stream.srt_ports.extend(binder.srt_block(statement));
            }),
        },
        Directive {
            names: &["allowed_countries"],
            form: "allowed_countries CODE…;",
            about: "Nobody from another country may play, whatever the policy says; the network card drops such addresses on ports where every stream denies them. `unknown` is the word for addresses without a country. Without `geoip` nicgate warns, and leaves it to \
                    the media server.",
            default: "every country",
            example: "geoip /var/lib/GeoIP/GeoLite2-Country.mmdb;\nstream news { input udp://239.0.0.1:1234; allowed_countries DE AT CH; }",
            opens_if_missed: true,
            top_only: false,
            block: Context::Other,
            effect: Effect::Enforced(|binder, statement, stream| {
                binder.allowed_countries(statement, &mut stream.restrictions);
            }),
        },
        Directive {
            names: &["disallowed_countries"],
            form: "disallowed_countries CODE…;",
            about: "Nobody from these countries may play, as with `allowed_countries`.",
            default: "no country",
            example: "geoip /var/lib/GeoIP/GeoLite2-Country.mmdb;\nstream news { input udp://239.0.0.1:1234; disallowed_countries CN; }",
            opens_if_missed: true,
            top_only: false,
            block: Context::Other,
            effect: Effect::Enforced(|binder, statement, stream| {
                binder.disallowed_countries(statement, &mut stream.restrictions);
            }),
        },
        Directive {
            names: &["domains", "domain"],
            form: "domains HOST…;",
            about: "Only pages on these hosts may show the stream, whatever the policy says: the host of the Referer or, where there is none, of the Origin. `*.example.com` is every host below \
                    that one, but not itself. A request that names no page is refused; programs can name any page.",
            default: "every page",
            example: "stream news { input udp://239.0.0.1:1234; domains example.com *.example.com; }",
            opens_if_missed: true,
            top_only: false,
            block: Context::Other,
            effect: Effect::Enforced(|binder, statement, stream| {
                binder.domains(statement, &mut stream.restrictions);
            }),
        },
        Directive {
            names: &["password"],
            form: "password TEXT;",
            about: "Publishers have to show this password in the query, `?password=TEXT`, whatever `on_publish` says beside \
                    it. A gate lets them publish without an `on_publish`, too.",
            default: "`on_publish` alone judges",
            example: "stream news { input publish://; password secret; on_play http://127.0.0.1:9000/auth; }",
            opens_if_missed: true,
            top_only: false,
            block: Context::Other,
            effect: Effect::Enforced(|binder, statement, stream| {
                binder.password(statement, &mut stream.restrictions);
            }),
        },
        Directive {
            names: &["max_sessions"],
            form: "max_sessions N;",
            about: "How many may play the stream at once, over all gates; one more gets 403. A viewer counts until its player \
                    has been gone for a while (`session_idle`). A template's number is that of each stream that names it, \
                    and of all together below a `prefix`. `0` is \
                    no limit. Guarded ports know of no sessions: without a gate it is warned of.",
            default: "",
            example: "stream news { max_sessions 100; on_play http://127.0.0.1:9000/auth; }\n\
                      gate 80 { upstream http://127.0.0.1:8080; }",
            opens_if_missed: true,
            top_only: false,
            block: Context::Other,
            effect: Effect::Enforced(|binder, statement, stream| {
                binder.stream_max_sessions(statement, stream);
            }),
        },
        Directive::not_enforced(&["total_clients"], "the number of viewers"),
        Directive::not_enforced(&["token"], "the token"),
        Directive::not_enforced(&["allow_if"], "what a condition says"),
        Directive::passed_over(
            &["backup", "clients_timeout", "copy", "frames_timeout", "gop_flush", "path", "read_queue"],
            "where the stream comes from",
        ),
        Directive::passed_over(
            &["source_timeout", "static", "storage", "storage_limit", "udp", "cluster_ingest"],
            "where the stream comes from",
        ),
        Directive::passed_over(
            &["dvr", "no_dvr", "hls_dvr", "timeshift", "shift", "download", "cache"],
            "what is recorded and kept",
        ),
        Directive::passed_over(
            &["push", "prepush", "m4f_push", "protocols", "rtp", "web_rtc", "webrtc"],
            "where and how the stream is sent",
        ),
        Directive::passed_over(
            &["max_readahead", "prebuffer", "no_prebuffer", "segment_count", "segment_duration", "segments"],
            "where and how the stream is sent",
        ),
        Directive::passed_over(
            &["add_audio_only", "auto_mosaic", "bitrate", "max_bitrate", "mpegts_ac3", "mpegts_pids", "pids"],
            "pictures, sound and tracks",
        ),
        Directive::passed_over(
            &["cues", "epg", "format", "images", "logo", "motion_detector", "output_audio", "substyle"],
            "pictures, sound and tracks",
        ),
        Directive::passed_over(
            &["thumbnails", "tracks", "transcoder", "vision"],
            "pictures, sound and tracks",
        ),
        Directive::passed_over(
            &[
                "comment",
                "group_config",
                "labels",
                "meta",
                "name",
                "position",
                "provider",
                "title",
                "url_prefix",
            ],
            "how the stream is shown and described",
        ),
        Directive::passed_over(&["on_event"], "what is told of events"),
        Directive::passed_over(&["drm"], "how the stream is encrypted"),
    ];

    fn unknown(binder: &mut Binder<'_>, statement: &Statement) {
        binder.pass_over_unless_misspelt(statement, &Self::names(|directive| directive.opens_if_missed));
    }
}
