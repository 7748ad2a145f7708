//! Whose sessions are counted, or refused, as a short digest: the texts are clients', and need not be kept for it.

use std::{
    hash::{BuildHasher as _, Hash, RandomState},
    net::IpAddr,
};

use crate::model::Operation;

/// Stands for a user, a token or an address. Two that are equal are the same but for a chance of one in 2^128: nobody
/// can look for others, as the seeds are the process's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Holder([u64; 2]);

/// What a digest is of.
#[derive(Clone, Copy, Debug, Hash)]
pub(super) enum What<'a> {
    /// X-UserId.
    User(&'a str),
    /// A token, on the streams that a policy judges.
    TokenOf { policy: &'a str, token: &'a str },
    /// An address, on the streams that a policy judges.
    AddressOf { policy: &'a str, address: IpAddr },
    /// A client that shows a token, wherever it is, or within a network.
    Traveller { operation: Operation, stream: &'a str, token: &'a str, network: Option<IpAddr> },
    /// A token, everywhere.
    Token(&'a str),
    /// A client without a token, on one stream.
    Nameless { operation: Operation, stream: &'a str, address: IpAddr },
}

/// Makes the digests.
#[derive(Debug)]
pub(super) struct Digests([RandomState; 2]);

impl Digests {
    pub(super) fn new() -> Self {
        Self([RandomState::new(), RandomState::new()])
    }

    pub(super) fn of(&self, what: What<'_>) -> Holder {
        Holder(self.0.each_ref().map(|state| state.hash_one(what)))
    }
}

impl Holder {
    /// Which of `parts` it falls into.
    pub(super) fn part(self, parts: usize) -> usize {
        self.0[0] as usize % parts
    }
}
