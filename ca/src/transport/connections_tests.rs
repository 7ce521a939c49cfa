//! Who gets a place, and who gives way.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::net::Ipv4Addr;
use std::num::NonZeroU32;
use std::task::Waker;

use super::*;
use crate::config::Rate;

fn source(last: u8) -> Source {
    Source::V4(Ipv4Addr::new(192, 0, 2, last))
}

fn closing(place: &Place) -> bool {
    place.is_closing(Waker::noop())
}

fn met(connections: &Connections) -> Vec<(Limit, u64)> {
    connections.turned_away.met().into_iter().map(|met| (met.limit, met.total)).collect()
}

fn rate(per_second: u32, burst: u32) -> Rate {
    Rate { per_second: NonZeroU32::new(per_second).unwrap(), burst: NonZeroU32::new(burst).unwrap() }
}

#[tokio::test(start_paused = true)]
async fn the_oldest_unproved_connection_of_a_source_gives_way_and_those_of_others_stay() {
    let connections = Connections::for_tests(Room { per_source: 3, ..Room::default() });
    let other = connections.enter(source(2)).unwrap();
    let proved = connections.enter(source(1)).unwrap();
    proved.prove("a");
    let held: Vec<_> = (0..5).map(|_| connections.enter(source(1)).unwrap()).collect();
    assert_eq!(held.iter().map(|place| closing(place)).collect::<Vec<_>>(), [true, true, false, false, false]);
    assert!(!closing(&other) && !closing(&proved));
    assert_eq!(met(&connections), [(Limit::SourceConnections, 2)]);
    assert_eq!(connections.open.get(), 7, "what gave way is open until it is dropped");
    drop(held);
    assert_eq!(connections.open.get(), 2);
}

#[tokio::test(start_paused = true)]
async fn without_any_place_left_the_source_with_most_gives_way_and_who_has_proved_itself_never() {
    let connections = Connections::for_tests(Room { connections: 5, ..Room::default() });
    let few = connections.enter(source(1)).unwrap();
    let many: Vec<_> = (0..3).map(|_| connections.enter(source(2)).unwrap()).collect();
    let known = connections.enter(source(2)).unwrap();
    known.prove("a");
    let new = connections.enter(source(3)).unwrap();
    assert_eq!(many.iter().map(|place| closing(place)).collect::<Vec<_>>(), [true, false, false]);
    // Four prove themselves: the one that does not gives way to the next, and then nobody is left who would.
    for (place, name) in [(&few, "b"), (&many[1], "c"), (&new, "d")] {
        place.prove(name);
    }
    let newest = connections.enter(source(3)).unwrap();
    assert!(closing(&many[2]));
    newest.prove("e");
    assert_eq!(connections.enter(source(4)).err(), Some(NotLetIn::Full));
    assert!([&few, &many[1], &known, &new, &newest].iter().all(|place| !closing(place)));
    drop(known);
    connections.freed().await;
    assert!(connections.enter(source(4)).is_ok());
}

#[tokio::test(start_paused = true)]
async fn handshakes_that_come_to_nothing_use_up_and_those_that_authenticate_give_back() {
    let connections = Connections::for_tests(Room { handshakes: rate(2, 4), ..Room::default() });
    // Any number of those who mean well.
    for _ in 0..100 {
        connections.enter(source(1)).unwrap().prove("a");
    }
    for _ in 0..4 {
        drop(connections.enter(source(1)).unwrap());
    }
    assert_eq!(connections.enter(source(1)).err(), Some(NotLetIn::Handshakes));
    assert!(connections.enter(source(2)).is_ok(), "another source");
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(connections.enter(source(1)).is_ok() && connections.enter(source(1)).is_ok());
    assert_eq!(connections.enter(source(1)).err(), Some(NotLetIn::Handshakes));
}

#[tokio::test(start_paused = true)]
async fn one_identity_has_its_own_bound_wherever_it_connects_from() {
    let connections = Connections::for_tests(Room { per_identity: 2, per_source: 1, ..Room::default() });
    let places: Vec<_> = (1..=3).map(|last| connections.enter(source(last)).unwrap()).collect();
    let other = connections.enter(source(9)).unwrap();
    other.prove("b");
    places.iter().for_each(|place| place.prove("a"));
    assert_eq!(places.iter().map(|place| closing(place)).collect::<Vec<_>>(), [true, false, false]);
    assert!(!closing(&other));
    assert_eq!(met(&connections), [(Limit::IdentityConnections, 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_fails_to_authenticate_counts_as_unproved_again() {
    let connections = Connections::for_tests(Room { per_source: 1, ..Room::default() });
    let place = connections.enter(source(1)).unwrap();
    place.prove("a");
    let newer = connections.enter(source(1)).unwrap();
    newer.prove("a");
    assert!(place.is_proved());
    tokio::time::advance(Duration::from_secs(3600)).await;
    place.lapse();
    assert!(!place.is_proved());
    assert_eq!(place.asked_at(), Instant::now(), "its time without a request begins anew");
    let _third = connections.enter(source(1)).unwrap();
    assert!(closing(&place) && !closing(&newer));
}

#[tokio::test(start_paused = true)]
async fn unfinished_calls_and_their_memory_are_bounded_per_connection_source_and_in_all() {
    let room = Room {
        calls: 6,
        calls_per_connection: 3,
        memory: 100,
        memory_per_connection: 60,
        total_memory: 150,
        ..Room::default()
    };
    // Per connection: the call is refused, the connection stays.
    let connections = Connections::for_tests(room);
    let place = connections.enter(source(1)).unwrap();
    let mut calls: Vec<_> = (0..3).map(|_| place.wait(1).unwrap()).collect();
    assert_eq!(place.wait(1).err(), Some(Limit::OpenCalls));
    assert_eq!(calls[0].grow(60).err(), Some(Limit::Memory));
    calls[0].grow(50).unwrap();
    drop(calls);
    assert!(place.wait(60).is_ok(), "what is over is not counted any more");

    // Per source: the oldest connection that holds anything is closed.
    let idle = connections.enter(source(1)).unwrap();
    let first = connections.enter(source(1)).unwrap();
    let second = connections.enter(source(1)).unwrap();
    let mut waiting = vec![first.wait(60).unwrap(), second.wait(30).unwrap()];
    waiting[1].grow(20).unwrap();
    assert!(closing(&first) && !closing(&second) && !closing(&idle) && !closing(&place));
    assert_eq!(waiting[0].grow(1).err(), Some(Limit::Connections), "nothing is counted for what is closed");
    let third = connections.enter(source(1)).unwrap();
    waiting.extend((0..2).map(|_| second.wait(0).unwrap()));
    waiting.extend((0..3).map(|_| third.wait(0).unwrap()));
    assert!(!closing(&second));
    waiting.push(idle.wait(0).unwrap());
    assert!(closing(&idle) && !closing(&second), "the oldest, not the greediest");
    drop(waiting);

    // In all: the oldest of the source that holds most.
    let greedy: Vec<_> = (0..2).map(|_| connections.enter(source(2)).unwrap()).collect();
    let modest = connections.enter(source(3)).unwrap();
    let _held = (greedy[0].wait(50).unwrap(), greedy[1].wait(50).unwrap(), modest.wait(40).unwrap());
    assert!(!closing(&greedy[0]));
    let newcomer = connections.enter(source(4)).unwrap();
    let _more = newcomer.wait(20).unwrap();
    assert!(closing(&greedy[0]) && !closing(&greedy[1]) && !closing(&modest) && !closing(&newcomer));
}

#[tokio::test(start_paused = true)]
async fn who_has_proved_itself_is_not_counted_against_its_source() {
    let room = Room { calls: 1, memory: 300, calls_per_connection: 1, memory_per_connection: 1000, ..Room::default() };
    let connections = Connections::for_tests(room);
    let place = connections.enter(source(1)).unwrap();
    let before = place.wait(5).unwrap();
    place.prove("a");
    let mut after = place.wait(500).unwrap();
    after.grow(400).unwrap();
    let stranger = connections.enter(source(1)).unwrap();
    let _held = stranger.wait(300).unwrap();
    drop((before, after));
    assert!(!closing(&place) && !closing(&stranger));
    // Its identity has a bound of its own, wherever it connects from.
    let elsewhere = connections.enter(source(2)).unwrap();
    elsewhere.prove("a");
    let held = (place.wait(1000).unwrap(), elsewhere.wait(200).unwrap());
    assert!(!closing(&place));
    let more = elsewhere.wait(1).unwrap();
    assert!(closing(&place) && !closing(&elsewhere) && !closing(&stranger));
    drop((held, more));
    // And what a connection holds comes along when it falls back.
    let place = connections.enter(source(5)).unwrap();
    place.prove("b");
    let _still = place.wait(500).unwrap();
    place.lapse();
    assert!(closing(&place));
    assert!(!closing(&stranger));
}

#[tokio::test(start_paused = true)]
async fn those_who_have_lost_their_places_are_seen_until_they_are_gone() {
    let connections = Connections::for_tests(Room { connections: 2, ..Room::default() });
    let mut held: Vec<_> = (0..2 + LEAVING).map(|_| connections.enter(source(1)).unwrap()).collect();
    assert!(connections.are_leaving() && closing(&held[0]));
    drop(held.remove(0));
    assert!(!connections.are_leaving());
    connections.freed().await;
}
