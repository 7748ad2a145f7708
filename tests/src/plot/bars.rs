//! A plot of bars: one for each thing that was measured, with its spread.

use super::svg::{escaped, short};
use crate::spread::Spread;

/// Room for the names: at least this much, and this much for each character.
const LEFT: f64 = 190.0;
const CHARACTER: f64 = 7.4;
const WIDTH: f64 = 560.0;
const ROW: f64 = 34.0;
const TOP: f64 = 70.0;

/// A plot with horizontal bars from zero.
pub fn bars(title: &str, unit: &str, bars: &[(&str, Spread)]) -> String {
    let highest = bars.iter().map(|(_, spread)| spread.highest()).fold(0.0, f64::max);
    let (step, steps) = scale(highest);
    let longest = bars.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let left = LEFT.max(CHARACTER * longest as f64 + 30.0);
    let x = |value: f64| left + WIDTH * value / (step * f64::from(steps));
    let bottom = TOP + ROW * bars.len() as f64;
    let (width, height) = (left + WIDTH + 90.0, bottom + 60.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"13\" fill=\"#222\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"16\" y=\"30\" font-size=\"17\" font-weight=\"bold\">{}</text>\n\
         <text x=\"16\" y=\"50\" fill=\"#666\">{}; the bar is the median, the line the lowest and the highest run</text>\n",
        escaped(title),
        escaped(unit)
    );
    for tick in 0..=steps {
        let value = step * f64::from(tick);
        let at = x(value);
        svg.push_str(&format!(
            "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{bottom}\" stroke=\"#ddd\"/>\n\
             <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#666\">{}</text>\n",
            bottom + 20.0,
            short(value)
        ));
    }
    for (row, (name, spread)) in bars.iter().enumerate() {
        let y = TOP + ROW * row as f64;
        let middle = y + ROW / 2.0;
        svg.push_str(&format!(
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n\
             <rect x=\"{left}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"#3b76af\"/>\n\
             <line x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{middle:.1}\" y2=\"{middle:.1}\" stroke=\"#111\" stroke-width=\"2\"/>\n\
             <text x=\"{:.1}\" y=\"{:.1}\">{}</text>\n",
            left - 10.0,
            middle + 4.0,
            escaped(name),
            y + 6.0,
            (x(spread.median()) - left).max(0.5),
            ROW - 12.0,
            x(spread.lowest()),
            x(spread.highest()),
            x(spread.highest()) + 8.0,
            middle + 4.0,
            short(spread.median())
        ));
    }
    svg.push_str("</svg>\n");
    svg
}

/// A round step and how many of them reach the highest value.
fn scale(highest: f64) -> (f64, u32) {
    if highest <= 0.0 {
        return (1.0, 1);
    }
    let power = 10f64.powf((highest / 5.0).log10().floor());
    let step =
        [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|step| highest <= step * 6.0);
    let step = step.unwrap_or(10.0 * power);
    (step, (highest / step).ceil().max(1.0) as u32)
}

#[cfg(test)]
mod tests {
    use super::{Spread, bars, scale};

    #[test]
    fn every_bar_is_there_and_fits() {
        let spread = |value| Spread::of([value]).unwrap();
        let svg = bars("a < b", "ms", &[("one", spread(1.0)), ("two", spread(95.0))]);
        assert!(svg.contains("a &lt; b"));
        assert!(svg.contains(">one<") && svg.contains(">two<"));
        assert!(svg.contains("width=\"532.0\""), "95 of a scale that ends at 100: {svg}");
    }

    #[test]
    fn long_names_have_room() {
        let spread = Spread::of([1.0]).unwrap();
        let svg = bars("", "ms", &[(&"n".repeat(40), spread)]);
        assert!(svg.contains("viewBox=\"0 0 976 "), "40 characters need more than there is: {svg}");
    }

    #[test]
    fn scales_are_round_and_reach_far_enough() {
        for highest in [0.003, 0.9, 1.0, 4.2, 7.0, 95.0, 1430.0, 6e6] {
            let (step, steps) = scale(highest);
            assert!(step * f64::from(steps) >= highest && steps <= 6, "{highest}: {steps} steps of {step}");
        }
        assert_eq!(scale(0.0), (1.0, 1));
    }
}
