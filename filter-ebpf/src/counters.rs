//! What is counted and reported.

use aya_ebpf::{
    btf_maps::{HashMap, PerCpuArray, RingBuf},
    helpers::{bpf_get_prandom_u32, bpf_ktime_get_ns},
    macros::btf_map,
};
use filter_ebpf::{
    layout::{self, Event, Outcome, RuleHits, RuleNote, ServiceHits, ServiceNote, State},
    parse::{Address, Numbers},
};

use crate::{NO_PREALLOC, target::Target};

#[btf_map]
static OUTCOMES: PerCpuArray<u64, { layout::OUTCOME_ENTRIES as usize }> = PerCpuArray::new();
#[btf_map]
static RULE_HITS: PerCpuArray<RuleHits, { layout::RULE_SLOTS as usize }> = PerCpuArray::new();
#[btf_map]
static SERVICE_HITS: PerCpuArray<ServiceHits, { layout::SERVICE_SLOTS as usize }> = PerCpuArray::new();
#[btf_map]
static RULES: HashMap<u32, RuleNote, { layout::RULE_SLOTS as usize }, NO_PREALLOC> = HashMap::new();
#[btf_map]
static SERVICE_NOTES: HashMap<u32, ServiceNote, { layout::SERVICE_SLOTS as usize }, NO_PREALLOC> =
    HashMap::new();
#[btf_map]
static EVENTS: RingBuf<Event, { layout::EVENTS_BYTES as usize }> = RingBuf::new();

/// Counts what became of a packet.
#[inline(always)]
pub(crate) fn outcome(outcome: Outcome) {
    if let Some(counter) = OUTCOMES.get_ptr_mut(outcome as u32) {
        // SAFETY: this CPU's own counter.
        unsafe { *counter += 1 };
    }
}

/// Counts a packet for the rule that drops it.
#[inline(always)]
pub(crate) fn rule(slot: u32, length: u64) {
    if let Some(hits) = RULE_HITS.get_ptr_mut(slot) {
        // SAFETY: this CPU's own counters.
        let hits = unsafe { &mut *hits };
        hits.packets += 1;
        hits.bytes += length;
    }
}

/// Counts a packet for its service, if that can be seen.
#[inline(always)]
pub(crate) fn service(target: Target, length: u64, dropped: bool) {
    if target.slot != 0
        && let Some(hits) = SERVICE_HITS.get_ptr_mut((target.slot - 1) as u32)
    {
        // SAFETY: this CPU's own counters.
        let hits = unsafe { &mut *hits };
        if dropped {
            hits.dropped_packets += 1;
            hits.dropped_bytes += length;
        } else {
            hits.passed_packets += 1;
            hits.passed_bytes += length;
        }
    }
}

/// On account of what a packet is dropped.
#[derive(Clone, Copy)]
pub(crate) enum Cause {
    /// A rule slot.
    Rule(u32),
    /// A ban's id.
    Ban(u32),
}

/// Whether this drop is one of those that are reported.
#[inline(always)]
pub(crate) fn sampled(state: *const State) -> bool {
    // SAFETY: the element exists for as long as the program; volatile because userspace stores to it.
    let one_in = unsafe { (&raw const (*state).control.sampling).read_volatile() } as u32;
    // SAFETY: the helper has no preconditions.
    one_in != 0 && (one_in == 1 || unsafe { bpf_get_prandom_u32() } % one_in == 0)
}

/// Reports a drop to userspace.
#[inline(always)]
pub(crate) fn report(target: Target, source: Numbers, cause: Cause, length: u64, shadow: bool) {
    let Some(mut entry) = EVENTS.reserve(0) else {
        if let Some(lost) = OUTCOMES.get_ptr_mut(layout::EVENTS_LOST) {
            // SAFETY: this CPU's own counter.
            unsafe { *lost += 1 };
        }
        return;
    };
    let (family, source) = match source.address() {
        Address::V4([a, b, c, d]) => (4, [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        Address::V6(address) => (6, address),
    };
    let (rule, ban) = match cause {
        Cause::Rule(rule) => (rule, 0),
        Cause::Ban(id) => (id, 1),
    };
    entry.write(Event {
        // SAFETY: the helper has no preconditions.
        time: unsafe { bpf_ktime_get_ns() },
        rule,
        length: length as u32,
        source,
        port: target.port as u16,
        proto: if target.slot == 0 { u8::MAX } else { target.proto as u8 },
        family,
        shadow: u8::from(shadow),
        ban,
        padding: [0; 2],
    });
    entry.submit(0);
}
