//! How many viewers each stream has.

use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::model::Operation;

/// A stream that sessions belong to.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) name: Arc<str>,
    /// Its open sessions.
    open: AtomicU64,
    /// Those of them that play.
    playing: AtomicU64,
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
        let new =
            || Arc::new(Stream { name: name.clone(), open: AtomicU64::new(0), playing: AtomicU64::new(0) });
        streams.entry(name.clone()).or_insert_with(new).clone()
    }
}

impl Stream {
    /// Counts one more open session, unless there are as many as there may be.
    pub(super) fn enter(&self, operation: Operation, most: Option<u32>) -> bool {
        let most = most.map_or(u64::MAX, u64::from);
        let one_more = |playing| (playing < most).then_some(playing + 1);
        let entered = operation != Operation::Play
            || self.playing.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok();
        if entered {
            self.open.fetch_add(1, Ordering::Relaxed);
        }
        entered
    }

    /// Counts one less.
    pub(super) fn leave(&self, operation: Operation) {
        if operation == Operation::Play {
            self.playing.fetch_sub(1, Ordering::Relaxed);
        }
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_play_at_once_and_who_publishes_is_not_counted_with_them() {
        let stream = Streams::default().get(&"cam".into());
        assert!(stream.enter(Operation::Publish, None));
        assert!(stream.enter(Operation::Play, Some(2)) && stream.enter(Operation::Play, Some(2)));
        assert!(!stream.enter(Operation::Play, Some(2)));
        assert_eq!(stream.open(), 3);
        stream.leave(Operation::Publish);
        assert!(!stream.enter(Operation::Play, Some(2)));
        stream.leave(Operation::Play);
        assert!(stream.enter(Operation::Play, Some(2)));
        assert_eq!(stream.open(), 2);
    }
}
