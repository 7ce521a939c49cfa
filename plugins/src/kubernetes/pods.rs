//! The pods and nodes of a cluster, as its API server told of them last: one list and one watch each, for the whole process.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures::future::OptionFuture;
use k8s_openapi::api::core::v1::{Node, ServiceAccount};
use kube::Api;
use kube::api::PartialObjectMeta;
use signet_core::seams::authenticator::AuthenticationError;
use signet_core::seams::impersonation::PodsUnknown;
use signet_core::seams::live_pods::LivePods;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::api_server::ApiServer;
use super::known::{Known, WatchedPod, account_of};
use super::watch::{Listener, Metadata, Whole, follow};

/// How long after the last word of the API server its pods are believed to be as they were.
pub(super) const BELIEVED: Duration = Duration::from_secs(120);

/// What was heard of one kind of objects.
#[derive(Debug, Clone, Default)]
struct Heard {
    /// When everything that was known was last said to be all there is; `None` before the first list.
    at: Option<Instant>,
    /// What keeps us from hearing more.
    problem: Option<String>,
}

/// How well the pods of a cluster are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodsHealth {
    /// Pods known.
    pub pods: usize,
    /// Nodes known.
    pub nodes: usize,
    /// Service accounts known.
    pub accounts: usize,
    /// How long ago everything that is known was last said to be all there is; `None` before the first lists.
    pub heard_ago: Option<Duration>,
    /// Why nobody is allowed or refused by what is known.
    pub unknown: Option<PodsUnknown>,
    /// What keeps us from hearing of changes.
    pub problem: Option<String>,
}

/// What is followed beside pods.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Followed {
    /// Nodes, for node agents.
    pub nodes: bool,
    /// Service accounts, for tokens that nobody is asked about.
    pub accounts: bool,
}

/// The pods of one cluster, and what is followed beside them.
#[derive(Default)]
pub struct PodIndex {
    followed: Followed,
    known: RwLock<Known>,
    of_pods: RwLock<Heard>,
    of_nodes: RwLock<Heard>,
    of_accounts: RwLock<Heard>,
    /// Told when a list has come, or trouble.
    changed: Notify,
}

impl fmt::Debug for PodIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PodIndex").field("health", &self.health()).finish_non_exhaustive()
    }
}

impl PodIndex {
    /// Knows nothing yet.
    #[must_use]
    pub fn new(followed: Followed) -> Arc<Self> {
        Arc::new(Self { followed, ..Self::default() })
    }

    /// Follows the cluster's pods, and the rest, for ever.
    pub async fn follow(&self, server: &ApiServer) {
        let pods = Whole(|| Api::<WatchedPod>::all(server.client()));
        let nodes = Metadata::of(|| Api::<Node>::all(server.client()));
        let accounts = Metadata::of(|| Api::<ServiceAccount>::all(server.client()));
        let Followed { nodes: with_nodes, accounts: with_accounts } = self.followed;
        tokio::join!(
            follow(&pods, self as &dyn Listener<WatchedPod>, WatchedPod::version),
            OptionFuture::from(with_nodes.then(|| {
                follow(&nodes, self as &dyn Listener<PartialObjectMeta<Node>>, |node| {
                    node.metadata.resource_version.as_deref()
                })
            })),
            OptionFuture::from(with_accounts.then(|| {
                follow(&accounts, self as &dyn Listener<PartialObjectMeta<ServiceAccount>>, |account| {
                    account.metadata.resource_version.as_deref()
                })
            })),
        );
    }

    /// How well they are known at the moment.
    #[must_use]
    pub fn health(&self) -> PodsHealth {
        let (pods, nodes, accounts) = {
            let known = read(&self.known);
            (known.pods.len(), known.nodes.len(), known.accounts.len())
        };
        let heard = [&self.of_pods, &self.of_nodes, &self.of_accounts].map(|heard| read(heard).clone());
        let heard_ago = self.last_heard().map(|at| at.elapsed());
        let unknown = self.unknown();
        // The watch may be open again, or nobody has seen yet that it is dead.
        let silence = (unknown == Some(PodsUnknown::Stale)).then(|| {
            format!(
                "nothing was heard of them for more than {} s, not even a bookmark; where a watch is open, one comes within a \
                 minute",
                BELIEVED.as_secs()
            )
        });
        let problem = heard.iter().find_map(|heard| heard.problem.clone()).or(silence);
        PodsHealth { pods, nodes, accounts, heard_ago, unknown, problem }
    }

    /// Waits until a list has come, or trouble, after the last time that this was waited for.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// What is known, unless it is not to be believed.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn look<T>(&self, at: impl FnOnce(&Known) -> T) -> Result<T, PodsUnknown> {
        self.unknown().map_or_else(|| Ok(at(&read(&self.known))), Err)
    }

    fn unknown(&self) -> Option<PodsUnknown> {
        match self.last_heard() {
            None => Some(PodsUnknown::NotSynced),
            Some(oldest) => (oldest.elapsed() > BELIEVED).then_some(PodsUnknown::Stale),
        }
    }

    /// When all that is followed was heard of; `None` while a list is missing.
    fn last_heard(&self) -> Option<Instant> {
        let Followed { nodes, accounts } = self.followed;
        let needed = [(true, &self.of_pods), (nodes, &self.of_nodes), (accounts, &self.of_accounts)];
        let mut oldest = Instant::now();
        for (_, heard) in needed.into_iter().filter(|(needed, _)| *needed) {
            oldest = oldest.min(read(heard).at?);
        }
        Some(oldest)
    }
}

impl LivePods for PodIndex {
    fn is_gone(&self, pod_uid: &str) -> bool {
        self.look(|known| !known.running.contains(pod_uid)).unwrap_or(false)
    }
}

fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

fn heard_now(of: &RwLock<Heard>) {
    *write(of) = Heard { at: Some(Instant::now()), problem: None };
}

fn not_heard(of: &RwLock<Heard>, error: &AuthenticationError) {
    write(of).problem = Some(match error {
        AuthenticationError::Unavailable { reason, detail } => format!("{}: {detail}", reason.label()),
        error => error.to_string(),
    });
}

impl Listener<WatchedPod> for PodIndex {
    fn replace(&self, all: Vec<WatchedPod>) {
        let mut newer = Known::default();
        for pod in all {
            newer.put(pod);
        }
        let mut known = write(&self.known);
        (known.pods, known.beside, known.running) = (newer.pods, newer.beside, newer.running);
        drop(known);
        heard_now(&self.of_pods);
        self.changed.notify_one();
    }

    fn apply(&self, pod: WatchedPod) {
        write(&self.known).put(pod);
        heard_now(&self.of_pods);
    }

    fn delete(&self, pod: WatchedPod) {
        write(&self.known).remove(pod);
        heard_now(&self.of_pods);
    }

    fn heard(&self) {
        heard_now(&self.of_pods);
    }

    fn listening(&self) {
        write(&self.of_pods).problem = None;
        self.changed.notify_one();
    }

    fn failed(&self, error: &AuthenticationError) {
        not_heard(&self.of_pods, error);
        self.changed.notify_one();
    }
}

impl Listener<PartialObjectMeta<Node>> for PodIndex {
    fn replace(&self, all: Vec<PartialObjectMeta<Node>>) {
        let nodes = all.into_iter().filter_map(|node| Some((node.metadata.name?.into(), node.metadata.uid?.into())));
        write(&self.known).nodes = nodes.collect();
        heard_now(&self.of_nodes);
        self.changed.notify_one();
    }

    fn apply(&self, node: PartialObjectMeta<Node>) {
        if let (Some(name), Some(uid)) = (node.metadata.name, node.metadata.uid) {
            write(&self.known).nodes.insert(name.into(), uid.into());
        }
        heard_now(&self.of_nodes);
    }

    fn delete(&self, node: PartialObjectMeta<Node>) {
        if let Some(name) = node.metadata.name {
            write(&self.known).nodes.remove(name.as_str());
        }
        heard_now(&self.of_nodes);
    }

    fn heard(&self) {
        heard_now(&self.of_nodes);
    }

    fn listening(&self) {
        write(&self.of_nodes).problem = None;
        self.changed.notify_one();
    }

    fn failed(&self, error: &AuthenticationError) {
        not_heard(&self.of_nodes, error);
        self.changed.notify_one();
    }
}

impl Listener<PartialObjectMeta<ServiceAccount>> for PodIndex {
    fn replace(&self, all: Vec<PartialObjectMeta<ServiceAccount>>) {
        let accounts = all.into_iter().filter_map(|account| account_of(account.metadata));
        write(&self.known).accounts = accounts.collect();
        heard_now(&self.of_accounts);
        self.changed.notify_one();
    }

    fn apply(&self, account: PartialObjectMeta<ServiceAccount>) {
        if let Some((key, uid)) = account_of(account.metadata) {
            write(&self.known).accounts.insert(key, uid);
        }
        heard_now(&self.of_accounts);
    }

    fn delete(&self, account: PartialObjectMeta<ServiceAccount>) {
        if let Some((key, _)) = account_of(account.metadata) {
            write(&self.known).accounts.remove(&key);
        }
        heard_now(&self.of_accounts);
    }

    fn heard(&self) {
        heard_now(&self.of_accounts);
    }

    fn listening(&self) {
        write(&self.of_accounts).problem = None;
        self.changed.notify_one();
    }

    fn failed(&self, error: &AuthenticationError) {
        not_heard(&self.of_accounts, error);
        self.changed.notify_one();
    }
}

#[cfg(test)]
#[path = "pods_tests.rs"]
pub(crate) mod tests;
