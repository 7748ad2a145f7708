//! Removing what labs leave: namespaces, the processes in them, and pins under the BPF file system.

use std::{fs, path::Path, process::Command};

use super::namespace::ip;

/// Namespaces are named `nicgate-PID-NUMBER-LABEL-HOST`.
const PREFIX: &str = "nicgate-";

/// Where nicgate pins, a directory for each interface.
const PINS: &str = "/sys/fs/bpf/nicgate";

/// The name of a lab's namespace.
pub(super) fn namespace_name(number: u32, label: &str, host: &str) -> String {
    format!("{PREFIX}{}-{number}-{label}-{host}", std::process::id())
}

/// The name of an edge interface: in every namespace another one, because pins are in one place for all of
/// them. At most 15 bytes, which is what the kernel allows.
pub(super) fn interface_name(number: u32) -> String {
    format!("ng{}x{number}", std::process::id())
}

/// Removes what processes that no longer run have left behind. The first lab of a process does so.
pub fn sweep() {
    for name in entries("/run/netns") {
        if owner(name.strip_prefix(PREFIX), '-').is_some_and(dead) {
            remove_namespace(&name);
        }
    }
    for name in entries(PINS) {
        if owner(name.strip_prefix("ng"), 'x').is_some_and(dead) {
            remove_pins(&name);
        }
    }
}

/// Ends what runs in a namespace, and removes it.
pub(super) fn remove_namespace(name: &str) {
    if let Ok(output) = Command::new("ip").args(["netns", "pids", name]).output() {
        let own = std::process::id().to_string();
        let pids = String::from_utf8_lossy(&output.stdout).into_owned();
        for pid in pids.lines().filter(|pid| **pid != own).filter_map(|pid| pid.parse::<libc::pid_t>().ok()) {
            // SAFETY: kill takes no pointers; the process runs in a namespace that a lab made.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
    }
    if let Err(error) = ip(&["netns", "del", name]) {
        eprintln!("{error:#}");
    }
}

/// Removes an interface's pins, if it has any.
pub(super) fn remove_pins(interface: &str) {
    let directory = Path::new(PINS).join(interface);
    if directory.exists()
        && let Err(error) = fs::remove_dir_all(&directory)
    {
        eprintln!("cannot remove {}: {error}", directory.display());
    }
}

fn entries(directory: &str) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// The process id at the beginning of a name's rest.
fn owner(rest: Option<&str>, end: char) -> Option<u32> {
    rest?.split_once(end)?.0.parse().ok()
}

fn dead(pid: u32) -> bool {
    !Path::new(&format!("/proc/{pid}")).exists()
}
