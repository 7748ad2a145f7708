//! Where axes end: at round numbers that reach as far as what is shown.

/// The factors of one power of ten between which an axis' step is chosen.
const ROUND: [f64; 4] = [1.0, 2.0, 5.0, 10.0];

/// The end of an axis that goes up evenly from zero: a whole number of round steps, at most six of them.
pub(super) fn even(highest: f64) -> f64 {
    if highest <= 0.0 {
        return 1.0;
    }
    let power = 10f64.powf((highest / 5.0).log10().floor());
    let step = ROUND.map(|factor| factor * power).into_iter().find(|step| highest <= step * 6.0);
    let step = step.unwrap_or(10.0 * power);
    step * (highest / step).ceil().max(1.0)
}

/// Ticks: these factors of each power of ten, from the tick below the lowest to the one above the highest; at least two.
pub(super) fn logarithmic(lowest: f64, highest: f64, factors: &[f64]) -> Vec<f64> {
    let first = lowest.log10().floor();
    let last = highest.log10().ceil().max(first + 1.0);
    let decades = (last - first) as i32;
    let powers = (0..decades).map(|decade| 10f64.powf(first + f64::from(decade)));
    let mut ticks: Vec<f64> =
        powers.flat_map(|power| factors.iter().map(move |factor| factor * power)).collect();
    ticks.push(10f64.powf(last));
    let above = ticks.iter().position(|tick| *tick >= highest).unwrap_or(ticks.len() - 1);
    let below = ticks.iter().rposition(|tick| *tick <= lowest).unwrap_or(0);
    ticks[below.min(above.saturating_sub(1))..=above.max(1)].to_vec()
}

#[cfg(test)]
mod tests {
    use super::{even, logarithmic};

    #[test]
    fn logarithmic_axes_reach_as_far_as_what_they_show() {
        for (lowest, highest) in [(7.0, 138.0), (14.2, 1430.0), (1.0, 1.0), (9.9, 10.1), (0.4, 2e6)] {
            let ticks = logarithmic(lowest, highest, &[1.0, 2.0, 5.0]);
            let (first, last) = (ticks[0], ticks[ticks.len() - 1]);
            assert!(first <= lowest && highest <= last, "{lowest} to {highest}: {ticks:?}");
            assert!(ticks.len() >= 2, "{ticks:?}");
        }
    }

    #[test]
    fn even_axes_are_round_and_reach_far_enough() {
        for highest in [0.003, 0.9, 1.0, 4.2, 7.0, 95.0, 182.0, 1430.0, 6e6] {
            let end = even(highest);
            assert!(highest <= end && end <= 2.0 * highest, "{highest}: {end}");
        }
        assert_eq!([even(95.0), even(182.0), even(0.0)], [100.0, 200.0, 1.0]);
    }
}
