//! What this machine is: where things are on it, and how a command runs as root.

use std::{
    env,
    ffi::OsStr,
    fs,
    io::IsTerminal,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, bail};

/// The workspace's directory.
pub(crate) fn workspace() -> PathBuf {
    // xtask is always run by cargo from the tree that it was built in.
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is a directory of the workspace").to_owned()
}

/// Where logs and generated inputs go; created.
pub(crate) fn scratch() -> anyhow::Result<PathBuf> {
    let directory = target().join("xtask");
    fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
    Ok(directory)
}

/// Cargo's target directory.
pub(crate) fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), |dir| workspace().join(dir))
}

/// What qemu runs a machine with.
///
/// `/dev/kvm` alone proves nothing: in some guests it can be opened, and nothing ever boots. The processor has
/// to say that it virtualises.
pub(crate) fn accelerator() -> &'static str {
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let virtualises = processor
        .lines()
        .find(|line| line.starts_with("flags"))
        .is_some_and(|line| line.split_whitespace().any(|flag| flag == "vmx" || flag == "svm"));
    let usable = fs::OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok();
    if virtualises && usable { "kvm" } else { "tcg" }
}

/// A command with no standard input, that finds what `cargo install` and the administrator's directories hold.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).env("PATH", search_path()).current_dir(workspace());
    // Cargo describes xtask itself to xtask in its environment; nothing that xtask starts should see it.
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(name);
        }
    }
    command
}

/// Cargo, for the workspace.
pub(crate) fn cargo() -> Command {
    command(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// `program` as root: directly, or through sudo.
///
/// # Errors
///
/// When this is not root and sudo is missing or wants a password and there is no terminal to ask on.
pub(crate) fn root_command(program: &str, why: &str) -> anyhow::Result<Command> {
    let Some(prefix) = root_prefix(why)? else { return Ok(command(program)) };
    let mut words = prefix.into_iter();
    let mut sudo = command(words.next().expect("the prefix begins with sudo"));
    sudo.args(words).arg(program);
    Ok(sudo)
}

/// The words that make a command run as root; `None` when this is root already.
pub(crate) fn root_prefix(why: &str) -> anyhow::Result<Option<Vec<String>>> {
    if is_root() {
        return Ok(None);
    }
    if find("sudo").is_none() {
        bail!("{why} needs root, and there is no sudo: run this command as root");
    }
    println!("{why} needs root: using sudo");
    let quiet = command("sudo").args(["-n", "true"]).stderr(Stdio::null()).status()?;
    if !quiet.success() {
        if !std::io::stderr().is_terminal() {
            bail!(
                "{why} needs root, and sudo wants a password: run `sudo -v` first, or run this command as root"
            );
        }
        if !Command::new("sudo").arg("-v").status()?.success() {
            bail!("{why} needs root, and sudo refused");
        }
    }
    // sudo replaces PATH by its own; the tests need cargo's.
    let path = format!("PATH={}", search_path());
    Ok(Some(["sudo", "-n", "-E", "env", &path].map(str::to_owned).into()))
}

/// Whether this process is root.
pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// The first executable of that name.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    env::split_paths(&search_path()).map(|directory| directory.join(program)).find(|path| path.is_file())
}

/// Cargo's directory for installed programs.
pub(crate) fn cargo_bin() -> Option<PathBuf> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    Some(home.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")))?.join("bin"))
}

fn search_path() -> String {
    let own = env::var("PATH").unwrap_or_default();
    let mut directories: Vec<PathBuf> = env::split_paths(&own).collect();
    let more = cargo_bin().into_iter().chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    for directory in more {
        if !directories.contains(&directory) {
            directories.push(directory);
        }
    }
    env::join_paths(directories).ok().and_then(|path| path.into_string().ok()).unwrap_or(own)
}
