//! Answers the requests of kubelets: a claim in storage comes before the signature, and what is signed is what was recorded.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ring::rand::{SecureRandom, SystemRandom};
use signet_core::audit::{AuditQuery, Outcome};
use signet_core::certificate::{Facts, Serial};
use signet_core::clock::SharedClock;
use signet_core::csr::CsrError;
use signet_core::digest::hex;
use signet_core::pem::read_certificates;
use signet_core::policy::Refusal;
use signet_core::record_before_release::ClaimName;
use signet_core::seams::pod_certificates::{Claim, PodCertificateIssuer, PodCertificateStore, PodRequest, Unissued};
use signet_core::seams::store::{AuditStore, StoreError};
use signet_core::time_math;
use tokio_util::sync::CancellationToken;

use crate::issuance::Issuance;
use crate::issue_error::IssueError;

/// For how long a request is a process's own: longer than all that it does with it.
const CLAIM: Duration = Duration::from_secs(30);

/// The word of Kubernetes for keys that a signer does not sign.
const UNSUPPORTED_KEY_TYPE: &str = "UnsupportedKeyType";

/// Answers the requests of one cluster's kubelets.
pub struct PodCertificateAnswers {
    /// The configured id of the cluster.
    pub cluster: String,
    /// The name of this process among those that claim.
    pub claimant: String,
    /// Signs and records.
    pub issuance: Arc<Issuance>,
    /// Claims.
    pub claims: Arc<dyn PodCertificateStore>,
    /// The record.
    pub record: Arc<dyn AuditStore>,
}

impl PodCertificateAnswers {
    fn name(&self, uid: &str) -> ClaimName {
        ClaimName { uid: uid.to_owned(), claimant: self.claimant.clone() }
    }

    /// Notes that the holder of this chain has it: nobody says so over a connection.
    async fn hand_over(&self, chain: &str) -> Option<()> {
        let certificates = read_certificates(chain.as_bytes()).ok()?;
        let (_line, leaf) = certificates.first()?;
        let serial = Serial::parse(&hex(&Facts::read(leaf).ok()?.serial))?;
        let query = AuditQuery { serial: Some(serial), ..AuditQuery::newest(1).ok()? };
        let event = self.record.query(&query).await.ok()?.items.pop()?.event;
        self.issuance.handovers.without_bundle(&event);
        // Where its cluster's bundle is published already, it is counted with that.
        self.issuance.wake_up.notify_one();
        Some(())
    }
}

#[async_trait]
impl PodCertificateIssuer for PodCertificateAnswers {
    async fn claim(&self, uid: &str) -> Result<Claim, StoreError> {
        let now = self.issuance.clock.now();
        self.claims.claim(&self.name(uid), &self.cluster, now, time_math::after(now, CLAIM)).await
    }

    async fn issue(&self, request: PodRequest) -> Result<String, Unissued> {
        let claim = self.name(&request.uid);
        let issued = self.issuance.issue_for_pod(request, claim).await;
        issued.map(|chain| chain.pem()).map_err(|error| unissued(&error))
    }

    async fn answered(&self, uid: &str, chain: Option<&str>) {
        if let Some(chain) = chain
            && self.hand_over(chain).await.is_none()
        {
            tracing::debug!(uid, "the record of a pod's certificate cannot be read; it counts as not handed over");
        }
        if let Err(error) = self.claims.finish(uid, self.issuance.clock.now()).await {
            // Whoever finds it sees that it is answered.
            tracing::debug!(uid, %error, "it could not be noted that a request for a pod's certificate was answered");
        }
    }
}

/// What a kubelet is told. It never asks again after a refusal, and neither after a failure, until its pod is replaced: so what
/// may be otherwise later is no answer.
fn unissued(error: &IssueError) -> Unissued {
    let is_final = error.outcome() == Outcome::Refused && !matches!(error, IssueError::OverLimit(_));
    if !is_final {
        return Unissued::Later(error.to_string());
    }
    let (reason, advice) = match error {
        IssueError::Csr(CsrError::WeakKey(_) | CsrError::UnsupportedSignature(_)) => (
            UNSUPPORTED_KEY_TYPE.to_owned(),
            "; set keyType of the podCertificate source to ECDSAP256 or ECDSAP384, or to RSA3072 or RSA4096",
        ),
        IssueError::Csr(_) => (words(error.label()), "; this is the kubelet's doing: replace the pod"),
        IssueError::Refused(Refusal::NamesNotAllowed { .. }) => (words(error.label()), ""),
        IssueError::Authentication(_) => (words(error.label()), "; replace the pod, so that its kubelet asks anew"),
        _ => (words(error.label()), ""),
    };
    Unissued::Denied { reason, message: format!("{error}{advice}") }
}

/// A label as conditions write it: `pod_gone` is `PodGone`.
fn words(label: &str) -> String {
    let capital = |word: &str| {
        let mut letters = word.chars();
        letters.next().map(|first| first.to_ascii_uppercase().to_string() + letters.as_str()).unwrap_or_default()
    };
    label.split('_').map(capital).collect()
}

/// A name for this process among those that claim.
///
/// # Errors
/// [`StoreError::Unavailable`] when the system has no randomness.
pub fn claimant() -> Result<String, StoreError> {
    let mut bytes = [0; 16];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| StoreError::Unavailable("the system gives no random numbers".to_owned()))?;
    Ok(hex(&bytes))
}

/// Forgets requests once a day has passed: by then the API server has removed them.
///
/// # Errors
/// None: what cannot be forgotten now is later.
pub async fn forget_answered(
    claims: Arc<dyn PodCertificateStore>,
    clock: SharedClock,
    stop: CancellationToken,
) -> Result<(), std::convert::Infallible> {
    const KEPT: Duration = Duration::from_secs(86_400);
    const EVERY: Duration = Duration::from_secs(600);
    const BATCH: u32 = 1000;
    while stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_some() {
        let before = time_math::before(clock.now(), KEPT);
        while claims.forget_claims(before, BATCH).await.is_ok_and(|forgotten| forgotten >= u64::from(BATCH)) {}
    }
    Ok(())
}

#[cfg(test)]
#[path = "pod_certificates_tests.rs"]
pub(crate) mod tests;
