//! The CA beside a real Kubernetes API server: `make test-kubernetes` builds one and runs these.

mod canary;
mod cert_manager;
pub(crate) mod chart;
mod chart_backends;
mod client_certificates;
mod connect;
mod exchanges;
mod followed;
mod impersonation;
mod installed;
mod matrix;
mod pod_certificates;
mod published_objects;
mod publishers;
mod samples;
mod tokens;
mod upgrade;

use std::time::Duration;

use serde_json::{Value, json};
use signet_test_servers::kubernetes::{Cluster, ISSUER, Kubernetes, MadePod, Request};
use signet_tests::client::ask::Ask;
use signet_tests::client::certify::Client;
use signet_tests::client::csr;
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::{Ca, Dev};
use tonic::{Code, Status};

/// The longest that a change in a cluster may take to be seen here.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// A pod of an account on a node, in a namespace of its own.
pub(crate) struct Workload {
    pub(crate) cluster: Cluster,
    pub(crate) namespace: String,
    pub(crate) node: String,
    pub(crate) pod: MadePod,
}

impl Workload {
    pub(crate) async fn of(kubernetes: &Kubernetes) -> Outcome<Self> {
        let cluster = kubernetes.cluster().await.map_err(Failure::while_doing("reach the API server"))?;
        let made = Failure::while_doing::<signet_test_servers::ServerError>;
        let namespace = cluster.namespace().await.map_err(made("make a namespace"))?;
        cluster.account(&namespace, "web").await.map_err(made("make an account"))?;
        let node = format!("node-of-{namespace}");
        cluster.node(&node).await.map_err(made("make a node"))?;
        let pod = cluster.pod(&namespace, "web-1", "web", &node).await.map_err(made("make a pod"))?;
        Ok(Self { cluster, namespace, node, pod })
    }

    pub(crate) async fn token(&self) -> Outcome<String> {
        let token = self.cluster.token_of_pod(&self.pod, "web", "istio-ca").await;
        token.map_err(Failure::while_doing("request a token"))
    }

    pub(crate) fn identity(&self) -> String {
        format!("spiffe://cluster.local/ns/{}/sa/web", self.namespace)
    }
}

/// Who the CA is for the API server: an account of its own, with these rights and a token in a file.
pub(crate) async fn credentials(dev: &Dev, kubernetes: &Kubernetes, rights: Value) -> Outcome<Workload> {
    let own = Workload::of(kubernetes).await?;
    credentials_of(dev, kubernetes, &own, rights).await?;
    Ok(own)
}

/// The same as somebody who is there.
pub(crate) async fn credentials_of(dev: &Dev, kubernetes: &Kubernetes, own: &Workload, rights: Value) -> Outcome {
    let made = Failure::while_doing::<signet_test_servers::ServerError>;
    own.cluster.allow(&own.namespace, "web", rights).await.map_err(made("give the CA its rights"))?;
    let token = own.cluster.token(&own.namespace, "web", ISSUER).await.map_err(made("make the CA's own token"))?;
    let file = dev.path("ca-token");
    std::fs::write(&file, token).map_err(Failure::io("write the CA's own token"))?;
    std::fs::write(dev.path("kubeconfig"), kubernetes.kubeconfig_for(&file)).map_err(Failure::io("write a kubeconfig"))
}

/// What reviews need.
pub(crate) fn may_review() -> Value {
    json!([{"apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"]}])
}

/// What following pods and nodes needs.
pub(crate) fn may_watch() -> Value {
    json!([{"apiGroups": [""], "resources": ["pods", "nodes", "serviceaccounts"], "verbs": ["list", "watch"]}])
}

/// One cluster whose tokens are verified like this, asked through the kubeconfig of [`credentials`].
pub(crate) fn cluster_of(dev: &Dev, tokens: Value) -> Outcome {
    let kubeconfig = dev.path("kubeconfig").display().to_string();
    let cluster = json!([{
        "id": "Kubernetes", "trust_domain": "cluster.local", "api_server": kubeconfig, "tokens": tokens,
    }]);
    dev.set_ca("clusters", cluster)
}

pub(crate) async fn ask(client: &Client, token: &str) -> Outcome<Result<Vec<String>, Status>> {
    Ok(client.call(&Ask::new(&csr::like_ztunnel(None)?.csr, token)).await)
}

/// Sends a request to the API server, in the name of somebody who may do everything; gives status and body.
pub(crate) async fn send(cluster: &Cluster, method: &str, path: &str, body: Value) -> Outcome<(u16, Value)> {
    let request = Request { method: method.to_owned(), path: path.to_owned(), accept: None, body };
    let answer = cluster.send(&request).await.map_err(Failure::while_doing("ask the API server"))?;
    Ok((answer.status, answer.body.into_iter().next().unwrap_or_default()))
}

/// The same of one that has to be done.
pub(crate) async fn done(cluster: &Cluster, method: &str, path: &str, body: Value) -> Outcome<Value> {
    let (status, answer) = send(cluster, method, path, body).await?;
    ensure(status < 300, || format!("{method} {path}: {status}: {answer}"))?;
    Ok(answer)
}

/// Asks until the answer is of this code; `None` for a certificate.
pub(crate) async fn until(client: &Client, token: &str, code: Option<Code>) -> Outcome {
    let answer = async {
        loop {
            match ask(client, token).await? {
                Ok(_) if code.is_none() => return Ok(()),
                Err(status) if code == Some(status.code()) => return Ok(()),
                _ => tokio::task::yield_now().await,
            }
        }
    };
    tokio::time::timeout(SOON, answer).await.map_err(|_| Failure::unexpected(format!("never answered {code:?}")))?
}

/// The state and detail of one condition of `/readyz`.
pub(crate) async fn condition(ca: &mut Ca, name: &str) -> Outcome<(String, String)> {
    find(ca, name, |found| found == name).await
}

/// The same of the one whose name begins like this.
pub(crate) async fn condition_like(ca: &mut Ca, begin: &str) -> Outcome<(String, String)> {
    find(ca, begin, |found| found.starts_with(begin)).await
}

async fn find(ca: &mut Ca, name: &str, is: impl Fn(&str) -> bool) -> Outcome<(String, String)> {
    let ready = ca.ready_is(true, SOON).await?;
    let found = ready["checks"].as_array().into_iter().flatten().find(|check| check["name"].as_str().is_some_and(&is));
    let found = found.ok_or_else(|| Failure::unexpected(format!("no condition {name:?} in {ready}")))?;
    let text = |name: &str| found[name].as_str().unwrap_or_default().to_owned();
    Ok((text("state"), text("detail")))
}

/// Waits until readiness says this of a condition; a name that ends with a slash is the beginning of one.
pub(crate) async fn told(ca: &mut Ca, name: &str, state: &str, detail: &str) -> Outcome {
    let mut last = (String::new(), String::new());
    let telling = async {
        loop {
            last = if name.ends_with('/') { condition_like(ca, name).await? } else { condition(ca, name).await? };
            if last.0 == state && last.1.contains(detail) {
                return Ok::<_, Failure>(());
            }
        }
    };
    let over = tokio::time::timeout(SOON, telling).await;
    over.map_err(|_| Failure::unexpected(format!("{name}: never {state}, {detail}; last: {last:?}")))?
}
