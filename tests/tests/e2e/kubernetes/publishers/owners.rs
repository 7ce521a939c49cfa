//! Whose a ConfigMap is, what the CA's account may do, and the ClusterTrustBundle.

use serde_json::{Value, json};
use signet_tests::client::admin::active_root;
use signet_tests::client::keys;
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::process::eventually;
use signet_tests::tools;

use super::{ROOTS, SOON, Stage, condition, rights, told};

/// The ConfigMap of a running istiod.
fn istiods(text: &str) -> Value {
    json!({
        "metadata": {"name": ROOTS, "labels": {"istio.io/config": "true"}},
        "data": {"root-cert.pem": text},
    })
}

fn by_istiod(path: &str) -> String {
    format!("{path}?fieldManager=pilot-discovery")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real API server; run it with: make test-kubernetes"]
async fn a_config_map_of_istiod_is_left_and_named_and_replaced_when_the_configuration_says_so() -> Outcome {
    let stage = Stage::new().await?;
    let name = stage.namespace(0).await?;
    let path = format!("/api/v1/namespaces/{name}/configmaps");
    stage.done("POST", &by_istiod(&path), istiods("of istiod")).await?;
    let mut ca = stage.dev.start_ca().await?;
    told(&mut ca, "config-map", "degraded", "istiod writes this ConfigMap, and it lacks roots").await?;
    ensure(stage.text(&name).await? == "of istiod", || "it was written".into())?;
    // It counts when it holds ours too.
    let ours = stage.dev.text("root-cert.pem")?;
    let both = json!({"data": {"root-cert.pem": format!("# of istiod\n{ours}")}});
    stage.done("PATCH", &by_istiod(&Stage::path(&name)), both).await?;
    told(&mut ca, "config-map", "ready", "in 1 places").await?;
    ensure(stage.text(&name).await?.starts_with("# of istiod"), || "it was written".into())?;

    stage.publish(json!({"istiod": "replace"}))?;
    let replaced = async || (stage.text(&name).await.ok()? == ours).then_some(());
    eventually("our roots alone", SOON, replaced).await?;
    for _ in 0..4 {
        let back = json!({"data": {"root-cert.pem": "of istiod"}});
        stage.done("PATCH", &by_istiod(&Stage::path(&name)), back).await?;
        let seen = async || {
            let (state, detail) = condition(&mut ca, "config-map").await.ok()?;
            let gives_up = state == "degraded" && detail.contains("back each time");
            (gives_up || stage.text(&name).await.ok()? == ours).then_some(())
        };
        eventually("an answer to istiod", SOON, seen).await?;
    }
    told(&mut ca, "config-map", "degraded", "back each time").await?;
    ensure(stage.text(&name).await? == "of istiod", || "still fought".into())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real API server; run it with: make test-kubernetes"]
async fn rights_that_are_missing_are_named_before_and_while_the_ca_runs() -> Outcome {
    let stage = Stage::new().await?;
    stage.namespaces(2).await?;
    let bundle = json!({"name": stage.label});
    let both = json!({"config_maps": {"namespaces": format!("test={}", stage.label)}, "cluster_trust_bundle": bundle});
    stage.section(both)?;
    let check = || -> Outcome<(Option<i32>, String)> {
        let output = tools::output(&mut stage.dev.ca_command(&["check", "--connect"])?)?;
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        Ok((output.status.code(), text.into_owned()))
    };
    let (code, text) = check()?;
    ensure(code == Some(0), || text.clone())?;
    let mut less = rights(&stage.label);
    less.as_array_mut().into_iter().for_each(|rules| {
        rules.retain(|rule| rule["verbs"] != json!(["attest"]) && rule["resources"] != json!(["namespaces"]));
    });
    less[1]["verbs"] = json!(["list", "watch", "get"]);
    stage.allow(less.clone()).await?;
    let (code, text) = check()?;
    for words in [
        "may not list namespaces".to_owned(),
        "may not watch namespaces".to_owned(),
        format!("may not patch configmaps called {ROOTS}"),
        "may not attest signers of certificates.k8s.io called signet.internal/workload".to_owned(),
    ] {
        ensure(code == Some(1) && text.contains(&words), || format!("{words}: {text}"))?;
    }
    let mut ca = stage.dev.start_ca().await?;
    told(&mut ca, "config-map", "degraded", "namespaces cannot be followed").await?;
    told(&mut ca, "cluster-trust-bundle", "degraded", "may not attest for the signer signet.internal/workload").await?;
    stage.allow(rights(&stage.label)).await?;
    told(&mut ca, "config-map", "ready", "in 2 places").await?;
    told(&mut ca, "cluster-trust-bundle", "ready", "in 1 places").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real API server; run it with: make test-kubernetes"]
async fn the_cluster_trust_bundle_follows_a_rotation_and_is_repaired() -> Outcome {
    let stage = Stage::new().await?;
    stage.section(json!({"cluster_trust_bundle": {"name": stage.label}}))?;
    let mut ca = stage.dev.start_ca().await?;
    let admin = ca.admin()?;
    let path = format!("/apis/certificates.k8s.io/v1/clustertrustbundles/signet.internal:workload:{}", stage.label);
    let roots = async || {
        let (status, object) = stage.send("GET", &path, Value::Null).await.ok()?;
        if status != 200 {
            return None;
        }
        keys::ids(object["spec"]["trustBundle"].as_str().unwrap_or_default()).ok()
    };
    let rotation = admin.rotation().await.map_err(Failure::while_doing("ask where rotation stands"))?;
    let old = active_root(&rotation);
    let holds = async |wanted: &[String]| {
        let reached = async || (roots().await? == wanted).then_some(());
        eventually(&format!("{wanted:?} in the ClusterTrustBundle"), SOON, reached).await
    };
    holds(std::slice::from_ref(&old)).await?;
    stage.done("DELETE", &path, Value::Null).await?;
    holds(std::slice::from_ref(&old)).await?;
    ca.operator().prepare()?;
    let both = async || (roots().await?.len() == 2).then_some(());
    eventually("both roots", SOON, both).await?;
    // Somebody takes one out.
    let (_, object) = stage.send("GET", &path, Value::Null).await?;
    let text = object["spec"]["trustBundle"].as_str().unwrap_or_default();
    let one = keys::split(text).into_iter().next().unwrap_or_default();
    stage.done("PATCH", &path, json!({"spec": {"trustBundle": one}})).await?;
    eventually("both roots again", SOON, async || (roots().await?.len() == 2).then_some(())).await?;
    told(&mut ca, "cluster-trust-bundle", "ready", "in 1 places").await?;
    ca.operator().rollback()?;
    holds(std::slice::from_ref(&old)).await
}
