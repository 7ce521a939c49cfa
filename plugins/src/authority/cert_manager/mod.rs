//! Issuing CAs that cert-manager certifies, one CertificateRequest each: leaves are signed here then, and cert-manager sees none
//! of them. Or each leaf is a request.

mod answer;
mod answers;
mod calls;
mod connection;
mod issue;
mod leaf;
#[cfg(test)]
mod leaf_suite_tests;
mod left_overs;
mod pause;
mod probe;
mod request;
mod roots;
mod settings;
#[cfg(test)]
mod suite_tests;
#[cfg(test)]
mod test_server;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use signet_core::authority::{IssuingCa, Root};
use signet_core::certificate::Facts;
use signet_core::clock::{SharedClock, rfc3339};
use signet_core::key_type::KeyType;
use signet_core::seams::certificate_authority::{CertificateAuthority, SignError};
use signet_core::seams::custody::SigningKey;
use signet_core::seams::upstream_authority::{Certified, UpstreamAuthority};
use signet_core::source::{Offer, RevokedBy};
use signet_core::time_math;
use time::OffsetDateTime;
use tokio::time::Instant;

use super::certificates::{failed, some_time};
use super::trial::{self, Tried};
use crate::custody::LocalKey;
use crate::kubernetes::{Credentials, Files};
use answer::Asked;
pub use answers::{RequestStatus, judge_request};
use calls::Requests;
use connection::Connection;
use issue::Asking;
use leaf::{CertManagerLeaves, Trouble};
use pause::Pause;
pub use probe::ProbedIssuer;
use request::Asks;
use roots::Roots;
pub use settings::{CertManagerSettings, IssuerRef, ObjectKey, RootsFrom};

/// How often the roots are looked at, and how soon again when they could not be read.
const LOOK: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(10));
/// How often a trial request asks for the root where nothing else tells it, and how long its certificate lasts.
const TRIAL: (Duration, Duration) = (Duration::from_secs(3600), Duration::from_secs(60));

/// An issuer of cert-manager's (or of who answers its requests) that certifies our issuing CAs.
///
/// Its roots are published first, and it is asked for a certificate once they are covered. After a failure nothing is asked for
/// a while, and nothing is offered: what is in use goes on.
pub struct CertManagerAuthority {
    settings: CertManagerSettings,
    connection: Connection,
    clock: SharedClock,
    /// One request at a time.
    asking: tokio::sync::Mutex<()>,
    /// One look at the roots at a time, for which all others wait.
    looking: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The last that were good.
    roots: Option<Roots>,
    /// What is wrong with those that are there now.
    wrong: Option<SignError>,
    /// What keeps them from being read; those before go on.
    unread: Option<String>,
    look_at: Option<Instant>,
    collect_at: Option<Instant>,
    pause: Pause,
    /// What signs leaves, once a trial has shown it.
    issuing: Option<IssuingCa>,
    /// How leaves went of late.
    trouble: Trouble,
}

impl CertManagerAuthority {
    /// One that is asked as `settings` say, through the API server of `credentials`. Touches nothing yet.
    #[must_use]
    pub fn new(settings: CertManagerSettings, credentials: Credentials, files: Files, clock: SharedClock) -> Self {
        let connection = Connection::new(credentials, files);
        let (asking, looking) = Default::default();
        Self { settings, connection, clock, asking, looking, state: Mutex::default() }
    }

    /// What is not as it should be, for readiness: the last failure that nothing has made good since.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        self.with_state(|state| {
            let wrong = state.wrong.as_ref().or(state.pause.failure());
            wrong.map(ToString::to_string).or_else(|| state.unread.clone())
        })
    }

    /// What is wrong with the files that it is configured with. Nothing is sent.
    pub async fn check_files(&self) -> Vec<String> {
        let server = self.connection.server().await.err();
        let roots = match &self.settings.roots {
            RootsFrom::File(_) => self.read(&self.settings.roots).await.err(),
            _ => None,
        };
        server.into_iter().chain(roots).map(plain).collect()
    }

    fn with_state<T>(&self, read: impl FnOnce(&mut State) -> T) -> T {
        read(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn asking(&self) -> Result<Asking<'_>, SignError> {
        let server = self.connection.server().await?;
        let requests = Requests::of(&server, &self.settings);
        Ok(Asking { requests, settings: &self.settings, clock: self.clock.as_ref() })
    }

    /// Removes what nobody waits for, from time to time.
    async fn collect(&self) {
        let now = Instant::now();
        let is_due = self.with_state(|state| {
            let is_due = state.collect_at.is_none_or(|at| at <= now);
            state.collect_at = if is_due { Some(now + LOOK.1) } else { state.collect_at };
            is_due
        });
        if !is_due {
            return;
        }
        let Ok(asking) = self.asking().await else { return };
        match left_overs::collect(&asking.requests, &self.settings, self.clock.now()).await {
            Ok(next) => self.with_state(|state| state.collect_at = Some(now + next)),
            Err(fault) => tracing::debug!(error = fault.text(), "left-over CertificateRequests cannot be removed"),
        }
    }

    /// The roots as they are, if it is time to look.
    async fn look(&self) {
        let _one = self.looking.lock().await;
        let now = Instant::now();
        let tries = self.settings.roots == RootsFrom::Requests || self.settings.leaves;
        let is_due = self.with_state(|state| {
            let pauses = tries && state.pause.now(now).is_some();
            !pauses && state.look_at.is_none_or(|at| at <= now)
        });
        if !is_due {
            return;
        }
        let (found, next) = match &self.settings.roots {
            RootsFrom::Requests => (self.trial().await, TRIAL.0),
            from => (self.read(from).await, LOOK.0),
        };
        let found = match found {
            Ok(roots) if self.settings.leaves => self.learned(&roots).await.map(|()| roots),
            found => found,
        };
        let now = Instant::now();
        self.with_state(|state| match found {
            Ok(roots) => {
                if state.roots.as_ref() != Some(&roots) {
                    self.say(&roots);
                    // What was wrong may have been that.
                    state.pause.succeeded();
                }
                (state.roots, state.wrong, state.unread) = (Some(roots), None, None);
                state.look_at = Some(now + next);
            }
            Err(error) => {
                state.look_at = Some(now + LOOK.1);
                if tries {
                    state.pause.failed(now, error.clone());
                }
                match error {
                    // Those before go on.
                    SignError::Unavailable(text) if state.roots.is_some() => state.unread = Some(text),
                    error => state.wrong = Some(error),
                }
            }
        });
    }

    async fn read(&self, from: &RootsFrom) -> Result<Roots, SignError> {
        let server = match from {
            RootsFrom::File(_) => None,
            _ => Some(self.connection.server().await?),
        };
        let text = roots::text(from, server.as_deref(), &self.connection.files).await?;
        let roots = Roots::parse(&text, self.clock.now());
        roots.map_err(|cause| SignError::Unusable(format!("{from}: {cause}")))
    }

    /// The root that the answer to a request names, whose key is thrown away.
    async fn trial(&self) -> Result<Roots, SignError> {
        let _one = self.asking.lock().await;
        let generated = LocalKey::generate(KeyType::EcP256).await;
        let (key, _thrown_away) = generated.map_err(|_| failed("making the key of a trial request failed"))?;
        let csr = request::csr(&self.settings.trust_domain, &key).await?;
        let issued = self.asking().await?.issue(&csr, Asks::Ca, TRIAL.1).await?;
        let wrong = |cause: String| {
            SignError::Unusable(format!(
                "status.ca of a trial CertificateRequest is of no use ({cause}); say where the root is: authority.cert_manager.roots"
            ))
        };
        let roots = Roots::parse(&issued.ca, self.clock.now()).map_err(wrong)?;
        let uri = self.settings.trust_domain.id();
        let asked = Asked {
            spki_der: key.spki_der(),
            uri: uri.as_str(),
            ttl: TRIAL.1,
            root: &roots.signer,
            roots: (&roots.all, "status.ca"),
        };
        answer::judge(&issued.chain, &asked, self.clock.now()).map_err(wrong)?;
        Ok(roots)
    }

    /// Whether it is asked for issuing CAs.
    #[must_use]
    pub fn certifies(&self) -> bool {
        !self.settings.leaves
    }

    /// Has a CA certified that nobody uses, to see whether requests are approved and signed.
    ///
    /// # Errors
    /// [`SignError`], as for an issuing CA.
    pub async fn try_out(&self) -> Result<Tried, SignError> {
        let (roots, from) = match &self.settings.roots {
            RootsFrom::Requests => (self.trial().await?, "status.ca".to_owned()),
            from => (self.read(from).await?, from.to_string()),
        };
        let _one = self.asking.lock().await;
        let (key, name) = (trial::key().await?, trial::trial_name(&self.settings.trust_domain));
        let csr = request::csr_as(&self.settings.trust_domain, ("trial", &name), &key).await?;
        let issued = self.asking().await?.issue(&csr, Asks::Ca, trial::LIFE).await?;
        let (root, all) = (&roots.signer, (roots.all.as_slice(), from.as_str()));
        let asked = Asked { spki_der: key.spki_der(), uri: &name, ttl: trial::LIFE, root, roots: all };
        let judged = answer::judge(&issued.chain, &asked, self.clock.now());
        let certified = judged.map_err(|cause| self.not_used(&cause))?;
        Ok(Tried { certified, key: Arc::new(key), root: roots.signer })
    }

    fn not_used(&self, cause: &str) -> SignError {
        SignError::Unusable(format!("what {} has answered is not used: {cause}", self.settings.issuer))
    }

    fn say(&self, roots: &Roots) {
        let (from, root) = (self.settings.roots.to_string(), &roots.signer);
        tracing::info!(
            from, issuer = %self.settings.issuer, root.id = %root.id, roots = roots.all.len(),
            not_after = rfc3339(root.not_after), "roots of cert-manager's issuer read"
        );
        if self.settings.roots == RootsFrom::Requests {
            tracing::warn!(
                "the root is what answers of cert-manager call their CA: whoever may write the status of CertificateRequests names it"
            );
        }
        if !roots.ended.is_empty() {
            tracing::warn!(from, roots = roots.ended.join("; "), "roots that have ended are left out; remove them");
        }
    }

    async fn certified(&self, root: &Root, key: &dyn SigningKey, ttl: Duration) -> Result<Certified, SignError> {
        // It is honoured by cert-manager.
        some_time(ttl)?;
        let known = self.with_state(|state| state.roots.clone());
        let all = known.map_or_else(|| vec![root.clone()], |known| known.all);
        let left = time_math::until(self.clock.now(), root.not_after);
        let ttl = ttl.min(left);
        if ttl.is_zero() {
            return Err(SignError::Failed(format!("root {} ended at {}", root.id, rfc3339(root.not_after))));
        }
        let csr = request::csr(&self.settings.trust_domain, key).await?;
        let issued = self.asking().await?.issue(&csr, Asks::Ca, ttl).await?;
        let (uri, from) = (self.settings.trust_domain.id(), self.settings.roots.to_string());
        let asked = Asked { spki_der: key.spki_der(), uri: uri.as_str(), ttl, root, roots: (&all, &from) };
        let judged = answer::judge(&issued.chain, &asked, self.clock.now());
        let certified = judged.map_err(|cause| self.not_used(&cause))?;
        // Its clock may be a little ahead, and it never backdates.
        if let Ok(facts) = Facts::read(&certified.certificate) {
            let begins = tokio::time::timeout(answer::AHEAD, self.clock.sleep_until(facts.not_before)).await;
            begins
                .map_err(|_| SignError::Unavailable("the certificate has not begun; is a clock wrong?".to_owned()))?;
        }
        Ok(certified)
    }
}

/// The text of an error alone.
fn plain(error: SignError) -> String {
    match error {
        SignError::Failed(text) | SignError::Unusable(text) | SignError::Unavailable(text) => text,
        other => other.to_string(),
    }
}

#[async_trait]
impl UpstreamAuthority for CertManagerAuthority {
    fn revoked_by(&self) -> RevokedBy {
        RevokedBy::Nobody
    }

    async fn prepare_root(&self, _generation: u64, _now: OffsetDateTime) -> Result<Root, SignError> {
        Err(failed("the roots are those of cert-manager's issuer, which is followed and makes none on demand"))
    }

    /// What the issuer's roots are, never `None`.
    ///
    /// # Errors
    /// [`SignError`] while they are of no use, and for some time after a request has come to nothing.
    async fn offer(&self) -> Result<Option<Offer>, SignError> {
        self.collect().await;
        self.look().await;
        let now = self.clock.now();
        self.with_state(|state| match (&state.wrong, state.pause.now(Instant::now()), &state.roots) {
            (Some(error), ..) => Err(error.clone()),
            (None, Some(error), _) => Err(error),
            (None, None, Some(roots)) => Ok(Some(roots.offer(state.issuing.as_ref(), now))),
            (None, None, None) => Err(SignError::Unavailable("the roots have not been read yet".to_owned())),
        })
    }

    async fn certify(
        &self,
        root: &Root,
        key: &dyn SigningKey,
        ttl: Duration,
        _now: OffsetDateTime,
    ) -> Result<Certified, SignError> {
        let _one = self.asking.lock().await;
        if let Some(error) = self.with_state(|state| state.pause.now(Instant::now())) {
            return Err(error);
        }
        let certified = self.certified(root, key, ttl).await;
        self.with_state(|state| match &certified {
            Ok(_) => state.pause.succeeded(),
            Err(error) => {
                state.pause.failed(Instant::now(), error.clone());
                // Where it tells the root, the issuer may have another one now.
                state.look_at = None;
            }
        });
        certified
    }

    fn signer(self: Arc<Self>, issuing: &IssuingCa) -> Result<Arc<dyn CertificateAuthority>, SignError> {
        Ok(Arc::new(CertManagerLeaves::new(self, issuing)?))
    }

    fn signs_leaves(&self) -> bool {
        self.settings.leaves
    }

    fn has(&self, issuing: &IssuingCa) -> Option<bool> {
        if !self.settings.leaves {
            return Some(false);
        }
        self.with_state(|state| state.issuing.as_ref().map(|known| known.certificate == issuing.certificate))
    }
}

impl fmt::Debug for CertManagerAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertManagerAuthority").field("settings", &self.settings).finish_non_exhaustive()
    }
}
