//! Has certificates revoked by whoever has certified them: what the journal asks for is asked for again and again, by every
//! replica whose backend can, until it is done. It may be asked for twice, and crash in between: that changes nothing there.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use signet_core::authority::IssuingCa;
use signet_core::certificate::Serial;
use signet_core::revocation::RevokedElsewhere;
use signet_core::rotation::Step;
use signet_core::seams::certificate_authority::SignError;
use signet_core::seams::signed_leaves::SignedLeafStore;
use tokio_util::sync::CancellationToken;

use super::{Executor, Order, StepError};
use crate::signing_state::{StateReader, current};

/// How long after a failure it is tried again: at first, and at most.
const PAUSE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));

/// How often it is noted that something is done while others change the journal.
const RACES: usize = 5;

/// Asks for what the journal wants revoked.
pub struct Elsewhere {
    /// Changes the journal.
    pub executor: Arc<Executor>,
    /// The journal as it was published last.
    pub state: StateReader,
    /// The leaves that a backend has signed.
    pub leaves: Arc<dyn SignedLeafStore>,
}

impl Elsewhere {
    /// Works until `stop`.
    ///
    /// # Errors
    /// None: what cannot be done is told, and tried again.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), std::convert::Infallible> {
        let mut pause = PAUSE.0;
        loop {
            let wanted = self.wanted();
            if stop.run_until_cancelled(self.ask(&wanted)).await.is_none() {
                return Ok(());
            }
            let is_left = self.executor.not_revoked().is_some();
            let waited = async {
                tokio::select! {
                    () = self.changed(&wanted) => PAUSE.0,
                    () = tokio::time::sleep(pause), if is_left => pause.saturating_mul(2).min(PAUSE.1),
                }
            };
            match stop.run_until_cancelled(waited).await {
                None => return Ok(()),
                Some(next) => pause = next,
            }
        }
    }

    fn wanted(&self) -> Vec<RevokedElsewhere> {
        let state = current(&self.state);
        state.map(|state| state.authorities.revocations.awaited().cloned().collect()).unwrap_or_default()
    }

    /// Waits until something else is wanted.
    async fn changed(&mut self, wanted: &[RevokedElsewhere]) {
        while self.wanted() == wanted {
            if self.state.changed().await.is_err() {
                // Nobody publishes any more: the process ends.
                return std::future::pending().await;
            }
        }
    }

    /// Asks for each of them once, CAs first, until whoever is asked is away: what is left is asked for the next time.
    pub(crate) async fn ask(&self, wanted: &[RevokedElsewhere]) {
        let (leaves, cas): (Vec<_>, Vec<_>) = wanted.iter().partition(|one| one.leaf);
        let mut trouble = None;
        for one in cas.into_iter().chain(leaves) {
            if let Err(error) = self.revoke(one).await {
                tracing::warn!(serial = one.serial, issuer = %one.issuer, %error, "a certificate could not be revoked by whoever has certified it; it is tried again");
                trouble.get_or_insert(error.to_string());
                if matches!(error, StepError::Sign(SignError::Unavailable(_)) | StepError::Store(_)) {
                    break;
                }
            }
        }
        *self.executor.not_revoked.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    async fn revoke(&self, one: &RevokedElsewhere) -> Result<(), StepError> {
        let kept = match &one.certificate {
            None if one.leaf => self.leaf(one).await?,
            certificate => certificate.clone(),
        };
        // One that a newer program has noted in another way is left to it.
        let Some(certificate) = kept else { return Ok(()) };
        let upstream = &self.executor.provisioner.upstream;
        match self.signer_of(one) {
            Some(issuing) => upstream.revoke_leaf(&certificate, &issuing).await?,
            None => upstream.revoke(&certificate).await?,
        }
        let step = Step::NoteRevoked { serial: one.serial.clone(), issuer: one.issuer.clone() };
        for _ in 0..RACES {
            let observation = self.executor.observe().await?;
            let mut awaited = observation.authorities.revocations.awaited();
            if !awaited.any(|left| left.serial == one.serial && left.issuer == one.issuer) {
                return Ok(());
            }
            if self.executor.take(&observation, &step, Order::default()).await?.is_some() {
                return Ok(());
            }
        }
        Err(StepError::Endless)
    }
}

impl Elsewhere {
    /// The issuing CA that has signed it, when it is a leaf.
    fn signer_of(&self, one: &RevokedElsewhere) -> Option<IssuingCa> {
        let state = current(&self.state).filter(|_| one.leaf)?;
        let mut all = state.authorities.roots.iter().flat_map(|root| &root.issuing);
        all.find(|issuing| issuing.id == one.issuer).map(|issuing| issuing.ca.clone())
    }

    async fn leaf(&self, one: &RevokedElsewhere) -> Result<Option<CertificateDer<'static>>, StepError> {
        let kept = match Serial::parse(&one.serial) {
            Some(serial) => self.leaves.signed_leaf(serial).await?,
            None => None,
        };
        let gone = || SignError::Unusable(format!("the certificate of leaf {} is not kept any more", one.serial));
        Ok(Some(kept.ok_or_else(gone)?))
    }
}

impl Executor {
    /// Why what is to be revoked elsewhere was not when this replica last asked for it.
    #[must_use]
    pub fn not_revoked(&self) -> Option<String> {
        self.not_revoked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
