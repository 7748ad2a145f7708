//! Programs that only measure. Benchmarks build and load them; the product has none of them. They look addresses up in
//! the maps of a program that judges packets.
#![no_std]
#![no_main]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]
#![expect(clippy::needless_pass_by_value, reason = "the `xdp` macro hands the context over by value")]

mod lookup;

use aya_ebpf::{bindings::xdp_action, macros::xdp, programs::XdpContext};
use filter_ebpf::{
    measure::{LOOKUPS, Lookups},
    parse::Numbers,
};

use lookup::{STATE, Table, class};

/// The least that a program can cost.
#[xdp]
fn nicgate_bare(_: XdpContext) -> u32 {
    xdp_action::XDP_DROP
}

/// Nothing but lookups, of addresses that the frame's [`Lookups`] says.
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
    if first + size_of::<Lookups>() > ctx.data_end() {
        return xdp_action::XDP_ABORTED;
    }
    // SAFETY: between `data` and `data_end`, and every bit pattern is one; alignment does not matter here.
    let state = unsafe { &mut *(first as *mut Lookups) };
    let mut lookups = *state;
    for _ in 0..LOOKUPS {
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
