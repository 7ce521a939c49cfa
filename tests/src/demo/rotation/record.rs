//! What the rotation demo showed, for programs, and whether it is a success.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::failure::{Failure, Outcome, ensure};
use crate::tools;

/// What must have happened, in this order.
pub const PHASES: [&str; 10] = [
    "settled",
    "rotation: propagate",
    "rotation: laggard awaited",
    "rotation: drain",
    "rotation: retired",
    "emergency: tainted",
    "emergency: replaced",
    "emergency: revoked",
    "rollback: prepared",
    "rollback: back",
];
/// What happens beside, after the laggard is awaited, where there are two CA processes.
pub const KILLED: &str = "rotation: one of two replicas killed";
const KILLED_AFTER: &str = "rotation: laggard awaited";

/// How many phases the short form of the demo has: those of the planned rotation.
const SHORT: usize = 5;

/// What is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// How many CA processes there are, one of which is killed if it is not the only one.
    pub replicas: usize,
    /// Only the planned rotation.
    pub short: bool,
}

impl Plan {
    /// What must have happened.
    #[must_use]
    pub fn phases(self) -> Vec<&'static str> {
        let beside = |phase: &&'static str| (*phase == KILLED_AFTER && self.replicas > 1).then_some(KILLED);
        let phases = PHASES.into_iter().take(if self.short { SHORT } else { PHASES.len() });
        phases.flat_map(|phase| [Some(phase), beside(&phase)]).flatten().collect()
    }
}

/// Requests per second on all paths together.
const LEAST_RATE: f64 = 200.0;

/// One phase that was reached.
#[derive(Debug, Clone, PartialEq)]
pub struct Phase {
    /// Its name.
    pub name: String,
    /// Seconds since the start of the requests.
    pub at: f64,
    /// What there was to see.
    pub detail: String,
}

/// A change of coverage.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seen {
    /// Seconds since the start of the requests.
    pub at: f64,
    /// The bundle that is meant.
    pub sequence: u64,
    /// Holders that have it.
    pub covered: u64,
    /// All holders.
    pub holders: u64,
}

/// The record.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// Requests on all paths.
    pub requests: u64,
    /// Those that were not answered with 200.
    pub failed: u64,
    /// Phases as they were reached.
    pub phases: Vec<Phase>,
    /// Coverage as it changed.
    pub coverage_seen: Vec<Seen>,
    /// How long requests were sent.
    pub seconds: f64,
}

impl Record {
    /// Writes `target/demo/rotation.json`; gives its path.
    ///
    /// # Errors
    /// [`Failure::Io`].
    pub fn write(&self) -> Outcome<PathBuf> {
        let directory = tools::target_dir().join("demo");
        std::fs::create_dir_all(&directory).map_err(Failure::io(format!("make {}", directory.display())))?;
        let path = directory.join("rotation.json");
        self.write_to(&path)?;
        Ok(path)
    }

    fn write_to(&self, path: &Path) -> Outcome {
        let phases: Vec<Value> = self
            .phases
            .iter()
            .map(|phase| json!({ "name": phase.name, "at": tenths(phase.at), "detail": phase.detail }))
            .collect();
        let seen: Vec<Value> = self
            .coverage_seen
            .iter()
            .map(|one| {
                json!({ "at": tenths(one.at), "sequence": one.sequence, "covered": one.covered, "holders": one.holders })
            })
            .collect();
        let text = format!(
            "{{\"requests\":{},\"failed\":{},\"phases\":{},\"coverage_seen\":{},\"seconds\":{}}}\n",
            self.requests,
            self.failed,
            json!(phases),
            json!(seen),
            tenths(self.seconds)
        );
        std::fs::write(path, text).map_err(Failure::io(format!("write {}", path.display())))
    }

    /// Requests per second.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "far fewer requests than a float counts exactly")]
    pub fn rate(&self) -> f64 {
        if self.seconds > 0.0 { self.requests as f64 / self.seconds } else { 0.0 }
    }

    /// Whether the demo showed what it is for.
    ///
    /// # Errors
    /// [`Failure::Unexpected`].
    pub fn judge(&self, plan: Plan) -> Outcome {
        ensure(self.failed == 0, || format!("{} of {} requests failed", self.failed, self.requests))?;
        ensure(self.rate() >= LEAST_RATE, || {
            format!("only {:.0} requests a second were made, {LEAST_RATE} are wanted", self.rate())
        })?;
        let reached: Vec<&str> = self.phases.iter().map(|phase| phase.name.as_str()).collect();
        let wanted = plan.phases();
        ensure(reached == wanted, || format!("the phases were {reached:?}, not {wanted:?}"))?;
        let gap = self.coverage_seen.iter().any(|seen| seen.covered < seen.holders);
        let whole = self.coverage_seen.iter().any(|seen| seen.covered == seen.holders && seen.holders > 0);
        ensure(gap && whole, || format!("coverage was never seen to grow: {:?}", self.coverage_seen))
    }
}

fn tenths(seconds: f64) -> f64 {
    (seconds * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
    use super::*;

    const ALONE: Plan = Plan { replicas: 1, short: false };

    fn good() -> Record {
        let phase = |name: &&str| Phase { name: (*name).to_owned(), at: 1.04, detail: "x".to_owned() };
        let seen = |covered| Seen { at: 2.0, sequence: 2, covered, holders: 4 };
        Record {
            requests: 2000,
            failed: 0,
            phases: PHASES.iter().map(phase).collect(),
            coverage_seen: vec![seen(1), seen(4)],
            seconds: 10.0,
        }
    }

    #[test]
    fn the_record_has_exactly_the_promised_fields() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("rotation.json");
        good().write_to(&path).unwrap();
        let read: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let Value::Object(fields) = &read else { panic!("{read}") };
        let names: Vec<&str> = fields.keys().map(String::as_str).collect();
        assert_eq!(names.len(), 5, "{names:?}");
        for name in ["requests", "failed", "phases", "coverage_seen", "seconds"] {
            assert!(names.contains(&name), "{name}");
        }
        assert_eq!((&read["phases"][0]["name"], &read["phases"][0]["at"]), (&json!("settled"), &json!(1.0)));
        assert_eq!(read["coverage_seen"][0]["covered"], 1);
    }

    #[test]
    fn each_shortcoming_is_a_failure() {
        good().judge(ALONE).unwrap();
        let two = Plan { replicas: 2, ..ALONE };
        assert!(good().judge(two).is_err(), "nothing was killed");
        let mut killed = good();
        killed.phases.insert(3, Phase { name: KILLED.to_owned(), at: 1.0, detail: String::new() });
        killed.judge(two).unwrap();
        assert!(killed.judge(ALONE).is_err());
        killed.phases.truncate(6);
        killed.judge(Plan { short: true, ..two }).unwrap();
        assert!(killed.judge(two).is_err(), "it was the short form");
        let mut missed = good();
        missed.phases.remove(3);
        let mut uncovered = good();
        uncovered.coverage_seen.pop();
        let mut at_once = good();
        at_once.coverage_seen.remove(0);
        for bad in [Record { failed: 1, ..good() }, Record { seconds: 10.1, ..good() }, missed, uncovered, at_once] {
            assert!(bad.judge(ALONE).is_err(), "{bad:?}");
        }
    }
}
