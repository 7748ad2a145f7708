//! Configurations made by hand, without the parser.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has to fail")]

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use filter_user::{
    backend::{Question, RequestType},
    gate::{Gates, Limits},
    http::Limits as HttpLimits,
    judge::Request,
    model::{
        Access, Action, AddressHeader, Authority, BackendOptions, BackendRule, Config, Country, Engine, Gate,
        Matcher, MaxSessions, Operation, Origin, Policy, PolicyBuilder, PolicyId, Proto, Purpose, RealIp,
        Rule, Service, ServiceKey, ServiceKind, SessionSettings, Stream, Trust, Upstream,
    },
    session::{SessionLimits, Sessions, Snapshot},
};
use url::Url;

fn origin(line: u32) -> Origin {
    Origin { file: "made.conf".into(), line, column: 1 }
}

/// A policy, line by line.
#[derive(Debug)]
pub struct Rules(PolicyBuilder);

impl Rules {
    /// An empty policy.
    pub fn new(name: &str) -> Self {
        Self(PolicyBuilder {
            name: name.into(),
            origin: origin(1),
            rules: Vec::new(),
            backends: Vec::new(),
            default_allow: None,
            max_sessions: MaxSessions::default(),
            purpose: Purpose::Judges,
        })
    }

    fn rule(mut self, action: Action, matcher: Matcher, text: &str) -> Self {
        let word = match action {
            Action::Allow => "allow",
            Action::Deny => "deny",
            Action::Drop => "drop",
        };
        let origin = origin(2 + self.0.rules.len() as u32);
        self.0.rules.push(Rule { action, matcher, text: format!("{word} {text}").into(), origin });
        self
    }

    /// `ACTION token VALUE`.
    pub fn token(self, action: Action, value: &str) -> Self {
        self.rule(action, Matcher::Token(value.into()), &format!("token {value}"))
    }

    /// `ACTION ip VALUE`.
    pub fn ip(self, action: Action, value: &str) -> Self {
        self.rule(action, Matcher::Ip(value.parse().unwrap()), &format!("ip {value}"))
    }

    /// `ACTION country VALUE`.
    pub fn country(self, action: Action, value: &str) -> Self {
        self.rule(action, Matcher::Country(Some(Country::new(value).unwrap())), &format!("country {value}"))
    }

    /// `ACTION ua VALUE`.
    pub fn ua(self, action: Action, value: &str) -> Self {
        self.rule(action, Matcher::Ua(value.into()), &format!("ua {value}"))
    }

    /// `backend URL`.
    pub fn backend(self, url: &str) -> Self {
        self.backend_with(url, BackendOptions::default())
    }

    /// `backend URL { … }`.
    pub fn backend_with(mut self, url: &str, options: BackendOptions) -> Self {
        let authority = match url.strip_prefix("securetoken://") {
            Some(key) => Authority::SecureToken(key.into()),
            None if url.starts_with("iptv:") => Authority::Iptv,
            None => Authority::Http(Url::parse(url).unwrap()),
        };
        let text = format!("backend {url}").into();
        self.0.backends.push(BackendRule { authority, options, text, origin: origin(50) });
        self
    }

    /// `max_sessions MOST per token`.
    pub fn most_per_token(mut self, most: u32) -> Self {
        self.0.max_sessions.per_token = Some((most, origin(60)));
        self
    }

    /// `max_sessions MOST per address`.
    pub fn most_per_address(mut self, most: u32) -> Self {
        self.0.max_sessions.per_address = Some((most, origin(61)));
        self
    }

    /// `allow default`.
    pub fn allow_default(mut self) -> Self {
        self.0.default_allow = Some(origin(99));
        self
    }

    /// The policy.
    pub fn build(self) -> Policy {
        self.0.build()
    }
}

/// Where test gates listen: a port that the system chooses.
pub const LOOPBACK: ServiceKey =
    ServiceKey { proto: Proto::Tcp, port: 0, address: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)) };

/// A configuration, piece by piece.
#[derive(Debug)]
pub struct Made {
    /// What was made so far; change what you need.
    pub config: Config,
    /// Addresses with a country.
    pub countries: Vec<(IpAddr, Country)>,
}

impl Default for Made {
    fn default() -> Self {
        Self::new()
    }
}

impl Made {
    /// Nothing protected, nothing judged.
    pub fn new() -> Self {
        Self {
            config: Config {
                engine: Engine::default(),
                policies: Vec::new(),
                streams: HashMap::new(),
                services: Vec::new(),
                interfaces: Vec::new(),
                never_drop: Vec::new(),
                shadow: false,
                list_guard: true,
                all_or_nothing: false,
                geoip: None,
                token_name: "token".into(),
                no_auto_token: false,
                backend_timeout: Duration::from_secs(3),
                sessions: SessionSettings::default(),
                limits: Default::default(),
                listeners: Vec::new(),
                files: Vec::new(),
            },
            countries: Vec::new(),
        }
    }

    /// Adds a policy.
    pub fn policy(&mut self, rules: Rules) -> PolicyId {
        self.config.policies.push(rules.build());
        PolicyId(self.config.policies.len() as u32 - 1)
    }

    /// Adds a stream.
    pub fn stream(mut self, name: &str, on_play: Access, on_publish: Access) -> Self {
        let stream =
            Stream { name: name.into(), on_play, on_publish, max_sessions: None, origin: origin(60) };
        self.config.streams.insert(name.into(), stream);
        self
    }

    /// Adds a stream `name` that `rules` judges, and that nobody can publish to.
    pub fn judged(mut self, name: &str, rules: Rules) -> Self {
        let policy = self.policy(rules);
        self.stream(name, Access::Policy(policy), Access::Closed)
    }

    /// Adds a gate.
    pub fn gate(mut self, key: ServiceKey, upstream: &str) -> Self {
        self.config.services.push(Service {
            key,
            kind: ServiceKind::Gate(Gate::new(Url::parse(upstream).unwrap())),
            policies: Vec::new(),
            open: None,
            origin: origin(70),
        });
        self
    }

    /// Adds a gate whose requests go to any of these servers.
    pub fn gate_to(mut self, key: ServiceKey, upstream: Upstream) -> Self {
        self = self.gate(key, "http://127.0.0.1:9");
        self.last_gate().upstream = Arc::new(upstream);
        self
    }

    /// The last gate.
    pub fn last_gate(&mut self) -> &mut Gate {
        match &mut self.config.services.last_mut().unwrap().kind {
            ServiceKind::Gate(gate) => gate,
            ServiceKind::Guard => panic!("a gate comes last"),
        }
    }

    /// Makes the last gate trust proxies: those that name their client in a header, and those that announce it.
    pub fn trusting(mut self, real_ip: &[(&str, AddressHeader)], proxy_protocol: &[&str]) -> Self {
        let from = |net: &str| (net.parse().unwrap(), origin(80));
        let names = |(net, header): &(&str, AddressHeader)| RealIp { from: vec![from(net)], header: *header };
        self.last_gate().trust = Trust {
            real_ip: real_ip.iter().map(names).collect(),
            proxy_protocol: proxy_protocol.iter().map(|net| from(net)).collect(),
        };
        self
    }

    /// The snapshot.
    pub fn snapshot(self) -> Arc<Snapshot> {
        let countries = Box::new(Known(self.countries));
        Arc::new(Snapshot { config: self.config, countries })
    }
}

struct Known(Vec<(IpAddr, Country)>);

impl filter_user::model::Countries for Known {
    fn country(&self, address: IpAddr) -> Option<Country> {
        self.0.iter().find(|(known, _)| *known == address).map(|(_, country)| *country)
    }
}

/// Limits that let tests be fast.
pub fn quick() -> Limits {
    let http = HttpLimits { linger_time: Duration::from_millis(200), ..HttpLimits::default() };
    Limits { http, ..Limits::default() }
}

/// A gate at work.
#[derive(Debug)]
pub struct Running {
    /// The gates.
    pub gates: Gates,
    /// The sessions.
    pub sessions: Arc<Sessions>,
    /// Where the first gate listens.
    pub address: std::net::SocketAddr,
}

impl Running {
    /// Serves `made` with limits of your own.
    pub fn with(made: Made, limits: Limits, session_limits: SessionLimits) -> Self {
        let snapshot = made.snapshot();
        let sessions = Sessions::new(snapshot.clone(), session_limits);
        let gates = Gates::new(sessions.clone(), limits);
        gates.apply(&snapshot).unwrap();
        let address = gates.address(snapshot.config.services[0].key).unwrap();
        Self { gates, sessions, address }
    }

    /// Serves `made`.
    pub fn new(made: Made) -> Self {
        Self::with(made, quick(), SessionLimits::default())
    }
}

/// A request for the playlist of the stream `cam` at port 80, from `address`, that shows nothing else of its player.
pub fn request(address: impl Into<IpAddr>) -> Request {
    Request {
        operation: Operation::Play,
        path: "cam/index.m3u8".into(),
        proto: "hls",
        address: address.into(),
        port: 80,
        token: None,
        auto_token: None,
        ua: None,
        referer: None,
        origin: None,
        host: None,
        query: None,
    }
}

/// The first question about a request for the stream `cam`.
pub fn first_question(request: Request) -> Question {
    Question {
        name: "cam".into(),
        address: request.address,
        request: Arc::new(request),
        request_type: RequestType::New,
        request_number: 0,
        session_id: "id".into(),
        duration: Duration::ZERO,
        bytes: 0,
        stream_clients: 0,
        total_clients: 0,
    }
}
