//! Which service a packet is addressed to.

use aya_ebpf::{btf_maps::HashMap, macros::btf_map};
use filter_ebpf::{
    layout::{self, GROUPS, Generation, LocalKey, service},
    parse::Ip,
};

use crate::{NO_PREALLOC, lookup::Table, packet::Buffer};

#[btf_map]
static LOCAL: HashMap<LocalKey, u32, { layout::LOCAL_ENTRIES as usize }, NO_PREALLOC> = HashMap::new();

/// What a packet is addressed to. Whole registers, because the compiler packs smaller fields together and takes
/// them apart again.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    /// The service's slot, plus 1; 0 when the port cannot be seen.
    pub(crate) slot: u64,
    /// Its column in the verdict table.
    pub(crate) column: u64,
    /// The protocol; [`HIDDEN`] when the port cannot be seen.
    pub(crate) proto: u64,
    /// The port; 0 when it cannot be seen.
    pub(crate) port: u64,
}

/// What stands for the protocol of a port that cannot be seen.
pub(crate) const HIDDEN: u64 = 3;

/// What a packet is addressed to; `None` for an unprotected port, at the cost of one read.
#[inline(always)]
pub(crate) fn target(table: Table<'_>, buffer: &Buffer, ip: Ip, proto: u64, port: u16) -> Option<Target> {
    let Generation { header, groups, ports } = table.generation;
    if proto == HIDDEN {
        return Some(Target { slot: 0, column: u64::from(header.hidden_column), proto, port: 0 });
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
