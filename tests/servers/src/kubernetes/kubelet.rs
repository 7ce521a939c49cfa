//! Plays the part of a kubelet, by the credentials of a node: asks for the certificates of its pods.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kube::api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::config::Kubeconfig;
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;

use super::api::{Cluster, MadePod};
use super::{ASK, Kubernetes, START, client_of};
use crate::error::ServerError;

/// A kubelet.
#[derive(Clone)]
pub struct Kubelet {
    client: Client,
    /// Name and UID of its node.
    pub node: (String, String),
}

/// What it asks for.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The pod.
    pub pod: MadePod,
    /// Name and UID of its service account.
    pub account: (String, String),
    /// The signer.
    pub signer: String,
    /// The request for the key, DER in base64.
    pub csr: String,
    /// The longest lifetime, in seconds.
    pub longest: u32,
}

/// The kind of its requests.
fn requests() -> ApiResource {
    ApiResource {
        group: "certificates.k8s.io".to_owned(),
        version: "v1".to_owned(),
        api_version: "certificates.k8s.io/v1".to_owned(),
        kind: "PodCertificateRequest".to_owned(),
        plural: "podcertificaterequests".to_owned(),
    }
}

impl Kubernetes {
    /// The kubelet of a node: an API server knows kubelets by their names and their group.
    ///
    /// # Errors
    /// When the kubeconfig cannot be read.
    pub async fn kubelet(&self, name: &str, uid: &str) -> Result<Kubelet, ServerError> {
        let refused = |error: &dyn std::fmt::Display| ServerError::refused("be a kubelet", error.to_string());
        let mut config = Kubeconfig::read_from(self.admin_file()).map_err(|error| refused(&error))?;
        for user in &mut config.auth_infos {
            let user = user.auth_info.get_or_insert_default();
            user.impersonate = Some(format!("system:node:{name}"));
            user.impersonate_groups = Some(vec!["system:nodes".to_owned(), "system:authenticated".to_owned()]);
        }
        Ok(Kubelet { client: client_of(config).await?, node: (name.to_owned(), uid.to_owned()) })
    }
}

impl Cluster {
    /// Makes a pod with a volume for a certificate of this signer, on a node.
    ///
    /// # Errors
    /// What the server said.
    pub async fn pod_with_certificate(
        &self,
        (namespace, name): (&str, &str),
        (account, node): (&str, &str),
        signer: &str,
    ) -> Result<MadePod, ServerError> {
        let source = json!({"podCertificate": {
            "signerName": signer, "keyType": "ECDSAP256", "credentialBundlePath": "credentials.pem",
        }});
        let spec = json!({
            "serviceAccountName": account,
            "nodeName": node,
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "main", "image": "none"}],
            "volumes": [{"name": "identity", "projected": {"sources": [source]}}],
        });
        self.pod_of(namespace, name, spec).await
    }
}

impl Wanted {
    /// The request, for a node.
    #[must_use]
    pub fn spec(&self, (node, node_uid): (&str, &str)) -> Value {
        json!({
            "signerName": self.signer, "podName": self.pod.name, "podUID": self.pod.uid,
            "serviceAccountName": self.account.0, "serviceAccountUID": self.account.1,
            "nodeName": node, "nodeUID": node_uid,
            "maxExpirationSeconds": self.longest, "stubPKCS10Request": self.csr,
        })
    }
}

impl Kubelet {
    /// Asks, and gives the name of the request and its UID. The server may not have heard yet of the pod that it has just made.
    ///
    /// # Errors
    /// What the server said.
    pub async fn ask(&self, wanted: &Wanted) -> Result<(String, String), ServerError> {
        let spec = wanted.spec((&self.node.0, &self.node.1));
        let end = Instant::now() + START;
        loop {
            match make_request(&self.client, &wanted.pod.namespace, &spec).await {
                Err(error) if Instant::now() < end && error.to_string().contains("not found") => {
                    tokio::time::sleep(ASK).await;
                }
                other => return other,
            }
        }
    }
}

/// Makes a request of this content, and gives its name and its UID.
///
/// # Errors
/// What the server said.
pub async fn make_request(client: &Client, namespace: &str, spec: &Value) -> Result<(String, String), ServerError> {
    let resource = requests();
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    let mut object = DynamicObject::new("", &resource);
    (object.metadata.name, object.metadata.generate_name) = (None, Some("req-".to_owned()));
    object.data = json!({ "spec": spec });
    let made = api.create(&PostParams::default(), &object).await;
    let made = made.map_err(|error| ServerError::refused("ask for a certificate", error.to_string()))?;
    Ok((made.metadata.name.unwrap_or_default(), made.metadata.uid.unwrap_or_default()))
}

/// Tries to put another status in the place of a request's.
///
/// # Errors
/// What the server said.
pub async fn overwrite_status(client: &Client, namespace: &str, name: &str, status: Value) -> Result<(), ServerError> {
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &requests());
    let patch = Patch::Merge(json!({ "status": status }));
    let patched = api.patch_status(name, &PatchParams::default(), &patch).await;
    patched.map(drop).map_err(|error| ServerError::refused("change a status", error.to_string()))
}

/// What becomes of the requests of a namespace.
pub struct Answers {
    heard: mpsc::UnboundedReceiver<(String, Instant, Value)>,
    known: BTreeMap<String, (Instant, Value)>,
    _listening: tokio::task::JoinSet<()>,
}

impl Answers {
    /// Listens from now on, also to what was answered before.
    #[must_use]
    pub fn of(client: &Client, namespace: &str) -> Self {
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &requests());
        let (sender, heard) = mpsc::unbounded_channel();
        let mut listening = tokio::task::JoinSet::new();
        listening.spawn(async move {
            while !sender.is_closed() {
                let Ok(events) = api.watch(&WatchParams::default().timeout(60), "0").await else {
                    tokio::time::sleep(ASK).await;
                    continue;
                };
                let mut events = std::pin::pin!(events);
                while let Some(Ok(event)) = events.next().await {
                    let (WatchEvent::Added(object) | WatchEvent::Modified(object)) = event else { continue };
                    let is_answered = object.data.pointer("/status/conditions/0/type").is_some();
                    if let (true, Some(name)) = (is_answered, object.metadata.name) {
                        let _closed =
                            sender.send((name, Instant::now(), object.data.get("status").cloned().unwrap_or_default()));
                    }
                }
            }
        });
        Self { heard, known: BTreeMap::new(), _listening: listening }
    }

    /// When a request was answered first, and how.
    ///
    /// # Errors
    /// When that takes too long.
    pub async fn answer(&mut self, name: &str, within: Duration) -> Result<(Instant, Value), ServerError> {
        let answering = async {
            loop {
                if let Some(answer) = self.known.get(name) {
                    return Some(answer.clone());
                }
                let (name, at, status) = self.heard.recv().await?;
                self.known.entry(name).or_insert((at, status));
            }
        };
        let answer = tokio::time::timeout(within, answering).await.ok().flatten();
        answer.ok_or_else(|| ServerError::refused("wait for a certificate", format!("{name} is not answered")))
    }
}
