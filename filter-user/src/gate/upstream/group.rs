//! The servers of an upstream, and which of them gets a request.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use serde::{Deserialize, Serialize};
use tokio::task::AbortHandle;

use super::{
    check,
    connect::Connector,
    health::ServerState,
    server::{Server, ServerStatus},
};
use crate::model::{self, Upstream};

/// An upstream at work.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) upstream: Arc<Upstream>,
    pub(super) servers: Vec<Arc<Server>>,
    /// Where the next choice between equals begins.
    next: AtomicUsize,
    checks: Vec<AbortHandle>,
}

/// An upstream and how its servers stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpstreamStatus {
    /// Its name.
    pub upstream: Arc<str>,
    /// Its servers, as they stand in the configuration.
    pub servers: Vec<ServerStatus>,
}

impl UpstreamStatus {
    /// Whether no server works.
    pub fn is_out(&self) -> bool {
        self.servers.iter().all(|server| server.state != ServerState::Up)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for check in &self.checks {
            check.abort();
        }
    }
}

impl Group {
    /// An upstream whose servers are looked at only by requests. What `former` knows of those that are the same stays.
    pub(super) fn new(upstream: Arc<Upstream>, former: Option<&Self>) -> Self {
        let alike = former.filter(|former| {
            former.upstream.proxy_protocol == upstream.proxy_protocol
                && former.upstream.health == upstream.health
        });
        let known = |settings: &model::UpstreamServer| {
            alike?.servers.iter().find(|server| server.settings == *settings).cloned()
        };
        let make = |settings: &model::UpstreamServer| {
            known(settings).unwrap_or_else(|| {
                Arc::new(Server::new(upstream.name.clone(), settings.clone(), upstream.proxy_protocol))
            })
        };
        let servers = upstream.servers.iter().map(make).collect();
        Self { upstream, servers, next: AtomicUsize::new(0), checks: Vec::new() }
    }

    /// Looks at the servers from now on, if the configuration says so. Must be called inside a tokio runtime.
    pub(super) fn watched(mut self, connector: &Connector) -> Self {
        if let Some(health) = &self.upstream.health {
            let look = |server: &Arc<Server>| {
                tokio::spawn(check::watch(server.clone(), connector.clone(), health.clone())).abort_handle()
            };
            self.checks = self.servers.iter().map(look).collect();
        }
        self
    }

    /// The server for a request that these could not take: of those that are up the one with the fewest requests for its
    /// weight. A server that fails gets a request when it is due to be tried and the request can be sent again, or when no
    /// other is up; a server that is down gets none.
    pub(super) fn pick(&self, tried: &[Arc<Server>], can_try: bool) -> Option<&Arc<Server>> {
        if let [only] = &self.servers[..] {
            return (tried.is_empty() && only.health.state() != ServerState::Down).then_some(only);
        }
        let left = |server: &&Arc<Server>| !tried.iter().any(|tried| Arc::ptr_eq(tried, server));
        let start = self.next.fetch_add(1, Ordering::Relaxed) % self.servers.len();
        let (before, from) = self.servers.split_at(start);
        let mut best: Option<(ServerState, &Arc<Server>)> = None;
        for server in from.iter().chain(before).filter(left) {
            let state = server.health.state();
            match state {
                ServerState::Down => continue,
                ServerState::Failing if can_try && server.health.try_now() => return Some(server),
                ServerState::Failing | ServerState::Up => {}
            }
            let better = best.is_none_or(|(other_state, other)| {
                state < other_state || (state == other_state && less_loaded(server, other))
            });
            if better {
                best = Some((state, server));
            }
        }
        best.map(|(_, server)| server)
    }

    pub(super) fn status(&self) -> UpstreamStatus {
        UpstreamStatus {
            upstream: self.upstream.name.clone(),
            servers: self.servers.iter().map(|server| server.status()).collect(),
        }
    }
}

/// Whether one more request is a smaller load for this server than for the other.
fn less_loaded(server: &Server, other: &Server) -> bool {
    let after = |server: &Server| server.active() as u64 + 1;
    after(server) * u64::from(other.settings.weight) < after(other) * u64::from(server.settings.weight)
}

#[cfg(test)]
mod tests {
    use std::{path::PathBuf, time::Duration};

    use super::*;
    use crate::model::{ServerAddress, UpstreamServer};

    fn group(weights: &[u32]) -> Group {
        let server = |(n, weight): (usize, &u32)| UpstreamServer {
            weight: *weight,
            max_fails: 1,
            fail_timeout: Duration::from_secs(3600),
            ..UpstreamServer::new(ServerAddress::Unix(PathBuf::from(format!("/{n}"))))
        };
        let servers = weights.iter().enumerate().map(server).collect();
        let upstream = Upstream { name: "media".into(), servers, health: None, proxy_protocol: false };
        Group::new(Arc::new(upstream), None)
    }

    /// How many of so many requests at once each server has.
    fn spread(group: &Group, requests: usize) -> Vec<usize> {
        let all: Vec<_> = (0..requests).map(|_| group.pick(&[], true).map(Server::begin)).collect();
        let load = group.servers.iter().map(|server| server.active()).collect();
        assert!(all.iter().all(Option::is_some));
        load
    }

    #[test]
    fn the_server_with_the_fewest_requests_for_its_weight_gets_the_next() {
        assert_eq!(spread(&group(&[1, 1, 1]), 9), [3, 3, 3]);
        assert_eq!(spread(&group(&[3, 1]), 8), [6, 2]);
        let group = group(&[1, 1]);
        let long: Vec<_> = (0..5).map(|_| group.servers[0].begin()).collect();
        assert_eq!(spread(&group, 5), [5, 5]);
        drop(long);
        assert_eq!(spread(&group, 4), [2, 2]);
    }

    #[test]
    fn those_without_requests_take_turns() {
        let group = group(&[1, 1, 1]);
        let first = |_| group.pick(&[], true).map(|server| server.address().to_string()).unwrap();
        let picked: std::collections::BTreeSet<_> = (0..3).map(first).collect();
        assert_eq!(picked.len(), 3);
    }

    #[test]
    fn a_server_that_fails_gets_requests_only_while_no_other_is_up() {
        let group = group(&[1, 1]);
        group.servers[0].failed("refused");
        assert_eq!(spread(&group, 4), [0, 4]);
        assert!(!group.status().is_out());
        group.servers[1].failed("refused");
        assert_eq!(spread(&group, 4), [2, 2], "better than none");
        assert!(group.status().is_out());
        let other = group.pick(&[group.servers[0].clone()], true).unwrap();
        assert!(Arc::ptr_eq(other, &group.servers[1]));
        assert!(group.pick(&group.servers, true).is_none(), "all were tried");
    }

    #[test]
    fn a_server_that_is_down_gets_none() {
        for group in [group(&[1, 1]), group(&[1])] {
            for server in &group.servers {
                server.checked(Err("503".into()));
                server.checked(Err("503".into()));
            }
            assert!(group.pick(&[], true).is_none());
            group.servers[0].checked(Ok(()));
            assert!(group.pick(&[], true).is_some());
        }
    }

    #[test]
    fn a_reload_forgets_only_what_has_changed() {
        let former = group(&[1, 1]);
        former.servers[0].failed("refused");
        let mut upstream = (*former.upstream).clone();
        upstream.servers[1].weight = 2;
        let changed = Group::new(Arc::new(upstream.clone()), Some(&former));
        assert!(Arc::ptr_eq(&changed.servers[0], &former.servers[0]));
        assert!(!Arc::ptr_eq(&changed.servers[1], &former.servers[1]));
        upstream.proxy_protocol = true;
        let announced = Group::new(Arc::new(upstream), Some(&former));
        assert!(!Arc::ptr_eq(&announced.servers[0], &former.servers[0]));
    }
}
