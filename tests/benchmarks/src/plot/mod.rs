//! Plots as SVG.

mod axis;
mod bars;
mod lines;
mod text;

use std::{fs, io, path::Path};

use anyhow::Context;
use plotters::{coord::Shift, drawing::DrawingAreaErrorKind, prelude::*, style::text_anchor::HPos};

pub use bars::bars;
pub use lines::{Line, Lines, Scale};

/// What drawing comes to.
type Drawn = Result<(), DrawingAreaErrorKind<io::Error>>;

/// A plot of this size with a title, a subtitle, and the rest.
fn drawn(
    size: (u32, u32),
    title: &str,
    subtitle: &str,
    rest: impl FnOnce(&DrawingArea<SVGBackend<'_>, Shift>) -> Drawn,
) -> String {
    let mut svg = String::new();
    let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
    let all = || {
        root.fill(&WHITE)?;
        root.draw(&Text::new(title, (16, 24), text::title()))?;
        root.draw(&Text::new(subtitle, (16, 46), text::small(text::PALE, HPos::Left)))?;
        rest(&root)?;
        root.present()
    };
    all().expect("a text in memory takes everything");
    drop(root);
    svg
}

/// Writes a plot, and says so.
///
/// # Errors
///
/// When the directory cannot be made or the file not be written.
pub fn write(directory: &Path, name: &str, svg: &str) -> anyhow::Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    let path = directory.join(name);
    fs::write(&path, svg).with_context(|| format!("cannot write {}", path.display()))?;
    println!("wrote {}", path.display());
    Ok(())
}
