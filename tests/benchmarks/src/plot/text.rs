//! Text and numbers in a plot.

use plotters::{
    prelude::{FontStyle, IntoFont, RGBColor},
    style::{
        TextStyle,
        text_anchor::{HPos, Pos, VPos},
    },
};

pub(super) const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
pub(super) const PALE: RGBColor = RGBColor(0x55, 0x55, 0x55);
pub(super) const GRID: RGBColor = RGBColor(0xe4, 0xe4, 0xe4);

/// Text as large as most of it, in a colour; in the middle of its line's height, which grows from this side.
pub(super) fn small(colour: RGBColor, side: HPos) -> TextStyle<'static> {
    sized(13.0).into_font().color(&colour).pos(Pos::new(side, VPos::Center))
}

/// A plot's title.
pub(super) fn title() -> TextStyle<'static> {
    sized(17.0).into_font().style(FontStyle::Bold).color(&INK).pos(Pos::new(HPos::Left, VPos::Center))
}

/// The font in this many pixels; plotters takes a font's size for its line's height.
fn sized(pixels: f64) -> (&'static str, f64) {
    ("sans-serif", pixels * 1.24)
}

/// At most three figures.
pub(super) fn short(value: f64) -> String {
    match value {
        0.0 => "0".to_owned(),
        value if value < 1.0 => format!("{value:.2}"),
        value if value < 10.0 => format!("{value:.1}"),
        value if value >= 1000.0 => grouped(value),
        value => format!("{value:.0}"),
    }
}

/// A whole number with its thousands apart.
pub(super) fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{grouped, short};

    #[test]
    fn numbers_are_easy_to_read() {
        assert_eq!(
            ["0", "0.03", "4.2", "143", "1,430"],
            [0.0, 0.03, 4.2, 143.0, 1430.0].map(short).each_ref().map(|s| &s[..])
        );
        assert_eq!(["100", "1,000", "1,000,000"], [100.0, 1e3, 1e6].map(grouped).each_ref().map(|s| &s[..]));
    }
}
