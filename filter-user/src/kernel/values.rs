//! Keys and values as they lie in the kernel's maps.

use aya::{Pod, maps::PerCpuValues};

use super::error::{Context as _, Result};

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
    let cpus = aya::util::nr_cpus()
        .or_else(|(what, error)| Err(error).with_context(|| format!("could not read {what}")))?;
    Ok(PerCpuValues::try_from(vec![V::default(); cpus])?)
}
