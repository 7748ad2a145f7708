//! Sampled drops, for whoever watches.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::{
    sync::broadcast::{self, error::RecvError},
    task::AbortHandle,
};

use super::{BanNames, bans::NamedBan};
use crate::{
    kernel::{DropEvent, Events, Filter, Sampler},
    limits::LimitHits,
    model::Limit,
};

/// Events that a slow client may fall behind; after that it misses some and is told how many.
pub const BACKLOG: usize = 4096;

/// Hands the sampled drops of every interface to whoever watches. Sampling is off while nobody does.
pub struct Monitors {
    events: broadcast::Sender<Observed>,
    watched: Mutex<Watched>,
    names: BanNames,
    hits: Arc<LimitHits>,
}

/// A drop and the interface that saw it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Observed {
    /// The interface.
    pub interface: String,
    /// The drop.
    #[serde(flatten)]
    pub event: DropEvent,
    /// The ban that dropped it, if no rule did.
    pub ban: Option<NamedBan>,
}

/// Events that a slow client has missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missed {
    /// How many.
    pub missed: u64,
}

#[derive(Default)]
struct Watched {
    /// Which filters are read.
    composition: Option<u64>,
    samplers: Vec<Sampler>,
    readers: Vec<AbortHandle>,
    /// The sampling that each present client wishes; the finest is in force.
    wishes: Vec<(u64, u32)>,
    next_client: u64,
}

impl Watched {
    fn set_sampling(&self) {
        let sample = self.wishes.iter().map(|(_, sample)| *sample).min().unwrap_or(0);
        for sampler in &self.samplers {
            sampler.set_sampling(sample);
        }
    }
}

/// Somebody who watches. Dropping it ends that.
pub struct Subscription {
    monitors: Arc<Monitors>,
    client: u64,
    events: broadcast::Receiver<Observed>,
}

impl Monitors {
    /// Nothing is watched yet.
    ///
    /// What is missed is counted in `hits`.
    pub fn new(hits: Arc<LimitHits>) -> Arc<Self> {
        let names = BanNames::default();
        Arc::new(Self { events: broadcast::channel(BACKLOG).0, watched: Mutex::default(), names, hits })
    }

    /// By which drops are given the names of their bans.
    pub(super) fn names(&self) -> &BanNames {
        &self.names
    }

    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the events of these interfaces from now on, and of no others. As long as `composition` is the
    /// same, so are the filters, and their readers go on: two readers of one ring would spoil each other's
    /// place. Must be called inside a tokio runtime.
    pub(super) fn watch(&self, composition: u64, filters: &[Filter]) {
        let mut watched = self.watched();
        if watched.composition.replace(composition) == Some(composition) {
            return;
        }
        watched.readers.drain(..).for_each(|reader| reader.abort());
        watched.samplers.clear();
        for filter in filters {
            let interface = filter.interface().to_owned();
            match filter.events() {
                Ok(events) => {
                    let reader =
                        tokio::spawn(read(interface, events, self.events.clone(), self.names.clone()));
                    watched.readers.push(reader.abort_handle());
                    watched.samplers.push(filter.sampler());
                }
                Err(error) => {
                    tracing::warn!(interface, "`monitor` will not show this interface: {error}");
                }
            }
        }
        watched.set_sampling();
    }

    /// Watches one drop in `sample`.
    pub fn subscribe(self: &Arc<Self>, sample: u32) -> Subscription {
        let events = self.events.subscribe();
        let mut watched = self.watched();
        watched.next_client += 1;
        let client = watched.next_client;
        watched.wishes.push((client, sample.max(1)));
        watched.set_sampling();
        Subscription { monitors: self.clone(), client, events }
    }
}

impl Subscription {
    /// Waits for the next drop, or says how many were missed; `None` when there will be none any more. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<Observed, Missed>> {
        match self.events.recv().await {
            Ok(observed) => Some(Ok(observed)),
            Err(RecvError::Lagged(missed)) => {
                let hits = &self.monitors.hits;
                hits.hits(
                    Limit::Events,
                    missed,
                    BACKLOG,
                    "a monitor",
                    "it misses some: let it watch fewer (`--sample`)",
                );
                Some(Err(Missed { missed }))
            }
            Err(RecvError::Closed) => None,
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut watched = self.monitors.watched();
        watched.wishes.retain(|(other, _)| *other != self.client);
        watched.set_sampling();
    }
}

async fn read(interface: String, mut events: Events, to: broadcast::Sender<Observed>, names: BanNames) {
    loop {
        match events.next().await {
            // Nobody may be listening any more; sampling is being turned off then.
            Ok(event) => {
                let ban = event.ban.map(|id| names.find(id));
                let _ = to.send(Observed { interface: interface.clone(), event, ban });
            }
            Err(error) => {
                tracing::warn!(interface, %error, "the events of the interface cannot be read any more");
                return;
            }
        }
    }
}
