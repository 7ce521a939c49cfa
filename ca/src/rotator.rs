//! Keeps the authorities in order: does the next step that the rules name, by compare-and-set on the journal, and
//! publishes what signs now. Any number of replicas may run it on one journal.

use std::sync::Arc;
use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};
use signet_core::audit::{Attributed, AuditEvent, EventKind, Outcome};
use signet_core::bundle::BundleError;
use signet_core::certificate::{CertificateError, Facts};
use signet_core::clock::{SharedClock, rfc3339};
use signet_core::identity::TrustDomain;
use signet_core::key_type::KeyType;
use signet_core::rotation::{
    Authorities, AuthorityId, AuthorityState, IssuingCa, RootAuthority, Schedule, Step, next_step,
};
use signet_core::seams::authority::{CertificateAuthority, SignError, UpstreamAuthority};
use signet_core::seams::custody::{CustodyError, KeyCustody, KeyId, SigningKey};
use signet_core::seams::store::{AuthorityJournal, JournalVersion, StoreError};
use signet_core::verify::{Mismatch, VerifiedPath};
use signet_runtime::readiness::Condition;
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use crate::audit_log::AuditLog;
use crate::error::RecordError;
use crate::metrics::CaMetrics;
use crate::state::{SigningState, StateWriter, short};

/// How often the journal is read for steps that another replica made.
const POLL: Duration = Duration::from_secs(15);

/// How soon a failed step is tried again.
const RETRY: Duration = Duration::from_secs(2);

/// Steps made one after another before a pause: enough for a first root, and for losing a few races.
const STEPS_PER_TURN: usize = 4;

/// Issuing CAs that ended this long ago are dropped from the journal.
const KEEP_ENDED: Duration = Duration::from_secs(24 * 3600);

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
    /// Type of issuing keys.
    pub key_type: KeyType,
    /// Lifetimes.
    pub schedule: Schedule,
    /// What exists.
    pub journal: Arc<dyn AuthorityJournal>,
    /// Where issuing keys live.
    pub custody: Arc<dyn KeyCustody>,
    /// Who makes roots and certifies issuing CAs.
    pub upstream: Arc<dyn UpstreamAuthority>,
    /// Makes signers.
    pub open_issuer: Arc<OpenIssuer>,
    /// The record; absent in tools that set up a state before any CA runs.
    pub audit: AuditLog,
    /// The time.
    pub clock: SharedClock,
    /// Measurements.
    pub metrics: Arc<CaMetrics>,
    /// Where the state appears.
    pub output: StateWriter,
}

impl Rotator {
    /// Works until `stop`; `condition` says whether there is a usable signer.
    ///
    /// # Errors
    /// None: a failed step shows in readiness and is retried.
    pub async fn run(self, condition: Condition, stop: CancellationToken) -> Result<(), std::convert::Infallible> {
        let mut next = self.clock.now();
        loop {
            // The monotonic clock too: a wall clock that is set back must not make this sleep for as long.
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = self.clock.sleep_until(next) => {}
                () = tokio::time::sleep(POLL) => {}
            }
            let mut trouble = None;
            next = match stop.run_until_cancelled(self.turn()).await {
                None => return Ok(()),
                Some(Ok(next)) => next.min(self.clock.now() + POLL),
                Some(Err(error)) => {
                    tracing::error!(%error, "a step with the authorities failed; it is retried");
                    trouble = Some(error.to_string());
                    self.clock.now() + RETRY
                }
            };
            self.report(&condition, trouble);
        }
    }

    /// Does all steps that are due, publishes the state, and returns when to come back.
    ///
    /// # Errors
    /// [`StepError`]; what was done before it stays done.
    pub async fn turn(&self) -> Result<OffsetDateTime, StepError> {
        for _ in 0..STEPS_PER_TURN {
            let (version, authorities) = match self.journal.load().await? {
                Some(entry) => entry,
                None => (JournalVersion::default(), Authorities { bundle_sequence: 0, roots: Vec::new() }),
            };
            let now = self.clock.now();
            let (changed, done) = match next_step(now, &authorities) {
                Step::WaitUntil(at) => {
                    self.publish(authorities).await?;
                    return Ok(at);
                }
                Step::CreateRoot => self.create_root(authorities, now).await?,
                Step::RenewIssuing => self.renew_issuing(authorities, now).await?,
            };
            // On record before it happens, so that no step is ever missing from the log; and again when it has happened,
            // because another replica may have been faster: then its journal is what counts.
            self.record(Some("intended"), &done, now).await?;
            if self.journal.replace(version, &changed).await?.is_some() {
                tracing::info!(step = done.as_str(), "authorities changed");
                self.record(None, &done, now).await?;
            }
        }
        Err(StepError::Endless)
    }

    async fn create_root(
        &self,
        mut authorities: Authorities,
        now: OffsetDateTime,
    ) -> Result<(Authorities, String), StepError> {
        let generation = authorities.roots.iter().map(|root| root.generation).max().unwrap_or(0) + 1;
        let mut root = self.upstream.prepare_root(generation, now).await?;
        let issuing = self.certify(&root, now).await?;
        let done = format!("root {} of generation {generation} made, issuing CA {} under it", root.id, issuing.id);
        root.issuing.push(issuing);
        // The first root has nobody to wait for: no certificate exists that it could make invalid.
        root.state = AuthorityState::Active;
        authorities.roots.push(root);
        authorities.bundle_sequence += 1;
        Ok((authorities, done))
    }

    async fn renew_issuing(
        &self,
        mut authorities: Authorities,
        now: OffsetDateTime,
    ) -> Result<(Authorities, String), StepError> {
        let mut done = String::new();
        let active = authorities.roots.iter_mut().find(|root| root.state == AuthorityState::Active);
        if let Some(root) = active {
            let issuing = self.certify(root, now).await?;
            done = format!("issuing CA {} made under root {}", issuing.id, root.id);
            root.issuing.retain(|old| old.not_after + KEEP_ENDED > now);
            root.issuing.push(issuing);
        }
        Ok((authorities, done))
    }

    async fn certify(&self, root: &RootAuthority, now: OffsetDateTime) -> Result<IssuingCa, StepError> {
        let mut random = [0; 8];
        SystemRandom::new().fill(&mut random).map_err(|_| StepError::Random)?;
        let name = format!("issuing-{}-{:016x}", short(root.id.as_str()), u64::from_be_bytes(random));
        let key_id = KeyId::parse(&name).ok_or(StepError::Random)?;
        let key = self.custody.create(&key_id, self.key_type).await?;
        let certificate = self.upstream.certify(root, key.as_ref(), self.schedule.issuing_ttl, now).await?;
        let facts = Facts::read(&certificate)?;
        let id = AuthorityId::from_spki(key.spki_der());
        Ok(IssuingCa { id, key: key_id, certificate, not_before: facts.not_before, not_after: facts.not_after })
    }

    async fn publish(&self, authorities: Authorities) -> Result<(), StepError> {
        let unchanged = |state: &Arc<SigningState>| {
            let issuer = authorities.active_issuer(self.clock.now()).map(|issuing| &issuing.id);
            state.authorities == authorities && issuer == Some(&state.authority.limits().authority)
        };
        if self.output.borrow().as_ref().is_some_and(unchanged) {
            return Ok(());
        }
        let bundle = authorities.bundle(&self.trust_domain)?;
        let issuer = authorities.active_issuer(self.clock.now());
        let (Some(root), Some(issuing)) = (authorities.active(), issuer) else { return Ok(()) };
        let key = self.custody.open(&issuing.key).await?;
        let authority = (self.open_issuer)(key, issuing)?;
        let path = VerifiedPath::check(std::slice::from_ref(&issuing.certificate), &issuing.id.key_id(), &bundle)?;
        self.metrics.expiry.authorities(root.not_after.unix_timestamp(), issuing.not_after.unix_timestamp());
        tracing::info!(authority.id = %issuing.id, not_after = rfc3339(issuing.not_after), bundle.sequence = bundle.sequence(), "issuing CA in use");
        self.output.send_replace(Some(Arc::new(SigningState { authority, path, bundle, authorities })));
        Ok(())
    }

    async fn record(&self, reason: Option<&str>, step: &str, now: OffsetDateTime) -> Result<(), StepError> {
        let event = AuditEvent {
            at_micros: AuditEvent::micros(now),
            request_id: String::new(),
            kind: EventKind::Authority,
            outcome: Outcome::Done,
            reason: reason.map(str::to_owned),
            detail: Some(step.to_owned()),
            who: Attributed::default(),
            what: None,
        };
        self.audit.record(event).await?;
        Ok(())
    }

    fn report(&self, condition: &Condition, trouble: Option<String>) {
        let now = self.clock.now();
        match self.output.borrow().as_ref().map(|state| state.authority.limits()) {
            None => condition.failing(trouble.unwrap_or_else(|| "there is no authority yet".to_owned())),
            Some(limits) if limits.not_after <= now => {
                condition.failing(format!("the issuing CA ended at {}", rfc3339(limits.not_after)));
            }
            Some(limits) if now < limits.not_before => {
                condition.failing(format!(
                    "the clock is before the issuing CA's start {}; was it set back?",
                    rfc3339(limits.not_before)
                ));
            }
            Some(limits) => {
                let text = format!("issuing CA {} until {}", limits.authority, rfc3339(limits.not_after));
                match trouble {
                    None => condition.ready(text),
                    // What is there still signs, but its renewal does not work: the time to act is now.
                    Some(trouble) => condition.degraded(format!("{text}; {trouble}")),
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "rotator_tests.rs"]
mod tests;
