//! How many viewers each stream has.

use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

/// A stream that sessions belong to.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) name: Arc<str>,
    /// Its open sessions.
    pub(super) open: AtomicU64,
}

/// Every stream of which there are sessions.
#[derive(Debug, Default)]
pub(super) struct Streams(RwLock<HashMap<Arc<str>, Arc<Stream>>>);

impl Streams {
    /// The stream of that name. Only sessions that begin come here.
    pub(super) fn get(&self, name: &Arc<str>) -> Arc<Stream> {
        if let Some(stream) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return stream.clone();
        }
        let mut streams = self.0.write().unwrap_or_else(PoisonError::into_inner);
        // A reload takes streams away.
        streams.retain(|_, stream| Arc::strong_count(stream) > 1);
        let new = || Arc::new(Stream { name: name.clone(), open: AtomicU64::new(0) });
        streams.entry(name.clone()).or_insert_with(new).clone()
    }
}

impl Stream {
    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed) as usize
    }
}
