//! The packet as the kernel hands it over.

use aya_ebpf::{helpers::bpf_xdp_get_buff_len, programs::XdpContext};
use filter_ebpf::parse::{Frame, Ip, OFFSET_MASK};

/// The packet's first buffer.
pub(crate) struct Buffer {
    pub(crate) start: usize,
    pub(crate) end: usize,
    /// Zero, read from a map, so that adding it makes a value unknown to the verifier.
    pub(crate) zero: usize,
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

/// The packet's length, link-layer header included.
#[inline(always)]
pub(crate) fn length<const FRAGS: bool>(ctx: &XdpContext, buffer: &Buffer, ip: Ip) -> u64 {
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
