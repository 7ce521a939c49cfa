//! The connection of the bundle stream for real: renewals, restarts, and what else depends on it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use signet_core::clock::ManualClock;
use signet_core::shown_time::ShownTimes;
use signet_runtime::output::Width;
use signet_runtime::readiness::State;
use signet_runtime::supervisor::Supervisor;
use time::OffsetDateTime;

use crate::app::Agent;
use crate::files::{CHAIN_FILE, ROOT_FILE};
use crate::identity::status::{Link, Status};
use crate::inspection;
use crate::inspection_view::{View, as_json, as_tables};
use crate::tests::test_bundles::{Heard, validation};
use crate::tests::test_ca::{Authority, TestCa};
use crate::tests::test_world::{World, token, within};

use super::bundle_stream_tests::{AT_ONCE, roots, started};

#[tokio::test]
async fn a_new_certificate_gets_a_stream_of_its_own_before_the_old_one_ends_and_the_answer_is_repeated() {
    let (world, mut agent) = started().await;
    let held = agent.until(|status| status.held.is_some()).await.held.unwrap();
    std::fs::write(world.path("token"), token(2)).unwrap();
    world.clock.set(held.renew_at);
    agent.until(|status| status.obtained == 2).await;
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
    let status = agent.until(|status| status.obtained == 2 && status.bundle_stream.last_failure.is_some()).await;
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
async fn a_replica_without_streams_is_asked_again_when_the_old_stream_ends() {
    let (mut world, mut agent) = started().await;
    let tls = Authority::root("tls");
    let held = agent.until(|status| status.held.is_some()).await.held.unwrap();
    world.ca.bundles.unknown.store(true, Ordering::SeqCst);
    world.clock.set(held.renew_at);
    agent.until(|status| status.obtained == 2).await;
    world.ca.bundles.refused(1).await;
    assert_eq!(agent.statuses.borrow().bundle_stream.link, Link::Up, "the old one goes on");
    std::fs::write(world.path("roots.pem"), tls.pem()).unwrap();
    world.ca.bundles.unknown.store(false, Ordering::SeqCst);
    world.serving.take().unwrap().stop().await;
    world.serving = Some(world.ca.serve(&tls, Some(world.address)).await);
    world.ca.bundles.until(|heard| heard.iter().any(|it| matches!(it, Heard::Applied(2.., 5)))).await;
}

#[tokio::test]
async fn a_stream_that_ended_by_a_renewal_was_a_good_one() {
    let world = World::new("20ms").await;
    world.ca.bundles.publish(validation(5, &[&world.ca.root], &[]), "[]");
    world.ca.bundles.refusing.store(true, Ordering::SeqCst);
    let mut agent = world.start().await;
    world.ca.bundles.refused(6).await;
    world.ca.bundles.refusing.store(false, Ordering::SeqCst);
    let held = agent.until(|status| status.bundle_stream.link == Link::Up).await.held.unwrap();
    world.ca.bundles.refusing.store(true, Ordering::SeqCst);
    let (before, start) = (*world.ca.bundles.refusals.borrow(), Instant::now());
    world.clock.set(held.renew_at);
    // Waits that had gone on to double would be longer than four seconds together; those that begin anew are not.
    world.ca.bundles.refused(before + 4).await;
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_stream_that_ends_with_its_token_is_opened_anew_at_once_with_the_newer_one() {
    let (world, mut agent) = started().await;
    std::fs::write(world.path("token"), token(2)).unwrap();
    world.ca.bundles.tokens_end.notify_waiters();
    let heard = world.ca.bundles.until(|heard| heard.iter().any(|it| matches!(it, Heard::Applied(2, 5)))).await;
    let newer = format!("Bearer {}", token(2));
    assert!(heard.iter().any(|it| matches!(it, Heard::Opened(2, headers) if headers[0] == newer)), "{heard:?}");
    let status = agent.until(|status| status.bundle_stream.link == Link::Up).await;
    assert!(status.bundle_stream.last_failure.is_none(), "{:?}", status.bundle_stream.last_failure);
    // What comes later is heard of as ever, and nothing was asked for but the stream.
    world.ca.bundles.publish(validation(6, &[&world.ca.root, &Authority::root("new")], &[]), "[]");
    assert!(world.ca.bundles.applied(6).await.contains(&Heard::Applied(2, 6)));
    assert_eq!((status.obtained, world.ca.calls().len()), (1, 1));
}

#[tokio::test]
async fn a_stream_that_ends_with_its_token_while_there_is_no_newer_one_is_a_failure() {
    let (world, mut agent) = started().await;
    world.ca.bundles.tokens_end.notify_waiters();
    let status = agent.until(|status| status.bundle_stream.last_failure.is_some()).await;
    let text = status.bundle_stream.last_failure.unwrap().text;
    assert!(text.contains("the token that opened the bundle stream has ended"), "{text}");
    // It is tried again all the same, later.
    world.ca.bundles.until(|heard| heard.iter().any(|it| matches!(it, Heard::Applied(2, 5)))).await;
}

#[tokio::test]
async fn streams_that_end_soon_are_opened_ever_more_seldom() {
    let (world, agent) = started().await;
    let start = Instant::now();
    for stream in 2..=8 {
        world.ca.bundles.tokens_end.notify_waiters();
        let opened =
            |heard: &[Heard]| heard.iter().any(|it| matches!(it, Heard::Applied(which, 5) if *which == stream));
        world.ca.bundles.until(opened).await;
    }
    // Waits that began anew each time would be shorter than that together.
    assert!(start.elapsed() > Duration::from_secs(1), "{:?}", start.elapsed());
    assert!(agent.ops.readiness.snapshot().ready);
}

#[tokio::test]
async fn a_restarted_ca_gets_its_stream_back_and_brings_what_was_missed() {
    let (mut world, mut agent) = started().await;
    let tls = Authority::root("tls");
    // The CA's own word; what is said about the next attempt, which finds nobody, comes milliseconds later.
    let said =
        |status: &Status| status.bundle_stream.last_failure.as_ref().is_some_and(|it| it.text.contains("Unavailable"));
    let (_, down) = tokio::join!(world.serving.take().unwrap().stop(), agent.until(said));
    assert_eq!(down.bundle_stream.link, Link::Down);
    assert!(agent.check_of("bundle_stream", State::Degraded).await.starts_with("down since"));
    assert!(agent.ops.readiness.snapshot().ready);
    world.ca.bundles.publish(validation(6, &[&world.ca.root, &Authority::root("new")], &[]), "[]");
    std::fs::write(world.path("roots.pem"), tls.pem()).unwrap();
    world.serving = Some(world.ca.serve(&tls, Some(world.address)).await);
    world.ca.bundles.applied(6).await;
    assert_eq!(world.fetch().await.1, 2);
    let status = agent.until(|status| status.bundle_stream.link == Link::Up).await;
    assert!(status.bundle_stream.last_failure.is_some(), "kept as history");
    assert_eq!((status.obtained, world.ca.calls().len()), (1, 1));
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
    agent.until(|status| status.obtained == 2).await;
    assert_eq!(world.fetch().await.1, 2);
}

#[tokio::test]
async fn a_ca_without_bundle_stream_is_asked_again_every_five_minutes_and_all_else_goes_on() {
    let world = World::new("20ms").await;
    let mut agent = world.start().await;
    let held = agent.until(|status| status.bundle_stream.link == Link::Unsupported).await.held.unwrap();
    let asked = || *world.ca.bundles.refusals.borrow();
    // Not across sockets: time stands still only while it is moved on.
    let advance = async |seconds| {
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(seconds)).await;
        tokio::time::resume();
    };
    for _round in 1..=2 {
        // One that is asked too soon is noted with this time.
        advance(290).await;
        world.fetch().await;
        // The answer must be there before time moves on, or it is late.
        agent.statuses.mark_unchanged();
        advance(41).await;
        within(agent.statuses.changed()).await.unwrap();
    }
    assert_eq!((asked(), world.ca.calls().len()), (3, 1));
    // A pause is up to a tenth longer.
    let times = world.ca.bundles.refused_at.lock().unwrap().clone();
    for pair in times.windows(2) {
        let pause = pair[1] - pair[0];
        assert!(pause >= Duration::from_secs(300), "asked again after {pause:?}");
    }
    // A renewal is no reason to ask; the certificate is renewed all the same, and its roots count.
    world.ca.reply_with(None, &[&world.ca.root, &Authority::root("new")]);
    world.clock.set(held.renew_at);
    agent.until(|status| status.obtained == 2).await;
    // As much as happens in several calls: whoever asks has asked by then.
    for _ in 0..20 {
        assert_eq!((world.fetch().await.1, asked()), (2, 3));
    }
    agent.check_of("bundle_stream", State::Ready).await;
    // The CA is upgraded.
    world.ca.bundles.publish(validation(5, &[&world.ca.root], &[]), "[]");
    advance(331).await;
    agent.until(|status| status.bundle_stream.link == Link::Up).await;
    world.ca.bundles.applied(5).await;
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
    agent.until(|status| status.obtained == 2).await;
    // A stranger is still nobody.
    world.serving.take().unwrap().stop().await;
    world.serving = Some(world.ca.serve(&Authority::root("stranger"), Some(world.address)).await);
    let is_refused = |text: &str| text.contains("cannot connect to the CA");
    agent.until(|status| status.bundle_stream.last_failure.as_ref().is_some_and(|it| is_refused(&it.text))).await;
}

#[tokio::test]
async fn a_root_that_was_removed_is_trusted_again_by_a_root_file_written_after_that() {
    let clock = ManualClock::at(OffsetDateTime::from_unix_timestamp(1_700_000_000).unwrap());
    let (ca, tls) = (TestCa::new(clock.clone()), Authority::root("tls"));
    let world = World::with_tls(clock, ca, &tls, "20ms").await;
    world.ca.bundles.publish(validation(5, &[&world.ca.root, &tls], &[]), "[]");
    let mut agent = world.start().await;
    world.ca.bundles.applied(5).await;
    world.ca.bundles.publish(validation(6, &[&world.ca.root], &[]), "[]");
    world.ca.bundles.applied(6).await;
    // Nobody has called the CA since, and what the file held until now was noted all the same.
    std::fs::write(world.path("roots.pem"), tls.pem() + &Authority::root("another").pem()).unwrap();
    let held = agent.until(|status| status.held.is_some()).await.held.unwrap();
    world.clock.set(held.renew_at);
    agent.until(|status| status.obtained == 2).await;
}

#[tokio::test]
async fn inspection_tells_about_the_bundle_and_its_stream() {
    let (world, mut agent) = started().await;
    agent.until(|status| status.validation.as_ref().is_some_and(|held| held.sequence == Some(5))).await;
    let answer = inspection::ask(&world.config.sds.socket).await.unwrap();
    let json = as_json(&answer);
    let identity = &json["identities"][0];
    assert_eq!((&identity["bundle_sequence"], &identity["revocation_lists"]), (&5.into(), &0.into()));
    assert_eq!((&identity["bundle_stream"]["state"], &identity["root_count"]), (&"up".into(), &1.into()));
    assert_eq!(identity["bundle_stream"]["since"], "2023-11-14T22:13:20Z");
    assert!(identity["bundle_stream"]["last_error_at"].is_null());
    let tables = as_tables(&answer, View { width: Width::Unlimited, times: ShownTimes::Absolute });
    for part in ["bundle sequence   5", "revocation lists  0", "bundle stream     up since 2023-11-14T22:13:20Z"] {
        assert!(tables.contains(part), "{part}\n{tables}");
    }
}

#[tokio::test]
async fn files_get_a_new_root_at_once_and_the_ca_hears_of_it_after_they_are_written() {
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
    assert!(before.elapsed() < AT_ONCE, "{:?}", before.elapsed());
    assert_eq!((roots(&read(ROOT_FILE)), read(CHAIN_FILE)), (2, chain), "the leaf is the same");
    assert_eq!(world.ca.calls().len(), 1);
    let stopped = supervisor.run_until(std::future::ready(()), std::future::pending(), Duration::from_secs(5));
    assert!(within(stopped).await.failure.is_none());
}
