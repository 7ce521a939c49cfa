//! A Vault in the suite of backends: one that says what a test wants, and a real OpenBao over TLS, its storage on disk.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::large_futures,
    reason = "tests"
)]

use std::path::PathBuf;

use async_trait::async_trait;
use serde_json::{Value, json};
use signet_core::clock::SystemClock;
use signet_core::identity::TrustDomain;
use signet_test_servers::OpenBao;
use tempfile::TempDir;
use tokio::sync::watch;

use super::super::test_pki::{Ca, NOW};
use super::super::test_suite::{self, Fault, Member, Who, every_point};
use super::test_server::{Answer, Asked as Request, TOKEN, Vault, World, auth, denied};
use super::*;

/// How long one call may take.
const WITHIN: Duration = Duration::from_secs(3);

/// As if a look at the issuer were due, and nothing were held back.
async fn look(vault: &VaultAuthority) {
    vault.state().held = None;
    drop(vault.look().await);
}

/// A Vault whose answers can be held up.
struct Scripted {
    world: World,
    vault: Vault,
    held: watch::Sender<bool>,
}

impl Scripted {
    async fn new() -> Self {
        let root = Ca::root("root");
        let vault = Vault::of(&root.below("middle", |_| {}), &[&root]);
        let world = World::with(vault.clone(), |settings| settings.timeout = WITHIN).await;
        let scripted = Self { world, vault: vault.clone(), held: watch::channel(false).0 };
        scripted.says(move |asked| vault.answer(asked));
        scripted
    }

    fn says(&self, mut script: impl FnMut(&Request) -> Answer + Send + 'static) {
        let held = self.held.subscribe();
        self.world.server.says(move |asked| Answer::Held(held.clone(), Box::new(script(asked))));
    }

    /// A signature is answered like this, and everything else as ever.
    fn signs(&self, mut sign: impl FnMut(&Vault, &str) -> Answer + Send + 'static) {
        let vault = self.vault.clone();
        self.says(move |asked| match asked.path.ends_with("sign-intermediate") {
            true => sign(&vault, asked.body["csr"].as_str().unwrap()),
            false => vault.answer(asked),
        });
    }
}

fn errors(status: u16, text: &str) -> Answer {
    Answer::Json(status, json!({ "errors": [text] }))
}

#[async_trait(?Send)]
impl Member for Scripted {
    fn authority(&self) -> Arc<dyn UpstreamAuthority> {
        Arc::clone(&self.world.vault) as _
    }

    fn now(&self) -> OffsetDateTime {
        NOW
    }

    fn deadline(&self) -> Duration {
        WITHIN
    }

    async fn silent(&self, is_silent: bool) {
        self.held.send_replace(is_silent);
    }

    async fn away(&self, is_away: bool) {
        self.fault(is_away.then_some(Fault::Sealed)).await;
    }

    async fn rotate(&self) {
        let vault = Vault::of(&Ca::root("another"), &[]);
        self.says(move |asked| vault.answer(asked));
    }

    async fn replace_credentials(&self) {
        std::fs::write(self.world.directory.path().join("secret-id"), "the-next-one").unwrap();
        let vault = self.vault.clone();
        self.says(move |asked| {
            if asked.path.ends_with("login") {
                return if asked.body["secret_id"] == "the-next-one" { auth("s.next", 60) } else { denied() };
            }
            let token = asked.token.as_deref().filter(|token| *token == "s.next").map(|_| TOKEN.to_owned());
            vault.answer(&Request { token, ..asked.clone() })
        });
    }

    async fn fault(&self, fault: Option<Fault>) {
        let all = |scripted: &Self, answer: Answer| scripted.says(move |_| answer.clone());
        let Some(fault) = fault else {
            self.silent(false).await;
            let vault = self.vault.clone();
            return self.says(move |asked| vault.answer(asked));
        };
        match fault {
            Fault::Denied => self.signs(|_, _| denied()),
            Fault::Throttled => all(self, errors(429, "slow down")),
            Fault::Broken => all(self, errors(500, "broken")),
            Fault::Sealed => all(self, errors(503, "Vault is sealed")),
            Fault::Reset => all(self, Answer::Reset),
            Fault::OtherKey => {
                // As it was asked for otherwise.
                let (key, domain) = (trial::key().await.unwrap(), &self.world.vault.settings.trust_domain);
                let other = request::csr(domain, &key).await.unwrap();
                self.signs(move |vault, _| vault.signed(&vault.issuer.certifies(&other, WITHIN * 100, |_| {})));
            }
            Fault::Truncated => {
                // Of what the issuer has, a chain that was cut is completed; here that is cut, too.
                let vault = Vault { chain: vec![self.vault.issuer.clone()], ..self.vault.clone() };
                self.says(move |asked| vault.answer(asked));
            }
            Fault::OtherRoot => {
                let theirs = Vault::of(&Ca::root("stranger"), &[]);
                self.signs(move |_, csr| theirs.signed(&theirs.issuer.certifies(csr, WITHIN * 100, |_| {})));
            }
            Fault::Late => self.silent(true).await,
            Fault::WrongTls => unreachable!("it speaks no TLS"),
        }
    }

    async fn rested(&self) {
        look(&self.world.vault).await;
    }
}

#[tokio::test]
async fn a_scripted_vault_passes() {
    every_point(Who::ScriptedVault, Scripted::new).await;
}

/// Mounts and a role of a test's own in a real OpenBao.
pub(super) struct Real {
    pub(super) bao: Arc<OpenBao>,
    pub(super) mount: String,
    role: String,
    directory: TempDir,
    pub(super) vault: Arc<VaultAuthority>,
}

fn text(answer: &Value, at: &str) -> String {
    answer.pointer(at).and_then(Value::as_str).unwrap_or_else(|| panic!("no {at} in {answer}")).to_owned()
}

impl Real {
    async fn new(bao: &Arc<OpenBao>) -> Self {
        Self::with(bao, None).await
    }

    /// The same, which may sign leaves with these roles.
    pub(super) async fn with(bao: &Arc<OpenBao>, leaves: Option<LeafRoles>) -> Self {
        // Whatever a point that failed has left.
        bao.hold(false).unwrap();
        bao.unseal().await.unwrap();
        let (above, mount, role) = (bao.name("root"), bao.name("pki"), bao.name("signet"));
        for mount in [&above, &mount] {
            let pki = json!({ "type": "pki", "config": { "max_lease_ttl": "87600h" } });
            bao.put(&format!("sys/mounts/{mount}"), pki).await.unwrap();
        }
        // An intermediate that has the CA above it in its mount, as the page about Vault wants.
        let named =
            |name: &str| json!({ "common_name": name, "key_type": "ec", "ttl": "87600h", "issuer_name": "first" });
        let root = bao.put(&format!("{above}/root/generate/internal"), named("root")).await.unwrap();
        let asked = json!({ "common_name": "middle", "key_type": "ec" });
        let asked = bao.put(&format!("{mount}/intermediate/generate/internal"), asked).await.unwrap();
        let sign = json!({ "csr": text(&asked, "/data/csr"), "common_name": "middle", "ttl": "43800h" });
        let middle = bao.put(&format!("{above}/root/sign-intermediate"), sign).await.unwrap();
        let chain = format!("{}\n{}", text(&middle, "/data/certificate"), text(&root, "/data/certificate"));
        bao.put(&format!("{mount}/intermediate/set-signed"), json!({ "certificate": chain })).await.unwrap();

        let directory = TempDir::new().unwrap();
        let (address, ca) = bao.tls();
        std::fs::write(directory.path().join("ca.pem"), ca).unwrap();
        let policy = format!("path \"{mount}/root/sign-intermediate\" {{ capabilities = [\"update\"] }}");
        bao.put(&format!("sys/policies/acl/{role}"), json!({ "policy": policy })).await.unwrap();
        bao.put(&format!("sys/auth/{role}"), json!({ "type": "approle" })).await.unwrap();
        let given = json!({ "token_policies": role, "token_period": 3600 });
        bao.put(&format!("auth/{role}/role/signet"), given).await.unwrap();
        let role_id = text(&bao.get(&format!("auth/{role}/role/signet/role-id")).await.unwrap(), "/data/role_id");
        let settings = VaultSettings {
            address,
            ca_file: Some(directory.path().join("ca.pem")),
            namespace: None,
            mount: mount.clone(),
            issuer: DEFAULT_ISSUER.to_owned(),
            login: Login::AppRole { mount: role.clone(), role_id, secret_id_file: secret_file(&directory) },
            // A hundred leaves at once are judged on one thread meanwhile.
            timeout: if leaves.is_some() { WITHIN * 10 } else { WITHIN },
            refresh: Duration::from_secs(1),
            trust_domain: TrustDomain::parse("cluster.local").unwrap(),
            leaves,
        };
        let vault = Arc::new(VaultAuthority::new(settings, Files::plain(), Arc::new(SystemClock)));
        let real = Self { bao: Arc::clone(bao), mount, role, directory, vault };
        real.secret().await;
        real
    }

    /// A new secret, where it is looked for.
    async fn secret(&self) {
        let made = self.bao.put(&format!("auth/{}/role/signet/secret-id", self.role), json!({})).await.unwrap();
        std::fs::write(secret_file(&self.directory), text(&made, "/data/secret_id")).unwrap();
    }

    pub(super) async fn policy(&self, lines: &str) {
        self.bao.put(&format!("sys/policies/acl/{}", self.role), json!({ "policy": lines })).await.unwrap();
    }

    async fn default_issuer(&self) -> String {
        text(&self.bao.get(&format!("{}/config/issuers", self.mount)).await.unwrap(), "/data/default")
    }
}

fn secret_file(directory: &TempDir) -> PathBuf {
    directory.path().join("secret-id")
}

#[async_trait(?Send)]
impl Member for Real {
    fn authority(&self) -> Arc<dyn UpstreamAuthority> {
        Arc::clone(&self.vault) as _
    }

    fn now(&self) -> OffsetDateTime {
        self.vault.clock.now()
    }

    fn deadline(&self) -> Duration {
        WITHIN
    }

    async fn silent(&self, is_silent: bool) {
        self.bao.hold(is_silent).unwrap();
    }

    async fn away(&self, is_away: bool) {
        if is_away { self.bao.seal().await.unwrap() } else { self.bao.unseal().await.unwrap() }
    }

    async fn rotate(&self) {
        let made = json!({ "common_name": "another", "key_type": "ec", "ttl": "87600h", "issuer_name": "another" });
        self.bao.put(&format!("{}/root/rotate/internal", self.mount), made).await.unwrap();
        let default = json!({ "default": "another" });
        self.bao.put(&format!("{}/config/issuers", self.mount), default).await.unwrap();
    }

    async fn replace_credentials(&self) {
        let old = std::fs::read_to_string(secret_file(&self.directory)).unwrap();
        let destroyed = json!({ "secret_id": old });
        self.bao.put(&format!("auth/{}/role/signet/secret-id/destroy", self.role), destroyed).await.unwrap();
        self.bao.put(&format!("sys/leases/revoke-prefix/auth/{}", self.role), json!({})).await.unwrap();
        let root = test_suite::root(self).await;
        let refused = test_suite::issue(self, &root).await;
        assert!(refused.is_err(), "a token and a secret that were revoked are taken");
        self.secret().await;
    }

    async fn fault(&self, fault: Option<Fault>) {
        let ca_file = self.directory.path().join("ca.pem");
        let Some(fault) = fault else {
            self.silent(false).await;
            self.bao.unseal().await.unwrap();
            std::fs::write(ca_file, self.bao.tls().1).unwrap();
            let path = format!("{}/root/sign-intermediate", self.mount);
            self.policy(&format!("path \"{path}\" {{ capabilities = [\"update\"] }}")).await;
            let kept = std::fs::read_to_string(self.directory.path().join("issuer")).ok();
            if let Some(issuer) = kept {
                let default = json!({ "default": issuer });
                self.bao.put(&format!("{}/config/issuers", self.mount), default).await.unwrap();
            }
            return;
        };
        match fault {
            Fault::Denied => self.policy("# nothing").await,
            Fault::Sealed => self.bao.seal().await.unwrap(),
            Fault::WrongTls => std::fs::write(ca_file, Ca::root("stranger").pem()).unwrap(),
            Fault::OtherRoot => {
                std::fs::write(self.directory.path().join("issuer"), self.default_issuer().await).unwrap();
                self.rotate().await;
            }
            Fault::Late => self.silent(true).await,
            other => unreachable!("{other:?}"),
        }
    }

    async fn rested(&self) {
        look(&self.vault).await;
    }
}

#[tokio::test]
async fn a_real_openbao_passes() {
    let bao = Arc::new(OpenBao::start().await.unwrap());
    every_point(Who::OpenBao, async || Real::new(&bao).await).await;
}
