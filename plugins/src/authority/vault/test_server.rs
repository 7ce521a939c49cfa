//! A Vault that says what a test wants, over plain HTTP.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests"
)]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use signet_core::authority::Root;
use signet_core::clock::ManualClock;
use signet_core::identity::TrustDomain;
use signet_core::key_type::KeyType;
use signet_core::seams::certificate_authority::SignError;
use signet_core::seams::upstream_authority::{Certified, UpstreamAuthority as _};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::super::test_pki::{Ca, DAY, NOW};
use super::{Login, VaultAuthority, VaultSettings};
use crate::custody::LocalKey;
use crate::files::Files;

/// A request.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Asked {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) token: Option<String>,
    pub(super) namespace: Option<String>,
    pub(super) body: Value,
}

/// What comes back.
#[derive(Debug, Clone)]
pub(super) enum Answer {
    Json(u16, Value),
    Text(u16, String),
    /// The connection ends without an answer.
    Reset,
    /// Nothing, for ever.
    Silence,
    /// As many bytes as are taken.
    Endless,
    /// That, as soon as it is not held any more.
    Held(watch::Receiver<bool>, Box<Answer>),
}

type Script = dyn FnMut(&Asked) -> Answer + Send;

/// The server; it ends with the test.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    script: Arc<Mutex<Box<Script>>>,
    task: JoinHandle<()>,
}

impl Server {
    pub(super) async fn start(script: impl FnMut(&Asked) -> Answer + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let script: Arc<Mutex<Box<Script>>> = Arc::new(Mutex::new(Box::new(script)));
        let (seen, says) = (Arc::clone(&asked), Arc::clone(&script));
        let task = tokio::task::spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                open.spawn(serve(stream, Arc::clone(&seen), Arc::clone(&says)));
            }
        });
        Self { address, asked, script, task }
    }

    pub(super) fn says(&self, script: impl FnMut(&Asked) -> Answer + Send + 'static) {
        *self.script.lock().unwrap() = Box::new(script);
    }

    /// What was asked since the last time.
    pub(super) fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    /// The paths of that.
    pub(super) fn paths(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.path).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: TcpStream, seen: Arc<Mutex<Vec<Asked>>>, script: Arc<Mutex<Box<Script>>>) {
    while let Some(asked) = read(&mut stream).await {
        seen.lock().unwrap().push(asked.clone());
        let answer = (script.lock().unwrap())(&asked);
        let answer = match answer {
            Answer::Held(mut held, answer) => {
                if held.wait_for(|held| !held).await.is_err() {
                    return;
                }
                *answer
            }
            answer => answer,
        };
        let (status, body) = match answer {
            Answer::Held(..) => panic!("held twice"),
            Answer::Json(status, body) => (status, body.to_string()),
            Answer::Text(status, body) => (status, body),
            Answer::Reset => return,
            Answer::Silence => return std::future::pending().await,
            Answer::Endless => {
                let head = "HTTP/1.1 200 OK\r\ncontent-length: 1000000000000\r\n\r\n";
                drop(stream.write_all(head.as_bytes()).await);
                while stream.write_all(&[b'x'; 65536]).await.is_ok() {}
                return;
            }
        };
        let head = format!("HTTP/1.1 {status} Said\r\ncontent-length: {}\r\n\r\n", body.len());
        if stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).await.is_err() {
            return;
        }
    }
}

async fn read(stream: &mut TcpStream) -> Option<Asked> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let header = |name: &str| {
                let mut lines = head.lines().filter_map(|line| line.split_once(": "));
                lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
            };
            let length: usize = header("content-length").map_or(0, |length| length.parse().unwrap());
            if body.len() >= length {
                let mut first = head.split(' ');
                let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
                let (token, namespace) = (header("x-vault-token"), header("x-vault-namespace"));
                let body = serde_json::from_str(body).unwrap_or_default();
                return Some(Asked { method, path, token, namespace, body });
            }
        }
        let mut buffer = [0; 8192];
        match stream.read(&mut buffer).await {
            Ok(count) if count > 0 => bytes.extend_from_slice(&buffer[..count]),
            _ => return None,
        }
    }
}

pub(super) const SECRET: &str = "the-secret-id";
pub(super) const TOKEN: &str = "s.the-token";

/// A Vault with one issuer, an AppRole, and a CA of ours that uses it.
pub(super) struct World {
    pub(super) server: Server,
    pub(super) vault: Arc<VaultAuthority>,
    pub(super) directory: TempDir,
    pub(super) clock: ManualClock,
}

impl World {
    pub(super) async fn new(vault: Vault) -> Self {
        Self::with(vault, |_| {}).await
    }

    pub(super) async fn with(vault: Vault, change: impl FnOnce(&mut VaultSettings)) -> Self {
        let server = Server::start(vault.script()).await;
        let directory = TempDir::new().unwrap();
        let secret_id_file: PathBuf = directory.path().join("secret-id");
        std::fs::write(&secret_id_file, format!("{SECRET}\n")).unwrap();
        let mut settings = VaultSettings {
            address: format!("http://{}", server.address),
            ca_file: None,
            namespace: None,
            mount: "pki".to_owned(),
            issuer: "default".to_owned(),
            login: Login::AppRole { mount: "approle".to_owned(), role_id: "signet".to_owned(), secret_id_file },
            timeout: Duration::from_secs(10),
            refresh: Duration::from_secs(10),
            trust_domain: TrustDomain::parse("cluster.local").unwrap(),
            leaves: None,
        };
        change(&mut settings);
        let clock = ManualClock::at(NOW);
        let vault = Arc::new(VaultAuthority::new(settings, Files::plain(), Arc::new(clock.clone())));
        Self { server, vault, directory, clock }
    }
}

/// What a well-behaved Vault has.
#[derive(Clone)]
pub(super) struct Vault {
    pub(super) issuer: Ca,
    /// From the issuer up, as Vault shows it.
    pub(super) chain: Vec<Ca>,
    pub(super) capabilities: &'static [&'static str],
    /// What the mount has beside the chain.
    pub(super) others: Vec<Ca>,
    /// Revocation lists, by the place of their CA in the chain, and then among the others.
    pub(super) lists: Vec<Option<String>>,
    /// `max_lease_ttl` of the mount, in seconds.
    pub(super) longest: u64,
}

impl Vault {
    pub(super) fn of(issuer: &Ca, above: &[&Ca]) -> Self {
        let chain = std::iter::once(issuer).chain(above.iter().copied()).cloned().collect();
        let list = Some(issuer.crl(NOW - DAY, NOW + DAY));
        let lists = std::iter::once(list).chain(above.iter().map(|ca| Some(ca.crl(NOW - DAY, NOW + DAY)))).collect();
        Self {
            issuer: issuer.clone(),
            chain,
            capabilities: &["read", "update"],
            others: Vec::new(),
            lists,
            longest: TTL.as_secs(),
        }
    }

    /// The issuers of the mount: that number is part of their ids.
    fn issuers(&self) -> Vec<&Ca> {
        self.chain.iter().chain(&self.others).collect()
    }

    /// What is said of one of them.
    fn of_issuer(&self, id: usize, what: &str) -> Answer {
        match what {
            "crl" => match self.lists.get(id).cloned().flatten() {
                Some(crl) => Answer::Json(200, json!({ "data": { "crl": crl } })),
                None => Answer::Json(500, json!({ "errors": [format!("unable to find CRL for issuer: id:id-{id}")] })),
            },
            _ => Answer::Json(200, json!({ "data": { "certificate": self.issuers()[id].pem(), "ca_chain": [] } })),
        }
    }

    pub(super) fn pems(&self) -> Vec<String> {
        self.chain.iter().map(Ca::pem).collect()
    }

    /// What such a Vault answers to a signature of this.
    pub(super) fn signed(&self, certificate: &Ca) -> Answer {
        let mut chain = vec![certificate.pem()];
        chain.extend(self.pems());
        let data = json!({ "certificate": certificate.pem(), "issuing_ca": self.issuer.pem(), "ca_chain": chain });
        Answer::Json(200, json!({ "data": data }))
    }

    pub(super) fn script(self) -> impl FnMut(&Asked) -> Answer + Send + 'static {
        move |asked| self.answer(asked)
    }

    /// What such a Vault answers.
    pub(super) fn answer(&self, asked: &Asked) -> Answer {
        let path = asked.path.strip_prefix("/v1/").unwrap_or_default();
        let last = path.rsplit('/').next().unwrap_or_default();
        let id = path.rsplit('/').nth(1).and_then(|id| id.strip_prefix("id-")?.parse().ok());
        match last {
            "issuers" => {
                assert_eq!(asked.method, "LIST");
                let keys: Vec<String> = (0..self.issuers().len()).map(|id| format!("id-{id}")).collect();
                Answer::Json(200, json!({ "data": { "keys": keys } }))
            }
            what if let Some(id) = id => self.of_issuer(id, what),
            "json" => {
                let data = json!({ "certificate": self.issuer.pem(), "ca_chain": self.pems(), "issuer_id": "the-id" });
                Answer::Json(200, json!({ "data": data }))
            }
            "login" => auth(TOKEN, 3600),
            _ if asked.token.as_deref() != Some(TOKEN) => denied(),
            "capabilities-self" => {
                let path = asked.body["paths"][0].as_str().unwrap().to_owned();
                Answer::Json(200, json!({ "data": { path: self.capabilities } }))
            }
            _ if path.starts_with("sys/internal/ui/mounts/") => {
                Answer::Json(200, json!({ "data": { "config": { "max_lease_ttl": self.longest } } }))
            }
            "sign-intermediate" => {
                let csr = asked.body["csr"].as_str().unwrap();
                if csr.is_empty() {
                    return Answer::Json(400, json!({ "errors": ["no CSR"] }));
                }
                let ttl = asked.body["ttl"].as_str().unwrap().trim_end_matches('s').parse().unwrap();
                self.signed(&self.issuer.certifies(csr, Duration::from_secs(ttl), |_| {}))
            }
            _ => panic!("{asked:?}"),
        }
    }
}

pub(super) fn auth(token: &str, lease: u64) -> Answer {
    let auth = json!({ "client_token": token, "lease_duration": lease, "renewable": true });
    Answer::Json(200, json!({ "data": null, "auth": auth }))
}

pub(super) fn denied() -> Answer {
    Answer::Json(403, json!({ "errors": ["1 error occurred:\n\t* permission denied\n\n"] }))
}

/// How long the issuing CAs of these tests are to last.
pub(super) const TTL: Duration = DAY;

pub(super) async fn key() -> LocalKey {
    LocalKey::generate(KeyType::EcP256).await.unwrap().0
}

/// Has a new key certified under this root.
pub(super) async fn certify(world: &World, root: &Ca) -> Result<Certified, SignError> {
    let root = Root::new(root.der.clone(), None).unwrap();
    world.vault.certify(&root, &key().await, TTL, NOW).await
}
