//! Times, numbers and sizes, as operators write them.

use std::time::Duration;

/// The longest time that anything can be given.
const LONGEST: f64 = 3600.0;

/// Reads a time: a number with `ms`, `s` or `m` after it, or a number of seconds; from a millisecond to an hour.
pub(super) fn time(text: &str) -> Option<Duration> {
    let units = [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("", 1.0)];
    let (number, size) = units.iter().find_map(|(unit, size)| Some((text.strip_suffix(unit)?, size)))?;
    // `parse` would take signs and exponents, too.
    let plain = number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let seconds = number.parse::<f64>().ok().filter(|_| plain)? * size;
    (0.001..=LONGEST).contains(&seconds).then(|| Duration::from_secs_f64(seconds))
}

/// What to write for a time.
pub(super) const TIME_FORM: &str =
    "write it as 500ms, 3s or 1m; a number alone is seconds; an hour is the longest";

/// Reads a whole number, with `k`, `m` or `g` after it for 1024 and its powers.
pub(super) fn number(text: &str) -> Option<u64> {
    let units = [("k", 1 << 10), ("m", 1 << 20), ("g", 1 << 30), ("", 1u64)];
    let lower = text.to_ascii_lowercase();
    let (number, size) = units.iter().find_map(|(unit, size)| Some((lower.strip_suffix(unit)?, size)))?;
    let plain = number.bytes().all(|byte| byte.is_ascii_digit());
    number.parse::<u64>().ok().filter(|_| plain)?.checked_mul(*size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        for (text, millis) in [
            ("3", 3000),
            ("3s", 3000),
            ("1.5", 1500),
            ("1.5s", 1500),
            ("500ms", 500),
            ("1m", 60_000),
            ("60m", 3_600_000),
        ] {
            assert_eq!(time(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for wrong in
            ["", "s", "ms", "0", "0s", "-1s", "+1", "1e3", "inf", "nan", "3 s", "2h", "61m", "1..5", "3S"]
        {
            assert_eq!(time(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn numbers_have_powers_of_1024() {
        for (text, value) in [("0", 0), ("256", 256), ("32k", 32 << 10), ("32K", 32 << 10), ("1g", 1 << 30)] {
            assert_eq!(number(text), Some(value), "{text}");
        }
        for wrong in
            ["", "k", "-1", "+1", "1.5k", "1e3", "99999999999999999999", "99999999999g", "3 k", "1kk"]
        {
            assert_eq!(number(wrong), None, "{wrong}");
        }
    }
}
