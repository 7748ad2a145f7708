//! What the NIC will not drop whatever is banned, and what a reply says of it.

use std::net::IpAddr;

use ipnet::IpNet;

use super::order::shown;
use crate::{
    bans::{Ban, Exempt, Scope},
    config::is_large_network,
    model::{Config, Origin, ServiceKey, Trust},
};

/// Lines of each kind that a reply names.
const MOST_NOTES: usize = 10;

/// What the configuration in force exempts from bans at the NIC.
#[derive(Debug, Default)]
pub(super) struct Exemptions {
    pub(super) exempt: Exempt,
    never_drop: Vec<(IpNet, Origin)>,
    /// Trusted proxies, each with its port.
    proxies: Vec<(ServiceKey, IpNet, Origin)>,
}

impl Exemptions {
    pub(super) fn of(config: &Config) -> Self {
        let proxies = config.services.iter().flat_map(|service| {
            let prefixes = service.trust().into_iter().flat_map(Trust::prefixes);
            prefixes.map(|(net, origin)| (service.key, *net, origin.clone()))
        });
        Self { exempt: Exempt::of(config), never_drop: config.never_drop.clone(), proxies: proxies.collect() }
    }

    /// The `never_drop` that keeps the NIC from dropping any of a ban's addresses.
    pub(super) fn never_drop(&self, ban: &Ban) -> Option<&Origin> {
        self.never_drop.iter().find(|(exempt, _)| exempt.contains(&ban.net)).map(|(_, origin)| origin)
    }

    /// What the NIC will not drop of these addresses.
    pub(super) fn notes(&self, (scope, net): (Scope, IpNet), gated: bool) -> Vec<String> {
        let who =
            if gated { "gates refuse it" } else { "no gate serves such a port, so that nobody refuses it" };
        let touches = |exempt: &IpNet| exempt.contains(&net) || net.contains(exempt);
        let what = |exempt: IpNet| shown(if exempt.contains(&net) { net } else { exempt });
        let never = self.never_drop.iter().filter(|(exempt, _)| touches(exempt)).map(|(exempt, origin)| {
            let what = what(*exempt);
            format!("the NIC will not drop {what}: `never_drop {exempt}` ({origin}); {who}")
        });
        let mut notes = some(never, "lines of `never_drop` lie in this prefix");
        let here = |key: &ServiceKey| match scope {
            Scope::Everywhere => true,
            Scope::Service { proto, port } => (key.proto, key.port) == (proto, port),
        };
        let here: Vec<_> = self.proxies.iter().filter(|(key, ..)| here(key)).collect();
        let touched = here.iter().filter(|(_, proxy, _)| touches(proxy)).map(|(key, proxy, origin)| {
            let what = what(*proxy);
            format!(
                "the NIC will not drop {what} on {key}: {proxy} ({origin}) is a trusted proxy, whose packets carry the \
                 requests of others; the gate refuses requests of its own"
            )
        });
        notes.extend(some(touched, "trusted proxies lie in this prefix"));
        if !here.is_empty() {
            let mut keys: Vec<String> = here.iter().map(|(key, ..)| key.to_string()).collect();
            keys.dedup();
            notes.push(format!(
                "what reaches {} through a trusted proxy is refused by the gate, not at the NIC",
                keys.join(", ")
            ));
        }
        notes
    }
}

/// What may not be meant about banning these addresses, `own` being those of this host.
pub(super) fn odd(net: IpNet, own: &[IpAddr]) -> Vec<String> {
    let mut notes = Vec::new();
    if is_large_network(&net) {
        notes.push(format!("{net} is a very large network: look whether it is meant"));
    }
    let here: Vec<&IpAddr> = own.iter().filter(|address| net.contains(*address)).collect();
    if let [first, more @ ..] = &here[..] {
        let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
        notes.push(format!("{first}{more}, an address of this host, lies in {}", shown(net)));
    }
    notes
}

/// The first of these, and how many more there are.
pub(super) fn some(notes: impl Iterator<Item = String>, more: &str) -> Vec<String> {
    let mut notes: Vec<String> = notes.collect();
    if notes.len() > MOST_NOTES {
        let count = notes.split_off(MOST_NOTES).len();
        notes.push(format!("{count} more {more}"));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_networks_and_own_addresses_are_told() {
        let own: Vec<IpAddr> =
            ["192.0.2.5", "192.0.2.6", "2001:db8::5"].map(|text| text.parse().unwrap()).into();
        let odd = |net: &str| odd(net.parse().unwrap(), &own);
        assert_eq!(odd("192.0.2.4/32"), [""; 0]);
        assert_eq!(odd("192.0.2.5/32"), ["192.0.2.5, an address of this host, lies in 192.0.2.5"]);
        assert_eq!(
            odd("192.0.2.0/24"),
            ["192.0.2.5 and 1 more, an address of this host, lies in 192.0.2.0/24"]
        );
        assert_eq!(odd("10.0.0.0/8"), [""; 0]);
        assert_eq!(odd("10.0.0.0/7"), ["10.0.0.0/7 is a very large network: look whether it is meant"]);
        assert_eq!(odd("2001::/16"), ["2001:db8::5, an address of this host, lies in 2001::/16"]);
        assert_eq!(odd("2000::/15").len(), 2);
    }

    #[test]
    fn a_reply_says_who_is_exempt_where() {
        let config = crate::config::tests::good(
            "auth_backend p { allow default; }\nstream s { on_play auth://p; }\nnever_drop 10.1.0.0/16;\n\
             gate 80 { upstream http://127.0.0.1:8080; real_ip from 10.2.0.1; }\n\
             gate 81 { upstream http://127.0.0.1:8080; }\n",
        );
        let exemptions = Exemptions::of(&config);
        let notes = |scope: &str, net: &str| {
            let scope = if scope.is_empty() { Scope::Everywhere } else { scope.parse().unwrap() };
            exemptions.notes((scope, net.parse().unwrap()), true)
        };
        let through = "what reaches 80/tcp through a trusted proxy is refused by the gate, not at the NIC";
        assert_eq!(notes("81/tcp", "10.2.0.1/32"), [""; 0]);
        assert_eq!(notes("", "192.0.2.1/32"), [through]);
        let notes = notes("", "10.0.0.0/8");
        assert_eq!(notes.len(), 3, "{notes:#?}");
        assert!(
            notes[0].starts_with("the NIC will not drop 10.1.0.0/16: `never_drop 10.1.0.0/16` ("),
            "{notes:#?}"
        );
        assert!(
            notes[1].starts_with("the NIC will not drop 10.2.0.1 on 80/tcp: 10.2.0.1/32 ("),
            "{notes:#?}"
        );
        assert_eq!(notes[2], through);
    }
}
