//! Keeps the authorities in order: takes the steps that the rules name, and publishes what signs now. Any number of
//! replicas may run it on one journal.

mod adopted_source;
mod client_verification;
mod clock_jumps;
mod elsewhere;
mod executor;
mod gone_pods;
mod no_authority;
mod observation;
mod provisioner;
mod publish;
mod published;
mod without_key;

use std::sync::Arc;
use std::time::{Duration, Instant};

use signet_core::authority::IssuingCa;
use signet_core::bundle::BundleError;
use signet_core::certificate::CertificateError;
use signet_core::identity::TrustDomain;
use signet_core::publication;
use signet_core::rotation::{FormatError, Phase, Step, Unsettled, next_step};
use signet_core::seams::certificate_authority::{CertificateAuthority, SignError};
use signet_core::seams::custody::{CustodyError, SigningKey};
use signet_core::seams::signed_leaves::SignedLeafStore;
use signet_core::seams::store::{JournalVersion, PublicationStore, StoreError};
use signet_core::time_math;
use signet_core::verify::Mismatch;
use signet_runtime::readiness::Condition;
use time::OffsetDateTime;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

pub(crate) use client_verification::oddities;
pub use client_verification::{Judge, client_verdict};
pub use elsewhere::Elsewhere;
pub use executor::{Executor, Order, RevocationChange};
pub use observation::Observation;
pub use provisioner::{Provisioner, SignList};

use crate::clusters::Clusters;
use crate::describe;
use crate::issue_error::RecordError;
use crate::metrics::CaMetrics;
use crate::signing_state::StateWriter;

/// How often the journal's version is read: how far a replica usually lags behind another one's step
/// ([`signet_core::rotation::LAG`]).
const POLL: Duration = Duration::from_millis(500);

/// How often everything is looked at while something is in progress: holders acknowledge at any replica.
const OBSERVE: Duration = Duration::from_secs(1);

/// Looking may take this share of the time at most, however many holders there are.
const OBSERVE_SHARE: u32 = 20;

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

/// How long a leaf of a backend is kept after its end: longer than the wish that it be revoked.
const KEEP_LEAVES: Duration = Duration::from_secs(2 * 3600);

/// How long no authority has named a key that is removed. A step takes seconds from its key to the journal; one that took
/// longer is not taken.
const UNUSED_KEYS: Duration = Duration::from_secs(900);

/// A step was not made; it is retried.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StepError {
    /// Storage failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A key could not be made or opened.
    #[error(transparent)]
    Custody(#[from] CustodyError),
    /// A certificate could not be made.
    #[error(transparent)]
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
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The journal is a newer program's, which this one may not change.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// Steps follow each other without end: lifetimes too short for this machine, or a clock that jumps.
    #[error("the authorities need one step after another; are their lifetimes too short, or does the clock jump?")]
    Endless,
    /// The random number generator failed.
    #[error("the system's random number generator failed")]
    Random,
}

/// Makes the signer for an issuing CA out of its key; without one, out of the backend that has it. Given by the program, which
/// knows the concrete authorities.
pub type OpenIssuer =
    dyn Fn(Option<Arc<dyn SigningKey>>, &IssuingCa) -> Result<Arc<dyn CertificateAuthority>, SignError> + Send + Sync;

/// What the rotator works with.
pub struct Rotator {
    /// The trust domain of all authorities.
    pub trust_domain: TrustDomain,
    /// Carries steps out.
    pub executor: Arc<Executor>,
    /// Makes signers.
    pub open_issuer: Arc<OpenIssuer>,
    /// Measurements.
    pub metrics: Arc<CaMetrics>,
    /// Where the state appears.
    pub output: StateWriter,
    /// Notified when something has happened that may make a step due: an operator's command, an acknowledgement.
    pub wake_up: Arc<Notify>,
    /// Whose pods are gone, they know.
    pub clusters: Arc<Clusters>,
    /// Where the bundle is published.
    pub publications: Arc<dyn PublicationStore>,
    /// Leaves of a backend that are kept until they have ended.
    pub leaves: Arc<dyn SignedLeafStore>,
}

/// What a turn found out about the next one.
#[derive(Debug, Clone, Copy)]
struct Next {
    version: JournalVersion,
    /// Nothing is due before this time of day.
    due: OffsetDateTime,
    /// What was found that is not over.
    unsettled: Unsettled,
    /// When to look at everything again, whatever the time of day.
    observe_at: Option<Instant>,
    /// Not before this, however often it is woken up: ten thousand acknowledgements are one reason to look.
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
        let mut absent = no_authority::Absent::default();
        let mut unsettled = Unsettled::default();
        loop {
            if !self.executor.watch_clock() {
                next = None;
            }
            let woken = stop.run_until_cancelled(self.wait(next)).await;
            let Some(is_worth_it) = woken else { return Ok(()) };
            let (mut trouble, mut without) = (None, None);
            if is_worth_it {
                match stop.run_until_cancelled(Box::pin(self.turn_at())).await {
                    None => return Ok(()),
                    Some(Ok(found)) => {
                        (next, unsettled) = (Some(found), found.unsettled);
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
                self.report(&condition, trouble.clone().or(without), &unsettled);
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
        let pause = next.observe_at.map_or(POLL, |at| at.saturating_duration_since(Instant::now()));
        tokio::select! {
            () = self.wake_up.notified() => {
                tokio::time::sleep_until(next.earliest.into()).await;
                true
            }
            () = self.executor.clock.sleep_until(next.due) => true,
            () = self.executor.journal.heard() => self.executor.journal.version().await != Ok(next.version),
            // The monotonic clock too: a wall clock that is set back must not make this sleep for as long.
            () = tokio::time::sleep(pause.min(POLL)) => {
                let looked = next.observe_at.is_some_and(|at| at <= Instant::now());
                looked || self.executor.journal.version().await != Ok(next.version)
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
        if self.output.borrow().is_none() && self.executor.journal.load().await?.is_none() {
            return Ok(Next::without_authority(self.executor.clock.now()));
        }
        for _ in 0..STEPS_PER_TURN {
            let started = Instant::now();
            let mut observation = self.executor.observe().await?;
            self.executor.leave_out_gone(&mut observation, &self.clusters).await?;
            self.count_published(&mut observation).await?;
            let took = started.elapsed();
            let step = match observation.authorities.may_change() {
                Ok(()) => {
                    next_step(observation.now, &observation.authorities, &observation.seen(), &self.executor.rules)
                }
                // Newer replicas take the steps; readiness says so.
                Err(_) => Step::WaitUntil(time_math::after(observation.now, LEFT_TO_OTHERS)),
            };
            if let Step::WaitUntil(due) = step {
                let unsettled = observation.unsettled();
                let phase = Phase::of(&observation.authorities).with(&unsettled);
                self.measure(&observation, phase, &unsettled);
                // Also files that cannot be used: they may be put right.
                let is_offered = observation.source.offer.is_some()
                    || observation.offer.is_some()
                    || observation.source.fingerprint.is_none();
                let waits = observation
                    .authorities
                    .roots
                    .iter()
                    .flat_map(|root| &root.issuing)
                    .any(|one| one.after_sequence > 0);
                let busy = phase != Phase::Settled || waits || is_offered || !observation.clock_is_steady;
                let observe_at = busy.then(|| Instant::now() + OBSERVE.max(took * OBSERVE_SHARE));
                let version = observation.version;
                self.publish(observation.authorities).await?;
                let earliest = Instant::now() + (took * OBSERVE_SHARE).min(OBSERVE);
                return Ok(Next { version, due, unsettled, observe_at, earliest });
            }
            // Whoever else signs must be known before the first use of it; a lost race is looked at again.
            self.take_and_follow(&observation, &step).await?;
        }
        // What has been reached works, and the next turn goes on from there.
        self.publish_journal().await?;
        Err(StepError::Endless)
    }

    /// Takes a step, and publishes meanwhile what others have changed: what certifies issuing CAs may take its time.
    async fn take_and_follow(&self, observation: &Observation, step: &Step) -> Result<(), StepError> {
        let mut version = Ok(observation.version);
        let mut taking = std::pin::pin!(self.executor.take(observation, step, Order::default()));
        loop {
            tokio::select! {
                taken = &mut taking => return taken.map(drop),
                () = tokio::time::sleep(POLL) => {}
            }
            let newer = self.executor.journal.version().await;
            if newer != version {
                version = newer;
                if let Err(error) = self.publish_journal().await {
                    tracing::debug!(%error, "the authorities cannot be loaded");
                }
            }
        }
    }

    fn measure(&self, observation: &Observation, phase: Phase, unsettled: &Unsettled) {
        self.metrics.rotation.set(&observation.authorities, &observation.coverage);
        self.metrics.rotation.set_unsettled(phase, unsettled);
        self.metrics.rotation.late.set(i64::from(self.executor.is_superseded()));
    }

    pub(crate) async fn forget(&self) {
        let observation = self.executor.observe().await;
        // By a clock that is wrong, holders that live may look long gone, and coverage would be complete without them.
        let Some(observation) = observation.ok().filter(|observation| observation.clock_is_steady) else { return };
        // A newer program may name keys where this one does not look.
        let ours = observation.authorities.may_change().is_ok();
        let forgotten = match ours {
            true => self.executor.provisioner.custody.forget_unused(observation.now, UNUSED_KEYS).await,
            false => Ok(Vec::new()),
        };
        match forgotten {
            Ok(removed) => self.executor.removed(&removed, observation.now).await,
            Err(error) => tracing::debug!(%error, "keys that nobody needs could not be removed"),
        }
        let silent = time_math::before(observation.now, publication::SILENT);
        match self.publications.forget_silent(&observation.publishers, silent).await {
            Ok(names) if names.is_empty() => {}
            Ok(names) => tracing::info!(
                publishers = names.join(", "),
                "publishers that nobody is configured with any more are waited for no more"
            ),
            Err(error) => tracing::debug!(%error, "publishers that are gone could not be forgotten"),
        }
        let (holders, leaves) = (&self.executor.holders, &self.leaves);
        let ended = time_math::before(observation.now, KEEP_HOLDERS);
        for _ in 0..FORGET_BATCHES {
            if !is_more("holders", &holders.forget_ended(ended, FORGET_BATCH).await) {
                break;
            }
        }
        let ended = time_math::before(observation.now, KEEP_LEAVES);
        for _ in 0..FORGET_BATCHES {
            if !is_more("leaves of a backend", &leaves.forget_signed(ended, FORGET_BATCH).await) {
                break;
            }
        }
    }

    pub(crate) fn report(&self, condition: &Condition, trouble: Option<String>, unsettled: &Unsettled) {
        let now = self.executor.clock.now();
        let Some(state) = self.output.borrow().clone() else {
            return condition.failing(trouble.unwrap_or_else(|| describe::UNUSABLE.to_owned()));
        };
        let limits = state.authority.limits();
        if let Some(text) = describe::outage(&state.authorities, limits, now) {
            return condition.failing(text);
        }
        if let Some(text) = self.executor.lacking() {
            return condition.failing(text);
        }
        let mut all = vec![describe::in_use(limits)];
        all.extend(trouble);
        let not_revoked = self.executor.not_revoked();
        all.extend(describe::alerts(&state.authorities, self.executor.is_superseded(), not_revoked.as_deref(), now));
        all.extend(describe::unsettled(&state.authorities, unsettled));
        match all.as_slice() {
            [text] => condition.ready(text.clone()),
            // What is there still signs, but its renewal does not work: the time to act is now.
            _ => condition.degraded(all.join("; ")),
        }
    }
}

/// Whether there may be more to forget after a piece of it.
fn is_more(what: &str, forgotten: &Result<u64, StoreError>) -> bool {
    match forgotten {
        Ok(forgotten) => *forgotten >= u64::from(FORGET_BATCH),
        Err(error) => {
            tracing::debug!(%error, what, "what has ended could not be forgotten");
            false
        }
    }
}

#[cfg(test)]
mod commit_tests;
#[cfg(test)]
mod follower_tests;
#[cfg(test)]
mod list_tests;
#[cfg(test)]
mod mount_backend_tests;
#[cfg(test)]
mod mount_tests;
#[cfg(test)]
mod serving_files_tests;
#[cfg(test)]
mod slow_upstream_tests;
#[cfg(test)]
mod test_own_ca;
#[cfg(test)]
#[path = "rotator_tests.rs"]
mod tests;
#[cfg(test)]
mod unsettled_tests;
