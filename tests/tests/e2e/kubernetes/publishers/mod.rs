//! The trust bundle in the objects of a real cluster.

mod cost;
mod owners;
mod replicas;
mod rotation;

use std::time::Duration;

use serde_json::{Value, json};
use signet_test_servers::kubernetes::{Cluster, Kubernetes};
use signet_tests::client::keys;
use signet_tests::failure::{Failure, Outcome};
use signet_tests::harness::process::eventually;
use signet_tests::harness::rotation::Pace;
use signet_tests::harness::{Ca, Dev, DevOptions};

use super::{Workload, credentials, done, send};

/// The longest that something may take to be seen.
const SOON: Duration = Duration::from_secs(120);
const ROOTS: &str = "istio-ca-root-cert";

/// An installation that publishes in the namespaces of this test.
struct Stage {
    dev: Dev,
    /// Who the CA is for the API server.
    own: Workload,
    /// In the hands of somebody who may do everything.
    cluster: Cluster,
    /// Where the API server is.
    url: String,
    /// The value of the label of this test's namespaces.
    label: String,
}

/// One whose certificates live so short that rotations end soon.
fn installation() -> Outcome<Dev> {
    Dev::init(&DevOptions { svid_ttl: Some("1m".to_owned()), ..DevOptions::default() })
}

/// What `config_maps` and `cluster_trust_bundle` need.
fn rights(label: &str) -> Value {
    json!([
        {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["list", "watch"]},
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create"]},
        {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": [ROOTS, "istio-ca-crl"],
         "verbs": ["list", "watch", "get", "patch"]},
        {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["istio-ca-crl"], "verbs": ["delete"]},
        {"apiGroups": ["certificates.k8s.io"], "resources": ["clustertrustbundles"], "verbs": ["create"]},
        {"apiGroups": ["certificates.k8s.io"], "resources": ["clustertrustbundles"],
         "resourceNames": [format!("signet.internal:workload:{label}")], "verbs": ["get", "patch"]},
        {"apiGroups": ["certificates.k8s.io"], "resources": ["signers"],
         "resourceNames": ["signet.internal/workload"], "verbs": ["attest"]},
    ])
}

impl Stage {
    async fn new() -> Outcome<Self> {
        Self::on(installation()?).await
    }

    async fn on(dev: Dev) -> Outcome<Self> {
        let kubernetes = Kubernetes::shared().map_err(|error| Failure::unexpected(error.to_string()))?;
        Self::in_cluster(dev, kubernetes).await
    }

    async fn in_cluster(dev: Dev, kubernetes: &Kubernetes) -> Outcome<Self> {
        dev.set_pace(&Pace::default())?;
        let own = credentials(&dev, kubernetes, json!([])).await?;
        let label = own.namespace.clone();
        let stage = Self { cluster: own.cluster.clone(), dev, own, url: kubernetes.url(), label };
        stage.allow(rights(&stage.label)).await?;
        stage.publish(json!({}))?;
        Ok(stage)
    }

    /// What the CA may do from now on.
    async fn allow(&self, rights: Value) -> Outcome {
        let allowed = self.cluster.allow(&self.own.namespace, "web", rights).await;
        allowed.map_err(Failure::while_doing("give the CA its rights"))
    }

    /// Publishes in ConfigMaps of this test's namespaces, with these settings beside.
    fn publish(&self, more: Value) -> Outcome {
        let mut maps = json!({"namespaces": format!("test={}", self.label)});
        if let (Some(maps), Value::Object(more)) = (maps.as_object_mut(), more) {
            maps.extend(more);
        }
        self.section(json!({"config_maps": maps}))
    }

    fn section(&self, publish: Value) -> Outcome {
        let kubeconfig = self.dev.path("kubeconfig").display().to_string();
        self.dev.edit("signet-ca.yaml", |config| {
            config["clusters"][0]["api_server"] = json!(kubeconfig);
            config["clusters"][0]["publish"] = publish;
            Ok(())
        })
    }

    async fn send(&self, method: &str, path: &str, body: Value) -> Outcome<(u16, Value)> {
        send(&self.cluster, method, path, body).await
    }

    async fn done(&self, method: &str, path: &str, body: Value) -> Outcome<Value> {
        done(&self.cluster, method, path, body).await
    }

    /// Makes a namespace of this test.
    async fn namespace(&self, number: usize) -> Outcome<String> {
        let name = format!("{}-{number}", self.label);
        let made = json!({"metadata": {"name": name, "labels": {"test": self.label}}});
        self.done("POST", "/api/v1/namespaces", made).await.map(|_| name)
    }

    async fn namespaces(&self, count: usize) -> Outcome<Vec<String>> {
        let mut names = Vec::new();
        for number in 0..count {
            names.push(self.namespace(number).await?);
        }
        Ok(names)
    }

    fn path(namespace: &str) -> String {
        format!("/api/v1/namespaces/{namespace}/configmaps/{ROOTS}")
    }

    /// The ConfigMap of a namespace; null for none.
    async fn map(&self, namespace: &str) -> Outcome<Value> {
        let (status, map) = self.send("GET", &Self::path(namespace), Value::Null).await?;
        Ok(if status == 200 { map } else { Value::Null })
    }

    async fn text(&self, namespace: &str) -> Outcome<String> {
        Ok(self.map(namespace).await?["data"]["root-cert.pem"].as_str().unwrap_or_default().to_owned())
    }

    /// The ids of the roots of every namespace of this test, in one answer; sorted, by namespace.
    async fn all(&self) -> Outcome<Vec<(String, Vec<String>)>> {
        let list = format!("/api/v1/configmaps?fieldSelector=metadata.name%3D{ROOTS}");
        let answer = self.done("GET", &list, Value::Null).await?;
        let mut all = Vec::new();
        for map in answer["items"].as_array().into_iter().flatten() {
            let namespace = map["metadata"]["namespace"].as_str().unwrap_or_default();
            if namespace.starts_with(&format!("{}-", self.label)) {
                let mut ids = keys::ids(map["data"]["root-cert.pem"].as_str().unwrap_or_default())?;
                ids.sort();
                all.push((namespace.to_owned(), ids));
            }
        }
        Ok(all)
    }

    /// Waits until so many namespaces have exactly these roots.
    async fn all_have(&self, count: usize, roots: &[&str]) -> Outcome {
        let mut wanted: Vec<String> = roots.iter().map(|&root| root.to_owned()).collect();
        wanted.sort();
        let reached = async || {
            let all = self.all().await.ok()?;
            (all.len() == count && all.iter().all(|(_, roots)| *roots == wanted)).then_some(())
        };
        eventually(&format!("{wanted:?} in {count} namespaces"), SOON, reached).await
    }
}

/// The state and detail of the publisher's condition.
async fn condition(ca: &mut Ca, kind: &str) -> Outcome<(String, String)> {
    super::condition_like(ca, &format!("publisher {kind}/Kubernetes/")).await
}

/// Waits until the publisher's condition says this.
async fn told(ca: &mut Ca, kind: &str, state: &str, detail: &str) -> Outcome {
    super::told(ca, &format!("publisher {kind}/Kubernetes/"), state, detail).await
}
