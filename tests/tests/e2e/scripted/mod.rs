//! The CA beside API servers that say what a test wants, when it wants it.

mod away;
mod connect;
mod gone_pods;
mod health;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use signet_test_servers::scripted::{Answer, Asked, ScriptedApi};
use signet_tests::failure::{Failure, Outcome};
use signet_tests::harness::{Dev, yaml};
use tokio::sync::mpsc;

/// The longest that something may take to be seen here.
const SOON: Duration = Duration::from_secs(60);

/// What is answered to a request instead of what a good server says.
type Instead = Box<dyn Fn(&Asked) -> Option<Answer> + Send + Sync>;

/// A cluster with a node agent and a workload on node-a, and another workload on node-b.
struct Cluster {
    api: ScriptedApi,
    /// Watches of pods that are open, or were.
    watches: Arc<Mutex<Vec<mpsc::UnboundedSender<String>>>>,
}

fn pod(name: &str, account: &str, node: &str) -> Value {
    json!({
        "metadata": {"namespace": "demo", "name": name, "uid": format!("uid-{name}"), "resourceVersion": "7"},
        "spec": {"serviceAccountName": account, "nodeName": node},
        "status": {"phase": "Running"},
    })
}

fn list(kind: &str, items: &[Value]) -> Answer {
    let version = json!({"resourceVersion": "7"});
    Answer::json(200, &json!({"kind": kind, "apiVersion": "v1", "metadata": version, "items": items}))
}

/// A watch on which nothing happens.
fn watched(all: &Mutex<Vec<mpsc::UnboundedSender<String>>>) -> Answer {
    let (sender, more) = mpsc::unbounded_channel();
    all.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
    Answer::watch(&[], more)
}

fn no(status: u16, reason: &str, message: &str) -> Answer {
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": status,
    });
    Answer::json(status, &body)
}

impl Cluster {
    async fn start(dev: &Dev) -> Outcome<Self> {
        Self::start_with(dev, Box::new(|_| None)).await
    }

    async fn start_with(dev: &Dev, instead: Instead) -> Outcome<Self> {
        let (watches, others) = (Arc::default(), Mutex::default());
        let (keep, keys) = (Arc::clone(&watches), dev.text("jwks.json")?);
        let issuer = issuer(dev)?;
        let answer = move |asked: Asked| {
            let path = asked.path.as_str();
            let answer = instead(&asked).unwrap_or_else(|| match path.trim_end_matches('?') {
                "/openid/v1/jwks" => Answer::text(200, "application/jwk-set+json", &keys),
                "/.well-known/openid-configuration" => {
                    Answer::json(200, &json!({"issuer": issuer, "jwks_uri": "https://192.0.2.1/openid/v1/jwks"}))
                }
                path if path.starts_with("/api/v1/pods") && path.contains("watch") => watched(&keep),
                path if path.contains("watch") => watched(&others),
                path if path.starts_with("/api/v1/pods") => list(
                    "PodList",
                    &[pod("agent", "ztunnel", "node-a"), pod("web-1", "web", "node-a"), pod("far-1", "far", "node-b")],
                ),
                path if path.starts_with("/api/v1/nodes") => list(
                    "NodeList",
                    &["node-a", "node-b"].map(|name| json!({"metadata": {"name": name, "uid": format!("uid-{name}")}})),
                ),
                "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews" => {
                    let mut answer = asked.body.clone();
                    answer["status"] = json!({"allowed": true});
                    Answer::json(201, &answer)
                }
                path if path.starts_with("/api/v1/namespaces/demo/serviceaccounts/") => {
                    Answer::json(200, &json!({"metadata": {"namespace": "demo", "name": "ztunnel", "uid": "u"}}))
                }
                path => no(404, "NotFound", &format!("{path} was not found")),
            });
            std::future::ready(answer)
        };
        let api = ScriptedApi::start(answer).await.map_err(Failure::while_doing("start an API server"))?;
        std::fs::write(dev.path("kubeconfig"), api.kubeconfig()).map_err(Failure::io("write a kubeconfig"))?;
        Ok(Self { api, watches })
    }

    /// How often pods were listed, and how often a watch of them was opened.
    fn asked_for_pods(&self) -> (usize, usize) {
        let asked = self.api.asked();
        let of_pods: Vec<&Asked> = asked.iter().filter(|asked| asked.path.starts_with("/api/v1/pods")).collect();
        let watches = of_pods.iter().filter(|asked| asked.path.contains("watch")).count();
        (of_pods.len() - watches, watches)
    }

    /// Whether somebody still listens to every watch of pods.
    fn is_watched(&self) -> bool {
        let watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        !watches.is_empty() && watches.iter().all(|watch| !watch.is_closed())
    }
}

/// The issuer of the installation's tokens.
fn issuer(dev: &Dev) -> Outcome<Value> {
    Ok(yaml::read(&dev.path("signet-ca.yaml"))?["clusters"][0]["tokens"]["issuer"].clone())
}

/// One cluster whose keys are read from the API server, and whose node agents are demo/ztunnel.
fn trusting(dev: &Dev) -> Outcome<Value> {
    Ok(json!({
        "id": "Kubernetes", "aliases": ["cluster-1"], "trust_domain": "cluster.local",
        "api_server": dev.path("kubeconfig").display().to_string(),
        "trusted_node_accounts": ["demo/ztunnel"],
        "tokens": {"kind": "jwks", "issuer": issuer(dev)?, "from": "api-server"},
    }))
}

/// Replaces the configuration as a whole.
fn put(dev: &Dev, change: impl FnOnce(&mut Value)) -> Outcome {
    let mut config = yaml::read(&dev.path("signet-ca.yaml"))?;
    change(&mut config);
    let new = dev.path("new.yaml");
    std::fs::write(&new, config.to_string())
        .and_then(|()| std::fs::rename(&new, dev.path("signet-ca.yaml")))
        .map_err(Failure::io("replace the configuration"))
}
