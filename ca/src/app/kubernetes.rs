//! What asks the API servers of clusters, put together: credentials that are read again, keys, reviews of tokens.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus::{Histogram, IntCounterVec};
use signet_core::seams::authenticator::{AuthenticationError, Outage, TokenAuthenticator};
use signet_plugins::authenticator::{
    ApiServerKeys, IssuerKeys, OnReview, PublishedKeys, ReviewLimits, TokenReviewAuthenticator, TokenRules,
};
use signet_plugins::kubernetes::{ApiServer, ApiServerError, Credentials};
use signet_runtime::metrics::{MetricError, Metrics};
use signet_runtime::readiness::Condition;
use tokio_util::sync::CancellationToken;

use crate::config::{self, ApiAccess, Cluster, KeySource, Tokens};

/// How often the files of credentials are looked at. Tokens in files are read again by the client itself.
const LOOK_AT_CREDENTIALS: Duration = Duration::from_secs(10);

/// The cluster's API server, when it has one that is asked.
pub(super) async fn open(cluster: &Cluster) -> Result<Option<Arc<ApiServer>>, ApiServerError> {
    let credentials = match &cluster.api_server {
        None => return Ok(None),
        Some(ApiAccess::InCluster) => Credentials::InCluster,
        Some(ApiAccess::Kubeconfig(file)) => Credentials::Kubeconfig(file.clone()),
    };
    ApiServer::open(credentials).await.map(|server| Some(Arc::new(server)))
}

/// The keys that verify a cluster's tokens, to be asked for.
pub(super) fn keys(tokens: &Tokens, server: Option<&Arc<ApiServer>>) -> PublishedKeys {
    match (tokens, server) {
        (Tokens::Jwks { issuers, keys: KeySource::Issuer { ca_file }, .. }, _) => {
            let issuer = issuers.first().cloned().unwrap_or_default();
            PublishedKeys::looked_up(Arc::new(IssuerKeys { issuer, ca_file: ca_file.clone() }))
        }
        (_, Some(server)) => PublishedKeys::looked_up(Arc::new(ApiServerKeys(Arc::clone(server)))),
        (_, None) => PublishedKeys::none(),
    }
}

/// Reads the credentials for an API server again when their files change; those in use stay while the new ones are no good.
pub(super) async fn renew(
    server: Arc<ApiServer>,
    condition: Condition,
    stop: CancellationToken,
) -> Result<(), Infallible> {
    let in_order = format!("asked with {}", server.credentials());
    condition.ready(in_order.as_str());
    let looking = async {
        let mut complained = None;
        loop {
            tokio::time::sleep(LOOK_AT_CREDENTIALS).await;
            match server.renew().await {
                Ok(changed) => {
                    if changed || complained.is_some() {
                        tracing::info!(credentials = %server.credentials(), "the credentials for an API server were read again");
                    }
                    complained = None;
                    condition.ready(in_order.as_str());
                }
                Err(error) => {
                    let text = error.to_string();
                    condition.degraded(format!("the credentials before stay in use: {text}"));
                    if complained.as_ref() != Some(&text) {
                        tracing::warn!(error = text, "credentials for an API server cannot be used; those before stay");
                    }
                    complained = Some(text);
                }
            }
        }
    };
    let _stopped = stop.run_until_cancelled(looking).await;
    Ok(())
}

/// Counts reviews of tokens, of all clusters: labels never hold a name from outside.
pub(super) struct Reviews {
    results: IntCounterVec,
    seconds: Histogram,
}

impl Reviews {
    /// Registers the metrics.
    pub(super) fn new(metrics: &Metrics) -> Result<Self, MetricError> {
        let results = metrics.counters(
            "signet_ca_token_reviews_total",
            "TokenReviews by what came of them, of all clusters.",
            &["result"],
        )?;
        for result in ["authenticated", "refused"].into_iter().chain(Outage::ALL.map(Outage::label)) {
            results.with_label_values(&[result]).reset();
        }
        let seconds =
            metrics.seconds("signet_ca_token_review_duration_seconds", "TokenReviews, until their answer.")?;
        Ok(Self { results, seconds })
    }

    /// What verifies tokens by reviews, and tells `condition` how these fare.
    pub(super) fn authenticator(
        &self,
        rules: TokenRules,
        limits: config::ReviewLimits,
        server: Arc<ApiServer>,
        keys: Arc<PublishedKeys>,
        condition: Condition,
    ) -> Arc<dyn TokenAuthenticator> {
        let config::ReviewLimits { remember, deadline, at_once } = limits;
        let limits = ReviewLimits { remember, deadline, at_once };
        let on_review = self.listener(rules.cluster.clone(), condition);
        Arc::new(TokenReviewAuthenticator::new(rules, limits, server, keys, on_review))
    }

    fn listener(&self, cluster: String, condition: Condition) -> Arc<OnReview> {
        let (results, seconds) = (self.results.clone(), self.seconds.clone());
        condition.ready("the API server is asked about each token");
        // What keeps us from asking, so that it is told once.
        let trouble: Mutex<Option<Outage>> = Mutex::default();
        Arc::new(move |outcome, took| {
            let (label, outage) = match outcome {
                Ok(_) => ("authenticated", None),
                Err(AuthenticationError::Unavailable { reason, detail }) => (reason.label(), Some((*reason, detail))),
                Err(_) => ("refused", None),
            };
            results.with_label_values(&[label]).inc();
            let mut trouble = trouble.lock().unwrap_or_else(PoisonError::into_inner);
            match outage {
                // It was not asked: that says nothing about it.
                Some((Outage::Busy, _)) => return,
                Some((reason, detail)) => {
                    condition.degraded(format!("tokens cannot be verified: {}: {detail}", reason.label()));
                    if trouble.replace(reason) != Some(reason) {
                        tracing::warn!(
                            cluster,
                            reason = reason.label(),
                            detail,
                            "the API server does not judge tokens"
                        );
                    }
                }
                None => {
                    condition.ready("the API server is asked about each token");
                    if trouble.take().is_some() {
                        tracing::info!(cluster, "the API server judges tokens again");
                    }
                }
            }
            seconds.observe(took.as_secs_f64());
        })
    }
}
