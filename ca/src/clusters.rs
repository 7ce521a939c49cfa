//! The clusters whose workloads are served: found by the `clusterid` header, and by their id afterwards. They may be replaced
//! while requests are on their way; each request ends with the cluster that it began with.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use signet_core::seams::authenticator::{AuthenticationError, Denial, LiveWorkloads, TokenAuthenticator};
use signet_core::seams::impersonation::ImpersonationAuthorizer;
use signet_core::seams::live_pods::LivePods;
use tokio_util::sync::CancellationToken;

/// One cluster.
#[derive(Clone)]
pub struct Served {
    /// The configured id.
    pub id: String,
    /// Other names for it in requests.
    pub aliases: Vec<String>,
    /// Who its tokens prove.
    pub authenticator: Arc<dyn TokenAuthenticator>,
    /// Whom its node agents may ask for; `None` when it trusts none.
    pub authorizer: Option<Arc<dyn ImpersonationAuthorizer>>,
    /// Cancelled when what the authenticator has believed counts no longer: the cluster is gone, or other tokens count.
    pub ended: CancellationToken,
    /// Its pods; `None` when nobody follows them.
    pub pods: Option<Arc<dyn LivePods>>,
    /// What is demanded of client certificates that are shown in the place of tokens; `None` when they count for nothing.
    pub certificates: Option<CertificateRules>,
    /// How long its kubelets take to write a trust bundle into the volumes of pods; `None` where that is not said.
    pub kubelet_refresh: Option<KubeletRefresh>,
}

/// Whose trust bundle kubelets write into the volumes of pods, and how soon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubeletRefresh {
    /// The signer that the bundle and the certificates are of.
    pub signer: String,
    /// How long they take.
    pub wait: Duration,
}

/// What a cluster demands of client certificates that are shown in the place of tokens.
#[derive(Clone)]
pub struct CertificateRules {
    /// How long ago the last token of the holder may be.
    pub last_token_within: Duration,
    /// Who knows whether what the holder is bound to is there, where that is demanded.
    pub live: Option<Arc<dyn LiveWorkloads>>,
}

/// All of them, by id and alias.
pub struct Clusters(ArcSwap<Table>);

struct Table {
    by_name: HashMap<String, Arc<Served>>,
    primary: Option<Arc<Served>>,
    known: String,
}

impl Table {
    fn new(clusters: &[Arc<Served>]) -> Self {
        let known = clusters.iter().map(|cluster| cluster.id.as_str()).collect::<Vec<_>>().join(", ");
        let mut by_name = HashMap::new();
        for cluster in clusters {
            for name in std::iter::once(&cluster.id).chain(&cluster.aliases) {
                by_name.insert(name.clone(), Arc::clone(cluster));
            }
        }
        Self { by_name, primary: clusters.first().map(Arc::clone), known }
    }
}

impl Clusters {
    /// Takes the clusters; the first one is the primary, which serves requests that name none.
    #[must_use]
    pub fn new(clusters: Vec<Served>) -> Self {
        let clusters: Vec<Arc<Served>> = clusters.into_iter().map(Arc::new).collect();
        Self(ArcSwap::from_pointee(Table::new(&clusters)))
    }

    /// From now on, these.
    pub fn replace(&self, clusters: &[Arc<Served>]) {
        self.0.store(Arc::new(Table::new(clusters)));
    }

    /// The cluster that a request names; `None` or empty means the primary one.
    ///
    /// # Errors
    /// [`Denial::ClusterUnknown`], with the known ones listed for the log.
    pub fn select(&self, name: Option<&str>) -> Result<Arc<Served>, AuthenticationError> {
        let table = self.0.load();
        let found = match name {
            None | Some("") => table.primary.as_ref(),
            Some(name) => table.by_name.get(name),
        };
        found.map(Arc::clone).ok_or_else(|| {
            let name: String = name.unwrap_or_default().chars().take(100).collect();
            let detail = format!("the request names the cluster {name:?}; known are: {}", table.known);
            AuthenticationError::denied(Denial::ClusterUnknown, detail)
        })
    }

    /// Whether it is known that no pod of this UID runs in a cluster any more.
    #[must_use]
    pub fn has_lost(&self, id: &str, pod_uid: &str) -> bool {
        let table = self.0.load();
        table.by_name.get(id).and_then(|cluster| cluster.pods.as_ref()).is_some_and(|pods| pods.is_gone(pod_uid))
    }

    /// How long the kubelets of a cluster take to write a trust bundle into the volumes of pods; `None` when none is published
    /// for them, as far as this replica knows.
    #[must_use]
    pub fn kubelet_refresh(&self, id: &str) -> Option<KubeletRefresh> {
        self.0.load().by_name.get(id)?.kubelet_refresh.clone()
    }

    /// Who agrees to what the node agents of a cluster ask for, by the id that an authenticator has given.
    #[must_use]
    pub fn authorizer(&self, id: &str) -> Option<Arc<dyn ImpersonationAuthorizer>> {
        self.0.load().by_name.get(id)?.authorizer.clone()
    }
}
