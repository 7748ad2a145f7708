//! Fewer steps that fail as well.

use std::time::{Duration, Instant};

use super::{Failure, step::Step};

/// How long to look for them; a walk takes its time.
const LONGEST: Duration = Duration::from_secs(60);

/// Leaves out ever smaller parts for as long as what is left fails.
pub(crate) fn shrink(
    steps: &[Step],
    mut failure: Failure,
    mut walk: impl FnMut(&[Step]) -> Option<Failure>,
) -> (Vec<Step>, Failure) {
    let began = Instant::now();
    let mut steps = steps.to_vec();
    let mut part = steps.len().div_ceil(2);
    while part > 0 {
        let mut from = 0;
        while from < steps.len() && began.elapsed() < LONGEST {
            let mut fewer = steps.clone();
            fewer.drain(from..(from + part).min(steps.len()));
            match walk(&fewer) {
                Some(found) => {
                    fewer.truncate(found.at + 1);
                    (steps, failure) = (fewer, found);
                }
                None => from += part,
            }
        }
        part /= 2;
    }
    (steps, failure)
}

#[cfg(test)]
mod tests {
    use super::{Failure, Step, shrink};

    #[test]
    fn what_is_left_fails_and_nothing_of_it_can_be_left_out() {
        let steps: Vec<Step> = (0..40).map(|n| Step::Unban(n % 12)).collect();
        let walk = |steps: &[Step]| {
            let at = steps.iter().position(|step| *step == Step::Unban(9))?;
            let before = steps[..at].contains(&Step::Unban(4));
            before.then(|| Failure { at, why: String::new() })
        };
        let (short, failure) = shrink(&steps, walk(&steps).unwrap(), walk);
        assert_eq!((short, failure.at), (vec![Step::Unban(4), Step::Unban(9)], 1));
    }
}
