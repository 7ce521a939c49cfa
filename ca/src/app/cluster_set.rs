//! The clusters that are served, with all that belongs to each. Others can take their place while the process runs: what is
//! configured as before goes on as it is, with what it watches and remembers, and what is gone takes its tasks with it.

use std::sync::Arc;

use arc_swap::ArcSwap;
use signet_core::seams::publisher::Found;
use signet_plugins::authenticator::PublishedKeys;
use signet_runtime::metrics::{MetricError, Metrics};
use signet_runtime::readiness::Readiness;
use signet_runtime::supervisor::Spawner;

use super::kubernetes::{self, Calls, Pods, Publishing, Reviews, Rights, Server};
use super::signers::{Signer, Signers};
use super::tokens::{self, Believer, TokensError};
use crate::clusters::{Clusters, KubeletRefresh, Served};
use crate::config::{Cluster, Publish};
use crate::notices::Notices;
use crate::publishers::Publishers;
use crate::publishing;

/// What clusters are started with.
#[cfg_attr(not(feature = "kubernetes"), expect(dead_code, reason = "nothing is asked of an API server"))]
pub(super) struct Surroundings {
    pub(super) readiness: Readiness,
    pub(super) spawner: Spawner,
    pub(super) reviews: Reviews,
    pub(super) signers: Signers,
    pub(super) calls: Calls,
    pub(super) publishing: publishing::Surroundings,
    /// The names of all publishers of this replica, of which `others` are of no cluster.
    pub(super) publishers: Publishers,
    pub(super) others: Vec<String>,
    pub(super) notices: Notices,
}

/// A cluster that is served.
pub(super) struct Running {
    pub(super) cluster: Cluster,
    pub(super) server: Option<Arc<Server>>,
    pub(super) pods: Option<Arc<Pods>>,
    pub(super) publishing: Option<Arc<Publishing>>,
    pub(super) believer: Arc<Believer>,
    pub(super) signer: Option<Arc<Signer>>,
    pub(super) served: Arc<Served>,
    /// Looked at for as long as this is there.
    _rights: Option<Rights>,
}

/// A cluster whose files were read. Nothing is started, and no server was asked for anything.
pub(super) struct Opened {
    cluster: Cluster,
    server: Option<Arc<Server>>,
    pods: Option<Arc<Pods>>,
    publishing: Option<Arc<Publishing>>,
    believer: Believing,
}

enum Believing {
    /// As before.
    Kept(Arc<Believer>),
    With(Arc<PublishedKeys>),
}

impl Opened {
    /// Reads the files that a cluster's section names. What is configured as in `before` is taken from there.
    pub(super) async fn open(cluster: &Cluster, before: Option<&Running>) -> Result<Self, TokensError> {
        let same_server = before.filter(|before| before.cluster.api_server == cluster.api_server);
        let server = match same_server {
            Some(before) => before.server.clone(),
            None => Server::open(cluster).await?,
        };
        let pods = Pods::of(cluster, same_server.and_then(|before| before.pods.as_ref()));
        let publishing = Publishing::of(cluster, same_server.and_then(|before| before.publishing.as_ref()));
        let believer = match same_server.filter(|before| believe_alike(&before.cluster, cluster)) {
            Some(before) => Believing::Kept(Arc::clone(&before.believer)),
            None => Believing::With(Arc::new(tokens::keys(cluster, server.as_ref()).await?)),
        };
        Ok(Self { cluster: cluster.clone(), server, pods, publishing, believer })
    }

    /// Starts what was not started before.
    fn start(self, before: Option<&Arc<Running>>, around: &Surroundings) -> Arc<Running> {
        let Self { cluster, server, pods, publishing, believer } = self;
        if let Some(before) = before.filter(|before| before.cluster == cluster) {
            return Arc::clone(before);
        }
        if let Some(server) = &server {
            server.start(&cluster.id, around);
            if let Some(pods) = &pods {
                pods.start(&cluster.id, server, around);
            }
            if let Some(publishing) = &publishing {
                publishing.start(&cluster.id, server, around);
            }
        }
        let believer = match believer {
            Believing::Kept(believer) => believer,
            Believing::With(keys) => Arc::new(Believer::start(&cluster, keys, server.as_ref(), around)),
        };
        let served = Served {
            id: cluster.id.clone(),
            aliases: cluster.aliases.clone(),
            authenticator: kubernetes::live(&cluster.tokens, Arc::clone(&believer.authenticator), pods.as_ref()),
            authorizer: kubernetes::authorizer(&cluster, pods.as_ref()),
            pods: pods.as_ref().map(kubernetes::live_pods),
            certificates: tokens::certificates(&cluster, kubernetes::live_workloads(&cluster, pods.as_ref())),
            ended: believer.tasks.ended().clone(),
            kubelet_refresh: cluster
                .pod_certificates
                .as_ref()
                .filter(|_| cluster.pods_without_roots().is_none())
                .map(|section| KubeletRefresh { signer: section.signer.clone(), wait: section.kubelet_refresh }),
        };
        let signer = Signer::start(&cluster, server.as_ref(), before, around);
        let _rights = Rights::watch(&cluster, server.as_ref(), around);
        let served = Arc::new(served);
        Arc::new(Running { cluster, server, pods, publishing, believer, signer, served, _rights })
    }
}

/// Whether tokens of both are judged by the same rules, so that whoever was believed by one is by the other.
fn believe_alike(one: &Cluster, other: &Cluster) -> bool {
    let rules = |cluster: &Cluster| Cluster {
        aliases: Vec::new(),
        trusted_node_accounts: Vec::new(),
        client_certificates: None,
        pod_certificates: None,
        publish: Publish::default(),
        ..cluster.clone()
    };
    rules(one) == rules(other)
}

/// All clusters that are served.
pub(super) struct ClusterSet {
    around: Surroundings,
    running: Arc<ArcSwap<Vec<Arc<Running>>>>,
    served: Arc<Clusters>,
}

impl ClusterSet {
    /// Begins to serve these.
    pub(super) fn start(around: Surroundings, clusters: Vec<Opened>) -> Self {
        let (running, served) = (Arc::default(), Arc::new(Clusters::new(Vec::new())));
        let set = Self { around, running, served };
        set.replace(clusters);
        set
    }

    /// The same, as requests find them.
    pub(super) fn served(&self) -> Arc<Clusters> {
        Arc::clone(&self.served)
    }

    /// Those that are served now, in the order of the configuration.
    pub(super) fn running(&self) -> Arc<Vec<Arc<Running>>> {
        self.running.load_full()
    }

    /// Reads the files of `clusters`, those of each that is not as before; what is wrong, of all of them at once.
    pub(super) async fn open(&self, clusters: &[Cluster]) -> Result<Vec<Opened>, Vec<(usize, TokensError)>> {
        let running = self.running();
        let (mut opened, mut problems) = (Vec::new(), Vec::new());
        for (index, cluster) in clusters.iter().enumerate() {
            let before = running.iter().find(|before| before.cluster.id == cluster.id);
            match Opened::open(cluster, before.map(AsRef::as_ref)).await {
                Ok(one) => opened.push(one),
                Err(error) => problems.push((index, error)),
            }
        }
        if problems.is_empty() { Ok(opened) } else { Err(problems) }
    }

    /// Serves these from now on, and no others. Requests that have begun end with what they began with.
    pub(super) fn replace(&self, clusters: Vec<Opened>) {
        let before = self.running();
        let started = clusters.into_iter().map(|opened| {
            let before = before.iter().find(|before| before.cluster.id == opened.cluster.id);
            opened.start(before, &self.around)
        });
        let running: Vec<Arc<Running>> = started.collect();
        let served: Vec<Arc<Served>> = running.iter().map(|cluster| Arc::clone(&cluster.served)).collect();
        self.served.replace(&served);
        let publishers = running.iter().flat_map(|running| running.cluster.publish.publishers(&running.cluster.id));
        self.around.publishers.replace(publishers.chain(self.around.others.iter().cloned()).collect());
        self.running.store(Arc::new(running));
    }

    /// Registers what is counted over all clusters: labels never hold a name from outside.
    pub(super) fn measure(&self, metrics: &Metrics) -> Result<(), MetricError> {
        let sum = |count: fn(&Running) -> usize| {
            let running = Arc::clone(&self.running);
            move || running.load().iter().map(|cluster| count(cluster)).sum::<usize>() as f64
        };
        let gauge = |name: &str, help: &str, count| metrics.gauge_fn(name, help, sum(count));
        gauge("signet_ca_clusters", "Clusters that are served.", |_| 1)?;
        gauge("signet_ca_token_keys", "Published keys that may verify tokens, of all clusters.", |cluster| {
            cluster.believer.published().map_or(0, |published| published.keys)
        })?;
        gauge("signet_ca_token_keys_left_out", "Published keys that cannot be used, of all clusters.", |cluster| {
            cluster.believer.published().map_or(0, |published| published.left_out.len())
        })?;
        gauge(
            "signet_ca_token_key_sets_refused",
            "Clusters whose published keys cannot be used or read as they are now, so that earlier keys stay in use.",
            |cluster| usize::from(cluster.believer.read().refused),
        )?;
        gauge(
            "signet_ca_token_reviews_unavailable",
            "Clusters whose API server is to be asked about tokens and cannot be at the moment, so that no new token counts.",
            |cluster| usize::from(cluster.believer.review().is_some_and(|last| last.problem.is_some())),
        )?;
        gauge(
            "signet_ca_pod_certificate_requests",
            "PodCertificateRequests without an answer, of all clusters.",
            |cluster| cluster.signer.as_ref().map_or(0, |signer| signer.health().open),
        )?;
        gauge("signet_ca_pods", "Pods known of the clusters whose pods are followed.", |cluster| {
            cluster.pods.as_ref().map_or(0, |pods| pods.health().pods)
        })?;
        gauge(
            "signet_ca_pods_unknown",
            "Clusters whose pods are followed and not known at the moment, so that what depends on them is put off.",
            |cluster| usize::from(cluster.pods.as_ref().is_some_and(|pods| pods.health().unknown.is_some())),
        )?;
        gauge(
            "signet_ca_publisher_places_wanted",
            "Namespaces and objects of clusters that are to have the trust bundle, where this replica publishes it.",
            |cluster| published(cluster, |found| found.wanted),
        )?;
        gauge(
            "signet_ca_publisher_places_in_place",
            "Those of them that have it, and the revocation lists where these are published.",
            |cluster| published(cluster, |found| found.in_place),
        )?;
        gauge(
            "signet_ca_publishers_with_problem",
            "Publishers of this replica that something keeps from publishing everywhere; status says what.",
            |cluster| published(cluster, |found| u64::from(found.problem.is_some())),
        )
    }
}

/// Counts something of what the publishers of a cluster have found.
fn published(cluster: &Running, count: fn(&Found) -> u64) -> usize {
    let found = cluster.publishing.as_ref().map(|publishing| publishing.found()).unwrap_or_default();
    found.iter().flatten().map(|found| usize::try_from(count(found)).unwrap_or(usize::MAX)).sum()
}

#[cfg(test)]
#[path = "cluster_set_tests.rs"]
mod tests;
