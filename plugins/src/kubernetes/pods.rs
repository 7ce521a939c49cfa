//! The pods and nodes of a cluster, as its API server told of them last: one list and one watch each, for the whole process.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PartialObjectMeta;
use kube::core::NamespaceResourceScope;
use kube::{Api, Resource};
use serde::Deserialize;
use signet_core::seams::authenticator::AuthenticationError;
use signet_core::seams::impersonation::PodsUnknown;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::api_server::ApiServer;
use super::watch::{Listener, Metadata, Whole, follow};

/// How long after the last word of the API server its pods are believed to be as they were.
pub(super) const BELIEVED: Duration = Duration::from_secs(120);

/// What of a pod matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KnownPod {
    pub(super) uid: Box<str>,
    pub(super) account: Box<str>,
    pub(super) node: Option<Box<str>>,
    pub(super) ended: bool,
}

/// Namespace and service account, on a node.
type Beside = (Box<str>, Box<str>, Box<str>);

#[derive(Debug, Default)]
pub(super) struct Known {
    /// By namespace and name.
    pods: HashMap<(Box<str>, Box<str>), KnownPod>,
    /// How many pods of an account run on a node and have not ended.
    beside: HashMap<Beside, u32>,
    /// UIDs by name.
    nodes: HashMap<Box<str>, Box<str>>,
}

impl Known {
    pub(super) fn pod(&self, namespace: &str, name: &str) -> Option<&KnownPod> {
        self.pods.get(&(namespace.into(), name.into()))
    }

    pub(super) fn node_uid(&self, name: &str) -> Option<&str> {
        self.nodes.get(name).map(AsRef::as_ref)
    }

    pub(super) fn runs_on(&self, namespace: &str, account: &str, node: &str) -> bool {
        self.beside.contains_key(&(namespace.into(), account.into(), node.into()))
    }

    fn put(&mut self, pod: WatchedPod) {
        let (Some(namespace), Some(name), Some(uid)) = (pod.metadata.namespace, pod.metadata.name, pod.metadata.uid)
        else {
            return;
        };
        let known = KnownPod {
            uid: uid.into(),
            account: pod.spec.service_account_name.unwrap_or_default().into(),
            node: pod.spec.node_name.map(Into::into),
            ended: matches!(pod.status.phase.as_deref(), Some("Succeeded" | "Failed")),
        };
        let key: (Box<str>, Box<str>) = (namespace.into(), name.into());
        self.count(&key.0, &known, true);
        if let Some(before) = self.pods.insert(key.clone(), known) {
            self.count(&key.0, &before, false);
        }
    }

    fn remove(&mut self, pod: WatchedPod) {
        let (Some(namespace), Some(name)) = (pod.metadata.namespace, pod.metadata.name) else { return };
        let key: (Box<str>, Box<str>) = (namespace.into(), name.into());
        if let Some(before) = self.pods.remove(&key) {
            self.count(&key.0, &before, false);
        }
    }

    fn count(&mut self, namespace: &str, pod: &KnownPod, one_more: bool) {
        let Some(node) = pod.node.clone().filter(|_| !pod.ended) else { return };
        let key = (namespace.into(), pod.account.clone(), node);
        let count = self.beside.get(&key).copied().unwrap_or_default();
        let count = if one_more { count.saturating_add(1) } else { count.saturating_sub(1) };
        if count == 0 {
            self.beside.remove(&key);
        } else {
            self.beside.insert(key, count);
        }
    }
}

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
    /// Why nobody is allowed or refused by what is known.
    pub unknown: Option<PodsUnknown>,
    /// What keeps us from hearing of changes.
    pub problem: Option<String>,
}

/// The pods and nodes of one cluster.
#[derive(Default)]
pub struct PodIndex {
    known: RwLock<Known>,
    of_pods: RwLock<Heard>,
    of_nodes: RwLock<Heard>,
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
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Follows the cluster's pods and nodes for ever.
    pub async fn follow(&self, server: &ApiServer) {
        let pods = Whole(|| Api::<WatchedPod>::all(server.client()));
        let nodes = Metadata(|| Api::<Node>::all(server.client()));
        tokio::join!(
            follow(&pods, self as &dyn Listener<WatchedPod>, |pod| pod.metadata.resource_version.as_deref()),
            follow(&nodes, self as &dyn Listener<PartialObjectMeta<Node>>, |node| {
                node.metadata.resource_version.as_deref()
            }),
        );
    }

    /// How well they are known at the moment.
    #[must_use]
    pub fn health(&self) -> PodsHealth {
        let (pods, nodes) = {
            let known = read(&self.known);
            (known.pods.len(), known.nodes.len())
        };
        let heard = [read(&self.of_pods).clone(), read(&self.of_nodes).clone()];
        let problem = heard.iter().find_map(|heard| heard.problem.clone());
        PodsHealth { pods, nodes, unknown: self.unknown(), problem }
    }

    /// Waits until a list has come, or trouble, after the last time that this was waited for.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Whether a pod of this name and UID is there and has not ended; `None` while that cannot be said.
    #[must_use]
    pub fn is_alive(&self, namespace: &str, name: &str, uid: &str) -> Option<bool> {
        if self.unknown().is_some() {
            return None;
        }
        Some(read(&self.known).pod(namespace, name).is_some_and(|pod| *pod.uid == *uid && !pod.ended))
    }

    /// What is known, unless it is not to be believed.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn look<T>(&self, at: impl FnOnce(&Known) -> T) -> Result<T, PodsUnknown> {
        self.unknown().map_or_else(|| Ok(at(&read(&self.known))), Err)
    }

    fn unknown(&self) -> Option<PodsUnknown> {
        let at = |heard: &RwLock<Heard>| read(heard).at;
        match (at(&self.of_pods), at(&self.of_nodes)) {
            (Some(pods), Some(nodes)) if pods.min(nodes).elapsed() <= BELIEVED => None,
            (Some(_), Some(_)) => Some(PodsUnknown::Stale),
            _ => Some(PodsUnknown::NotSynced),
        }
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
        (known.pods, known.beside) = (newer.pods, newer.beside);
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

    fn failed(&self, error: &AuthenticationError) {
        not_heard(&self.of_nodes, error);
        self.changed.notify_one();
    }
}

/// A pod as it is read: most of what it holds is passed over.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct WatchedPod {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: WatchedSpec,
    #[serde(default)]
    status: WatchedStatus,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WatchedSpec {
    service_account_name: Option<String>,
    node_name: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct WatchedStatus {
    phase: Option<String>,
}

impl Resource for WatchedPod {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> std::borrow::Cow<'_, str> {
        Pod::kind(&())
    }

    fn group((): &()) -> std::borrow::Cow<'_, str> {
        Pod::group(&())
    }

    fn version((): &()) -> std::borrow::Cow<'_, str> {
        Pod::version(&())
    }

    fn plural((): &()) -> std::borrow::Cow<'_, str> {
        Pod::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
#[path = "pods_tests.rs"]
mod tests;
