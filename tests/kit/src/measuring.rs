//! Lookups alone: the programs that only measure, in the tables of a program that judges.

use std::{
    ffi::CString,
    fs,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context, bail};
use aya::{
    Ebpf, TestRunOptions,
    maps::MapData,
    programs::{TestRun as _, TestRunResult},
};
use filter_ebpf::{
    layout::{self, map},
    measure::{LOOKUPS, Lookups, PROGRAM_DRAWS, PROGRAM_LOOKUPS},
};
use filter_user::kernel::{Bpffs, Unattached};

use crate::objects::{self, Object, Settings};

/// What a program returns for a packet that goes on.
const XDP_PASS: u32 = 2;

/// The maps that addresses are looked up in.
const SHARED: [&str; 4] = [map::STATE, map::LINES, map::V4, map::V6];

/// The programs that only measure. They see the tables of the program that they were made for, until that one is given a
/// table for which it has to be loaded anew.
pub struct Measuring(Ebpf);

impl Measuring {
    /// For the tables that a program has now.
    ///
    /// # Errors
    ///
    /// Missing privileges, or the kernel refuses.
    pub fn new(judge: &mut Unattached) -> anyhow::Result<Self> {
        let maps = judge.maps()?;
        // aya takes maps over from pins only.
        let pins = Pins::new()?;
        let mut paths = Vec::new();
        for name in SHARED {
            let path = pins.0.join(name);
            MapData::from_id(objects::named(&maps, name)?.id())?.pin(&path)?;
            paths.push((name, path));
        }
        let paths: Vec<(&str, &Path)> = paths.iter().map(|(name, path)| (*name, &**path)).collect();
        let room = objects::named(&maps, map::LINES)?.max_entries() / layout::GENERATIONS;
        let mut object = objects::open(Object::Measuring, Settings::new(judge.engine(), room), &paths)?;
        for name in [PROGRAM_LOOKUPS, PROGRAM_DRAWS] {
            objects::program(&mut object, name)?.load().with_context(|| format!("cannot load {name}"))?;
        }
        Ok(Self(object))
    }

    /// Looks up [`LOOKUPS`] addresses, `repeat` times, with nothing else around; returns the mean time of one lookup in
    /// ns. Afterwards `lookups` holds the sum of the classes and where the sequence goes on.
    ///
    /// # Errors
    ///
    /// There is no table yet, or the kernel refuses.
    pub fn look_up(&mut self, lookups: &mut Lookups, repeat: u32) -> anyhow::Result<f64> {
        self.run(PROGRAM_LOOKUPS, lookups, repeat)
    }

    /// What [`Self::look_up`] takes without the lookups: the addresses are drawn, and nothing is looked up.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn draw(&mut self, lookups: &mut Lookups, repeat: u32) -> anyhow::Result<f64> {
        self.run(PROGRAM_DRAWS, lookups, repeat)
    }

    fn run(&mut self, name: &str, lookups: &mut Lookups, repeat: u32) -> anyhow::Result<f64> {
        let program = objects::program(&mut self.0, name)?;
        let data = lookups.to_bytes();
        let mut after = vec![0; data.len()];
        let options = TestRunOptions {
            data_in: Some(&data),
            data_out: Some(&mut after),
            repeat,
            ..TestRunOptions::new()
        };
        let TestRunResult { return_value, duration, .. } =
            program.test_run(options).context("BPF_PROG_TEST_RUN")?;
        if return_value != XDP_PASS {
            bail!("{name} returned {return_value}");
        }
        *lookups = Lookups::from_bytes(&after).context("the frame has become shorter")?;
        Ok(duration.as_nanos() as f64 / f64::from(LOOKUPS))
    }
}

/// A BPF file system of its own, for as long as it takes to hand maps over.
struct Pins(PathBuf);

impl Pins {
    fn new() -> anyhow::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("nicgate-measuring-{}-{number}", process::id()));
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        let pins = Self(path);
        Bpffs::at(&pins.0).mount()?;
        Ok(pins)
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        if let Ok(path) = CString::new(self.0.as_os_str().as_bytes()) {
            // SAFETY: a NUL-terminated path that lives until the call returns.
            unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) };
        }
        let _ = fs::remove_dir(&self.0);
    }
}
