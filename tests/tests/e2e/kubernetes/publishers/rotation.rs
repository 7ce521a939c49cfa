//! Two hundred namespaces go through a rotation, and an API server that is away holds nothing but its publisher.

use std::time::Duration;

use serde_json::{Value, json};
use signet_test_servers::kubernetes::{ApiServer, Kubernetes};
use signet_tests::client::admin::{active_root, is_settled, root_ids};
use signet_tests::client::certify::Client;
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::process::eventually;
use signet_tests::harness::rotation::ROTATION;

use super::super::ask;
use super::{SOON, Stage, installation, rights, told};

const MANY: usize = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real API server; run it with: make test-kubernetes"]
async fn two_hundred_namespaces_follow_a_rotation_and_one_that_cannot_be_written_holds_it() -> Outcome {
    let stage = Stage::new().await?;
    let names = stage.namespaces(MANY).await?;
    // Nobody here finishes its removal, so that it is being removed for as long as the test runs.
    stage.done("DELETE", &format!("/api/v1/namespaces/{}", names[0]), Value::Null).await?;
    let mut ca = stage.dev.start_ca().await?;
    let admin = ca.admin()?;
    let old = active_root(&admin.rotation().await.map_err(failed)?);
    stage.all_have(MANY - 1, &[&old]).await?;
    told(&mut ca, "config-map", "ready", &format!("in {} places", MANY - 1)).await?;
    ensure(stage.map(&names[0]).await?.is_null(), || {
        "nothing can be made in a namespace that is being removed".into()
    })?;

    // It may make ConfigMaps, and change none.
    let mut less = rights(&stage.label);
    less[2]["verbs"] = json!(["list", "watch", "get"]);
    stage.allow(less).await?;
    ca.operator().rotate()?;
    told(&mut ca, "config-map", "degraded", "answered 403").await?;
    let held = admin.rotation().await.map_err(failed)?;
    ensure(active_root(&held) == old && root_ids(&held).len() == 2, || format!("{held:?}"))?;
    let (new_namespace, new) = (stage.namespace(MANY).await?, root_ids(&held));
    let new = new.into_iter().find(|root| *root != old).unwrap_or_default();
    // A new namespace needs no change, and has both at once.
    let both = async || {
        let all = stage.all().await.ok()?;
        all.iter().any(|(name, roots)| *name == new_namespace && roots.len() == 2).then_some(())
    };
    eventually("both roots in the new namespace", SOON, both).await?;

    stage.allow(rights(&stage.label)).await?;
    stage.all_have(MANY, &[&old, &new]).await?;
    let change = json!({"data": {"root-cert.pem": "somebody's"}});
    stage.done("PATCH", &Stage::path(&names[7]), change).await?;
    stage.done("DELETE", &Stage::path(&names[8]), Value::Null).await?;
    stage.all_have(MANY, &[&old, &new]).await?;
    let settled = async || {
        let rotation = admin.rotation().await.ok()?;
        (is_settled(&rotation) && root_ids(&rotation) == [new.as_str()]).then_some(())
    };
    eventually("the old root to go", ROTATION, settled).await?;
    stage.all_have(MANY, &[&new]).await?;
    ensure(stage.map(&names[0]).await?.is_null(), || "something was made in a namespace that is being removed".into())?;
    told(&mut ca, "config-map", "ready", &format!("in {MANY} places")).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real API server; run it with: make test-kubernetes"]
async fn an_api_server_that_is_away_is_told_of_and_what_was_missed_is_done_when_it_is_back() -> Outcome {
    // Held, it holds all others who share it.
    let kubernetes = Kubernetes::start(&ApiServer::default()).map_err(failed)?;
    let stage = Stage::in_cluster(installation()?, &kubernetes).await?;
    let names = stage.namespaces(20).await?;
    let mut ca = stage.dev.start_ca().await?;
    let admin = ca.admin()?;
    let old = active_root(&admin.rotation().await.map_err(failed)?);
    stage.all_have(names.len(), &[&old]).await?;
    kubernetes.hold(true).map_err(failed)?;
    ca.operator().rotate()?;
    // Issuance waits for nobody.
    let client = Client::connect(&stage.dev).await?;
    let token = stage.dev.token("client")?;
    ensure(ask(&client, &token).await?.is_ok(), || "no certificate".into())?;
    told(&mut ca, "config-map", "degraded", "").await?;
    let held = admin.rotation().await.map_err(failed)?;
    ensure(active_root(&held) == old, || format!("{held:?}"))?;
    kubernetes.hold(false).map_err(failed)?;
    let settled = async || {
        let rotation = admin.rotation().await.ok()?;
        (is_settled(&rotation) && active_root(&rotation) != old && root_ids(&rotation).len() == 1).then_some(rotation)
    };
    let rotation = eventually("the rotation to end", ROTATION + Duration::from_secs(60), settled).await?;
    stage.all_have(names.len(), &[&active_root(&rotation)]).await
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::unexpected(error.to_string())
}
