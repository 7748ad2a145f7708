//! Debian's kernels: found in the package lists, downloaded, unpacked into `target/vm`, never installed.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};

use super::module::Modules;
use crate::{machine, step};

/// A kernel, and its modules that a network needs.
pub(super) struct Kernel {
    release: String,
    directory: PathBuf,
}

impl Kernel {
    /// The newest kernel of a series (`6.12`) that the package lists have.
    ///
    /// # Errors
    ///
    /// When they have none, or it cannot be fetched or unpacked.
    pub(super) fn fetch(series: &str) -> anyhow::Result<Self> {
        let package = newest(series)?;
        let release = package.strip_prefix("linux-image-").unwrap_or(&package).to_owned();
        let kernel = Self { directory: directory()?.join(&release), release };
        if !kernel.image().is_file() {
            println!("fetching {package} with apt-get download (unpacked into target/vm, not installed) …");
            unpack(
                &package,
                &kernel.directory,
                &[
                    "./boot/vmlinuz-*",
                    "./lib/modules/*/kernel/net",
                    "./lib/modules/*/kernel/drivers/net/veth*",
                ],
            )?;
        }
        Ok(kernel)
    }

    /// As `uname -r` has it.
    pub(super) fn release(&self) -> &str {
        &self.release
    }

    /// What boots.
    pub(super) fn image(&self) -> PathBuf {
        self.directory.join("boot").join(format!("vmlinuz-{}", self.release))
    }

    /// Its modules.
    pub(super) fn modules(&self) -> anyhow::Result<Modules> {
        Modules::find(&self.directory.join("lib/modules").join(&self.release).join("kernel"))
    }
}

/// Where kernels and initial file systems are kept; created.
pub(super) fn directory() -> anyhow::Result<PathBuf> {
    let directory = machine::target().join("vm");
    fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
    Ok(directory)
}

/// busybox, which is the guest's shell.
///
/// # Errors
///
/// When it cannot be fetched or unpacked.
pub(super) fn busybox() -> anyhow::Result<PathBuf> {
    let directory = directory()?.join("busybox");
    let file = directory.join("bin/busybox");
    if !file.is_file() {
        println!("fetching busybox-static with apt-get download (unpacked into target/vm, not installed) …");
        unpack("busybox-static", &directory, &["./bin/busybox"])?;
    }
    Ok(file)
}

fn newest(series: &str) -> anyhow::Result<String> {
    if series.is_empty() || !series.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        bail!("--kernel takes a series of numbers, like 6.12, or all; not {series}");
    }
    let pattern = format!("^linux-image-{}\\..*-amd64$", series.replace('.', "\\."));
    let mut search = machine::command("apt-cache");
    let output =
        search.args(["search", "--names-only", &pattern]).output().context("cannot run apt-cache")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let names = text.lines().filter_map(|line| line.split_whitespace().next());
    // The plain variant: the cloud one has no pktgen, the real-time one is another kernel.
    let plain = names.filter(|name| !name.contains("-cloud-") && !name.contains("-rt-"));
    plain.max_by_key(|name| numbers(name)).map(str::to_owned).with_context(|| {
        format!(
            "the package lists have no Linux {series} for amd64; `apt-get update`, or name another series with --kernel"
        )
    })
}

/// The numbers in a version, in order, so that 6.12.9 is older than 6.12.10.
fn numbers(name: &str) -> Vec<u64> {
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

/// Downloads a package and unpacks what matches.
fn unpack(package: &str, into: &Path, patterns: &[&str]) -> anyhow::Result<()> {
    let downloads = into.with_extension("download");
    // Half a download is as good as none.
    let _ = fs::remove_dir_all(&downloads);
    fs::create_dir_all(&downloads).with_context(|| format!("cannot create {}", downloads.display()))?;
    let mut download = machine::command("apt-get");
    download.args(["download", "--quiet", package]).current_dir(&downloads);
    step::run(&mut download, &format!("vm-{package}"))?;
    let archive = fs::read_dir(&downloads)?.flatten().map(|entry| entry.path()).next();
    let archive = archive.with_context(|| format!("apt-get download {package} left nothing"))?;
    fs::create_dir_all(into)?;
    let mut contents = machine::command("dpkg-deb");
    contents.arg("--fsys-tarfile").arg(&archive).stdout(std::process::Stdio::piped());
    let mut contents = contents.spawn().context("cannot run dpkg-deb")?;
    let mut tar = machine::command("tar");
    tar.args(["--extract", "--wildcards", "--directory"]).arg(into).args(patterns);
    tar.stdin(contents.stdout.take().expect("it was piped"));
    step::run(&mut tar, &format!("vm-unpack-{package}"))?;
    if !contents.wait()?.success() {
        bail!("dpkg-deb cannot read {}", archive.display());
    }
    fs::remove_dir_all(&downloads)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::numbers;

    #[test]
    fn a_later_release_is_newer_however_many_digits_it_has() {
        assert!(numbers("linux-image-6.1.0-9-amd64") < numbers("linux-image-6.1.0-56-amd64"));
        assert!(numbers("linux-image-6.12.99+deb12-amd64") < numbers("linux-image-6.12.117+deb12-amd64"));
    }
}
