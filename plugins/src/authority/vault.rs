//! A Vault or OpenBao that certifies our issuing CAs, or signs leaves itself. Which issuer and which root that is, is Vault's
//! business; when they are used is the rotator's.

mod answers;
mod calls;
mod circuit;
mod error;
mod issuer;
mod leaf;
mod lists;
mod logins;
mod probe;
mod request;
mod revoke;
mod session;
mod settings;
mod transport;

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rustls_pki_types::CertificateDer;
use signet_core::authority::{IssuingCa, Root};
use signet_core::clock::SharedClock;
use signet_core::profile::backdate;
use signet_core::revocation::RevocationList;
use signet_core::seams::certificate_authority::{CertificateAuthority, SignError};
use signet_core::seams::custody::SigningKey;
use signet_core::seams::upstream_authority::{Certified, UpstreamAuthority};
use signet_core::source::{Offer, RevokedBy};
use signet_core::time_math;
use time::OffsetDateTime;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use vaultrs::api::pki::requests::ReadIssuerCertificateRequest;

use super::certificates::{failed, some_time};
use super::trial::{self, Tried};
use crate::files::Files;
pub use answers::VaultAnswers;
use calls::{Issuer, Signed};
pub use circuit::CircuitState;
pub use error::VaultError;
use issuer::{Asked, READ_ISSUER, SIGN, Source};
use leaf::VaultLeaves;
use lists::{Lists, Reader};
pub use logins::{LoggedIn, LoginTeller, VaultLogin};
pub use probe::Probed;
use session::Session;
pub use settings::{DEFAULT_ISSUER, LeafRoles, Login, VaultSettings};

/// How long the first look may keep whoever asks.
const FIRST: Duration = Duration::from_secs(5);

/// How soon it is looked at again after it could not be used.
const RETRY: Duration = Duration::from_secs(2);

/// The shortest pause before a list that has been read comes into use.
const LEAST_PAUSE: Duration = Duration::from_secs(1);

/// For how long nothing is to be certified after that has failed: at first, and at most.
const HOLD: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(300));

/// The least that an issuing CA must last.
const LEAST: Duration = Duration::from_secs(60);

/// A Vault or OpenBao that certifies issuing CAs whose keys are kept here.
///
/// [`run`](Self::run) follows it: what [`offer`](UpstreamAuthority::offer) says is what was found last, so that nobody waits
/// for a Vault that does not answer.
pub struct VaultAuthority {
    settings: Arc<VaultSettings>,
    session: Session,
    clock: SharedClock,
    state: Mutex<State>,
    /// One looks at a time.
    looking: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    found: Option<Result<Source, VaultError>>,
    /// The revocation lists beside it.
    lists: Lists,
    /// Nothing is to be certified before this, because of that.
    held: Option<(Instant, SignError)>,
    hold: Duration,
    /// Whether this token may sign, as far as Vault has said.
    judged: Option<u64>,
}

/// How a Vault is, for readiness and metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultStatus {
    /// Why what it offers is not used; nothing when it is.
    pub problem: Option<String>,
    /// Why a revocation list of it cannot be used, so that no leaf can be revoked.
    pub lists: Option<String>,
    /// Whether it is asked at all.
    pub circuit: CircuitState,
    /// Until when its token for this CA holds, if that has an end.
    pub token_ends: Option<OffsetDateTime>,
    /// Calls that it has answered.
    pub answered: u64,
    /// Calls that it has refused, or answered uselessly.
    pub refused: u64,
    /// Calls that have failed.
    pub failed: u64,
}

impl VaultAuthority {
    /// The Vault of these settings, whose files are read by `files`. Touches nothing yet.
    #[must_use]
    pub fn new(settings: VaultSettings, files: Files, clock: SharedClock) -> Self {
        let settings = Arc::new(settings);
        let session = Session::new(Arc::clone(&settings), files, Arc::clone(&clock));
        Self { settings, session, clock, state: Mutex::default(), looking: tokio::sync::Mutex::default() }
    }

    /// Has this one told of each login from now on.
    pub fn tell_logins(&self, teller: LoginTeller) {
        self.session.logins.tell(teller);
    }

    /// Follows Vault until `stop`: looks at the issuer again and again, and keeps the token.
    ///
    /// # Errors
    /// None: what is wrong is what [`offer`](UpstreamAuthority::offer) and [`status`](Self::status) say.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) -> Result<(), std::convert::Infallible> {
        loop {
            let Some(found) = stop.run_until_cancelled(self.look()).await else { return Ok(()) };
            // Who is in trouble has its own pauses; who refuses waits for somebody to change something.
            let soon = found.is_err_and(|error| error.is_outage() || matches!(error, VaultError::Paused { .. }));
            let pause = if soon { RETRY.min(self.settings.refresh) } else { self.settings.refresh };
            let settles = self.state().lists.settles_at;
            let pause = settles.map_or(pause, |at| pause.min(time_math::until(self.clock.now(), at).max(LEAST_PAUSE)));
            if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                return Ok(());
            }
        }
    }

    /// Whether the files can be used that connections and logins need; nothing is sent.
    ///
    /// # Errors
    /// [`VaultError::File`].
    pub async fn files(&self) -> Result<(), VaultError> {
        self.session.transport.client().await?;
        self.session.files().await
    }

    /// How it is.
    pub async fn status(&self) -> VaultStatus {
        let calls = &self.session.transport.calls;
        let lists = self.state().lists.problem.clone();
        VaultStatus {
            problem: match self.known() {
                None => Some("it has not answered yet".to_owned()),
                Some(found) => found.err().map(|error| error.to_string()),
            },
            lists,
            circuit: self.session.transport.circuit(),
            token_ends: self.session.token_ends().await,
            answered: calls.answered.load(Ordering::Relaxed),
            refused: calls.refused.load(Ordering::Relaxed),
            failed: calls.failed.load(Ordering::Relaxed),
        }
    }

    /// What was found last, once there was anything.
    fn known(&self) -> Option<Result<Source, SignError>> {
        let state = self.state();
        if let Some((until, error)) = &state.held
            && Instant::now() < *until
        {
            return Some(Err(error.clone()));
        }
        state.found.clone().map(|found| found.map_err(SignError::from))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the issuer, and whether this CA may use it, and notes what was found.
    async fn look(&self) -> Result<Source, VaultError> {
        let _alone = self.looking.lock().await;
        let found = self.find().await;
        let before = self.state().lists.clone();
        let reader = Reader { transport: &self.session.transport, settings: &self.settings, now: self.clock.now() };
        let lists = match &found {
            Ok(source) => reader.read(source, &before).await,
            Err(_) => before,
        };
        let mut state = self.state();
        if state.lists.problem != lists.problem {
            match &lists.problem {
                Some(problem) => tracing::warn!(problem, "a revocation list of Vault's cannot be used"),
                None => tracing::info!("the revocation lists of Vault's can be used"),
            }
        }
        state.lists = lists;
        if let (Some(Ok(before)), Ok(now)) = (&state.found, &found)
            && before != now
        {
            tracing::info!(root.id = %now.root.id, issuer = self.settings.issuer, "the issuer in Vault has changed");
        }
        state.found = Some(found.clone());
        found
    }

    async fn find(&self) -> Result<Source, VaultError> {
        let source = self.source().await?;
        let token = self.session.keep().await?;
        if self.state().judged != Some(token.number) {
            if let Err(error) = probe::may_sign(&self.session, &self.settings, &source.id).await {
                if matches!(error, VaultError::Denied { .. }) {
                    // What a role gives, the next token has.
                    self.session.forget().await;
                }
                return Err(error);
            }
            self.state().judged = Some(token.number);
        }
        Ok(source)
    }

    /// The issuer. Anybody may read it, so no token goes with it.
    async fn source(&self) -> Result<Source, VaultError> {
        let (mount, issuer) = (self.settings.mount.clone(), self.settings.issuer.clone());
        let read = ReadIssuerCertificateRequest { mount, issuer };
        let body = self.session.transport.send(READ_ISSUER, read, None).await.map_err(|error| match error {
            // Vault says no more of a mount that is not there.
            VaultError::Denied { what, said, .. } => {
                let hint =
                    format!("is there a PKI secrets engine at {:?}, and the namespace right?", self.settings.mount);
                VaultError::Denied { what, said, hint }
            }
            error => error,
        })?;
        let issuer: Issuer = calls::data(READ_ISSUER, body.expose())?;
        Source::of(&issuer, self.clock.now())
    }

    /// Has `key` certified under `root`.
    async fn certified(
        &self,
        root: &Root,
        key: &dyn SigningKey,
        ttl: Duration,
        now: OffsetDateTime,
    ) -> Result<Certified, SignError> {
        // Vault takes nothing for as long as there may be.
        some_time(ttl)?;
        // As it is now: it may have changed since it was looked at.
        let source = self.look().await?;
        if source.root.id != root.id {
            return Err(SignError::Unavailable(format!(
                "the issuer {} in Vault is under root {} now, not under {}",
                self.settings.issuer, source.root.id, root.id
            )));
        }
        let left = time_math::until(now, source.until);
        if left < LEAST {
            return Err(SignError::Unusable("the issuer in Vault is about to end; rotate it there".to_owned()));
        }
        let csr = request::csr(&self.settings.trust_domain, key).await?;
        let domain = self.settings.trust_domain.id();
        let asked = Asked { spki_der: key.spki_der(), uri: domain.as_str(), lifetime: ttl.min(left) };
        Ok(self.sign(&source, &csr, &asked).await?)
    }

    /// Has a request signed under the root of this issuer, and judges what comes back.
    async fn sign(&self, source: &Source, csr: &str, asked: &Asked<'_>) -> Result<Certified, VaultError> {
        let (path, since) = (self.settings.sign_path(), backdate(asked.lifetime));
        let body = self.session.call(SIGN, || calls::sign_intermediate(&path, csr, asked.lifetime, since)).await;
        let body = body.map_err(|error| probe::with_line(error, &path))?;
        let signed: Signed = calls::data(SIGN, body.expose())?;
        source.accept(&signed, asked, self.clock.now())
    }

    /// Has a CA certified that nobody uses, to see whether Vault does so.
    ///
    /// # Errors
    /// [`SignError`], as for an issuing CA.
    pub async fn try_out(&self) -> Result<Tried, SignError> {
        let source = self.look().await?;
        let (key, name) = (trial::key().await?, trial::trial_name(&self.settings.trust_domain));
        let csr = request::csr_as(&self.settings.trust_domain, ("trial", &name), &key).await?;
        let asked = Asked { spki_der: key.spki_der(), uri: &name, lifetime: trial::LIFE };
        let certified = self.sign(&source, &csr, &asked).await?;
        Ok(Tried { certified, key: Arc::new(key), root: source.root })
    }
}

#[async_trait]
impl UpstreamAuthority for VaultAuthority {
    fn revoked_by(&self) -> RevokedBy {
        RevokedBy::Upstream
    }

    async fn prepare_root(&self, _generation: u64, _now: OffsetDateTime) -> Result<Root, SignError> {
        Err(failed("the root is Vault's; rotate it there"))
    }

    /// The root of the issuer in Vault, never `None`.
    ///
    /// # Errors
    /// [`SignError`], also when the issuer is there and this CA may not use it: nothing would sign under its root.
    async fn offer(&self) -> Result<Option<Offer>, SignError> {
        let known = match self.known() {
            Some(known) => known,
            // What signs must not wait for a Vault that does not answer.
            None => match tokio::time::timeout(FIRST, self.look()).await {
                Ok(found) => found.map_err(SignError::from),
                Err(_) => {
                    let text = format!("Vault at {} has not answered within {FIRST:?}", self.settings.address);
                    Err(SignError::Unavailable(text))
                }
            },
        };
        let lists = self.state().lists.offered();
        Ok(Some(known?.offer(self.settings.leaves.is_some(), lists)?))
    }

    fn lists(&self) -> Vec<RevocationList> {
        self.state().lists.offered()
    }

    async fn revoke(&self, certificate: &CertificateDer<'static>) -> Result<(), SignError> {
        self.revoked(certificate).await
    }

    async fn certify(
        &self,
        root: &Root,
        key: &dyn SigningKey,
        ttl: Duration,
        now: OffsetDateTime,
    ) -> Result<Certified, SignError> {
        let certified = self.certified(root, key, ttl, now).await;
        let mut state = self.state();
        match &certified {
            Ok(_) => (state.held, state.hold) = (None, Duration::ZERO),
            // The rotator would try again at once, with a new key and a record each time.
            Err(error) => {
                state.hold = if state.hold.is_zero() { HOLD.0 } else { state.hold.saturating_mul(2).min(HOLD.1) };
                state.held = Instant::now().checked_add(state.hold).map(|until| (until, error.clone()));
            }
        }
        certified
    }

    fn signer(self: Arc<Self>, issuing: &IssuingCa) -> Result<Arc<dyn CertificateAuthority>, SignError> {
        Ok(Arc::new(VaultLeaves::new(self, issuing)?))
    }

    fn signs_leaves(&self) -> bool {
        self.settings.leaves.is_some()
    }

    fn has(&self, issuing: &IssuingCa) -> Option<bool> {
        if self.settings.leaves.is_none() {
            return Some(false);
        }
        let state = self.state();
        match &state.found {
            Some(Ok(source)) if source.is(issuing) => Some(true),
            _ => state.lists.has(&issuing.certificate),
        }
    }
}

impl fmt::Debug for VaultAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VaultAuthority").field("settings", &self.settings).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod fault_tests;
#[cfg(test)]
mod leaf_suite_tests;
#[cfg(test)]
mod probe_tests;
#[cfg(test)]
mod suite_tests;
#[cfg(test)]
mod test_server;
#[cfg(test)]
mod tests;
