//! What is attached to an interface, and attaching without a BPF link, by rtnetlink.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use tokio::io::unix::AsyncFd;

const IFLA_EXT_MASK: u16 = 29;
const IFLA_XDP: u16 = 43;
const IFLA_XDP_FD: u16 = 1;
const IFLA_XDP_ATTACHED: u16 = 2;
const IFLA_XDP_FLAGS: u16 = 3;
const IFLA_XDP_PROG_ID: u16 = 4;
const IFLA_XDP_EXPECTED_FD: u16 = 8;
const NLA_F_NESTED: u16 = 1 << 15;
const NLA_TYPE_MASK: u16 = 0x3fff;
const RTEXT_FILTER_SKIP_STATS: u32 = 1 << 3;
/// In `struct nlmsghdr`, and in `struct ifinfomsg` after it.
const HEADER: usize = 16;
const IFINFO: usize = 16;

/// `XDP_FLAGS_REPLACE`: only if the expected program is the one attached (Linux 5.7).
pub(in crate::kernel) const REPLACE: u32 = 1 << 4;

/// The XDP program of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::kernel) struct Attached {
    /// `XDP_ATTACHED_*`: 1 native, 2 generic, 3 offloaded, 4 several.
    pub(in crate::kernel) mode: u8,
    /// The program's id; 0 when there are several.
    pub(in crate::kernel) program: u32,
}

/// The XDP program of an interface, in this network namespace.
pub(in crate::kernel) fn attached(interface: u32) -> io::Result<Option<Attached>> {
    let mut request = message(libc::RTM_GETLINK, libc::NLM_F_REQUEST as u16, interface);
    attribute(&mut request, IFLA_EXT_MASK, &RTEXT_FILTER_SKIP_STATS.to_ne_bytes());
    let reply = exchange(request)?;
    let Some(xdp) = find(&reply[(HEADER + IFINFO).min(reply.len())..], IFLA_XDP) else { return Ok(None) };
    let mode = find(xdp, IFLA_XDP_ATTACHED).and_then(|value| value.first()).copied().unwrap_or(0);
    let program = find(xdp, IFLA_XDP_PROG_ID)
        .and_then(|value| value.first_chunk())
        .map_or(0, |bytes| u32::from_ne_bytes(*bytes));
    Ok((mode != 0).then_some(Attached { mode, program }))
}

/// The type of an interface, `ARPHRD_*` of `linux/if_arp.h`: how its frames begin.
pub(in crate::kernel) fn link_type(interface: u32) -> io::Result<u16> {
    let mut request = message(libc::RTM_GETLINK, libc::NLM_F_REQUEST as u16, interface);
    attribute(&mut request, IFLA_EXT_MASK, &RTEXT_FILTER_SKIP_STATS.to_ne_bytes());
    let reply = exchange(request)?;
    // Behind the family and a byte of padding.
    let bytes = reply.get(HEADER + 2..).and_then(<[u8]>::first_chunk);
    bytes.map(|bytes| u16::from_ne_bytes(*bytes)).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Attaches a program in place of another, or takes that one off. `flags` name the mode.
pub(in crate::kernel) fn replace(
    interface: u32,
    program: Option<BorrowedFd<'_>>,
    expected: BorrowedFd<'_>,
    flags: u32,
) -> io::Result<()> {
    let fd = program.map_or(-1, |fd| fd.as_raw_fd());
    let mut nested = Vec::new();
    attribute(&mut nested, IFLA_XDP_FD, &fd.to_ne_bytes());
    attribute(&mut nested, IFLA_XDP_FLAGS, &(flags | REPLACE).to_ne_bytes());
    attribute(&mut nested, IFLA_XDP_EXPECTED_FD, &expected.as_raw_fd().to_ne_bytes());
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
    let mut request = message(libc::RTM_SETLINK, flags, interface);
    attribute(&mut request, IFLA_XDP | NLA_F_NESTED, &nested);
    exchange(request).map(drop)
}

/// `RTMGRP_LINK`, the group of messages about links.
const LINK_GROUP: u32 = 1;

/// The kernel's messages about network interfaces of this network namespace that come, go or change.
#[derive(Debug)]
pub struct LinkEvents(AsyncFd<OwnedFd>);

impl LinkEvents {
    /// Listens from now on. Must be called inside a tokio runtime.
    ///
    /// # Errors
    ///
    /// The kernel refuses a socket.
    pub fn listen() -> io::Result<Self> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: no pointers are involved.
        let fd = unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_ROUTE) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a descriptor that was just opened and that nothing else owns.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: an address of plain integers, for which zero is a value.
        let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
        address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
        address.nl_groups = LINK_GROUP;
        let length = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
        // SAFETY: a live address and its length.
        if unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) } < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is owned by the value and stays open and the same until that is dropped.
        Ok(Self(unsafe { AsyncFd::register(socket) }?))
    }

    /// Waits until something has changed. What it was has to be looked up: messages can be lost, and these are
    /// only a reason to look.
    ///
    /// # Errors
    ///
    /// The socket is broken.
    pub async fn changed(&self) -> io::Result<()> {
        let mut ready = self.0.readable().await?;
        let mut buffer = [0u8; 8192];
        loop {
            // SAFETY: a live buffer and its length.
            let received = unsafe {
                libc::recv(self.0.get_ref().as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0)
            };
            if received >= 0 {
                continue;
            }
            let error = io::Error::last_os_error();
            match error.raw_os_error() {
                Some(libc::EAGAIN) => break,
                // More messages than fit: something has changed all the more.
                Some(libc::ENOBUFS | libc::EINTR) => {}
                _ => return Err(error),
            }
        }
        ready.clear_ready();
        Ok(())
    }
}

fn message(kind: u16, flags: u16, interface: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(128);
    bytes.extend(0u32.to_ne_bytes()); // the length, set before sending
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(1u32.to_ne_bytes()); // sequence number
    bytes.extend(0u32.to_ne_bytes()); // port
    bytes.extend([libc::AF_UNSPEC as u8, 0, 0, 0]); // family, padding, device type
    bytes.extend(interface.to_ne_bytes());
    bytes.extend([0; 8]); // device flags and which of them change
    bytes
}

fn attribute(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    bytes.extend((4 + value.len() as u16).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

fn find(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    while let [a, b, c, d, ..] = *attributes {
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let value = attributes.get(4..length)?;
        if u16::from_ne_bytes([c, d]) & NLA_TYPE_MASK == wanted {
            return Some(value);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
    None
}

/// Sends one request and returns the answer, or the error that the kernel answers with.
fn exchange(mut request: Vec<u8>) -> io::Result<Vec<u8>> {
    let length = request.len() as u32;
    request[..4].copy_from_slice(&length.to_ne_bytes());
    // SAFETY: no pointers are involved.
    let fd =
        unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_ROUTE) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor that was just opened and that nothing else owns.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: a live buffer and its length. Without an address a netlink socket sends to the kernel.
    if unsafe { libc::send(socket.as_raw_fd(), request.as_ptr().cast(), request.len(), 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut reply = vec![0; 65_536];
    // SAFETY: a live buffer and its length.
    let received = unsafe { libc::recv(socket.as_raw_fd(), reply.as_mut_ptr().cast(), reply.len(), 0) };
    if received < 0 {
        return Err(io::Error::last_os_error());
    }
    reply.truncate(received as usize);
    let kind = reply.get(4..6).and_then(<[u8]>::first_chunk).map(|bytes| u16::from_ne_bytes(*bytes));
    if kind == Some(libc::NLMSG_ERROR as u16) {
        let code = reply.get(HEADER..).and_then(<[u8]>::first_chunk).map_or(0, |b| i32::from_ne_bytes(*b));
        if code != 0 {
            return Err(io::Error::from_raw_os_error(-code));
        }
    }
    Ok(reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_found_where_they_were_put() {
        let mut bytes = Vec::new();
        attribute(&mut bytes, 7, b"abc");
        attribute(&mut bytes, IFLA_XDP | NLA_F_NESTED, b"12345678");
        assert_eq!(find(&bytes, 7), Some(&b"abc"[..]));
        assert_eq!(find(&bytes, IFLA_XDP), Some(&b"12345678"[..]));
        assert_eq!(find(&bytes, 8), None);
        for cut in 0..bytes.len() {
            let _ = find(&bytes[..cut], 9);
        }
        assert_eq!(find(&[0, 0, 9, 0, 0], 1), None, "a length of zero must not loop");
    }

    #[test]
    fn the_loopback_is_of_its_own_type() {
        assert_eq!(link_type(1).unwrap(), libc::ARPHRD_LOOPBACK);
        assert_eq!(link_type(u32::MAX >> 1).unwrap_err().raw_os_error(), Some(libc::ENODEV));
    }

    #[test]
    fn the_loopback_has_no_program_here() {
        assert_eq!(attached(1).unwrap(), None);
        assert_eq!(attached(u32::MAX >> 1).unwrap_err().raw_os_error(), Some(libc::ENODEV));
    }
}
