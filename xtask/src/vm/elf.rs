//! Programs of this machine, for a guest that has none of its libraries.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context, bail};

use super::archive::Archive;
use crate::machine;

/// Adds a program and the libraries that it needs, each at the path that it has here.
///
/// # Errors
///
/// When a file cannot be read, or a library is missing.
pub(super) fn add(archive: &mut Archive, program: &Path) -> anyhow::Result<()> {
    archive.file(text(program)?, &without_debug_information(program)?)?;
    for library in libraries(program)? {
        let contents = fs::read(&library).with_context(|| format!("cannot read {}", library.display()))?;
        archive.file(text(&library)?, &contents)?;
    }
    Ok(())
}

fn text(path: &Path) -> anyhow::Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}

/// What the loader would load, as `ldd` says: `NAME => PATH (ADDRESS)`, or `PATH (ADDRESS)`.
fn libraries(program: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let output = machine::command("ldd").arg(program).output().context("cannot run ldd")?;
    let text = String::from_utf8_lossy(&output.stdout);
    if let Some(missing) = text.lines().find(|line| line.contains("not found")) {
        bail!("{} cannot run: {}", program.display(), missing.trim());
    }
    // A static program has none, and ldd says so with an error.
    let words = text.lines().filter_map(|line| line.split_whitespace().rev().nth(1));
    Ok(words.filter(|word| word.starts_with('/')).map(PathBuf::from).collect())
}

/// Most of a test's file is debug information, which would only fill the guest's memory.
fn without_debug_information(program: &Path) -> anyhow::Result<Vec<u8>> {
    let read = |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Several guests are made at once.
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let stripped = machine::scratch()?.join(format!("stripped-{}-{number}", std::process::id()));
    let mut strip = machine::command("strip");
    strip.arg("--strip-debug").arg("-o").arg(&stripped).arg(program).stderr(std::process::Stdio::null());
    if !strip.status().is_ok_and(|status| status.success()) {
        return read(program);
    }
    let contents = read(&stripped)?;
    fs::remove_file(&stripped)?;
    Ok(contents)
}
