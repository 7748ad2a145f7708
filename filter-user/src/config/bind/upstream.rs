//! Media servers behind gates: by their address alone, or several under one name.

use std::{net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use url::Url;

use super::Binder;
use crate::{
    config::{
        lexer::Word,
        quantity::{TIME_FORM, number, time},
        source::Span,
        syntax::Statement,
        vocabulary::did_you_mean,
    },
    model::{HealthCheck, ServerAddress, Upstream, UpstreamServer},
};

/// The longest path of a Unix socket, in bytes; the kernel's `sun_path` has one more for its end.
const LONGEST_SOCKET: usize = 107;
/// The largest weight, and the most failures, that can be given.
const MOST: u64 = 1000;
/// How often a server is looked at unless `interval=` says otherwise.
const INTERVAL: Duration = Duration::from_secs(5);
/// How long its answer may take unless `timeout=` says otherwise.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// An `upstream` that is being read.
#[derive(Default)]
pub(super) struct UpstreamDraft {
    servers: Vec<(UpstreamServer, Span)>,
    health: Option<(HealthCheck, Span)>,
    proxy_protocol: Option<Span>,
}

/// What a gate's `upstream` says.
pub(super) enum Target {
    /// One server.
    One(ServerAddress),
    /// The name of an `upstream`.
    Named(Word),
}

/// An `upstream` that was read.
pub(super) struct NamedUpstream {
    upstream: Arc<Upstream>,
    at: Span,
    used: bool,
}

impl Binder<'_> {
    /// `upstream NAME { … }`
    pub(super) fn named_upstream(&mut self, statement: &Statement) {
        let Some(word) = self.first_value(statement, "its name") else { return };
        self.no_more(statement, 1);
        let mut draft = UpstreamDraft::default();
        for option in statement.statements() {
            self.directive(option, &mut draft);
        }
        if word.text.is_empty() || is_address(&word.text) || word.text.contains('/') {
            let message = format!("`{}` is no name of an upstream", word.as_written());
            self.sources.error(word.span, "bad-name", message).help(
                "write it as `upstream NAME { server 127.0.0.1:8080; }`, and `upstream NAME;` in a gate",
            );
            return;
        }
        if let Some(known) = self.upstreams.iter().find(|known| *known.upstream.name == *word.text) {
            let earlier = known.at;
            self.duplicate(&format!("the upstream `{}`", word.text), word.span, earlier);
            return;
        }
        if draft.servers.is_empty() {
            self.sources
                .error(statement.span(), "missing-server", "this upstream has no server")
                .help("write where the media server is: `server 127.0.0.1:8080;`");
        }
        let upstream = Upstream {
            name: (&*word.text).into(),
            servers: draft.servers.into_iter().map(|(server, _)| server).collect(),
            health: draft.health.map(|(health, _)| health),
            proxy_protocol: draft.proxy_protocol.is_some(),
        };
        self.upstreams.push(NamedUpstream { upstream: Arc::new(upstream), at: word.span, used: false });
    }

    /// `server ADDR [weight=N] [max_fails=N] [fail_timeout=TIME];` in an `upstream`.
    pub(super) fn upstream_server(&mut self, option: &Statement, draft: &mut UpstreamDraft) {
        self.no_block(option);
        let Some(word) = self.first_value(option, "its address") else { return };
        let Some(address) = self.server_address(word) else { return };
        let mut server = UpstreamServer::new(address);
        for parameter in &option.values()[1..] {
            match parameter.text.split_once('=') {
                Some(("weight", value)) => {
                    server.weight = self.some(parameter, value).unwrap_or(server.weight);
                }
                Some(("max_fails", value)) => {
                    server.max_fails = self.some(parameter, value).unwrap_or(server.max_fails);
                }
                Some(("fail_timeout", value)) => {
                    server.fail_timeout =
                        self.parameter_time(parameter, value).unwrap_or(server.fail_timeout);
                }
                _ => self.unknown_parameter(parameter, &["weight=", "max_fails=", "fail_timeout="]),
            }
        }
        let same = draft.servers.iter().find(|(known, _)| known.address == server.address);
        match same.map(|(_, earlier)| *earlier) {
            Some(earlier) => self.duplicate(&format!("the server {}", server.address), word.span, earlier),
            None => draft.servers.push((server, word.span)),
        }
    }

    /// `health path=PATH [interval=TIME] [timeout=TIME];` in an `upstream`.
    pub(super) fn upstream_health(&mut self, option: &Statement, draft: &mut UpstreamDraft) {
        self.no_block(option);
        let at = option.directive().span;
        let mut path = None;
        let (mut interval, mut timeout) = (INTERVAL, CHECK_TIMEOUT);
        for parameter in option.values() {
            match parameter.text.split_once('=') {
                Some(("path", value)) => {
                    let good = value.starts_with('/') && value.bytes().all(|byte| byte.is_ascii_graphic());
                    if !good || value.contains('#') {
                        let message = format!("`{value}` is no path that can be asked for");
                        self.sources
                            .error(parameter.span, "bad-path", message)
                            .help("write it as `path=/health`, encoded as in a request");
                        return;
                    }
                    path = Some(value.into());
                }
                Some(("interval", value)) => {
                    interval = self.parameter_time(parameter, value).unwrap_or(interval);
                }
                Some(("timeout", value)) => {
                    timeout = self.parameter_time(parameter, value).unwrap_or(timeout);
                }
                _ => self.unknown_parameter(parameter, &["path=", "interval=", "timeout="]),
            }
        }
        let Some(path) = path else {
            self.sources
                .error(at, "missing-value", "`health` does not say what to ask for")
                .help("write it as `health path=/health interval=5s;`");
            return;
        };
        if let Some((_, earlier)) = draft.health.replace((HealthCheck { path, interval, timeout }, at)) {
            self.set_again("health", at, earlier);
        }
    }

    /// `proxy_protocol;` in an `upstream`.
    pub(super) fn upstream_proxy_protocol(&mut self, option: &Statement, draft: &mut UpstreamDraft) {
        if self.bare(option) {
            draft.proxy_protocol = Some(option.directive().span);
        }
    }

    /// The upstream that a gate names.
    pub(super) fn find_upstream(&mut self, target: Target) -> Option<Arc<Upstream>> {
        let word = match target {
            Target::One(address) => return Some(Arc::new(Upstream::one(address))),
            Target::Named(word) => word,
        };
        if let Some(known) = self.upstreams.iter_mut().find(|known| *known.upstream.name == *word.text) {
            known.used = true;
            return Some(known.upstream.clone());
        }
        let names: Vec<_> = self.upstreams.iter().map(|known| &*known.upstream.name).collect();
        let help = did_you_mean(&word.text, &names).unwrap_or_else(|| {
            "write where the media server is, as in http://127.0.0.1:8080, or define it: \
             `upstream NAME { server 127.0.0.1:8080; }`"
                .to_owned()
        });
        let message = format!("there is no upstream `{}`", word.as_written());
        self.sources.error(word.span, "unknown-upstream", message).help(help);
        None
    }

    /// Says which upstreams no gate has.
    pub(super) fn name_unused_upstreams(&mut self) {
        let unused = self.upstreams.iter().filter(|known| !known.used);
        let unused: Vec<_> = unused.map(|known| (known.upstream.name.clone(), known.at)).collect();
        for (name, at) in unused {
            self.sources
                .warning(at, "unused-upstream", format!("no gate has the upstream `{name}`"))
                .help(format!("write `gate 80 {{ upstream {name}; }}`, or remove it"));
        }
    }

    /// `http://HOST[:PORT]`, `HOST[:PORT]` or `unix:/PATH`.
    pub(super) fn server_address(&mut self, word: &Word) -> Option<ServerAddress> {
        if let Some(path) = word.text.strip_prefix("unix:") {
            if path.starts_with('/') && path.len() <= LONGEST_SOCKET && !path.contains('\0') {
                return Some(ServerAddress::Unix(PathBuf::from(path)));
            }
            let message = format!("`{path}` is no path of a Unix socket");
            self.sources.error(word.span, "bad-address", message).help(format!(
                "write it as unix:/run/media.sock: a path from the root of at most {LONGEST_SOCKET} bytes"
            ));
            return None;
        }
        if word.text.contains("://") {
            return self.server_url(word).map(ServerAddress::Tcp);
        }
        // A number alone would be read as an address.
        let number = word.text.bytes().all(|byte| byte.is_ascii_digit());
        let url = Url::parse(&format!("http://{}", word.text)).ok().filter(|url| {
            let plain = url.username().is_empty() && url.password().is_none() && url.path() == "/";
            plain && url.query().is_none() && url.fragment().is_none() && url.port() != Some(0)
        });
        let Some(url) = url.filter(|_| !number && !word.text.contains(['/', '@', '\\'])) else {
            let message = format!("`{}` is no address of a server", word.as_written());
            self.sources
                .error(word.span, "bad-address", message)
                .help("write it as 127.0.0.1:8080, [2001:db8::1]:8080, media.example.com:8080 or unix:/run/media.sock");
            return None;
        };
        Some(ServerAddress::Tcp(url))
    }

    fn server_url(&mut self, word: &Word) -> Option<Url> {
        let url = self.http_url(word)?;
        if url.scheme() != "http" {
            self.sources
                .error(word.span, "upstream-scheme", "an upstream is reached over plain http")
                .help("write http://HOST:PORT; the media server usually runs on this host");
            return None;
        }
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            self.sources
                .error(word.span, "upstream-path", "an upstream has no path of its own")
                .help("write http://HOST:PORT; `path /PREFIX;` in the gate takes a prefix off paths");
            return None;
        }
        Some(url)
    }

    /// A number from 1 on.
    fn some(&mut self, parameter: &Word, value: &str) -> Option<u32> {
        let read = number(value).filter(|value| (1..=MOST).contains(value));
        if read.is_none() {
            let message = format!("`{value}` is no number from 1 to {MOST}");
            self.sources.error(parameter.span, "bad-number", message);
        }
        read.and_then(|value| u32::try_from(value).ok())
    }

    fn parameter_time(&mut self, parameter: &Word, value: &str) -> Option<Duration> {
        let read = time(value);
        if read.is_none() {
            let message = format!("`{value}` is no time");
            self.sources.error(parameter.span, "bad-time", message).help(TIME_FORM);
        }
        read
    }

    fn unknown_parameter(&mut self, parameter: &Word, known: &[&str]) {
        let name = parameter.text.split_once('=').map_or(&*parameter.text, |(name, _)| name);
        let message = format!("unknown parameter `{name}`");
        let help = did_you_mean(name, known).unwrap_or_else(|| format!("known here: {}", known.join(", ")));
        self.sources.error(parameter.span, "unknown-parameter", message).help(help);
    }
}

/// Whether this says where a server is, and is no name of an upstream.
pub(super) fn is_address(text: &str) -> bool {
    text.contains(':') || text.parse::<IpAddr>().is_ok()
}
