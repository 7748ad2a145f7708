//! Keys and values as they lie in the kernel's maps.

use anyhow::{Result, anyhow};
use aya::{Pod, maps::PerCpuValues};

/// A trie's key as it lies in memory; aya's own hides its fields' default.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(super) struct TrieKey<B> {
    pub(super) len: u32,
    pub(super) network: B,
}

// SAFETY: `repr(C)`, a u32 and an array of bytes whose length is a multiple of 4: no padding.
unsafe impl<B: Pod> Pod for TrieKey<B> {}

/// One value for each CPU, all zero.
pub(super) fn zeros<V: Pod + Default>() -> Result<PerCpuValues<V>> {
    let cpus = aya::util::nr_cpus().map_err(|(what, error)| anyhow!("could not read {what}: {error}"))?;
    Ok(PerCpuValues::try_from(vec![V::default(); cpus])?)
}
