//! What asks the API servers of clusters, put together: credentials that are read again, keys, reviews of tokens.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus::{Histogram, IntCounterVec};
use signet_core::seams::authenticator::{AuthenticationError, LiveWorkloads, Outage, TokenAuthenticator};
use signet_core::seams::impersonation::{ImpersonationAuthorizer, PodsUnknown};
use signet_plugins::authenticator::{
    ApiServerKeys, IssuerKeys, LiveObjects, OnReview, PublishedKeys, ReviewLimits, TokenReviewAuthenticator, TokenRules,
};
use signet_plugins::kubernetes::{ApiServer, ApiServerError, Credentials, Followed, NodeAuthorizer, PodIndex};
use signet_runtime::metrics::{MetricError, Metrics};
use signet_runtime::readiness::{Condition, Readiness};
use signet_runtime::supervisor::{Importance, Supervisor};
use tokio_util::sync::CancellationToken;

use crate::config::{self, ApiAccess, Cluster, KeySource, Tokens};

/// How often the files of credentials are looked at. Tokens in files are read again by the client itself.
const LOOK_AT_CREDENTIALS: Duration = Duration::from_secs(10);

/// How often it is looked at how well pods are known when nothing happens.
const TELL: Duration = Duration::from_secs(1);

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

/// The pods of clusters by which something is decided.
#[derive(Default)]
pub(super) struct Pods(Mutex<Vec<Arc<PodIndex>>>);

impl Pods {
    /// The pods of a cluster, with a task that follows them, when anything is decided by them.
    pub(super) fn of(
        &self,
        cluster: &Cluster,
        server: Arc<ApiServer>,
        readiness: &Readiness,
        supervisor: &Supervisor,
    ) -> Option<Arc<PodIndex>> {
        let followed =
            Followed { nodes: !cluster.trusted_node_accounts.is_empty(), accounts: cluster.needs_live_objects() };
        if followed == Followed::default() {
            return None;
        }
        let index = PodIndex::new(followed);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&index));
        let name = format!("pods of {}", cluster.id);
        let (followed, condition) = (Arc::clone(&index), readiness.condition(name.as_str()));
        supervisor.spawn(&name, Importance::Critical, |stop| async move {
            let telling = tell(&followed, &condition);
            let _stopped = stop.run_until_cancelled(async { tokio::join!(followed.follow(&server), telling) }).await;
            Ok::<_, Infallible>(())
        });
        Some(index)
    }

    /// Registers how many pods are known, and of how many clusters they are not known at the moment.
    pub(super) fn measure(&self, metrics: &Metrics) -> Result<(), MetricError> {
        let all = Arc::new(self.0.lock().unwrap_or_else(PoisonError::into_inner).clone());
        let counted = Arc::clone(&all);
        let pods = move || counted.iter().map(|index| index.health().pods).sum::<usize>() as f64;
        metrics.gauge_fn("signet_ca_pods", "Pods known of the clusters whose pods are followed.", pods)?;
        let unknown = move || all.iter().filter(|index| index.health().unknown.is_some()).count() as f64;
        metrics.gauge_fn(
            "signet_ca_pods_unknown",
            "Clusters whose pods are followed and not known at the moment, so that what depends on them is put off.",
            unknown,
        )
    }
}

/// Who judges the node agents of a cluster by its pods; nobody when it trusts none.
pub(super) fn authorizer(cluster: &Cluster, pods: Option<&Arc<PodIndex>>) -> Option<Arc<dyn ImpersonationAuthorizer>> {
    let trusted = cluster.trusted_node_accounts.iter().cloned();
    let authorizer = |pods| Arc::new(NodeAuthorizer::new(trusted, Arc::clone(pods))) as _;
    pods.filter(|_| !cluster.trusted_node_accounts.is_empty()).map(authorizer)
}

/// What verifies tokens offline, and by the cluster's pods and accounts where these count.
pub(super) fn live(
    tokens: &Tokens,
    inner: Arc<dyn TokenAuthenticator>,
    pods: Option<Arc<PodIndex>>,
) -> Arc<dyn TokenAuthenticator> {
    match (tokens, pods) {
        (Tokens::Jwks { live_objects: true, .. }, Some(pods)) => Arc::new(LiveObjects::new(inner, pods)),
        _ => inner,
    }
}

/// Who knows the pods and accounts that the holders of client certificates have to have, where that is demanded.
pub(super) fn live_workloads(cluster: &Cluster, pods: Option<&Arc<PodIndex>>) -> Option<Arc<dyn LiveWorkloads>> {
    let demanded = cluster.client_certificates.is_some_and(|demanded| demanded.live_objects);
    pods.filter(|_| demanded).map(|pods| Arc::clone(pods) as _)
}

/// Says how well the pods are known. That they grow stale happens without any event.
async fn tell(index: &PodIndex, condition: &Condition) {
    let mut before = None;
    loop {
        let health = index.health();
        let problem = health.problem.as_ref().map_or_else(String::new, |problem| format!("; {problem}"));
        let counted = format!("{} pods on {} nodes", health.pods, health.nodes);
        match (health.unknown, &health.problem) {
            (Some(reason), _) => {
                let consequence = "what depends on them is put off";
                condition.degraded(format!("{}, so that {consequence}{problem}", reason.label()));
            }
            (None, Some(_)) => condition.degraded(format!("{counted}, as they were last{problem}")),
            (None, None) => condition.ready(counted),
        }
        let now = health.unknown.map(PodsUnknown::label);
        if before != Some(now) {
            match now {
                Some(reason) if before.is_some() => {
                    tracing::warn!(reason, problem = health.problem, "the pods of a cluster are not known any more");
                }
                None => tracing::info!(pods = health.pods, nodes = health.nodes, "the pods of a cluster are known"),
                _ => {}
            }
        }
        before = Some(now);
        let _either = tokio::time::timeout(TELL, index.changed()).await;
    }
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
        for result in ["authenticated", "refused"].into_iter().chain(Outage::OF_CLUSTERS.map(Outage::label)) {
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
        condition.ready("the API server is to be asked about each token; it was not asked about any yet");
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
