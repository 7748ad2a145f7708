//! What the kernel's verifier says of each variant of the program, beside what it said when that was last accepted.

use std::fmt;

use anyhow::Context;
use filter_ebpf::{layout, measure};
use filter_user::model::Engine;

use crate::{machine, objects::Object, verified::Verified};

/// The accepted figures; `cargo xtask verifier --accept` writes them.
pub const RECORD: &str = include_str!("../../verifier.txt");

/// The most instructions that a verifier may look at in what judges packets: a tenth of what it gives up at.
const LIMIT: u32 = 100_000;

/// The programs that judge packets; the others measure.
const JUDGES: [&str; 2] = [layout::PROGRAM, layout::PROGRAM_LINEAR];

/// Lines for each generation of the `flat` engine: the program holds their number as a constant.
const ROOM: u32 = 1024;

/// A figure may be so much larger than the accepted one, in hundredths.
const GROWTH: u64 = 10;

/// The command that accepts new figures.
const ACCEPT: &str = "cargo xtask verifier --accept [--kernel all]";

/// One program as it is loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variant {
    program: String,
    engine: String,
    /// With the program's own debug lines.
    debug: bool,
}

/// A variant on one kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    kernel: String,
    variant: Variant,
    verified: Verified,
}

/// The running kernel's series, as the record has it: `6.18`.
pub fn kernel() -> String {
    let (major, minor) = machine::kernel();
    format!("{major}.{minor}")
}

/// Loads every variant that the running kernel can have. This must be the only thread of its process.
///
/// # Errors
///
/// When one does not load.
pub fn measure() -> anyhow::Result<Vec<Row>> {
    let kernel = kernel();
    let mut rows = Vec::new();
    for (object, program, debug) in [
        (Object::Product, layout::PROGRAM, false),
        (Object::Product, layout::PROGRAM, true),
        (Object::Product, layout::PROGRAM_LINEAR, false),
        (Object::Product, layout::PROGRAM_LINEAR, true),
        (Object::Measuring, measure::PROGRAM_LOOKUPS, false),
        (Object::Measuring, measure::PROGRAM_BARE, false),
    ] {
        if program == layout::PROGRAM && !machine::knows_frags() {
            continue;
        }
        for (engine, room) in [(Engine::Flat, ROOM), (Engine::Lpm, 0)] {
            let variant = Variant { program: program.to_owned(), engine: engine.to_string(), debug };
            let verified =
                Verified::new(object, program, engine, room, debug).with_context(|| variant.to_string())?;
            rows.push(Row { kernel: kernel.clone(), variant, verified });
        }
    }
    Ok(rows)
}

/// The rows in a text like [`RECORD`].
///
/// # Errors
///
/// A line that is none.
pub fn parse(text: &str) -> anyhow::Result<Vec<Row>> {
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    lines.map(|line| row(line).with_context(|| format!("not a row: {line}"))).collect()
}

fn row(line: &str) -> anyhow::Result<Row> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [kernel, program, engine, debug, instructions, stack, translated, machine_code] = fields[..] else {
        anyhow::bail!("it has {} fields", fields.len());
    };
    Ok(Row {
        kernel: kernel.to_owned(),
        variant: Variant { program: program.to_owned(), engine: engine.to_owned(), debug: debug == "debug" },
        verified: Verified {
            instructions: instructions.parse()?,
            stack: stack.split('+').map(str::parse).collect::<Result<_, _>>()?,
            translated: translated.parse()?,
            machine_code: machine_code.parse()?,
        },
    })
}

/// What has come of the comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// Every figure is at most a tenth larger than the accepted one; these have changed.
    Close(Vec<String>),
    /// There are no accepted figures of this kernel, and no variant is over the limit.
    NotRecorded,
    /// What is wrong, and what to do about it.
    Grown(Vec<String>),
}

/// Compares the figures of one kernel with what was accepted.
pub fn compare(accepted: &[Row], measured: &[Row]) -> Comparison {
    let mut wrong: Vec<String> = measured
        .iter()
        .filter(|row| row.verified.instructions > LIMIT && JUDGES.contains(&&*row.variant.program))
        .map(|row| {
            format!("{row}: the verifier looks at {} instructions, over {LIMIT}", row.verified.instructions)
        })
        .collect();
    let kernel = measured.first().map(|row| &row.kernel);
    let accepted: Vec<&Row> = accepted.iter().filter(|row| Some(&row.kernel) == kernel).collect();
    if accepted.is_empty() && wrong.is_empty() {
        return Comparison::NotRecorded;
    }
    let mut changed = Vec::new();
    if !accepted.is_empty() {
        for row in measured {
            let Some(before) = accepted.iter().find(|accepted| accepted.variant == row.variant) else {
                wrong.push(format!("{row}: it is new; `{ACCEPT}` records it"));
                continue;
            };
            for ((name, before, spare), (_, after, _)) in
                figures(&before.verified).into_iter().zip(figures(&row.verified))
            {
                let line = format!("{row}: {name}, {before} before, {after} now");
                if u64::from(after) * 100 > u64::from(before) * (100 + GROWTH) + spare * 100 {
                    wrong.push(format!("{line}; if that is meant, `{ACCEPT}` accepts it"));
                } else if after != before {
                    changed.push(line);
                }
            }
        }
        for gone in accepted.iter().filter(|row| !measured.iter().any(|new| new.variant == row.variant)) {
            wrong.push(format!("{gone}: it is recorded, and there is none any more; `{ACCEPT}` forgets it"));
        }
    }
    if wrong.is_empty() { Comparison::Close(changed) } else { Comparison::Grown(wrong) }
}

/// Each figure's name and value, and by how much it may differ between machines.
fn figures(verified: &Verified) -> [(&'static str, u32, u64); 4] {
    [
        ("verified instructions", verified.instructions, 0),
        ("bytes of stack", verified.whole_stack(), 0),
        ("bytes translated", verified.translated, 0),
        // Each function begins with an instruction more where the processor guards jumps.
        ("bytes of machine code", verified.machine_code, 32),
    ]
}

impl Row {
    /// The row as it is recorded.
    pub fn line(&self) -> String {
        let Self { kernel, variant: Variant { program, engine, debug }, verified } = self;
        let debug = if *debug { "debug" } else { "plain" };
        let stack: Vec<String> = verified.stack.iter().map(u32::to_string).collect();
        format!(
            "{kernel:<7} {program:<16} {engine:<5} {debug:<5} {:>8} {:>12} {:>10} {:>8}",
            verified.instructions,
            stack.join("+"),
            verified.translated,
            verified.machine_code
        )
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, engine {}{}", self.program, self.engine, if self.debug { ", debug lines" } else { "" })
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on Linux {}", self.variant, self.kernel)
    }
}

#[cfg(test)]
mod tests {
    use super::{ACCEPT, Comparison, RECORD, Row, compare, parse};

    fn rows(text: &str) -> Vec<Row> {
        parse(text).unwrap()
    }

    const BEFORE: &str = "# kernel\n\n6.1 nicgate flat plain 1000 100+8 500 400\n6.1 nicgate lpm debug 10 8 9 9\n\
                          6.18 nicgate flat plain 2000 108 500 400\n";

    fn grown(after: &str) -> Vec<String> {
        match compare(&rows(BEFORE), &rows(after)) {
            Comparison::Grown(wrong) => wrong,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_recorded_can_be_read_and_reads_the_same_when_written() {
        for text in [BEFORE, RECORD] {
            let lines: Vec<String> = rows(text).iter().map(Row::line).collect();
            assert_eq!(rows(&lines.join("\n")), rows(text));
        }
        assert!(parse("6.1 nicgate flat").is_err());
        assert!(parse("6.1 nicgate flat plain x 8 9 9").is_err());
    }

    #[test]
    fn a_tenth_more_is_told_and_more_than_that_is_wrong() {
        let close = compare(&rows(BEFORE), &rows("6.18 nicgate flat plain 2200 118 400 472"));
        let Comparison::Close(changed) = close else { panic!("{close:?}") };
        assert_eq!(changed.len(), 4, "{changed:?}");
        let wrong = grown("6.18 nicgate flat plain 2201 119 551 473");
        assert_eq!(wrong.len(), 4, "{wrong:?}");
        for word in ["nicgate, engine flat on Linux 6.18", "2000 before", "2201 now", ACCEPT] {
            assert!(wrong[0].contains(word), "{word} is not in {}", wrong[0]);
        }
        // The functions share the stack as they like.
        let same = rows("6.1 nicgate flat plain 1000 50+58 500 400\n6.1 nicgate lpm debug 10 8 9 9");
        assert_eq!(compare(&rows(BEFORE), &same), Comparison::Close(Vec::new()));
    }

    #[test]
    fn another_kernel_has_only_the_limit() {
        assert_eq!(
            compare(&rows(BEFORE), &rows("6.12 nicgate flat plain 100000 8 1 1")),
            Comparison::NotRecorded
        );
        let wrong = grown("6.12 nicgate flat plain 100001 8 1 1");
        assert!(wrong[0].contains("over 100000"), "{wrong:?}");
    }

    #[test]
    fn a_variant_that_comes_or_goes_is_noticed() {
        let wrong = grown("6.18 nicgate flat plain 2000 108 500 400\n6.18 nicgate flat debug 1 1 1 1");
        assert!(wrong[0].contains("debug lines") && wrong[0].contains("new"), "{wrong:?}");
        let wrong = grown("6.1 nicgate flat plain 1000 108 500 400");
        assert!(wrong[0].contains("engine lpm") && wrong[0].contains("any more"), "{wrong:?}");
    }
}
