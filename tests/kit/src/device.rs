//! An interface's own counters, in the calling thread's namespace.

use std::{ffi::CString, fs};

use anyhow::{Context, bail};

/// Packets, of `/proc/net/dev`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counters {
    /// Received.
    pub received: u64,
    /// Sent.
    pub sent: u64,
    /// Not sent, because a queue was full or the other end refused.
    pub sending_dropped: u64,
}

/// Reads an interface's counters.
///
/// # Errors
///
/// When there is no such interface.
pub fn counters(interface: &str) -> anyhow::Result<Counters> {
    // Not /proc/net, which is the namespace of the process's first thread.
    let text = fs::read_to_string("/proc/thread-self/net/dev").context("cannot read /proc/net/dev")?;
    match parse(&text, interface) {
        Some(counters) => Ok(counters),
        None => bail!("there is no interface {interface} here"),
    }
}

/// The kernel's number for an interface.
///
/// # Errors
///
/// When there is no such interface.
pub fn index(interface: &str) -> anyhow::Result<u32> {
    let name = CString::new(interface)?;
    // SAFETY: a string with a terminating zero that lives until the call returns.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => bail!("there is no interface {interface} here"),
        index => Ok(index),
    }
}

/// `NAME: bytes packets errs drop fifo frame compressed multicast` and the same for sending.
fn parse(text: &str, interface: &str) -> Option<Counters> {
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix(interface)?.strip_prefix(':'))?;
    let numbers: Vec<u64> = line.split_whitespace().map_while(|word| word.parse().ok()).collect();
    Some(Counters { received: *numbers.get(1)?, sent: *numbers.get(9)?, sending_dropped: *numbers.get(11)? })
}

#[cfg(test)]
mod tests {
    use super::{Counters, parse};

    #[test]
    fn reads_the_line_of_one_interface() {
        let text = "Inter-|   Receive\n face |bytes\n    lo: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n\
                    edge: 100 7 0 0 0 0 0 0 200 9 0 3 0 0 0 0\n  edge1: 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1\n";
        assert_eq!(parse(text, "edge"), Some(Counters { received: 7, sent: 9, sending_dropped: 3 }));
        assert_eq!(parse(text, "eth0"), None);
    }
}
