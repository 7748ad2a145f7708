//! A plot of lines: what something costs against how much there is of it, both on logarithmic scales or the cost
//! from zero.

use std::fmt::Write;

use super::svg::{escaped, grouped, short};
use crate::spread::Spread;

const LEFT: f64 = 76.0;
const TOP: f64 = 78.0;
const WIDTH: f64 = 600.0;
const HEIGHT: f64 = 380.0;
/// Room for the lines' names.
const RIGHT: f64 = 230.0;
const BOTTOM: f64 = 62.0;
/// The names' distance from each other.
const NAME: f64 = 17.0;
/// Colours that the colour-blind can tell apart (Okabe and Ito's), dark enough on white.
const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#555555", "#e69f00"];

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
    fn colour(&self) -> &'static str {
        COLOURS[self.colour % COLOURS.len()]
    }
}

/// The ends of an axis, and its ticks.
#[derive(Clone, Debug, PartialEq)]
struct Axis {
    first: f64,
    last: f64,
    scale: Scale,
    ticks: Vec<f64>,
}

impl Axis {
    /// From the tick below to the tick above; with ticks at these factors of each power of ten.
    fn logarithmic(lowest: f64, highest: f64, between: &[f64]) -> Self {
        let first = lowest.log10().floor();
        let last = highest.log10().ceil().max(first + 1.0);
        let steps = between.iter().map(|factor| (factor, 10f64));
        let mut ticks: Vec<f64> = Vec::new();
        let mut power = first;
        while power < last {
            ticks.extend(steps.clone().map(|(factor, ten)| factor * ten.powf(power)));
            power += 1.0;
        }
        ticks.push(10f64.powf(last));
        // The axis ends at the last tick that something reaches.
        let above = ticks.iter().position(|tick| *tick >= highest).unwrap_or(ticks.len() - 1);
        let below = ticks.iter().rposition(|tick| *tick <= lowest).unwrap_or(0);
        let ticks = ticks[below.min(above.saturating_sub(1))..=above.max(1)].to_vec();
        Self { first: ticks[0], last: ticks[ticks.len() - 1], scale: Scale::Logarithmic, ticks }
    }

    /// From zero in round steps.
    fn even(highest: f64) -> Self {
        let power = 10f64.powf((highest.max(f64::MIN_POSITIVE) / 5.0).log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power);
        let step = step.into_iter().find(|step| highest <= step * 6.0).unwrap_or(10.0 * power);
        let count = (highest / step).ceil().max(1.0) as u32;
        let ticks: Vec<f64> = (0..=count).map(|tick| step * f64::from(tick)).collect();
        Self { first: 0.0, last: ticks[ticks.len() - 1], scale: Scale::Even, ticks }
    }

    /// Where a value is, from 0 to 1.
    fn place(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Even => (value - self.first) / (self.last - self.first),
            Scale::Logarithmic => (value / self.first).log10() / (self.last / self.first).log10(),
        }
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
        let amounts = Axis::logarithmic(
            lowest(&mut points().map(|(amount, _)| *amount)),
            highest(&mut points().map(|(amount, _)| *amount)),
            &[1.0],
        );
        let most = highest(&mut points().map(|(_, spread)| spread.highest()));
        let costs = match self.scale {
            Scale::Even => Axis::even(most),
            // Less than a tenth of a nanosecond, say, is noise around nothing.
            Scale::Logarithmic => Axis::logarithmic(
                lowest(&mut points().map(|(_, spread)| spread.lowest())).max(most * 1e-6),
                most,
                &[1.0, 2.0, 5.0],
            ),
        };
        let x = |amount: f64| LEFT + WIDTH * amounts.place(amount);
        let y = |cost: f64| TOP + HEIGHT * (1.0 - costs.place(cost.max(costs.first)));
        let mut svg = self.frame(&amounts, &costs, x, y);
        for line in &self.lines {
            draw(&mut svg, line, x, y);
        }
        let ends: Vec<f64> = self
            .lines
            .iter()
            .map(|line| line.points.last().map_or(TOP, |(_, spread)| y(spread.median())))
            .collect();
        for ((line, end), at) in self.lines.iter().zip(&ends).zip(apart(&ends)) {
            let colour = line.colour();
            let Some((amount, _)) = line.points.last() else { continue };
            let right = LEFT + WIDTH;
            let _ = write!(
                svg,
                "<path d=\"M{:.1} {end:.1}L{:.1} {end:.1}L{:.1} {at:.1}L{:.1} {at:.1}\" stroke=\"{colour}\" \
                 stroke-opacity=\"0.5\" \
                 stroke-dasharray=\"1 4\" fill=\"none\"/>\n\
                 <text x=\"{:.1}\" y=\"{:.1}\" fill=\"{colour}\">{}</text>\n",
                x(*amount) + 5.0,
                (right + 4.0).max(x(*amount) + 5.0),
                right + 16.0,
                right + 20.0,
                right + 24.0,
                at + 4.5,
                escaped(&line.name)
            );
        }
        svg.push_str("</svg>\n");
        svg
    }

    /// Everything but the lines.
    fn frame(&self, amounts: &Axis, costs: &Axis, x: impl Fn(f64) -> f64, y: impl Fn(f64) -> f64) -> String {
        let (width, height) = (LEFT + WIDTH + RIGHT, TOP + HEIGHT + BOTTOM);
        let (right, bottom) = (LEFT + WIDTH, TOP + HEIGHT);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
             font-family=\"sans-serif\" font-size=\"13\" fill=\"#222\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
             <text x=\"16\" y=\"28\" font-size=\"17\" font-weight=\"bold\">{}</text>\n\
             <text x=\"16\" y=\"48\" fill=\"#555\">{}</text>\n\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n\
             <text transform=\"translate(20 {:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>\n",
            escaped(self.title),
            escaped(self.subtitle),
            LEFT + WIDTH / 2.0,
            bottom + 46.0,
            escaped(self.x),
            TOP + HEIGHT / 2.0,
            escaped(self.y)
        );
        for tick in &amounts.ticks {
            let at = x(*tick);
            let _ = write!(
                svg,
                "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{bottom}\" stroke=\"#e4e4e4\"/>\n\
                 <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#555\">{}</text>\n",
                bottom + 20.0,
                grouped(*tick)
            );
        }
        for tick in &costs.ticks {
            let at = y(*tick);
            let text = if *tick >= 1000.0 { grouped(*tick) } else { short(*tick) };
            let _ = write!(
                svg,
                "<line x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#e4e4e4\"/>\n\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#555\">{text}</text>\n",
                LEFT - 8.0,
                at + 4.5
            );
        }
        let _ = writeln!(
            svg,
            "<path d=\"M{LEFT} {TOP}L{LEFT} {bottom}L{right} {bottom}\" stroke=\"#555\" fill=\"none\"/>"
        );
        svg
    }
}

/// The band, the line and its points.
fn draw(svg: &mut String, line: &Line, x: impl Fn(f64) -> f64, y: impl Fn(f64) -> f64) {
    let colour = line.colour();
    let dashes = if line.dashed { " stroke-dasharray=\"7 4\"" } else { "" };
    let point = |(at, value): (f64, f64)| format!("{:.1},{:.1}", x(at), y(value));
    let lower = line.points.iter().map(|(amount, spread)| (*amount, spread.lowest()));
    let upper = line.points.iter().rev().map(|(amount, spread)| (*amount, spread.highest()));
    let band: Vec<String> = lower.chain(upper).map(point).collect();
    let middle: Vec<(f64, f64)> =
        line.points.iter().map(|(amount, spread)| (*amount, spread.median())).collect();
    let path: Vec<String> = middle.iter().copied().map(point).collect();
    let _ = write!(
        svg,
        "<polygon points=\"{}\" fill=\"{colour}\" fill-opacity=\"0.18\" stroke=\"{colour}\" \
         stroke-opacity=\"0.35\"/>\n\
         <polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"{dashes}/>\n",
        band.join(" "),
        path.join(" ")
    );
    for (amount, cost) in middle {
        let _ = writeln!(
            svg,
            "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{colour}\"/>",
            x(amount),
            y(cost)
        );
    }
}

/// Places for names that would like to be at these, none nearer to another than a line of text, and none below the
/// plot.
fn apart(wishes: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..wishes.len()).collect();
    order.sort_by(|a, b| wishes[*a].total_cmp(&wishes[*b]));
    let mut places = wishes.to_vec();
    let mut floor = f64::NEG_INFINITY;
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
    use super::{Axis, HEIGHT, Line, Lines, NAME, Scale, TOP, apart};
    use crate::spread::Spread;

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
        assert!(svg.contains("a &lt; b") && svg.contains(">prefixes<") && svg.contains(">ns<"));
        assert!(svg.contains(">one<") && svg.contains(">two<"));
        assert!(svg.contains(">1,000,000<"), "the last tick of the amounts: {svg}");
        assert_eq!(svg.matches("<polyline").count(), 2);
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn axes_reach_as_far_as_what_they_show() {
        for (lowest, highest) in [(7.0, 138.0), (14.2, 1430.0), (1.0, 1.0), (9.9, 10.1), (0.4, 2e6)] {
            let axis = Axis::logarithmic(lowest, highest, &[1.0, 2.0, 5.0]);
            assert!(axis.first <= lowest && highest <= axis.last, "{lowest} to {highest}: {axis:?}");
            assert!(axis.ticks.len() >= 2, "{axis:?}");
        }
        let axis = Axis::even(182.0);
        assert_eq!((axis.place(0.0), axis.last), (0.0, 200.0));
    }

    #[test]
    fn names_keep_their_distance_and_stay_in_the_plot() {
        let bottom = TOP + HEIGHT;
        let places = apart(&[bottom, bottom - 1.0, 100.0, 101.0, 300.0]);
        let mut sorted = places.clone();
        sorted.sort_by(f64::total_cmp);
        assert!(sorted.windows(2).all(|pair| pair[1] - pair[0] > NAME - 1e-9), "{places:?}");
        assert!(places.iter().all(|place| *place <= bottom));
        assert_eq!(places[4], 300.0, "who is in nobody's way stays");
        assert!(places[1] < places[0], "in the order of the lines");
    }
}
