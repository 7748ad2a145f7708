//! A program of ten instructions, so that the harness is tested without any BPF toolchain.

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use tests::netns::Namespace;

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_LINK_DETACH: libc::c_int = 34;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_XDP: u32 = 37;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

/// The first fields of `union bpf_attr` for BPF_PROG_LOAD.
#[repr(C)]
#[derive(Default)]
struct Load {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    attach_type: u32,
}

/// The first fields of `union bpf_attr` for BPF_LINK_CREATE.
#[repr(C)]
struct Link {
    program: u32,
    interface: u32,
    attach_type: u32,
    flags: u32,
}

/// One instruction: operation, destination and source register, offset, immediate.
fn instruction(operation: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> [u8; 8] {
    let mut bytes = [operation, source << 4 | destination, 0, 0, 0, 0, 0, 0];
    bytes[2..4].copy_from_slice(&offset.to_le_bytes());
    bytes[4..].copy_from_slice(&immediate.to_le_bytes());
    bytes
}

/// A program that is attached; detached at the latest when the last copy of its descriptor is closed.
pub(crate) struct Attached(OwnedFd);

impl Attached {
    /// Detaches at once. Closing the descriptor would do so later, while a process that another test is just
    /// starting still has its copy.
    pub(crate) fn detach(self) -> io::Result<()> {
        bpf(BPF_LINK_DETACH, &(self.0.as_raw_fd() as u32)).map(drop)
    }
}

/// Attaches, in native mode or not at all, a program that drops frames of type 0x8100 and passes all others.
pub(crate) fn drop_tagged_natively(namespace: &Namespace, interface: &str) -> io::Result<Attached> {
    let program = [
        instruction(0x61, 2, 1, 0, 0),  // r2 = the frame's beginning
        instruction(0x61, 3, 1, 4, 0),  // r3 = the frame's end
        instruction(0xbf, 4, 2, 0, 0),  // r4 = r2
        instruction(0x07, 4, 0, 0, 14), // r4 += 14
        instruction(0xb7, 0, 0, 0, 2),  // r0 = XDP_PASS
        instruction(0x2d, 4, 3, 3, 0),  // if r4 > r3, exit
        instruction(0x69, 5, 2, 12, 0), // r5 = the frame's type, as it is in memory
        instruction(0x55, 5, 0, 1, i32::from(0x8100_u16.to_be())), // if r5 is another, exit
        instruction(0xb7, 0, 0, 0, 1),  // r0 = XDP_DROP
        instruction(0x95, 0, 0, 0, 0),  // exit
    ];
    let load = Load {
        program_type: BPF_PROG_TYPE_XDP,
        instruction_count: program.len() as u32,
        instructions: program.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        attach_type: BPF_XDP,
        ..Load::default()
    };
    let program = bpf(BPF_PROG_LOAD, &load)?.expect("a descriptor is never 0 here");
    namespace.run(|| {
        let name = std::ffi::CString::new(interface)?;
        // SAFETY: a string with a terminating zero that lives until the call returns.
        let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
        let link = Link {
            program: program.as_raw_fd() as u32,
            interface: index,
            attach_type: BPF_XDP,
            flags: XDP_FLAGS_DRV_MODE,
        };
        bpf(BPF_LINK_CREATE, &link)?.map(Attached).ok_or_else(|| io::ErrorKind::InvalidData.into())
    })
}

/// The command's result: a descriptor, or nothing when it is 0.
fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<Option<OwnedFd>> {
    // SAFETY: the attributes are laid out as the command has them, and what they point to outlives the call.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) };
    match result {
        ..0 => Err(io::Error::last_os_error()),
        // Descriptor 0 is this process's standard input, so that 0 is the success of a command without one.
        0 => Ok(None),
        // SAFETY: a descriptor that the command made and that nothing else owns.
        descriptor => Ok(Some(unsafe { OwnedFd::from_raw_fd(descriptor as libc::c_int) })),
    }
}
