//! What `ip` cannot say at once about an interface of the calling thread's namespace.

use std::{ffi::CString, io, net::UdpSocket, os::fd::AsRawFd};

const SIOCETHTOOL: libc::c_ulong = 0x8946;
const ETHTOOL_GLINK: u32 = 0x0a;

/// The kernel's number for an interface.
pub(super) fn index(name: &str) -> io::Result<libc::c_int> {
    let name = CString::new(name)?;
    // SAFETY: the name is a string with a terminating zero that lives until the call returns.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index as libc::c_int),
    }
}

/// Whether an interface is up and has a carrier, and the kernel acts on it.
pub(super) fn running(name: &str) -> io::Result<bool> {
    /// `struct ethtool_value`.
    #[repr(C)]
    struct Value {
        command: u32,
        data: u32,
    }
    let mut request = request(name)?;
    // The kernel looks at changed carriers once a second, unless it is asked for one.
    let mut value = Value { command: ETHTOOL_GLINK, data: 0 };
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    ioctl(SIOCETHTOOL, &mut request)?;
    ioctl(libc::SIOCGIFFLAGS, &mut request)?;
    // SAFETY: SIOCGIFFLAGS filled in this member.
    let flags = libc::c_int::from(unsafe { request.ifr_ifru.ifru_flags });
    Ok(value.data != 0 && flags & (libc::IFF_UP | libc::IFF_RUNNING) == libc::IFF_UP | libc::IFF_RUNNING)
}

fn request(name: &str) -> io::Result<libc::ifreq> {
    // SAFETY: a structure of integers and pointers, for which zeroes are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.len() >= request.ifr_name.len() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{name} is too long for an interface"),
        ));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    Ok(request)
}

fn ioctl(call: libc::c_ulong, request: &mut libc::ifreq) -> io::Result<()> {
    // Any socket names the namespace of the thread that made it.
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    // SAFETY: the request is an initialised ifreq whose data pointer, where the call reads one, is to a live value.
    match unsafe { libc::ioctl(socket.as_raw_fd(), call as _, request as *mut libc::ifreq) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
