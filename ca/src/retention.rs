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
use tokio::sync::watch;
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
    /// How much of the record is in the file of `audit.sink_file`, where there is to be one: nothing as long as that is not
    /// known.
    written: Option<watch::Receiver<u64>>,
}

impl Forgetter {
    /// Forgets what `retention` says, of what is `written` where that is given; no certificate of this process lives longer than
    /// `max_ttl`.
    ///
    /// # Errors
    /// [`MetricError`].
    pub fn new(
        store: Arc<dyn RecordRetention>,
        retention: Retention,
        max_ttl: Duration,
        metrics: &Metrics,
        clock: SharedClock,
        written: Option<watch::Receiver<u64>>,
    ) -> Result<Self, MetricError> {
        let forgotten = metrics.counters(
            "signet_ca_record_forgotten_total",
            "Events whose words retention has removed by this process; their hashes stay on record.",
            &["class"],
        )?;
        for class in Class::ALL {
            forgotten.with_label_values(&[class.as_str()]).inc_by(0);
        }
        Ok(Self { store, retention, max_ttl, forgotten, clock, written })
    }

    /// Forgets until `stop`. Degraded at most: what is kept for too long harms no request.
    ///
    /// # Errors
    /// None.
    pub async fn run(self, condition: Condition, stop: CancellationToken) -> Result<(), std::convert::Infallible> {
        let (mut told, mut is_swept) = (String::new(), false);
        // However long the first look takes.
        condition.ready("what is old is being looked for");
        loop {
            match stop.run_until_cancelled(self.round(&stop)).await {
                None => return Ok(()),
                Some(Ok(None)) => {
                    condition.ready("nothing is kept that is to be forgotten");
                    told.clear();
                }
                Some(Ok(Some(from))) => {
                    let text = format!("event {from} and those after it are not in audit.sink_file yet");
                    Self::complain(&condition, &mut told, text);
                }
                Some(Err(error)) => {
                    // A step may have been cut off after the first of its transactions.
                    is_swept = false;
                    Self::complain(&condition, &mut told, error_chain(&error));
                }
            }
            if !is_swept {
                match stop.run_until_cancelled(self.sweep(&stop)).await {
                    None => return Ok(()),
                    Some(Ok(())) => is_swept = true,
                    Some(Err(error)) => Self::complain(&condition, &mut told, error_chain(&error)),
                }
            }
            if stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await.is_none() {
                return Ok(());
            }
        }
    }

    fn complain(condition: &Condition, told: &mut String, text: String) {
        condition.degraded(format!("old events are not forgotten: {text}"));
        if text != *told {
            tracing::warn!(error = %text, "old events are not forgotten");
            *told = text;
        }
    }

    /// Looks once for names that were left by a process which ended while it forgot, with pauses.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn sweep(&self, stop: &CancellationToken) -> Result<(), StoreError> {
        let mut begun = 0;
        for class in Class::ALL {
            begun = self.store.looked_at_below(class).await?.max(begun);
        }
        let mut after = Some(String::new()).filter(|_| begun > 0);
        while let Some(name) = after {
            let begun = tokio::time::Instant::now();
            after = self.store.sweep_names(&name).await?;
            if self.pause(begun, stop).await.is_none() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Leaves the storage to others for most of the time; nothing at the end of the process.
    async fn pause(&self, begun: tokio::time::Instant, stop: &CancellationToken) -> Option<()> {
        let pause = (begun.elapsed() * IDLE).clamp(SHORTEST, LONGEST);
        stop.run_until_cancelled(tokio::time::sleep(pause)).await
    }

    /// Forgets all that is to be forgotten now, with pauses. Gives the first event that is kept only because it is not written
    /// yet where auditors look.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn round(&self, stop: &CancellationToken) -> Result<Option<u64>, StoreError> {
        let mut held: Option<u64> = None;
        let longest = self.store.longest_life(self.max_ttl, self.clock.now()).await?;
        for class in Class::ALL {
            let Some(age) = self.retention.of(class) else { continue };
            loop {
                let begun = tokio::time::Instant::now();
                let Step { is_more, held_at } = self.step(class, age, longest).await?;
                held = held.into_iter().chain(held_at).min();
                if !is_more {
                    break;
                }
                if self.pause(begun, stop).await.is_none() {
                    return Ok(held);
                }
            }
        }
        Ok(held)
    }

    /// Looks at some events of a class.
    ///
    /// # Errors
    /// [`StoreError`]: then nothing was forgotten, or what was is not counted.
    async fn step(&self, class: Class, age: Duration, longest: Duration) -> Result<Step, StoreError> {
        let now = self.clock.now();
        let written = self.written.as_ref().map_or(u64::MAX, |written| *written.borrow());
        let from = self.store.looked_at_below(class).await?;
        let due = self.store.put_off(class, now).await?;
        let step = Forgetting { class, from, below: from, forgotten: Vec::new(), put_off: Vec::new() };
        let (step, is_more, held_at) = if due.is_empty() {
            let found = self.store.aging(from).await?;
            let is_full = found.len() >= usize::try_from(MAX_AT_ONCE).unwrap_or(usize::MAX);
            let (step, end) = look_through(step, &found, (age, longest, written), now);
            let held_at = if let End::NotWritten(at) = end { Some(at) } else { None };
            (step, is_full && end == End::OfFound, held_at)
        } else {
            (look_again(step, &due, (age, longest, written), now), true, None)
        };
        if step.below == step.from && step.forgotten.is_empty() && step.put_off.is_empty() {
            return Ok(Step { is_more: false, held_at });
        }
        // Where another replica was faster, what is left is looked at anew.
        if self.store.forget(&step).await? {
            let number = u64::try_from(step.forgotten.len()).unwrap_or(u64::MAX);
            self.forgotten.with_label_values(&[class.as_str()]).inc_by(number);
        }
        Ok(Step { is_more, held_at })
    }
}

/// What came of a step.
struct Step {
    /// Whether there is more to look at now.
    is_more: bool,
    /// The event that is kept only because it is not written yet where auditors look.
    held_at: Option<u64>,
}

/// Where looking through the log has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// With the last that was found.
    OfFound,
    /// At one that is too young.
    TooYoung,
    /// At one that is not written yet where auditors look.
    NotWritten(u64),
}

/// Goes on through the log, over events of other classes, and ends at one that is too young, or to be written first. Of the
/// durations the first is how long events are kept, the second how long the longest certificate may live; then how many events
/// are written.
fn look_through(
    mut step: Forgetting,
    found: &[Aging],
    (age, longest, written): (Duration, Duration, u64),
    now: OffsetDateTime,
) -> (Forgetting, End) {
    for one in found {
        if let Some(body) = one.body.as_deref().filter(|_| Class::of(one.kind, one.outcome) == step.class) {
            match judge(one, body, age, longest, now) {
                Fate::Forgotten if one.sequence >= written => return (step, End::NotWritten(one.sequence)),
                Fate::Forgotten => step.forgotten.push(one.sequence),
                Fate::PutOff(until) => step.put_off.push((one.sequence, until)),
                Fate::TooYoung => return (step, End::TooYoung),
            }
        }
        step.below = one.sequence.saturating_add(1);
    }
    (step, End::OfFound)
}

/// Over how much of the log one step looks at events that were put off: what they are found by is made anew in pieces of it,
/// in the transaction of the step.
const SPAN: u64 = 4096;

/// Looks again at events that were put off until now, the first of them and those near it.
fn look_again(
    mut step: Forgetting,
    due: &[Aging],
    (age, longest, written): (Duration, Duration, u64),
    now: OffsetDateTime,
) -> Forgetting {
    let end = due.first().map_or(0, |first| first.sequence.saturating_add(SPAN));
    for one in due.iter().take_while(|one| one.sequence < end) {
        let fate = one.body.as_deref().map_or(Fate::Forgotten, |body| judge(one, body, age, longest, now));
        match fate {
            Fate::Forgotten if one.sequence >= written => {
                step.put_off.push((one.sequence, time_math::after(now, PAUSE)))
            }
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
