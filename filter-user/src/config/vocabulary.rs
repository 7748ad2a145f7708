//! Which words are directives where.

/// What a block is, as far as its directives are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Context {
    /// A file.
    Top,
    /// `auth_backend`.
    Policy,
    /// `stream`, `template`, `vod` and the like.
    Stream,
    /// `gate`.
    Gate,
    /// `interface`.
    Interface,
    /// A block that is passed over.
    Other,
}

/// The directives of a file that nicgate reads.
const TOP_READ: &[&str] = &[
    "admin_http",
    "admin_https",
    "api_allowed_from",
    "auth",
    "auth_backend",
    "auth_token",
    "backend_timeout",
    "edit_auth",
    "file",
    "engine",
    "gate",
    "geoip",
    "guard",
    "http",
    "https",
    "include",
    "interface",
    "iptv",
    "list_guard",
    "live",
    "never_drop",
    "no_auto_token",
    "on_play",
    "on_publish",
    "ondemand",
    "rewrite",
    "rtmp",
    "rtsp",
    "shadow",
    "source",
    "srt",
    "stream",
    "template",
    "view_auth",
    "vod",
];

/// Flussonic's directives of a file that do not concern access.
const TOP_PASSED: &[&str] = &[
    "aws_s3",
    "balancer",
    "cache",
    "cluster_ingest",
    "cluster_key",
    "cluster_streams",
    "dvr",
    "dvr_global",
    "dvb_card",
    "event_sink",
    "fetch_ssl",
    "google_cloud",
    "hls_scte35",
    "ingest",
    "license",
    "listen",
    "live_dvr",
    "log_level",
    "loglevel",
    "mosaic",
    "mpegts_udp",
    "notify",
    "on_event",
    "peer",
    "plugin",
    "pulsedb",
    "push",
    "retroview",
    "rtmps",
    "rtsps",
    "server_id",
    "session_log",
    "session_logs",
    "sessions_keys",
    "sessions_log",
    "srt_play",
    "srt_publish",
    "ssl_ciphers",
    "ssl_protocols",
    "streamer_id",
    "system",
    "total_bandwidth",
    "transcoder",
    "transponder",
    "url_prefix",
    "user_agent",
    "vision",
    "webrtc",
    "worker",
    "web_script",
];

/// The directives of a stream that nicgate reads.
const STREAM_READ: &[&str] = &[
    "auth",
    "disabled",
    "input",
    "on_play",
    "on_publish",
    "prefix",
    "publish",
    "publish_enabled",
    "srt",
    "srt_play",
    "srt_publish",
    "template",
    "url",
];

/// Flussonic's directives of a stream that do not concern access.
const STREAM_PASSED: &[&str] = &[
    "add_audio_only",
    "allow_if",
    "allowed_countries",
    "auto_mosaic",
    "backup",
    "bitrate",
    "cache",
    "clients_timeout",
    "cluster_ingest",
    "comment",
    "copy",
    "cues",
    "disallowed_countries",
    "domain",
    "domains",
    "download",
    "drm",
    "dvr",
    "epg",
    "format",
    "frames_timeout",
    "group_config",
    "gop_flush",
    "hls_dvr",
    "images",
    "labels",
    "logo",
    "m4f_push",
    "max_bitrate",
    "max_readahead",
    "max_sessions",
    "meta",
    "motion_detector",
    "mpegts_ac3",
    "mpegts_pids",
    "name",
    "no_dvr",
    "no_prebuffer",
    "on_event",
    "output_audio",
    "password",
    "path",
    "pids",
    "position",
    "prebuffer",
    "prepush",
    "protocols",
    "provider",
    "push",
    "read_queue",
    "rtp",
    "segment_count",
    "segment_duration",
    "segments",
    "shift",
    "source_timeout",
    "static",
    "storage",
    "storage_limit",
    "substyle",
    "thumbnails",
    "timeshift",
    "title",
    "token",
    "total_clients",
    "tracks",
    "transcoder",
    "udp",
    "url_prefix",
    "vision",
    "web_rtc",
    "webrtc",
];

/// The directives of an `auth_backend`.
pub(super) const POLICY: &[&str] = &["allow", "backend", "deny", "drop"];
/// What a rule can look at.
pub(super) const KINDS: &[&str] = &["country", "default", "ip", "token", "ua", "useragent"];
/// The options of a `gate`.
pub(super) const GATE: &[&str] = &["upstream"];
/// The options of an `interface`.
pub(super) const INTERFACE: &[&str] = &["mode", "required"];

impl Context {
    /// What the block behind a directive is.
    pub(super) fn of_block(self, directive: &str) -> Self {
        match (self, directive) {
            (Self::Top, "auth_backend") => Self::Policy,
            (Self::Top, "gate") => Self::Gate,
            (Self::Top, "interface") => Self::Interface,
            (Self::Top, "stream" | "template" | "ondemand" | "live" | "file" | "vod" | "rewrite") => {
                Self::Stream
            }
            _ => Self::Other,
        }
    }

    /// Whether the word is a directive here.
    pub(super) fn knows(self, word: &str) -> bool {
        let lists: &[&[&str]] = match self {
            Self::Top => &[TOP_READ, TOP_PASSED],
            Self::Policy => &[POLICY],
            Self::Stream => &[STREAM_READ, STREAM_PASSED],
            Self::Gate => &[GATE],
            Self::Interface => &[INTERFACE],
            Self::Other => &[],
        };
        lists.iter().any(|list| list.contains(&word))
    }

    /// Whether the word can begin a statement of a file but not of this block, so that this block must have
    /// been left open.
    pub(super) fn ends_before(self, word: &str) -> bool {
        const FILE_ONLY: &[&str] = &[
            "auth_backend",
            "gate",
            "guard",
            "include",
            "interface",
            "never_drop",
            "ondemand",
            "stream",
            "vod",
        ];
        self != Self::Top && self != Self::Other && FILE_ONLY.contains(&word) && !self.knows(word)
    }
}

/// The candidate that was probably meant.
pub(super) fn suggest<'a>(word: &str, candidates: &[&'a str]) -> Option<&'a str> {
    // The distance is quadratic in the length; no directive is this long.
    if word.len() > 40 {
        return None;
    }
    let word = word.to_ascii_lowercase();
    candidates
        .iter()
        .map(|candidate| (strsim::osa_distance(&word, candidate), *candidate))
        .filter(|(distance, candidate)| *distance <= candidate.len().div_ceil(4).min(3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The candidate that was probably meant, as advice.
pub(super) fn did_you_mean(word: &str, candidates: &[&str]) -> Option<String> {
    suggest(word, candidates).map(|candidate| format!("did you mean `{candidate}`?"))
}
