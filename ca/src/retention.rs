//! Forgets the words of events that are old enough and that nobody needs, a few at a time; their hashes stay on record.

use std::sync::Arc;
use std::time::Duration;

use prometheus::IntCounterVec;
use signet_core::audit::{AuditEvent, Class, Fate, Retention, fate};
use signet_core::clock::SharedClock;
use signet_core::seams::retention::{Aging, Forgetting, MAX_AT_ONCE, RecordRetention};
use signet_core::seams::store::StoreError;
use signet_core::time_math;
use signet_runtime::metrics::{MetricError, Metrics};
use signet_runtime::output::error_chain;
use signet_runtime::readiness::Condition;
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

/// How often it is looked for what is old enough.
const PAUSE: Duration = Duration::from_secs(60);

/// Between two steps it is waited this many times as long as a step took: appends have the storage for most of the time.
const IDLE: u32 = 9;

/// The shortest and the longest wait between two steps.
const SHORTEST: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_secs(5);

/// Who forgets. Any number of replicas may do so: storage lets one of them do each step.
pub struct Forgetter {
    store: Arc<dyn RecordRetention>,
    retention: Retention,
    /// How long the longest certificate of this process may live.
    max_ttl: Duration,
    forgotten: IntCounterVec,
    clock: SharedClock,
}

impl Forgetter {
    /// Forgets what `retention` says; no certificate of this process lives longer than `max_ttl`.
    ///
    /// # Errors
    /// [`MetricError`].
    pub fn new(
        store: Arc<dyn RecordRetention>,
        retention: Retention,
        max_ttl: Duration,
        metrics: &Metrics,
        clock: SharedClock,
    ) -> Result<Self, MetricError> {
        let forgotten = metrics.counters(
            "signet_ca_record_forgotten_total",
            "Events whose words retention has removed by this process; their hashes stay on record.",
            &["class"],
        )?;
        for class in Class::ALL {
            forgotten.with_label_values(&[class.as_str()]).inc_by(0);
        }
        Ok(Self { store, retention, max_ttl, forgotten, clock })
    }

    /// Forgets until `stop`. Degraded at most: what is kept for too long harms no request.
    ///
    /// # Errors
    /// None.
    pub async fn run(self, condition: Condition, stop: CancellationToken) -> Result<(), std::convert::Infallible> {
        let mut told = String::new();
        // However long the first look takes.
        condition.ready("what is old is being looked for");
        loop {
            match stop.run_until_cancelled(self.round(&stop)).await {
                None => return Ok(()),
                Some(Ok(())) => {
                    condition.ready("nothing is kept that is to be forgotten");
                    told.clear();
                }
                Some(Err(error)) => {
                    let text = error_chain(&error);
                    condition.degraded(format!("old events are not forgotten: {text}"));
                    if text != told {
                        tracing::warn!(error = %text, "old events are not forgotten");
                        told = text;
                    }
                }
            }
            if stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await.is_none() {
                return Ok(());
            }
        }
    }

    /// Forgets all that is to be forgotten now, with pauses.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn round(&self, stop: &CancellationToken) -> Result<(), StoreError> {
        let longest = self.store.longest_life(self.max_ttl, self.clock.now()).await?;
        for class in Class::ALL {
            let Some(age) = self.retention.of(class) else { continue };
            loop {
                let begun = tokio::time::Instant::now();
                if !self.step(class, age, longest).await? {
                    break;
                }
                let pause = (begun.elapsed() * IDLE).clamp(SHORTEST, LONGEST);
                if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Looks at some events of a class; `false` when there is nothing more to look at now.
    ///
    /// # Errors
    /// [`StoreError`]: then nothing was forgotten, or what was is not counted.
    async fn step(&self, class: Class, age: Duration, longest: Duration) -> Result<bool, StoreError> {
        let now = self.clock.now();
        let from = self.store.looked_at_below(class).await?;
        let due = self.store.put_off(class, now).await?;
        let step = Forgetting { class, from, below: from, forgotten: Vec::new(), put_off: Vec::new() };
        let (step, more) = if due.is_empty() {
            let found = self.store.aging(from).await?;
            let is_full = found.len() >= usize::try_from(MAX_AT_ONCE).unwrap_or(usize::MAX);
            let (step, is_over) = look_through(step, &found, age, longest, now);
            (step, is_full && !is_over)
        } else {
            (look_again(step, &due, age, longest, now), true)
        };
        if step.below == step.from && step.forgotten.is_empty() && step.put_off.is_empty() {
            return Ok(false);
        }
        // Where another replica was faster, what is left is looked at anew.
        if self.store.forget(&step).await? {
            let number = u64::try_from(step.forgotten.len()).unwrap_or(u64::MAX);
            self.forgotten.with_label_values(&[class.as_str()]).inc_by(number);
        }
        Ok(more)
    }
}

/// Goes on through the log, over events of other classes, and ends at one that is too young: then it is over.
fn look_through(
    mut step: Forgetting,
    found: &[Aging],
    age: Duration,
    longest: Duration,
    now: OffsetDateTime,
) -> (Forgetting, bool) {
    for one in found {
        if let Some(body) = one.body.as_deref().filter(|_| Class::of(one.kind, one.outcome) == step.class) {
            match judge(one, body, age, longest, now) {
                Fate::Forgotten => step.forgotten.push(one.sequence),
                Fate::PutOff(until) => step.put_off.push((one.sequence, until)),
                Fate::TooYoung => return (step, true),
            }
        }
        step.below = one.sequence.saturating_add(1);
    }
    (step, false)
}

/// Over how much of the log one step looks at events that were put off: what they are found by is made anew in pieces of it,
/// in the transaction of the step.
const SPAN: u64 = 4096;

/// Looks again at events that were put off until now, the first of them and those near it.
fn look_again(
    mut step: Forgetting,
    due: &[Aging],
    age: Duration,
    longest: Duration,
    now: OffsetDateTime,
) -> Forgetting {
    let end = due.first().map_or(0, |first| first.sequence.saturating_add(SPAN));
    for one in due.iter().take_while(|one| one.sequence < end) {
        let fate = one.body.as_deref().map_or(Fate::Forgotten, |body| judge(one, body, age, longest, now));
        match fate {
            Fate::Forgotten => step.forgotten.push(one.sequence),
            Fate::PutOff(until) => step.put_off.push((one.sequence, until)),
            // They are to be kept for longer than when they were put off.
            Fate::TooYoung => step.put_off.push((one.sequence, time_math::after(now, age))),
        }
    }
    step
}

fn judge(one: &Aging, body: &[u8], age: Duration, longest: Duration, now: OffsetDateTime) -> Fate {
    let event = AuditEvent::decode(body).ok().map(|(event, _)| event);
    fate(one.at_micros, event.as_ref(), age, longest, now)
}

#[cfg(test)]
#[path = "retention_tests.rs"]
mod tests;
