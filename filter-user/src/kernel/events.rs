//! Sampled drops.

use std::{io, net::IpAddr, num::NonZeroUsize, time::Duration};

use aya::maps::{HashMap, MapData, RingBuf};
use filter_ebpf::layout::{Event, RuleNote};
use serde::{Deserialize, Serialize};
use tokio::io::{Interest, unix::AsyncFd};

use super::{
    error::{Context as _, Result},
    sys,
};
use crate::table::{proto_of, text_of};

/// A sampled drop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DropEvent {
    /// When, in seconds since 1970 with a fraction.
    pub time: f64,
    /// Who sent the packet.
    pub source: IpAddr,
    /// The port it was sent to, `80/tcp`; `None` when it cannot be seen.
    pub service: Option<String>,
    /// Its length in bytes, link-layer header included.
    pub length: u32,
    /// It was not dropped, because the configuration says `shadow`.
    pub shadow: bool,
    /// The policy whose rule dropped it; `None` if the rule is gone by now.
    pub policy: Option<String>,
    /// The rule as written.
    pub text: Option<String>,
    /// Its file.
    pub file: Option<String>,
    /// Its line.
    pub line: Option<u32>,
    /// The number of the ban that dropped it, if no rule did.
    #[serde(skip)]
    pub ban: Option<u32>,
}

/// Sampled drops as they happen, out of a BPF ring buffer (Linux 5.8). One reader at a time gets each.
pub struct Events {
    ring: AsyncFd<RingBuf<MapData>>,
    rules: HashMap<MapData, u32, RuleNote>,
}

impl Events {
    /// Must be called inside a tokio runtime.
    pub(super) fn new(ring: MapData, rules: MapData) -> Result<Self> {
        let ring =
            RingBuf::try_from(aya::maps::Map::from_map_data(ring)?).context("could not map the events")?;
        let rules = HashMap::try_from(aya::maps::Map::from_map_data(rules)?)?;
        // SAFETY: the ring owns the descriptor, and neither closes nor replaces it before both are dropped.
        let ring = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }
            .map_err(|error| error.into_parts().1)
            .context("could not wait for events")?;
        Ok(Self { ring, rules })
    }

    /// Waits for the next event. Cancel-safe.
    ///
    /// # Errors
    ///
    /// What the operating system says of waiting.
    pub async fn next(&mut self) -> io::Result<DropEvent> {
        loop {
            let mut guard = self.ring.readable_mut().await?;
            let event = guard.get_inner_mut().next().and_then(|item| decode(&item));
            match event {
                Some(event) => return Ok(self.describe(&event)),
                None => guard.clear_ready(),
            }
        }
    }

    /// Takes up to `limit` events that are there already.
    pub fn take(&mut self, limit: NonZeroUsize) -> Vec<DropEvent> {
        let mut raw = Vec::new();
        while raw.len() < limit.get()
            && let Some(item) = self.ring.get_mut().next()
        {
            raw.extend(decode(&item));
        }
        raw.iter().map(|event| self.describe(event)).collect()
    }

    fn describe(&self, event: &Event) -> DropEvent {
        let [a, b, c, d, ..] = event.source;
        let ban = (event.ban != 0).then_some(event.rule);
        let note = if ban.is_some() { None } else { self.rules.get(&event.rule, 0).ok() };
        DropEvent {
            time: since_1970(event.time),
            source: if event.family == 4 { [a, b, c, d].into() } else { event.source.into() },
            service: proto_of(event.proto).map(|proto| format!("{}/{proto}", event.port)),
            length: event.length,
            shadow: event.shadow != 0,
            policy: note.map(|note| text_of(&note.policy)),
            text: note.map(|note| text_of(&note.text)),
            file: note.map(|note| text_of(&note.file)),
            line: note.map(|note| note.line),
            ban,
        }
    }
}

/// A moment of CLOCK_MONOTONIC, in nanoseconds, by the wall clock as it is set now: seconds since 1970.
fn since_1970(monotonic: u64) -> f64 {
    let ago = sys::monotonic().saturating_sub(monotonic);
    // Whole microseconds: more digits would claim what two clocks cannot say of each other.
    (sys::wall_clock().saturating_sub(Duration::from_nanos(ago)).as_micros() as f64) / 1e6
}

fn decode(bytes: &[u8]) -> Option<Event> {
    if bytes.len() < size_of::<Event>() {
        return None;
    }
    // SAFETY: long enough, and every bit pattern is an Event; the ring buffer aligns to 8, which is not
    // relied upon.
    Some(unsafe { bytes.as_ptr().cast::<Event>().read_unaligned() })
}
