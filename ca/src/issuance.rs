//! How a certificate request becomes a certificate. Read [`Issuance::issue`] first: it is the order of things.

mod elsewhere;
mod for_pod;
mod sign_again;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ring::rand::{SecureRandom, SystemRandom};
use signet_core::audit::{Attributed, AuditEvent, Certified, EventKind, Outcome};
use signet_core::caller::{Caller, Peer};
use signet_core::certificate::{CertificateChain, Serial};
use signet_core::clock::SharedClock;
use signet_core::csr::CertificateRequest;
use signet_core::identity::WorkloadId;
use signet_core::policy::{self, AskedLife, LeafPolicy, SigningRequest};
use signet_core::record_before_release::ClaimName;
use signet_core::seams::authenticator::{AuthenticationError, Denial};
use signet_core::seams::impersonation;
use signet_core::seams::store::AppendError;
use signet_core::secret::Secret;
use signet_core::verify::{self, Signer};
use time::OffsetDateTime;
use tokio::sync::Notify;

use crate::audit_log::AuditLog;
use crate::certificate_caller::CertificateCallers;
use crate::client_identity::ClientIdentity;
use crate::clusters::Clusters;
use crate::issue_error::{IssueError, RecordError};
use crate::limits::request_rates::RequestRates;
use crate::metrics::CaMetrics;
use crate::refusals::{Refusals, RefusedCall};
use crate::reply_delivery::{Handovers, Ticket};
use crate::signing_state::{self, SigningState, StateReader};
use crate::transport::connections::Place;
pub use elsewhere::Elsewhere;

/// What a caller sent, as the gRPC edge understood it.
#[derive(Debug)]
pub struct Application {
    /// Ties log lines, the audit record and the reply together.
    pub request_id: String,
    /// Where it came from.
    pub peer: Peer,
    /// The place of the connection that it came over, whose standing it decides.
    pub place: Option<Arc<Place>>,
    /// The `clusterid` header, when there was one.
    pub cluster: Option<String>,
    /// The bearer token, when there was one.
    pub token: Option<Secret>,
    /// Who the client is by the certificate of its handshake, when it has shown one.
    pub client: Option<Arc<ClientIdentity>>,
    /// What the client calls itself, to be told apart from others of its identity.
    pub instance: Option<String>,
    /// Whether the client acknowledges trust bundles over a stream of its own.
    pub acknowledges: bool,
    /// The CSR in PEM.
    pub csr: String,
    /// Seconds of lifetime asked for.
    pub ttl: Option<i64>,
    /// The `ImpersonatedIdentity` of the metadata.
    pub impersonated: Option<String>,
    /// Whether the metadata asks for one of several signers, by `CertSigner`; this CA has one.
    pub names_signer: bool,
    /// What the edge could not make sense of.
    pub problem: Option<String>,
    /// Why the message or what names its cluster cannot be read; then nothing else in it was looked at.
    pub unreadable: Option<String>,
}

/// What goes back.
#[derive(Debug)]
pub struct Issued {
    /// Leaf and intermediates, released.
    pub chain: CertificateChain,
    /// What signed it: the trust bundle of this goes with them.
    pub state: Arc<SigningState>,
    /// Says what becomes of the reply; dropped, that nothing was handed over.
    pub ticket: Option<Ticket>,
}

/// The request id under which it is on record that there is no certificate: the request's own, or that of the event which
/// counts it with others. `None` for what a limit has turned away, which is in metrics only.
pub type OnRecord = Option<String>;

/// Who asks for what, once that is known: it is the same however often it is signed, and whatever way it came.
struct Asked<'a> {
    subject: WorkloadId,
    csr: CertificateRequest,
    life: AskedLife,
    request_id: &'a str,
    who: &'a Attributed,
    /// How the certificate gets to its holder.
    handover: Way,
    /// Whether its record was handed to the log and may be there: then that is the outcome, and there is no other.
    handed: &'a AtomicBool,
}

/// How a certificate gets to its holder.
enum Way {
    /// With the reply to a call. `acknowledges`: the holder acknowledges bundles over a stream of its own.
    Reply { acknowledges: bool },
    /// In the status of a request that was claimed under this name: it is kept with its record.
    Status(ClaimName),
}

/// Everything that issuing needs. One per process, shared by all requests.
pub struct Issuance {
    /// Rules for leaves.
    pub policy: LeafPolicy,
    /// Authenticators.
    pub clusters: Arc<Clusters>,
    /// Judges who shows a client certificate and no token.
    pub by_certificate: CertificateCallers,
    /// What signs now.
    pub state: StateReader,
    /// The record.
    pub audit: AuditLog,
    /// What becomes of replies.
    pub handovers: Handovers,
    /// What is not issued, and why.
    pub refusals: Refusals,
    /// Limits.
    pub rates: Arc<RequestRates>,
    /// The time.
    pub clock: SharedClock,
    /// Measurements.
    pub metrics: Arc<CaMetrics>,
    /// Randomness for serial numbers.
    pub random: SystemRandom,
    /// Rung when the journal has refused what was signed, so that it is read again at once.
    pub wake_up: Arc<Notify>,
    /// How long one request may take: neither of Istio's clients sets a deadline of its own.
    pub timeout: Duration,
    /// Where backends are asked that sign leaves themselves.
    pub elsewhere: Elsewhere,
}

impl Issuance {
    /// Turns an application into a released certificate, or notes why not.
    ///
    /// # Errors
    /// [`IssueError`]; it has been counted, and its record is on the way, under the id beside it.
    pub async fn issue(&self, application: &Application) -> Result<Issued, (IssueError, OnRecord)> {
        // 1. Limits that cost nothing come first. What they turn away is counted, not recorded: a flood must not fill
        //    the disk.
        self.enter(application).map_err(|error| (error, None))?;
        let mut who = Attributed { peer: Some(application.peer.to_string()), ..Attributed::default() };
        let handed = AtomicBool::new(false);
        let work = self.decide_and_sign(application, &mut who, &handed);
        let work = tokio::time::timeout(self.timeout, work).await;
        let result = work.unwrap_or(Err(IssueError::TimedOut));
        match result {
            Ok(issued) => {
                self.metrics.issued();
                Ok(issued)
            }
            Err(error) => {
                let call = ("CreateCertificate", application.request_id.as_str(), application.peer);
                let on_record = self.refuse(call, who, &error, handed.into_inner());
                Err((error, on_record))
            }
        }
    }

    async fn decide_and_sign(
        &self,
        application: &Application,
        who: &mut Attributed,
        handed: &AtomicBool,
    ) -> Result<Issued, IssueError> {
        let now = self.clock.now();
        if let Some(why) = &application.unreadable {
            // It costs no more than this: no signature is verified for what says nothing, and nobody is proved by it.
            if let Some(place) = &application.place {
                place.lapse();
            }
            return Err(IssueError::Malformed(why.clone()));
        }

        // 2. Who is asking? Only the token says, or the certificate of the handshake where there is none; nothing else in
        //    the request is believed before.
        let caller = self.authenticate(application).await.inspect_err(|error| {
            if let (Some(place), AuthenticationError::Denied { .. }) = (&application.place, error) {
                place.lapse();
            }
        })?;
        *who = Attributed::to_caller(&caller, application.peer.to_string());
        who.instance.clone_from(&application.instance);
        let identity = who.spiffe_id.get_or_insert_with(|| caller.identity.to_string());
        if let Some(place) = &application.place {
            place.prove(identity);
        }
        self.rates.count_identity(identity).map_err(IssueError::OverLimit)?;
        if let Some(problem) = &application.problem {
            return Err(IssueError::Malformed(problem.clone()));
        }

        // 3. The CSR proves possession of a key, and nothing but that key is taken from it.
        let csr = CertificateRequest::parse(&application.csr)?;

        // 4. For whom: the caller itself, or an identity it may ask for.
        let beside = self.clusters.authorizer(&caller.cluster);
        let beside = || beside.as_deref();
        let subject: WorkloadId = impersonation::subject(&caller, application.impersonated.as_deref(), beside)?;
        if subject != caller.identity {
            who.spiffe_id = Some(subject.to_string());
        }

        // 5 to 7. Decide, sign and record, with one snapshot of the authorities. What the journal does not let out any
        //    more was signed by a replica that lags: once more then, from the journal as it is now.
        let asked = Asked {
            subject,
            csr,
            life: application.ttl.into(),
            request_id: &application.request_id,
            who,
            handover: Way::Reply { acknowledges: application.acknowledges },
            handed,
        };
        self.certify(&asked, now).await
    }

    /// Decides, signs and records what is asked for, whoever asks and however: there is no other way to a certificate.
    async fn certify(&self, asked: &Asked<'_>, now: OffsetDateTime) -> Result<Issued, IssueError> {
        let state = signing_state::current(&self.state).ok_or(IssueError::NotReady)?;
        match self.sign_and_release(asked, &state, now).await {
            Err(IssueError::Record(RecordError::Append(AppendError::Fenced))) => {
                let newer = self.newer_than(&state).await?;
                self.sign_and_release(asked, &newer, self.clock.now()).await.map_err(sign_again::again)
            }
            result => result,
        }
    }

    async fn sign_and_release(
        &self,
        asked: &Asked<'_>,
        state: &Arc<SigningState>,
        now: OffsetDateTime,
    ) -> Result<Issued, IssueError> {
        // 5. The decision, bound to the issuer of one snapshot that serves the whole reply.
        let decision = Instant::now();
        let (subject, csr) = (asked.subject.clone(), asked.csr.clone());
        let issuer = state.authority.limits();
        let request = policy::decide(&self.policy, subject, csr, asked.life, issuer, self.serial(now)?, now)?;
        self.metrics.decision.observe(decision.elapsed().as_secs_f64());
        if request.clamped() {
            self.metrics.clamped.inc();
        }

        // 6. Sign, and check that what came back is what was decided.
        let mut what = Certified::by(&request, state.bundle().sequence());
        what.acknowledges = matches!(asked.handover, Way::Reply { acknowledges: true });
        let event = AuditEvent {
            at_micros: AuditEvent::micros(now),
            request_id: asked.request_id.to_owned(),
            kind: EventKind::Certificate,
            outcome: Outcome::Issued,
            reason: None,
            detail: None,
            who: asked.who.clone(),
            what: Some(what),
            repeated: None,
        };
        match state.authority.signer() {
            Signer::Here => self.sign_here(asked, state, request, event).await,
            Signer::Elsewhere => self.sign_elsewhere(asked, state, request, event).await,
        }
    }

    async fn sign_here(
        &self,
        asked: &Asked<'_>,
        state: &Arc<SigningState>,
        request: SigningRequest,
        mut event: AuditEvent,
    ) -> Result<Issued, IssueError> {
        let signing = Instant::now();
        let signed = state.authority.sign(&request).await?;
        self.metrics.sign.observe(signing.elapsed().as_secs_f64());
        let unreleased = verify::check_issued(request, signed, &state.path, Signer::Here)?;
        event.what = event.what.map(|what| what.signed(&unreleased));

        // 7. Only a durable record opens the certificate (invariant 2), and only what the journal lets out is recorded.
        tracing::debug!(spiffe_id = asked.who.spiffe_id, serial = %unreleased.serial(), "certificate signed");
        asked.handed.store(true, Ordering::Relaxed);
        let (ticket, kept) = match &asked.handover {
            Way::Reply { .. } => (self.handovers.ticket(&event), None),
            Way::Status(claim) => (None, Some(unreleased.kept_for(claim.clone()))),
        };
        let released = self.audit.release_with(event, unreleased, (ticket, kept)).await;
        if released.as_ref().is_err_and(RecordError::is_not_on_record) {
            asked.handed.store(false, Ordering::Relaxed);
        }
        let (chain, ticket) = released?;

        // 8. The edge encodes the reply, or the status.
        Ok(Issued { chain, state: Arc::clone(state), ticket })
    }

    /// Counts what was not issued and notes it for the record, without waiting for that; not when a record of it as issued
    /// was `handed` to the log and may be there, since one request has one outcome. Says under which request id it is on record.
    fn refuse(&self, call: (&'static str, &str, Peer), who: Attributed, error: &IssueError, handed: bool) -> OnRecord {
        let (call, request_id, peer) = call;
        let (outcome, reason) = (error.outcome(), error.label());
        self.metrics.not_issued(outcome, error);
        tracing::debug!(
            outcome = outcome.as_str(),
            reason,
            %error,
            spiffe_id = who.spiffe_id,
            peer.addr = %peer,
            "no certificate"
        );
        let denied = match error {
            IssueError::OverLimit(_) => return None,
            _ if handed => return Some(request_id.to_owned()),
            IssueError::Authentication(denied) => Some(denied),
            _ => None,
        };
        let call = (EventKind::Certificate, call);
        let refusal = RefusedCall::of_request(call, (outcome, reason), denied, peer, who);
        let (detail, request_id) = (error.to_string(), request_id.to_owned());
        Some(self.refusals.note(RefusedCall { detail, request_id, ..refusal }))
    }

    /// Counts the request against its source, unless its connection belongs to somebody already.
    fn enter(&self, application: &Application) -> Result<(), IssueError> {
        let Some(place) = application.place.as_ref().filter(|place| !place.is_proved()) else { return Ok(()) };
        self.rates.count_source(place.source()).map_err(|limit| {
            let error = IssueError::OverLimit(limit);
            self.metrics.not_issued(Outcome::Refused, &error);
            error
        })
    }

    async fn authenticate(&self, application: &Application) -> Result<Caller, AuthenticationError> {
        let started = Instant::now();
        let cluster = self.clusters.select(application.cluster.as_deref())?;
        // A token that is shown decides: a certificate beside it makes no bad one good.
        if let Some(token) = &application.token {
            let result = cluster.authenticator.authenticate(token, self.clock.now()).await;
            self.metrics.token.observe(started.elapsed().as_secs_f64());
            return result;
        }
        let Some(client) = &application.client else {
            let detail = "the request has no `authorization: Bearer <token>` header";
            return Err(AuthenticationError::denied(Denial::TokenMissing, detail));
        };
        let result = self.by_certificate.authenticate(client, &cluster, self.clock.now()).await;
        self.metrics.client_certificate.observe(started.elapsed().as_secs_f64());
        result
    }

    fn serial(&self, now: OffsetDateTime) -> Result<Serial, IssueError> {
        let mut bytes = [0; 16];
        self.random.fill(&mut bytes).map_err(|_| IssueError::Random)?;
        Ok(Serial::new(now, bytes))
    }
}

#[cfg(test)]
#[path = "issuance_tests.rs"]
mod tests;
