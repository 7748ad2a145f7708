//! Bans as requests are compared with them.

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
};

use ipnet::IpNet;

use super::{Ban, BanTable, Boottime, Place, Scope};
use crate::{address::canonical, model::Proto};

/// Bans as the gate asks for them. `never_drop` does not count here: it is about the NIC.
#[derive(Clone, Debug, Default)]
pub struct BanIndex {
    bans: HashMap<Place, Arc<Ban>>,
    /// The prefix lengths that occur, for IPv4 and IPv6.
    lengths: [Vec<u8>; 2],
}

impl BanIndex {
    /// The bans of a book, as they are now.
    pub fn new(book: &BanTable) -> Self {
        let mut lengths = [BTreeSet::new(), BTreeSet::new()];
        let mut bans = HashMap::with_capacity(book.len());
        for ban in book.iter() {
            lengths[usize::from(ban.net.addr().is_ipv6())].insert(ban.net.prefix_len());
            bans.insert(ban.place(), ban.clone());
        }
        Self { bans, lengths: lengths.map(|lengths| lengths.into_iter().collect()) }
    }

    /// The ban on a client of a port; of several that are in force, the one that ends last.
    pub fn find(&self, client: IpAddr, proto: Proto, port: u16, now: Boottime) -> Option<&Arc<Ban>> {
        if self.bans.is_empty() {
            return None;
        }
        let client = canonical(client);
        let mut found: Option<&Arc<Ban>> = None;
        for length in &self.lengths[usize::from(client.is_ipv6())] {
            let Ok(net) = IpNet::new(client, *length) else { continue };
            for scope in [Scope::Everywhere, Scope::Service { proto, port }] {
                let ban = self.bans.get(&(scope, net.trunc())).filter(|ban| ban.holds(now));
                if let Some(ban) = ban
                    && found.is_none_or(|found| ban.outlasts(found.until))
                {
                    found = Some(ban);
                }
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_client_falls_under_the_ban_that_ends_last() {
        let mut book = BanTable::default();
        let now = Boottime { nanoseconds: 1_000 };
        let tcp = Scope::Service { proto: Proto::Tcp, port: 80 };
        let udp = Scope::Service { proto: Proto::Udp, port: 80 };
        for (scope, net, seconds) in [
            (Scope::Everywhere, "10.0.0.0/8", Some(1000)),
            (Scope::Everywhere, "10.1.0.0/16", Some(500)),
            (tcp, "10.1.1.1/32", None),
            (Scope::Everywhere, "10.1.1.1/32", Some(2000)),
            (udp, "11.0.0.0/8", None),
            (Scope::Everywhere, "12.0.0.0/8", Some(0)),
            (Scope::Everywhere, "2001:db8::/32", None),
        ] {
            book.put((scope, net.parse().unwrap()), seconds.map(Duration::from_secs), None, now, 0).unwrap();
        }
        let banned = BanIndex::new(&book);
        let found = |client: &str, port| {
            banned
                .find(client.parse().unwrap(), Proto::Tcp, port, now)
                .map(|ban| (ban.net.to_string(), ban.scope))
        };
        let everywhere = |net: &str| Some((net.to_owned(), Scope::Everywhere));
        assert_eq!(found("10.2.0.1", 80), everywhere("10.0.0.0/8"));
        assert_eq!(found("10.1.0.1", 80), everywhere("10.0.0.0/8"), "it ends after the /16");
        assert_eq!(found("10.1.1.1", 80), Some(("10.1.1.1/32".to_owned(), tcp)));
        assert_eq!(found("::ffff:10.1.1.1", 81), everywhere("10.1.1.1/32"));
        assert_eq!(found("11.0.0.1", 80), None, "another protocol's port");
        assert_eq!(found("12.0.0.1", 80), None, "it has run out");
        assert_eq!(found("2001:db8::1", 1), everywhere("2001:db8::/32"));
        assert_eq!(found("2001:db9::1", 1), None);
        assert!(BanIndex::default().find("10.0.0.1".parse().unwrap(), Proto::Tcp, 80, now).is_none());
    }
}
