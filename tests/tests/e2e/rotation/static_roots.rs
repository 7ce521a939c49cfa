//! Clients with a file of roots that nobody replaces, as istio-agents with `CA_ROOT_CA` have: they reach the CA until their
//! root is retired, or compromised.

use std::net::SocketAddr;

use rustix::process::Signal;
use signet_proto::admin::v1alpha1::Rotation;
use signet_tests::client::admin::{Admin, active_root, is_root, root_ids};
use signet_tests::client::certify::Client;
use signet_tests::client::{keys, tls};
use signet_tests::failure::{Outcome, ensure};
use signet_tests::harness::Dev;
use signet_tests::harness::beside::{Beside, Echo};
use signet_tests::harness::process::eventually;
use signet_tests::harness::rotation::{ROTATION, keys as config};

use super::{SOON, active, installation, now_at, prepared, settled, steps, until};

const ONE: [&str; 1] = ["client=default/client"];

/// Whether a client that trusts these roots alone finishes a handshake with a CA.
async fn reaches(address: SocketAddr, roots: &str) -> Outcome<bool> {
    Ok(tls::connect(address, tls::config(roots, rustls::ALL_VERSIONS, &["h2"])?).await.is_ok())
}

/// Whether a root is in the bundle and not about to leave it.
fn stays(rotation: &Rotation, root: &str) -> bool {
    rotation.authorities.iter().any(|one| one.id == root && is_root(one) && one.leaving_since.is_none())
}

/// As long as the root stays, its file is enough. One that is left between two looks is no failure.
async fn is_enough(admin: &Admin, address: SocketAddr, file: &str, root: &str) -> Outcome {
    let is_reached = reaches(address, file).await?;
    let rotation = now_at(admin).await?;
    ensure(is_reached || !stays(&rotation, root), || format!("the file of {root} is not enough: {rotation:?}"))
}

/// Waits until the file of the old root is not enough any more, while that is in the bundle still.
async fn moved_in_time(admin: &Admin, address: SocketAddr, file: &str, root: &str) -> Outcome {
    let refused = async || (!reaches(address, file).await.ok()?).then_some(());
    eventually("the serving certificate to move", SOON, refused).await?;
    let rotation = now_at(admin).await?;
    ensure(root_ids(&rotation).iter().any(|id| id == root), || format!("{root} is gone already: {rotation:?}"))
}

/// The trust bundle as the CA writes it, once it has this root and so many in all.
async fn bundle(dev: &Dev, root: &str, count: usize) -> Outcome<String> {
    let written = async || {
        let text = dev.text("root-cert.pem").ok()?;
        let ids = keys::ids(&text).ok()?;
        (ids.len() == count && ids.iter().any(|id| id == root)).then_some(text)
    };
    eventually("the bundle file", SOON, written).await
}

#[tokio::test]
async fn through_a_planned_rotation_the_file_of_the_old_root_is_enough_until_that_is_left() -> Outcome {
    let dev = installation("30s", &ONE)?;
    let mut ca = dev.start_ca().await?;
    let _agent = dev.start_agent("client").await?;
    let admin = ca.admin()?;
    let old = settled(&admin, 1).await?;
    let file = bundle(&dev, &old, 1).await?;
    ca.operator().rotate()?;
    let new = prepared(&admin).await?;
    is_enough(&admin, dev.listen, &file, &old).await?;
    let both = bundle(&dev, &new, 2).await?;
    active(&admin, &new).await?;
    // It is a whole client: it gets certificates, which are of the new root.
    let reply = Client::trusting(dev.listen, &file).await?.certificate(&dev, "client").await?;
    ensure(keys::ids(&reply.concat())?.contains(&new), || format!("{reply:?}"))?;
    // A process that starts in the middle of it does the same, and so does another one beside it.
    ca.process.stop().await?;
    ca = dev.start_ca().await?;
    let replica = dev.replica()?;
    let _second = replica.start(&dev).await?;
    let mut looks = 0;
    while stays(&now_at(&admin).await?, &old) {
        for address in [dev.listen, replica.listen] {
            is_enough(&admin, address, &file, &old).await?;
            ensure(reaches(address, &both).await?, || "who knows both roots is shut out".to_owned())?;
        }
        looks += 1;
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    ensure(looks > 0, || "nobody has looked while the old root drained".to_owned())?;
    for address in [dev.listen, replica.listen] {
        moved_in_time(&admin, address, &file, &old).await?;
        ensure(reaches(address, &both).await?, || "who knows both roots is shut out".to_owned())?;
    }
    assert_eq!(settled(&admin, 1).await?, new);
    for address in [dev.listen, replica.listen] {
        ensure(reaches(address, &bundle(&dev, &new, 1).await?).await?, || "the new root is not enough".to_owned())?;
    }
    let told = steps(&ca)?;
    let of_old = |word: &str| told.iter().filter(|text| text.contains(&old) && text.contains(word)).count();
    ensure((of_old("is left"), of_old("retired")) == (1, 1), || format!("{told:#?}"))
}

#[tokio::test]
async fn away_from_a_compromised_root_the_server_moves_at_once_and_before_that_goes() -> Outcome {
    let dev = installation("1h", &ONE)?;
    let ca = dev.start_ca().await?;
    let _agent = dev.start_agent("client").await?;
    let (admin, operator) = (ca.admin()?, ca.operator());
    let first = settled(&admin, 1).await?;
    let file = bundle(&dev, &first, 1).await?;
    // It signs still, and serves, until its successor does.
    operator.taint(&first, "a test")?;
    let second = prepared(&admin).await?;
    let of_both = bundle(&dev, &second, 2).await?;
    active(&admin, &second).await?;
    moved_in_time(&admin, dev.listen, &file, &first).await?;
    ensure(reaches(dev.listen, &of_both).await?, || "who knows both roots is shut out".to_owned())?;
    until(&admin, "nobody to need it", SOON, |rotation| {
        rotation.authorities.iter().all(|one| one.id != first || one.holders == 0).then_some(())
    })
    .await?;
    operator.revoke(&first, "a test").await?;
    until(&admin, "the root to be gone", SOON, |rotation| (!root_ids(rotation).contains(&first)).then_some(())).await?;
    let file = bundle(&dev, &second, 1).await?;
    ensure(reaches(dev.listen, &file).await?, || "the new root is not enough".to_owned())?;
    // A former root under which the server has stayed is left as soon as somebody says that it is compromised.
    operator.rotate()?;
    let third = prepared(&admin).await?;
    active(&admin, &third).await?;
    is_enough(&admin, dev.listen, &file, &second).await?;
    ensure(stays(&now_at(&admin).await?, &second), || "its certificates live for an hour".to_owned())?;
    operator.taint(&second, "a test")?;
    moved_in_time(&admin, dev.listen, &file, &second).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_slept_while_the_root_was_left_and_dropped_serves_under_the_new_one_when_it_wakes() -> Outcome {
    let dev = installation("20s", &ONE)?;
    let ca = dev.start_ca().await?;
    let replica = dev.replica()?;
    let second = replica.start(&dev).await?;
    let _agent = dev.start_agent("client").await?;
    let admin = ca.admin()?;
    let old = settled(&admin, 1).await?;
    let file = bundle(&dev, &old, 1).await?;
    ca.operator().rotate()?;
    let new = prepared(&admin).await?;
    active(&admin, &new).await?;
    is_enough(&admin, replica.listen, &file, &old).await?;
    // Not while it holds the lock of the database.
    let asleep = async || {
        second.process.signal(Signal::STOP);
        let stopped = async || second.process.is_stopped().then_some(());
        eventually("every thread to stop", SOON, stopped).await.ok()?;
        let written = Client::connect(&dev).await.ok()?.certificate(&dev, "client").await;
        written.map_err(|_locked| second.process.signal(Signal::CONT)).ok()
    };
    eventually("the second process to sleep", SOON, asleep).await?;
    let settled = settled(&admin, 1).await;
    second.process.signal(Signal::CONT);
    assert_eq!(settled?, new);
    let file = bundle(&dev, &new, 1).await?;
    let reached = async || reaches(replica.listen, &file).await.ok()?.then_some(());
    eventually("the sleeper under the new root", SOON, reached).await
}

#[tokio::test]
async fn held_by_hand_the_last_step_waits_for_an_operator_who_is_told_how_to_take_it() -> Outcome {
    let dev = installation("20s", &ONE)?;
    dev.set_ca(config::RETIRE, "manual")?;
    let ca = dev.start_ca().await?;
    let _agent = dev.start_agent("client").await?;
    let (admin, operator) = (ca.admin()?, ca.operator());
    let old = settled(&admin, 1).await?;
    let file = bundle(&dev, &old, 1).await?;
    operator.refused(&["authority", "retire", &old])?;
    let mut rotate = Beside::start(ca.command(&["authority", "rotate", "--wait"], &[])?, Echo::Kept)?;
    let new = prepared(&admin).await?;
    operator.refused(&["authority", "retire", &new])?;
    active(&admin, &new).await?;
    let told = operator.refused(&["authority", "retire", &old])?;
    ensure(told.contains("are valid until 2"), || told.clone())?;
    let status = rotate.wait(ROTATION).await?;
    let printed = rotate.printed().join("\n");
    ensure(status.success(), || format!("{status}: {printed} {:?}", rotate.complained()))?;
    let how = format!("authority retire {}", &old[..8]);
    for part in [how.as_str(), "CA_ROOT_CA", "ca.root_file"] {
        ensure(printed.contains(part), || format!("{part:?} is not in {printed}"))?;
    }
    let rotation = now_at(&admin).await?;
    let held = rotation.authorities.iter().filter(|one| one.held).map(|one| one.id.as_str()).collect::<Vec<_>>();
    assert_eq!((held, active_root(&rotation)), (vec![old.as_str()], new.clone()));
    let status = operator.done(&["status"])?["rotation"]["next"].to_string();
    ensure(status.contains("authority retire") && status.contains("CA_ROOT_CA"), || status.clone())?;
    ensure(reaches(dev.listen, &file).await?, || "the server has moved although nobody has said so".to_owned())?;
    operator.done(&["authority", "retire", &old, "--reason", "the files are in order"])?;
    let again = operator.done(&["authority", "retire", &old])?;
    ensure(again["done"].as_str().is_some_and(|text| text.contains("already")), || again.to_string())?;
    moved_in_time(&admin, dev.listen, &file, &old).await?;
    assert_eq!(settled(&admin, 1).await?, new);
    let events = ca.audit(&[])?;
    let recorded = events.iter().any(|event| event["kind"] == "admin" && event.to_string().contains("in order"));
    ensure(recorded, || format!("who has let it go is not on record: {events:#?}"))
}
