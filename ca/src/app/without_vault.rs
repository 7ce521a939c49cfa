//! What stands in where this program is built without Vault: the configuration asks for none then.

use std::sync::Arc;
use std::time::Duration;

use signet_core::authority::Root;
use signet_core::clock::SharedClock;
use signet_core::identity::TrustDomain;
use signet_core::seams::certificate_authority::SignError;
use signet_core::seams::upstream_authority::UpstreamAuthority;
use signet_core::source::RevokedBy;
use signet_plugins::authority::{Tried, WithFormer};
use tokio_util::sync::CancellationToken;

use crate::config::Vault;
use crate::notices::Notices;
use crate::rotator::Executor;
use crate::signing_state::StateReader;
use crate::vault_health::{Circuit, VaultHealth, VaultLook};

const WITHOUT: &str = "this program is built without the feature `vault`";

/// There is none.
#[derive(Clone)]
pub(super) struct Opened;

impl Opened {
    pub(super) fn new(_: &Vault, _: &TrustDomain, _: SharedClock) -> Self {
        Self
    }

    pub(super) fn upstream(&self) -> Arc<dyn UpstreamAuthority> {
        Arc::new(Nobody)
    }

    pub(super) fn record_logins(&self, _: Notices) {}

    pub(super) async fn run(self, _: CancellationToken) -> Result<(), std::convert::Infallible> {
        Ok(())
    }

    pub(super) async fn roots(&self) -> Result<Vec<Root>, SignError> {
        Err(SignError::Failed(WITHOUT.to_owned()))
    }

    pub(super) async fn files(&self) -> Vec<String> {
        Vec::new()
    }

    pub(super) async fn probe(&self, _: Duration) -> (Vec<String>, Vec<String>, bool) {
        Default::default()
    }

    pub(super) async fn try_out(&self) -> Result<Tried, String> {
        Err(WITHOUT.to_owned())
    }

    pub(super) fn watched(self, _: Arc<Executor>, _: StateReader, _: Option<Arc<WithFormer>>) -> Arc<Nobody> {
        Arc::new(Nobody)
    }

    pub(super) fn being_left(self) -> Self {
        self
    }

    pub(super) fn named(&self, text: String) -> String {
        text
    }

    pub(super) async fn look(&self) -> VaultLook {
        Nobody.look().await
    }
}

/// Certifies nothing.
pub(super) struct Nobody;

#[async_trait::async_trait]
impl VaultHealth for Nobody {
    async fn look(&self) -> VaultLook {
        let problem = Some(WITHOUT.to_owned());
        VaultLook {
            does: WITHOUT,
            stops: None,
            problem,
            lists: None,
            circuit: Circuit::Closed,
            token_ends: None,
            answered: 0,
            refused: 0,
            failed: 0,
        }
    }
}

#[async_trait::async_trait]
impl UpstreamAuthority for Nobody {
    fn revoked_by(&self) -> RevokedBy {
        RevokedBy::Nobody
    }

    async fn prepare_root(&self, _: u64, _: time::OffsetDateTime) -> Result<Root, SignError> {
        Err(SignError::Failed(WITHOUT.to_owned()))
    }

    async fn offer(&self) -> Result<Option<signet_core::source::Offer>, SignError> {
        Err(SignError::Failed(WITHOUT.to_owned()))
    }

    async fn certify(
        &self,
        _: &Root,
        _: &dyn signet_core::seams::custody::SigningKey,
        _: std::time::Duration,
        _: time::OffsetDateTime,
    ) -> Result<signet_core::seams::upstream_authority::Certified, SignError> {
        Err(SignError::Failed(WITHOUT.to_owned()))
    }
}
