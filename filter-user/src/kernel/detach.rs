//! Taking filters off, and finding those that there are: what needs no filter to be open.

use std::os::fd::AsFd as _;

use super::{
    bpffs::Bpffs,
    device::Device,
    error::{Context as _, ErrorKind, Result},
    link,
    pins::Pins,
    present::Present,
    sys,
};

/// Interfaces that nicgate filters, from the pins, whether or not a controller runs.
///
/// # Errors
///
/// The pins cannot be looked at: they are for root alone.
pub fn attached() -> Result<Vec<String>> {
    Pins::interfaces(&Bpffs::default())
}

/// Whether there is an interface of this name in this network namespace.
pub fn interface_exists(name: &str) -> bool {
    Device::named(name).is_ok()
}

/// Takes the filter off an interface, whichever version attached it, and also when the interface itself is
/// gone and only pins are left. A link is detached at once (BPF_LINK_DETACH, Linux 5.9); a program without one is taken
/// off only if it is still ours (`XDP_FLAGS_REPLACE`, 5.7).
///
/// # Errors
///
/// Nothing is attached, or something could not be removed.
pub fn detach(bpffs: &Bpffs, interface: &str) -> Result<()> {
    let pins = Pins::new(bpffs, interface);
    if !pins.exist() {
        return Err(ErrorKind::NotAttached(interface.to_owned()).into());
    }
    match Device::named(interface) {
        Ok(device) => remove(&device, &pins),
        Err(_) => pins.remove().with_context(|| format!("could not remove {}", pins.dir().display())),
    }
}

pub(super) fn remove(device: &Device, pins: &Pins) -> Result<()> {
    match Present::find(device, pins) {
        Ok(Present::Netlink(program, mode)) => {
            let program = program.fd()?;
            link::replace_by_netlink(device, None, program.as_fd(), mode)?;
        }
        Ok(Present::Link(..)) => {
            sys::detach_link(&pins.link())
                .with_context(|| format!("could not detach the filter from {}", device.name))?;
        }
        // Somebody else's program, or none: only pins are left to be removed.
        Ok(Present::Nothing) | Err(_) => {}
    }
    pins.remove().with_context(|| format!("could not remove {}", pins.dir().display()))
}
