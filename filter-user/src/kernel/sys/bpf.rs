//! The `bpf` system call where aya has no call of its own: many entries at once (Linux 5.6; for LPM_TRIE
//! 5.13), values that are too large for a stack, and detaching a link at once.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use aya::Pod;

const OBJECT_GET: libc::c_long = 7;
const LINK_DETACH: libc::c_long = 34;
const LOOKUP: libc::c_long = 24;
const UPDATE: libc::c_long = 26;
const DELETE: libc::c_long = 27;

/// The `batch` member of `union bpf_attr`, from `linux/bpf.h`.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// The object member of `union bpf_attr`.
#[repr(C)]
struct Object {
    path: u64,
    fd: u32,
    flags: u32,
}

/// The link member of `union bpf_attr`.
#[repr(C)]
struct Link {
    fd: u32,
}

/// Detaches a pinned link (Linux 5.9). When this returns, its program runs no more; a link whose pin is merely
/// removed goes some time later.
pub(in crate::kernel) fn detach_link(pin: &Path) -> io::Result<()> {
    let path = CString::new(pin.as_os_str().as_bytes())?;
    let mut object = Object { path: path.as_ptr() as u64, fd: 0, flags: 0 };
    let fd = call(OBJECT_GET, &mut object)?;
    // SAFETY: the call above returned a new descriptor, which nothing else owns.
    let link = unsafe { OwnedFd::from_raw_fd(fd) };
    call(LINK_DETACH, &mut Link { fd: link.as_raw_fd() as u32 }).map(drop)
}

fn call<A>(command: libc::c_long, attributes: &mut A) -> io::Result<RawFd> {
    // SAFETY: the attributes are valid for their size, and the pointers in them were made from live strings,
    // or from live slices with room for `count` elements of the map's own key and value sizes.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attributes, size_of::<A>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as RawFd) }
}

/// Adds or replaces entries. The keys' and values' types must be the map's.
pub(in crate::kernel) fn update<K: Pod, V: Pod>(
    map: BorrowedFd<'_>,
    keys: &[K],
    values: &[V],
) -> io::Result<()> {
    assert_eq!(keys.len(), values.len());
    call(
        UPDATE,
        &mut Attributes {
            keys: keys.as_ptr() as u64,
            values: values.as_ptr() as u64,
            count: keys.len() as u32,
            map_fd: map.as_raw_fd() as u32,
            ..Attributes::default()
        },
    )
    .map(drop)
}

/// Removes entries that exist.
pub(in crate::kernel) fn delete<K: Pod>(map: BorrowedFd<'_>, keys: &[K]) -> io::Result<()> {
    call(
        DELETE,
        &mut Attributes {
            keys: keys.as_ptr() as u64,
            count: keys.len() as u32,
            map_fd: map.as_raw_fd() as u32,
            ..Attributes::default()
        },
    )
    .map(drop)
}

/// Reads up to `keys.len()` entries, starting behind `after`; returns how many there were and whether they
/// were the last. The keys' and values' types must be the map's.
pub(in crate::kernel) fn lookup<K: Pod + Default, V: Pod>(
    map: BorrowedFd<'_>,
    after: Option<K>,
    keys: &mut [K],
    values: &mut [V],
) -> io::Result<(usize, bool, K)> {
    assert_eq!(keys.len(), values.len());
    let mut position = K::default();
    let mut attributes = Attributes {
        in_batch: after.as_ref().map_or(0, |key| std::ptr::from_ref(key) as u64),
        out_batch: std::ptr::from_mut(&mut position) as u64,
        keys: keys.as_mut_ptr() as u64,
        values: values.as_mut_ptr() as u64,
        count: keys.len() as u32,
        map_fd: map.as_raw_fd() as u32,
        ..Attributes::default()
    };
    match call(LOOKUP, &mut attributes) {
        Ok(_) => Ok((attributes.count as usize, false, position)),
        // The end of the map; what was found up to there counts.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
            Ok((attributes.count as usize, true, position))
        }
        Err(error) => Err(error),
    }
}
