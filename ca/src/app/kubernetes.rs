//! What asks the API servers of clusters, put together: credentials that are read again, keys, reviews of tokens, pods.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use signet_core::seams::authenticator::{AuthenticationError, LiveWorkloads, TokenAuthenticator};
use signet_core::seams::impersonation::{ImpersonationAuthorizer, PodsUnknown};
use signet_core::seams::live_pods::LivePods;
use signet_plugins::authenticator::{ApiServerKeys, IssuerKeys, LiveObjects, PublishedKeys};
use signet_plugins::kubernetes::{
    ApiServer, Credentials, Files, Followed, InCluster, Needs, NodeAuthorizer, PodIndex, PodsHealth, Probed,
    probe as probe_server,
};
use signet_runtime::files as runtime_files;
use signet_runtime::output::error_chain;
use signet_runtime::readiness::Condition;

use super::cluster_set::Surroundings;
use super::passing::Tasks;
pub(super) use super::publishing::{Calls, Publishing};
pub(super) use super::reviews::{LastReview, Reviews};
pub(super) use super::rights::Rights;
use super::tokens::TokensError;
use crate::config::{ApiAccess, Cluster, KeySource, Tokens};

/// How often the files of credentials are looked at.
const LOOK_AT_CREDENTIALS: Duration = Duration::from_secs(10);

/// How often it is looked at how well pods are known when nothing happens.
const TELL: Duration = Duration::from_secs(1);

/// Where Kubernetes mounts what a pod needs to speak to its API server.
const IN_CLUSTER: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// The largest file of credentials that is read, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// Files of credentials, which may hang: each costs one thread then, and nobody waits for it for long.
pub(super) fn files() -> Files {
    Files::read_by(|file| {
        Box::pin(async move { runtime_files::read_in_time(&file, MAX_FILE).await.map_err(|error| error_chain(&error)) })
    })
}

/// What this pod was given, if this process runs in one.
#[expect(clippy::disallowed_methods, reason = "Kubernetes tells every pod of its API server by these")]
fn in_cluster() -> InCluster {
    let [host, port] = ["KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"].map(|name| std::env::var(name).ok());
    InCluster { host, port, directory: IN_CLUSTER.into() }
}

/// As whom an API server is spoken to.
pub(super) fn credentials(access: &ApiAccess) -> Credentials {
    match access {
        ApiAccess::InCluster => Credentials::InCluster(in_cluster()),
        ApiAccess::Kubeconfig(file) => Credentials::Kubeconfig(file.clone()),
    }
}

/// The API server of a cluster, with what reads its credentials again.
pub(super) struct Server {
    pub(super) api: Arc<ApiServer>,
    problem: Arc<Mutex<Option<String>>>,
    tasks: Tasks,
}

impl Server {
    /// The cluster's API server, when it has one that is asked. Files are read; nothing is sent.
    pub(super) async fn open(cluster: &Cluster) -> Result<Option<Arc<Self>>, TokensError> {
        let Some(access) = &cluster.api_server else { return Ok(None) };
        let api = Arc::new(ApiServer::open(credentials(access), files()).await?);
        Ok(Some(Arc::new(Self { api, problem: Arc::default(), tasks: Tasks::default() })))
    }

    pub(super) fn start(&self, cluster: &str, around: &Surroundings) {
        if self.tasks.begin() {
            // Of the server itself nothing is known by that.
            let name = format!("credentials for {cluster}");
            let condition = around.readiness.passing(name.as_str());
            let renewing = renew(Arc::clone(&self.api), Arc::clone(&self.problem), condition);
            self.tasks.spawn(&around.spawner, &name, renewing);
        }
    }

    /// As whom it is asked.
    pub(super) fn shown(&self) -> String {
        self.api.credentials().to_string()
    }

    /// What is at `path`, at most `most` bytes of JSON.
    pub(super) async fn get(&self, path: &str, most: usize) -> Result<Vec<u8>, String> {
        self.api.get(path, "application/json", most).await.map_err(|error| match error {
            AuthenticationError::Unavailable { detail, .. } => detail,
            error => error.to_string(),
        })
    }

    /// What keeps newer credentials from being used.
    pub(super) fn problem(&self) -> Option<String> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The keys that verify a cluster's tokens, to be asked for.
pub(super) fn keys(tokens: &Tokens, server: Option<&Arc<Server>>) -> Result<PublishedKeys, TokensError> {
    Ok(match (tokens, server) {
        (Tokens::Jwks { issuers, keys: KeySource::Issuer { ca_file }, .. }, _) => {
            let issuer = issuers.first().cloned().unwrap_or_default();
            PublishedKeys::looked_up(Arc::new(IssuerKeys { issuer, ca_file: ca_file.clone(), files: files() }))
        }
        (_, Some(server)) => PublishedKeys::looked_up(Arc::new(ApiServerKeys(Arc::clone(&server.api)))),
        (_, None) => PublishedKeys::none(),
    })
}

/// Reads the credentials for an API server again when their files change; those in use stay while the new ones are no good.
async fn renew(server: Arc<ApiServer>, problem: Arc<Mutex<Option<String>>>, condition: Condition) {
    let in_order = format!("in order: {}", server.credentials());
    condition.ready(in_order.as_str());
    loop {
        tokio::time::sleep(LOOK_AT_CREDENTIALS).await;
        let renewed = server.renew().await;
        let mut told = problem.lock().unwrap_or_else(PoisonError::into_inner);
        match renewed {
            Ok(changed) => {
                if changed || told.is_some() {
                    tracing::info!(credentials = %server.credentials(), "the credentials for an API server were read again");
                }
                *told = None;
                condition.ready(in_order.as_str());
            }
            Err(error) => {
                let text = error.to_string();
                condition.degraded(format!("the credentials before stay in use: {text}"));
                if told.as_ref() != Some(&text) {
                    tracing::warn!(error = text, "credentials for an API server cannot be used; those before stay");
                }
                *told = Some(text);
            }
        }
    }
}

/// The pods of a cluster by which something is decided.
pub(super) struct Pods {
    index: Arc<PodIndex>,
    followed: Followed,
    tasks: Tasks,
}

impl Pods {
    /// What is followed of a cluster, so that what is followed already can be kept; nothing where nothing is decided by it.
    pub(super) fn of(cluster: &Cluster, before: Option<&Arc<Self>>) -> Option<Arc<Self>> {
        let followed =
            Followed { nodes: !cluster.trusted_node_accounts.is_empty(), accounts: cluster.needs_live_objects() };
        if followed == Followed::default() {
            return None;
        }
        let kept = before.filter(|before| before.followed == followed).map(Arc::clone);
        let new = || Arc::new(Self { index: PodIndex::new(followed), followed, tasks: Tasks::default() });
        Some(kept.unwrap_or_else(new))
    }

    pub(super) fn start(&self, cluster: &str, server: &Server, around: &Surroundings) {
        if self.tasks.begin() {
            let (name, api, index) = (format!("pods of {cluster}"), Arc::clone(&server.api), Arc::clone(&self.index));
            let condition = around.readiness.passing(name.as_str());
            let cluster = cluster.to_owned();
            self.tasks.spawn(&around.spawner, &name, async move {
                tokio::join!(index.follow(&api), tell(cluster, &index, &condition));
            });
        }
    }

    pub(super) fn health(&self) -> PodsHealth {
        self.index.health()
    }
}

/// Who judges the node agents of a cluster by its pods; nobody when it trusts none.
pub(super) fn authorizer(cluster: &Cluster, pods: Option<&Arc<Pods>>) -> Option<Arc<dyn ImpersonationAuthorizer>> {
    let trusted = cluster.trusted_node_accounts.iter().cloned();
    let authorizer = |pods: &Arc<Pods>| Arc::new(NodeAuthorizer::new(trusted, Arc::clone(&pods.index))) as _;
    pods.filter(|_| !cluster.trusted_node_accounts.is_empty()).map(authorizer)
}

/// Who knows whether a pod of the cluster is gone.
pub(super) fn live_pods(pods: &Arc<Pods>) -> Arc<dyn LivePods> {
    Arc::clone(&pods.index) as _
}

/// Who knows whether what a client certificate stands for is there, where that is demanded.
pub(super) fn live_workloads(cluster: &Cluster, pods: Option<&Arc<Pods>>) -> Option<Arc<dyn LiveWorkloads>> {
    let demanded = cluster.client_certificates.is_some_and(|demanded| demanded.live_objects);
    pods.filter(|_| demanded).map(|pods| Arc::clone(&pods.index) as _)
}

/// What verifies tokens offline, and by the cluster's pods and accounts where these count.
pub(super) fn live(
    tokens: &Tokens,
    inner: Arc<dyn TokenAuthenticator>,
    pods: Option<&Arc<Pods>>,
) -> Arc<dyn TokenAuthenticator> {
    match (tokens, pods) {
        (Tokens::Jwks { live_objects: true, .. }, Some(pods)) => {
            Arc::new(LiveObjects::new(inner, Arc::clone(&pods.index)))
        }
        _ => inner,
    }
}

/// Says how well the pods are known. That they grow stale happens without any event.
async fn tell(cluster: String, index: &PodIndex, condition: &Condition) {
    // Why they are not known, and whether somebody knows what keeps them from being.
    let mut before = (Some(PodsUnknown::NotSynced), false);
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
        let now = (health.unknown, health.unknown.is_some() && (before.1 || health.problem.is_some()));
        if before != now {
            let (cluster, pods, nodes) = (cluster.as_str(), health.pods, health.nodes);
            match health.unknown.map(PodsUnknown::label) {
                Some(reason) => {
                    tracing::warn!(cluster, reason, problem = health.problem, "the pods of a cluster are not known");
                }
                None => tracing::info!(cluster, pods, nodes, "the pods of a cluster are known"),
            }
        }
        before = now;
        let _either = tokio::time::timeout(TELL, index.changed()).await;
    }
}

/// What the API server of a cluster does not let us do or see, or is not configured as it is.
///
/// # Errors
/// Why it cannot be spoken to at all.
pub(super) async fn probe(cluster: &Cluster, server: &Server) -> Result<Probed, String> {
    probe_server(&server.api, &needs(cluster)).await
}

/// What the configuration of a cluster needs of its API server.
pub(super) fn needs(cluster: &Cluster) -> Needs {
    let (reviews, issuers) = match &cluster.tokens {
        Tokens::Jwks { issuers, .. } => (false, issuers),
        Tokens::Review { issuers, .. } => (true, issuers),
    };
    let live_objects = cluster.needs_live_objects();
    let agents = !cluster.trusted_node_accounts.is_empty();
    Needs {
        reviews,
        pods: agents || live_objects,
        nodes: agents,
        accounts: live_objects,
        // What somebody else publishes says whose tokens these are.
        is_issuer: !matches!(cluster.tokens, Tokens::Jwks { keys: KeySource::Issuer { .. }, .. }),
        issuers: issuers.clone(),
        audiences: cluster.audiences.clone(),
        trusted: cluster.trusted_node_accounts.clone(),
        signer: cluster.pod_certificates.as_ref().map(|section| section.signer.clone()),
        more: super::publishing::rights(&cluster.publish),
    }
}
