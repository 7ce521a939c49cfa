//! cert-manager's own controllers and webhook, on a real API server, certify issuing CAs.

mod approval;
mod issuing;
mod kinds;
mod leaf;
mod rotation;

use std::sync::OnceLock;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use signet_test_servers::kubernetes::{CertManager, Cluster, Kubernetes};
use signet_tests::client::ask::Ask;
use signet_tests::client::certify::Client;
use signet_tests::client::csr;
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::plugged::OwnCa;
use signet_tests::harness::process::eventually;
use signet_tests::harness::{Ca, Dev};
use signet_tests::stage::CLIENT_ID;
use signet_tests::{judge, tools};

use super::{Workload, credentials, done, send};

/// The longest that something may take to be seen.
const SOON: Duration = Duration::from_secs(120);

/// An API server with cert-manager, whose approver approves everything.
fn shared() -> Outcome<&'static Kubernetes> {
    static RUNNING: OnceLock<Result<CertManager, String>> = OnceLock::new();
    let kubernetes = Kubernetes::shared().map_err(|error| Failure::unexpected(error.to_string()))?;
    let running = RUNNING.get_or_init(|| CertManager::start(kubernetes, true).map_err(|error| error.to_string()));
    running.as_ref().map(|_| kubernetes).map_err(|error| Failure::unexpected(error.clone()))
}

/// An issuer in a namespace of its own, and the account that asks it.
struct Stage {
    own: Workload,
    cluster: Cluster,
    /// The kubeconfig of that account.
    kubeconfig: String,
}

impl Stage {
    /// With an issuer whose CA is `signer`, and these roots, for this installation.
    async fn new(kubernetes: &Kubernetes, dev: &Dev, signer: &OwnCa, roots: &[&OwnCa]) -> Outcome<Self> {
        let own = credentials(dev, kubernetes, json!([])).await?;
        let kubeconfig = dev.path("kubeconfig").display().to_string();
        let stage = Self { cluster: own.cluster.clone(), own, kubeconfig };
        stage.allow(documented("rbac.yaml")?).await?;
        stage.put("secrets", "mesh-ca", secret(signer)).await?;
        stage.set_roots(roots).await?;
        let issuer = json!({
            "apiVersion": "cert-manager.io/v1", "kind": "Issuer", "metadata": {"name": "mesh-ca"},
            "spec": {"ca": {"secretName": "mesh-ca"}},
        });
        stage.done("POST", &stage.path("issuers"), issuer).await?;
        Ok(stage)
    }

    /// Makes cert-manager the backend, with more settings than these.
    fn configure(&self, dev: &Dev, more: &Value) -> Outcome {
        dev.set_ca("authority.backend", "cert-manager")?;
        dev.set_ca("authority.cert_manager", self.section(more))
    }

    /// The section of the configuration that says how it is asked, with more settings than these.
    fn section(&self, more: &Value) -> Value {
        let mut section = json!({
            "api_server": self.kubeconfig,
            "namespace": self.own.namespace,
            "issuer": {"name": "mesh-ca"},
            "roots": {"from": "config-map", "name": "mesh-roots"},
        });
        if let (Some(section), Value::Object(more)) = (section.as_object_mut(), more) {
            section.extend(more.clone());
        }
        section
    }

    /// What the CA may do from now on.
    async fn allow(&self, rights: Value) -> Outcome {
        let allowed = self.cluster.allow(&self.own.namespace, "web", rights).await;
        allowed.map_err(Failure::while_doing("give the CA its rights"))
    }

    async fn set_roots(&self, roots: &[&OwnCa]) -> Outcome {
        let text: String = roots.iter().map(|root| root.certificate.as_str()).collect();
        self.put("configmaps", "mesh-roots", json!({"data": {"ca.crt": text}})).await
    }

    async fn set_signer(&self, signer: &OwnCa) -> Outcome {
        self.put("secrets", "mesh-ca", secret(signer)).await
    }

    fn path(&self, kind: &str) -> String {
        let group = if matches!(kind, "secrets" | "configmaps") { "api/v1" } else { "apis/cert-manager.io/v1" };
        format!("/{group}/namespaces/{}/{kind}", self.own.namespace)
    }

    /// Makes an object, or gives it another content.
    async fn put(&self, kind: &str, name: &str, mut object: Value) -> Outcome {
        object["metadata"]["name"] = json!(name);
        let (status, answer) = self.send("POST", &self.path(kind), object.clone()).await?;
        if status == 409 {
            return self.done("PATCH", &format!("{}/{name}", self.path(kind)), object).await.map(drop);
        }
        ensure(status < 300, || format!("{kind} {name}: {status}: {answer}"))
    }

    async fn send(&self, method: &str, path: &str, body: Value) -> Outcome<(u16, Value)> {
        send(&self.cluster, method, path, body).await
    }

    async fn done(&self, method: &str, path: &str, body: Value) -> Outcome<Value> {
        done(&self.cluster, method, path, body).await
    }

    /// The requests that are there now.
    async fn requests(&self) -> Outcome<Vec<Value>> {
        let mut answer = self.done("GET", &self.path("certificaterequests"), Value::Null).await?;
        Ok(answer["items"].as_array_mut().map(std::mem::take).unwrap_or_default())
    }

    /// Waits until there is one, and gives it.
    async fn request(&self) -> Outcome<Value> {
        eventually("a CertificateRequest", SOON, async || self.requests().await.ok()?.into_iter().next()).await
    }

    /// Waits until there is none.
    async fn no_requests(&self) -> Outcome {
        let none = async || self.requests().await.ok()?.is_empty().then_some(());
        eventually("the CertificateRequests to be removed", SOON, none).await
    }
}

/// A certificate, judged with its whole chain as an ordinary client gets it.
async fn issued(dev: &Dev) -> Outcome<Vec<String>> {
    let made = csr::like_ztunnel(None)?;
    let ask = Ask::new(&made.csr, &dev.token("client")?);
    let reply = Client::connect(dev).await?.issued(&ask).await?;
    judge::workload(&reply, &made.csr, CLIENT_ID)?;
    Ok(reply)
}

/// Waits until readiness says this of cert-manager.
async fn told(ca: &mut Ca, state: &str, detail: &str) -> Outcome {
    super::told(ca, "cert-manager", state, detail).await
}

/// A Secret with a CA, as cert-manager wants it.
fn secret(ca: &OwnCa) -> Value {
    let data = json!({"tls.crt": STANDARD.encode(&ca.certificate), "tls.key": STANDARD.encode(&ca.key)});
    json!({"type": "kubernetes.io/tls", "data": data})
}

/// The rules of the roles in a file that we ship.
pub(super) fn documented(name: &str) -> Outcome<Value> {
    let file = tools::source_root().join("deploy/cert-manager").join(name);
    let text = std::fs::read_to_string(&file).map_err(Failure::io("read the objects that are shipped"))?;
    let mut rules = Vec::new();
    for document in text.split("\n---\n") {
        let object: Value = serde_saphyr::from_str(document).map_err(Failure::while_doing("read an object"))?;
        rules.extend(object["rules"].as_array().into_iter().flatten().cloned());
    }
    ensure(!rules.is_empty(), || format!("no rules in {}", file.display()))?;
    Ok(rules.into())
}

/// Both.
fn and(mut one: Value, other: Value) -> Value {
    if let (Some(one), Value::Array(other)) = (one.as_array_mut(), other) {
        one.extend(other);
    }
    one
}
