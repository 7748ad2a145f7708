//! Protected ports, and the ports of the media server.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    net::IpAddr,
    sync::Arc,
};

use ipnet::IpNet;
use url::{Host, Url};

use super::{Binder, resolve::Resolved, upstream::Target};
use crate::{
    config::{lexer::Word, source::Span, syntax::Statement},
    model::{
        Access, Cors, Gate, Listener, OpenReason, Origin, PlayerToken, PolicyId, Proto, RealIp, Service,
        ServiceKey, ServiceKind, Stream, TokenFrom, Trust, Upstream,
    },
};

/// A `gate` or `guard` that is being read.
pub(super) struct ServiceDraft {
    key: ServiceKey,
    kind: KindDraft,
    /// Where the port stands.
    at: Span,
    origin: Origin,
    scope: Scope,
    /// Whether a gate trusts the proxies that all gates trust.
    trusts_global: bool,
}

/// What a service is, as far as it is known before the whole configuration was read.
enum KindDraft {
    /// What its upstream says, and the gate with it.
    Gate(Target, Box<dyn FnOnce(Arc<Upstream>) -> Gate>),
    Guard,
}

/// The options of a `gate` that is being read.
#[derive(Default)]
pub(super) struct GateDraft {
    /// Where admitted requests go, if that could be read, and where it stands.
    pub(super) upstream: Option<(Option<Target>, Span)>,
    pub(super) prefix: Option<(Arc<str>, Span)>,
    pub(super) player_token: Option<(PlayerToken, Span)>,
    pub(super) token_from: Option<(TokenFrom, Span)>,
    pub(super) cors: Option<(Cors, Span)>,
    /// Proxies in place of those that all gates trust.
    pub(super) real_ip: Option<Vec<RealIp>>,
    pub(super) proxy_protocol: Vec<(IpNet, Origin)>,
}

/// Which policies a service can meet.
enum Scope {
    /// Those of the streams.
    Streams,
    /// These.
    Named(Vec<Word>),
}

impl Binder<'_> {
    /// `gate [ADDR:]PORT { upstream URL; }`
    pub(super) fn gate(&mut self, statement: &Statement) {
        let Some(port) = self.first_value(statement, "its port") else { return };
        self.no_more(statement, 1);
        let endpoint = self.endpoint(port);
        let mut draft = GateDraft::default();
        for option in statement.statements() {
            self.directive(option, &mut draft);
        }
        self.check_player(&draft);
        let GateDraft { upstream, prefix, player_token, token_from, cors, real_ip, proxy_protocol } = draft;
        let Some((upstream, _)) = upstream else {
            self.sources
                .error(statement.span(), "missing-upstream", "this gate has no upstream")
                .help("write where admitted requests go: `gate 80 { upstream http://127.0.0.1:8080; }`");
            return;
        };
        let (Some((address, number)), Some(upstream)) = (endpoint, upstream) else { return };
        let key = ServiceKey { proto: Proto::Tcp, port: number, address };
        let trusts_global = real_ip.is_none();
        let make = move |upstream| Gate {
            upstream,
            prefix: prefix.map_or_else(|| "".into(), |(prefix, _)| prefix),
            player_token: player_token.map(|(value, _)| value).unwrap_or_default(),
            token_from: token_from.map(|(value, _)| value).unwrap_or_default(),
            cors: cors.map(|(value, _)| value).unwrap_or_default(),
            trust: Trust { real_ip: real_ip.unwrap_or_default(), proxy_protocol },
        };
        let kind = KindDraft::Gate(upstream, Box::new(make));
        let origin = self.sources.origin(statement.span());
        let scope = Scope::Streams;
        self.services.push(ServiceDraft { key, kind, at: port.span, origin, scope, trusts_global });
    }

    /// `guard tcp|udp|sctp [ADDR:]PORT auth://NAME…|streams;`
    pub(super) fn guard(&mut self, statement: &Statement) {
        const FORM: &str = "write it as `guard tcp 1935 auth://NAME;` or `guard udp 9998 streams;`";
        self.no_block(statement);
        let [proto, port, scope @ ..] = statement.values() else {
            self.sources
                .error(
                    statement.span(),
                    "missing-value",
                    "`guard` needs a protocol, a port and what guards it",
                )
                .help(FORM);
            return;
        };
        let proto = match &*proto.text {
            "tcp" => Some(Proto::Tcp),
            "udp" => Some(Proto::Udp),
            "sctp" => Some(Proto::Sctp),
            other => {
                self.sources
                    .error(proto.span, "unknown-word", format!("`{other}` is no protocol with ports"))
                    .help("guards are for tcp, udp and sctp");
                None
            }
        };
        let endpoint = self.endpoint(port);
        let scope = match scope {
            [] => {
                self.sources
                    .error(statement.span(), "missing-value", "this guard names no policy")
                    .help(FORM);
                return;
            }
            [word] if word.is("streams") => Scope::Streams,
            words => {
                let mut named = Vec::new();
                for word in words {
                    match word.text.strip_prefix("auth://") {
                        Some(name) if !name.is_empty() => named.push(word.clone()),
                        _ => {
                            let message = format!("`{}` is no policy", word.as_written());
                            self.sources.error(word.span, "unknown-word", message).help(FORM);
                            return;
                        }
                    }
                }
                Scope::Named(named)
            }
        };
        let (Some(proto), Some((address, number))) = (proto, endpoint) else { return };
        let key = ServiceKey { proto, port: number, address };
        let origin = self.sources.origin(statement.span());
        let (kind, at) = (KindDraft::Guard, port.span);
        self.services.push(ServiceDraft { key, kind, at, origin, scope, trusts_global: false });
    }

    /// `http`, `rtmp`, `srt` … at the top of a file: where the media server listens.
    pub(super) fn listener(&mut self, statement: &Statement) {
        // A block can name the port too; without one there is nothing to know.
        let inner = || statement.statements().iter().find(|inner| inner.directive().is("port"));
        let Some(word) = statement.values().first().or_else(|| inner()?.values().first()) else { return };
        let directive = &statement.directive().text;
        let Some((address, port)) = self.server_endpoint(word) else { return };
        let proto = if &**directive == "srt" { Proto::Udp } else { Proto::Tcp };
        if proto == Proto::Udp {
            self.shared_srt.insert(port);
        }
        let key = ServiceKey { proto, port, address };
        let origin = self.sources.origin(statement.span());
        self.listeners.push(Listener { directive: (&**directive).into(), key, origin });
    }

    /// `srt_play { port 9998; }` and `srt_publish`: the port, if one is named.
    pub(super) fn srt_block(&mut self, statement: &Statement) -> Option<u16> {
        let port = statement.statements().iter().find(|inner| inner.directive().is("port"))?;
        let word = self.first_value(port, "a port")?;
        let (address, port) = self.server_endpoint(word)?;
        let key = ServiceKey { proto: Proto::Udp, port, address };
        let origin = self.sources.origin(statement.span());
        self.listeners.push(Listener { directive: (&*statement.directive().text).into(), key, origin });
        Some(port)
    }

    /// `srt_play` and `srt_publish` at the top of a file: an SRT port that every stream shares.
    pub(super) fn shared_srt_port(&mut self, statement: &Statement) {
        let port = self.srt_block(statement);
        self.shared_srt.extend(port);
    }

    /// Finds out which policies each service can meet.
    pub(super) fn resolve_services(&mut self, streams: &Resolved) -> Vec<Service> {
        let mut seen: HashMap<ServiceKey, Span> = HashMap::new();
        let mut services = Vec::new();
        let mut places = Vec::new();
        for draft in std::mem::take(&mut self.services) {
            let ServiceDraft { key, kind, at, origin, scope, trusts_global } = draft;
            let kind = match kind {
                KindDraft::Guard => ServiceKind::Guard,
                KindDraft::Gate(target, make) => {
                    let Some(upstream) = self.find_upstream(target) else { continue };
                    let mut gate = make(upstream);
                    if trusts_global {
                        gate.trust.real_ip.clone_from(&self.real_ip);
                    }
                    ServiceKind::Gate(gate)
                }
            };
            match seen.entry(key) {
                Entry::Occupied(earlier) => self.duplicate(&format!("the service {key}"), at, *earlier.get()),
                Entry::Vacant(place) => {
                    place.insert(at);
                }
            }
            let (mut policies, open) = match scope {
                Scope::Named(words) => {
                    let ids = words.iter().filter_map(|word| {
                        let name = word.text.trim_start_matches("auth://").to_owned();
                        self.named_policy(&name, word.span)
                    });
                    (ids.collect(), None)
                }
                Scope::Streams => streams.seen_by(key, &kind),
            };
            policies.sort_unstable();
            policies.dedup();
            services.push(Service { key, kind, policies, open, origin });
            places.push(at);
        }
        self.find_loops(&services, &places);
        services
    }

    /// Reports gates whose upstream leads back to them: each request would go round until nothing is left.
    fn find_loops(&mut self, services: &[Service], places: &[Span]) {
        let next: Vec<Vec<usize>> = services.iter().map(|service| leads_to(services, service)).collect();
        for (start, at) in places.iter().enumerate() {
            let mut reached = HashSet::new();
            let mut left = next[start].clone();
            while let Some(index) = left.pop() {
                if reached.insert(index) {
                    left.extend(&next[index]);
                }
            }
            if reached.contains(&start) {
                let message = "the upstream of this gate leads back to the gate";
                self.sources
                    .error(*at, "gate-loop", message)
                    .help("name the media server's own port, which is another one than the gate's");
            }
        }
    }
}

/// The gates of this host that servers of a gate's upstream are.
fn leads_to(services: &[Service], from: &Service) -> Vec<usize> {
    match &from.kind {
        ServiceKind::Gate(gate) => gate.upstream.urls().filter_map(|url| gate_at(services, url)).collect(),
        ServiceKind::Guard => Vec::new(),
    }
}

/// The gate of this host that a server is.
fn gate_at(services: &[Service], server: &Url) -> Option<usize> {
    let host: Option<IpAddr> = match server.host()? {
        Host::Ipv4(address) => Some(address.into()),
        Host::Ipv6(address) => Some(address.to_canonical()),
        Host::Domain(name) if name.eq_ignore_ascii_case("localhost") => None,
        Host::Domain(_) => return None,
    };
    let port = server.port_or_known_default()?;
    // An address of no gate can be another host's; only these are surely this one's.
    let here = host.is_none_or(|host| host.is_loopback() || host.is_unspecified());
    services.iter().position(|service| {
        let bound = service.key.address;
        let same = match bound {
            None => here,
            Some(bound) => {
                host == Some(bound)
                    || (here && host.is_none_or(|host| host.is_unspecified()) && bound.is_loopback())
            }
        };
        matches!(service.kind, ServiceKind::Gate(_)) && service.key.port == port && same
    })
}

impl Resolved {
    /// The policies of the streams on a port, and why a request to it may meet none.
    fn seen_by(&self, key: ServiceKey, kind: &ServiceKind) -> (Vec<PolicyId>, Option<OpenReason>) {
        let of_port = key.proto == Proto::Udp
            && !self.shared_srt.contains(&key.port)
            && self.list.iter().any(|(_, ports)| ports.contains(&key.port));
        let list = self.list.iter().filter(|(_, ports)| !of_port || ports.contains(&key.port));
        let mut policies = Vec::new();
        let mut open = None;
        let mut empty = true;
        for (Stream { name, on_play, on_publish, max_sessions: _, origin }, _) in list {
            empty = false;
            match on_play {
                Access::Policy(id) => policies.push(*id),
                Access::Open => {
                    open.get_or_insert_with(|| OpenReason::PlayWithoutPolicy(name.clone(), origin.clone()));
                }
                Access::Closed => {}
            }
            match on_publish {
                Access::Policy(id) => policies.push(*id),
                // A gate refuses what no policy allows to be published.
                Access::Open if *kind == ServiceKind::Guard => {
                    open.get_or_insert_with(|| {
                        OpenReason::PublishWithoutPolicy(name.clone(), origin.clone())
                    });
                }
                Access::Open | Access::Closed => {}
            }
        }
        // A gate answers 404 to names that are not in the configuration.
        if *kind == ServiceKind::Guard && !of_port {
            for (name, origin, judge) in &self.other_servers {
                empty = false;
                match judge {
                    Some(id) => policies.push(*id),
                    None => {
                        open.get_or_insert_with(|| OpenReason::OtherServer(name.clone(), origin.clone()));
                    }
                }
            }
        }
        // Where every stream is disabled nothing can be admitted, and nothing is offloaded either: an empty
        // intersection would drop every source, those of a stream that is enabled in a moment among them.
        let nothing = empty || (policies.is_empty() && open.is_none());
        (policies, if nothing { Some(OpenReason::NoStreams) } else { open })
    }
}
