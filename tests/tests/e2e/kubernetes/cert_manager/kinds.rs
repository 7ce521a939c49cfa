//! Kinds of issuers: one of the whole cluster, one of somebody else's that is not cert-manager's at all, and one that certifies no key
//! but its own.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateSigningRequestParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use serde_json::{Value, json};
use signet_core::clock::{Clock as _, SystemClock};
use signet_tests::client::keys;
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::Dev;
use signet_tests::harness::plugged::OwnCa;
use signet_tests::tools;

use super::{Stage, and, documented, done, issued, secret, shared};
use crate::rotation::files::id;
use crate::rotation::installation;

const TWO: [&str; 2] = ["client=default/client", "server=default/server"];

/// What `check --connect` says, with a signature that is tried whether or not that is on record.
fn tried(dev: &Dev) -> Outcome<(Option<i32>, String)> {
    let output = tools::output(&mut dev.ca_command(&["check", "--connect", "--off-record"])?)?;
    Ok((output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()))
}

const TRIED: &str = "a CA certificate on trial was signed by cert-manager";

#[tokio::test]
#[ignore = "needs a real API server; run it with: make test-kubernetes"]
async fn an_issuer_of_the_whole_cluster_certifies_as_one_of_a_namespace_does() -> Outcome {
    let (kubernetes, root) = (shared()?, OwnCa::root("mesh root")?);
    let dev = installation("1h", &TWO)?;
    let stage = Stage::new(kubernetes, &dev, &root, &[&root]).await?;
    let name = format!("of-{}", stage.own.namespace);
    let made = Failure::while_doing::<signet_test_servers::ServerError>;
    stage.cluster.namespace_called("cert-manager").await.map_err(made("make a namespace"))?;
    let mut with_ca = secret(&root);
    with_ca["metadata"]["name"] = json!(name);
    done(&stage.cluster, "POST", "/api/v1/namespaces/cert-manager/secrets", with_ca).await?;
    let issuer = json!({
        "apiVersion": "cert-manager.io/v1", "kind": "ClusterIssuer", "metadata": {"name": name},
        "spec": {"ca": {"secretName": name}},
    });
    done(&stage.cluster, "POST", "/apis/cert-manager.io/v1/clusterissuers", issuer).await?;
    stage.configure(&dev, &json!({"issuer": {"name": name, "kind": "ClusterIssuer"}}))?;
    let more = json!([{"apiGroups": ["cert-manager.io"], "resources": ["clusterissuers"], "verbs": ["get"]}]);
    stage.allow(and(documented("rbac.yaml")?, more)).await?;
    let (code, text) = tried(&dev)?;
    ensure(code == Some(0) && text.contains(TRIED), || text.clone())?;
    let _ca = dev.start_ca().await?;
    let reply = issued(&dev).await?;
    assert_eq!(keys::ids(reply.last().map_or("", String::as_str))?, [id(&root)?]);
    stage.no_requests().await
}

#[tokio::test]
#[ignore = "needs a real API server; run it with: make test-kubernetes"]
async fn a_self_signed_issuer_is_refused_before_it_is_trusted_and_when_it_is_asked() -> Outcome {
    let (kubernetes, root) = (shared()?, OwnCa::root("mesh root")?);
    let dev = installation("1h", &TWO)?;
    let stage = Stage::new(kubernetes, &dev, &root, &[&root]).await?;
    let issuer = json!({
        "apiVersion": "cert-manager.io/v1", "kind": "Issuer", "metadata": {"name": "own"}, "spec": {"selfSigned": {}},
    });
    stage.done("POST", &stage.path("issuers"), issuer).await?;
    stage.configure(&dev, &json!({"issuer": {"name": "own"}, "deadline": "20s"}))?;
    let (code, text) = tried(&dev)?;
    let words = "Issuer own is a self-signed one, which certifies no key but its own";
    ensure(code == Some(1) && text.contains(words), || text.clone())?;
    ensure(!text.contains(TRIED), || text.clone())?;
    let output = tools::output(&mut dev.ca_command(&["init"])?)?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let words = ["the issuer has failed to sign the CertificateRequest", "cert-manager.io/private-key-secret-name"];
    ensure(output.status.code() == Some(1) && words.iter().all(|word| text.contains(word)), || text.clone())?;
    stage.no_requests().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real API server; run it with: make test-kubernetes"]
async fn an_issuer_of_another_group_certifies_once_its_requests_are_approved() -> Outcome {
    let (kubernetes, root) = (shared()?, OwnCa::root("mesh root")?);
    let dev = installation("1h", &TWO)?;
    let stage = Stage::new(kubernetes, &dev, &root, &[&root]).await?;
    let kind = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "meshissuers.signet-tests.example"},
        "spec": {
            "group": "signet-tests.example", "scope": "Namespaced",
            "names": {"plural": "meshissuers", "singular": "meshissuer", "kind": "MeshIssuer", "listKind": "MeshIssuerList"},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
            }],
        },
    });
    done(&stage.cluster, "POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", kind).await?;
    let objects = format!("/apis/signet-tests.example/v1/namespaces/{}/meshissuers", stage.own.namespace);
    let issuer = json!({"apiVersion": "signet-tests.example/v1", "kind": "MeshIssuer", "metadata": {"name": "ca"}});
    let served = async || done(&stage.cluster, "POST", &objects, issuer.clone()).await.ok();
    signet_tests::harness::process::eventually("the kind to be served", super::SOON, served).await?;
    let issuer = json!({"name": "ca", "kind": "MeshIssuer", "group": "signet-tests.example"});
    stage.configure(&dev, &json!({"issuer": issuer, "approve": true, "deadline": "60s"}))?;
    // cert-manager's own approver leaves requests for other groups alone.
    let (status, signers) =
        ("certificaterequests/status", format!("meshissuers.signet-tests.example/{}.ca", stage.own.namespace));
    let more = json!([
        {"apiGroups": ["signet-tests.example"], "resources": ["meshissuers"], "verbs": ["get"]},
        {"apiGroups": ["cert-manager.io"], "resources": [status], "verbs": ["update"]},
        {"apiGroups": ["cert-manager.io"], "resources": ["signers"], "resourceNames": [signers], "verbs": ["approve"]},
    ]);
    stage.allow(and(documented("rbac.yaml")?, more)).await?;
    let (stage, root) = (Arc::new(stage), Arc::new(root));
    // Beside the commands, which are waited for.
    let signing = tokio::task::spawn(controller(Arc::clone(&stage), Arc::clone(&root)));
    let (code, text) = tried(&dev)?;
    ensure(code == Some(0) && text.contains(TRIED), || text.clone())?;
    let _ca = dev.start_ca().await?;
    let reply = issued(&dev).await?;
    assert_eq!(keys::ids(reply.last().map_or("", String::as_str))?, [id(&root)?]);
    stage.no_requests().await?;
    signing.abort();
    Ok(())
}

/// Signs what is approved, as the controller of such an issuer does.
async fn controller(stage: Arc<Stage>, ca: Arc<OwnCa>) -> Outcome {
    loop {
        for mut request in stage.requests().await? {
            let conditions = request["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let has = |name: &str| conditions.iter().any(|one| one["type"] == name && one["status"] == "True");
            if !has("Approved") || has("Ready") {
                continue;
            }
            let path = stage.path("certificaterequests");
            let path = format!("{path}/{}/status", request["metadata"]["name"].as_str().unwrap_or_default());
            let ready = json!({
                "type": "Ready", "status": "True", "reason": "Issued", "message": "signed",
                "lastTransitionTime": "2026-11-30T12:00:00Z",
            });
            let all: Vec<_> = conditions.into_iter().chain([ready]).collect();
            request["status"] = json!({"conditions": all, "certificate": STANDARD.encode(signed(&request, &ca)?)});
            // Whoever asked may have removed it meanwhile.
            drop(stage.send("PUT", &path, request).await?);
        }
        tokio::task::yield_now().await;
    }
}

fn signed(request: &Value, ca: &OwnCa) -> Outcome<String> {
    let failed = Failure::while_doing::<rcgen::Error>;
    let csr = STANDARD.decode(request["spec"]["request"].as_str().unwrap_or_default());
    let csr = String::from_utf8(csr.map_err(Failure::while_doing("read a request"))?);
    let csr = csr.map_err(Failure::while_doing("read a request"))?;
    let mut asked = CertificateSigningRequestParams::from_pem(&csr).map_err(failed("read a request"))?;
    let seconds = request["spec"]["duration"].as_str().map(|text| text.trim_end_matches('s').parse());
    let life = std::time::Duration::from_secs(seconds.transpose().ok().flatten().unwrap_or(60));
    let now = SystemClock.now();
    (asked.params.not_before, asked.params.not_after) = (now, now + life);
    asked.params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    asked.params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    asked.params.use_authority_key_identifier_extension = true;
    let key = KeyPair::from_pem(&ca.key).map_err(failed("read a key"))?;
    let issuer = Issuer::from_ca_cert_pem(&ca.certificate, key).map_err(failed("read a CA"))?;
    Ok(asked.signed_by(&issuer).map_err(failed("sign a certificate"))?.pem())
}
