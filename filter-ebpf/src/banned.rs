//! The program's look into the runtime bans.

use aya_ebpf::{
    btf_maps::{LpmTrie, PerCpuHashMap, lpm_trie::Key},
    helpers::bpf_ktime_get_boot_ns,
    macros::btf_map,
};
use filter_ebpf::{
    bans::{self, Ban, KeyV4, KeyV6},
    layout::{RuleHits, State, flags},
    parse::{Address, Numbers},
};

use crate::{
    NO_PREALLOC,
    counters::{Cause, report, sampled},
    lookup::STATE,
    target::{HIDDEN, Target},
};

#[btf_map]
static BANS_V4: LpmTrie<KeyV4, Ban, { bans::MAX_ENTRIES as usize }> = LpmTrie::new();
#[btf_map]
static BANS_V6: LpmTrie<KeyV6, Ban, { bans::MAX_ENTRIES as usize }> = LpmTrie::new();
#[btf_map]
static BAN_HITS: PerCpuHashMap<u32, RuleHits, { bans::MAX_BANS as usize }, NO_PREALLOC> =
    PerCpuHashMap::new();

/// Whether a packet falls under a ban, which then counts and reports it; at the cost of one read while there are
/// no bans at all. `flags` are the live table's.
#[inline(always)]
pub(crate) fn banned(state: *const State, target: Target, source: Numbers, flags: u32, length: u64) -> bool {
    // SAFETY: the element exists for as long as the program; volatile because userspace stores to it.
    if unsafe { (&raw const (*state).control.bans).read_volatile() } == 0 {
        return false;
    }
    let scope = if target.slot != 0 {
        bans::scope(target.proto as u8, target.port as u16)
    } else if flags & flags::PROTECTS == 0 {
        // Where nothing is protected, nothing may be dropped for hiding its port.
        return false;
    } else {
        bans::EVERYWHERE
    };
    let mut bits = 0;
    if source.v6 {
        bits |= V6;
    }
    if flags & flags::SHADOW != 0 {
        bits |= SHADOW;
    }
    nicgate_ban(u32::from_ne_bytes(scope), bits, source.upper, source.lower, length) != 0
}

/// The address is IPv6.
const V6: u32 = 1;
/// Nothing is dropped.
const SHADOW: u32 = 2;

/// A function of its own, which the verifier looks at once, and not once for every way that leads there. Not 0 for
/// a ban.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn nicgate_ban(scope: u32, bits: u32, upper: u64, lower: u64, length: u64) -> u32 {
    let source = Numbers { v6: bits & V6 != 0, upper, lower };
    let address = source.address();
    let mut id = active(bans::EVERYWHERE, &address);
    if id == 0 && scope != 0 {
        id = active(scope.to_ne_bytes(), &address);
    }
    if id == 0 {
        return 0;
    }
    if let Some(hits) = BAN_HITS.get_ptr_mut(id) {
        // SAFETY: this CPU's own counters.
        let hits = unsafe { &mut *hits };
        hits.packets += 1;
        hits.bytes += length;
    }
    if let Some(state) = STATE.get_ptr(0)
        && sampled(state)
    {
        // Of the service only that there is one is of interest here.
        let target = match bans::addressed(scope.to_ne_bytes()) {
            Some((proto, port)) => Target { slot: 1, column: 0, proto: proto.into(), port: port.into() },
            None => Target { slot: 0, column: 0, proto: HIDDEN, port: 0 },
        };
        report(target, source, Cause::Ban(id), length, bits & SHADOW != 0);
    }
    1
}

/// The ban on an address in one scope, if it has not run out.
#[inline(always)]
fn active(scope: [u8; 4], address: &Address) -> u32 {
    let [s, t, u, v] = scope;
    let found = match *address {
        Address::V4([a, b, c, d]) => {
            BANS_V4.get(&Key::new(bans::SCOPE_BITS_V4 + 32, [s, t, u, v, a, b, c, d]))
        }
        Address::V6(address) => {
            let mut key: KeyV6 = [s, t, u, v, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            key[8..].copy_from_slice(&address);
            BANS_V6.get(&Key::new(bans::SCOPE_BITS_V6 + 128, key))
        }
    };
    match found {
        Some(ban) if ban.until == bans::FOR_EVER => ban.id,
        // SAFETY: the helper has no preconditions.
        Some(ban) if ban.until > unsafe { bpf_ktime_get_boot_ns() } => ban.id,
        _ => 0,
    }
}
