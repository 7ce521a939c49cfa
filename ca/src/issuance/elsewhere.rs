//! Leaves that a backend signs with a key of its own. What is asked of it is on record before, and what came of that afterwards,
//! also when whoever asked has given up meanwhile: such a certificate exists, and nobody gets it.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Instant;

use signet_core::audit::{AuditEvent, Certified, Outcome};
use signet_core::clock::SharedClock;
use signet_core::policy::SigningRequest;
use signet_core::record_before_release::{ClaimName, Kept};
use signet_core::seams::certificate_authority::SignError;
use signet_core::verify::{self, Signer};
use signet_runtime::supervisor::{Importance, Spawner};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::{Asked, Issuance, Issued, Way};
use crate::audit_log::AuditLog;
use crate::issue_error::IssueError;
use crate::metrics::CaMetrics;
use crate::reply_delivery::Handovers;
use crate::signing_state::SigningState;

/// Why a certificate that a backend has signed is not handed out: its answer came too late.
const LATE: &str = "late_answer";

/// Where backends are asked: as many signatures at once as there may be, each in a task of its own.
pub struct Elsewhere {
    spawner: Spawner,
    places: Arc<Semaphore>,
}

impl Elsewhere {
    /// Asks for `at_once` signatures at the same time; further requests wait for their turn as long as they may take.
    #[must_use]
    pub fn new(spawner: Spawner, at_once: usize) -> Self {
        Self { spawner, places: Arc::new(Semaphore::new(at_once)) }
    }
}

/// Whether whoever asked still waits, and whether the record of the outcome was handed to the log: one of both comes first.
#[derive(Default)]
struct Standing(AtomicU8);

const WAITED_FOR: u8 = 0;
const GIVEN_UP: u8 = 1;
const HANDED: u8 = 2;

impl Standing {
    fn becomes(&self, new: u8) -> bool {
        self.0.compare_exchange(WAITED_FOR, new, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    fn is_not_on_record(&self) {
        self.0.store(WAITED_FOR, Ordering::SeqCst);
    }
}

/// Whoever asked: dropped, they have given up, unless the outcome was on its way to the log already.
struct Asker<'a> {
    standing: Arc<Standing>,
    handed: &'a AtomicBool,
}

impl Drop for Asker<'_> {
    fn drop(&mut self) {
        if !self.standing.becomes(GIVEN_UP) {
            self.handed.store(true, Ordering::Relaxed);
        }
    }
}

impl Issuance {
    /// Has `request` signed by the backend; `event` is its record as issued.
    pub(super) async fn sign_elsewhere(
        &self,
        asked: &Asked<'_>,
        state: &Arc<SigningState>,
        request: SigningRequest,
        event: AuditEvent,
    ) -> Result<Issued, IssueError> {
        let place = Arc::clone(&self.elsewhere.places).acquire_owned().await.map_err(|_| IssueError::NotReady)?;
        state.authority.ready()?;
        // From here on there may be a certificate, whatever becomes of this process.
        self.audit.record(event.clone().intended()).await?;
        let standing = Arc::new(Standing::default());
        let _asker = Asker { standing: Arc::clone(&standing), handed: asked.handed };
        let (answer, answered) = oneshot::channel();
        let claim = match &asked.handover {
            Way::Reply { .. } => None,
            Way::Status(claim) => Some(claim.clone()),
        };
        let errand = Errand {
            event,
            claim,
            standing,
            state: Arc::clone(state),
            audit: self.audit.clone(),
            handovers: self.handovers.clone(),
            metrics: Arc::clone(&self.metrics),
            clock: Arc::clone(&self.clock),
            _place: place,
        };
        self.elsewhere.spawner.spawn("signature of a backend", Importance::Passing, |_stop| async move {
            // The receiver is gone when whoever asked has given up.
            drop(answer.send(errand.run(request).await));
            Ok::<_, Infallible>(())
        });
        let stopping = |_| SignError::Unavailable("the CA is stopping".to_owned());
        answered.await.map_err(stopping)?
    }
}

/// What is asked of a backend, apart from whoever asked for it.
struct Errand {
    /// The record of the certificate as issued.
    event: AuditEvent,
    /// The claim that the certificate is kept with, when it goes into the status of a request.
    claim: Option<ClaimName>,
    standing: Arc<Standing>,
    state: Arc<SigningState>,
    audit: AuditLog,
    handovers: Handovers,
    metrics: Arc<CaMetrics>,
    clock: SharedClock,
    /// Held until there is an answer, however late.
    _place: OwnedSemaphorePermit,
}

impl Errand {
    async fn run(mut self, request: SigningRequest) -> Result<Issued, IssueError> {
        let signing = Instant::now();
        let signed = self.state.authority.sign(&request).await;
        self.metrics.sign.observe(signing.elapsed().as_secs_f64());
        let checked = signed
            .map_err(IssueError::from)
            .and_then(|signed| Ok(verify::check_issued(request, signed, &self.state.path, Signer::Elsewhere)?));
        let unreleased = match checked {
            Ok(unreleased) => unreleased,
            Err(error) => {
                // Here, one by one: refusals that are alike are counted together, and each intention has its outcome.
                let why = match self.standing.becomes(HANDED) {
                    true => error.to_string(),
                    false => format!("the answer came after the request had been given up: {error}"),
                };
                self.event.what = self.event.what.take().map(Certified::intended);
                self.withheld(error.label(), &why).await;
                return Err(error);
            }
        };
        self.event.what = self.event.what.take().map(|what| what.signed(&unreleased));
        if !self.standing.becomes(HANDED) {
            let why = "it was signed after the request had been given up; nobody gets it";
            self.withheld(LATE, why).await;
            return Err(IssueError::TimedOut);
        }
        let leaf = self.state.authority.revokes_leaves().then(|| unreleased.kept_to_revoke());
        let (ticket, kept) = match self.claim.take() {
            None => (self.handovers.ticket(&self.event), leaf),
            Some(claim) => {
                let kept = unreleased.kept_for(claim);
                (None, Some(leaf.into_iter().fold(kept, Kept::and)))
            }
        };
        match self.audit.release_with(self.event.clone(), unreleased, (ticket, kept)).await {
            Ok((chain, ticket)) => Ok(Issued { chain, state: Arc::clone(&self.state), ticket }),
            Err(error) => {
                if error.is_not_on_record() {
                    self.withheld(error.label(), &format!("it was signed and is not handed out: {error}")).await;
                    self.standing.is_not_on_record();
                }
                Err(error.into())
            }
        }
    }

    /// Puts on record what has become of the intention, when nobody gets a certificate by it.
    async fn withheld(&self, reason: &str, detail: &str) {
        let event = AuditEvent {
            at_micros: AuditEvent::micros(self.clock.now()),
            outcome: Outcome::Failed,
            reason: Some(reason.to_owned()),
            detail: Some(detail.to_owned()),
            ..self.event.clone()
        };
        if let Err(error) = self.audit.record(event).await {
            let serial = self.event.what.as_ref().map(|what| what.serial.as_str());
            tracing::warn!(%error, serial, request_id = self.event.request_id, "what a backend has signed could not be recorded");
        }
    }
}

#[cfg(test)]
#[path = "elsewhere_tests.rs"]
mod tests;
