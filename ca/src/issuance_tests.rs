//! Tests of the whole pipeline in memory: what is released, what is recorded, and what a failure leaves behind.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::sync::atomic::Ordering;

use super::*;
use crate::issue_error::RecordError;
use crate::world_tests::{DAY, NOW, WEB, World, application, csr};
use signet_core::certificate::Facts;

#[tokio::test]
async fn a_certificate_leaves_with_its_record_on_file() {
    let world = World::new().await;
    let issued = world.issuance.issue(&application()).await.unwrap();
    let leaf = Facts::read(issued.chain.leaf()).unwrap();
    assert_eq!(leaf.uris, [WEB]);
    assert_eq!(leaf.not_after, NOW + DAY);
    let events = world.events().await;
    let event = &events[0].event;
    assert_eq!((event.outcome, event.request_id.as_str()), (Outcome::Issued, "r1"));
    assert_eq!(event.what.as_ref().unwrap().serial().unwrap().as_bytes().to_vec(), leaf.serial);
    assert_eq!(event.who.spiffe_id.as_deref(), Some(WEB));
}

#[tokio::test]
async fn without_a_durable_record_nothing_is_released_and_later_requests_work_again() {
    let world = World::new().await;
    world.store.down.store(true, Ordering::SeqCst);
    let refused = world.issuance.issue(&application()).await.unwrap_err().0;
    assert!(matches!(refused, IssueError::Record(RecordError::Store(_))), "{refused}");
    world.store.down.store(false, Ordering::SeqCst);
    assert!(world.issuance.issue(&application()).await.is_ok());
    let issued = world.events().await.into_iter().filter(|stored| stored.event.outcome == Outcome::Issued).count();
    assert_eq!(issued, 1);
}

#[tokio::test]
async fn every_refusal_is_recorded_with_its_reason() {
    type Change = fn(&mut Application);
    let table: [(&str, Change); 10] = [
        ("request_malformed", |a| a.problem = Some("the metadata key CertSigner must hold a string".into())),
        ("token_missing", |a| a.token = None),
        ("signature_invalid", |a| a.token = Some(Secret::new(b"stranger".to_vec()))),
        ("cluster_unknown", |a| a.cluster = Some("nowhere".into())),
        ("csr_not_pem", |a| a.csr = "hello".into()),
        ("csr_names_not_allowed", |a| a.csr = csr(&["spiffe://cluster.local/ns/default/sa/admin"])),
        ("ttl_zero", |a| a.ttl = Some(0)),
        ("ttl_negative", |a| a.ttl = Some(-5)),
        ("ttl_too_long", |a| a.ttl = Some(i64::MAX)),
        ("impersonation_not_configured", |a| a.impersonated = Some("spiffe://cluster.local/ns/x/sa/y".into())),
    ];
    let world = World::new().await;
    for (reason, change) in table {
        let mut application = application();
        change(&mut application);
        let (error, on_record) = world.issuance.issue(&application).await.unwrap_err();
        assert_eq!((error.label(), on_record.as_deref()), (reason, Some("r1")));
        let event = world.recorded(Outcome::Refused, reason).await;
        assert_eq!((event.request_id.as_str(), event.what, event.repeated), ("r1", None, None));
        assert_eq!(event.detail, Some(error.to_string()));
    }
    assert_eq!(world.metrics.totals(), (0, 10, 0));
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_without_asking_whose_it_is() {
    for token in [application().token, Some(Secret::new(b"nobody".to_vec())), None] {
        let world = World::new().await;
        let unreadable = Application { token, unreadable: Some("no message".into()), ..application() };
        let refused = world.issuance.issue(&unreadable).await.unwrap_err().0;
        assert!(matches!(&refused, IssueError::Malformed(text) if text == "no message"), "{refused}");
        let recorded = world.recorded(Outcome::Refused, "request_malformed").await;
        assert_eq!(recorded.who.spiffe_id, None);
    }
}

#[tokio::test]
async fn an_alias_and_the_own_identity_as_impersonated_one_are_served() {
    let world = World::new().await;
    let application = Application { cluster: Some("alias".into()), impersonated: Some(WEB.into()), ..application() };
    assert!(world.issuance.issue(&application).await.is_ok());
}

#[tokio::test]
async fn a_clock_set_back_an_hour_fails_closed_and_recovers() {
    let world = World::new().await;
    world.clock.set(NOW - DAY / 24);
    let error = world.issuance.issue(&application()).await.unwrap_err().0;
    assert_eq!((error.label(), error.outcome()), ("clock_before_issuer", Outcome::Failed));
    world.clock.set(NOW);
    assert!(world.issuance.issue(&application()).await.is_ok());
}

#[tokio::test]
async fn before_there_is_an_authority_the_answer_is_not_ready() {
    let mut world = World::new().await;
    let (_writer, empty) = tokio::sync::watch::channel(None);
    Arc::get_mut(&mut world.issuance).unwrap().state = empty;
    assert_eq!(world.issuance.issue(&application()).await.unwrap_err().0.label(), "not_ready");
}

#[tokio::test]
async fn concurrent_requests_all_get_different_serials_and_their_own_record() {
    let world = World::new().await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let issuance = Arc::clone(&world.issuance);
        tasks.spawn(async move {
            let issued = issuance.issue(&application()).await.unwrap();
            Facts::read(issued.chain.leaf()).unwrap().serial
        });
    }
    let mut serials = tasks.join_all().await;
    serials.sort();
    serials.dedup();
    assert_eq!(serials.len(), 8);
    let recorded: Vec<_> = world.events().await.into_iter().filter_map(|stored| stored.event.what).collect();
    for serial in serials {
        assert!(recorded.iter().any(|what| what.serial().unwrap().as_bytes().to_vec() == serial));
    }
}

#[tokio::test(start_paused = true)]
async fn a_stuck_record_ends_the_request_in_time() {
    let world = World::new().await;
    world.store.stuck.store(true, Ordering::SeqCst);
    let error = world.issuance.issue(&application()).await.unwrap_err().0;
    assert_eq!((error.label(), error.outcome()), ("timed_out", Outcome::Failed));
}

#[tokio::test(start_paused = true)]
async fn one_request_has_one_outcome_on_record_however_slow_the_commit_is_and_whoever_gives_up() {
    for (kept, waits) in [(true, true), (true, false), (false, true), (false, false)] {
        let world = World::new().await;
        world.store.slow.store(true, Ordering::SeqCst);
        let application = application();
        // The deadline passes, or the caller is gone, while the record is being made.
        let limit = if waits { DAY } else { DAY / 86_400 };
        let answer = tokio::time::timeout(limit, world.issuance.issue(&application)).await;
        assert_eq!(answer.map(|answer| answer.unwrap_err().0.label()).ok(), waits.then_some("timed_out"));
        world.store.down.store(!kept, Ordering::SeqCst);
        world.store.slow.store(false, Ordering::SeqCst);
        world.store.commit.notify_one();
        // Whatever else is noted comes on record before this.
        let before = if kept { 1 } else { 0 };
        while kept && !world.events().await.iter().any(|stored| stored.event.outcome == Outcome::Issued) {
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(DAY / 24).await;
        let of_request = |event: &AuditEvent| event.request_id == "r1" && event.kind == EventKind::Certificate;
        let outcomes: Vec<Outcome> = world
            .events()
            .await
            .into_iter()
            .filter(|stored| of_request(&stored.event))
            .map(|stored| stored.event.outcome)
            .collect();
        assert_eq!(outcomes, vec![Outcome::Issued; before], "kept {kept}, waits {waits}");
    }
}
