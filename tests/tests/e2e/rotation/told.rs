//! What operators are told is never better than what is: the command line, readiness and metrics after a forced revocation, and
//! while files are rotated to.

use signet_tests::client::admin::{active_root, root_ids};
use signet_tests::client::ask::{Acknowledges, Ask};
use signet_tests::client::certify::Client;
use signet_tests::client::csr;
use signet_tests::failure::{Outcome, ensure};
use signet_tests::harness::plugged::{OwnCa, istio_names};
use signet_tests::harness::process::eventually;
use signet_tests::harness::{Ca, Dev};
use signet_tests::tools;

use super::files::{id, plugged_for};
use super::{SOON, installation, now_at, settled};

const TWO: [&str; 2] = ["client=default/client", "server=default/server"];

/// A certificate for a workload, whose client is known by this instance.
async fn certified(dev: &Dev, workload: &str) -> Outcome {
    let made = csr::like_ztunnel(None)?;
    let instance = if workload == "client" { "c1" } else { "5e" }.repeat(16);
    let ask = Ask::new(&made.csr, &dev.token(workload)?).as_instance(&instance, Acknowledges::ByReply);
    Client::connect(dev).await?.issued(&ask).await.map(drop)
}

/// What `signet-ca status` prints.
fn printed(ca: &Ca) -> Outcome<String> {
    tools::run(&mut ca.command(&["status"], &[])?)
}

#[tokio::test]
async fn after_a_forced_revocation_two_of_two_holders_are_told_to_be_cut_off_until_they_have_renewed() -> Outcome {
    let dev = installation("1h", &TWO)?;
    let mut ca = dev.start_ca().await?;
    let admin = ca.admin()?;
    for workload in ["client", "server"] {
        certified(&dev, workload).await?;
    }
    let root = settled(&admin, 1).await?;
    let forced = ["--force", "--reason", "cannot wait"];
    let said = ca.operator().done(&[&["authority", "taint", &root][..], &forced].concat())?;
    let done = said["done"].as_str().unwrap_or_default();
    let expected = "signs in its place from now on; 2 holders do not know that one yet";
    ensure(done.contains(expected), || format!("taint --force says {done:?}"))?;
    ca.operator().done(&[&["authority", "revoke", &root][..], &forced].concat())?;
    // It may take a turn of the CA.
    let told = async || {
        let ready = ca.ready_is(true, SOON).await.ok()?;
        let metrics = ca.metrics().await.ok()?;
        let cut_off = metrics.sum("signet_ca_holders_cut_off", &[]) == 2.0;
        let emergency = metrics.sum("signet_ca_rotation_phase", &["phase=\"emergency\""]) == 1.0;
        (ready.to_string().contains("holders: 2") && cut_off && emergency).then_some(())
    };
    eventually("readiness and metrics", SOON, told).await?;
    let status = ca.ask(&["status"])?;
    let (phase, unsettled) = (&status["rotation"]["phase"], &status["rotation"]["unsettled"]);
    ensure(phase == "emergency" && unsettled["cut_off"] == 2, || format!("{phase} {unsettled}"))?;
    ensure(status["ready"] == true && status["degraded"][0] == "signer", || format!("{}", status["degraded"]))?;
    let text = printed(&ca)?;
    for words in ["yes, DEGRADED: signer", "CUT OFF", "2 holders accepted by nobody", "expected by"] {
        ensure(text.contains(words), || format!("{words:?} is not in {text}"))?;
    }
    for workload in ["client", "server"] {
        certified(&dev, workload).await?;
    }
    settled(&admin, 1).await?;
    let calm = async || (!printed(&ca).ok()?.contains("DEGRADED")).then_some(());
    eventually("a status without a complaint", SOON, calm).await
}

#[tokio::test]
async fn a_rotation_to_new_files_is_watched_until_it_is_over() -> Outcome {
    let root = OwnCa::root("first root")?;
    let (dev, mut mount) = plugged_for(&istio_names(&root.certify("first")?, &root), "20s")?;
    let ca = dev.start_ca().await?;
    let admin = ca.admin()?;
    settled(&admin, 0).await?;
    let refused = ca.operator().refused(&["authority", "rotate", "--wait"])?;
    ensure(refused.contains("put the new CA into that directory"), || refused.clone())?;
    let next = OwnCa::root("second root")?;
    mount.swap(&istio_names(&next.certify("second")?, &next))?;
    // At once: whatever the CA has seen of the files by itself.
    let mut watch = ca.command(&["authority", "rotate", "--wait", "--timeout", "4m"], &[])?;
    let watched = tokio::task::spawn_blocking(move || tools::output(&mut watch)).await.unwrap()?;
    let text = String::from_utf8_lossy(&[watched.stdout, watched.stderr].concat()).into_owned();
    ensure(watched.status.success() && text.contains("nothing else is under way"), || text.clone())?;
    let rotation = now_at(&admin).await?;
    ensure(active_root(&rotation) == id(&next)?, || format!("{text}\n{rotation:?}"))?;
    let roots = root_ids(&rotation);
    ensure(roots.len() == 1, || format!("it was not watched to the end: {roots:?}"))
}
