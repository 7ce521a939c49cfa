//! Where the bundle is published: what is kept of reports, whose turn it is, and what that means for a change of the journal.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::sync::Arc;

use signet_core::publication::{KEPT, MAX_NAME, Publication, Report};
use signet_core::rotation::Condition;
use signet_core::seams::store::{AuthorityJournal, Change, Changed, HolderStore, JournalVersion, PublicationStore};
use time::OffsetDateTime;

use super::{admitting, ended};

/// Runs the cases of this file.
pub(super) async fn every_case<S>(make: &impl AsyncFn() -> [Arc<S>; 2])
where
    S: AuthorityJournal + HolderStore + PublicationStore,
{
    the_last_report_counts_and_the_first_time_of_each_bundle(make().await).await;
    one_process_at_a_time_has_the_turn(make().await).await;
    only_silent_publishers_of_others_are_forgotten(make().await).await;
    a_change_waits_for_every_publisher(make().await).await;
}

fn report(publisher: &str, sequence: Option<u64>, at: i64) -> Report {
    let problem = sequence.is_none().then(|| "no right to write".to_owned());
    let in_place = if sequence.is_some() { 7 } else { 6 };
    Report { publisher: publisher.to_owned(), sequence, wanted: 7, in_place, problem, at: ended(at) }
}

async fn all(store: &impl PublicationStore) -> Vec<Publication> {
    store.publications().await.unwrap().all().to_vec()
}

async fn the_last_report_counts_and_the_first_time_of_each_bundle<S>([here, there]: [Arc<S>; 2])
where
    S: HolderStore + PublicationStore,
{
    assert!(all(&*there).await.is_empty());
    for (publisher, sequence, at) in [
        ("config-map/a", Some(3), 10),
        ("cluster-trust-bundle/a", None, 15),
        ("config-map/a", Some(3), 20),
        ("config-map/a", Some(4), 30),
        ("config-map/a", None, 40),
        // One that was on its way for long changes nothing but when that bundle was there.
        ("config-map/a", Some(2), 5),
    ] {
        here.report(&report(publisher, sequence, at)).await.unwrap();
    }
    let reached = [(2, ended(5)), (3, ended(10)), (4, ended(30))].into();
    let problem = Some("no right to write".to_owned());
    let of = |publisher: &str, reached, at| Publication {
        publisher: publisher.to_owned(),
        reached,
        wanted: 7,
        in_place: 6,
        problem: problem.clone(),
        heard_at: ended(at),
    };
    let expected = [of("cluster-trust-bundle/a", [].into(), 15), of("config-map/a", reached, 40)];
    assert_eq!(all(&*there).await, expected);
    assert_eq!(there.coverage(ended(0)).await.unwrap().published.all(), expected);
    // What grows is bounded.
    for sequence in 5..200 {
        let long = Report { problem: Some("x".repeat(100_000)), ..report("config-map/a", Some(sequence), 50) };
        here.report(&long).await.unwrap();
    }
    let [_, kept] = all(&*there).await.try_into().unwrap();
    assert_eq!((kept.reached.len(), kept.sequence()), (KEPT, 199));
    assert!(kept.problem.unwrap().len() <= 1000);
    assert!(here.report(&report(&"x".repeat(MAX_NAME + 1), None, 60)).await.is_err());
}

async fn one_process_at_a_time_has_the_turn([here, there]: [Arc<impl PublicationStore>; 2]) {
    let turn = async |store: &Arc<_>, who: &str, now, until| {
        PublicationStore::take_turn(&**store, "p", who, ended(now), ended(until)).await.unwrap()
    };
    assert!(turn(&here, "a", 0, 15).await);
    assert!(!turn(&there, "b", 14, 30).await, "somebody else has it");
    assert!(turn(&here, "a", 10, 25).await, "whoever has it keeps it");
    assert!(!turn(&there, "b", 24, 40).await);
    assert!(turn(&there, "b", 25, 40).await, "it is over");
    assert!(!turn(&here, "a", 30, 45).await);
    assert!(here.take_turn("another", "a", ended(30), ended(45)).await.unwrap());
    assert!(here.publications().await.unwrap().all().is_empty(), "whose turn it is says nothing of what is published");
}

async fn only_silent_publishers_of_others_are_forgotten([here, there]: [Arc<impl PublicationStore>; 2]) {
    for (publisher, at) in [("ours", 10), ("silent", 10), ("heard", 30), ("silent-too", 29)] {
        here.report(&report(publisher, Some(1), at)).await.unwrap();
    }
    let ours = ["ours".to_owned()];
    assert_eq!(there.forget_silent(&ours, ended(30)).await.unwrap(), ["silent", "silent-too"]);
    assert!(there.forget_silent(&ours, ended(30)).await.unwrap().is_empty());
    let left: Vec<String> = all(&*here).await.into_iter().map(|one| one.publisher).collect();
    assert_eq!(left, ["heard", "ours"]);
    // One that comes back begins anew.
    here.report(&report("silent", None, 40)).await.unwrap();
    assert_eq!(all(&*there).await.iter().map(Publication::sequence).collect::<Vec<_>>(), [1, 1, 0]);
}

async fn a_change_waits_for_every_publisher<S>([here, there]: [Arc<S>; 2])
where
    S: AuthorityJournal + PublicationStore,
{
    let next = admitting();
    let version = there.load().await.unwrap().map_or(JournalVersion(0), |(version, _)| version);
    let change = async |by: OffsetDateTime| {
        let published = Condition::Published { sequence: 4, publishers: vec!["ours".into()], by, now: ended(100) };
        let conditions = [published];
        let change =
            Change { expected: version, next: &next, conditions: &conditions, now: ended(100), events: Vec::new() };
        there.change(change).await.unwrap()
    };
    assert_eq!(change(ended(90)).await, Changed::Unmet, "nothing is known of it");
    here.report(&report("ours", Some(3), 60)).await.unwrap();
    here.report(&report("others", Some(4), 60)).await.unwrap();
    assert_eq!(change(ended(90)).await, Changed::Unmet, "ours lacks it");
    here.report(&report("ours", Some(4), 70)).await.unwrap();
    assert_eq!(change(ended(69)).await, Changed::Unmet, "it has it for too short a time");
    assert_eq!(change(ended(70)).await, Changed::Made(JournalVersion(version.0 + 1)));
}
