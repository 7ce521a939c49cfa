//! Watches a rotation through the operators' socket: phases and coverage as they change, told and recorded.

use std::time::{Duration, Instant};

use signet_proto::admin::v1alpha1::Rotation;

use super::record::{Phase, Record, Seen};
use super::stage::Requests;
use crate::client::admin::{self, Admin};
use crate::demo::narrator::{Narrator, short};
use crate::failure::{Failure, Outcome};

const GLANCE: Duration = Duration::from_millis(50);
const REPORT: Duration = Duration::from_secs(15);

/// The eyes of the demo.
pub struct Watch<'d> {
    narrator: &'d Narrator,
    admin: Admin,
    requests: &'d Requests,
    start: Instant,
    reported: Instant,
    told: String,
    /// What has been seen.
    pub record: Record,
}

impl<'d> Watch<'d> {
    /// Starts watching; the requests have just begun.
    #[must_use]
    pub fn new(narrator: &'d Narrator, admin: Admin, requests: &'d Requests) -> Self {
        let start = Instant::now();
        Self { narrator, admin, requests, start, reported: start, told: String::new(), record: Record::default() }
    }

    /// Seconds since the start of the requests.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }

    /// One line.
    pub fn tell(&self, text: &str) {
        self.narrator.tell(text);
    }

    /// A phase has been reached.
    pub fn reached(&mut self, name: &str, detail: &str) {
        self.tell(&format!("[{name}] {detail}"));
        self.record.phases.push(Phase { name: name.to_owned(), at: self.seconds(), detail: detail.to_owned() });
    }

    /// Looks once: what is new is told and recorded. Fails as soon as a request has failed.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn look(&mut self) -> Outcome<Rotation> {
        let rotation = self.admin.rotation().await.map_err(Failure::while_doing("ask where rotation stands"))?;
        let (covered, holders) = admin::coverage(&rotation);
        let sequence = rotation.coverage.as_ref().map_or(0, |coverage| coverage.sequence);
        let seen = Seen { at: self.seconds(), sequence, covered, holders };
        let same = |last: &Seen| (last.sequence, last.covered, last.holders) == (sequence, covered, holders);
        if !self.record.coverage_seen.last().is_some_and(same) {
            self.record.coverage_seen.push(seen);
        }
        let line = in_words(&rotation);
        if line != self.told {
            self.tell(&line);
            self.told = line;
        }
        let tally = self.requests.tally();
        if tally.failed > 0 {
            return Err(Failure::unexpected(format!(
                "{} of {} requests have failed: {:#?}",
                tally.failed,
                tally.failed + tally.succeeded,
                tally.first_failures
            )));
        }
        if self.reported.elapsed() >= REPORT {
            self.reported = Instant::now();
            self.tell(&format!("{} requests answered, none failed", tally.succeeded));
        }
        Ok(rotation)
    }

    /// Looks until something is so.
    ///
    /// # Errors
    /// [`Failure::Deadline`] with what is so instead.
    pub async fn until<T>(
        &mut self,
        what: &str,
        within: Duration,
        mut wanted: impl AsyncFnMut(&Rotation) -> Outcome<Option<T>>,
    ) -> Outcome<T> {
        let start = Instant::now();
        loop {
            let rotation = self.look().await?;
            if let Some(value) = wanted(&rotation).await? {
                return Ok(value);
            }
            if start.elapsed() > within {
                let context = format!("; {}", in_words(&rotation));
                return Err(Failure::Deadline { what: what.to_owned(), within, context });
            }
            tokio::time::sleep(GLANCE).await;
        }
    }

    /// Looks for so long at something that must stay so.
    ///
    /// # Errors
    /// [`Failure::Unexpected`] when it does not.
    pub async fn stays(&mut self, what: &str, lasting: Duration, mut so: impl FnMut(&Rotation) -> bool) -> Outcome {
        let start = Instant::now();
        while start.elapsed() < lasting {
            let rotation = self.look().await?;
            if !so(&rotation) {
                return Err(Failure::unexpected(format!("not so any more: {what}; {}", in_words(&rotation))));
            }
            tokio::time::sleep(GLANCE).await;
        }
        Ok(())
    }

    /// Ends the record with what the requests came to.
    #[must_use]
    pub fn finish(mut self) -> Record {
        self.record.seconds = self.seconds();
        self.record
    }
}

/// A rotation in one line.
#[must_use]
pub fn in_words(rotation: &Rotation) -> String {
    let roots: Vec<String> = rotation
        .authorities
        .iter()
        .filter(|one| admin::is_root(one))
        .map(|one| format!("{} {} ({} holders)", short(&one.id), word(one.state().as_str_name()), one.holders))
        .collect();
    let (covered, holders) = admin::coverage(rotation);
    let next = rotation.next.as_ref().map(|next| format!("; next: {}", word(next.step().as_str_name())));
    let next = next.unwrap_or_default();
    format!(
        "{}: bundle {} is known to {covered} of {holders}; {}{next}",
        word(rotation.phase().as_str_name()),
        rotation.bundle_sequence,
        roots.join(", ")
    )
}

/// The name of a value in the API without what it shares with the others.
fn word(name: &str) -> String {
    let prefixes = ["PHASE_", "AUTHORITY_STATE_", "STEP_"];
    let word = prefixes.iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name);
    word.to_ascii_lowercase().replace('_', " ")
}
