//! A table's lines, mapped into memory.

use std::{ops::Range, os::fd::AsFd as _, path::Path};

use aya::maps::MapData;
use filter_ebpf::flat::{LINE_BYTES, Line};

use super::{
    error::{Context as _, Error, Result},
    sys::Mapping,
};

/// The lines of both generations, mapped into memory (`BPF_F_MMAPABLE`, Linux 5.5): a table of any size is written without a system call.
#[derive(Debug)]
pub(super) struct TableMemory {
    lines: Mapping<Line>,
    count: u32,
    map: MapData,
}

impl TableMemory {
    pub(super) fn new(map: MapData) -> Result<Self> {
        let info = map.info().context("could not look at the table of addresses")?;
        if info.value_size() as usize != LINE_BYTES {
            return Err(Error::other_version("the table of addresses is of another build"));
        }
        let count = info.max_entries();
        let lines = Mapping::new(map.fd().as_fd(), count as usize)
            .context("could not map the table of addresses into memory")?;
        Ok(Self { lines, count, map })
    }

    pub(super) fn from_pin(path: &Path) -> Result<Self> {
        let map = MapData::from_pin(path).with_context(|| format!("could not open {}", path.display()))?;
        Self::new(map)
    }

    /// How many lines each generation has.
    pub(super) fn room(&self) -> usize {
        self.count as usize / 2
    }

    /// The number of a generation's first line.
    fn start(&self, generation: u32) -> usize {
        generation as usize * self.room()
    }

    /// Writes lines of a generation. No packet may be judged by it.
    pub(super) fn write(&mut self, generation: u32, first: usize, lines: &[Line]) {
        assert!(first + lines.len() <= self.room() && generation < 2);
        // SAFETY: inside the mapping, which overlaps no Rust object; aligned because lines and mappings are.
        unsafe {
            let to = self.lines.as_ptr().add(self.start(generation) + first);
            to.copy_from_nonoverlapping(lines.as_ptr(), lines.len());
        }
    }

    /// A copy of some lines of a generation; what is outside is left out.
    pub(super) fn read(&self, generation: u32, lines: Range<usize>) -> Vec<Line> {
        assert!(generation < 2);
        let from = self.start(generation);
        (lines.start..lines.end.min(self.room()))
            .map(|line| {
                // SAFETY: inside the mapping; volatile because another process may write meanwhile, and every
                // bit pattern is a line.
                unsafe { self.lines.as_ptr().add(from + line).read_volatile() }
            })
            .collect()
    }

    /// A copy of all lines of a generation, the unused ones included.
    pub(super) fn read_all(&self, generation: u32) -> Vec<Line> {
        self.read(generation, 0..self.room())
    }

    /// Lines up to the last one that is not zero, in the larger of the two generations.
    pub(super) fn used(&self) -> usize {
        (0..2).map(|generation| used(&self.read_all(generation))).max().unwrap_or(0)
    }

    /// Takes over the live generation of a smaller or larger map that a program may still judge by.
    ///
    /// # Errors
    ///
    /// It does not fit.
    pub(super) fn take_over(&mut self, old: &Self, generation: u32) -> Result<()> {
        let mut lines = old.read_all(generation);
        lines.truncate(used(&lines));
        if lines.len() > self.room() {
            return Err(Error::unexpected("the live table needs more room than the next"));
        }
        self.write(generation, 0, &lines);
        Ok(())
    }

    /// Pins the map in place of the one that was pinned there before.
    pub(super) fn pin(&self, path: &Path) -> Result<()> {
        let next = path.with_file_name("lines-next");
        if next.exists() {
            std::fs::remove_file(&next)?;
        }
        self.map.pin(&next).with_context(|| format!("could not pin {}", next.display()))?;
        std::fs::rename(&next, path).with_context(|| format!("could not pin {}", path.display()))
    }
}

fn used(lines: &[Line]) -> usize {
    lines.iter().rposition(|line| *line != [0; 8]).map_or(0, |last| last + 1)
}
