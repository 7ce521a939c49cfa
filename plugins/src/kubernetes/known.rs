//! What is known of the objects of a cluster: as little of each as decisions need.

use std::collections::{HashMap, HashSet};

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::NamespaceResourceScope;
use serde::Deserialize;

/// What of a pod matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KnownPod {
    pub(super) uid: Box<str>,
    pub(super) account: Box<str>,
    pub(super) node: Option<Box<str>>,
    pub(super) ended: bool,
}

/// Namespace and name.
type Key = (Box<str>, Box<str>);

/// Namespace and service account, on a node.
type Beside = (Box<str>, Box<str>, Box<str>);

/// What a cluster has.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// By namespace and name.
    pub(super) pods: HashMap<Key, KnownPod>,
    /// How many pods of an account run on a node and have not ended.
    pub(super) beside: HashMap<Beside, u32>,
    /// UIDs of pods that have not ended.
    pub(super) running: HashSet<Box<str>>,
    /// UIDs by name.
    pub(super) nodes: HashMap<Box<str>, Box<str>>,
    /// UIDs of service accounts by namespace and name.
    pub(super) accounts: HashMap<Key, Box<str>>,
}

impl Known {
    pub(super) fn pod(&self, namespace: &str, name: &str) -> Option<&KnownPod> {
        self.pods.get(&(namespace.into(), name.into()))
    }

    /// The pods of a service account, each with its name.
    pub(super) fn pods_of<'a>(
        &'a self,
        namespace: &'a str,
        account: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a KnownPod)> {
        let all = self.pods.iter().filter(move |((of, _), pod)| **of == *namespace && *pod.account == *account);
        all.map(|((_, name), pod)| (&**name, pod))
    }

    pub(super) fn account_uid(&self, namespace: &str, name: &str) -> Option<&str> {
        self.accounts.get(&(namespace.into(), name.into())).map(AsRef::as_ref)
    }

    pub(super) fn node_uid(&self, name: &str) -> Option<&str> {
        self.nodes.get(name).map(AsRef::as_ref)
    }

    pub(super) fn runs_on(&self, namespace: &str, account: &str, node: &str) -> bool {
        self.beside.contains_key(&(namespace.into(), account.into(), node.into()))
    }

    pub(super) fn put(&mut self, pod: WatchedPod) {
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
        let key: Key = (namespace.into(), name.into());
        self.count(&key.0, &known, true);
        let running = (!known.ended).then(|| known.uid.clone());
        if let Some(before) = self.pods.insert(key.clone(), known) {
            self.count(&key.0, &before, false);
            self.running.remove(&before.uid);
        }
        self.running.extend(running);
    }

    pub(super) fn remove(&mut self, pod: WatchedPod) {
        let (Some(namespace), Some(name)) = (pod.metadata.namespace, pod.metadata.name) else { return };
        let key: Key = (namespace.into(), name.into());
        if let Some(before) = self.pods.remove(&key) {
            self.count(&key.0, &before, false);
            self.running.remove(&before.uid);
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

/// Namespace and name, and the UID.
pub(super) fn account_of(metadata: ObjectMeta) -> Option<(Key, Box<str>)> {
    Some(((metadata.namespace?.into(), metadata.name?.into()), metadata.uid?.into()))
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

impl WatchedPod {
    /// The version of the list of pods in which it is like this.
    pub(super) fn version(&self) -> Option<&str> {
        self.metadata.resource_version.as_deref()
    }
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
