//! The bundle stream for real: an agent, a CA and proxies over TLS, Unix sockets and gRPC.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::time::{Duration, Instant};

use signet_core::clock::Clock;
use signet_runtime::readiness::State;
use signet_sds::snapshot::SecretContent;
use time::OffsetDateTime;

use crate::identity::status::{Link, Status};
use crate::tests::test_bundles::{Heard, validation};
use crate::tests::test_ca::Authority;
use crate::tests::test_proxy::secrets;
use crate::tests::test_world::{Running, World};

/// A push takes milliseconds; this is what a busy machine may make of them.
pub(crate) const AT_ONCE: Duration = Duration::from_secs(10);

const BOTH: [&str; 2] = ["default", "ROOTCA"];

/// A world whose CA serves bundle 5, which is the test root; the agent has applied it.
pub(crate) async fn started() -> (World, Running) {
    let world = World::new("20ms").await;
    world.ca.bundles.publish(validation(5, &[&world.ca.root], &[]), "[]");
    let mut agent = world.start().await;
    agent.until(|status| status.bundle_stream.link == Link::Up).await;
    world.ca.bundles.applied(5).await;
    (world, agent)
}

/// Whether the CA has heard of this bundle. All of a test runs on one thread and looks at every socket in turn, so what the
/// agent has to say by now is heard before another proxy, which asks for no roots, is connected and has its answer.
async fn is_applied(world: &World, sequence: u64) -> bool {
    world.connect(&["default"]).await.next().await;
    world.ca.bundles.heard().iter().any(|it| matches!(it, Heard::Applied(_, which) if *which == sequence))
}

/// Whether the agent holds this bundle. It looks at what its proxies say about that in the same moment.
fn holds(sequence: u64) -> impl FnMut(&Status) -> bool {
    move |status| status.validation.as_ref().is_some_and(|held| held.sequence == Some(sequence))
}

pub(crate) fn roots(pem: &str) -> usize {
    pem.matches("BEGIN CERTIFICATE").count()
}

#[tokio::test]
async fn sd_08_ro_17_a_new_root_reaches_proxies_at_once_and_the_leaf_is_neither_sent_nor_issued_again() {
    let (world, mut agent) = started().await;
    let mut proxy = world.connect(&BOTH).await;
    let first = proxy.next().await;
    assert_eq!(secrets(&first).len(), 2);
    proxy.ack(&first).await;
    let before = Instant::now();
    world.ca.bundles.publish(validation(6, &[&world.ca.root, &Authority::root("new")], &[]), "[]");
    let pushed = proxy.next().await;
    assert!(before.elapsed() < AT_ONCE, "{:?}", before.elapsed());
    let secrets = secrets(&pushed);
    assert_eq!(secrets.keys().collect::<Vec<_>>(), ["ROOTCA"]);
    assert_eq!(roots(&secrets["ROOTCA"].0), 2);
    let status = agent.until(|status| status.validation.as_ref().unwrap().sequence == Some(6)).await;
    assert_eq!((status.obtained, world.ca.calls().len()), (1, 1));
    // It is what new proxies get, too.
    assert_eq!(world.fetch().await.1, 2);
    assert!(agent.check_of("bundle_stream", State::Ready).await.starts_with("open since"));
    assert!(agent.metric("signet_agent_bundle_sequence 6") && agent.metric("signet_agent_bundle_stream_up 1"));
}

#[tokio::test]
async fn the_ca_hears_that_a_bundle_is_applied_only_after_every_proxy_has_applied_it() {
    let (world, mut agent) = started().await;
    let (mut one, mut other) = (world.connect(&BOTH).await, world.connect(&["ROOTCA"]).await);
    let mut leaf_only = world.connect(&["default"]).await;
    let (first, second) = (one.next().await, other.next().await);
    one.ack(&first).await;
    other.ack(&second).await;
    leaf_only.next().await;
    world.ca.bundles.publish(validation(6, &[&world.ca.root, &Authority::root("new")], &[]), "[]");
    let (first, second) = (one.next().await, other.next().await);
    one.ack(&first).await;
    // The agent holds it and one proxy has said so: nothing may be said yet. A hint that comes meanwhile changes
    // nothing about that.
    agent.until(|status| status.validation.as_ref().unwrap().sequence == Some(6)).await;
    let hint = r#"[{"authorities":["ff"],"since":1,"window":1}]"#;
    let bundle = agent.statuses.borrow().validation.as_ref().unwrap().validation.clone();
    world.ca.bundles.publish(bundle, hint);
    agent.until(|status| status.hints.len() == 1).await;
    assert!(!is_applied(&world, 6).await);
    other.ack(&second).await;
    world.ca.bundles.applied(6).await;
    // A proxy that goes away is not waited for.
    world.ca.bundles.publish(validation(7, &[&world.ca.root], &[]), "[]");
    let third = one.next().await;
    other.next().await;
    one.ack(&third).await;
    drop(other);
    world.ca.bundles.applied(7).await;
}

#[tokio::test]
async fn a_proxy_that_is_away_has_not_agreed() {
    let mut world = World::new("20ms").await;
    world.config.sds.proxy_grace = Duration::from_secs(60);
    world.ca.bundles.publish(validation(5, &[&world.ca.root], &[]), "[]");
    let mut agent = world.start().await;
    agent.until(holds(5)).await;
    assert!(!is_applied(&world, 5).await, "no proxy was there yet");
    let mut proxy = world.connect(&["ROOTCA"]).await;
    let sent = proxy.next().await;
    assert!(!is_applied(&world, 5).await);
    proxy.ack(&sent).await;
    world.ca.bundles.applied(5).await;
    // It loses its connection just before the new bundle comes.
    drop(proxy);
    agent.until_streams(0).await;
    world.ca.bundles.publish(validation(6, &[&world.ca.root, &Authority::root("new")], &[]), "[]");
    agent.until(holds(6)).await;
    assert!(!is_applied(&world, 6).await);
    // It comes back, refuses and goes; then it comes back for good.
    let mut proxy = world.connect(&["ROOTCA"]).await;
    let sent = proxy.next().await;
    proxy.nack(&sent, "not me").await;
    world.ca.bundles.until(|heard| heard.contains(&Heard::Refused(1, 6, "not me".to_owned()))).await;
    drop(proxy);
    assert!(!is_applied(&world, 6).await);
    let mut proxy = world.connect(&["*"]).await;
    let sent = proxy.next().await;
    proxy.ack(&sent).await;
    world.ca.bundles.applied(6).await;
    assert_eq!(world.ca.calls().len(), 1);
}

#[tokio::test]
async fn nobody_is_waited_for_longer_than_the_grace_and_no_event_is_needed_to_end_it() {
    let mut world = World::new("20ms").await;
    world.config.sds.proxy_grace = Duration::from_millis(700);
    world.ca.bundles.publish(validation(5, &[&world.ca.root], &[]), "[]");
    let start = Instant::now();
    let agent = world.start().await;
    world.ca.bundles.applied(5).await;
    assert!(start.elapsed() >= Duration::from_millis(700), "{:?}", start.elapsed());
    let mut proxy = world.connect(&["ROOTCA"]).await;
    proxy.next().await;
    let left = Instant::now();
    drop(proxy);
    agent.until_streams(0).await;
    world.ca.bundles.publish(validation(6, &[&world.ca.root, &Authority::root("new")], &[]), "[]");
    world.ca.bundles.applied(6).await;
    assert!(left.elapsed() >= Duration::from_millis(700), "{:?}", left.elapsed());
}

#[tokio::test]
async fn a_refusal_of_a_proxy_reaches_the_ca_with_its_text_and_so_does_the_recovery() {
    let (world, agent) = started().await;
    let mut proxy = world.connect(&["ROOTCA"]).await;
    let first = proxy.next().await;
    proxy.ack(&first).await;
    world.ca.bundles.publish(validation(6, &[&world.ca.root, &Authority::root("new")], &[]), "[]");
    let pushed = proxy.next().await;
    let start = Instant::now();
    proxy.nack(&pushed, "no such curve").await;
    let refused = Heard::Refused(1, 6, "no such curve".to_owned());
    world.ca.bundles.until(|heard| heard.contains(&refused)).await;
    assert!(agent.metric("signet_agent_bundle_nacks_total 1"));
    assert!(!world.ca.bundles.heard().iter().any(|it| matches!(it, Heard::Applied(_, 6))));
    proxy.ack(&pushed).await;
    world.ca.bundles.applied(6).await;
    assert!(start.elapsed() >= Duration::from_secs(1), "a proxy that changes its mind all the time is no load");
}

#[tokio::test]
async fn bundles_that_follow_each_other_are_acknowledged_without_a_pause() {
    let (world, _agent) = started().await;
    let more = Authority::root("more");
    let start = Instant::now();
    // With a pause of a second before each it would take longer than that.
    for sequence in 6..=6 + AT_ONCE.as_secs() {
        let roots = [&*world.ca.root, &more];
        let count = if sequence % 2 == 0 { 2 } else { 1 };
        world.ca.bundles.publish(validation(sequence, &roots[..count], &[]), "[]");
        world.ca.bundles.applied(sequence).await;
    }
    assert!(start.elapsed() < AT_ONCE, "{:?}", start.elapsed());
}

#[tokio::test]
async fn what_is_no_bundle_is_refused_and_the_old_one_stays_until_a_good_one_comes() {
    let (world, mut agent) = started().await;
    world.ca.bundles.publish_raw(6, SecretContent::Generic(b"junk".as_slice().into()), r#"{"sequence":6}"#);
    let heard = world.ca.bundles.until(|heard| heard.iter().any(|it| matches!(it, Heard::Refused(..)))).await;
    assert!(heard.contains(&Heard::Refused(1, 6, "ROOTCA is not a validation context".to_owned())), "{heard:?}");
    assert_eq!(world.fetch().await.1, 1);
    let status = agent.until(|status| status.bundle_stream.last_failure.is_some()).await;
    assert_eq!((status.bundle_stream.link, status.validation.unwrap().sequence), (Link::Up, Some(5)));
    // Lists that are none are left out and stop nothing; so do instructions that are none.
    let content = SecretContent::Validation(validation(7, &[&world.ca.root, &Authority::root("new")], &[b"no list"]));
    world.ca.bundles.publish_raw(7, content, "{");
    world.ca.bundles.applied(7).await;
    let held = agent.statuses.borrow().validation.clone().unwrap();
    assert_eq!((held.validation.revocation_lists.len(), held.validation.bundle.roots().len()), (0, 2));
}

#[tokio::test]
async fn an_older_bundle_than_the_one_held_is_neither_applied_nor_acknowledged() {
    let (world, mut agent) = started().await;
    world.ca.bundles.publish(validation(8, &[&world.ca.root, &Authority::root("new")], &[]), "[]");
    world.ca.bundles.applied(8).await;
    world.ca.bundles.publish(validation(7, &[&world.ca.root], &[]), r#"[{"authorities":[],"since":1,"window":1}]"#);
    agent.until(|status| status.hints.len() == 1).await;
    let held = agent.statuses.borrow().validation.clone().unwrap();
    assert_eq!((held.sequence, held.validation.bundle.roots().len()), (Some(8), 2));
    let text = "a newer bundle (8) is held";
    let refused = Heard::Refused(1, 7, text.to_owned());
    world.ca.bundles.until(|heard| heard.contains(&refused)).await;
    // What brings neither roots nor a number does not make that bundle the newest.
    world.ca.bundles.send_nothing();
    assert!(!is_applied(&world, 7).await);
    let held = agent.statuses.borrow().validation.clone().unwrap();
    assert_eq!((held.sequence, held.validation.bundle.roots().len()), (Some(8), 2));
    // The same on a new stream, where nothing was acknowledged before.
    world.clock.set(agent.statuses.borrow().held.clone().unwrap().renew_at);
    let refused = Heard::Refused(2, 7, text.to_owned());
    world.ca.bundles.until(|heard| heard.contains(&refused)).await;
    // A hint that comes without roots is no reason to acknowledge them.
    world.ca.bundles.publish(validation(7, &[&world.ca.root], &[]), "[]");
    agent.until(|status| status.hints.is_empty()).await;
    assert!(!is_applied(&world, 7).await);
    world.ca.bundles.publish(validation(9, &[&world.ca.root, &Authority::root("newer")], &[]), "[]");
    world.ca.bundles.applied(9).await;
}

#[tokio::test]
async fn a_hint_renews_the_certificates_of_its_authority_and_those_after_it_only_later() {
    let (world, mut agent) = started().await;
    let held = agent.until(|status| status.held.is_some()).await.held.unwrap();
    let (since, window) = (world.clock.now().unix_timestamp() + 100, 1000);
    let hint = |authority: &str| format!(r#"[{{"authorities":["{authority}"],"since":{since},"window":{window}}}]"#);
    let publish = |hints: &str| world.ca.bundles.publish(validation(5, &[&world.ca.root], &[]), hints);
    publish(&hint("00ff"));
    let status = agent.until(|status| status.hints.len() == 1).await;
    assert_eq!((status.early_renewal(), status.next_attempt), (None, Some(held.renew_at)), "of another authority");
    publish(&hint(&held.authority));
    let due = agent.until(|status| status.early_renewal().is_some()).await.early_renewal().unwrap();
    assert_eq!(agent.statuses.borrow().next_attempt, Some(due));
    let begin = OffsetDateTime::from_unix_timestamp(since).unwrap();
    assert!(due > begin && due <= begin + Duration::from_secs(window), "{due}");
    // Withdrawn, and given again.
    publish("[]");
    let status = agent.until(|status| status.early_renewal().is_none()).await;
    assert_eq!(status.next_attempt, Some(held.renew_at));
    publish(&hint(&held.authority));
    agent.until(|status| status.early_renewal().is_some()).await;
    world.clock.set(due - Duration::from_secs(1));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(world.ca.calls().len(), 1);
    world.clock.set(due);
    let second = agent.until(|status| status.obtained == 2).await.held.unwrap();
    // The CA still signs with that authority, and its hint still stands, also on the new stream.
    assert_eq!(second.authority, held.authority);
    world.ca.bundles.until(|heard| heard.iter().any(|it| matches!(it, Heard::Applied(2, 5)))).await;
    let status = agent.statuses.borrow().clone();
    let next = status.early_renewal().unwrap();
    assert!(status.hints.len() == 1 && next >= due + Duration::from_secs(10), "put off: {due} {next}");
    world.clock.set(begin + Duration::from_secs(2 * window));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(world.ca.calls().len(), 2);
    // A hint that is past already, seen for the first time: within seconds, and from another authority.
    world.ca.roll_issuer();
    publish(&format!(r#"[{{"authorities":["{}"],"since":{},"window":1}}]"#, second.authority, since + 1));
    let due = agent.until(|status| status.early_renewal().is_some()).await.early_renewal().unwrap();
    assert!(due - world.clock.now() <= Duration::from_secs(3));
}

#[tokio::test]
async fn a_hint_is_followed_in_time_although_the_wall_clock_stands_still() {
    let (world, mut agent) = started().await;
    let held = agent.until(|status| status.held.is_some()).await.held.unwrap();
    let (authority, since) = (&held.authority, world.clock.now().unix_timestamp() + 1);
    let hint = format!(r#"[{{"authorities":["{authority}"],"since":{since},"window":0}}]"#);
    world.ca.bundles.publish(validation(5, &[&world.ca.root], &[]), &hint);
    agent.until(|status| status.obtained == 2).await;
}

#[tokio::test]
async fn a_ca_that_hints_ever_again_does_not_make_a_loop() {
    let (world, mut agent) = started().await;
    let held = agent.until(|status| status.held.is_some()).await.held.unwrap();
    let hint = |seconds: u64| {
        let at = world.clock.now() + Duration::from_secs(seconds);
        let since = at.unix_timestamp();
        let hint = format!(r#"[{{"authorities":["{}"],"since":{since},"window":0}}]"#, held.authority);
        world.ca.bundles.publish(validation(5, &[&world.ca.root], &[]), &hint);
        at
    };
    let due = hint(5);
    agent.until(|status| status.early_renewal() == Some(due)).await;
    world.clock.set(due);
    agent.until(|status| status.obtained == 2).await;
    let due = hint(6);
    agent.until(|status| status.early_renewal() == Some(due)).await;
    world.clock.set(due);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(world.ca.calls().len(), 2, "a hint after a hint is put off");
}

#[tokio::test]
async fn a_ca_that_hints_at_whatever_it_signs_with_does_not_make_a_loop_either() {
    let (world, mut agent) = started().await;
    let mut held = agent.until(|status| status.held.is_some()).await.held.unwrap();
    // Not across sockets: time stands still only while it is moved on.
    let advance = async |seconds| {
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(seconds)).await;
        tokio::time::resume();
    };
    for obtained in 2..=3 {
        world.ca.roll_issuer();
        let due = world.clock.now() + Duration::from_secs(5);
        let (authority, since) = (&held.authority, due.unix_timestamp());
        let hint = format!(r#"[{{"authorities":["{authority}"],"since":{since},"window":0}}]"#);
        world.ca.bundles.publish(validation(5, &[&world.ca.root], &[]), &hint);
        agent.until(|status| status.early_renewal() == Some(due)).await;
        world.clock.set(due);
        if obtained == 3 {
            advance(4).await;
            // As much as happens in several calls.
            for _ in 0..20 {
                world.fetch().await;
            }
            assert_eq!(world.ca.calls().len(), 2, "a hint after a hint is put off");
            advance(7).await;
        }
        held = agent.until(|status| status.obtained == obtained).await.held.unwrap();
    }
}

#[tokio::test]
async fn an_agent_whose_certificate_peers_refuse_is_not_ready_until_it_has_another() {
    let (world, mut agent) = started().await;
    agent.until(|status| status.held.is_some()).await;
    agent.check(State::Ready).await;
    let other = Authority::root("other");
    world.ca.bundles.publish(validation(5, &[&other], &[]), "[]");
    let detail = agent.check(State::Failing).await;
    assert!(detail.contains("chains to no root of the trust bundle"), "{detail}");
    assert!(agent.metric("signet_agent_certificate_valid 0") && !agent.ops.readiness.snapshot().ready);
    world.ca.bundles.publish(validation(6, &[&other, &world.ca.root], &[]), "[]");
    agent.check(State::Ready).await;
    assert!(agent.metric("signet_agent_certificate_valid 1"));
}
