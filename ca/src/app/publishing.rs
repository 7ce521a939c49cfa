//! What publishes the trust bundle in a cluster, put together.

use std::sync::Arc;

use prometheus::IntCounterVec;
use signet_core::publication::cluster_trust_bundle;
use signet_core::seams::publisher::{BundlePublisher, Found};
use signet_plugins::kubernetes::{ApiServer, Right};
use signet_plugins::publisher::{
    Call, Came, ClusterTrustBundlePublisher, ConfigMapPublisher, ConfigMapSettings, Istiod, OnCall, Verb,
};
use signet_runtime::metrics::{MetricError, Metrics};

use super::cluster_set::Surroundings;
use super::kubernetes::Server;
use super::passing::Tasks;
use crate::config::{self, Cluster, ConfigMaps, Publish};
use crate::publishing::{Keeper, Shown};

/// Counts what publishers ask of API servers, of all clusters: labels never hold a name from outside.
pub(super) struct Calls {
    on_call: Arc<OnCall>,
}

impl Calls {
    /// Registers the metrics.
    pub(super) fn new(metrics: &Metrics) -> Result<Self, MetricError> {
        let calls = metrics.counters(
            "signet_ca_publisher_calls_total",
            "Calls of publishers to API servers by what was asked and what came of it.",
            &["verb", "result"],
        )?;
        let bytes = metrics.counters(
            "signet_ca_publisher_bytes_total",
            "Bytes of bodies that publishers sent to API servers and received from them, but for what is followed.",
            &["direction"],
        )?;
        for verb in Verb::ALL {
            for came in Came::ALL {
                calls.with_label_values(&[verb.label(), came.label()]).reset();
            }
        }
        for direction in ["sent", "received"] {
            bytes.with_label_values(&[direction]).reset();
        }
        Ok(Self { on_call: counting(calls, bytes) })
    }
}

fn counting(calls: IntCounterVec, bytes: IntCounterVec) -> Arc<OnCall> {
    Arc::new(move |call: Call| {
        calls.with_label_values(&[call.verb.label(), call.came.label()]).inc();
        let (sent, received) = call.bytes;
        bytes.with_label_values(&["sent"]).inc_by(sent as u64);
        bytes.with_label_values(&["received"]).inc_by(received as u64);
    })
}

/// The publishers of a cluster.
pub(super) struct Publishing {
    publish: Publish,
    shown: Vec<Arc<Shown>>,
    tasks: Tasks,
}

impl Publishing {
    /// What is published in a cluster, so that what is published already can be kept; nothing where nothing is.
    pub(super) fn of(cluster: &Cluster, before: Option<&Arc<Self>>) -> Option<Arc<Self>> {
        let publish = cluster.publish.clone();
        if publish == Publish::default() {
            return None;
        }
        let kept = before.filter(|before| before.publish == publish).map(Arc::clone);
        let shown = publish.publishers(&cluster.id).iter().map(|_| Arc::default()).collect();
        Some(kept.unwrap_or_else(|| Arc::new(Self { publish, shown, tasks: Tasks::default() })))
    }

    /// What each of them has found last, as far as it is this replica that publishes.
    pub(super) fn found(&self) -> Vec<Option<Found>> {
        self.shown.iter().map(|shown| shown.found()).collect()
    }

    pub(super) fn start(&self, cluster: &str, server: &Server, around: &Surroundings) {
        if !self.tasks.begin() {
            return;
        }
        for (publisher, shown) in self.publishers(cluster, &server.api, &around.calls).into_iter().zip(&self.shown) {
            let name = format!("publisher {}", publisher.name());
            let condition = around.readiness.passing(name.as_str());
            let keeper = Keeper::new(publisher, around.publishing.clone(), condition, Arc::clone(shown));
            self.tasks.spawn(&around.spawner, &name, keeper.run());
        }
    }

    fn publishers(&self, cluster: &str, server: &Arc<ApiServer>, calls: &Calls) -> Vec<Arc<dyn BundlePublisher>> {
        let mut all: Vec<Arc<dyn BundlePublisher>> = Vec::new();
        let (server, on_call) = (|| Arc::clone(server), || Arc::clone(&calls.on_call));
        let mut names = self.publish.publishers(cluster).into_iter();
        let mut name = || names.next().unwrap_or_default();
        if let Some(maps) = &self.publish.config_maps {
            all.push(Arc::new(ConfigMapPublisher::new(&name(), server(), on_call(), settings(maps))));
        }
        if let Some(bundle) = &self.publish.cluster_trust_bundle {
            let object = (bundle.signer.as_str(), bundle.name.as_str());
            all.push(Arc::new(ClusterTrustBundlePublisher::new(&name(), server(), on_call(), object)));
        }
        all
    }
}

fn settings(maps: &ConfigMaps) -> ConfigMapSettings {
    let ConfigMaps { name, key, labels, revocation_lists, revocation_name, revocation_key, namespaces, except, istiod } =
        maps.clone();
    let istiod = match istiod {
        config::Istiod::Leave => Istiod::Leave,
        config::Istiod::Replace => Istiod::Replace,
    };
    ConfigMapSettings {
        name,
        key,
        labels,
        revocation_lists,
        revocation_name,
        revocation_key,
        namespaces,
        except,
        istiod,
    }
}

/// What the CA's account must be allowed for it.
pub(super) fn rights(publish: &Publish) -> Vec<Right> {
    let mut all = Vec::new();
    if let Some(maps) = &publish.config_maps {
        all.extend(["list", "watch"].map(|verb| Right::new(verb, "", "namespaces")));
        all.push(Right::new("create", "", "configmaps"));
        let mut named = vec![(maps.name.as_str(), &["list", "watch", "get", "patch"][..])];
        if maps.revocation_lists {
            named.push((maps.revocation_name.as_str(), &["list", "watch", "get", "patch", "delete"]));
        }
        for (name, verbs) in named {
            all.extend(verbs.iter().map(|verb| Right::new(verb, "", "configmaps").called(name)));
        }
    }
    if let Some(bundle) = &publish.cluster_trust_bundle {
        let name = cluster_trust_bundle(&bundle.signer, &bundle.name);
        let right = |verb| Right::new(verb, "certificates.k8s.io", "clustertrustbundles");
        all.push(right("create"));
        all.extend(["get", "patch"].map(|verb| right(verb).called(&name)));
        all.push(Right::new("attest", "certificates.k8s.io", "signers").called(&bundle.signer));
    }
    all
}
