//! A changed root in the operator's files goes through the same steps as any other; so does a change of backend.

use std::time::Duration;

use signet_proto::admin::v1alpha1::Phase;
use signet_tests::client::admin::{active_root, coverage, root_ids};
use signet_tests::client::bundle_stream::BundleStream;
use signet_tests::client::keys;
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::plugged::{Mount, OwnCa, Set, istio_names};
use signet_tests::harness::process::eventually;
use signet_tests::harness::rotation::{ROTATION, keys as config};
use signet_tests::harness::{Dev, probe};
use signet_tests::stage::{SERVER_ID, Stage};
use signet_tests::traffic::Traffic;

use super::files::{id, issuer, issues, key_id, plugged, signs};
use super::{SOON, active, calm, holder, installation, now_at, settled, streaming_holder, until};

const TWO: [&str; 2] = ["client=default/client", "server=default/server"];

/// The same set with this file of revocation lists.
fn with_lists(set: &Set, lists: &str) -> Set {
    let mut set = set.clone();
    set.push(("ca-crl.pem", lists.to_owned()));
    set
}

/// Acknowledges responses until one has so many revocation lists: changes may come one by one or together. Its sequence.
async fn with_so_many_lists(stream: &mut BundleStream, wanted: usize) -> Outcome<u64> {
    loop {
        let update = stream.next().await?;
        stream.acknowledge(&update).await?;
        if update.lists.matches("BEGIN X509 CRL").count() == wanted {
            return Ok(update.sequence);
        }
    }
}

#[tokio::test]
async fn a_changed_root_is_published_first_and_signs_once_everybody_knows_it() -> Outcome {
    let (old, new) = (OwnCa::root("old root")?, OwnCa::root("new root")?);
    let (old_signer, new_signer) = (old.certify("old signer")?, new.certify("new signer")?);
    let (dev, mut mount) = plugged(&istio_names(&old_signer, &old))?;
    let ca = dev.start_ca().await?;
    let admin = ca.admin()?;
    let _agent = dev.start_agent("client").await?;
    streaming_holder(&dev, "server").await?;
    let opened = BundleStream::with_token(&dev, &dev.token("server")?).await;
    let mut silent = opened.map_err(Failure::while_doing("open a bundle stream"))?;
    let first = silent.next().await?;
    silent.acknowledge(&first).await?;
    assert_eq!(settled(&admin, 2).await?, id(&old)?);
    mount.swap(&istio_names(&new_signer, &new))?;
    let both = until(&admin, "both roots in the bundle", SOON, |rotation| {
        (root_ids(rotation).len() == 2).then(|| rotation.clone())
    })
    .await?;
    assert_eq!(active_root(&both), id(&old)?);
    let second = silent.until(first.sequence + 1).await?;
    let mut roots = keys::ids(&second.roots)?;
    roots.sort();
    let mut expected = [id(&old)?, id(&new)?];
    expected.sort();
    assert_eq!(roots, expected);
    // The key of the old signer is no longer in the files, and still signs until the new root is known.
    for _ in 0..30 {
        assert_eq!(active_root(&now_at(&admin).await?), id(&old)?);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(holder(&admin, SERVER_ID).await?.bundle_sequence, first.sequence);
    silent.acknowledge(&second).await?;
    active(&admin, &id(&new)?).await?;
    issues(&dev, &new_signer).await?;
    ensure(root_ids(&now_at(&admin).await?).contains(&id(&old)?), || "the old root is gone too early".to_owned())
}

#[tokio::test]
async fn roots_that_are_only_added_or_dropped_change_the_bundle_and_not_the_signer() -> Outcome {
    let (root, friend) = (OwnCa::root("own root")?, OwnCa::root("friend's root")?);
    let signer = root.certify("signer")?;
    let (dev, mut mount) = plugged(&istio_names(&signer, &root))?;
    let ca = dev.start_ca().await?;
    let admin = ca.admin()?;
    assert_eq!(settled(&admin, 0).await?, id(&root)?);
    let mut more = istio_names(&signer, &root);
    more[2].1 += &friend.certificate;
    mount.swap(&more)?;
    until(&admin, "a second root", SOON, |rotation| (root_ids(rotation).len() == 2).then_some(())).await?;
    for _ in 0..30 {
        assert_eq!(active_root(&now_at(&admin).await?), id(&root)?);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(issuer(&dev).await?, key_id(&signer)?);
    // As they were before, which nobody takes for news.
    mount.swap(&istio_names(&signer, &root))?;
    ca.operator().adopt()?;
    until(&admin, "one root", ROTATION, |rotation| (root_ids(rotation).len() == 1).then_some(())).await?;
    // Commands that only make sense for authorities of our own are refused, with the reason.
    let told = ca.operator().refused(&["authority", "prepare"])?;
    ensure(told.contains("files"), || told.clone())
}

/// Waits until the readiness names the file of lists as bad, or does not.
async fn told(dev: &Dev, bad: bool) -> Outcome {
    let said = async || {
        let (_, readiness) = probe::fetch(dev.ops, "/readyz?output=json").await.ok()?;
        (readiness.contains("ca-crl.pem") == bad).then_some(())
    };
    eventually("what the readiness says of the lists", SOON, said).await
}

#[tokio::test]
async fn complete_lists_are_served_and_a_bad_file_of_lists_blocks_nothing() -> Outcome {
    let root = OwnCa::root("own root")?;
    let (first, second) = (root.certify("first")?, root.certify("second")?);
    let set = istio_names(&first, &root);
    let complete = format!("{}{}", first.list()?, root.list()?);
    let (dev, mut mount) = plugged(&with_lists(&set, &complete))?;
    let ca = dev.start_ca().await?;
    let admin = ca.admin()?;
    streaming_holder(&dev, "server").await?;
    let opened = BundleStream::with_token(&dev, &dev.token("server")?).await;
    let mut stream = opened.map_err(Failure::while_doing("open a bundle stream"))?;
    // One list for each CA of the chain.
    let served = with_so_many_lists(&mut stream, 2).await?;
    // All or nothing: lists for a part of the chain, garbage, and a list that somebody else signed change nothing; what
    // was revoked stays revoked.
    let stranger = OwnCa::root("stranger")?;
    for bad in [first.list()?, "garbage".to_owned(), format!("{}{}", stranger.list()?, root.list()?)] {
        mount.swap(&with_lists(&set, &bad))?;
        told(&dev, true).await?;
        assert_eq!(issuer(&dev).await?, key_id(&first)?, "{bad}");
        assert_eq!(now_at(&admin).await?.bundle_sequence, served, "{bad}");
        mount.swap(&with_lists(&set, &complete))?;
        told(&dev, false).await?;
    }
    assert_eq!(now_at(&admin).await?.bundle_sequence, served);
    // An empty file, and none, say that nothing is revoked. Lists that were not there before end that.
    for cleared in [with_lists(&set, ""), set.clone()] {
        let newer = format!("{}{}", first.list()?, root.list()?);
        mount.swap(&with_lists(&set, &newer))?;
        with_so_many_lists(&mut stream, 2).await?;
        mount.swap(&cleared)?;
        ca.operator().adopt()?;
        with_so_many_lists(&mut stream, 0).await?;
    }
    mount.swap(&with_lists(&set, &format!("{}{}", first.list()?, root.list()?)))?;
    with_so_many_lists(&mut stream, 2).await?;
    // A bad file of lists beside a new signer does not keep the signer out, and the lists go on, with one for it.
    mount.swap(&with_lists(&istio_names(&second, &root), "garbage"))?;
    with_so_many_lists(&mut stream, 3).await?;
    signs(&admin, &id(&second)?).await?;
    issues(&dev, &second).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_backend_is_a_rotation_and_no_request_fails() -> Outcome {
    let dev = installation("24s", &TWO)?;
    let mut stage = Stage::set(dev, 2, |_| {}).await?;
    let native = settled(&stage.ca.admin()?, 2).await?;
    let traffic = Traffic::start(stage.entrance(), 2, Duration::from_millis(20));
    let root = OwnCa::root("own root")?;
    let signer = root.certify("signer")?;
    let mount = Mount::new(&stage.dev.path("own-ca"), &istio_names(&signer, &root))?;
    stage.dev.set_ca(config::BACKEND, config::FILES)?;
    stage.dev.set_ca(config::FILES_DIRECTORY, mount.directory().to_string_lossy())?;
    stage.ca.process.stop().await?;
    stage.ca = stage.dev.start_ca().await?;
    let admin = stage.ca.admin()?;
    until(&admin, "both roots", SOON, |rotation| (root_ids(rotation).len() == 2).then_some(())).await?;
    active(&admin, &id(&root)?).await?;
    assert_eq!(settled(&admin, 2).await?, id(&root)?);
    ensure(!root_ids(&now_at(&admin).await?).contains(&native), || "the native root stays".to_owned())?;
    // And back.
    stage.dev.edit("signet-ca.yaml", |config| {
        if let Some(authority) = config.get_mut("authority").and_then(|authority| authority.as_object_mut()) {
            authority.remove("files");
            authority.remove("backend");
        }
        Ok(())
    })?;
    stage.ca.process.stop().await?;
    stage.ca = stage.dev.start_ca().await?;
    let admin = stage.ca.admin()?;
    // A process that starts with what was followed before may be late, so it says so, and is told that this is meant.
    until(&admin, "a replica that was left behind", ROTATION, |rotation| {
        let alone = root_ids(rotation) == [id(&root).unwrap_or_default()];
        (rotation.phase() == Phase::Degraded && alone && coverage(rotation) == (2, 2)).then_some(())
    })
    .await?;
    stage.ca.operator().adopt()?;
    let back = until(&admin, "a native root that signs", ROTATION, |rotation| {
        Some(active_root(rotation)).filter(|active| !active.is_empty() && *active != id(&root).unwrap_or_default())
    })
    .await?;
    ensure(back != native, || "an old key is used again".to_owned())?;
    assert_eq!(settled(&admin, 2).await?, back);
    calm(&traffic.stop().await)
}
