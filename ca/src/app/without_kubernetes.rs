//! What stands in where this program is built without what asks API servers: the configuration asks for nothing of it then.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use signet_core::seams::authenticator::{LiveWorkloads, TokenAuthenticator};
use signet_core::seams::impersonation::{ImpersonationAuthorizer, PodsUnknown};
use signet_core::seams::live_pods::LivePods;
use signet_core::seams::publisher::Found;
use signet_plugins::authenticator::{PublishedKeys, TokenRules};
use signet_runtime::metrics::{MetricError, Metrics};
use tokio::time::Instant;

use super::cluster_set::Surroundings;
use super::passing::Tasks;
use super::tokens::TokensError;
use crate::config::{Cluster, ReviewLimits, Tokens};

/// There is none.
pub(super) enum Server {}

impl Server {
    pub(super) async fn open(_: &Cluster) -> Result<Option<Arc<Self>>, TokensError> {
        Ok(None)
    }

    pub(super) fn start(&self, _: &str, _: &Surroundings) {
        match *self {}
    }

    pub(super) fn shown(&self) -> String {
        match *self {}
    }

    pub(super) async fn get(&self, _: &str, _: usize) -> Result<Vec<u8>, String> {
        match *self {}
    }

    pub(super) fn problem(&self) -> Option<String> {
        match *self {}
    }
}

pub(super) fn keys(_: &Tokens, _: Option<&Arc<Server>>) -> Result<PublishedKeys, TokensError> {
    Err(TokensError::WithoutKubernetes)
}

/// As its counterpart.
pub(super) struct Probed {
    pub(super) problems: Vec<String>,
    pub(super) unseen: Vec<String>,
}

pub(super) async fn probe(_: &Cluster, server: &Server) -> Result<Probed, String> {
    match *server {}
}

/// There is none.
pub(super) enum Publishing {}

impl Publishing {
    pub(super) fn of(_: &Cluster, _: Option<&Arc<Self>>) -> Option<Arc<Self>> {
        None
    }

    pub(super) fn found(&self) -> Vec<Option<Found>> {
        match *self {}
    }

    pub(super) fn start(&self, _: &str, _: &Server, _: &Surroundings) {
        match *self {}
    }
}

/// Nobody is called.
pub(super) struct Calls;

impl Calls {
    pub(super) fn new(_: &Metrics) -> Result<Self, MetricError> {
        Ok(Self)
    }
}

/// There are none.
pub(super) enum Pods {}

/// As its counterpart.
pub(super) struct PodsHealth {
    pub(super) pods: usize,
    pub(super) nodes: usize,
    pub(super) accounts: usize,
    pub(super) heard_ago: Option<Duration>,
    pub(super) unknown: Option<PodsUnknown>,
    pub(super) problem: Option<String>,
}

impl Pods {
    pub(super) fn of(_: &Cluster, _: Option<&Arc<Self>>) -> Option<Arc<Self>> {
        None
    }

    pub(super) fn start(&self, _: &str, _: &Server, _: &Surroundings) {
        match *self {}
    }

    pub(super) fn health(&self) -> PodsHealth {
        match *self {}
    }
}

pub(super) fn authorizer(_: &Cluster, _: Option<&Arc<Pods>>) -> Option<Arc<dyn ImpersonationAuthorizer>> {
    None
}

pub(super) fn live_pods(pods: &Arc<Pods>) -> Arc<dyn LivePods> {
    match **pods {}
}

pub(super) fn live_workloads(_: &Cluster, _: Option<&Arc<Pods>>) -> Option<Arc<dyn LiveWorkloads>> {
    None
}

pub(super) fn live(
    _: &Tokens,
    inner: Arc<dyn TokenAuthenticator>,
    _: Option<&Arc<Pods>>,
) -> Arc<dyn TokenAuthenticator> {
    inner
}

/// As its counterpart.
#[derive(Debug, Clone, Default)]
pub(super) struct LastReview {
    pub(super) at: Option<Instant>,
    pub(super) result: Option<&'static str>,
    pub(super) problem: Option<String>,
}

/// Nobody is asked.
pub(super) struct Reviews;

impl Reviews {
    pub(super) fn new(_: &Metrics) -> Result<Self, MetricError> {
        Ok(Self)
    }

    pub(super) fn authenticator(
        &self,
        _: TokenRules,
        _: ReviewLimits,
        (server, _): (&Server, Arc<PublishedKeys>),
        _: Arc<Mutex<LastReview>>,
        _: (&Tasks, &Surroundings),
    ) -> Arc<dyn TokenAuthenticator> {
        match *server {}
    }
}

/// None are needed.
pub(super) enum Rights {}

impl Rights {
    pub(super) fn watch(_: &Cluster, _: Option<&Arc<Server>>, _: &Surroundings) -> Option<Self> {
        None
    }
}
