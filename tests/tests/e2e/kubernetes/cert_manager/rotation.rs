//! Another root, and another backend, go through the same steps as any rotation, and no request fails.

use std::time::Duration;

use serde_json::json;
use signet_tests::client::admin::{active_root, root_ids};
use signet_tests::failure::{Outcome, ensure};
use signet_tests::harness::plugged::OwnCa;
use signet_tests::harness::process::eventually;
use signet_tests::stage::Stage as Proxies;
use signet_tests::traffic::Traffic;

use super::{SOON, Stage, shared};
use crate::rotation::files::id;
use crate::rotation::{active, calm, installation, now_at, settled, until};

const TWO: [&str; 2] = ["client=default/client", "server=default/server"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real API server; run it with: make test-kubernetes"]
async fn from_native_to_cert_manager_and_to_another_root_no_request_fails() -> Outcome {
    let (kubernetes, old, new) = (shared()?, OwnCa::root("old root")?, OwnCa::root("new root")?);
    let (old_signer, new_signer) = (old.certify("old ca")?, new.certify("new ca")?);
    let dev = installation("24s", &TWO)?;
    let issuer = Stage::new(kubernetes, &dev, &old_signer, &[&old]).await?;
    let mut proxies = Proxies::set(dev, 2, |_| {}).await?;
    let native = settled(&proxies.ca.admin()?, 2).await?;
    let traffic = Traffic::start(proxies.entrance(), 2, Duration::from_millis(20));

    issuer.configure(&proxies.dev, &json!({}))?;
    proxies.ca.process.stop().await?;
    proxies.ca = proxies.dev.start_ca().await?;
    let admin = proxies.ca.admin()?;
    until(&admin, "both roots", SOON, |rotation| (root_ids(rotation).len() == 2).then_some(())).await?;
    active(&admin, &id(&old)?).await?;
    assert_eq!(settled(&admin, 2).await?, id(&old)?);
    ensure(!root_ids(&now_at(&admin).await?).contains(&native), || "the native root stays".to_owned())?;

    // The issuer first, whose answers are of no use for a while; then its root.
    issuer.set_signer(&new_signer).await?;
    issuer.set_roots(&[&new, &old]).await?;
    active(&admin, &id(&new)?).await?;
    issuer.set_roots(&[&new]).await?;
    assert_eq!(settled(&admin, 2).await?, id(&new)?);
    calm(&traffic.stop().await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real API server; run it with: make test-kubernetes"]
async fn from_leaves_of_cert_manager_to_a_root_of_its_own_in_one_step_no_request_fails() -> Outcome {
    let (kubernetes, root) = (shared()?, OwnCa::root("root of leaves")?);
    let signer = root.certify("ca of leaves")?;
    let dev = installation("24s", &TWO)?;
    let issuer = Stage::new(kubernetes, &dev, &signer, &[&root]).await?;
    let section = issuer.section(&json!({"mode": "leaf"}));
    issuer.configure(&dev, &json!({"mode": "leaf"}))?;
    let mut proxies = Proxies::set(dev, 2, |_| {}).await?;
    assert_eq!(settled(&proxies.ca.admin()?, 2).await?, id(&root)?);
    let traffic = Traffic::start(proxies.entrance(), 2, Duration::from_millis(20));
    proxies.dev.set_ca("authority.former", json!({"backend": "cert-manager", "cert_manager": section}))?;
    proxies.dev.unset_ca("authority.cert_manager")?;
    proxies.dev.set_ca("authority.backend", "native")?;
    proxies.ca.process.stop().await?;
    proxies.ca = proxies.dev.start_ca().await?;
    let admin = proxies.ca.admin()?;
    let theirs = id(&root)?;
    until(&admin, "both roots", SOON, |now| (root_ids(now).len() == 2).then_some(())).await?;
    until(&admin, "a root of its own", SOON, |now| (active_root(now) != theirs).then_some(())).await?;
    ensure(settled(&admin, 2).await? != theirs, || "the former root signs".to_owned())?;
    let may_go = async || {
        let status = proxies.ca.ask(&["status"]).ok()?.to_string();
        status.contains("`authority.former` may be removed").then_some(())
    };
    eventually("the word that the section may go", SOON, may_go).await?;
    issuer.no_requests().await?;
    calm(&traffic.stop().await)
}
