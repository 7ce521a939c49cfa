//! cert-manager in the suite of backends: one that says what a test wants, and its own controllers beside a real API server.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::large_futures,
    reason = "tests"
)]

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use signet_core::clock::{Clock as _, SystemClock};
use signet_core::pem::pem;
use signet_test_servers::kubernetes::{CertManager, Cluster, ISSUER, Kubernetes, Request};
use tempfile::TempDir;

use super::super::test_pki::{Ca, Encoding};
use super::super::test_suite::{Fault, Member, SOON, Who, eventually, every_point};
use super::request::tests::settings;
use super::test_server::{Does, World, issued};
use super::*;

const HOUR: Duration = Duration::from_secs(3600);
const DEADLINE: Duration = Duration::from_secs(2);
const ISSUER_KIND: (&str, &str) = ("Issuer", "cert-manager.io");

/// By the clock of this machine, which is what issuers have.
fn root(name: &str) -> Ca {
    let now = SystemClock.now();
    Ca::root_with(name, |params| (params.not_before, params.not_after) = (now - 24 * HOUR, now + 9000 * HOUR))
}

fn below(root: &Ca, name: &str) -> Ca {
    root.below(name, |params| (params.not_before, params.not_after) = (root.params.not_before, root.params.not_after))
}

/// As if the pause after a failure, and that between two looks, were over.
fn rest(authority: &CertManagerAuthority) {
    authority.with_state(|state| {
        state.pause.succeeded();
        state.look_at = None;
    });
}

/// Removes what a crash would have left, as if the time for that had come.
async fn collect(authority: &CertManagerAuthority) {
    let asking = authority.asking().await.unwrap();
    let later = authority.clock.now() + authority.settings.deadline + SOON;
    left_overs::collect(&asking.requests, &authority.settings, later).await.unwrap();
}

struct Scripted {
    world: World,
    middle: Ca,
}

impl Scripted {
    async fn new() -> Self {
        let root = root("mesh root");
        let middle = below(&root, "middle");
        let world = World::with(&[&root], vec![signs(&middle)], |settings| settings.deadline = DEADLINE).await;
        Self { world, middle }
    }

    fn script(&self, does: Does) {
        self.world.inner().script = vec![does];
    }
}

fn signs(middle: &Ca) -> Does {
    Does::SignsBelow(Box::new(middle.clone()), middle.pem())
}

#[async_trait(?Send)]
impl Member for Scripted {
    fn authority(&self) -> Arc<dyn UpstreamAuthority> {
        Arc::clone(&self.world.authority) as _
    }

    fn now(&self) -> OffsetDateTime {
        SystemClock.now()
    }

    /// cert-manager drops it.
    fn path_length(&self) -> Option<u32> {
        None
    }

    /// What lies between is seen with the answer only.
    fn is_cut_to_what_is_above(&self) -> bool {
        false
    }

    async fn left(&self) -> usize {
        collect(&self.world.authority).await;
        self.world.made_and_left().1
    }

    async fn silent(&self, is_silent: bool) {
        self.world.held.send_replace(is_silent);
    }

    fn deadline(&self) -> Duration {
        DEADLINE
    }

    async fn away(&self, is_away: bool) {
        self.world.inner().broken = is_away.then_some(0);
    }

    async fn rotate(&self) {
        let other = root("another");
        self.world.inner().roots = other.pem();
        self.script(Does::Signs(Box::new(other)));
    }

    async fn fault(&self, fault: Option<Fault>) {
        let Some(fault) = fault else {
            self.world.inner().broken = None;
            self.silent(false).await;
            return self.script(signs(&self.middle));
        };
        let broken = |status| self.world.inner().broken = Some(status);
        match fault {
            Fault::Denied => self.script(Does::Refuses(403, "Forbidden")),
            Fault::Throttled => self.script(Does::Refuses(429, "")),
            Fault::Broken => broken(500),
            Fault::Sealed => broken(503),
            Fault::Reset => broken(0),
            Fault::OtherKey => {
                // As it was asked for otherwise.
                let (key, now) = (trial::key().await.unwrap(), SystemClock.now());
                let other = self.middle.signs_key(key.spki_der(), |params| {
                    answer::tests::as_asked(params);
                    (params.not_before, params.not_after) = (now, now + HOUR);
                });
                self.script(Does::Says(issued(&format!("{}{}", pem(&other), self.middle.pem()), "")));
            }
            Fault::Truncated => self.script(Does::Signs(Box::new(self.middle.clone()))),
            Fault::OtherRoot => self.script(Does::Signs(Box::new(root("stranger")))),
            Fault::Late => self.silent(true).await,
            Fault::WrongTls => unreachable!("it speaks no TLS"),
        }
    }

    async fn rested(&self) {
        rest(&self.world.authority);
    }
}

#[tokio::test]
async fn a_scripted_cert_manager_passes() {
    every_point(Who::ScriptedCertManager, Scripted::new).await;
}

/// An API server with cert-manager, whose approver approves everything.
fn shared() -> &'static Kubernetes {
    static RUNNING: OnceLock<CertManager> = OnceLock::new();
    let kubernetes = Kubernetes::shared().unwrap();
    RUNNING.get_or_init(|| CertManager::start(kubernetes, true).unwrap());
    kubernetes
}

/// A namespace with an issuer, and the account that asks it.
struct Real {
    cluster: Cluster,
    namespace: String,
    directory: TempDir,
    root: Ca,
    middle: Ca,
    authority: Arc<CertManagerAuthority>,
    /// The same, when something about it is not as it should be.
    instead: Mutex<Option<Arc<CertManagerAuthority>>>,
}

impl Real {
    async fn new() -> Self {
        let (kubernetes, directory) = (tokio::task::spawn_blocking(shared).await.unwrap(), TempDir::new().unwrap());
        let cluster = kubernetes.cluster().await.unwrap();
        let namespace = cluster.namespace().await.unwrap();
        let root = root("mesh root");
        let middle = below(&root, "middle");
        let token = directory.path().join("token");
        std::fs::write(directory.path().join("kubeconfig"), kubernetes.kubeconfig_for(&token)).unwrap();
        let authority = Self::authority_in(&directory, "kubeconfig", &namespace, ISSUER_KIND);
        let real = Self { cluster, namespace, directory, root, middle, authority, instead: Mutex::default() };
        real.account().await;
        real.allow(rules()).await;
        real.set_issuer(&real.middle).await;
        real.set_root(&real.root).await;
        let issuer = json!({
            "apiVersion": "cert-manager.io/v1", "kind": "Issuer", "metadata": {"name": "ca"},
            "spec": {"ca": {"secretName": "ca"}},
        });
        real.put("issuers", "ca", issuer).await;
        real
    }

    fn authority_in(
        directory: &TempDir,
        file: &str,
        namespace: &str,
        (kind, group): (&str, &str),
    ) -> Arc<CertManagerAuthority> {
        let at = ObjectKey { namespace: namespace.to_owned(), name: "roots".to_owned(), key: "ca.crt".to_owned() };
        let issuer = IssuerRef { name: "ca".to_owned(), kind: kind.to_owned(), group: group.to_owned() };
        let settings = CertManagerSettings {
            roots: RootsFrom::ConfigMap(at),
            namespace: namespace.to_owned(),
            // A busy machine is slow.
            deadline: DEADLINE * 10,
            issuer,
            ..settings()
        };
        let credentials = Credentials::Kubeconfig(directory.path().join(file));
        Arc::new(CertManagerAuthority::new(settings, credentials, Files::plain(), Arc::new(SystemClock)))
    }

    /// The account, made anew, and a token of its.
    async fn account(&self) {
        self.cluster.account(&self.namespace, "ca").await.unwrap();
        let token = self.cluster.token(&self.namespace, "ca", ISSUER).await.unwrap();
        std::fs::write(self.directory.path().join("token"), token).unwrap();
    }

    /// What the account may do from now on, once that is so.
    async fn allow(&self, rules: Value) {
        let may = !rules.as_array().unwrap().is_empty();
        self.cluster.allow(&self.namespace, "ca", rules).await.unwrap();
        let token = std::fs::read_to_string(self.directory.path().join("token")).unwrap();
        let own = shared().cluster_of(Some(&token)).await.unwrap();
        eventually("change of rights", async || {
            match send(&own, "GET", &self.path("certificaterequests"), Value::Null).await.0 {
                200 if may => Ok(()),
                403 if !may => Ok(()),
                status => Err(status),
            }
        })
        .await;
    }

    fn path(&self, kind: &str) -> String {
        let group = if matches!(kind, "secrets" | "configmaps") { "api/v1" } else { "apis/cert-manager.io/v1" };
        format!("/{group}/namespaces/{}/{kind}", self.namespace)
    }

    /// Makes an object, or gives it another content.
    async fn put(&self, kind: &str, name: &str, mut object: Value) {
        object["metadata"]["name"] = json!(name);
        let (path, own) = (self.path(kind), object.clone());
        let (status, answer) = match send(&self.cluster, "POST", &path, object).await {
            (409, _) => send(&self.cluster, "PATCH", &format!("{path}/{name}"), own).await,
            answer => answer,
        };
        assert!(status < 300, "{kind} {name}: {status}: {answer}");
    }

    async fn set_issuer(&self, ca: &Ca) {
        let data =
            json!({"tls.crt": STANDARD.encode(ca.pem()), "tls.key": STANDARD.encode(ca.key_pem(Encoding::Pkcs8))});
        self.put("secrets", "ca", json!({"type": "kubernetes.io/tls", "data": data})).await;
    }

    async fn set_root(&self, root: &Ca) {
        self.put("configmaps", "roots", json!({"data": {"ca.crt": root.pem()}})).await;
    }

    fn current(&self) -> Arc<CertManagerAuthority> {
        self.instead.lock().unwrap().clone().unwrap_or_else(|| Arc::clone(&self.authority))
    }

    fn put_instead(&self, authority: Option<Arc<CertManagerAuthority>>) {
        *self.instead.lock().unwrap() = authority;
    }
}

/// What it needs; the documented role has that to the letter (e2e).
fn rules() -> Value {
    json!([
        {"apiGroups": ["cert-manager.io"], "resources": ["certificaterequests"], "verbs": ["*"]},
        {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["roots"], "verbs": ["get"]},
    ])
}

async fn send(cluster: &Cluster, method: &str, path: &str, body: Value) -> (u16, Value) {
    let request = Request { method: method.to_owned(), path: path.to_owned(), accept: None, body };
    let answer = cluster.send(&request).await.unwrap();
    (answer.status, answer.body.into_iter().next().unwrap_or_default())
}

#[async_trait(?Send)]
impl Member for Real {
    fn authority(&self) -> Arc<dyn UpstreamAuthority> {
        self.current() as _
    }

    fn now(&self) -> OffsetDateTime {
        SystemClock.now()
    }

    fn path_length(&self) -> Option<u32> {
        None
    }

    fn is_cut_to_what_is_above(&self) -> bool {
        false
    }

    async fn left(&self) -> usize {
        collect(&self.authority).await;
        let (_, answer) = send(&self.cluster, "GET", &self.path("certificaterequests"), Value::Null).await;
        answer["items"].as_array().unwrap().len()
    }

    /// Nobody answers requests for an issuer that nobody has installed.
    async fn silent(&self, is_silent: bool) {
        let nobody =
            || Self::authority_in(&self.directory, "kubeconfig", &self.namespace, ("Nobody", "nobody.example"));
        self.put_instead(is_silent.then(nobody));
    }

    fn deadline(&self) -> Duration {
        DEADLINE * 10
    }

    async fn rotate(&self) {
        let other = root("another");
        self.set_issuer(&other).await;
        self.set_root(&other).await;
    }

    async fn replace_credentials(&self) {
        let old = std::fs::read_to_string(self.directory.path().join("token")).unwrap();
        self.cluster.delete_account(&self.namespace, "ca").await.unwrap();
        let old = shared().cluster_of(Some(&old)).await.unwrap();
        // A yes is remembered for ten seconds by the API server.
        eventually("end of the token", async || {
            match send(&old, "GET", &self.path("certificaterequests"), Value::Null).await.0 {
                401 => Ok(()),
                status => Err(status),
            }
        })
        .await;
        rest(&self.authority);
        let known = Root::new(self.root.der.clone(), None).unwrap();
        let refused = super::super::test_suite::issue(self, &known).await;
        assert!(refused.is_err(), "the token of an account that is gone is taken");
        self.account().await;
    }

    async fn fault(&self, fault: Option<Fault>) {
        let Some(fault) = fault else {
            self.put_instead(None);
            self.allow(rules()).await;
            return self.set_issuer(&self.middle).await;
        };
        match fault {
            Fault::Denied => self.allow(json!([])).await,
            Fault::WrongTls => {
                let text = std::fs::read_to_string(self.directory.path().join("kubeconfig")).unwrap();
                let (strange, known) = (self.directory.path().join("strange.pem"), shared().ca_file());
                std::fs::write(&strange, root("stranger").pem()).unwrap();
                let text = text.replace(&known.display().to_string(), &strange.display().to_string());
                std::fs::write(self.directory.path().join("strange"), text).unwrap();
                let instead = Self::authority_in(&self.directory, "strange", &self.namespace, ISSUER_KIND);
                self.put_instead(Some(instead));
            }
            Fault::OtherRoot => {
                self.set_issuer(&root("stranger")).await;
                // Its controller reads the Secret from a cache.
                let known = super::super::test_suite::root(self).await;
                eventually("answer that leads elsewhere", async || {
                    rest(&self.authority);
                    let made = super::super::test_suite::issue(self, &known).await;
                    if made.is_err() { Ok(()) } else { Err("it still leads here") }
                })
                .await;
                rest(&self.authority);
            }
            Fault::Late => self.silent(true).await,
            other => unreachable!("{other:?}"),
        }
    }

    async fn rested(&self) {
        rest(&self.current());
    }
}

#[tokio::test]
#[ignore = "needs a real API server; run it with: make test-kubernetes"]
async fn the_real_cert_manager_passes() {
    every_point(Who::CertManager, Real::new).await;
}
