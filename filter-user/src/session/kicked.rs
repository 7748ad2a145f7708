//! Whom operators have sent away, by name: the next process has to know.

use std::{
    collections::VecDeque,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::moment::Moment;
use crate::model::Operation;

/// How many are remembered by name; then the oldest are forgotten. They are refused all the same, until a restart.
const MOST: usize = 16_384;

/// Who was sent away, and for how long still: a token, or a client without one on one stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KickedRecord {
    pub(super) token: Option<Arc<str>>,
    pub(super) operation: Operation,
    pub(super) stream: Arc<str>,
    pub(super) address: IpAddr,
    pub(super) left: Duration,
}

/// Those who were sent away.
#[derive(Debug, Default)]
pub(super) struct KickedNames(Mutex<VecDeque<(Moment, KickedRecord)>>);

impl KickedNames {
    pub(super) fn add(&self, record: KickedRecord, now: Moment) {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if names.len() >= MOST {
            names.retain(|(until, _)| *until > now);
        }
        if names.len() >= MOST {
            names.pop_front();
        }
        names.push_back((now.after(record.left), record));
    }

    /// Those who are sent away still.
    pub(super) fn left(&self, now: Moment) -> Vec<KickedRecord> {
        let names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let still = names.iter().filter(|(until, _)| *until > now);
        still.map(|(until, record)| KickedRecord { left: until.since(now), ..record.clone() }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_until_their_time_is_over_and_are_bounded() {
        let names = KickedNames::default();
        let at = |seconds| Moment::default().after(Duration::from_secs(seconds));
        let record = |token: String, seconds| KickedRecord {
            token: Some(token.into()),
            operation: Operation::Play,
            stream: "cam".into(),
            address: [192, 0, 2, 1].into(),
            left: Duration::from_secs(seconds),
        };
        names.add(record("a".into(), 10), at(0));
        names.add(record("b".into(), 20), at(0));
        assert_eq!(names.left(at(9)).len(), 2);
        assert_eq!(names.left(at(12)), [record("b".into(), 8)]);
        for n in 0..MOST {
            names.add(record(n.to_string(), 100), at(30));
        }
        assert_eq!(names.left(at(30)).len(), MOST);
    }
}
