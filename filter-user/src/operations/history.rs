//! What became of the loads so far.

use crate::{
    config::{Part, Refused},
    kernel::wall_clock,
    watch::{Alarm, Code},
};

/// What became of the loads so far; times are seconds since 1970.
pub(super) struct History {
    pub(super) loaded_at: u64,
    /// When what is enforced in place of the configuration was kept.
    pub(super) last_good_of: Option<u64>,
    pub(super) reloads: u64,
    pub(super) last_error: Option<(String, u64)>,
    /// Why the configuration in force is not kept for the next start.
    pub(super) not_kept: Option<(String, u64)>,
    /// Parts of it that were refused.
    pub(super) refused: Vec<Refused>,
}

impl History {
    /// The first load, of which these parts were refused; `in_place` says why the last good configuration stands in for
    /// it, and when that was kept.
    pub(super) fn new(refused: Vec<Refused>, in_place: Option<(String, u64)>) -> Self {
        let now = wall_clock().as_secs();
        let (last_error, last_good_of) = in_place.map(|(error, kept)| ((error, now), kept)).unzip();
        Self { loaded_at: now, last_good_of, reloads: 0, last_error, not_kept: None, refused }
    }

    /// What of the configuration is not in force, or would not be after a restart.
    pub(super) fn alarms(&self, now: u64) -> Vec<Alarm> {
        let mut alarms = Vec::new();
        if let Some((error, at)) = &self.last_error {
            let what = refused(error, self.last_good_of, now);
            let remedy = "correct the configuration and `nicgate reload`";
            alarms.push(Alarm::new(Code::ReloadFailed, what, remedy).since(*at));
        }
        alarms.extend(self.refused.iter().map(|part| refused_part(part, now)));
        if let Some((error, at)) = &self.not_kept {
            let what = format!("the configuration in force is not kept for the next start: {error}");
            let remedy = "make room or permit writing, then `nicgate reload`";
            alarms.push(Alarm::new(Code::LastGoodNotKept, what, remedy).since(*at));
        }
        alarms
    }
}

/// What a refused load means, with when the last good configuration was kept if it is in force; times are seconds
/// since 1970. The clock may have been put back since then.
fn refused(error: &str, kept: Option<u64>, now: u64) -> String {
    let in_force = kept.map_or_else(
        || "what was enforced before still is".to_owned(),
        |kept| format!("the last good one is in force, kept {} s ago", now.saturating_sub(kept)),
    );
    format!("the configuration was refused, {in_force}: {error}")
}

/// The alarm of a part that was refused alone, at a time in seconds since 1970.
fn refused_part(refused: &Refused, now: u64) -> Alarm {
    let Refused { part, path, origin, why, read_at } = refused;
    let code = match part {
        Part::List => Code::ListRefused,
        Part::Database => Code::DatabaseRefused,
    };
    let what = format!(
        "the {part} {} ({origin}) is refused: {why}; its contents of {} s ago are in force",
        path.display(),
        now.saturating_sub(*read_at)
    );
    Alarm::new(code, what, "correct it and `nicgate reload`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_load_tells_what_is_in_force() {
        let before = "the configuration was refused, what was enforced before still is: bad";
        assert_eq!(refused("bad", None, 1000), before);
        for (now, ago) in [(1000, 100), (900, 0), (800, 0)] {
            let kept = format!(
                "the configuration was refused, the last good one is in force, kept {ago} s ago: bad"
            );
            assert_eq!(refused("bad", Some(900), now), kept);
        }
    }
}
