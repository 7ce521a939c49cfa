//! The CA's own serving certificate: decided, signed, recorded and released like any other, renewed at half-life or
//! when the root that it is to be under changes.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rcgen::KeyPair;
use ring::rand::{SecureRandom, SystemRandom};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use signet_core::audit::{Attributed, AuditEvent, Certified, EventKind, Outcome};
use signet_core::authority::AuthorityId;
use signet_core::certificate::Serial;
use signet_core::clock::{SharedClock, rfc3339};
use signet_core::identity::{IdentityError, SpiffeId};
use signet_core::policy::{self, LeafPolicy};
use signet_core::renewal::half_life;
use signet_core::time_math;
use signet_core::verify::{self, Signer};
use signet_runtime::readiness::Condition;
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::audit_log::AuditLog;
use crate::config::Serving as ServingConfig;
use crate::metrics::CaMetrics;
use crate::own_key;
use crate::signing_state::{ServingIssuer, SigningState, StateReader};

/// How soon a failed renewal is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// How often the wall clock is looked at again, whatever it said: while a certificate is not valid by it, nobody can
/// connect.
const LOOK: Duration = Duration::from_secs(1);

/// A serving certificate in use.
#[derive(Debug)]
pub struct Serving {
    /// Certificate and key for rustls.
    pub certified: Arc<CertifiedKey>,
    /// Serial number of the leaf.
    pub serial: Serial,
    /// Names that clients can dial.
    pub names: Vec<String>,
    /// Who signed it: root and issuing CA.
    issuer: (AuthorityId, AuthorityId),
    not_before: OffsetDateTime,
    /// End of validity.
    pub not_after: OffsetDateTime,
}

impl Serving {
    /// When it is replaced.
    #[must_use]
    pub fn renews_at(&self) -> OffsetDateTime {
        half_life(self.not_before, self.not_after)
    }

    /// The root that it is under.
    #[must_use]
    pub fn root(&self) -> &AuthorityId {
        &self.issuer.0
    }

    /// Whether clients that read revocation lists refuse it.
    fn is_revoked(&self, state: &SigningState) -> bool {
        let serial = self.serial.to_string();
        state.authorities.revocations.find(&serial, &self.issuer.1).is_some()
    }

    /// Whether it was made while the clock was ahead of `now`: nobody accepts it before its time.
    fn is_of_the_future(&self, now: OffsetDateTime) -> bool {
        now < self.not_before
    }
}

/// Where readers find the newest serving certificate.
pub type ServingReader = watch::Receiver<Option<Arc<Serving>>>;

/// Keeps a serving certificate.
pub struct ServingRenewer {
    policy: LeafPolicy,
    id: SpiffeId,
    names: ServingConfig,
    state: StateReader,
    audit: AuditLog,
    clock: SharedClock,
    metrics: Arc<CaMetrics>,
    condition: Condition,
    output: watch::Sender<Option<Arc<Serving>>>,
}

impl ServingRenewer {
    /// A renewer and where its certificates appear. The CA's own identity is `spiffe://<trust domain>/signet/ca`.
    ///
    /// # Errors
    /// [`IdentityError`] when the trust domain's name is too long for that.
    pub fn new(
        policy: &LeafPolicy,
        names: ServingConfig,
        state: StateReader,
        audit: AuditLog,
        clock: SharedClock,
        metrics: Arc<CaMetrics>,
        condition: Condition,
    ) -> Result<(Self, ServingReader), IdentityError> {
        let id = SpiffeId::parse(&format!("{}/signet/ca", policy.trust_domain.id()))?;
        let policy = LeafPolicy { default_ttl: names.ttl, ..policy.clone() };
        let (output, reader) = watch::channel(None);
        Ok((Self { policy, id, names, state, audit, clock, metrics, condition, output }, reader))
    }

    /// Renews until `stop`.
    ///
    /// # Errors
    /// None: a failure shows in readiness once it matters and is retried.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), std::convert::Infallible> {
        while stop.run_until_cancelled(self.turn()).await.is_some() {}
        Ok(())
    }

    async fn turn(&mut self) {
        let state = self.state.borrow_and_update().clone();
        let now = self.clock.now();
        let due = match (&state, &*self.output.borrow()) {
            (None, _) => None,
            (Some(_), None) => Some(now),
            // Away from a root that is about to be dropped, or compromised; or back to one that signs again.
            (Some(state), Some(serving)) if state.serving.is != serving.issuer => Some(now),
            (Some(_), Some(serving)) if serving.is_of_the_future(now) => Some(now),
            (Some(state), Some(serving)) if serving.is_revoked(state) => Some(now),
            (Some(_), Some(serving)) => Some(serving.renews_at()),
        };
        let mut wait_until = due;
        if let (Some(state), Some(due)) = (&state, due)
            && due <= now
        {
            wait_until = Some(match self.renew(state, now).await {
                Ok(serving) => self.publish(serving),
                Err(error) => {
                    tracing::error!(error, "the serving certificate could not be renewed");
                    time_math::after(now, RETRY)
                }
            });
        }
        self.report(self.clock.now());
        match wait_until {
            Some(at) => {
                let clock = Arc::clone(&self.clock);
                tokio::select! {
                    () = clock.sleep_until(at) => {}
                    // A wall clock that is set back must not hide what is due.
                    () = tokio::time::sleep(LOOK) => {}
                    changed = self.state.changed() => if changed.is_err() { std::future::pending::<()>().await },
                }
            }
            None => {
                if self.state.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        }
    }

    fn publish(&self, serving: Serving) -> OffsetDateTime {
        let next = serving.renews_at();
        self.metrics.expiry.serving.set(serving.not_after.unix_timestamp());
        // The first one of this process renews nothing.
        if self.output.borrow().is_some() {
            self.metrics.serving_renewals.inc();
        }
        tracing::info!(serial = %serving.serial, not_after = rfc3339(serving.not_after), next_renewal = rfc3339(next), "serving certificate issued");
        self.output.send_replace(Some(Arc::new(serving)));
        next
    }

    fn report(&self, now: OffsetDateTime) {
        match &*self.output.borrow() {
            None => self.condition.failing("no serving certificate yet"),
            Some(serving) if serving.not_after <= now => {
                self.condition.failing(format!("the serving certificate ended at {}", rfc3339(serving.not_after)));
            }
            Some(serving) if serving.is_of_the_future(now) => {
                let start = rfc3339(serving.not_before);
                self.condition.failing(format!(
                    "the serving certificate starts only at {start} by this clock, which was ahead; it is made again"
                ));
            }
            Some(serving) if time_math::after(serving.renews_at(), RETRY) < now => {
                self.condition.degraded(format!("renewal is late; valid until {}", rfc3339(serving.not_after)));
            }
            Some(serving) => self.condition.ready(format!("valid until {}", rfc3339(serving.not_after))),
        }
    }

    async fn renew(&self, state: &SigningState, now: OffsetDateTime) -> Result<Serving, String> {
        let ServingIssuer { authority, path, is, .. } = &state.serving;
        let key = KeyPair::generate().map_err(|error| format!("making a key: {error}"))?;
        let mut random = [0; 16];
        SystemRandom::new().fill(&mut random).map_err(|_| "the random number generator failed".to_owned())?;
        let request = policy::decide_serving(
            &self.policy,
            self.id.clone(),
            self.names.dns_names.clone(),
            self.names.ip_addresses.clone(),
            own_key::proven(&key, &self.id, &self.names.dns_names, &self.names.ip_addresses)?,
            authority.limits(),
            Serial::new(now, random),
            now,
        )
        .map_err(|refusal| refusal.to_string())?;
        let mut event = AuditEvent {
            at_micros: AuditEvent::micros(now),
            request_id: request.serial().to_string(),
            kind: EventKind::ServingCertificate,
            outcome: Outcome::Issued,
            reason: None,
            detail: None,
            who: Attributed { spiffe_id: Some(self.id.to_string()), ..Attributed::default() },
            what: Some(Certified::by(&request, state.bundle().sequence())),
            repeated: None,
        };
        let signer = authority.signer();
        if signer == Signer::Elsewhere {
            authority.ready().map_err(|error| error.to_string())?;
            self.audit.record(event.clone().intended()).await.map_err(|error| error.to_string())?;
        }
        let signed = authority.sign(&request).await.map_err(|error| error.to_string());
        let checked = signed
            .and_then(|signed| verify::check_issued(request, signed, path, signer).map_err(|error| error.to_string()));
        let unreleased = match checked {
            Ok(unreleased) => unreleased,
            Err(error) => {
                if signer == Signer::Elsewhere {
                    let (reason, detail) = (Some("sign_failed".to_owned()), Some(error.clone()));
                    let failed = AuditEvent { outcome: Outcome::Failed, reason, detail, ..event.intended() };
                    drop(self.audit.record(failed).await);
                }
                return Err(error);
            }
        };
        let (serial, (not_before, not_after)) = (unreleased.serial(), unreleased.life());
        event.what = event.what.map(|what| what.signed(&unreleased));
        let kept = authority.revokes_leaves().then(|| unreleased.kept_to_revoke());
        let released = self.audit.release_with(event, unreleased, (None, kept)).await;
        let (chain, _) = released.map_err(|error| error.to_string())?;
        let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let signer = rustls::crypto::ring::sign::any_supported_type(&private).map_err(|error| error.to_string())?;
        let names = self.names.dns_names.iter().cloned().chain(self.names.ip_addresses.iter().map(IpAddr::to_string));
        Ok(Serving {
            certified: Arc::new(CertifiedKey::new(chain.iter().cloned().collect(), signer)),
            serial,
            names: names.collect(),
            issuer: is.clone(),
            not_before,
            not_after,
        })
    }
}

#[cfg(test)]
mod rotation_tests;
#[cfg(test)]
mod tests;
