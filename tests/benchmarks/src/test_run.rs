//! What any XDP program does with one frame and how long it takes, through BPF_PROG_TEST_RUN: the same way for
//! nicgate's programs and for others'.

use std::{
    fs, io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use anyhow::Context;
use aya::programs::{ProgramFd, loaded_programs};

use kit::{
    bpf::{self, TestRun, Traits, instruction},
    xdp::Program,
};

/// The frame is dropped.
pub const XDP_DROP: u32 = 1;
/// The frame goes on.
pub const XDP_PASS: u32 = 2;

/// What a program did.
#[derive(Clone, Copy, Debug)]
pub struct Ran {
    /// What it returned in its last run: [`XDP_DROP`], [`XDP_PASS`].
    pub action: u32,
    /// The mean time of one run in ns, whole ones: the kernel's own figure.
    pub nanoseconds: f64,
}

/// A program in the kernel that can be run. It need not be attached to anything.
#[derive(Debug)]
pub struct Timed(Kept);

#[derive(Debug)]
enum Kept {
    Own(OwnedFd),
    Found(ProgramFd),
}

impl Timed {
    /// Nothing but a `return XDP_DROP`: what the harness itself costs.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn bare() -> io::Result<Self> {
        Self::bare_with(Traits::PLAIN)
    }

    pub(crate) fn bare_with(traits: Traits) -> io::Result<Self> {
        let program = [instruction(0xb7, 0, 0, 0, XDP_DROP as i32), instruction(0x95, 0, 0, 0, 0)];
        bpf::load(&program, traits).map(|program| Self(Kept::Own(program)))
    }

    /// The program with this number, which `bpftool prog` and `ip link` show.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn by_id(id: u32) -> anyhow::Result<Self> {
        Self::find(|program| program == id, "").with_context(|| format!("the kernel has no program {id}"))
    }

    /// The newest of the programs with this name that this process has open.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn of_this_process(name: &str) -> anyhow::Result<Self> {
        let mut own = Vec::new();
        for entry in fs::read_dir("/proc/self/fdinfo").context("cannot list /proc/self/fdinfo")?.flatten() {
            // A descriptor can be closed meanwhile.
            let Ok(text) = fs::read_to_string(entry.path()) else { continue };
            own.extend(program_id(&text));
        }
        Self::find(|id| own.contains(&id), name)
            .with_context(|| format!("this process has no program {name} open"))
    }

    fn find(wanted: impl Fn(u32) -> bool, name: &str) -> anyhow::Result<Self> {
        let fits = |found: &str| name.is_empty() || found == name;
        let found = loaded_programs()
            .flatten()
            .filter(|info| wanted(info.id()) && info.name_as_str().is_some_and(fits))
            .max_by_key(|info| info.id())
            .context("no such program")?;
        Ok(Self(Kept::Found(found.fd()?)))
    }

    /// Runs it `repeat` times on the same frame, which keeps what earlier runs wrote to it.
    ///
    /// # Errors
    ///
    /// The kernel's: it refuses frames shorter than 14 bytes and longer than a page, about.
    pub fn run(&self, frame: &[u8], repeat: u32) -> io::Result<Ran> {
        run(self.as_fd(), frame, &mut [], repeat)
    }
}

impl From<Program> for Timed {
    fn from(program: Program) -> Self {
        Self(Kept::Own(program.into()))
    }
}

impl AsFd for Timed {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.0 {
            Kept::Own(fd) => fd.as_fd(),
            Kept::Found(fd) => fd.as_fd(),
        }
    }
}

/// Runs a program; the frame's beginning, as it is afterwards, goes to `after`.
pub(crate) fn run(program: BorrowedFd<'_>, frame: &[u8], after: &mut [u8], repeat: u32) -> io::Result<Ran> {
    let mut run = TestRun {
        program: program.as_raw_fd() as u32,
        data_size_in: frame.len() as u32,
        data_in: frame.as_ptr() as u64,
        data_size_out: after.len() as u32,
        data_out: if after.is_empty() { 0 } else { after.as_mut_ptr() as u64 },
        repeat,
        ..TestRun::default()
    };
    bpf::test_run(&mut run)?;
    Ok(Ran { action: run.result, nanoseconds: f64::from(run.duration) })
}

/// The program's number in a descriptor's description; `None` for other descriptors.
fn program_id(text: &str) -> Option<u32> {
    text.lines().find_map(|line| line.strip_prefix("prog_id:")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::program_id;

    #[test]
    fn only_programs_have_a_number() {
        let text = "pos:\t0\nflags:\t02000002\nprog_type:\t6\nprog_jited:\t1\nprog_id:\t7440\n";
        assert_eq!(program_id(text), Some(7440));
        assert_eq!(program_id("pos:\t0\nflags:\t02\nmap_id:\t3\n"), None);
    }
}
