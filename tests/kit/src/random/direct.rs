//! Random configurations as nicgate's own model, without the parser in between.

use std::{collections::HashMap, path::PathBuf, sync::Arc, time::Duration};

use filter_user::model::{
    self, Access, BackendRule, Country, Host, List, Matcher, OpenReason, Origin, PolicyBuilder, PolicyId,
    Proto, Purpose, ServiceKey,
};
use ipnet::IpNet;
use url::Url;

use crate::oracle::{Action, Authority, Config, Policy, Prefix, ServiceKind, Value};

fn net(prefix: &Prefix) -> IpNet {
    IpNet::new(prefix.first(), prefix.len as u8).expect("a length that the family has")
}

fn origin(line: usize) -> Origin {
    Origin { file: "direct".into(), line: line as u32 + 1, column: 1 }
}

fn build_policy(policy: &Policy) -> model::Policy {
    let rules = policy.rules.iter().enumerate().map(|(i, rule)| {
        let matcher = match &rule.value {
            Value::Token(token) => Matcher::Token(token.as_str().into()),
            Value::TokenFile(path, tokens) => Matcher::TokenFile(List {
                path: path.as_str().into(),
                entries: Arc::new(tokens.iter().map(|token| token.as_str().into()).zip(1..).collect()),
            }),
            Value::Ip(prefix) => Matcher::Ip(net(prefix)),
            Value::IpFile(path, prefixes) => Matcher::IpFile(List {
                path: path.as_str().into(),
                entries: Arc::new(prefixes.iter().map(net).zip(1..).collect()),
            }),
            Value::Country(code) if code == "unknown" => Matcher::Country(None),
            Value::Country(code) => Matcher::Country(Some(Country::new(code).expect("two letters"))),
            Value::Ua(part) => Matcher::Ua(part.as_str().into()),
            Value::CountryOutside(codes) => {
                let code =
                    |code: &String| (code != "unknown").then(|| Country::new(code).expect("two letters"));
                Matcher::CountryOutside(codes.iter().map(code).collect())
            }
            Value::PageElsewhere(hosts) => {
                Matcher::PageElsewhere(hosts.iter().map(|host| Host::new(host).expect("a host")).collect())
            }
        };
        let action = match rule.action {
            Action::Allow => model::Action::Allow,
            Action::Deny => model::Action::Deny,
            Action::Drop => model::Action::Drop,
        };
        let text = format!("{action:?} {matcher:?}").into();
        model::Rule { action, matcher, text, origin: origin(i) }
    });
    let backends = policy.backends.iter().map(|backend| {
        let (authority, text) = match backend {
            Authority::Http(number) => {
                let url = format!("http://127.0.0.1:9/auth/{number}");
                (model::Authority::Http(Url::parse(&url).expect("a URL")), format!("backend {url}"))
            }
            Authority::Iptv => (model::Authority::Iptv, "backend iptv://localhost".to_owned()),
        };
        BackendRule { authority, options: Default::default(), text: text.into(), origin: origin(0) }
    });
    PolicyBuilder {
        name: policy.name.as_str().into(),
        origin: origin(0),
        rules: rules.collect(),
        backends: backends.collect(),
        default_allow: policy.default_allow.then(|| origin(0)),
        purpose: Purpose::Judges,
        max_sessions: Default::default(),
    }
    .build()
}

/// By a header or by the PROXY protocol: what is dropped is the same.
fn trust(proxies: &[Prefix]) -> model::Trust {
    let from = proxies.iter().map(|proxy| (net(proxy), origin(0))).collect();
    model::Trust {
        real_ip: vec![model::RealIp { from, header: model::AddressHeader::default() }],
        proxy_protocol: Vec::new(),
    }
}

/// The configuration as nicgate's own model, made without any text: what the text has to load as, but
/// for the places and the wording of rules.
pub fn build(config: &Config) -> model::Config {
    let id = |i: usize| PolicyId(i as u32);
    let services = config.services.iter().map(|service| {
        let proto = match service.proto {
            "tcp" => Proto::Tcp,
            "udp" => Proto::Udp,
            _ => Proto::Sctp,
        };
        let (judges, open) = config.behind(service);
        let place = |judge: &&Policy| config.policies.iter().position(|policy| policy == *judge);
        let mut policies: Vec<PolicyId> = judges.iter().filter_map(place).map(id).collect();
        policies.sort_unstable();
        policies.dedup();
        // Only whether there is a reason is compared.
        let open = open.then_some(OpenReason::NoStreams);
        let kind = match service.kind {
            ServiceKind::Gate => {
                let upstream = Url::parse("http://127.0.0.1:8080").expect("a URL");
                let trust = trust(&service.proxies);
                model::ServiceKind::Gate(model::Gate { trust, ..model::Gate::new(upstream) })
            }
            _ => model::ServiceKind::Guard,
        };
        let key = ServiceKey { proto, port: service.port, address: None };
        model::Service { key, kind, policies, open, origin: origin(0) }
    });
    let streams = config.streams.iter().map(|stream| {
        let name: Arc<str> = stream.name.as_str().into();
        let on_play = stream.on_play.map_or(Access::Open, |i| Access::Policy(id(i)));
        let on_publish = stream
            .publish
            .map_or(Access::Closed, |publish| publish.map_or(Access::Open, |i| Access::Policy(id(i))));
        let stream =
            model::Stream { name: name.clone(), on_play, on_publish, max_sessions: None, origin: origin(0) };
        (name, stream)
    });
    let never_drop = config.never_drop.iter().map(|prefix| (net(prefix), origin(0)));
    model::Config {
        policies: config.policies.iter().map(build_policy).collect(),
        streams: streams.collect::<HashMap<_, _>>(),
        services: services.collect(),
        interfaces: Vec::new(),
        never_drop: never_drop.collect(),
        engine: model::Engine::default(),
        shadow: config.shadow,
        list_guard: true,
        all_or_nothing: false,
        geoip: Some((PathBuf::from("/conf/country.mmdb"), origin(0))),
        token_name: "token".into(),
        no_auto_token: false,
        backend_timeout: Duration::from_secs(3),
        sessions: model::SessionSettings::default(),
        limits: Default::default(),
        listeners: Vec::new(),
        files: Vec::new(),
    }
}
