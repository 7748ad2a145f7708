//! nicgate's XDP program: drops what the address alone decides, on protected ports, and nothing else.
#![no_std]
#![no_main]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]
#![expect(clippy::needless_pass_by_value, reason = "the `xdp` macro hands the context over by value")]

mod banned;
mod counters;
mod lookup;
mod packet;
mod target;

use aya_ebpf::{
    Global,
    bindings::{BPF_F_NO_PREALLOC, xdp_action},
    macros::xdp,
    programs::XdpContext,
};
use aya_log_ebpf::debug;
use filter_ebpf::{
    flat::Lines as _,
    layout::{LINE_CELLS, Outcome, State, flags},
    parse::{Frame as _, Ip, Parsed, parse},
};

use crate::{
    counters::{Cause, report, sampled},
    lookup::{STATE, Table, class},
    packet::{Buffer, length},
    target::{HIDDEN, Target, target},
};

const NO_PREALLOC: usize = BPF_F_NO_PREALLOC as usize;

/// Set at load time; the verifier removes what an unset one guards.
#[unsafe(no_mangle)]
static NICGATE_DEBUG: Global<u8> = Global::new(0);

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

#[inline(always)]
fn run<const FRAGS: bool>(ctx: &XdpContext) -> u32 {
    // Never: the map has one element.
    let Some(state) = STATE.get_ptr(0) else { return xdp_action::XDP_ABORTED };
    // SAFETY: the element exists for as long as the program; volatile because its value must not be taken for
    // known.
    let zero = unsafe { (&raw const (*state).control.zero).read_volatile() } as usize;
    let buffer = Buffer { start: ctx.data(), end: ctx.data_end(), zero };
    let outcome = judge::<FRAGS>(ctx, &buffer, state);
    counters::outcome(outcome);
    if outcome.drops() { xdp_action::XDP_DROP } else { xdp_action::XDP_PASS }
}

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

#[inline(always)]
fn too_many_tags(ctx: &XdpContext, state: *const State) -> Outcome {
    if NICGATE_DEBUG.load() != 0 {
        debug!(ctx, "more VLAN tags than are looked through");
    }
    if let Some(table) = Table::live(state)
        && table.generation.header.flags & (flags::PROTECTS | flags::SHADOW) == flags::PROTECTS
    {
        Outcome::VlanDepthDrop
    } else {
        Outcome::VlanDepth
    }
}

/// The rule slot that drops a class in a column; 0 for none.
#[inline(always)]
fn cell(table: Table<'_>, class: u32, column: u64) -> u64 {
    let index = u64::from(class) * u64::from(table.generation.header.columns) + column;
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
    let flags = table.generation.header.flags;
    let shadow = flags & flags::SHADOW != 0;
    let hidden = target.slot == 0;
    if rule == 0 {
        let banned = banned::banned(state, target, ip.source, flags, length);
        counters::service(target, length, banned && !shadow);
        return match (banned, shadow) {
            (true, false) => Outcome::BanDrop,
            (true, true) => Outcome::ShadowDrop,
            (false, _) if hidden => Outcome::HiddenPass,
            (false, _) => Outcome::PassProtected,
        };
    }
    counters::service(target, length, !shadow);
    counters::rule(rule as u32, length);
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

/// Nothing here panics; the language wants a handler all the same.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// Tells the kernel that GPL-only helpers may be used.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
