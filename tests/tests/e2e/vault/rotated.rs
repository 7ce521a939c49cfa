//! Roots change in OpenBao, and the backend changes to it, while requests go on.

use std::time::Duration;

use signet_proto::admin::v1alpha1::Rotation;
use signet_tests::client::admin::{active_issuers, active_root};
use signet_tests::client::keys;
use signet_tests::failure::{Outcome, ensure};
use signet_tests::harness::Bao;
use signet_tests::stage::Stage;
use signet_tests::traffic::Traffic;

use super::super::rotation::{active, calm, now_at, settled, steps};
use super::{backed, installation, issued};

/// The id of the root in a PEM text.
fn id(root: &str) -> Outcome<String> {
    Ok(keys::ids(root)?.concat())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_root_that_is_rotated_in_openbao_is_followed_and_no_request_fails() -> Outcome {
    let (bao, dev) = backed("20s", 3600).await?;
    let stage = Stage::set(dev, 2, |_| {}).await?;
    let admin = stage.ca.admin()?;
    let old = settled(&admin, 2).await?;
    let traffic = Traffic::start(stage.entrance(), 2, Duration::from_millis(20));
    let new = id(&bao.root("root/rotate/internal", "b").await?)?;
    ensure(new != old, || "the root has not changed".to_owned())?;
    assert_eq!(active_root(&now_at(&admin).await?), old, "another issuer is none of ours before it is the default");
    bao.make_default("b").await?;
    active(&admin, &new).await?;
    assert_eq!(settled(&admin, 2).await?, new);
    calm(&traffic.stop().await)?;
    issued(&stage.dev).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ca_of_its_own_moves_to_openbao_and_no_request_fails() -> Outcome {
    let dev = installation("20s")?;
    let mut stage = Stage::set(dev, 2, |_| {}).await?;
    let own = settled(&stage.ca.admin()?, 2).await?;
    let traffic = Traffic::start(stage.entrance(), 2, Duration::from_millis(20));
    let bao = Bao::with_pki(stage.dev.directory(), 3600).await?;
    bao.backs(&stage.dev).await?;
    stage.ca.process.stop().await?;
    stage.ca = stage.dev.start_ca().await?;
    let theirs = bao.get("pki/issuer/a/json").await?;
    let theirs = id(theirs.pointer("/data/certificate").and_then(serde_json::Value::as_str).unwrap_or_default())?;
    ensure(theirs != own, || "it is the same root".to_owned())?;
    active(&stage.ca.admin()?, &theirs).await?;
    assert_eq!(settled(&stage.ca.admin()?, 2).await?, theirs);
    calm(&traffic.stop().await)?;
    issued(&stage.dev).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_that_follow_one_openbao_make_one_rotation_and_have_one_issuing_ca() -> Outcome {
    let (bao, dev) = backed("10s", 3600).await?;
    let replica = dev.replica()?;
    replica.serve_agent(&dev, "server")?;
    let first = dev.start_ca().await?;
    let second = replica.start(&dev).await?;
    let _agents = (dev.start_agent("client").await?, dev.start_agent("server").await?);
    let admin = first.admin()?;
    settled(&admin, 2).await?;
    let new = id(&bao.root("root/rotate/internal", "b").await?)?;
    bao.make_default("b").await?;
    active(&second.admin()?, &new).await?;
    assert_eq!(settled(&admin, 2).await?, new);
    let record = steps(&first)?;
    let adopted = record.iter().filter(|text| text.contains("CAs of the backend are adopted")).count();
    assert_eq!(adopted, 1, "{record:#?}");
    let issuing = |rotation: &Rotation| active_issuers(rotation).map(|one| one.id.clone()).collect::<Vec<_>>();
    let (mine, theirs) = (now_at(&admin).await?, now_at(&second.admin()?).await?);
    assert_eq!((issuing(&mine).len(), issuing(&mine)), (1, issuing(&theirs)));
    Ok(())
}
