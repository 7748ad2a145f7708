//! `nicgate directives`.

use std::io::Write as _;

use anyhow::anyhow;

use super::{Failure, Output, output::stdout};
use crate::config::{directives, markdown};

pub(super) fn run(name: Option<&str>, output: &Output) -> Result<(), Failure> {
    let mut places = directives();
    if let Some(name) = name {
        for place in &mut places {
            place.directives.retain(|doc| doc.names.contains(&name));
        }
        places.retain(|place| !place.directives.is_empty());
        if places.is_empty() {
            return Err(Failure::Request(anyhow!(
                "nicgate knows no directive `{name}`; `nicgate directives` lists all of them"
            )));
        }
    }
    if output.json {
        output.print_json(&places)?;
        return Ok(());
    }
    let mut out = stdout();
    if name.is_none() {
        write!(out, "{}", markdown(&places))?;
    } else {
        for (number, place) in places.iter().enumerate() {
            let gap = if number == 0 { "" } else { "\n" };
            writeln!(out, "{gap}## {}", place.place)?;
            for doc in &place.directives {
                write!(out, "\n{}", doc.markdown())?;
            }
        }
    }
    out.flush()?;
    Ok(())
}
