//! An API server with a cert-manager that does what a test says, in the words of the real ones.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose};
use serde_json::{Value, json};
use signet_core::clock::SystemClock;
use signet_core::pem::pem;
use signet_test_servers::objects::refused;
use signet_test_servers::scripted::{Answer, Asked, ScriptedApi};
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

use super::super::test_pki::Ca;
use super::request::tests::settings;
use super::{CertManagerAuthority, CertManagerSettings, RootsFrom};
use crate::kubernetes::{Credentials, Files};

/// What becomes of a request.
#[derive(Clone)]
pub(super) enum Does {
    /// It is signed by this CA.
    Signs(Box<Ca>),
    /// The same, and this goes with it.
    SignsBelow(Box<Ca>, String),
    /// Its status becomes this.
    Says(Value),
    /// Nothing happens.
    Nothing,
    /// It is removed.
    Removes,
    /// The watch ends, and what comes next happens meanwhile.
    EndsWatch(Box<Does>),
    /// Making it is answered like this.
    Refuses(u16, &'static str),
    /// The API server makes it, and its answer is lost.
    Loses,
}

#[derive(Default)]
pub(super) struct Inner {
    /// What becomes of the requests to come, and of all after those the last.
    pub(super) script: Vec<Does>,
    pub(super) objects: BTreeMap<String, Value>,
    made: usize,
    /// What becomes of objects, by the numbers in them.
    kept: Vec<Does>,
    /// Watches that stay open.
    open: Vec<mpsc::UnboundedSender<String>>,
    /// The content of the map of roots.
    pub(super) roots: String,
    /// Whether reading that is answered at all.
    pub(super) roots_refused: Option<u16>,
    /// How everything is answered; 0 for an end of the connection.
    pub(super) broken: Option<u16>,
    /// How many approvals come after somebody else has written to the request, and whether he has approved it.
    pub(super) overtaken: (usize, bool),
}

pub(super) struct World {
    pub(super) inner: Arc<Mutex<Inner>>,
    pub(super) authority: Arc<CertManagerAuthority>,
    pub(super) api: ScriptedApi,
    /// Whether answers wait.
    pub(super) held: watch::Sender<bool>,
    _directory: TempDir,
}

const REQUESTS: &str = "/apis/cert-manager.io/v1/namespaces/mesh/certificaterequests";

impl World {
    pub(super) async fn new(roots: &[&Ca], script: Vec<Does>) -> Self {
        Self::with(roots, script, |_| {}).await
    }

    pub(super) async fn with(roots: &[&Ca], script: Vec<Does>, change: impl FnOnce(&mut CertManagerSettings)) -> Self {
        let text: String = roots.iter().map(|root| root.pem()).collect();
        let inner = Arc::new(Mutex::new(Inner { script, roots: text, ..Inner::default() }));
        let (answering, (held, waits)) = (Arc::clone(&inner), watch::channel(false));
        let api = ScriptedApi::start(move |asked| {
            let (answering, mut waits) = (Arc::clone(&answering), waits.clone());
            async move {
                drop(waits.wait_for(|held| !held).await);
                let answer = answering.lock().unwrap().answer(&asked);
                match answer {
                    Some(answer) => answer,
                    None => std::future::pending().await,
                }
            }
        });
        let (api, directory) = (api.await.unwrap(), TempDir::new().unwrap());
        let file = directory.path().join("kubeconfig");
        std::fs::write(&file, api.kubeconfig()).unwrap();
        let at = super::ObjectKey { namespace: "mesh".into(), name: "roots".into(), key: "ca.crt".into() };
        let mut settings =
            CertManagerSettings { roots: RootsFrom::ConfigMap(at), deadline: Duration::from_secs(20), ..settings() };
        change(&mut settings);
        let (credentials, clock) = (Credentials::Kubeconfig(file), Arc::new(SystemClock));
        let authority = Arc::new(CertManagerAuthority::new(settings, credentials, Files::plain(), clock));
        Self { inner, authority, api, held, _directory: directory }
    }

    pub(super) fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    /// How often requests were made, and those that are left.
    pub(super) fn made_and_left(&self) -> (usize, usize) {
        let inner = self.inner();
        (inner.made, inner.objects.len())
    }
}

impl Inner {
    /// The answer; none for one that never comes.
    fn answer(&mut self, asked: &Asked) -> Option<Answer> {
        let (path, query) = asked.path.split_once('?').unwrap_or((&asked.path, ""));
        match self.broken {
            Some(0) => return Some(Answer::reset()),
            Some(status) => return Some(refused(status, "Broken", &json!({}))),
            None => {}
        }
        if path.ends_with("/configmaps/roots") {
            return Some(match self.roots_refused {
                Some(status) => refused(status, "Refused", &json!({})),
                None => {
                    let metadata = json!({"name": "roots", "namespace": "mesh"});
                    Answer::json(200, &json!({"metadata": metadata, "data": {"ca.crt": self.roots}}))
                }
            });
        }
        let name = path.strip_prefix(REQUESTS).unwrap_or_else(|| panic!("{asked:?}")).trim_matches('/');
        match (asked.method.as_str(), name.trim_end_matches("/status")) {
            ("POST", _) => self.create(asked.body.clone()),
            ("GET", "") if query.contains("watch=true") => Some(self.watch(query)),
            ("GET", "") => {
                let items: Vec<_> = self.objects.values().filter(|object| selected(object, query)).cloned().collect();
                let metadata = json!({"resourceVersion": "1"});
                Some(Answer::json(
                    200,
                    &json!({"kind": "CertificateRequestList", "metadata": metadata, "items": items}),
                ))
            }
            (method, name) => {
                let Some(object) = self.objects.get_mut(name) else {
                    return Some(refused(404, "NotFound", &json!({"name": name})));
                };
                match method {
                    "PUT" if self.overtaken.0 > 0 => {
                        self.overtaken.0 -= 1;
                        if self.overtaken.1 {
                            object["status"] = asked.body["status"].clone();
                        }
                        Some(refused(409, "Conflict", &json!({"name": name})))
                    }
                    "PUT" => {
                        object["status"] = asked.body["status"].clone();
                        Some(Answer::json(200, &object.clone()))
                    }
                    "DELETE" => {
                        self.objects.remove(name);
                        Some(Answer::json(200, &json!({"kind": "Status", "status": "Success"})))
                    }
                    _ => Some(Answer::json(200, &object.clone())),
                }
            }
        }
    }

    fn next(&mut self) -> Does {
        if self.script.len() > 1 { self.script.remove(0) } else { self.script[0].clone() }
    }

    fn create(&mut self, mut object: Value) -> Option<Answer> {
        self.made += 1;
        let does = self.next();
        if let Does::Refuses(status, reason) = does {
            return Some(match status {
                429 => Answer::throttled(1),
                _ => refused(status, reason, &json!({})),
            });
        }
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        object["metadata"]["uid"] = json!(format!("uid-{name}"));
        object["metadata"]["resourceVersion"] = json!("7");
        let lost = matches!(does, Does::Loses);
        // Kept for the watch, which is when it happens.
        let mut kept = object.clone();
        kept["does"] = json!(self.keep(does));
        self.objects.insert(name, kept);
        (!lost).then(|| Answer::json(201, &object))
    }

    /// Puts what becomes of an object where its watch finds it.
    fn keep(&mut self, does: Does) -> usize {
        self.kept.push(does);
        self.kept.len() - 1
    }

    fn watch(&mut self, query: &str) -> Answer {
        let (more, closed) = mpsc::unbounded_channel();
        let name = query.split("metadata.name%3D").nth(1).unwrap().split('&').next().unwrap().to_owned();
        let Some(object) = self.objects.get(&name).cloned() else { return Answer::watch(&[], closed) };
        let index = usize::try_from(object["does"].as_u64().unwrap()).unwrap();
        let does = self.kept[index].clone();
        let mut object = object;
        let modified = |object: &Value| json!({"type": "MODIFIED", "object": shown(object)});
        let events = match does {
            Does::Signs(by) => {
                object["status"] = signed(&object, &by, "");
                vec![modified(&object)]
            }
            Does::SignsBelow(by, above) => {
                object["status"] = signed(&object, &by, &above);
                vec![modified(&object)]
            }
            Does::Says(status) => {
                object["status"] = status;
                vec![modified(&object)]
            }
            Does::Removes => {
                self.objects.remove(&name);
                return Answer::watch(&[json!({"type": "DELETED", "object": shown(&object)})], closed);
            }
            Does::EndsWatch(then) => {
                // As for a version that is too old: 200, and the error within.
                let status = match &*then {
                    Does::Signs(by) => signed(&object, by, ""),
                    Does::Says(status) => status.clone(),
                    _ => Value::Null,
                };
                object["status"] = status;
                self.objects.insert(name, object);
                let expired =
                    json!({"kind": "Status", "status": "Failure", "reason": "Expired", "code": 410, "message": ""});
                return Answer::watch(&[json!({"type": "ERROR", "object": expired})], closed);
            }
            Does::Nothing | Does::Loses | Does::Refuses(..) => Vec::new(),
        };
        self.objects.insert(name, object);
        self.open.push(more);
        Answer::watch(&events, closed)
    }
}

fn shown(object: &Value) -> Value {
    let mut object = object.clone();
    object.as_object_mut().unwrap().remove("does");
    object
}

fn selected(object: &Value, query: &str) -> bool {
    let Some(selector) = query.split("labelSelector=").nth(1).and_then(|rest| rest.split('&').next()) else {
        return true;
    };
    let selector = selector.replace("%2F", "/").replace("%3D", "=").replace("%2C", ",");
    selector.split(',').all(|part| {
        let (name, value) = part.split_once('=').unwrap();
        object["metadata"]["labels"][name] == value
    })
}

/// As the CA issuer signs: the subject and the names of the request, no path length, and no backdate.
fn signed(object: &Value, by: &Ca, above: &str) -> Value {
    let csr = STANDARD.decode(object["spec"]["request"].as_str().unwrap()).unwrap();
    let (_, block) = x509_parser::pem::parse_x509_pem(&csr).unwrap();
    let (_, request) = X509CertificationRequest::from_der(&block.contents).unwrap();
    let seconds: u64 = object["spec"]["duration"].as_str().unwrap().trim_end_matches('s').parse().unwrap();
    let now = signet_core::clock::Clock::now(&SystemClock);
    if object["spec"]["isCA"] == false {
        let text = String::from_utf8(csr).unwrap();
        let leaf = by.certifies(&text, Duration::from_secs(seconds), |params| {
            (params.not_before, params.not_after) = (now, now + Duration::from_secs(seconds));
            params.is_ca = IsCa::ExplicitNoCa;
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        });
        // With what lies between, and without a root.
        let above = if by.params.distinguished_name == named("middle") { by.pem() } else { String::new() };
        return issued(&(leaf.pem() + &above), &by.pem());
    }
    let certificate = by.signs_key(request.certification_request_info.subject_pki.raw, |params| {
        super::answer::tests::as_asked(params);
        (params.not_before, params.not_after) = (now, now + Duration::from_secs(seconds));
    });
    issued(&format!("{}{above}", pem(&certificate)), &by.pem())
}

fn named(name: &str) -> DistinguishedName {
    let mut all = DistinguishedName::new();
    all.push(DnType::CommonName, name);
    all
}

/// The status of a request with these.
pub(super) fn issued(certificate: &str, ca: &str) -> Value {
    json!({
        "certificate": STANDARD.encode(certificate), "ca": STANDARD.encode(ca),
        "conditions": [
            {"type": "Approved", "status": "True", "reason": "cert-manager.io", "message": "approved"},
            {"type": "Ready", "status": "True", "reason": "Issued", "message": "Certificate fetched from issuer successfully"},
        ],
    })
}
