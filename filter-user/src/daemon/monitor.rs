use std::sync::{Mutex, PoisonError};

use tokio::{
    io::AsyncReadExt as _,
    net::UnixStream,
    sync::broadcast::{self, error::RecvError},
    task::AbortHandle,
};

use super::{
    bans::{Named, Names},
    control::write_line,
};
use crate::kernel::{DropEvent, Events, Filter, Sampler};

/// Events that a slow client may fall behind; after that it misses some and is told how many.
const BACKLOG: usize = 4096;

/// Hands the sampled drops of every interface to whoever watches. Sampling is off while nobody does.
pub(super) struct Monitors {
    events: broadcast::Sender<Observed>,
    watched: Mutex<Watched>,
    names: Names,
}

/// A drop and the interface that saw it.
#[derive(Clone, Debug, serde::Serialize)]
pub(super) struct Observed {
    interface: String,
    #[serde(flatten)]
    event: DropEvent,
    /// The ban that dropped it, if no rule did.
    ban: Option<Named>,
}

#[derive(Default)]
struct Watched {
    /// Which filters are read.
    composition: Option<u64>,
    samplers: Vec<(String, Sampler)>,
    readers: Vec<AbortHandle>,
    /// The sampling that each present client wishes; the finest is in force.
    wishes: Vec<(u64, u32)>,
    next_client: u64,
}

impl Watched {
    fn set_sampling(&self) {
        let sample = self.wishes.iter().map(|(_, sample)| *sample).min().unwrap_or(0);
        for (_, sampler) in &self.samplers {
            sampler.set_sampling(sample);
        }
    }
}

impl Monitors {
    /// Nothing is watched yet.
    pub(super) fn new(names: Names) -> Self {
        Self { events: broadcast::channel(BACKLOG).0, watched: Mutex::default(), names }
    }

    /// Reads the events of these interfaces from now on, and of no others. As long as `composition` is the
    /// same, so are the filters, and their readers go on: two readers of one ring would spoil each other's
    /// place.
    pub(super) fn watch(&self, composition: u64, filters: &[Filter]) {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        if watched.composition.replace(composition) == Some(composition) {
            return;
        }
        watched.readers.drain(..).for_each(|reader| reader.abort());
        watched.samplers.clear();
        for filter in filters {
            let interface = filter.interface().to_owned();
            match filter.events() {
                Ok(events) => {
                    let reader = tokio::spawn(read(
                        interface.clone(),
                        events,
                        self.events.clone(),
                        self.names.clone(),
                    ));
                    watched.readers.push(reader.abort_handle());
                    watched.samplers.push((interface, filter.sampler()));
                }
                Err(error) => {
                    tracing::warn!(interface, "`monitor` will not show this interface: {error:#}");
                }
            }
        }
        watched.set_sampling();
    }

    /// Writes a line for each event until the client goes away.
    pub(super) async fn serve(&self, stream: &mut UnixStream, sample: u32) {
        let mut events = self.events.subscribe();
        let client = {
            let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
            watched.next_client += 1;
            let client = watched.next_client;
            watched.wishes.push((client, sample.max(1)));
            watched.set_sampling();
            client
        };
        let (mut gone, mut lines) = stream.split();
        let mut ignored = [0; 64];
        loop {
            let event = tokio::select! {
                event = events.recv() => event,
                read = gone.read(&mut ignored) => match read {
                    Ok(0) | Err(_) => break,
                    Ok(_) => continue,
                },
            };
            let written = match event {
                Ok(observed) => write_line(&mut lines, &observed).await,
                Err(RecvError::Lagged(missed)) => {
                    write_line(&mut lines, &serde_json::json!({"missed": missed})).await
                }
                Err(RecvError::Closed) => break,
            };
            if written.is_err() {
                break;
            }
        }
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.wishes.retain(|(other, _)| *other != client);
        watched.set_sampling();
    }
}

async fn read(interface: String, mut events: Events, to: broadcast::Sender<Observed>, names: Names) {
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
