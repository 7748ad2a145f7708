//! The rights that a test needs. `cargo xtask test` leaves the tests without them out, and says so; a test that is
//! started all the same fails with what it lacks, because a test that did nothing must not look like one that passed.

/// Whether this process is root.
pub fn is_root() -> bool {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Goes on only as root.
///
/// # Panics
///
/// When this process is not root.
pub fn need_root() {
    assert!(
        is_root(),
        "this test makes network namespaces or loads XDP programs, which needs root: `cargo xtask test` runs it as root"
    );
}
