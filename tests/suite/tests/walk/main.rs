//! A random walk over everything that goes wrong around a controller, under traffic, beside the oracle: after each step
//! what arrives is what the configuration in force and the bans say, and `status` has exactly the alarms that there is a
//! reason for. Needs root.
//!
//! `NICGATE_WALK_STEPS` is how many steps, `NICGATE_WALK_SEED` which; a failure prints the seed and a short walk that
//! fails as well.

#![allow(
    clippy::unwrap_used,
    clippy::panic_in_result_fn,
    reason = "a walk that cannot be set up has to fail"
)]

mod backend;
mod expected;
mod faults;
mod files;
mod probe;
mod seen;
mod shrink;
mod step;
mod world;

use std::time::{SystemTime, UNIX_EPOCH};

use kit::rights;
use step::Step;
use world::World;

/// How many steps a normal run takes.
const STEPS: usize = 200;

/// A step after which something was not as it has to be.
#[derive(Debug)]
struct Failure {
    /// Its place in the walk.
    at: usize,
    /// What was seen.
    why: String,
}

fn number<T: std::str::FromStr>(variable: &str) -> Option<T> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Takes the steps; what was seen on the way.
fn walk(steps: &[Step]) -> Result<seen::Seen, Failure> {
    let mut world = World::new();
    for (at, step) in steps.iter().enumerate() {
        world.take(step).map_err(|why| Failure { at, why: format!("{why}\n{}", world.last_words()) })?;
    }
    Ok(world.seen())
}

#[test]
fn nobody_slips_in_and_nobody_is_kept_out_unnoticed() {
    rights::need_root();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let seed = number("NICGATE_WALK_SEED").unwrap_or(now);
    let count = number("NICGATE_WALK_STEPS").unwrap_or(STEPS);
    println!("NICGATE_WALK_SEED={seed} NICGATE_WALK_STEPS={count}");
    let steps = step::random(seed, count);
    match walk(&steps) {
        Ok(seen) => println!("{seen}"),
        Err(failure) => {
            println!("step {} of {count}: {:?}\n{}", failure.at + 1, steps[failure.at], failure.why);
            let (short, failure) = shrink::shrink(&steps[..=failure.at], failure, |steps| walk(steps).err());
            panic!("seed {seed}; these {} steps fail as well: {short:#?}\n{}", short.len(), failure.why);
        }
    }
}
