//! How a request in an API server becomes a certificate: what says who asks is another than a token, all the rest is the same.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use signet_core::audit::Attributed;
use signet_core::caller::Peer;
use signet_core::certificate::CertificateChain;
use signet_core::policy::AskedLife;
use signet_core::record_before_release::ClaimName;
use signet_core::seams::pod_certificates::PodRequest;

use super::{Asked, Issuance, Way};
use crate::issue_error::IssueError;

/// The shortest lifetime that an API server takes.
const SHORTEST: Duration = Duration::from_secs(3600);

impl Issuance {
    /// Turns a request of a kubelet, which was claimed as `claim`, into a released certificate, or notes why not.
    ///
    /// # Errors
    /// [`IssueError`]; it has been counted, and its record is on the way.
    pub async fn issue_for_pod(&self, request: PodRequest, claim: ClaimName) -> Result<CertificateChain, IssueError> {
        let (mut who, handed, uid) = (Attributed::default(), AtomicBool::new(false), request.uid.clone());
        let work = self.decide_and_sign_for_pod(request, claim, &mut who, &handed);
        let work = tokio::time::timeout(self.timeout, work).await;
        let result = work.unwrap_or(Err(IssueError::TimedOut));
        match &result {
            Ok(_) => self.metrics.issued(),
            Err(error) => {
                self.refuse(("PodCertificateRequest", &uid, Peer(None)), who, error, handed.into_inner());
            }
        }
        result
    }

    async fn decide_and_sign_for_pod(
        &self,
        request: PodRequest,
        claim: ClaimName,
        who: &mut Attributed,
        handed: &AtomicBool,
    ) -> Result<CertificateChain, IssueError> {
        let now = self.clock.now();
        // 2. Who is asking? The objects of the cluster say, which the request was held against.
        let caller = request.caller?;
        // Whose roots its pod has is known by the signer.
        let instance = Some(request.signer);
        *who = Attributed { peer: None, instance, ..Attributed::to_caller(&caller, String::new()) };
        let identity = who.spiffe_id.get_or_insert_with(|| caller.identity.to_string());
        self.rates.count_identity(identity).map_err(IssueError::OverLimit)?;
        if let Some(problem) = request.problem {
            return Err(IssueError::Malformed(problem));
        }

        // 3 to 7. Its key, and nothing else; for the pod itself; decided, signed and recorded as everything is.
        let asked = Asked {
            subject: caller.identity,
            csr: request.csr?,
            life: AskedLife::Whole { least: SHORTEST, most: request.longest },
            request_id: &request.uid,
            who,
            handover: Way::Status(claim),
            handed,
        };
        Ok(self.certify(&asked, now).await?.chain)
    }
}
