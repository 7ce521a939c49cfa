//! Issuing CAs are certified, renewed, and judged; what keeps that from happening is said, and passes.

use serde_json::{Value, json};
use signet_tests::client::admin::{active_issuers, active_root, root_ids};
use signet_tests::client::keys;
use signet_tests::failure::{Outcome, ensure};
use signet_tests::harness::Process;
use signet_tests::harness::plugged::OwnCa;
use signet_tests::harness::process::eventually;

use super::super::connect::connect;
use super::{SOON, Stage, issued, shared, told};
use crate::rotation::files::id;
use crate::rotation::{installation, now_at, until};

const TWO: [&str; 2] = ["client=default/client", "server=default/server"];

#[tokio::test]
#[ignore = "needs a real API server; run it with: make test-kubernetes"]
async fn certificates_of_an_issuing_ca_of_cert_managers_are_accepted_and_it_is_renewed() -> Outcome {
    let (kubernetes, root) = (shared()?, OwnCa::root("mesh root")?);
    let middle = root.certify("mesh ca")?;
    let dev = installation("1h", &TWO)?;
    let stage = Stage::new(kubernetes, &dev, &middle, &[&root]).await?;
    stage.configure(&dev, &json!({}))?;
    let (code, text) = connect(&dev)?;
    ensure(code == Some(0) && text.contains("so that a trial would be on no record"), || text.clone())?;
    ensure(stage.requests().await?.is_empty(), || "a trial has made something".into())?;
    let mut ca = dev.start_ca().await?;
    let (code, text) = connect(&dev)?;
    let signed = "a CA certificate on trial was signed by cert-manager (which is on record)";
    ensure(code == Some(0) && text.contains(signed), || text.clone())?;
    let record = ca.audit(&[])?;
    let outcomes: Vec<_> =
        record.iter().filter(|event| event["reason"] == "check").map(|event| &event["outcome"]).collect();
    ensure(outcomes == ["done", "intended"], || format!("{record:#?}"))?;
    let reply = issued(&dev).await?;
    // Leaf, issuing CA, the CA of the issuer, and the root.
    ensure(reply.len() == 4, || format!("{} certificates", reply.len()))?;
    ensure(reply[2].trim() == middle.certificate.trim(), || reply[2].clone())?;
    assert_eq!(keys::ids(&reply[3])?, [id(&root)?]);
    stage.no_requests().await?;
    told(&mut ca, "ready", "").await?;

    let admin = ca.admin()?;
    let first: Vec<_> = active_issuers(&now_at(&admin).await?).map(|one| one.id.clone()).collect();
    ca.operator().done(&["authority", "rotate", "--issuing"])?;
    until(&admin, "another issuing CA", SOON, |rotation| {
        active_issuers(rotation).any(|one| !first.contains(&one.id)).then_some(())
    })
    .await?;
    let again = issued(&dev).await?;
    ensure(again[1] != reply[1] && again[3] == reply[3], || "the issuing CA is the same".into())?;
    stage.no_requests().await
}

#[tokio::test]
#[ignore = "needs a real API server; run it with: make test-kubernetes"]
async fn a_missing_secret_is_told_issues_on_and_recovers_by_itself() -> Outcome {
    let (kubernetes, root) = (shared()?, OwnCa::root("mesh root")?);
    let dev = installation("1h", &TWO)?;
    let stage = Stage::new(kubernetes, &dev, &root, &[&root]).await?;
    stage.configure(&dev, &json!({"deadline": "5s"}))?;
    let mut ca = dev.start_ca().await?;
    let first = issued(&dev).await?;
    stage.done("DELETE", &format!("{}/mesh-ca", stage.path("secrets")), Value::Null).await?;
    let unready = async || {
        let issuer = stage.done("GET", &format!("{}/mesh-ca", stage.path("issuers")), Value::Null).await.ok()?;
        issuer["status"]["conditions"].as_array()?.iter().any(|one| one["status"] == "False").then_some(())
    };
    eventually("the issuer to be unready", SOON, unready).await?;
    let (code, text) = connect(&dev)?;
    ensure(code == Some(1) && text.contains("Issuer mesh-ca is not ready"), || text.clone())?;
    let refused = ca.operator().refused(&["authority", "rotate", "--issuing"])?;
    ensure(refused.contains("was not answered within 5s") && refused.contains("Issuer mesh-ca"), || refused.clone())?;
    told(&mut ca, "degraded", "was not answered within 5s").await?;
    stage.no_requests().await?;
    let still = issued(&dev).await?;
    ensure(still[1] == first[1], || "not the issuing CA that was there".into())?;

    stage.set_signer(&root).await?;
    let renewed = async || ca.operator().run(&["authority", "rotate", "--issuing"]).ok()?.ok();
    eventually("the issuing CA to be renewed", SOON, renewed).await?;
    told(&mut ca, "ready", "").await
}

#[tokio::test]
#[ignore = "needs a real API server; run it with: make test-kubernetes"]
async fn an_issuer_that_leads_elsewhere_certifies_nothing_here_until_its_root_is_published() -> Outcome {
    let (kubernetes, root, other) = (shared()?, OwnCa::root("mesh root")?, OwnCa::root("other root")?);
    let dev = installation("1h", &TWO)?;
    let stage = Stage::new(kubernetes, &dev, &root, &[&root]).await?;
    stage.configure(&dev, &json!({}))?;
    let mut ca = dev.start_ca().await?;
    issued(&dev).await?;
    stage.set_signer(&other).await?;
    // The controller reads the Secret from its cache.
    let refused = async || {
        let refused = ca.operator().run(&["authority", "rotate", "--issuing"]).ok()?.err()?;
        refused.text.contains("no way leads from the certificate").then_some(())
    };
    eventually("an answer that leads elsewhere", SOON, refused).await?;
    told(&mut ca, "degraded", "to a root in ca.crt of ConfigMap").await?;
    let still = issued(&dev).await?;
    assert_eq!(keys::ids(still.last().map_or("", String::as_str))?, [id(&root)?]);
    stage.no_requests().await?;

    stage.set_roots(&[&other]).await?;
    let admin = ca.admin()?;
    let expected = id(&other)?;
    until(&admin, "both roots", SOON, |rotation| (root_ids(rotation).len() == 2).then_some(())).await?;
    // Whoever has a certificate gets the new bundle with the next one.
    issued(&dev).await?;
    until(&admin, "the other root to sign", SOON, |rotation| (active_root(rotation) == expected).then_some(())).await?;
    told(&mut ca, "ready", "").await
}

#[tokio::test]
#[ignore = "needs a real API server; run it with: make test-kubernetes"]
async fn what_a_crash_has_left_behind_is_removed_and_what_others_have_made_stays() -> Outcome {
    let (kubernetes, root) = (shared()?, OwnCa::root("mesh root")?);
    let dev = installation("1h", &TWO)?;
    let stage = Stage::new(kubernetes, &dev, &root, &[&root]).await?;
    stage.configure(
        &dev,
        &json!({"deadline": "15s", "issuer": {"name": "ca", "kind": "Nobody", "group": "nobody.example"}}),
    )?;
    // Nobody answers this one; the process is killed while it waits.
    let mut first = Process::start_command("init", dev.ca_command(&["init"])?, dev.directory())?;
    let left = stage.request().await?;
    first.kill();
    let name = left["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let foreign = json!({
        "apiVersion": left["apiVersion"], "kind": left["kind"], "spec": left["spec"],
        "metadata": {"name": "foreign", "labels": {"app.kubernetes.io/managed-by": "somebody"}},
    });
    stage.done("POST", &stage.path("certificaterequests"), foreign).await?;

    stage.configure(&dev, &json!({}))?;
    let _ca = dev.start_ca().await?;
    let gone = async || {
        let all = stage.requests().await.ok()?;
        let names: Vec<_> = all.iter().filter_map(|one| one["metadata"]["name"].as_str()).collect();
        (names == ["foreign"]).then_some(())
    };
    eventually(&format!("{name} to be removed"), SOON, gone).await
}

#[tokio::test]
#[ignore = "needs a real API server; run it with: make test-kubernetes"]
async fn what_is_missing_is_named_before_cert_manager_is_trusted() -> Outcome {
    let (kubernetes, root) = (shared()?, OwnCa::root("mesh root")?);
    let dev = installation("1h", &TWO)?;
    let stage = Stage::new(kubernetes, &dev, &root, &[&root]).await?;
    stage.configure(
        &dev,
        &json!({"approve": true, "issuer": {"name": "none"}, "roots": {"from": "config-map", "name": "none"}}),
    )?;
    stage.allow(json!([])).await?;
    let (code, text) = connect(&dev)?;
    for words in [
        "may not create certificaterequests of cert-manager.io in namespace",
        "may not delete certificaterequests of cert-manager.io in namespace",
        "may not get configmaps called none in namespace",
        "may not update certificaterequests/status of cert-manager.io in namespace",
        "may not approve signers of cert-manager.io called issuers.cert-manager.io/",
        "a CertificateRequest on trial was refused",
    ] {
        ensure(code == Some(1) && text.contains(words), || format!("{words:?} is not in {text}"))?;
    }
    stage.allow(super::documented("rbac.yaml")?).await?;
    let (code, text) = connect(&dev)?;
    ensure(code == Some(1) && text.contains("there is no Issuer none in namespace"), || text.clone())?;
    stage.configure(&dev, &json!({"issuer": {"name": "ca", "kind": "Nobody", "group": "nobody.example"}}))?;
    let (code, text) = connect(&dev)?;
    ensure(code == Some(1) && text.contains("has no kind Nobody of nobody.example"), || text.clone())?;
    ensure(stage.requests().await?.is_empty(), || "a trial has made something".into())?;
    Ok(())
}
