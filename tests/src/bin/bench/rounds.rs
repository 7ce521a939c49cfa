//! Several contenders that take turns: on a machine that others use, only what was measured side by side can be compared, round by
//! round. And where what was measured is kept.

use std::time::Duration;

use signet_tests::failure::{Failure, Outcome};
use signet_tests::noise::middle;
use signet_tests::tools::{self, say};

use crate::floor::processor;
use crate::load::Measured;
use crate::proc;

/// In which everything settles, each time it is somebody's turn.
const WARM_UP: Duration = Duration::from_secs(1);

/// What one round of one contender came to. Microseconds of processor time are for each certificate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Turn {
    /// Certificates, those while everything settled included.
    pub(crate) count: usize,
    pub(crate) per_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    /// Of the CA.
    pub(crate) ca_us: f64,
    /// Of what is asked beside it.
    pub(crate) other_us: f64,
    /// Of the load.
    pub(crate) load_us: f64,
}

/// All rounds of one of them.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) turns: Vec<Turn>,
}

/// One turn: the load runs for so long, after a while in which everything settles; what these two processes have used.
pub(crate) async fn turn(
    (ca, other): (Option<u32>, Option<u32>),
    run: impl AsyncFn(Duration) -> Outcome<Measured>,
    duration: Duration,
) -> Outcome<Turn> {
    let before_it = run(WARM_UP).await?.times.len();
    let of = |process: Option<u32>| process.map_or(Ok(Duration::ZERO), proc::cpu_time);
    let used = || Outcome::Ok([of(ca)?, of(other)?, of(Some(std::process::id()))?]);
    let before = used()?;
    let measured = run(duration).await?;
    let count = measured.times.len().max(1) as f64;
    let after = used()?;
    let each = after.into_iter().zip(before).map(|(after, before)| (after - before).as_secs_f64() * 1e6 / count);
    let [ca_us, other_us, load_us] =
        each.collect::<Vec<_>>().try_into().map_err(|_| Failure::unexpected("three processes"))?;
    Ok(Turn {
        count: before_it + measured.times.len(),
        per_second: measured.per_second(),
        p50_ms: measured.quantile_ms(0.5),
        p99_ms: measured.quantile_ms(0.99),
        ca_us,
        other_us,
        load_us,
    })
}

impl Row {
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name, turns: Vec::new() }
    }

    /// The middle one of the rounds.
    pub(crate) fn middle(&self, of: impl Fn(&Turn) -> f64) -> f64 {
        middle(self.turns.iter().map(of))
    }

    /// The middle one of how its rate compared with another one's, round by round.
    pub(crate) fn beside(&self, other: Option<&Self>) -> f64 {
        let others = other.into_iter().flat_map(|other| &other.turns);
        middle(self.turns.iter().zip(others).map(|(one, other)| one.per_second / other.per_second))
    }
}

/// Writes `target/bench/NAME.json`, with the machine, and prints the same as the last line.
pub(crate) fn keep(name: &str, all: serde_json::Value) -> Outcome {
    let mut all = all;
    if let Some(fields) = all.as_object_mut() {
        fields.insert("machine".to_owned(), processor().into());
    }
    let directory = tools::target_dir().join("bench");
    std::fs::create_dir_all(&directory).map_err(Failure::io(format!("make {}", directory.display())))?;
    let file = directory.join(format!("{name}.json"));
    std::fs::write(&file, format!("{all}\n")).map_err(Failure::io(format!("write {}", file.display())))?;
    say(&all.to_string());
    Ok(())
}

pub(crate) fn tenths(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

pub(crate) fn hundredths(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}
