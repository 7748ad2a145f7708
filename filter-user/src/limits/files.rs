//! Errors that mean that nicgate, or its system, has come to an end of something.

use std::io;

/// Whether there was no file or socket to be had: for want of descriptors or of memory. That is nobody's fault whom it
/// keeps from being connected to.
pub fn out_of_files(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_peer_does_is_not_ours() {
        for ours in [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM] {
            assert!(out_of_files(&io::Error::from_raw_os_error(ours)));
        }
        for theirs in
            [libc::EADDRNOTAVAIL, libc::ECONNREFUSED, libc::ECONNRESET, libc::EHOSTUNREACH, libc::ENETUNREACH]
        {
            assert!(!out_of_files(&io::Error::from_raw_os_error(theirs)));
        }
    }
}
