//! What stands in where this program is built without what asks API servers: no cluster has a signer then.

use std::sync::Arc;
use std::time::Duration;

use signet_core::clock::SharedClock;
use signet_core::seams::store::StoreError;
use signet_plugins::store::Store;
use signet_runtime::metrics::{MetricError, Metrics};
use tokio::sync::watch;

use super::cluster_set::{Running, Surroundings};
use super::kubernetes::Server;
use crate::config::Cluster;
use crate::issuance::Issuance;

/// Nobody answers.
#[derive(Clone)]
pub(super) struct Answering;

impl Answering {
    pub(super) fn new(_: &Arc<Issuance>, _: &Arc<dyn Store>) -> Result<Self, StoreError> {
        Ok(Self)
    }
}

/// There are none.
pub(super) struct Signers;

impl Signers {
    pub(super) fn new(_: &Metrics, _: SharedClock, _: watch::Receiver<Option<Answering>>) -> Result<Self, MetricError> {
        Ok(Self)
    }
}

/// There is none.
pub(super) enum Signer {}

/// As its counterpart.
pub(super) struct SignerHealth {
    pub(super) version: Option<String>,
    pub(super) open: usize,
    pub(super) issued: u64,
    pub(super) denied: u64,
    pub(super) heard_ago: Option<Duration>,
    pub(super) problem: Option<String>,
}

impl Signer {
    pub(super) fn start(
        _: &Cluster,
        _: Option<&Arc<Server>>,
        _: Option<&Arc<Running>>,
        _: &Surroundings,
    ) -> Option<Arc<Self>> {
        None
    }

    pub(super) fn name(&self) -> &str {
        match *self {}
    }

    pub(super) fn health(&self) -> SignerHealth {
        match *self {}
    }
}
