//! What a reload would change.

use std::{net::IpAddr, path::PathBuf};

use super::{Difference, Fault, Next, Operations, Reply, ViewersChange};
use crate::{
    model::ServiceKind,
    offload::{Compiled, changes},
    session::{Sessions, Snapshot},
    state::Recording,
    watch::lockouts,
};

/// What `now` drops at the NIC otherwise than `before`.
pub fn difference(before: &Compiled, now: &Compiled) -> Difference {
    let shadow = (before.shadow != now.shadow).then_some(now.shadow);
    Difference { services: changes(before, now), shadow, viewers: None }
}

impl Operations {
    /// Says what loading the configuration, or the one at `config`, would change.
    pub(super) async fn diff(&self, config: Option<PathBuf>, operator: Option<IpAddr>) -> Reply<Difference> {
        let (path, files) = match config {
            Some(path) if path != self.parts.path => {
                let files = Recording::with_former(&self.parts.last_good, &path);
                (path, files)
            }
            _ => (self.parts.path.clone(), self.files()),
        };
        let next = match Next::load(path, files).await {
            Ok(next) => next,
            Err(error) => return Reply::refused(error.fault(), format!("{error}")),
        };
        let broke_off = |error: &dyn std::fmt::Display| Reply::refused(Fault::System, error.to_string());
        let before = match self.parts.enforcer.run("comparison", |enforced| enforced.compiled().clone()).await
        {
            Ok(before) => before,
            Err(error) => return broke_off(&error),
        };
        let sessions = self.parts.sessions.clone();
        let compared = tokio::task::spawn_blocking(move || {
            let now = next.layout.compiled();
            let mut difference = difference(&before, now);
            difference.viewers = Some(viewers(&sessions, &next.snapshot, now));
            let message = next.report.render_with(&lockouts(now, operator));
            Reply { message, ..Reply::done(difference) }
        });
        compared.await.unwrap_or_else(|error| broke_off(&error))
    }
}

fn viewers(sessions: &Sessions, snapshot: &Snapshot, now: &Compiled) -> ViewersChange {
    let services = snapshot.config.services.iter().enumerate();
    let gates: Vec<usize> = services
        .filter(|(_, service)| matches!(service.kind, ServiceKind::Gate(_)))
        .map(|(index, _)| index)
        .collect();
    let list = sessions.list();
    let dropped = |address| {
        !now.shadow && !gates.is_empty() && gates.iter().all(|gate| now.verdict(address, *gate).is_some())
    };
    ViewersChange {
        sessions: list.len() as u64,
        sessions_dropped: list.iter().filter(|session| dropped(session.key.address)).count() as u64,
        transfers: sessions.outlook(snapshot),
    }
}
