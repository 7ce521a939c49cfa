//! The signer of PodCertificateRequests beside a real API server, which checks what is asked and what is answered. No kubelet runs;
//! its part is played by the name of a node.

#![allow(clippy::print_stderr, reason = "what is measured is told")]

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use signet_core::certificate::Facts;
use signet_test_servers::ServerError;
use signet_test_servers::kubernetes::{
    Answers, ISSUER, Kubelet, Kubernetes, MadePod, Wanted, make_request, overwrite_status,
};
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::{Ca, Dev, DevOptions};
use signet_tests::tools;

use super::{SOON, Workload, credentials, told};

/// Whatever happens, a request that was claimed by a process that died is somebody else's after 30 seconds.
const AFTER_A_DEATH: Duration = Duration::from_secs(90);

fn made<T>(result: Result<T, ServerError>) -> Outcome<T> {
    result.map_err(Failure::while_doing("use the API server"))
}

/// A CA that signs for pods, and a pod that wants a certificate.
struct Scene {
    dev: Dev,
    web: Workload,
    pod: MadePod,
    kubelet: Kubelet,
    account_uid: String,
    signer: String,
}

fn rights(signer: &str) -> Value {
    let group = "certificates.k8s.io";
    json!([
        {"apiGroups": [group], "resources": ["podcertificaterequests"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": [group], "resources": ["podcertificaterequests/status"], "verbs": ["update"]},
        {"apiGroups": [group], "resources": ["signers"], "resourceNames": [signer], "verbs": ["sign"]},
        {"apiGroups": [""], "resources": ["pods", "serviceaccounts", "nodes"], "verbs": ["get"]},
    ])
}

impl Scene {
    async fn set(kubernetes: &Kubernetes) -> Outcome<Self> {
        // Certificates of an hour and longer.
        let dev = Dev::init(&DevOptions { svid_ttl: Some("24h".to_owned()), ..DevOptions::default() })?;
        let web = Workload::of(kubernetes).await?;
        let signer = format!("{}.internal/workload", web.namespace);
        credentials(&dev, kubernetes, rights(&signer)).await?;
        let kubeconfig = dev.path("kubeconfig").display().to_string();
        dev.edit("signet-ca.yaml", |config| {
            config["clusters"] = json!([{
                "id": "Kubernetes", "trust_domain": "cluster.local", "api_server": kubeconfig,
                "tokens": {"kind": "jwks", "issuer": ISSUER, "from": "api-server"},
                "pod_certificates": {"signer": signer},
            }]);
            Ok(())
        })?;
        let account_uid = made(web.cluster.account_uid(&web.namespace, "web").await)?;
        let node_uid = made(web.cluster.node_uid(&web.node).await)?;
        let kubelet = made(kubernetes.kubelet(&web.node, &node_uid).await)?;
        let pod = web.cluster.pod_with_certificate((&web.namespace, "web-pc"), ("web", &web.node), &signer).await;
        Ok(Self { dev, pod: made(pod)?, web, kubelet, account_uid, signer })
    }

    fn wanted(&self, csr: String) -> Wanted {
        let account = ("web".to_owned(), self.account_uid.clone());
        Wanted { pod: self.pod.clone(), account, signer: self.signer.clone(), csr, longest: 7200 }
    }

    fn answers(&self) -> Answers {
        Answers::of(&self.web.cluster.client(), &self.web.namespace)
    }
}

/// A request for a new key, as kubelets make it: DER in base64.
fn csr(algorithm: &'static rcgen::SignatureAlgorithm, names: &[&str]) -> (String, Vec<u8>) {
    let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.subject_alt_names = names.iter().map(|uri| rcgen::SanType::URI((*uri).try_into().unwrap())).collect();
    let der = params.serialize_request(&key).unwrap().der().to_vec();
    (STANDARD.encode(der), rcgen::PublicKeyData::subject_public_key_info(&key))
}

fn condition(status: &Value) -> (String, String, String) {
    let text = |name: &str| status["conditions"][0][name].as_str().unwrap_or_default().to_owned();
    (text("type"), text("reason"), text("message"))
}

fn certificates(chain: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(chain.as_bytes()).map(Result::unwrap).collect()
}

/// The events of certificates that were issued to these requests.
fn issued(ca: &Ca, uids: &[String]) -> Outcome<Vec<Value>> {
    let mut events = ca.audit(&["--outcome", "issued"])?;
    events.retain(|event| event["request_id"].as_str().is_some_and(|id| uids.iter().any(|uid| uid == id)));
    Ok(events)
}

#[tokio::test]
#[ignore = "needs a real API server; run it with: make test-kubernetes"]
async fn a_kubelet_gets_its_pods_certificate_and_the_status_is_written_once() -> Outcome {
    let kubernetes = Kubernetes::shared().map_err(|error| Failure::unexpected(error.to_string()))?;
    let scene = Scene::set(kubernetes).await?;
    let output = tools::output(&mut scene.dev.ca_command(&["check", "--connect"])?)?;
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    ensure(output.status.success(), || format!("check --connect: {text}"))?;
    let mut answers = scene.answers();
    // It was asked before the CA was there.
    let (request, key) = csr(&rcgen::PKCS_ECDSA_P256_SHA256, &[]);
    let (name, uid) = made(scene.kubelet.ask(&scene.wanted(request)).await)?;
    let mut ca = scene.dev.start_ca().await?;
    let (_, status) = made(answers.answer(&name, SOON).await)?;
    let (kind, _, message) = condition(&status);
    ensure(kind == "Issued", || format!("{kind}: {message}"))?;
    let chain = certificates(status["certificateChain"].as_str().unwrap_or_default());
    ensure(chain.len() == 2, || format!("{} certificates", chain.len()))?;
    let leaf = Facts::read(&chain[0]).map_err(Failure::while_doing("read a leaf"))?;
    ensure(leaf.spki_der == key && leaf.uris == [scene.web.identity()], || format!("{leaf:?}"))?;
    let life = (leaf.not_after - leaf.not_before).whole_seconds();
    ensure(life == 7200, || format!("it lasts {life} s, of which the backdate is a part"))?;

    let [event] =
        <[Value; 1]>::try_from(issued(&ca, &[uid])?).map_err(|all| Failure::unexpected(format!("{all:?}")))?;
    ensure(event["who"]["auth_method"] == "pod-certificate" && event["who"]["pod"] == "web-pc", || event.to_string())?;
    // Its holder has no roots, as far as anybody knows.
    let holders = ca.ask(&["holders", "list", "--behind"])?;
    let holder = holders["holders"].as_array().into_iter().flatten().find(|one| one["pod"] == "web-pc").cloned();
    let is_published = |holder: &Value| holder["learns_by"] == "published" && holder["bundle_sequence"] == 0;
    ensure(holder.as_ref().is_some_and(is_published), || format!("{holders}"))?;
    told(&mut ca, "pod certificates of Kubernetes", "ready", "(v1): 0 requests without an answer").await?;
    let status = ca.ask(&["status"])?;
    let signer = &status["clusters"][0]["signer"];
    ensure(signer["issued"] == 1 && signer["name"] == scene.signer && signer["version"] == "v1", || {
        signer.to_string()
    })?;

    // What is written stays.
    let other = json!({"conditions": [{
        "type": "Denied", "status": "True", "reason": "Other", "message": "x", "lastTransitionTime": "2026-03-01T12:00:00Z",
    }]});
    let changed = overwrite_status(&scene.web.cluster.client(), &scene.web.namespace, &name, other).await;
    ensure(changed.as_ref().is_err_and(|error| error.to_string().contains("immutable")), || format!("{changed:?}"))?;
    ca.process.stop().await.map(drop)
}

#[tokio::test]
#[ignore = "needs a real API server; run it with: make test-kubernetes"]
async fn each_request_that_is_not_as_the_cluster_is_is_denied_with_what_to_change() -> Outcome {
    let kubernetes = Kubernetes::shared().map_err(|error| Failure::unexpected(error.to_string()))?;
    let scene = Scene::set(kubernetes).await?;
    let (ca, mut answers) = (scene.dev.start_ca().await?, scene.answers());
    let (good, ec) = (scene.wanted(String::new()), &rcgen::PKCS_ECDSA_P256_SHA256);
    let (node, node_uid) = (scene.kubelet.node.0.clone(), scene.kubelet.node.1.clone());
    let with = |changes: Value| {
        let mut spec = Wanted { csr: csr(ec, &[]).0, ..good.clone() }.spec((&node, &node_uid));
        for (name, value) in changes.as_object().into_iter().flatten() {
            spec[name] = value.clone();
        }
        spec
    };
    let cluster = &scene.web.cluster;
    let (namespace, signer) = (scene.web.namespace.as_str(), scene.signer.as_str());
    made(cluster.account(namespace, "other").await)?;
    let ended = made(cluster.pod_with_certificate((namespace, "ended"), ("web", &node), signer).await)?;
    made(cluster.phase(&ended, "Failed").await)?;
    let bare = &scene.web.pod;
    let named = csr(ec, &["spiffe://cluster.local/ns/default/sa/admin"]).0;
    let requests = [
        (with(json!({"podName": "none"})), "PodGone", "there is no pod"),
        (with(json!({"podUID": "another"})), "PodGone", "another UID"),
        (with(json!({"podName": ended.name, "podUID": ended.uid})), "PodGone", "has ended: Failed"),
        (with(json!({"serviceAccountName": "other"})), "AccountGone", "has the service account \"web\""),
        (with(json!({"serviceAccountUID": "another"})), "AccountGone", "another UID"),
        (with(json!({"nodeName": "other"})), "NodeGone", "does not run on"),
        (with(json!({"nodeUID": "another"})), "NodeGone", "another UID"),
        (with(json!({"podName": bare.name, "podUID": bare.uid})), "VolumeMissing", "add one to it"),
        (with(json!({"stubPKCS10Request": csr(&rcgen::PKCS_ED25519, &[]).0})), "UnsupportedKeyType", "ECDSAP256"),
        (with(json!({"stubPKCS10Request": named})), "CsrNamesNotAllowed", "ask for exactly that URI"),
        (with(json!({"unverifiedUserAnnotations": {"a.b/c": "d"}})), "RequestMalformed", "userAnnotations"),
    ];
    // Somebody who may do everything makes them: NodeRestriction looks at kubelets only.
    for (spec, reason, words) in requests {
        let (name, _) = made(make_request(&cluster.client(), namespace, &spec).await)?;
        let (_, status) = made(answers.answer(&name, SOON).await)?;
        let (kind, told, message) = condition(&status);
        ensure(kind == "Denied" && told == reason && message.contains(words), || format!("{reason}: {status}"))?;
    }
    for reason in ["pod_gone", "account_gone", "node_gone", "volume_missing", "csr_weak_key", "csr_names_not_allowed"] {
        ca.refused_for(reason).await?;
    }
    let status = ca.ask(&["status"])?;
    ensure(status["clusters"][0]["signer"]["denied"] == 11, || status["clusters"][0].to_string())?;
    ensure(ca.audit(&["--outcome", "issued"])?.iter().all(|event| event["who"]["pod"].is_null()), || "issued".into())?;

    // A kubelet may ask for the pods of its own node only, where NodeRestriction is on.
    let elsewhere = format!("other-{node}");
    let elsewhere_uid = made(cluster.node(&elsewhere).await)?;
    let other = made(kubernetes.kubelet(&elsewhere, &elsewhere_uid).await)?;
    let refused = other.ask(&Wanted { csr: csr(ec, &[]).0, ..good.clone() }).await;
    ensure(refused.is_err(), || "a kubelet asks for a pod of another node".to_owned())
}

#[tokio::test]
#[ignore = "needs a real API server; run it with: make test-kubernetes"]
async fn of_a_hundred_requests_each_is_issued_once_although_one_of_two_replicas_is_killed() -> Outcome {
    const REQUESTS: usize = 100;
    let kubernetes = Kubernetes::shared().map_err(|error| Failure::unexpected(error.to_string()))?;
    let scene = Scene::set(kubernetes).await?;
    let ca = scene.dev.start_ca().await?;
    let mut other = scene.dev.replica()?.start(&scene.dev).await?;
    let mut answers = scene.answers();
    let mut asked = Vec::new();
    for number in 0..REQUESTS {
        let (request, _) = csr(&rcgen::PKCS_ECDSA_P256_SHA256, &[]);
        let at = Instant::now();
        let (name, uid) = made(scene.kubelet.ask(&scene.wanted(request)).await)?;
        asked.push((name, uid, at));
        if number == REQUESTS / 2 {
            other.process.kill();
        }
    }
    let mut took = Vec::new();
    for (name, _, at) in &asked {
        let (answered, status) = made(answers.answer(name, AFTER_A_DEATH).await)?;
        let (kind, _, message) = condition(&status);
        ensure(kind == "Issued", || format!("{name}: {kind}: {message}"))?;
        took.push(answered.saturating_duration_since(*at));
    }
    let uids: Vec<String> = asked.iter().map(|(_, uid, _)| uid.clone()).collect();
    let events = issued(&ca, &uids)?;
    let mut on_record: Vec<&str> = events.iter().filter_map(|event| event["request_id"].as_str()).collect();
    on_record.sort_unstable();
    on_record.dedup();
    ensure(on_record.len() == REQUESTS && events.len() == REQUESTS, || {
        format!("{} requests and {} certificates on record", on_record.len(), events.len())
    })?;
    took.sort_unstable();
    let share = |percent: usize| took[took.len() * percent / 100].as_millis();
    eprintln!(
        "request to issued, one of two replicas killed: p50 {} ms, p90 {} ms, p99 {} ms",
        share(50),
        share(90),
        share(99)
    );
    // What the dead one had is not forgotten by the one that lives, and the same after a restart of that.
    let (request, _) = csr(&rcgen::PKCS_ECDSA_P256_SHA256, &[]);
    let mut ca = ca;
    ca.process.kill();
    let (name, uid) = made(scene.kubelet.ask(&scene.wanted(request)).await)?;
    let again = scene.dev.start_ca().await?;
    let (_, status) = made(answers.answer(&name, AFTER_A_DEATH).await)?;
    ensure(condition(&status).0 == "Issued" && issued(&again, &[uid])?.len() == 1, || status.to_string())
}

#[tokio::test]
#[ignore = "needs a real API server; run it with: make test-kubernetes"]
async fn a_hundred_requests_one_by_one_are_answered_in_this_time() -> Outcome {
    let kubernetes = Kubernetes::shared().map_err(|error| Failure::unexpected(error.to_string()))?;
    let scene = Scene::set(kubernetes).await?;
    let _ca = scene.dev.start_ca().await?;
    let (mut answers, mut took) = (scene.answers(), Vec::new());
    for _ in 0..100 {
        let (request, _) = csr(&rcgen::PKCS_ECDSA_P256_SHA256, &[]);
        let at = Instant::now();
        let (name, _) = made(scene.kubelet.ask(&scene.wanted(request)).await)?;
        let (answered, status) = made(answers.answer(&name, SOON).await)?;
        ensure(condition(&status).0 == "Issued", || status.to_string())?;
        took.push(answered.saturating_duration_since(at));
    }
    took.sort_unstable();
    eprintln!("request to issued: p50 {} ms, p99 {} ms", took[50].as_millis(), took[99].as_millis());
    Ok(())
}

#[tokio::test]
#[ignore = "needs a real API server; run it with: make test-kubernetes"]
async fn the_sample_is_taken_by_an_api_server_that_looks_at_every_field() -> Outcome {
    let kubernetes = Kubernetes::shared().map_err(|error| Failure::unexpected(error.to_string()))?;
    let cluster = made(kubernetes.cluster().await)?;
    let namespace = made(cluster.namespace().await)?;
    made(cluster.account(&namespace, "web").await)?;
    for document in crate::pod_volume::documents()? {
        if document["kind"] != "ServiceAccount" {
            made(cluster.try_out(&namespace, &document).await)?;
        }
    }
    let wrong = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "date": {}});
    ensure(cluster.try_out(&namespace, &wrong).await.is_err(), || {
        "a field that does not exist is passed over".to_owned()
    })
}
