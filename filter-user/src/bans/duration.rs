//! How times are written.

use std::time::Duration;

const UNITS: [(char, u64); 5] = [('w', 604_800), ('d', 86_400), ('h', 3600), ('m', 60), ('s', 1)];
/// Ten years: more is meant to be for ever.
const LONGEST: u64 = 10 * 365 * 86_400;

/// Reads a time such as `30s`, `10m`, `2h`, `7d`, `1w` or `1h30m`.
///
/// # Errors
///
/// It is something else, zero, or more than ten years: what to write.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong =
        || format!("`{text}` is no time: write a number and a unit, such as 30s, 10m, 2h, 7d or 1h30m");
    let mut seconds = 0u64;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let unit = tail.chars().next().ok_or_else(wrong)?;
        let (_, size) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        let number: u64 = number.parse().map_err(|_| wrong())?;
        seconds = seconds.saturating_add(number.saturating_mul(*size));
        rest = &tail[1..];
    }
    match seconds {
        0 => Err(wrong()),
        1..=LONGEST => Ok(Duration::from_secs(seconds)),
        _ => Err(format!("`{text}` is more than ten years: leave the time away for a ban without end")),
    }
}

/// A time in its two largest units: `1h30m`; whole seconds, rounded up.
pub fn format_duration(duration: Duration) -> String {
    let mut seconds = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    let mut text = String::new();
    let mut shown = 0;
    for (name, size) in UNITS {
        // Weeks are read, but nobody counts in them.
        if name == 'w' || shown == 2 || (seconds < size && shown == 0) {
            continue;
        }
        let count = seconds / size;
        seconds %= size;
        shown += 1;
        if count > 0 {
            text.push_str(&format!("{count}{name}"));
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_numbers_with_units() {
        for (text, seconds) in
            [("30s", 30), ("10m", 600), ("2h", 7200), ("7d", 604_800), ("1h30m", 5400), ("1w", 604_800)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for wrong in
            ["", "10", "m", "0s", "-1s", "1.5h", "10 m", "1y", "99999999999999999999s", "11w900000000d", "1é"]
        {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_are_shown_in_two_units() {
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (61, "1m1s"),
            (3600, "1h"),
            (3661, "1h1m"),
            (90_000, "1d1h"),
            (86_401, "1d"),
        ] {
            assert_eq!(format_duration(Duration::from_secs(seconds)), text);
        }
        assert_eq!(format_duration(Duration::from_millis(1)), "1s", "a ban that is in force has time left");
    }
}
