//! What is due, and when: by what was heard, seen and tried.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// These namespaces, without any ConfigMap, where the roots 1 are wanted and no lists.
fn places(names: &[&str]) -> Places {
    let mut places = Places::new(true);
    places.namespaces(names.iter().map(|name| (*name).into()));
    for kind in Kind::BOTH {
        places.all(kind, std::iter::empty());
    }
    places.want(1, NOTHING);
    places
}

fn due(places: &mut Places, now: Instant) -> Vec<String> {
    places.begin(now);
    let mut all = Vec::new();
    while let Some(name) = places.next(now) {
        places.put_off(&name);
        all.push(name.to_string());
    }
    all.sort();
    all.dedup();
    all
}

/// That the roots of a namespace were written as this version.
fn wrote(places: &mut Places, namespace: &str, version: &str) {
    places.judged(Kind::Roots, namespace, version, 1, false);
    places.over(namespace, None, Instant::now());
}

#[tokio::test(start_paused = true)]
async fn all_is_due_until_it_was_seen_to_be_right_and_again_when_it_changes() {
    let now = Instant::now();
    let mut all = places(&["a", "b", "c"]);
    assert_eq!(due(&mut all, now), ["a", "b", "c"]);
    wrote(&mut all, "a", "10");
    wrote(&mut all, "b", "11");
    assert_eq!((due(&mut all, now), all.count(now)), (vec!["c".to_owned()], (3, 2)));
    // The echo of our own writes, and what is older, says nothing.
    all.there(Kind::Roots, "a", "10", now);
    all.there(Kind::Roots, "b", "9", now);
    all.gone(Kind::Roots, "b", "8", now);
    assert!(!all.has_fresh() && all.count(now).1 == 2);
    all.there(Kind::Roots, "a", "12", now);
    all.gone(Kind::Roots, "b", "13", now);
    assert!(all.has_fresh());
    assert_eq!(due(&mut all, now), ["a", "b", "c"]);
    assert_eq!(all.seen(Kind::Roots, "b"), None);
    // Other contents are wanted.
    for (name, version) in [("a", "14"), ("b", "15"), ("c", "16")] {
        wrote(&mut all, name, version);
    }
    assert!(due(&mut all, now).is_empty());
    all.want(2, NOTHING);
    assert_eq!(due(&mut all, now).len(), 3);
    assert_eq!(all.seen(Kind::Roots, "a").unwrap().right_for, Some(1), "it need not be read");
}

#[tokio::test(start_paused = true)]
async fn lists_are_due_where_they_are_wanted_and_where_they_are_not_any_more() {
    let now = Instant::now();
    let mut all = places(&["a", "b"]);
    wrote(&mut all, "a", "1");
    wrote(&mut all, "b", "2");
    all.want(1, 5);
    assert_eq!(due(&mut all, now), ["a", "b"]);
    all.judged(Kind::Lists, "a", "3", 5, false);
    assert_eq!(due(&mut all, now), ["b"]);
    all.want(1, NOTHING);
    assert_eq!(due(&mut all, now), ["a"], "it is to go; there is none in b");
    all.judged(Kind::Lists, "a", "4", NOTHING, true);
    assert!(due(&mut all, now).is_empty(), "it is somebody else's");
    all.there(Kind::Lists, "b", "5", now);
    all.want(1, ANYTHING);
    assert!(due(&mut all, now).is_empty());
}

#[tokio::test(start_paused = true)]
async fn new_namespaces_come_first_and_one_is_not_worked_on_twice_at_once() {
    let now = Instant::now();
    let mut all = places(&["a", "b"]);
    all.begin(now);
    let first = all.next(now).unwrap();
    all.namespace("new".into(), now);
    assert_eq!(all.next(now).as_deref(), Some("new"));
    all.there(Kind::Roots, &first, "7", now);
    let second = all.next(now).unwrap();
    assert!(second != first && all.next(now).is_none());
    all.no_namespace("new");
    assert_eq!(all.count(now), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn what_fails_waits_longer_each_time_and_less_when_something_has_happened() {
    let now = Instant::now();
    let mut all = places(&["a", "b", "c", "d", "e"]);
    let fail = |all: &mut Places, name: &str, now| all.over(name, Some("forbidden".into()), now);
    fail(&mut all, "a", now);
    assert_eq!(due(&mut all, now).len(), 4, "the others do not wait");
    assert_eq!(all.again_in(now), Some(SECOND));
    assert!(due(&mut all, now + SECOND).contains(&"a".to_owned()));
    for _ in 0..20 {
        fail(&mut all, "a", now);
    }
    assert_eq!(all.again_in(now), Some(RETRY.1));
    all.there(Kind::Roots, "a", "8", now);
    assert!(due(&mut all, now).contains(&"a".to_owned()));
    fail(&mut all, "a", now);
    all.want(2, NOTHING);
    assert!(due(&mut all, now).contains(&"a".to_owned()), "another content may be possible");
    for name in ["b", "c", "d", "e"] {
        fail(&mut all, name, now);
    }
    let problem = all.problem().unwrap();
    assert_eq!(problem, "namespaces a, b, c and 2 more: forbidden");
    for name in ["a", "b", "c", "d", "e"] {
        all.judged(Kind::Roots, name, "9", 2, false);
        all.over(name, None, now);
    }
    assert_eq!((all.problem(), all.again_in(now), all.count(now)), (None, None, (5, 5)));
}

#[tokio::test(start_paused = true)]
async fn what_is_the_same_trouble_in_many_namespaces_is_told_once_with_their_names() {
    let now = Instant::now();
    let mut all = places(&["a", "b", "c", "d", "e", "f", "g"]);
    for name in ["a", "b", "c", "d"] {
        all.over(name, Some(format!("may not create in the namespace \"{name}\"")), now);
    }
    all.over("e", Some("too large".into()), now);
    assert_eq!(
        all.problem().unwrap(),
        "namespaces a, b, c and 1 more: may not create in the namespace \"a\"; namespace e: too large"
    );
    all.over("f", Some("immutable".into()), now);
    all.over("g", Some("gone".into()), now);
    assert!(all.problem().unwrap().ends_with("; namespace f: immutable; and 1 namespaces more"));
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_is_being_removed_is_not_waited_for_and_one_that_is_made_anew_is() {
    let now = Instant::now();
    let mut all = places(&["a", "ending"]);
    wrote(&mut all, "a", "1");
    all.skip("ending", now);
    assert_eq!((all.count(now), due(&mut all, now).len()), ((1, 1), 0));
    assert_eq!(all.again_in(now), Some(SKIPPED), "it may have been made anew unheard");
    assert_eq!(due(&mut all, now + SKIPPED), ["ending"]);
    all.no_namespace("ending");
    all.namespace("ending".into(), now);
    assert_eq!(all.next(now).as_deref(), Some("ending"));
}

#[tokio::test(start_paused = true)]
async fn istiod_is_fought_three_times_a_minute_and_left_in_peace_then() {
    let now = Instant::now();
    let mut all = places(&["a"]);
    let name: Arc<str> = "a".into();
    for turn in 0..3 {
        assert!(!all.fought(&name, PEACE, now), "{turn}");
        wrote(&mut all, "a", "1");
    }
    assert!(all.problem().is_none() && all.again_in(now).is_none());
    all.there(Kind::Roots, "a", "2", now);
    assert!(all.fought(&name, PEACE, now + SECOND));
    all.over("a", Some("fought".into()), now);
    all.there(Kind::Roots, "a", "3", now);
    assert!(due(&mut all, now).is_empty(), "whatever it writes");
    assert_eq!((all.again_in(now), all.problem().is_some()), (Some(PEACE), true));
    assert_eq!(due(&mut all, now + PEACE), ["a"]);
    assert!(!all.fought(&name, PEACE, now + PEACE), "and another try");
    wrote(&mut all, "a", "4");
    assert!(all.problem().is_none());
    // Seldom enough, it is no fight.
    for minute in 2..10 {
        assert!(!all.fought(&name, PEACE, now + PEACE + FIGHT * minute));
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_list_keeps_what_was_seen_of_versions_that_are_still_there() {
    let now = Instant::now();
    let mut all = places(&["a", "b"]);
    wrote(&mut all, "a", "1");
    wrote(&mut all, "b", "2");
    all.all(Kind::Roots, [("a".into(), "1".into()), ("b".into(), "3".into())].into_iter());
    assert_eq!(due(&mut all, now), ["b"]);
    assert!(!Places::new(true).is_known() && all.is_known());
    let mut without_lists = Places::new(false);
    without_lists.namespaces(std::iter::empty());
    without_lists.all(Kind::Roots, std::iter::empty());
    assert!(without_lists.is_known());
}
