//! The tries of the `lpm` engine.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
};

use aya::{
    Pod,
    maps::{ArrayOfMaps, IterableMap, LpmTrie, MapData, MapError, lpm_trie::Key},
};

use super::{
    error::{Context as _, Error, ErrorKind, Result},
    sys,
    values::TrieKey,
};
use crate::table::Prefix;

/// `BPF_F_NO_PREALLOC`, which the kernel demands of an LPM_TRIE.
const NO_PREALLOC: u32 = 1;
/// Entries that go into one system call.
const BATCH: usize = 4096;

/// An address as a key of a trie: in network byte order.
pub(super) trait TrieAddress: Copy {
    /// The bytes.
    type Bytes: Pod + Default;
    fn bytes(self) -> Self::Bytes;
}

impl TrieAddress for u32 {
    type Bytes = [u8; 4];

    fn bytes(self) -> [u8; 4] {
        self.to_be_bytes()
    }
}

impl TrieAddress for u128 {
    type Bytes = [u8; 16];

    fn bytes(self) -> [u8; 16] {
        self.to_be_bytes()
    }
}

/// A trie of prefixes to classes: LPM_TRIE (Linux 4.11), many entries to a system call (5.13, before that one by one).
pub(super) struct Trie<A: TrieAddress> {
    pub(super) map: LpmTrie<MapData, A::Bytes, u32>,
}

impl<A: TrieAddress> Trie<A> {
    /// A new trie with these entries.
    pub(super) fn filled(prefixes: &[Prefix<A>]) -> Result<Self> {
        let capacity = prefixes.len().max(1) as u32;
        let map = LpmTrie::create(capacity, NO_PREALLOC).context("could not create a trie")?;
        let mut trie = Self { map };
        let mut keys = Vec::with_capacity(BATCH);
        let mut values = Vec::with_capacity(BATCH);
        let mut batches = true;
        for chunk in prefixes.chunks(BATCH) {
            keys.clear();
            values.clear();
            keys.extend(chunk.iter().map(|p| TrieKey { len: u32::from(p.len), network: p.network.bytes() }));
            values.extend(chunk.iter().map(|prefix| prefix.class.0));
            if batches {
                match sys::update(trie.fd(), &keys, &values) {
                    Ok(()) => continue,
                    // Before Linux 5.13. 524 is the kernel's own ENOTSUPP.
                    Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | 524)) => batches = false,
                    Err(error) => return Err(refused(&error)),
                }
            }
            for (key, value) in keys.iter().zip(&values) {
                match trie.map.insert(&Key::new(key.len, key.network), value, 0) {
                    Err(MapError::SyscallError(error)) => return Err(refused(&error.io_error)),
                    other => other?,
                }
            }
        }
        Ok(trie)
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.map.map().fd().as_fd()
    }

    /// How many entries there really are.
    pub(super) fn count(&self) -> Result<usize> {
        let mut keys = vec![TrieKey::<A::Bytes>::default(); BATCH];
        let mut values = vec![0u32; BATCH];
        let (mut count, mut after) = (0, None);
        loop {
            match sys::lookup(self.fd(), after, &mut keys, &mut values) {
                Ok((found, last, position)) => {
                    count += found;
                    if last {
                        return Ok(count);
                    }
                    after = Some(position);
                }
                Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | 524)) => break,
                Err(error) => return Err(error).context("could not read a trie"),
            }
        }
        self.map.keys().try_fold(0, |count, key| {
            key?;
            Ok(count + 1)
        })
    }

    /// Removes all entries, bit by bit.
    pub(super) fn drain(&self) -> io::Result<()> {
        let mut keys = vec![TrieKey::<A::Bytes>::default(); BATCH];
        let mut values = vec![0u32; BATCH];
        loop {
            // Always from the start: entries behind a removed one are found wherever they moved.
            let (found, last, _) = sys::lookup(self.fd(), None, &mut keys, &mut values)?;
            if found > 0 {
                sys::delete(self.fd(), &keys[..found])?;
            }
            if last || found == 0 {
                return Ok(());
            }
        }
    }
}

fn refused(error: &io::Error) -> Error {
    if error.raw_os_error() == Some(libc::ENOMEM) {
        ErrorKind::NoMemory("the table of addresses").into()
    } else {
        Error::of(error).doing("the kernel refused an entry of the table of addresses")
    }
}

/// The tries of one generation, as far as it has any.
pub(super) struct Tries {
    pub(super) v4: Option<Trie<u32>>,
    pub(super) v6: Option<Trie<u128>>,
}

/// Tries by generation.
pub(super) type Outer<B> = ArrayOfMaps<MapData, LpmTrie<MapData, B, u32>>;

/// Opens the trie of one generation.
pub(super) fn open<A: TrieAddress>(outer: &Outer<A::Bytes>, generation: u32) -> Result<Option<Trie<A>>> {
    match outer.get(&generation, 0) {
        Ok(map) => Ok(Some(Trie { map })),
        Err(MapError::KeyNotFound) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Creating a map needs root: `cargo xtask test` runs these as root, or leaves them out and says so.
#[cfg(test)]
mod as_root {
    use super::*;
    use crate::offload::ClassId;

    fn need_root() {
        // SAFETY: no preconditions.
        assert_eq!(unsafe { libc::geteuid() }, 0, "creating a map needs root");
    }

    #[test]
    fn a_trie_is_filled_counted_and_emptied() {
        need_root();
        for count in [0u32, 1, BATCH as u32, 3 * BATCH as u32 + 5] {
            // Nested and scattered, so that entries have the trie's own nodes between them.
            let prefixes: Vec<Prefix<u32>> = (0..count)
                .map(|i| Prefix { network: i << 8, len: if i % 2 == 0 { 24 } else { 32 }, class: ClassId(i) })
                .collect();
            let trie = Trie::filled(&prefixes).unwrap();
            assert_eq!(trie.count().unwrap(), count as usize);
            if let Some(last) = prefixes.last() {
                assert_eq!(trie.map.get(&Key::new(32, last.network.to_be_bytes()), 0).unwrap(), last.class.0);
            }
            trie.drain().unwrap();
            assert_eq!(trie.count().unwrap(), 0);
        }
        let trie = Trie::filled(&[Prefix { network: 1u128, len: 128, class: ClassId(3) }]).unwrap();
        assert_eq!(trie.count().unwrap(), 1);
    }

    #[test]
    fn more_entries_than_a_trie_holds_are_an_error() {
        need_root();
        let trie = Trie::filled(&[Prefix { network: 1u32, len: 32, class: ClassId(3) }]).unwrap();
        let error = sys::update(trie.fd(), &[TrieKey { len: 32, network: [9; 4] }], &[4u32]).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
        assert_eq!(trie.count().unwrap(), 1);
    }
}
