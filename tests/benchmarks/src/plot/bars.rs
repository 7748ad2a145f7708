//! A plot of bars: one for each thing that was measured, with its spread.

use plotters::{coord::Shift, prelude::*, style::text_anchor::HPos};

use super::{
    Drawn, axis, drawn,
    text::{self, GRID, INK, PALE},
};
use crate::samples::Spread;

/// Room for the names: at least this much, and this much for each character.
const LEFT: u32 = 190;
const CHARACTER: f64 = 7.4;
const WIDTH: u32 = 560;
const ROW: u32 = 34;
const TOP: u32 = 70;
/// Room for the ticks.
const BOTTOM: u32 = 60;
/// Room for the last figure.
const RIGHT: u32 = 90;
const BAR: RGBColor = RGBColor(0x3b, 0x76, 0xaf);

/// A plot with horizontal bars from zero.
pub fn bars(title: &str, unit: &str, bars: &[(&str, Spread)]) -> String {
    let longest = bars.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let left = LEFT.max((CHARACTER * longest as f64) as u32 + 30);
    let size = (left + WIDTH + RIGHT, TOP + ROW * bars.len() as u32 + BOTTOM);
    let subtitle = format!("{unit}; the bar is the median, the line the lowest and the highest run");
    drawn(size, title, &subtitle, |root| draw(root, left, bars))
}

fn draw(root: &DrawingArea<SVGBackend<'_>, Shift>, left: u32, bars: &[(&str, Spread)]) -> Drawn {
    let last = axis::even(bars.iter().map(|(_, spread)| spread.highest()).fold(0.0, f64::max));
    let mut chart = ChartBuilder::on(root)
        .margin_top(TOP)
        .margin_right(RIGHT)
        .margin_left(left)
        .x_label_area_size(BOTTOM)
        // The first bar is at the top.
        .build_cartesian_2d(0.0..last, bars.len() as f64..0.0)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .max_light_lines(0)
        .x_labels(7)
        .disable_y_axis()
        .bold_line_style(GRID)
        .axis_style(GRID)
        .x_label_style(text::small(PALE, HPos::Center))
        .x_label_formatter(&|value| text::short(*value))
        .draw()?;
    for (row, (name, spread)) in bars.iter().enumerate() {
        let (top, middle, bottom) = (row as f64 + 0.18, row as f64 + 0.5, row as f64 + 0.82);
        let range = [(spread.lowest(), middle), (spread.highest(), middle)];
        chart.draw_series([Rectangle::new([(0.0, top), (spread.median(), bottom)], BAR.filled())])?;
        chart.draw_series([PathElement::new(range, INK.stroke_width(2))])?;
        let (start, height) = chart.backend_coord(&(0.0, middle));
        let (end, _) = chart.backend_coord(&(spread.highest(), middle));
        root.draw(&Text::new(*name, (start - 10, height), text::small(INK, HPos::Right)))?;
        let figure = text::short(spread.median());
        root.draw(&Text::new(figure, (end + 8, height), text::small(INK, HPos::Left)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Spread, bars};

    #[test]
    fn every_bar_is_there_and_fits() {
        let spread = |value| Spread::of([value]).unwrap();
        let svg = bars("a < b", "ms", &[("one", spread(1.0)), ("two", spread(95.0))]);
        assert!(svg.contains("a &lt; b"));
        assert!(svg.contains("\none\n") && svg.contains("\ntwo\n"));
        assert!(svg.contains("width=\"531\""), "95 of a scale that ends at 100: {svg}");
    }

    #[test]
    fn long_names_have_room() {
        let spread = Spread::of([1.0]).unwrap();
        let svg = bars("", "ms", &[(&"n".repeat(40), spread)]);
        assert!(svg.contains("viewBox=\"0 0 976 "), "40 characters need more than there is: {svg}");
    }
}
