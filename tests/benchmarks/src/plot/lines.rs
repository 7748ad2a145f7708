//! A plot of lines: what something costs against how much there is of it, both on logarithmic scales or the cost
//! from zero.

use plotters::{
    coord::{
        Shift,
        ranged1d::{AsRangedCoord, ValueFormatter},
    },
    prelude::*,
    style::text_anchor::HPos,
};

use super::{
    Drawn, axis, drawn,
    text::{self, GRID, INK, PALE},
};
use crate::samples::Spread;

/// Room for the cost's name and its ticks.
const LEFT: i32 = 76;
/// What the name's letters need beyond the middle of their height.
const EDGE: i32 = 12;
const TOP: i32 = 78;
const WIDTH: i32 = 600;
const HEIGHT: i32 = 380;
/// Room for the lines' names.
const RIGHT: i32 = 230;
const BOTTOM: i32 = 62;
/// The names' distance from each other.
const NAME: i32 = 17;
/// Colours that the colour-blind can tell apart (Okabe and Ito's), dark enough on white.
const COLOURS: [RGBColor; 6] = [
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0x55, 0x55, 0x55),
    RGBColor(0xe6, 0x9f, 0x00),
];

/// How the cost goes up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// From zero, evenly.
    Even,
    /// Each step is the same factor.
    Logarithmic,
}

/// One thing that was measured, at several amounts.
#[derive(Clone, Debug)]
pub struct Line {
    /// Its name.
    pub name: String,
    /// Which of the colours; what belongs together has one.
    pub colour: usize,
    /// For the second of two that have one colour.
    pub dashed: bool,
    /// Amounts, ascending and above zero, and what was measured there.
    pub points: Vec<(f64, Spread)>,
}

/// A plot.
#[derive(Clone, Debug)]
pub struct Lines<'a> {
    /// What it shows.
    pub title: &'a str,
    /// How it was measured.
    pub subtitle: &'a str,
    /// What there is an amount of.
    pub x: &'a str,
    /// The cost and its unit.
    pub y: &'a str,
    /// How the cost goes up.
    pub scale: Scale,
    /// What was measured.
    pub lines: Vec<Line>,
}

impl Line {
    fn colour(&self) -> RGBColor {
        COLOURS[self.colour % COLOURS.len()]
    }
}

impl Lines<'_> {
    /// The plot. The line is the median, the band around it the lowest and the highest run. A line's name stands at
    /// its end.
    ///
    /// # Panics
    ///
    /// When there is nothing to show.
    pub fn svg(&self) -> String {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let lowest = |values: &mut dyn Iterator<Item = f64>| values.fold(f64::INFINITY, f64::min);
        let highest = |values: &mut dyn Iterator<Item = f64>| values.fold(0.0, f64::max);
        assert!(points().next().is_some(), "a plot of nothing");
        let amounts = axis::logarithmic(
            lowest(&mut points().map(|(amount, _)| *amount)),
            highest(&mut points().map(|(amount, _)| *amount)),
            &[1.0],
        );
        let most = highest(&mut points().map(|(_, spread)| spread.highest()));
        let size = ((LEFT + WIDTH + RIGHT) as u32, (TOP + HEIGHT + BOTTOM) as u32);
        drawn(size, self.title, self.subtitle, |root| match self.scale {
            Scale::Even => self.draw(root, amounts, 0.0, 0.0..axis::even(most)),
            Scale::Logarithmic => {
                // Less than a millionth of the most is noise around nothing.
                let least = lowest(&mut points().map(|(_, spread)| spread.lowest())).max(most * 1e-6);
                let costs = axis::logarithmic(least, most, &[1.0, 2.0, 5.0]);
                let range = costs[0]..costs[costs.len() - 1];
                self.draw(root, amounts, costs[0], range.log_scale().with_key_points(costs))
            }
        })
    }

    /// Everything but the titles; nothing costs less than `least`.
    fn draw<Y>(
        &self,
        root: &DrawingArea<SVGBackend<'_>, Shift>,
        amounts: Vec<f64>,
        least: f64,
        costs: Y,
    ) -> Drawn
    where
        Y: AsRangedCoord<Value = f64>,
        Y::CoordDescType: ValueFormatter<f64>,
    {
        let range = (amounts[0]..amounts[amounts.len() - 1]).log_scale();
        let mut chart = ChartBuilder::on(root)
            .margin_top(TOP)
            .margin_right(RIGHT)
            .margin_left(EDGE)
            .margin_bottom(EDGE)
            .x_label_area_size(BOTTOM - EDGE)
            .y_label_area_size(LEFT - EDGE)
            .build_cartesian_2d(range.with_key_points(amounts), costs)?;
        chart
            .configure_mesh()
            .max_light_lines(0)
            .y_labels(7)
            .bold_line_style(GRID)
            .axis_style(PALE)
            .x_label_style(text::small(PALE, HPos::Center))
            .y_label_style(text::small(PALE, HPos::Right))
            .x_label_formatter(&|amount| text::grouped(*amount))
            .y_label_formatter(&|cost| text::short(*cost))
            .axis_desc_style(text::small(INK, HPos::Center))
            .x_desc(self.x)
            .y_desc(self.y)
            .draw()?;
        let mut ends = Vec::new();
        for line in &self.lines {
            let colour = line.colour();
            let at = |of: fn(&Spread) -> f64| {
                line.points.iter().map(move |(amount, spread)| (*amount, of(spread).max(least)))
            };
            let band: Vec<_> = at(Spread::lowest).chain(at(Spread::highest).rev()).collect();
            chart.draw_series([Polygon::new(band, colour.mix(0.18))])?;
            if line.dashed {
                chart.draw_series(DashedLineSeries::new(at(Spread::median), 7, 4, colour.stroke_width(2)))?;
            } else {
                chart.draw_series(LineSeries::new(at(Spread::median), colour.stroke_width(2)))?;
            }
            chart.draw_series(at(Spread::median).map(|point| Circle::new(point, 3, colour.filled())))?;
            ends.extend(at(Spread::median).next_back().map(|end| (line, chart.backend_coord(&end))));
        }
        let wishes: Vec<i32> = ends.iter().map(|(_, (_, height))| *height).collect();
        for ((line, (x, y)), place) in ends.into_iter().zip(apart(&wishes)) {
            let right = LEFT + WIDTH;
            let leader =
                vec![(x + 5, y), ((right + 4).max(x + 5), y), (right + 16, place), (right + 20, place)];
            root.draw(&PathElement::new(leader, line.colour().mix(0.4)))?;
            root.draw(&Text::new(&*line.name, (right + 24, place), text::small(line.colour(), HPos::Left)))?;
        }
        Ok(())
    }
}

/// Places for names that would like to be at these, none nearer to another than a line of text, and none below the
/// plot.
fn apart(wishes: &[i32]) -> Vec<i32> {
    let mut order: Vec<usize> = (0..wishes.len()).collect();
    order.sort_by_key(|index| wishes[*index]);
    let mut places = wishes.to_vec();
    let mut floor = i32::MIN;
    for index in &order {
        places[*index] = places[*index].max(floor);
        floor = places[*index] + NAME;
    }
    let mut ceiling = TOP + HEIGHT;
    for index in order.iter().rev() {
        places[*index] = places[*index].min(ceiling);
        ceiling = places[*index] - NAME;
    }
    places
}

#[cfg(test)]
mod tests {
    use super::{HEIGHT, Line, Lines, NAME, Scale, TOP, apart};
    use crate::samples::Spread;

    fn line(name: &str, points: &[(f64, f64)]) -> Line {
        let points = points.iter().map(|(amount, cost)| (*amount, Spread::of([*cost]).unwrap())).collect();
        Line { name: name.to_owned(), colour: 0, dashed: false, points }
    }

    #[test]
    fn every_line_is_there_with_its_name_and_axes() {
        let lines = Lines {
            title: "a < b",
            subtitle: "how",
            x: "prefixes",
            y: "ns",
            scale: Scale::Logarithmic,
            lines: vec![
                line("one", &[(100.0, 10.0), (1e6, 1000.0)]),
                line("two", &[(100.0, 10.0), (1e4, 12.0)]),
            ],
        };
        let svg = lines.svg();
        assert!(svg.contains("a &lt; b") && svg.contains("\nprefixes\n") && svg.contains("\nns\n"));
        assert!(svg.contains("\none\n") && svg.contains("\ntwo\n"));
        assert!(svg.contains("\n1,000,000\n"), "the last tick of the amounts: {svg}");
        assert_eq!(svg.matches("stroke=\"#0072B2\" stroke-width=\"2\"").count(), 2);
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn names_keep_their_distance_and_stay_in_the_plot() {
        let bottom = TOP + HEIGHT;
        let places = apart(&[bottom, bottom - 1, 100, 101, 300]);
        let mut sorted = places.clone();
        sorted.sort_unstable();
        assert!(sorted.windows(2).all(|pair| pair[1] - pair[0] >= NAME), "{places:?}");
        assert!(places.iter().all(|place| *place <= bottom));
        assert_eq!(places[4], 300, "who is in nobody's way stays");
        assert!(places[1] < places[0], "in the order of the lines");
    }
}
