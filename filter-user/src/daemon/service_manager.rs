//! What systemd is told, and what it keeps while no process of the service runs: the listening sockets.
//!
//! Sockets come from a socket unit, or from the store where a former process of the service put them. Without systemd,
//! nothing here does anything.

use std::{
    collections::BTreeMap,
    os::fd::{AsFd as _, FromRawFd as _, OwnedFd},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use sd_notify::NotifyState;

use crate::{gate::Inherited, model::ServiceKey};

/// The variables that only the process may see for which they were set.
pub(super) const VARIABLES: [&str; 3] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"];

/// The service manager that this process runs under, if any.
#[derive(Debug)]
pub(super) struct ServiceManager {
    /// What it keeps, as far as is known: names, and which socket each means (`None`: some former one).
    kept: Mutex<BTreeMap<String, Option<u64>>>,
}

impl ServiceManager {
    /// Also returns the sockets that it has passed. A second call in a process finds none.
    pub(super) fn find() -> (Self, Vec<Inherited>) {
        let passed = passed();
        let kept = passed.iter().map(|(name, _)| (name.clone(), None)).collect();
        let sockets = passed.into_iter().map(|(_, socket)| Inherited { gate: None, socket }).collect();
        (Self { kept: Mutex::new(kept) }, sockets)
    }

    /// Sockets of these gates, which another process of the service has handed over, are perhaps kept.
    pub(super) fn inherited(&self, gates: impl IntoIterator<Item = ServiceKey>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(gates.into_iter().map(|gate| (name(gate), None)));
    }

    /// The service is ready.
    pub(super) fn ready(&self) {
        notify(&[NotifyState::Ready], &[]);
    }

    /// The service is about to end.
    pub(super) fn stopping(&self) {
        notify(&[NotifyState::Stopping], &[]);
    }

    /// Another process is the service now.
    pub(super) fn main_process(&self, id: i32) {
        notify(&[NotifyState::MainPid(id.unsigned_abs())], &[]);
    }

    /// Has it keep these sockets and no others.
    pub(super) fn keep(&self, sockets: Vec<(ServiceKey, OwnedFd)>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let sockets: BTreeMap<String, (u64, OwnedFd)> = sockets
            .into_iter()
            .filter_map(|(gate, socket)| {
                let number = rustix::fs::fstat(&socket).ok()?.st_ino;
                Some((name(gate), (number, socket)))
            })
            .collect();
        kept.retain(|name, number| {
            // One that is not known may be another than the present one.
            let same = sockets.get(name).is_some_and(|(now, _)| number.is_none_or(|number| number == *now));
            if !same {
                notify(&[NotifyState::FdStoreRemove, NotifyState::FdName(name)], &[]);
            }
            same
        });
        for (name, (number, socket)) in sockets {
            if kept.get(&name) != Some(&Some(number)) {
                // It takes note of a socket that it has already only once.
                notify(&[NotifyState::FdStore, NotifyState::FdName(&name)], &[socket]);
                kept.insert(name, Some(number));
            }
        }
    }
}

fn notify(state: &[NotifyState<'_>], descriptors: &[OwnedFd]) {
    let borrowed: Vec<_> = descriptors.iter().map(|descriptor| descriptor.as_fd()).collect();
    let sent = if borrowed.is_empty() {
        sd_notify::notify(state)
    } else {
        sd_notify::notify_with_fds(state, &borrowed)
    };
    if let Err(error) = sent {
        tracing::warn!(%error, "the service manager cannot be told {state:?}");
    }
}

/// A colon stands between names.
fn name(gate: ServiceKey) -> String {
    gate.to_string().replace(':', "_")
}

/// Names and descriptors that were passed to this process.
fn passed() -> Vec<(String, OwnedFd)> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Vec::new();
    }
    match sd_notify::listen_fds_with_names() {
        // SAFETY: the variables say that these were opened for this very process; they are open, or this would be an
        // error; nobody else takes them, and here it happens once.
        Ok(all) => all.map(|(number, name)| (name, unsafe { OwnedFd::from_raw_fd(number) })).collect(),
        Err(error) => {
            tracing::error!(%error, "the sockets that were passed to nicgate cannot be used");
            Vec::new()
        }
    }
}
