//! The bundle stream for real: an agent, a CA and proxies over TLS, Unix sockets and gRPC.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use signet_core::clock::{Clock, ManualClock};
use signet_runtime::readiness::State;
use signet_runtime::supervisor::Supervisor;
use signet_sds::snapshot::SecretContent;
use time::OffsetDateTime;

use crate::app::Agent;
use crate::files::{CHAIN_FILE, ROOT_FILE};
use crate::inspection;
use crate::status::Link;
use crate::test_bundles::{Heard, validation};
use crate::test_ca::{Authority, TestCa};
use crate::test_proxy::secrets;
use crate::test_world::{Running, World, token, within};

const BOTH: [&str; 2] = ["default", "ROOTCA"];

/// A world whose CA serves bundle 5, which is the test root; the agent has applied it.
async fn started() -> (World, Running) {
    let world = World::new("20ms").await;
    world.ca.bundles.publish(validation(5, &[&world.ca.root], &[]), "[]");
    let mut agent = world.start().await;
    agent.until(|status| status.bundle_stream.link == Link::Up).await;
    world.ca.bundles.applied(5).await;
    (world, agent)
}

fn roots(pem: &str) -> usize {
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
    assert!(before.elapsed() < Duration::from_secs(1), "{:?}", before.elapsed());
    let secrets = secrets(&pushed);
    assert_eq!(secrets.keys().collect::<Vec<_>>(), ["ROOTCA"]);
    assert_eq!(roots(&secrets["ROOTCA"].0), 2);
    let status = agent.until(|status| status.validation.as_ref().unwrap().sequence == Some(6)).await;
    assert_eq!((status.renewals, world.ca.calls().len()), (1, 1));
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
    // The agent holds it and one proxy has said so: nothing may be said yet. An order that comes meanwhile changes
    // nothing about that.
    agent.until(|status| status.validation.as_ref().unwrap().sequence == Some(6)).await;
    let order = r#"[{"authorities":["ff"],"since":1,"window":1}]"#;
    let bundle = agent.statuses.borrow().validation.as_ref().unwrap().validation.clone();
    world.ca.bundles.publish(bundle, order);
    agent.until(|status| status.orders.len() == 1).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!world.ca.bundles.heard().iter().any(|it| matches!(it, Heard::Applied(_, 6))));
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
async fn a_refusal_of_a_proxy_reaches_the_ca_with_its_text_and_so_does_the_recovery() {
    let (world, agent) = started().await;
    let mut proxy = world.connect(&["ROOTCA"]).await;
    let first = proxy.next().await;
    proxy.ack(&first).await;
    world.ca.bundles.publish(validation(6, &[&world.ca.root, &Authority::root("new")], &[]), "[]");
    let pushed = proxy.next().await;
    proxy.nack(&pushed, "no such curve").await;
    let refused = Heard::Refused(1, 6, "no such curve".to_owned());
    world.ca.bundles.until(|heard| heard.contains(&refused)).await;
    assert!(agent.metric("signet_agent_bundle_nacks_total 1"));
    assert!(!world.ca.bundles.heard().iter().any(|it| matches!(it, Heard::Applied(_, 6))));
    proxy.ack(&pushed).await;
    world.ca.bundles.applied(6).await;
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
async fn an_older_bundle_than_the_one_held_is_not_applied() {
    let (world, mut agent) = started().await;
    world.ca.bundles.publish(validation(8, &[&world.ca.root, &Authority::root("new")], &[]), "[]");
    world.ca.bundles.applied(8).await;
    world.ca.bundles.publish(validation(7, &[&world.ca.root], &[]), r#"[{"authorities":[],"since":1,"window":1}]"#);
    agent.until(|status| status.orders.len() == 1).await;
    let held = agent.statuses.borrow().validation.clone().unwrap();
    assert_eq!((held.sequence, held.validation.bundle.roots().len()), (Some(8), 2));
}

#[tokio::test]
async fn an_order_renews_the_certificates_of_its_authority_once_and_never_again() {
    let (world, mut agent) = started().await;
    let held = agent.until(|status| status.held.is_some()).await.held.unwrap();
    let (since, window) = (world.clock.now().unix_timestamp() + 100, 1000);
    let order = |authority: &str| format!(r#"[{{"authorities":["{authority}"],"since":{since},"window":{window}}}]"#);
    let publish = |orders: &str| world.ca.bundles.publish(validation(5, &[&world.ca.root], &[]), orders);
    publish(&order("00ff"));
    let status = agent.until(|status| status.orders.len() == 1).await;
    assert_eq!((status.ordered(), status.next_attempt), (None, Some(held.renew_at)), "of another authority");
    publish(&order(&held.authority));
    let due = agent.until(|status| status.ordered().is_some()).await.ordered().unwrap();
    assert_eq!(agent.statuses.borrow().next_attempt, Some(due));
    let begin = OffsetDateTime::from_unix_timestamp(since).unwrap();
    assert!(due > begin && due <= begin + Duration::from_secs(window), "{due}");
    // Withdrawn, and given again.
    publish("[]");
    let status = agent.until(|status| status.ordered().is_none()).await;
    assert_eq!(status.next_attempt, Some(held.renew_at));
    publish(&order(&held.authority));
    agent.until(|status| status.ordered().is_some()).await;
    world.clock.set(due - Duration::from_secs(1));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(world.ca.calls().len(), 1);
    world.clock.set(due);
    let second = agent.until(|status| status.renewals == 2).await.held.unwrap();
    // The CA still signs with that authority, and its order still stands, also on the new stream.
    assert_eq!(second.authority, held.authority);
    world.ca.bundles.until(|heard| heard.iter().any(|it| matches!(it, Heard::Applied(2, 5)))).await;
    let status = agent.statuses.borrow().clone();
    assert_eq!((status.orders.len(), status.ordered()), (1, None));
    world.clock.set(begin + Duration::from_secs(2 * window));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(world.ca.calls().len(), 2);
    // An order that is past already, seen for the first time: within seconds, and from another authority.
    world.ca.roll_issuer();
    publish(&format!(r#"[{{"authorities":["{}"],"since":{},"window":1}}]"#, second.authority, since + 1));
    let due = agent.until(|status| status.ordered().is_some()).await.ordered().unwrap();
    assert!(due - world.clock.now() <= Duration::from_secs(3));
}

#[tokio::test]
async fn a_ca_that_orders_ever_again_does_not_make_a_loop() {
    let (world, mut agent) = started().await;
    let held = agent.until(|status| status.held.is_some()).await.held.unwrap();
    let order = |seconds: u64| {
        let at = world.clock.now() + Duration::from_secs(seconds);
        let since = at.unix_timestamp();
        let order = format!(r#"[{{"authorities":["{}"],"since":{since},"window":0}}]"#, held.authority);
        world.ca.bundles.publish(validation(5, &[&world.ca.root], &[]), &order);
        at
    };
    let due = order(5);
    agent.until(|status| status.ordered() == Some(due)).await;
    world.clock.set(due);
    agent.until(|status| status.renewals == 2).await;
    let due = order(6);
    agent.until(|status| status.ordered() == Some(due)).await;
    world.clock.set(due);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(world.ca.calls().len(), 2, "an order after an order is put off");
}

#[tokio::test]
async fn a_new_certificate_gets_a_stream_of_its_own_before_the_old_one_ends_and_the_answer_is_repeated() {
    let (world, mut agent) = started().await;
    let held = agent.until(|status| status.held.is_some()).await.held.unwrap();
    std::fs::write(world.path("token"), token(2)).unwrap();
    world.clock.set(held.renew_at);
    agent.until(|status| status.renewals == 2).await;
    let heard = world
        .ca
        .bundles
        .until(|heard| heard.contains(&Heard::Closed(1)) && heard.iter().any(|it| matches!(it, Heard::Applied(2, 5))));
    let heard = heard.await;
    let at = |wanted: &dyn Fn(&Heard) -> bool| heard.iter().position(wanted).unwrap();
    assert!(at(&|it| matches!(it, Heard::Opened(2, _))) < at(&|it| *it == Heard::Closed(1)), "{heard:?}");
    let headers = |wanted| {
        heard.iter().find_map(|it| match it {
            Heard::Opened(stream, headers) if *stream == wanted => Some(headers.clone()),
            _ => None,
        })
    };
    let (one, two) = (headers(1).unwrap(), headers(2).unwrap());
    assert_eq!(
        (one[0].as_str(), two[0].as_str()),
        (&*format!("Bearer {}", token(1)), &*format!("Bearer {}", token(2)))
    );
    assert_eq!((one[1].as_str(), one[2].len()), ("Kubernetes", 32));
    let calls = world.ca.calls();
    assert!(calls.iter().all(|call| call.instance == one[2] && call.bundle == "stream"), "{calls:?}");
    assert_eq!(two[2], one[2], "the same process");
}

#[tokio::test]
async fn a_stream_that_cannot_be_opened_anew_leaves_the_old_one_at_work() {
    let (world, mut agent) = started().await;
    let held = agent.until(|status| status.held.is_some()).await.held.unwrap();
    world.ca.bundles.refusing.store(true, Ordering::SeqCst);
    world.clock.set(held.renew_at);
    let status = agent.until(|status| status.renewals == 2 && status.bundle_stream.last_failure.is_some()).await;
    assert!(status.bundle_stream.last_failure.unwrap().text.contains("Unauthenticated"));
    assert_eq!(status.bundle_stream.link, Link::Up);
    world.ca.bundles.publish(validation(6, &[&world.ca.root, &Authority::root("new")], &[]), "[]");
    assert!(world.ca.bundles.applied(6).await.contains(&Heard::Applied(1, 6)));
    assert_eq!(world.fetch().await.1, 2);
    world.ca.bundles.refusing.store(false, Ordering::SeqCst);
    let heard = world.ca.bundles.until(|heard| heard.contains(&Heard::Closed(1))).await;
    assert!(heard.iter().any(|it| matches!(it, Heard::Opened(2, _))), "{heard:?}");
    world.ca.bundles.until(|heard| heard.contains(&Heard::Applied(2, 6))).await;
}

#[tokio::test]
async fn a_restarted_ca_gets_its_stream_back_and_brings_what_was_missed() {
    let (mut world, mut agent) = started().await;
    let tls = Authority::root("tls");
    world.serving.take().unwrap().stop().await;
    let down = agent.until(|status| status.bundle_stream.link == Link::Down).await.bundle_stream;
    assert!(down.last_failure.unwrap().text.contains("Unavailable"), "the CA's own word");
    assert!(agent.check_of("bundle_stream", State::Degraded).await.starts_with("down since"));
    assert!(agent.ops.readiness.snapshot().ready);
    world.ca.bundles.publish(validation(6, &[&world.ca.root, &Authority::root("new")], &[]), "[]");
    std::fs::write(world.path("roots.pem"), tls.pem()).unwrap();
    world.serving = Some(world.ca.serve(&tls, Some(world.address)).await);
    world.ca.bundles.applied(6).await;
    assert_eq!(world.fetch().await.1, 2);
    let status = agent.until(|status| status.bundle_stream.link == Link::Up).await;
    assert!(status.bundle_stream.last_failure.is_some(), "kept as history");
    assert_eq!((status.renewals, world.ca.calls().len()), (1, 1));
}

#[tokio::test]
async fn with_a_ca_without_bundle_stream_all_is_as_ever() {
    let world = World::new("20ms").await;
    let mut agent = world.start().await;
    agent.until(|status| status.bundle_stream.link == Link::Unsupported).await;
    agent.check_of("bundle_stream", State::Ready).await;
    assert!(agent.metric("signet_agent_bundle_stream_up 0") && agent.metric("signet_agent_bundle_sequence 0"));
    // The newest reply knows best.
    let held = agent.until(|status| status.held.is_some()).await.held.unwrap();
    world.ca.reply_with(None, &[&world.ca.root, &Authority::root("new")]);
    world.clock.set(held.renew_at);
    agent.until(|status| status.renewals == 2).await;
    assert_eq!(world.fetch().await.1, 2);
}

#[tokio::test]
async fn a_ca_whose_serving_certificate_is_of_a_root_that_came_by_stream_is_trusted() {
    let clock = ManualClock::at(OffsetDateTime::from_unix_timestamp(1_700_000_000).unwrap());
    let ca = TestCa::new(clock.clone());
    let (old, new) = (Authority::root("old tls"), Authority::root("new tls"));
    let mut world = World::with_tls(clock, ca, &old, "20ms").await;
    world.ca.bundles.publish(validation(5, &[&world.ca.root, &new], &[]), "[]");
    let mut agent = world.start().await;
    world.ca.bundles.applied(5).await;
    let held = agent.until(|status| status.held.is_some()).await.held.unwrap();
    // The root file is of no use any more, and it is even gone.
    world.serving.take().unwrap().stop().await;
    std::fs::remove_file(world.path("roots.pem")).unwrap();
    world.serving = Some(world.ca.serve(&new, Some(world.address)).await);
    world.ca.bundles.publish(validation(6, &[&world.ca.root, &new, &Authority::root("x")], &[]), "[]");
    world.ca.bundles.applied(6).await;
    world.clock.set(held.renew_at);
    agent.until(|status| status.renewals == 2).await;
    // A stranger is still nobody.
    world.serving.take().unwrap().stop().await;
    world.serving = Some(world.ca.serve(&Authority::root("stranger"), Some(world.address)).await);
    let is_refused = |text: &str| text.contains("cannot connect to the CA");
    agent.until(|status| status.bundle_stream.last_failure.as_ref().is_some_and(|it| is_refused(&it.text))).await;
}

#[tokio::test]
async fn inspection_tells_about_the_bundle_and_its_stream() {
    let (world, mut agent) = started().await;
    agent.until(|status| status.validation.as_ref().is_some_and(|held| held.sequence == Some(5))).await;
    let answer = inspection::ask(&world.config.sds.socket).await.unwrap();
    let json = inspection::as_json(&answer);
    let identity = &json["identities"][0];
    assert_eq!((&identity["bundle_sequence"], &identity["revocation_lists"]), (&5.into(), &0.into()));
    assert_eq!((&identity["bundle_stream"]["state"], &identity["roots"]), (&"up".into(), &1.into()));
    assert_eq!(identity["bundle_stream"]["since"], "2023-11-14T22:13:20Z");
    assert!(identity["bundle_stream"]["last_error_at"].is_null());
    let tables = inspection::as_tables(&answer);
    for part in ["bundle sequence   5", "revocation lists  0", "bundle stream     up since 2023-11-14T22:13:20Z"] {
        assert!(tables.contains(part), "{part}\n{tables}");
    }
}

#[tokio::test]
async fn files_get_a_new_root_within_a_second_and_the_ca_hears_of_it_after_they_are_written() {
    let world = World::new("20ms").await;
    world.ca.bundles.publish(validation(5, &[&world.ca.root], &[]), "[]");
    let out = world.path("out");
    let agent = Agent::new(&world.config, Arc::new(world.clock.clone())).unwrap();
    let supervisor = Supervisor::new();
    agent.start_writing(&out, &supervisor.spawner());
    world.ca.bundles.applied(5).await;
    let read = |file| std::fs::read_to_string(out.join(file)).unwrap();
    let chain = read(CHAIN_FILE);
    assert_eq!(roots(&read(ROOT_FILE)), 1);
    let before = Instant::now();
    world.ca.bundles.publish(validation(6, &[&world.ca.root, &Authority::root("new")], &[]), "[]");
    world.ca.bundles.applied(6).await;
    assert!(before.elapsed() < Duration::from_secs(1), "{:?}", before.elapsed());
    assert_eq!((roots(&read(ROOT_FILE)), read(CHAIN_FILE)), (2, chain), "the leaf is the same");
    assert_eq!(world.ca.calls().len(), 1);
    let stopped = supervisor.run_until(std::future::ready(()), std::future::pending(), Duration::from_secs(5));
    assert!(within(stopped).await.failure.is_none());
}
