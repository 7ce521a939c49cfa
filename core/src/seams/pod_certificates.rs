//! The requests by which kubelets ask for the certificates of their pods: claims on them, so that of all replicas one signs,
//! once, and who answers them.

use std::time::Duration;

use async_trait::async_trait;
use time::OffsetDateTime;

use super::authenticator::AuthenticationError;
use super::store::StoreError;
use crate::caller::Caller;
use crate::csr::{CertificateRequest, CsrError};
use crate::record_before_release::ClaimName;

/// What became of an attempt to claim a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// The claimant has it until then, and nobody has signed it.
    Claimed,
    /// Another one has it until this time.
    HeldByAnother(OffsetDateTime),
    /// It is signed and on record: this chain, as PEM, is its answer, whoever gives it.
    Signed(String),
    /// It was answered.
    Done,
}

/// Who works on which request.
///
/// A claim saves work; what is signed once is decided by [`AuditStore::append_keeping`], which keeps a certificate only for
/// whoever has the claim at that moment, and only when there is none: a process that was asleep comes too late.
///
/// [`AuditStore::append_keeping`]: super::store::AuditStore::append_keeping
#[async_trait]
pub trait PodCertificateStore: Send + Sync {
    /// Claims the request for the claimant until `until`, unless somebody else has it at `now`, or it is signed or answered.
    /// Who has it may claim it anew.
    ///
    /// # Errors
    /// [`StoreError`] when nothing was kept.
    async fn claim(
        &self,
        name: &ClaimName,
        cluster: &str,
        now: OffsetDateTime,
        until: OffsetDateTime,
    ) -> Result<Claim, StoreError>;

    /// Notes that the request was answered.
    ///
    /// # Errors
    /// [`StoreError`] when nothing was kept.
    async fn finish(&self, uid: &str, at: OffsetDateTime) -> Result<(), StoreError>;

    /// Forgets at most `limit` requests that were claimed last before `before`; returns how many.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn forget_claims(&self, before: OffsetDateTime, limit: u32) -> Result<u64, StoreError>;
}

/// What a kubelet asks for, held against the objects of its cluster.
#[derive(Debug, Clone)]
pub struct PodRequest {
    /// The UID of the request.
    pub uid: String,
    /// The signer that it names.
    pub signer: String,
    /// Who gets the certificate, if the objects are as the request says.
    pub caller: Result<Caller, AuthenticationError>,
    /// The key, if it is proved and of a good kind.
    pub csr: Result<CertificateRequest, CsrError>,
    /// What is asked for beside it that nobody here knows.
    pub problem: Option<String>,
    /// The longest lifetime that is of use.
    pub longest: Duration,
}

/// Why there is no certificate for a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unissued {
    /// There never will be for this request.
    Denied {
        /// Why, in one word of capitals and small letters, as conditions of Kubernetes say it.
        reason: String,
        /// Why, and what to change.
        message: String,
    },
    /// There may be one later.
    Later(String),
}

/// Answers the requests of one cluster's kubelets.
#[async_trait]
pub trait PodCertificateIssuer: Send + Sync {
    /// Claims a request for this process.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn claim(&self, uid: &str) -> Result<Claim, StoreError>;

    /// Issues the certificate of a request that this process has claimed. Gives its chain as PEM once its record is durable.
    ///
    /// # Errors
    /// [`Unissued`]; it is on the way to the record.
    async fn issue(&self, request: PodRequest) -> Result<String, Unissued>;

    /// Notes that a request is over: with the chain, when its kubelet can read that.
    async fn answered(&self, uid: &str, chain: Option<&str>);
}
