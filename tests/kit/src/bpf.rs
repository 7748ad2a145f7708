//! The bpf(2) system call, as far as benchmarks and tests need it beside aya: programs written instruction by
//! instruction, and runs of any program.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

const BPF_MAP_CREATE: libc::c_int = 0;
const BPF_MAP_UPDATE_ELEM: libc::c_int = 2;
const BPF_MAP_DELETE_ELEM: libc::c_int = 3;
const BPF_MAP_GET_NEXT_KEY: libc::c_int = 4;
const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_OBJ_GET: libc::c_int = 7;
const BPF_PROG_TEST_RUN: libc::c_int = 10;
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_LINK_DETACH: libc::c_int = 34;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_XDP: u32 = 37;
/// How many lines of the verifier's an error has.
const VERIFIER_LINES: usize = 20;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

const BPF_F_XDP_HAS_FRAGS: u32 = 1 << 5;
/// Frames of BPF_PROG_TEST_RUN go where the program sends them.
pub const BPF_F_TEST_XDP_LIVE_FRAMES: u32 = 1 << 1;

/// The first fields of `union bpf_attr` for BPF_PROG_LOAD.
#[repr(C)]
#[derive(Clone, Copy, Default)]
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

/// The fields of `union bpf_attr` for BPF_PROG_TEST_RUN.
#[repr(C)]
#[derive(Default)]
#[expect(missing_docs, reason = "the fields are those of `union bpf_attr`")]
pub struct TestRun {
    pub program: u32,
    /// What the program returned in its last run; written by the kernel.
    pub result: u32,
    pub data_size_in: u32,
    pub data_size_out: u32,
    pub data_in: u64,
    pub data_out: u64,
    pub repeat: u32,
    /// The mean time of one run, in ns; written by the kernel.
    pub duration: u32,
    pub context_size_in: u32,
    pub context_size_out: u32,
    pub context_in: u64,
    pub context_out: u64,
    pub flags: u32,
    pub cpu: u32,
    pub batch_size: u32,
    pub padding: u32,
}

/// The first fields of `union bpf_attr` for BPF_LINK_CREATE.
#[repr(C)]
struct Link {
    program: u32,
    interface: u32,
    attach_type: u32,
    flags: u32,
}

/// The first fields of `union bpf_attr` for BPF_MAP_CREATE.
#[repr(C)]
struct Create {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
}

/// The fields of `union bpf_attr` for commands on an element.
#[repr(C)]
#[derive(Default)]
struct Update {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// One instruction: operation, destination and source register, offset, immediate.
pub type Instruction = [u8; 8];

/// Assembles one instruction.
pub fn instruction(operation: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Instruction {
    let mut bytes = [operation, source << 4 | destination, 0, 0, 0, 0, 0, 0];
    bytes[2..4].copy_from_slice(&offset.to_le_bytes());
    bytes[4..].copy_from_slice(&immediate.to_le_bytes());
    bytes
}

/// Kinds of maps.
#[derive(Clone, Copy)]
#[repr(u32)]
#[expect(missing_docs, reason = "the variants are those of `enum bpf_map_type`")]
pub enum MapKind {
    Array = 2,
    ProgramArray = 3,
    LpmTrie = 11,
}

/// What is settled when an XDP program is loaded. Programs that call each other have it in common.
#[derive(Clone, Copy, Debug)]
pub struct Traits {
    /// It takes packets in several buffers (Linux 5.18).
    pub frags: bool,
    /// It says that it will be attached as an XDP program, which loaders of old leave out.
    pub says_xdp: bool,
}

impl Traits {
    /// Of a program that is attached by itself.
    pub const PLAIN: Self = Self { frags: false, says_xdp: true };
}

/// Loads an XDP program; the error has what the verifier says.
pub fn load(program: &[Instruction], traits: Traits) -> io::Result<OwnedFd> {
    let load = Load {
        program_type: BPF_PROG_TYPE_XDP,
        instruction_count: program.len() as u32,
        instructions: program.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        flags: if traits.frags { BPF_F_XDP_HAS_FRAGS } else { 0 },
        attach_type: if traits.says_xdp { BPF_XDP } else { 0 },
        ..Load::default()
    };
    made(BPF_PROG_LOAD, &load).or_else(|_| {
        // Again for the verifier's words, which for a long program that it accepts are more than fit.
        let mut log = vec![0u8; 1 << 20];
        let length = log.len() as u32;
        let load = Load { log_level: 1, log_size: length, log: log.as_mut_ptr() as u64, ..load };
        made(BPF_PROG_LOAD, &load).map_err(|error| {
            let end = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
            let said = String::from_utf8_lossy(&log[..end]);
            let last: Vec<&str> = said.trim().lines().rev().take(VERIFIER_LINES).collect();
            let last: Vec<&str> = last.into_iter().rev().collect();
            io::Error::new(error.kind(), format!("{error}: {}", last.join("\n")))
        })
    })
}

/// Makes a map.
pub fn map(kind: MapKind, key: u32, value: u32, entries: u32, flags: u32) -> io::Result<OwnedFd> {
    let create =
        Create { map_type: kind as u32, key_size: key, value_size: value, max_entries: entries, flags };
    made(BPF_MAP_CREATE, &create)
}

/// Writes an element. The slices must be as long as the map's keys and values.
pub fn update(map: BorrowedFd<'_>, key: &[u8], value: &[u8]) -> io::Result<()> {
    let update = Update {
        map: map.as_raw_fd() as u32,
        padding: 0,
        key: key.as_ptr() as u64,
        value: value.as_ptr() as u64,
        flags: 0,
    };
    call(BPF_MAP_UPDATE_ELEM, &update).map(drop)
}

/// Attaches an XDP program natively to an interface of the calling thread's namespace.
pub fn attach(program: BorrowedFd<'_>, interface: u32) -> io::Result<OwnedFd> {
    let link = Link {
        program: program.as_raw_fd() as u32,
        interface,
        attach_type: BPF_XDP,
        flags: XDP_FLAGS_DRV_MODE,
    };
    made(BPF_LINK_CREATE, &link)
}

/// Takes a link off at once.
pub fn detach(link: BorrowedFd<'_>) -> io::Result<()> {
    call(BPF_LINK_DETACH, &(link.as_raw_fd() as u32)).map(drop)
}

/// Runs a program; what the kernel found is written to `run`.
pub fn test_run(run: &mut TestRun) -> io::Result<()> {
    call_mut(BPF_PROG_TEST_RUN, run).map(drop)
}

/// Detaches the link that is pinned there, as `bpftool link detach` does; the pin stays.
pub fn detach_pinned(pin: &Path) -> io::Result<()> {
    let path = CString::new(pin.as_os_str().as_bytes())?;
    let link = made(BPF_OBJ_GET, &(path.as_ptr() as u64, 0u32, 0u32))?;
    detach(link.as_fd())
}

/// Deletes every entry of the map that is pinned there, as somebody would with `bpftool map delete`; how many there were.
pub fn delete_all_pinned(pin: &Path) -> io::Result<usize> {
    let path = CString::new(pin.as_os_str().as_bytes())?;
    let map = made(BPF_OBJ_GET, &(path.as_ptr() as u64, 0u32, 0u32))?;
    // As long as any key.
    let mut key = [0_u8; 512];
    let mut deleted = 0;
    loop {
        let first =
            Update { map: map.as_raw_fd() as u32, value: key.as_mut_ptr() as u64, ..Update::default() };
        match call(BPF_MAP_GET_NEXT_KEY, &first) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(deleted),
            found => found?,
        };
        let this = Update { map: map.as_raw_fd() as u32, key: key.as_ptr() as u64, ..Update::default() };
        call(BPF_MAP_DELETE_ELEM, &this)?;
        deleted += 1;
    }
}

/// A command that makes a descriptor.
fn made<T>(command: libc::c_int, attributes: &T) -> io::Result<OwnedFd> {
    let descriptor = call(command, attributes)?;
    // SAFETY: a descriptor that the command made and that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// A command that writes nothing to its attributes.
fn call<T>(command: libc::c_int, attributes: &T) -> io::Result<libc::c_int> {
    // SAFETY: the attributes are laid out as the command has them, and what they point to outlives the call.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as libc::c_int) }
}

fn call_mut<T>(command: libc::c_int, attributes: &mut T) -> io::Result<libc::c_int> {
    // SAFETY: as in `call`; the kernel writes within the size that it is given.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as libc::c_int) }
}
