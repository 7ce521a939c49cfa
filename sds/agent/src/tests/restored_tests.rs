//! A CA whose storage came from a backup, or whose clock was years ahead once: what the agent does and does not do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use signet_runtime::readiness::State;

use super::bundle_stream_tests::started;
use crate::identity::status::Link;
use crate::inspection;
use crate::inspection_view::as_json;
use crate::tests::test_bundles::{Heard, validation};
use crate::tests::test_ca::Authority;
use crate::tests::test_world::World;

/// What a CA with a clock that is sixty years ahead takes for the time.
const AHEAD: u64 = 3_600_000_000;

/// The CA is gone and comes back, as with other storage.
async fn restart(world: &mut World) {
    let tls = Authority::root("tls again");
    std::fs::write(world.path("roots.pem"), tls.pem()).unwrap();
    world.serving.take().unwrap().stop().await;
    world.serving = Some(world.ca.serve(&tls, Some(world.address)).await);
}

fn shown(world: &World) -> Vec<Option<String>> {
    world.ca.bundles.shown.lock().unwrap().clone()
}

#[tokio::test]
async fn a_backup_that_knows_the_bundle_that_agents_hold_changes_nothing_and_renewals_go_on() {
    let (mut world, mut agent) = started().await;
    restart(&mut world).await;
    world.ca.bundles.until(|heard| heard.iter().any(|it| matches!(it, Heard::Applied(2, 5)))).await;
    assert_eq!(shown(&world), [None, Some("proof-5".to_owned())]);
    let status = agent.until(|status| status.bundle_stream.link == Link::Up).await;
    assert_eq!((status.bundle_stream.older, status.early_renewal(), status.obtained), (None, None, 1));
    agent.check_of("bundle_stream", State::Ready).await;
    for renewals in 2..4 {
        let held = agent.until(|status| status.held.is_some()).await.held.unwrap();
        world.ca.reply_with(Some(5), &[&world.ca.root]);
        world.clock.set(held.renew_at);
        agent.until(|status| status.obtained == renewals).await;
        let stream = renewals + 1;
        let applied =
            |heard: &[Heard]| heard.iter().any(|it| matches!(it, Heard::Applied(which, 5) if *which == stream));
        world.ca.bundles.until(applied).await;
    }
    assert!(!world.ca.bundles.heard().iter().any(|it| matches!(it, Heard::Refused(..))));
    assert_eq!((world.ca.calls().len(), world.fetch().await.1), (3, 1));
}

#[tokio::test]
async fn numbers_by_a_clock_that_was_years_ahead_are_left_behind_as_soon_as_the_ca_goes_on_above_them() {
    let (mut world, mut agent) = started().await;
    let (root, more) = (Arc::clone(&world.ca.root), Authority::root("a"));
    let older = [&*root, &more];
    world.ca.bundles.publish(validation(AHEAD, &older, &[]), "[]");
    world.ca.bundles.applied(AHEAD).await;
    // The storage is restored from before that.
    world.ca.reply_with(Some(3), &[&world.ca.root]);
    world.ca.bundles.publish(validation(3, &[&world.ca.root], &[]), "[]");
    restart(&mut world).await;
    world.ca.bundles.until(|heard| heard.iter().any(|it| matches!(it, Heard::Refused(2, 3, _)))).await;
    assert_eq!(shown(&world), [None, Some(format!("proof-{AHEAD}"))]);
    let told = agent.check_of("bundle_stream", State::Degraded).await;
    assert!(told.contains("bundle 3 is older than the one held") && told.contains("signet-ca status"), "{told}");
    // Certificates are renewed meanwhile, and what is held stays.
    let held = agent.until(|status| status.held.is_some()).await.held.unwrap();
    world.clock.set(held.renew_at);
    agent.until(|status| status.obtained == 2).await;
    world.ca.bundles.until(|heard| heard.iter().any(|it| matches!(it, Heard::Refused(3, 3, _)))).await;
    assert_eq!(shown(&world).last().unwrap().as_deref(), Some(&*format!("proof-{AHEAD}")), "as long as it lasts");
    assert_eq!(world.fetch().await.1, 2);
    // The operator's act: the same bundle with a number above that one. It is not sent again, only its number is.
    world.ca.bundles.publish(validation(AHEAD + 1, &[&world.ca.root], &[]), "[]");
    world.ca.bundles.applied(AHEAD + 1).await;
    agent.check_of("bundle_stream", State::Ready).await;
    assert_eq!(world.fetch().await.1, 1);
    let json = as_json(&inspection::ask(&world.config.sds.socket).await.unwrap());
    assert_eq!(json["identities"][0]["bundle_sequence"], AHEAD + 1);
    world.ca.bundles.publish(validation(AHEAD + 2, &older, &[]), "[]");
    world.ca.bundles.applied(AHEAD + 2).await;
    assert_eq!(world.ca.calls().len(), 2);
}

/// An acknowledgement of a later response speaks for the roots of an earlier one that was not answered.
#[tokio::test]
async fn while_an_older_bundle_is_what_the_ca_has_nothing_is_acknowledged_whatever_it_sends() {
    let (world, mut agent) = started().await;
    world.ca.bundles.publish(validation(6, &[&world.ca.root, &Authority::root("new")], &[]), "[]");
    world.ca.bundles.applied(6).await;
    let (applied, _) = world.ca.bundles.answers(2).await;
    let hint = |hints| world.ca.bundles.publish(validation(5, &[&world.ca.root], &[]), hints);
    hint("[]");
    assert_eq!(world.ca.bundles.answers(applied + 1).await, (applied, 1), "the roots");
    // The roots are the same, so that only instructions are sent.
    hint(r#"[{"authorities":["ff"],"since":1,"window":1}]"#);
    let status = agent.until(|status| status.hints.len() == 1).await;
    assert_eq!(world.ca.bundles.answers(applied + 2).await, (applied, 2), "instructions");
    assert_eq!(status.bundle_stream.last_failure.unwrap().text, "a newer bundle (6) is held");
    world.ca.bundles.publish(validation(7, &[&world.ca.root], &[]), "[]");
    world.ca.bundles.applied(7).await;
}

#[tokio::test]
async fn a_replica_that_lags_for_a_moment_makes_no_agent_go_back() {
    let (world, agent) = started().await;
    world.ca.bundles.publish(validation(6, &[&world.ca.root, &Authority::root("new")], &[]), "[]");
    world.ca.bundles.applied(6).await;
    world.ca.bundles.publish(validation(5, &[&world.ca.root], &[]), "[]");
    world.ca.bundles.until(|heard| heard.iter().any(|it| matches!(it, Heard::Refused(1, 5, _)))).await;
    // However long the moment is.
    world.clock.advance(Duration::from_secs(600));
    assert_eq!(world.fetch().await.1, 2);
    world.ca.bundles.publish(validation(7, &[&world.ca.root], &[]), "[]");
    world.ca.bundles.applied(7).await;
    agent.check_of("bundle_stream", State::Ready).await;
    assert_eq!(world.ca.calls().len(), 1, "nothing was asked for");
}

#[tokio::test]
async fn a_certificate_whose_root_is_in_the_bundle_no_more_is_replaced_at_once() {
    let (world, mut agent) = started().await;
    let other = Authority::root("other");
    world.ca.bundles.publish(validation(6, &[&other], &[]), "[]");
    let ask = agent.until(|status| status.early_renewal().is_some()).await.early_renewal().unwrap();
    world.clock.set(ask);
    agent.until(|status| status.obtained == 2).await;
}
