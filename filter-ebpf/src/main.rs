//! nicgate's XDP program: drops what the address alone decides, on protected ports, and nothing else.
#![no_std]
#![no_main]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]
#![expect(clippy::needless_pass_by_value, reason = "the `xdp` macro hands the context over by value")]

mod banned;

use aya_ebpf::{
    Global,
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC, xdp_action},
    btf_maps::{Array, ArrayOfMaps, HashMap, LpmTrie, PerCpuArray, RingBuf, lpm_trie::Key},
    helpers::{bpf_get_prandom_u32, bpf_ktime_get_ns, bpf_xdp_get_buff_len},
    macros::{btf_map, xdp},
    programs::XdpContext,
};
use aya_log_ebpf::debug;
use filter_ebpf::{
    flat::{self, Line, Lines, Way},
    layout::{
        self, Event, GROUPS, Generation, LINE_CELLS, LocalKey, Outcome, RuleHits, RuleNote, ServiceHits,
        ServiceNote, State, engine, flags, service,
    },
    parse::{Address, Frame, Ip, Numbers, OFFSET_MASK, Parsed, parse},
};

const NO_PREALLOC: usize = BPF_F_NO_PREALLOC as usize;
/// Capacity of the tries that stand in the maps of maps until the first table, each of which has its own; and
/// of the lines, whose number is set at load time.
const TEMPLATE: usize = 1;

#[btf_map]
static STATE: Array<State, 1, { BPF_F_MMAPABLE as usize }> = Array::new();
#[btf_map]
static LOCAL: HashMap<LocalKey, u32, { layout::LOCAL_ENTRIES as usize }, NO_PREALLOC> = HashMap::new();
#[btf_map]
static V4: ArrayOfMaps<LpmTrie<[u8; 4], u32, TEMPLATE>, { layout::GENERATIONS as usize }> =
    ArrayOfMaps::new();
#[btf_map]
static V6: ArrayOfMaps<LpmTrie<[u8; 16], u32, TEMPLATE>, { layout::GENERATIONS as usize }> =
    ArrayOfMaps::new();
#[btf_map]
static LINES: Array<Line, TEMPLATE, { BPF_F_MMAPABLE as usize }> = Array::new();
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

/// Set at load time; the verifier removes what an unset one guards.
#[unsafe(no_mangle)]
static NICGATE_DEBUG: Global<u8> = Global::new(0);

/// Set at load time: the verifier removes the other engine.
#[unsafe(no_mangle)]
static NICGATE_ENGINE: Global<u8> = Global::new(engine::LPM);
/// Set at load time: where the second generation's lines begin.
#[unsafe(no_mangle)]
static NICGATE_LINES: Global<u32> = Global::new(0);

/// For packets in any number of buffers; Linux 5.18.
#[xdp(frags)]
fn nicgate(ctx: XdpContext) -> u32 {
    run::<true>(&ctx)
}

/// For older kernels, which refuse the other one.
#[xdp]
fn nicgate_linear(ctx: XdpContext) -> u32 {
    run::<false>(&ctx)
}

/// The packet's first buffer.
struct Buffer {
    start: usize,
    end: usize,
    /// Zero, read from a map, so that adding it makes a value unknown to the verifier.
    zero: usize,
}

impl Frame for Buffer {
    #[inline(always)]
    fn bytes<const N: usize>(&self, at: usize) -> Option<&[u8; N]> {
        let first = self.start + at;
        if first + N > self.end {
            return None;
        }
        // SAFETY: the N bytes are between `start` and `end`, which the kernel keeps readable while the
        // program runs; the verifier checks the same comparison.
        Some(unsafe { &*(first as *const [u8; N]) })
    }

    #[inline(always)]
    fn forget(&self, at: usize) -> usize {
        at.wrapping_add(self.zero) & OFFSET_MASK
    }
}

#[inline(always)]
fn run<const FRAGS: bool>(ctx: &XdpContext) -> u32 {
    // Never: the map has one element.
    let Some(state) = STATE.get_ptr(0) else { return xdp_action::XDP_ABORTED };
    // SAFETY: the element exists for as long as the program; volatile because its value must not be taken for
    // known.
    let zero = unsafe { (&raw const (*state).control.zero).read_volatile() } as usize;
    let buffer = Buffer { start: ctx.data(), end: ctx.data_end(), zero };
    let outcome = judge::<FRAGS>(ctx, &buffer, state);
    if let Some(counter) = OUTCOMES.get_ptr_mut(outcome as u32) {
        // SAFETY: this CPU's own counter.
        unsafe { *counter += 1 };
    }
    if outcome.drops() { xdp_action::XDP_DROP } else { xdp_action::XDP_PASS }
}

/// The live table.
#[derive(Clone, Copy)]
struct Table<'a> {
    /// Its index.
    index: u32,
    generation: &'a Generation,
}

impl Table<'_> {
    /// Reads which one is live; `None` before the first. Read once: one generation judges the whole packet.
    #[inline(always)]
    fn live(state: *const State) -> Option<Self> {
        // SAFETY: the element exists for as long as the program; volatile because userspace stores to it.
        let serial = unsafe { (&raw const (*state).control.live).read_volatile() };
        if serial == 0 {
            return None;
        }
        let index = layout::generation_index(serial);
        // SAFETY: inside the array, because an index is 0 or 1; userspace writes only to the other one.
        let generation =
            unsafe { &*(&raw const (*state).generations).cast::<Generation>().add(index as usize) };
        Some(Self { index, generation })
    }

    /// The first of its lines.
    #[inline(always)]
    fn lines(self) -> Half {
        Half { first: if self.index == 0 { 0 } else { NICGATE_LINES.load() } }
    }
}

/// What a packet is addressed to. Whole registers, because the compiler packs smaller fields together and takes
/// them apart again.
#[derive(Clone, Copy)]
struct Target {
    /// The service's slot, plus 1; 0 when the port cannot be seen.
    slot: u64,
    /// Its column in the verdict table.
    column: u64,
    /// The protocol; [`HIDDEN`] when the port cannot be seen.
    proto: u64,
    /// The port; 0 when it cannot be seen.
    port: u64,
}

/// What stands for the protocol of a port that cannot be seen.
const HIDDEN: u64 = 3;

#[inline(always)]
fn judge<const FRAGS: bool>(ctx: &XdpContext, buffer: &Buffer, state: *const State) -> Outcome {
    let (ip, proto, port) = match parse(buffer) {
        Parsed::Port(ip, proto, port) => (ip, proto as usize, port),
        Parsed::Hidden(ip) => (ip, HIDDEN as usize, 0),
        Parsed::NotIp => return Outcome::NotIp,
        Parsed::Truncated => return Outcome::Truncated,
        Parsed::LaterFragment => return Outcome::Fragment,
        Parsed::OtherProtocol => return Outcome::OtherProtocol,
        Parsed::TooManyTags => return too_many_tags(ctx, state),
    };
    // Unknown to the verifier, which would check the rest once for each protocol.
    let proto = buffer.forget(proto) as u64 & 3;
    // Before anything is looked up: the compiler would keep what it knows to be undefined across the calls.
    if NICGATE_DEBUG.load() != 0 && proto == HIDDEN {
        debug!(ctx, "hidden port, IP header at {}", ip.at);
    }
    let Some(table) = Table::live(state) else { return Outcome::NoTable };
    let Some(target) = target(table, buffer, ip, proto, port) else { return Outcome::PassUnprotected };
    decide::<FRAGS>(ctx, buffer, state, table, ip, target)
}

/// What a packet is addressed to; `None` for an unprotected port, at the cost of one read.
#[inline(always)]
fn target(table: Table<'_>, buffer: &Buffer, ip: Ip, proto: u64, port: u16) -> Option<Target> {
    let Generation { figures, groups, ports } = table.generation;
    if proto == HIDDEN {
        return Some(Target { slot: 0, column: u64::from(figures.hidden_column), proto, port: 0 });
    }
    // SAFETY: every u16 is an index into 65536 entries.
    let group = unsafe { *ports.get_unchecked(bounded(port)) };
    if group == 0 {
        return None;
    }
    // SAFETY: the masks keep both indices inside.
    let entry =
        unsafe { groups.get_unchecked(usize::from(group) & (GROUPS - 1)).get_unchecked(proto as usize & 3) };
    let mut entry = *entry;
    if entry & service::LOCAL != 0
        && let Some(local) = local_service(table.index, buffer, ip, proto as u8, port)
    {
        entry = local;
    }
    let slot = entry & service::SLOT_MASK;
    if slot == 0 {
        return None;
    }
    let column = entry >> service::COLUMN_SHIFT;
    Some(Target { slot: u64::from(slot), column: u64::from(column), proto, port: u64::from(port) })
}

#[inline(always)]
fn too_many_tags(ctx: &XdpContext, state: *const State) -> Outcome {
    if NICGATE_DEBUG.load() != 0 {
        debug!(ctx, "more VLAN tags than are looked through");
    }
    if let Some(table) = Table::live(state)
        && table.generation.figures.flags & (flags::PROTECTS | flags::SHADOW) == flags::PROTECTS
    {
        Outcome::VlanDepthDrop
    } else {
        Outcome::VlanDepth
    }
}

/// A port as an index that older verifiers accept (seen on 6.1 and 6.12): they know no bounds for what a byte
/// swap leaves, and the compiler knows them too well to emit a mask by itself.
#[inline(always)]
fn bounded(port: u16) -> usize {
    #[cfg(target_arch = "bpf")]
    {
        let mut index = u64::from(port.to_be());
        // SAFETY: changes one register, and not the value in it.
        unsafe { core::arch::asm!("{0} &= 0xffff", inout(reg) index, options(pure, nomem, nostack)) };
        index as usize
    }
    #[cfg(not(target_arch = "bpf"))]
    usize::from(port.to_be())
}

/// The service that names this packet's destination address.
#[inline(always)]
fn local_service(generation: u32, buffer: &Buffer, ip: Ip, proto: u8, port: u16) -> Option<u32> {
    let key =
        LocalKey { address: ip.destination(buffer)?.mapped(), port, proto, generation: generation as u8 };
    // SAFETY: entries of a live generation are neither changed nor removed.
    unsafe { LOCAL.get(key).copied() }
}

/// The lines of one generation.
struct Half {
    first: u32,
}

impl Lines for Half {
    #[inline(always)]
    fn line(&self, index: u32) -> Option<&Line> {
        LINES.get(self.first.wrapping_add(index))
    }

    // Longer ways have a function of their own: the verifier looks at it once, and not once for every way that
    // leads there.
    #[inline(always)]
    fn deeper(&self, way: Way) -> Option<u32> {
        Some(nicgate_deeper(self.first, way.found, way.rest, way.half, way.lower))
    }
}

/// Lines as the function sees them that is verified on its own.
struct Alone(Half);

impl Lines for Alone {
    #[inline(always)]
    fn line(&self, index: u32) -> Option<&Line> {
        self.0.line(index)
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn nicgate_deeper(lines: u32, found: u32, rest: u64, half: u64, lower: u64) -> u32 {
    // Class 0 only in the case that never happens: the host writes no pointer that leads outside.
    flat::deeper(&Alone(Half { first: lines }), Way { found, rest, half, lower }).unwrap_or(0)
}

/// The class of a source address: the one place that knows how addresses are looked up.
#[inline(always)]
fn class(table: Table<'_>, source: Numbers) -> u32 {
    if NICGATE_ENGINE.load() == engine::LPM {
        return class_lpm(table, source.address());
    }
    let root = &table.generation.figures.roots[usize::from(source.v6)];
    // Class 0 only in the case that never happens: the host writes no pointer that leads outside.
    flat::class(&table.lines(), root, source.upper, source.lower).unwrap_or(0)
}

#[inline(always)]
fn class_lpm(table: Table<'_>, source: Address) -> u32 {
    let (index, figures) = (table.index, &table.generation.figures);
    let (found, default) = match source {
        Address::V4(address) => (V4.get_value_ptr_mut(index, &Key::new(32, address)), figures.default_v4),
        Address::V6(address) => (V6.get_value_ptr_mut(index, &Key::new(128, address)), figures.default_v6),
    };
    match found {
        // SAFETY: entries of a live generation are neither changed nor removed.
        Some(class) => unsafe { *class },
        None => default,
    }
}

/// The rule slot that drops a class in a column; 0 for none.
#[inline(always)]
fn cell(table: Table<'_>, class: u32, column: u64) -> u64 {
    let index = u64::from(class) * u64::from(table.generation.figures.columns) + column;
    let lines = table.lines();
    let Some(line) = lines.line((index / LINE_CELLS as u64) as u32) else { return 0 };
    // SAFETY: as many bytes, less aligned, and every bit pattern is a u16.
    let cells = unsafe { &*core::ptr::from_ref(line).cast::<[u16; LINE_CELLS]>() };
    u64::from(cells[index as usize % LINE_CELLS])
}

#[inline(always)]
fn decide<const FRAGS: bool>(
    ctx: &XdpContext,
    buffer: &Buffer,
    state: *const State,
    table: Table<'_>,
    ip: Ip,
    target: Target,
) -> Outcome {
    let rule = cell(table, class(table, ip.source), target.column);
    let length = length::<FRAGS>(ctx, buffer, ip);
    let flags = table.generation.figures.flags;
    let shadow = flags & flags::SHADOW != 0;
    let hidden = target.slot == 0;
    if rule == 0 {
        let banned = banned::banned(state, target, ip.source, flags, length);
        count(target, length, banned && !shadow);
        return match (banned, shadow) {
            (true, false) => Outcome::BanDrop,
            (true, true) => Outcome::ShadowDrop,
            (false, _) if hidden => Outcome::HiddenPass,
            (false, _) => Outcome::PassProtected,
        };
    }
    count(target, length, !shadow);
    if let Some(hits) = RULE_HITS.get_ptr_mut(rule as u32) {
        // SAFETY: this CPU's own counters.
        let hits = unsafe { &mut *hits };
        hits.packets += 1;
        hits.bytes += length;
    }
    if sampled(state) {
        report(target, ip.source, Cause::Rule(rule as u32), length, shadow);
    }
    if shadow {
        Outcome::ShadowDrop
    } else if hidden {
        Outcome::HiddenDrop
    } else {
        Outcome::Drop
    }
}

/// Counts a packet for its service, if that can be seen.
#[inline(always)]
fn count(target: Target, length: u64, dropped: bool) {
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

/// The packet's length, link-layer header included.
#[inline(always)]
fn length<const FRAGS: bool>(ctx: &XdpContext, buffer: &Buffer, ip: Ip) -> u64 {
    let first = buffer.end - buffer.start;
    // Only a packet that says it is longer can have more buffers, and nearly none do: a call costs more than the
    // lookup. One that lies about it is counted with what it had in the first.
    if FRAGS && ip.end > first {
        // SAFETY: the helper takes this program's own context.
        unsafe { bpf_xdp_get_buff_len(ctx.ctx) }
    } else {
        first as u64
    }
}

/// On account of what a packet is dropped.
#[derive(Clone, Copy)]
enum Cause {
    /// A rule slot.
    Rule(u32),
    /// A ban's id.
    Ban(u32),
}

/// Whether this drop is one of those that are reported.
#[inline(always)]
fn sampled(state: *const State) -> bool {
    // SAFETY: the element exists for as long as the program; volatile because userspace stores to it.
    let one_in = unsafe { (&raw const (*state).control.sampling).read_volatile() } as u32;
    // SAFETY: the helper has no preconditions.
    one_in != 0 && (one_in == 1 || unsafe { bpf_get_prandom_u32() } % one_in == 0)
}

/// Reports a drop to userspace.
#[inline(always)]
fn report(target: Target, source: Numbers, cause: Cause, length: u64, shadow: bool) {
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

/// The least that a program can cost: for measurements, never attached.
#[xdp]
fn nicgate_bare(_: XdpContext) -> u32 {
    xdp_action::XDP_DROP
}

/// Nothing but lookups, of addresses that the frame's [`layout::Lookups`] says: for measurements. It is never
/// attached, and not even loaded but by a benchmark.
#[xdp]
fn nicgate_lookups(ctx: XdpContext) -> u32 {
    let Some(state) = STATE.get_ptr(0) else { return xdp_action::XDP_ABORTED };
    let Some(table) = Table::live(state) else { return xdp_action::XDP_ABORTED };
    lookups(&ctx, |source| class(table, source))
}

/// The same without the lookups.
#[xdp]
fn nicgate_draws(ctx: XdpContext) -> u32 {
    lookups(&ctx, |source| source.upper as u32 & 1)
}

#[inline(always)]
fn lookups(ctx: &XdpContext, class: impl Fn(Numbers) -> u32) -> u32 {
    let first = ctx.data();
    if first + size_of::<layout::Lookups>() > ctx.data_end() {
        return xdp_action::XDP_ABORTED;
    }
    // SAFETY: between `data` and `data_end`, and every bit pattern is one; alignment does not matter here.
    let state = unsafe { &mut *(first as *mut layout::Lookups) };
    let mut lookups = *state;
    for _ in 0..layout::LOOKUPS {
        let (upper, lower) = lookups.draw();
        lookups.found(class(Numbers { v6: lookups.v6 != 0, upper, lower }));
    }
    state.seed = lookups.seed;
    state.sum = lookups.sum;
    xdp_action::XDP_PASS
}

/// Nothing here panics; the language wants a handler all the same.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// Tells the kernel that GPL-only helpers may be used.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
