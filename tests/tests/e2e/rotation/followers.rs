//! Files that reach one CA process later than another, or that are put back: one rotation to the newest, never a fight.

use std::time::Duration;

use signet_tests::client::admin::{active_root, root_ids};
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::Ca;
use signet_tests::harness::plugged::{Mount, OwnCa, istio_names};
use signet_tests::harness::rotation::keys as config;
use signet_tests::harness::yaml;

use super::files::{id, issues, plugged, plugged_for};
use super::{SOON, active, now_at, settled, steps, until};

/// How often the journal has turned to other files.
fn followed(ca: &Ca) -> Outcome<usize> {
    Ok(steps(ca)?.iter().filter(|text| text.contains("CA files are adopted")).count())
}

/// Waits until a process says, or does not say any more, that others have something newer.
async fn left_behind(ca: &mut Ca, expected: bool) -> Outcome {
    let deadline = tokio::time::Instant::now() + SOON;
    loop {
        let readiness = ca.ready_is(true, SOON).await?.to_string();
        let told = readiness.contains("degraded") && readiness.contains("authority adopt");
        if told == expected {
            return Ok(());
        }
        ensure(tokio::time::Instant::now() < deadline, || format!("its readiness is {readiness}"))?;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_set_that_reaches_the_second_process_later_makes_one_rotation() -> Outcome {
    let (old, new) = (OwnCa::root("old root")?, OwnCa::root("new root")?);
    let old_set = istio_names(&old.certify("old signer")?, &old);
    let new_signer = new.certify("new signer")?;
    let new_set = istio_names(&new_signer, &new);
    let (dev, mut early) = plugged_for(&old_set, "10s")?;
    let mut late = Mount::new(&dev.path("own-ca-2"), &old_set)?;
    let replica = dev.replica()?;
    let directory = late.directory().to_string_lossy().into_owned();
    dev.edit("signet-ca-2.yaml", |file| yaml::set(file, config::FILES_DIRECTORY, directory))?;
    replica.serve_agent(&dev, "server")?;
    let mut first = dev.start_ca().await?;
    let mut second = replica.start(&dev).await?;
    let _agents = (dev.start_agent("client").await?, dev.start_agent("server").await?);
    let admin = first.admin()?;
    assert_eq!(settled(&admin, 2).await?, id(&old)?);
    assert_eq!(followed(&first)?, 0);
    early.swap(&new_set)?;
    active(&second.admin()?, &id(&new)?).await?;
    left_behind(&mut second, true).await?;
    assert_eq!(settled(&admin, 2).await?, id(&new)?);
    let told = second.operator().refused(&["authority", "prepare"])?;
    ensure(told.contains("a replica that has the newest"), || told.clone())?;
    // The late one issues with what the other one has, and leaves it at that.
    let version = now_at(&admin).await?.bundle_sequence;
    let record = steps(&first)?;
    for _ in 0..50 {
        let rotation = now_at(&second.admin()?).await?;
        assert_eq!((active_root(&rotation), rotation.bundle_sequence), (id(&new)?, version));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    ensure(steps(&first)? == record && followed(&first)? == 1, || format!("{record:#?}"))?;
    late.swap(&new_set)?;
    left_behind(&mut second, false).await?;
    left_behind(&mut first, false).await?;
    issues(&dev, &new_signer).await?;
    assert_eq!((now_at(&admin).await?.bundle_sequence, steps(&first)?), (version, record));
    Ok(())
}

#[tokio::test]
async fn an_earlier_set_counts_only_when_a_process_is_told_so_before_a_restart_and_after_it() -> Outcome {
    let (earlier, newer) = (OwnCa::root("earlier root")?, OwnCa::root("newer root")?);
    let (first_signer, second_signer) = (earlier.certify("first signer")?, newer.certify("second signer")?);
    let (one, two) = (istio_names(&first_signer, &earlier), istio_names(&second_signer, &newer));
    let (dev, mut mount) = plugged(&one)?;
    let mut ca = dev.start_ca().await?;
    mount.swap(&two)?;
    active(&ca.admin()?, &id(&newer)?).await?;
    assert_eq!(settled(&ca.admin()?, 0).await?, id(&newer)?);
    // Put back under a running process, the earlier ones wait for a word, and the newer ones are not late.
    mount.swap(&one)?;
    left_behind(&mut ca, true).await?;
    issues(&dev, &second_signer).await?;
    mount.swap(&two)?;
    left_behind(&mut ca, false).await?;
    ca.process.stop().await?;
    mount.swap(&one)?;
    ca = dev.start_ca().await?;
    left_behind(&mut ca, true).await?;
    issues(&dev, &second_signer).await?;
    let record = steps(&ca)?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(steps(&ca)?, record);
    let told = ca.operator().refused(&["authority", "rotate"])?;
    ensure(told.contains("authority adopt"), || told.clone())?;
    ca.operator().adopt()?;
    until(&ca.admin()?, "both roots", SOON, |rotation| (root_ids(rotation).len() == 2).then_some(())).await?;
    issues(&dev, &first_signer).await?;
    left_behind(&mut ca, false).await?;
    let roots = root_ids(&now_at(&ca.admin()?).await?);
    ensure(roots.contains(&id(&newer)?), || "a root is gone under which a certificate lives".to_owned())
}

#[tokio::test]
async fn two_sets_in_one_directory_are_refused_by_the_names_of_their_files() -> Outcome {
    let root = OwnCa::root("own root")?;
    let (signer, other) = (root.certify("signer")?, root.certify("other signer")?);
    let mut both = istio_names(&signer, &root);
    both.extend(signet_tests::harness::plugged::tls_secret(&other, &root));
    let (dev, mut mount) = plugged(&istio_names(&signer, &root))?;
    let mut ca = dev.start_ca().await?;
    mount.swap(&both)?;
    let names = ["ca-cert.pem", "ca-key.pem", "root-cert.pem", "cert-chain.pem", "tls.crt", "tls.key", "ca.crt"];
    let told = async |ca: &mut Ca| {
        let readiness = ca.ready_is(true, SOON).await?.to_string();
        Ok::<_, Failure>(names.iter().all(|name| readiness.contains(name)) && readiness.contains("two sets"))
    };
    let deadline = tokio::time::Instant::now() + SOON;
    while !told(&mut ca).await? {
        ensure(tokio::time::Instant::now() < deadline, || "its readiness does not name the files".to_owned())?;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    issues(&dev, &signer).await
}
