//! What stands in where this program is built without what asks API servers: the configuration asks for no cert-manager then.

use std::sync::Arc;
use std::time::Duration;

use signet_core::authority::Root;
use signet_core::identity::TrustDomain;
use signet_core::seams::certificate_authority::SignError;
use signet_core::seams::custody::SigningKey;
use signet_core::seams::upstream_authority::{Certified, UpstreamAuthority};
use signet_core::source::{Offer, RevokedBy};
use signet_plugins::authority::Tried;
use time::OffsetDateTime;

use crate::config::CertManager;
use crate::health::{CaFiles, FileProblems};
use crate::rotator::Executor;

/// There is none.
#[derive(Clone)]
pub(super) struct Opened;

impl Opened {
    pub(super) fn new(_: &CertManager, _: &TrustDomain) -> Self {
        Self
    }

    pub(super) fn upstream(&self) -> Arc<dyn UpstreamAuthority> {
        Arc::new(Nobody)
    }

    pub(super) async fn roots(&self) -> Result<Vec<Root>, SignError> {
        Err(without())
    }

    pub(super) async fn files(&self) -> Vec<String> {
        Vec::new()
    }

    pub(super) async fn probe(&self) -> (Vec<String>, Vec<String>, bool) {
        Default::default()
    }

    pub(super) async fn try_out(&self) -> Result<Tried, String> {
        Err(without().to_string())
    }

    pub(super) fn watched(self, _: Arc<Executor>) -> Arc<Nobody> {
        Arc::new(Nobody)
    }

    pub(super) fn being_left(self) -> Self {
        self
    }

    pub(super) fn named(&self, text: String) -> String {
        text
    }

    pub(super) fn problem(&self) -> Option<String> {
        Some(without().to_string())
    }

    pub(super) async fn keep_looking(&self) {
        std::future::pending().await
    }
}

fn without() -> SignError {
    SignError::Failed("this program is built without the feature `kubernetes`".to_owned())
}

/// Certifies nothing.
pub(super) struct Nobody;

#[async_trait::async_trait]
impl CaFiles for Nobody {
    async fn problems(&self) -> FileProblems {
        FileProblems { ca: Some(without().to_string()), lists: None }
    }
}

#[async_trait::async_trait]
impl UpstreamAuthority for Nobody {
    fn revoked_by(&self) -> RevokedBy {
        RevokedBy::Nobody
    }

    async fn prepare_root(&self, _: u64, _: OffsetDateTime) -> Result<Root, SignError> {
        Err(without())
    }

    async fn offer(&self) -> Result<Option<Offer>, SignError> {
        Err(without())
    }

    async fn certify(
        &self,
        _: &Root,
        _: &dyn SigningKey,
        _: Duration,
        _: OffsetDateTime,
    ) -> Result<Certified, SignError> {
        Err(without())
    }
}
