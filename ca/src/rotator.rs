//! Keeps the authorities in order: takes the steps that the rules name, and publishes what signs now. Any number of
//! replicas may run it on one journal.

mod absent;
mod following;
mod make;
mod publish;
mod steady;
mod steps;
pub(crate) mod words;

use std::sync::Arc;
use std::time::{Duration, Instant};

use signet_core::authority::IssuingCa;
use signet_core::bundle::BundleError;
use signet_core::certificate::CertificateError;
use signet_core::clock::rfc3339;
use signet_core::identity::TrustDomain;
use signet_core::moment;
use signet_core::renewal::half_life;
use signet_core::rotation::{Activation, Authorities, FormatError, Phase, Step, next_step};
use signet_core::seams::authority::{CertificateAuthority, SignError};
use signet_core::seams::custody::{CustodyError, SigningKey};
use signet_core::seams::store::{JournalVersion, StoreError};
use signet_core::verify::Mismatch;
use signet_runtime::readiness::Condition;
use time::OffsetDateTime;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

pub use make::{Maker, SignList};
pub use steps::{Entry, Look, Order, Steps};

use crate::error::RecordError;
use crate::metrics::CaMetrics;
use crate::state::StateWriter;

/// How often the journal's version is read: how far a replica usually lags behind another one's step
/// ([`signet_core::rotation::LAG`]).
const POLL: Duration = Duration::from_millis(500);

/// How often everything is looked at while something is in progress: holders acknowledge at any replica.
const LOOK: Duration = Duration::from_secs(1);

/// Looking may take this share of the time at most, however many holders there are.
const LOOK_SHARE: u32 = 20;

/// How soon everything is looked at again while all steps are left to newer programs.
const LEFT_TO_OTHERS: Duration = Duration::from_secs(60);

/// How soon a failed step is tried again.
const RETRY: Duration = Duration::from_secs(2);

/// Steps made one after another before a pause: enough for those that follow from one another, and for losing a few
/// races.
const STEPS_PER_TURN: usize = 6;

/// How long a holder is remembered after its last certificate has ended, and how many are forgotten at a time.
const KEEP_HOLDERS: Duration = Duration::from_secs(3600);
const FORGET_BATCH: u32 = 1000;
const FORGET_BATCHES: usize = 50;
const FORGET: Duration = Duration::from_secs(60);

/// What is told when nothing in the journal can sign and nobody has failed to change that.
const UNUSABLE: &str = "no issuing CA in this storage can sign now; see `authority list`";

/// How long no authority has named a key that is removed. A step takes seconds from its key to the journal; one that took
/// longer is not taken.
const UNUSED_KEYS: Duration = Duration::from_secs(900);

/// A step was not made; it is retried.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StepError {
    /// Storage failed.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// A key could not be made or opened.
    #[error("{0}")]
    Custody(#[from] CustodyError),
    /// A certificate could not be made.
    #[error("{0}")]
    Sign(#[from] SignError),
    /// The journal holds no usable trust bundle.
    #[error("the journal's roots are unusable: {0}")]
    Bundle(#[from] BundleError),
    /// A certificate of an authority is unreadable.
    #[error("an authority's certificate is unreadable: {0}")]
    Certificate(#[from] CertificateError),
    /// The issuing CA does not chain to the trust bundle.
    #[error("the issuing CA: {0}")]
    Path(#[from] Mismatch),
    /// The step could not be recorded.
    #[error("{0}")]
    Record(#[from] RecordError),
    /// The journal is a newer program's, which this one may not change.
    #[error("{0}")]
    Format(#[from] FormatError),
    /// Steps follow each other without end: lifetimes too short for this machine, or a clock that jumps.
    #[error("the authorities need one step after another; are their lifetimes too short, or does the clock jump?")]
    Endless,
    /// The random number generator failed.
    #[error("the system's random number generator failed")]
    Random,
}

/// Makes the signer for an issuing CA out of its key. Given by the program, which knows the concrete authorities.
pub type OpenIssuer =
    dyn Fn(Arc<dyn SigningKey>, &IssuingCa) -> Result<Arc<dyn CertificateAuthority>, SignError> + Send + Sync;

/// What the rotator works with.
pub struct Rotator {
    /// The trust domain of all authorities.
    pub trust_domain: TrustDomain,
    /// How steps are made.
    pub steps: Arc<Steps>,
    /// Makes signers.
    pub open_issuer: Arc<OpenIssuer>,
    /// Measurements.
    pub metrics: Arc<CaMetrics>,
    /// Where the state appears.
    pub output: StateWriter,
    /// Rung when something has happened that may make a step due: an operator's command, an acknowledgement.
    pub bell: Arc<Notify>,
}

/// What a turn found out about the next one.
#[derive(Debug, Clone, Copy)]
struct Next {
    version: JournalVersion,
    /// Nothing is due before this time of day.
    due: OffsetDateTime,
    /// When to look at everything again, whatever the time of day.
    look_at: Option<Instant>,
    /// Not before this, however often the bell rings: ten thousand acknowledgements are one reason to look.
    earliest: Instant,
}

impl Rotator {
    /// Works until `stop`; `condition` says whether there is a usable signer.
    ///
    /// # Errors
    /// None: a failed step shows in readiness and is retried.
    pub async fn run(self, condition: Condition, stop: CancellationToken) -> Result<(), std::convert::Infallible> {
        let mut next: Option<Next> = None;
        let mut forget_at = Instant::now();
        let mut absent = absent::Absent::default();
        loop {
            if !self.steps.watch_clock() {
                next = None;
            }
            let rung = stop.run_until_cancelled(self.wait(next)).await;
            let Some(look) = rung else { return Ok(()) };
            let (mut trouble, mut without) = (None, None);
            if look {
                match stop.run_until_cancelled(self.turn_at()).await {
                    None => return Ok(()),
                    Some(Ok(found)) => {
                        next = Some(found);
                        without = absent.tell(found);
                    }
                    Some(Err(error)) => {
                        tracing::error!(%error, "a step with the authorities failed; it is retried");
                        trouble = Some(error.to_string());
                        // What another replica has done, or what is there, still counts.
                        if let Err(error) = self.publish_journal().await {
                            tracing::debug!(%error, "the authorities cannot be loaded");
                        }
                        next = None;
                    }
                }
                self.report(&condition, trouble.clone().or(without));
            }
            if trouble.is_some() && stop.run_until_cancelled(tokio::time::sleep(RETRY)).await.is_none() {
                return Ok(());
            }
            if forget_at <= Instant::now() {
                forget_at = Instant::now() + FORGET;
                self.forget().await;
            }
        }
    }

    /// Waits until a turn may be worth it; `false` when only the poll came and found nothing new.
    async fn wait(&self, next: Option<Next>) -> bool {
        let Some(next) = next else { return true };
        let look = next.look_at.map_or(POLL, |at| at.saturating_duration_since(Instant::now()));
        tokio::select! {
            () = self.bell.notified() => {
                tokio::time::sleep_until(next.earliest.into()).await;
                true
            }
            () = self.steps.clock.sleep_until(next.due) => true,
            () = self.steps.journal.heard() => self.steps.journal.version().await != Ok(next.version),
            // The monotonic clock too: a wall clock that is set back must not make this sleep for as long.
            () = tokio::time::sleep(look.min(POLL)) => {
                let looked = next.look_at.is_some_and(|at| at <= Instant::now());
                looked || self.steps.journal.version().await != Ok(next.version)
            }
        }
    }

    /// Does all steps that are due, publishes the state, and returns when to come back.
    ///
    /// # Errors
    /// [`StepError`]; what was done before it stays done.
    pub async fn turn(&self) -> Result<OffsetDateTime, StepError> {
        self.turn_at().await.map(|next| next.due)
    }

    async fn turn_at(&self) -> Result<Next, StepError> {
        if self.output.borrow().is_none() && self.steps.journal.load().await?.is_none() {
            return Ok(Next::without_authority(self.steps.clock.now()));
        }
        for _ in 0..STEPS_PER_TURN {
            let started = Instant::now();
            let look = self.steps.look().await?;
            let took = started.elapsed();
            let step = match look.authorities.may_change() {
                Ok(()) => next_step(look.now, &look.authorities, &look.seen(), &self.steps.rules),
                // Newer replicas take the steps; readiness says so.
                Err(_) => Step::WaitUntil(moment::after(look.now, LEFT_TO_OTHERS)),
            };
            if let Step::WaitUntil(due) = step {
                self.measure(&look);
                let brings = look.source.offer.is_some() || look.offer.is_some();
                let waits =
                    look.authorities.roots.iter().flat_map(|root| &root.issuing).any(|one| one.after_sequence > 0);
                let busy = Phase::of(&look.authorities) != Phase::Settled || waits || brings || !look.clock_is_steady;
                let look_at = busy.then(|| Instant::now() + LOOK.max(took * LOOK_SHARE));
                let version = look.version;
                self.publish(look.authorities).await?;
                let earliest = Instant::now() + (took * LOOK_SHARE).min(LOOK);
                return Ok(Next { version, due, look_at, earliest });
            }
            // Whoever else signs must be known before the first use of it; a lost race is looked at again.
            self.steps.take(&look, &step, Order::default()).await?;
        }
        // What has been reached works, and the next turn goes on from there.
        self.publish_journal().await?;
        Err(StepError::Endless)
    }

    fn measure(&self, look: &Look) {
        let awaited = look.authorities.awaited_sequence();
        self.metrics.rotation.set(&look.authorities, look.coverage.live(), look.coverage.covered(awaited));
        self.metrics.rotation.late.set(i64::from(self.steps.is_late()));
    }

    async fn forget(&self) {
        let look = self.steps.look().await;
        // By a clock that is wrong, holders that live may look long gone, and coverage would be complete without them.
        let Some(look) = look.ok().filter(|look| look.clock_is_steady) else { return };
        // A newer program may name keys where this one does not look.
        let ours = look.authorities.may_change().is_ok();
        let forgotten = match ours {
            true => self.steps.maker.custody.forget_unused(look.now, UNUSED_KEYS).await,
            false => Ok(Vec::new()),
        };
        match forgotten {
            Ok(removed) => self.steps.removed(&removed, look.now).await,
            Err(error) => tracing::debug!(%error, "keys that nobody needs could not be removed"),
        }
        for _ in 0..FORGET_BATCHES {
            match self.steps.holders.forget_ended(moment::before(look.now, KEEP_HOLDERS), FORGET_BATCH).await {
                Ok(forgotten) if forgotten >= u64::from(FORGET_BATCH) => {}
                Ok(_) => return,
                Err(error) => {
                    tracing::debug!(%error, "ended holders could not be forgotten");
                    return;
                }
            }
        }
    }

    pub(crate) fn report(&self, condition: &Condition, trouble: Option<String>) {
        let now = self.steps.clock.now();
        let Some(state) = self.output.borrow().clone() else {
            return condition.failing(trouble.unwrap_or_else(|| UNUSABLE.to_owned()));
        };
        let limits = state.authority.limits();
        let replace = "or replace the root: `authority rotate`, then `authority activate ID --force --reason ...`";
        if let Some(root) = state.authorities.active() {
            if now < root.not_before {
                let (id, start) = (&root.id, rfc3339(root.not_before));
                return condition.failing(format!(
                    "the root {id} starts only at {start} by this clock, and nothing under it is accepted before: if the \
                     clock is wrong now, correct it; if it was ahead when the root was made, wait, {replace}"
                ));
            }
            if root.not_after <= now {
                let (id, end) = (&root.id, rfc3339(root.not_after));
                return condition
                    .failing(format!("the root {id} ended at {end}: correct the clock if it is wrong, {replace}"));
            }
        }
        if limits.not_after <= now {
            return condition.failing(format!("the issuing CA ended at {}", rfc3339(limits.not_after)));
        }
        if now < limits.not_before {
            let start = rfc3339(limits.not_before);
            return condition.failing(format!("the clock is before the issuing CA's start {start}; was it set back?"));
        }
        let text = format!("issuing CA {} until {}", limits.authority, rfc3339(limits.not_after));
        let mut all = vec![text];
        all.extend(trouble);
        all.extend(self.worries(&state.authorities, now));
        match all.as_slice() {
            [text] => condition.ready(text.clone()),
            // What is there still signs, but its renewal does not work: the time to act is now.
            _ => condition.degraded(all.join("; ")),
        }
    }

    /// What an operator should look at although certificates are issued.
    fn worries(&self, authorities: &Authorities, now: OffsetDateTime) -> Vec<String> {
        let mut worries: Vec<String> = authorities.may_change().err().iter().map(ToString::to_string).collect();
        let Some(active) = authorities.active() else { return worries };
        if self.steps.is_late() {
            worries.push(following::SUPERSEDED.to_owned());
            // Whoever is to renew it may be gone.
            let ending = authorities.active_issuer(now).filter(|issuing| {
                let half = half_life(issuing.not_before, issuing.not_after);
                now > half_life(half, issuing.not_after)
            });
            worries.extend(ending.map(|issuing| {
                format!(
                    "nobody has renewed the issuing CA, which ends at {}: no certificates after that",
                    rfc3339(issuing.not_after)
                )
            }));
        }
        if active.tainted_at.is_some() {
            worries.push(format!("the root {} is compromised and still signs; see `authority list`", active.id));
        }
        worries.extend(authorities.revocations.alert(&authorities.lists_of(now), now));
        if let Some(next) = authorities.prepared().filter(|root| now < root.not_before) {
            let (id, start) = (&next.id, rfc3339(next.not_before));
            worries.push(format!(
                "the prepared root {id} starts only at {start} by this clock: wait, or `authority rollback` and rotate again"
            ));
        }
        let life = moment::until(active.not_before, active.not_after);
        if now > moment::before(active.not_after, life / 10) {
            let waits = authorities.prepared().is_some_and(|root| root.activation() != Some(Activation::OnCommand));
            let hint =
                if waits { "its successor waits, see `holders list --behind`" } else { "use `authority rotate`" };
            worries.push(format!("the root ends at {}: {hint}", rfc3339(active.not_after)));
        }
        worries
    }
}

#[cfg(test)]
mod commit_tests;
#[cfg(test)]
mod follower_tests;
#[cfg(test)]
mod list_tests;
#[cfg(test)]
mod serving_files_tests;
#[cfg(test)]
mod test_own_ca;
#[cfg(test)]
#[path = "rotator_tests.rs"]
mod tests;
