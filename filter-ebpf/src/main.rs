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
    flat::{self, Line, Lines},
    layout::{
        self, CELLS, Event, Generation, LocalKey, Outcome, PORT_COUNT, RuleHits, RuleNote, Service,
        ServiceHits, ServiceNote, control, engine, flags, port,
    },
    parse::{Address, Frame, Ip, Numbers, OFFSET_MASK, Parsed, parse},
};

const NO_PREALLOC: usize = BPF_F_NO_PREALLOC as usize;
/// Capacity of the tries that stand in the maps of maps until the first table, each of which has its own; and
/// of the lines, whose number is set at load time.
const TEMPLATE: usize = 1;

#[btf_map]
static CONTROL: Array<u64, { control::ENTRIES as usize }, { BPF_F_MMAPABLE as usize }> = Array::new();
#[btf_map]
static GENERATIONS: Array<Generation, { layout::GENERATIONS as usize }> = Array::new();
#[btf_map]
static PORTS: Array<[u16; PORT_COUNT], { layout::GENERATIONS as usize * 3 }> = Array::new();
#[btf_map]
static LOCAL: HashMap<LocalKey, u32, { layout::LOCAL_ENTRIES as usize }, NO_PREALLOC> = HashMap::new();
#[btf_map]
static SERVICES: Array<Service, { (layout::GENERATIONS * layout::SERVICE_SLOTS) as usize }> = Array::new();
#[btf_map]
static VERDICTS: Array<[u16; CELLS], { layout::GENERATIONS as usize }> = Array::new();
#[btf_map]
static V4: ArrayOfMaps<LpmTrie<[u8; 4], u32, TEMPLATE>, { layout::GENERATIONS as usize }> =
    ArrayOfMaps::new();
#[btf_map]
static V6: ArrayOfMaps<LpmTrie<[u8; 16], u32, TEMPLATE>, { layout::GENERATIONS as usize }> =
    ArrayOfMaps::new();
#[btf_map]
static FLAT: Array<Line, TEMPLATE, { BPF_F_MMAPABLE as usize }> = Array::new();
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
static NICGATE_FLAT_LINES: Global<u32> = Global::new(0);

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

    #[cfg(target_arch = "bpf")]
    #[inline(always)]
    fn word(&self, at: usize) -> Option<u32> {
        let first = self.bytes::<4>(at)?.as_ptr();
        let number: u64;
        // SAFETY: reads the four bytes that were checked. The compiler would read them one by one, because
        // it does not know that every machine with an XDP driver reads across alignment.
        unsafe {
            core::arch::asm!("{0} = *(u32 *)({1} + 0)", out(reg) number, in(reg) first, options(pure, readonly, nostack));
        }
        Some((number as u32).swap_bytes())
    }

    #[cfg(target_arch = "bpf")]
    #[inline(always)]
    fn long(&self, at: usize) -> Option<u64> {
        let first = self.bytes::<8>(at)?.as_ptr();
        let number: u64;
        // SAFETY: reads the eight bytes that were checked.
        unsafe {
            core::arch::asm!("{0} = *(u64 *)({1} + 0)", out(reg) number, in(reg) first, options(pure, readonly, nostack));
        }
        Some(number.swap_bytes())
    }
}

#[inline(always)]
fn run<const FRAGS: bool>(ctx: &XdpContext) -> u32 {
    let zero = match CONTROL.get_ptr(control::ZERO) {
        // SAFETY: the element exists for as long as the program; volatile because its value must not be
        // taken for known.
        Some(zero) => unsafe { zero.read_volatile() as usize },
        None => 0,
    };
    let buffer = Buffer { start: ctx.data(), end: ctx.data_end(), zero };
    let outcome = judge::<FRAGS>(ctx, &buffer);
    if let Some(counter) = OUTCOMES.get_ptr_mut(outcome as u32) {
        // SAFETY: this CPU's own counter.
        unsafe { *counter += 1 };
    }
    if outcome.drops() { xdp_action::XDP_DROP } else { xdp_action::XDP_PASS }
}

/// A packet that the table has to decide.
struct Judged {
    ip: Ip,
    column: u32,
    /// The service, and the protocol and port that it is addressed to; `None` when the port cannot be seen.
    service: Option<(u32, u8, u16)>,
}

#[inline(always)]
fn judge<const FRAGS: bool>(ctx: &XdpContext, buffer: &Buffer) -> Outcome {
    let (ip, addressed) = match parse(buffer) {
        // The protocol's number, unknown to the verifier, which would check the rest once for each.
        Parsed::Port(ip, proto, port) => (ip, Some((buffer.forget(proto as usize) as u8 & 3, port))),
        Parsed::Hidden(ip) => (ip, None),
        Parsed::NotIp => return Outcome::NotIp,
        Parsed::Truncated => return Outcome::Truncated,
        Parsed::LaterFragment => return Outcome::Fragment,
        Parsed::OtherProtocol => return Outcome::OtherProtocol,
        Parsed::TooManyTags => return too_many_tags(ctx),
    };
    // Read once: one generation judges the whole packet.
    let Some(generation) = live() else { return Outcome::NoTable };
    let Some(table) = GENERATIONS.get(generation) else { return Outcome::NoTable };
    let judged = match addressed {
        Some((proto, port)) => {
            let Some(slot) = service(generation, buffer, ip, proto, port) else {
                return Outcome::PassUnprotected;
            };
            let Some(service) = SERVICES.get(layout::service_index(generation, slot)) else {
                return Outcome::PassUnprotected;
            };
            Judged { ip, column: service.column, service: Some((slot, proto, port)) }
        }
        None => {
            if NICGATE_DEBUG.load() != 0 {
                debug!(ctx, "hidden port, IP header at {}", ip.at);
            }
            Judged { ip, column: table.hidden_column, service: None }
        }
    };
    decide::<FRAGS>(ctx, buffer, generation, table, &judged)
}

/// The slot of the service that a packet is addressed to; `None` for an unprotected port, at the cost of one
/// read.
#[inline(always)]
fn service(generation: u32, buffer: &Buffer, ip: Ip, proto: u8, port: u16) -> Option<u32> {
    let entry = port_entry(generation, proto, port)?;
    if entry & port::LOCAL != 0
        && let Some(slot) = local_service(generation, buffer, ip, proto, port)
    {
        return Some(slot);
    }
    u32::from(entry & port::SLOT_MASK).checked_sub(1)
}

/// The index of the live generation; `None` before the first table.
#[inline(always)]
fn live() -> Option<u32> {
    let serial = CONTROL.get_ptr(control::LIVE)?;
    // SAFETY: the element exists for as long as the program; volatile because userspace stores to it.
    let serial = unsafe { serial.read_volatile() };
    if serial == 0 { None } else { Some(layout::generation_index(serial)) }
}

#[inline(always)]
fn too_many_tags(ctx: &XdpContext) -> Outcome {
    if NICGATE_DEBUG.load() != 0 {
        debug!(ctx, "more VLAN tags than are looked through");
    }
    if let Some(generation) = live()
        && let Some(table) = GENERATIONS.get(generation)
        && table.flags & (flags::PROTECTS | flags::SHADOW) == flags::PROTECTS
    {
        Outcome::VlanDepthDrop
    } else {
        Outcome::VlanDepth
    }
}

/// What stands on a port; `None` for nothing.
#[inline(always)]
fn port_entry(generation: u32, proto: u8, port: u16) -> Option<u16> {
    let ports = PORTS.get(layout::ports_index(generation, proto))?;
    // SAFETY: every u16 is an index into 65536 entries.
    let entry = unsafe { *ports.get_unchecked(bounded(port)) };
    if entry == 0 { None } else { Some(entry) }
}

/// A port as an index that older verifiers accept (seen on 6.1 and 6.12): they know no bounds for what a byte
/// swap leaves, and the compiler knows them too well to emit a mask by itself.
#[inline(always)]
fn bounded(port: u16) -> usize {
    #[cfg(target_arch = "bpf")]
    {
        let mut index = u64::from(port);
        // SAFETY: changes one register, and not the value in it.
        unsafe { core::arch::asm!("{0} &= 0xffff", inout(reg) index, options(pure, nomem, nostack)) };
        index as usize
    }
    #[cfg(not(target_arch = "bpf"))]
    usize::from(port)
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
        FLAT.get(self.first.wrapping_add(index))
    }

    // What follows is rare, and has functions of its own: the verifier looks at each of these once, and not
    // once for every way that leads there. Their results are therefore unknown to it, but for their mask.

    #[inline(always)]
    fn last_short(&self, first: u32, width: u32, key: u64) -> Option<u32> {
        Some(nicgate_last_short(self.first, first, width, key) & INDEX_MASK)
    }

    #[inline(always)]
    fn last_long(&self, first: u32, width: u32, key: u64) -> Option<u32> {
        Some(nicgate_last_long(self.first, first, width, key) & INDEX_MASK)
    }

    #[inline(always)]
    fn record(&self, records: u32, lower: u64) -> Option<u32> {
        Some(nicgate_record(self.first, records, lower))
    }
}

/// The bits of a line's number.
const INDEX_MASK: u32 = (1 << flat::OFFSET_BITS) - 1;

/// Lines as the functions see them that are verified on their own.
struct Alone(Half);

impl Lines for Alone {
    #[inline(always)]
    fn line(&self, index: u32) -> Option<&Line> {
        self.0.line(index)
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn nicgate_last_short(half: u32, first: u32, width: u32, key: u64) -> u32 {
    Alone(Half { first: half }).last_short(first, width, key).unwrap_or(first)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn nicgate_last_long(half: u32, first: u32, width: u32, key: u64) -> u32 {
    Alone(Half { first: half }).last_long(first, width, key).unwrap_or(first)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn nicgate_record(half: u32, records: u32, lower: u64) -> u32 {
    flat::record(&Alone(Half { first: half }), records, lower).unwrap_or(0)
}

/// The class of a source address: the one place that knows how addresses are looked up.
#[inline(always)]
fn class(generation: u32, table: &Generation, source: Numbers) -> u32 {
    if NICGATE_ENGINE.load() == engine::LPM {
        return class_lpm(generation, table, source.address());
    }
    let lines = Half { first: if generation == 0 { 0 } else { NICGATE_FLAT_LINES.load() } };
    let found = if source.v6 {
        flat::class_v6(&lines, &table.v6_roots, source.upper, source.lower)
    } else {
        flat::class_v4(&lines, &table.v4_roots, (source.upper >> 32) as u32)
    };
    // Class 0 only in the case that never happens: the host writes no pointer that leads outside.
    found.unwrap_or(0)
}

#[inline(always)]
fn class_lpm(generation: u32, table: &Generation, source: Address) -> u32 {
    let (found, default) = match source {
        Address::V4(address) => (V4.get_value_ptr_mut(generation, &Key::new(32, address)), table.default_v4),
        Address::V6(address) => (V6.get_value_ptr_mut(generation, &Key::new(128, address)), table.default_v6),
    };
    match found {
        // SAFETY: entries of a live generation are neither changed nor removed.
        Some(class) => unsafe { *class },
        None => default,
    }
}

/// The rule slot that drops a class in a column; 0 for none.
#[inline(always)]
fn cell(generation: u32, table: &Generation, class: u32, column: u32) -> u32 {
    let Some(cells) = VERDICTS.get(generation) else { return 0 };
    let index = class.wrapping_mul(table.columns).wrapping_add(column) as usize & (CELLS - 1);
    // SAFETY: the mask keeps the index inside.
    u32::from(unsafe { *cells.get_unchecked(index) })
}

#[inline(always)]
fn decide<const FRAGS: bool>(
    ctx: &XdpContext,
    buffer: &Buffer,
    generation: u32,
    table: &Generation,
    judged: &Judged,
) -> Outcome {
    let Some(source) = judged.ip.source_numbers(buffer) else { return Outcome::Truncated };
    let class = class(generation, table, source);
    let rule = cell(generation, table, class, judged.column);
    let length = length::<FRAGS>(ctx, buffer);
    let shadow = table.flags & flags::SHADOW != 0;
    let hidden = judged.service.is_none();
    if rule == 0 {
        let banned = banned::banned(judged, source, table.flags, length);
        count(judged, length, banned && !shadow);
        return match (banned, shadow) {
            (true, false) => Outcome::BanDrop,
            (true, true) => Outcome::ShadowDrop,
            (false, _) if hidden => Outcome::HiddenPass,
            (false, _) => Outcome::PassProtected,
        };
    }
    count(judged, length, !shadow);
    if let Some(hits) = RULE_HITS.get_ptr_mut(rule) {
        // SAFETY: this CPU's own counters.
        let hits = unsafe { &mut *hits };
        hits.packets += 1;
        hits.bytes += length;
    }
    let addressed = judged.service.map(|(_, proto, port)| (proto, port));
    report(addressed, source, Cause::Rule(rule), length, shadow);
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
fn count(judged: &Judged, length: u64, dropped: bool) {
    if let Some((slot, ..)) = judged.service
        && let Some(hits) = SERVICE_HITS.get_ptr_mut(slot)
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
fn length<const FRAGS: bool>(ctx: &XdpContext, buffer: &Buffer) -> u64 {
    if FRAGS {
        // SAFETY: the helper takes this program's own context.
        unsafe { bpf_xdp_get_buff_len(ctx.ctx) }
    } else {
        (buffer.end - buffer.start) as u64
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

/// Reports one drop in so many to userspace; `addressed` are the protocol and the port, if they can be seen.
#[inline(always)]
fn report(addressed: Option<(u8, u16)>, source: Numbers, cause: Cause, length: u64, shadow: bool) {
    let Some(sampling) = CONTROL.get_ptr(control::SAMPLING) else { return };
    // SAFETY: the element exists for as long as the program; volatile because userspace stores to it.
    let one_in = unsafe { sampling.read_volatile() } as u32;
    // SAFETY: the helper has no preconditions.
    if one_in == 0 || (one_in > 1 && unsafe { bpf_get_prandom_u32() } % one_in != 0) {
        return;
    }
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
    let (proto, port) = addressed.unwrap_or((u8::MAX, 0));
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
        port,
        proto,
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

/// Lookups in one run of [`nicgate_lookups`].
const LOOKUPS: u32 = layout::LOOKUPS;

/// Nothing but lookups, of addresses that the frame's [`layout::Lookups`] says: for measurements. It is never
/// attached, and not even loaded but by a benchmark.
#[xdp]
fn nicgate_lookups(ctx: XdpContext) -> u32 {
    let first = ctx.data();
    if first + size_of::<layout::Lookups>() > ctx.data_end() {
        return xdp_action::XDP_ABORTED;
    }
    // SAFETY: between `data` and `data_end`, and every bit pattern is one; alignment does not matter here.
    let state = unsafe { &mut *(first as *mut layout::Lookups) };
    let Some(generation) = live() else { return xdp_action::XDP_ABORTED };
    let Some(table) = GENERATIONS.get(generation) else { return xdp_action::XDP_ABORTED };
    let mut lookups = *state;
    for _ in 0..LOOKUPS {
        let (upper, lower) = lookups.draw();
        lookups.found(class(generation, table, Numbers { v6: lookups.v6 != 0, upper, lower }));
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
