//! The names of network interfaces.

use std::ffi::{CStr, CString};

/// The index of an interface of this network namespace; `None` when there is none of this name.
pub(in crate::kernel) fn index_of(name: &str) -> Option<u32> {
    let name = CString::new(name).ok()?;
    // SAFETY: a NUL-terminated string that lives until the call returns.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    (index != 0).then_some(index)
}

/// Every interface of this network namespace.
pub(in crate::kernel) fn names() -> Vec<String> {
    // SAFETY: returns null or an array that ends with index 0 and is freed below.
    let list = unsafe { libc::if_nameindex() };
    if list.is_null() {
        return Vec::new();
    }
    let mut names = Vec::new();
    let mut entry = list;
    loop {
        // SAFETY: inside the array, whose end is checked for before moving on.
        let interface = unsafe { &*entry };
        if interface.if_index == 0 || interface.if_name.is_null() {
            break;
        }
        // SAFETY: a NUL-terminated string that lives until the array is freed.
        names.push(unsafe { CStr::from_ptr(interface.if_name) }.to_string_lossy().into_owned());
        // SAFETY: not at the last entry yet.
        entry = unsafe { entry.add(1) };
    }
    // SAFETY: the array from above, freed once.
    unsafe { libc::if_freenameindex(list) };
    names
}
