//! Text and numbers in a plot.

/// At most three figures.
pub(super) fn short(value: f64) -> String {
    match value {
        0.0 => "0".to_owned(),
        value if value < 1.0 => format!("{value:.2}"),
        value if value < 10.0 => format!("{value:.1}"),
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

/// Text as an element's content.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::{escaped, grouped, short};

    #[test]
    fn numbers_are_easy_to_read() {
        assert_eq!(
            ["0", "0.03", "4.2", "1430"],
            [0.0, 0.03, 4.2, 1430.0].map(short).each_ref().map(|s| &s[..])
        );
        assert_eq!(["100", "1,000", "1,000,000"], [100.0, 1e3, 1e6].map(grouped).each_ref().map(|s| &s[..]));
        assert_eq!(escaped("a < b & c"), "a &lt; b &amp; c");
    }
}
