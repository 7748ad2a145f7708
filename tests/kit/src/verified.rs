//! What the kernel's verifier says of the program.

use std::io;

use anyhow::{Context, Result, anyhow, bail};
use aya::{VerifierLogLevel, programs::ProgramError};
use filter_user::model::Engine;

use crate::objects::{self, Object, Settings};

/// What the kernel's verifier found in one program, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Instructions that the verifier looked at, on all paths; it gives up at a million.
    pub instructions: u32,
    /// Bytes of stack, of the program and of each function that it calls; the chain of calls may have 512.
    pub stack: Vec<u32>,
    /// Bytes of the program as the verifier left it, without what can never run.
    pub translated: u32,
    /// Bytes of machine code; 0 where the kernel interprets programs.
    pub machine_code: u32,
}

impl Verified {
    /// Loads a program by its name, as a filter does, and lets it go again.
    ///
    /// While this runs no thread of the process can open a file: it is for a process of its own.
    ///
    /// # Errors
    ///
    /// There is no such program, privileges are missing, or the kernel refuses it.
    pub fn new(object: Object, program: &str, engine: Engine, room: u32, debug: bool) -> Result<Self> {
        let settings = Settings { debug, log: VerifierLogLevel::STATS, ..Settings::new(engine, room) };
        let mut object = objects::open(object, settings, &[])?;
        let program = objects::program(&mut object, program)?;
        // aya shows the verifier's log only when loading fails. Where no descriptor is left for the program, it
        // fails, but only once all of it has been verified.
        let log = {
            let _none = NoDescriptors::new()?;
            match program.load() {
                Err(ProgramError::LoadError { io_error, verifier_log })
                    if io_error.raw_os_error() == Some(libc::EMFILE) =>
                {
                    verifier_log.to_string()
                }
                Err(error) => return Err(error).context("could not load the program"),
                Ok(()) => bail!("the kernel found a descriptor although none was allowed"),
            }
        };
        let (instructions, stack) =
            statistics(&log).with_context(|| format!("the verifier's log has no statistics: {log}"))?;
        program.load().context("could not load the program")?;
        let info = program.info()?;
        let translated = info.size_translated().context("the kernel does not tell a program's size")?;
        Ok(Self { instructions, stack, translated, machine_code: info.size_jitted() })
    }

    /// All of the stack, as if every function called the next.
    pub fn whole_stack(&self) -> u32 {
        self.stack.iter().sum()
    }
}

/// `stack depth A+B` and `processed N insns (limit …`.
fn statistics(log: &str) -> Option<(u32, Vec<u32>)> {
    let after = |words: &str| log.lines().find_map(|line| line.strip_prefix(words));
    let instructions = after("processed ")?.split(' ').next()?.parse().ok()?;
    let stack = after("stack depth ")?.split_whitespace().next()?;
    let stack = stack.split('+').map(str::parse).collect::<Result<_, _>>().ok()?;
    Some((instructions, stack))
}

/// Until it is dropped, this process gets no new descriptors.
struct NoDescriptors(libc::rlimit);

impl NoDescriptors {
    fn new() -> Result<Self> {
        let mut before = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: writes one structure, which outlives the call.
        if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut before) } != 0 {
            return Err(io::Error::last_os_error()).context("getrlimit");
        }
        limit(&libc::rlimit { rlim_cur: 0, ..before }).map_err(|error| anyhow!("setrlimit: {error}"))?;
        Ok(Self(before))
    }
}

impl Drop for NoDescriptors {
    fn drop(&mut self) {
        limit(&self.0).expect("raising the soft limit to what it was is always allowed");
    }
}

fn limit(limit: &libc::rlimit) -> io::Result<()> {
    // SAFETY: reads one structure, which outlives the call.
    match unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, limit) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::statistics;

    #[test]
    fn reads_the_verifiers_statistics() {
        let log = "verification time 2041 usec\nstack depth 312+0+64\nprocessed 1234 insns (limit 1000000) \
                   max_states_per_insn 4 total_states 65 peak_states 65 mark_read 12\n";
        assert_eq!(statistics(log), Some((1234, vec![312, 0, 64])));
        assert_eq!(statistics("stack depth 8 max 8\nprocessed 2 insns"), Some((2, vec![8])));
        assert_eq!(statistics("processed 2 insns"), None);
        assert_eq!(statistics(""), None);
    }
}
