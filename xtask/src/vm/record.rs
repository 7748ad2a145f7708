//! `tests/verifier.txt`: what the verifier says of each variant of the program, kernel by kernel, as it was accepted.

use std::{fs, path::Path};

use anyhow::{Context, bail};

use super::{
    LIMIT,
    boot::{self, Outcome},
    guest::Guest,
    kernel::Kernel,
};
use crate::machine;

/// Relative to the workspace.
const FILE: &str = "tests/verifier.txt";

const HEAD: &str = "\
# What the kernel's verifier says of each variant of the program. The test `verifier` fails where a figure is more than
# a tenth larger than here; `cargo xtask verifier --accept` writes the running kernel's, and with `--kernel all` those
# of the virtual machines' kernels, too.
#
# verified: instructions that the verifier looked at. stack: bytes, of the program and of each function that it calls.
# translated: bytes of the program as the verifier left it. machine: bytes of machine code.
#
# kernel program         engine lines verified        stack translated  machine
";

/// The rows of this kernel.
pub(super) fn here(program: &Path) -> anyhow::Result<Vec<String>> {
    let program = program.to_str().context("the target directory's name is not UTF-8")?;
    let mut command = machine::root_command(program, "loading XDP programs")?;
    let output = command.stderr(std::process::Stdio::inherit()).output()?;
    if !output.status.success() {
        bail!("a variant does not load on the running kernel");
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}

/// The rows of another.
pub(super) fn there(kernel: &Kernel, guest: &Guest, command: &[String]) -> anyhow::Result<Vec<String>> {
    let mut lines = Vec::new();
    match boot::run(kernel, guest, command, LIMIT, |line| lines.push(line.to_owned()))? {
        Outcome::Exited(0) => Ok(lines),
        Outcome::Exited(_) => {
            bail!("a variant does not load on Linux {}:\n{}", kernel.release(), lines.join("\n"))
        }
        Outcome::Died(why) => bail!("the machine with Linux {} died: {why}", kernel.release()),
    }
}

/// Prints rows, and under each that has changed what it was.
pub(super) fn show(rows: &[String]) -> anyhow::Result<()> {
    let before = read()?;
    print!("{}", HEAD.lines().last().map(|line| format!("{line}\n")).unwrap_or_default());
    for row in rows {
        println!("{row}");
        match before.iter().find(|old| name(old) == name(row)) {
            Some(old) if old != row => println!("{old}   <- recorded"),
            Some(_) => {}
            None => println!("        not recorded"),
        }
    }
    Ok(())
}

/// Records the rows in place of all that there are of the same kernels.
pub(super) fn accept(rows: &[String]) -> anyhow::Result<()> {
    let text = merged(&read()?, rows);
    fs::write(machine::workspace().join(FILE), text).with_context(|| format!("cannot write {FILE}"))?;
    println!("recorded in {FILE}");
    Ok(())
}

fn read() -> anyhow::Result<Vec<String>> {
    let text = fs::read_to_string(machine::workspace().join(FILE));
    let text = text.with_context(|| format!("cannot read {FILE}"))?;
    Ok(text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).map(str::to_owned).collect())
}

fn merged(before: &[String], rows: &[String]) -> String {
    let kept = before.iter().filter(|old| !rows.iter().any(|row| kernel(row) == kernel(old)));
    let mut all: Vec<&String> = kept.chain(rows).collect();
    // Stable: the rows of one kernel stay as they were measured.
    all.sort_by_key(|row| version(row));
    let mut text = HEAD.to_owned();
    let mut last = None;
    for row in all {
        if last.replace(kernel(row)).is_some_and(|last| last != kernel(row)) {
            text.push('\n');
        }
        text.push_str(row);
        text.push('\n');
    }
    text
}

fn kernel(row: &str) -> &str {
    row.split_whitespace().next().unwrap_or_default()
}

fn version(row: &str) -> Vec<u64> {
    kernel(row).split('.').filter_map(|number| number.parse().ok()).collect()
}

/// The kernel and the variant.
fn name(row: &str) -> Vec<&str> {
    row.split_whitespace().take(4).collect()
}

#[cfg(test)]
mod tests {
    use super::{HEAD, merged};

    #[test]
    fn new_rows_replace_those_of_their_kernel_and_leave_the_others() {
        let rows = |rows: &[&str]| rows.iter().map(|row| (*row).to_owned()).collect::<Vec<_>>();
        let before = rows(&["6.1 a flat plain 1", "6.1 gone lpm plain 2", "6.18 a flat plain 3"]);
        let text =
            merged(&before, &rows(&["6.12 b flat plain 5", "6.1 b flat plain 4", "6.1 a flat plain 6"]));
        let expected =
            "6.1 b flat plain 4\n6.1 a flat plain 6\n\n6.12 b flat plain 5\n\n6.18 a flat plain 3\n";
        assert_eq!(text, format!("{HEAD}{expected}"));
        assert!(HEAD.lines().all(|line| line.starts_with('#')), "a line of the head is no row");
    }
}
