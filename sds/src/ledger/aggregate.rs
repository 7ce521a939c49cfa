//! What all clients together say about one content: those that are connected, and those that have left and may come back. A
//! client that is away does not agree to anything by being away.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::client::Client;
use crate::session::Answer;
use crate::snapshot::Version;

/// The most clients that are remembered after their end. Beyond it the oldest go, which are waited for the shortest.
const MAX_DEPARTED: usize = 256;

/// What everybody who asks for a secret says about one content of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Aggregate {
    /// ACK: every client has applied it, and nobody is waited for to come back. NACK: at least one could not, with the text
    /// of the one that has been connected longest.
    Answered(Answer),
    /// This many clients have not answered yet or are awaited, and none has refused.
    Pending(usize),
}

struct Departed {
    client: Client,
    left: Instant,
}

/// Remembers clients that have left, for as long as they may come back.
pub(super) struct Absent {
    grace: Duration,
    started: Instant,
    departed: VecDeque<Departed>,
}

impl Absent {
    /// Clients may take this long to come, after `started` and after they have left. Zero: nobody is waited for.
    pub(super) fn new(grace: Duration, started: Instant) -> Self {
        Self { grace, started, departed: VecDeque::new() }
    }

    /// A client has left.
    pub(super) fn add(&mut self, client: Client, now: Instant) {
        self.departed.retain(|gone| now.duration_since(gone.left) < self.grace);
        if self.grace.is_zero() {
            return;
        }
        if self.departed.len() >= MAX_DEPARTED {
            self.departed.pop_front();
        }
        self.departed.push_back(Departed { client, left: now });
    }

    /// What those that are away and the `connected` ones, oldest first, say about this content; and when that may become
    /// something else by the mere passing of time.
    pub(super) fn aggregate<'c>(
        &self,
        connected: impl Iterator<Item = &'c Client>,
        name: &str,
        version: Version,
        now: Instant,
    ) -> (Aggregate, Option<Instant>) {
        let (mut pending, mut nacked, mut until) = (0_usize, None, None);
        let mut acked = Vec::new();
        for client in connected.filter(|client| client.view.wants(name)) {
            match client.view.answer(name, version) {
                Some(Answer::Ack) => acked.push(client),
                Some(nack) => nacked = nacked.or(Some(nack)),
                None => pending += 1,
            }
        }
        let away = self.departed.iter().filter(|gone| gone.client.view.wants(name) && gone.left + self.grace > now);
        let away: Vec<_> = away.map(|gone| (gone, gone.client.view.answer(name, version))).collect();
        let acked_away = away.iter().filter(|(_, answer)| *answer == Some(Answer::Ack));
        acked.extend(acked_away.map(|(gone, _)| &gone.client));
        for (gone, answer) in away {
            // Back again: a later stream of the same node has applied what this one lacked.
            let node = &gone.client.view.node_id;
            let is_back = || acked.iter().any(|other| other.opened >= gone.left && other.view.node_id == *node);
            if answer == Some(Answer::Ack) || is_back() {
                continue;
            }
            until = until.max(Some(gone.left + self.grace));
            match answer {
                Some(nack) => nacked = nacked.or(Some(nack)),
                None => pending += 1,
            }
        }
        let expected = self.started + self.grace;
        if acked.is_empty() && now < expected {
            until = until.max(Some(expected));
            pending = pending.max(1);
        }
        let aggregate = match (nacked, pending) {
            (Some(nack), _) => Aggregate::Answered(nack),
            (None, 0) => Aggregate::Answered(Answer::Ack),
            (None, pending) => Aggregate::Pending(pending),
        };
        (aggregate, until)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
    use super::super::client::StreamView;
    use super::*;
    use crate::session::{Request, Sotw};
    use crate::snapshot::Snapshot;
    use crate::snapshot::tests::certificate;

    const GRACE: Duration = Duration::from_secs(45);

    struct World {
        absent: Absent,
        start: Instant,
        old: Snapshot,
        new: Snapshot,
    }

    /// What a stream does with the new content.
    #[derive(Clone, Copy, PartialEq)]
    enum Does {
        Nothing,
        Applies,
        Refuses(&'static str),
    }

    impl World {
        fn new() -> Self {
            let start = Instant::now();
            let snapshot = |content| Snapshot::new([("ROOTCA", certificate(content, "key"))]);
            Self { absent: Absent::new(GRACE, start), start, old: snapshot("old"), new: snapshot("new") }
        }

        fn after(&self, seconds: u64) -> Instant {
            self.start + Duration::from_secs(seconds)
        }

        /// A stream that has applied the old content and does this with the new one.
        fn stream(&self, node: &str, opened: u64, names: &[&str], does: Does) -> Client {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            let mut session = Sotw::new("s");
            let request = Request { names: &names, ..Request::default() };
            let mut answer = |snapshot: &Snapshot, first: bool, error| {
                let sent = if first {
                    session.on_request(&request, snapshot, Duration::ZERO).unwrap().response
                } else {
                    session.on_snapshot(snapshot)
                };
                let Some(sent) = sent else { return };
                let version = sent.version.to_string();
                let answer = Request { nonce: &sent.nonce, version: &version, error, ..request };
                drop(session.on_request(&answer, snapshot, Duration::ZERO).unwrap());
            };
            answer(&self.old, true, None);
            match does {
                Does::Nothing => {}
                Does::Applies => answer(&self.new, false, None),
                Does::Refuses(text) => answer(&self.new, false, Some(text)),
            }
            let mut view = StreamView::opened("peer", time::OffsetDateTime::UNIX_EPOCH);
            view.node_id = node.to_owned();
            view.note(&session);
            Client { view, opened: self.after(opened), listener: None }
        }

        fn leaves(&mut self, node: &str, opened: u64, left: u64, does: Does) {
            let stream = self.stream(node, opened, &["ROOTCA"], does);
            self.absent.add(stream, self.after(left));
        }

        /// And the second at which the answer changes by itself.
        fn aggregate(&self, connected: &[&Client], now: u64) -> (Aggregate, Option<u64>) {
            let version = self.new.secret("ROOTCA").unwrap().version();
            let now = self.after(now);
            let (aggregate, until) = self.absent.aggregate(connected.iter().copied(), "ROOTCA", version, now);
            (aggregate, until.map(|at| at.duration_since(self.start).as_secs()))
        }
    }

    const ACK: Aggregate = Aggregate::Answered(Answer::Ack);

    fn nack() -> Aggregate {
        refused("no")
    }

    fn refused(text: &str) -> Aggregate {
        Aggregate::Answered(Answer::Nack(text.to_owned()))
    }

    #[test]
    fn after_the_start_somebody_must_have_applied_it_or_the_grace_is_over() {
        let mut world = World::new();
        assert_eq!(world.aggregate(&[], 0), (Aggregate::Pending(1), Some(45)));
        assert_eq!(world.aggregate(&[], 44), (Aggregate::Pending(1), Some(45)));
        assert_eq!(world.aggregate(&[], 45), (ACK, None));
        let one = world.stream("a", 1, &["ROOTCA"], Does::Applies);
        assert_eq!(world.aggregate(&[&one], 2), (ACK, None));
        let other = world.stream("b", 1, &["default"], Does::Applies);
        assert_eq!(world.aggregate(&[&other], 2).0, Aggregate::Pending(1), "asks for something else");
        // Those who have not answered are counted themselves, and nobody beside them.
        let slow = ["a", "b"].map(|node| world.stream(node, 1, &["ROOTCA"], Does::Nothing));
        assert_eq!(world.aggregate(&[&slow[0], &slow[1]], 2), (Aggregate::Pending(2), Some(45)));
        // It counts too if it has left since.
        world.leaves("a", 1, 3, Does::Applies);
        assert_eq!(world.aggregate(&[], 4), (ACK, None));
    }

    #[test]
    fn who_left_without_it_is_waited_for_until_the_same_node_has_applied_it_or_the_grace_is_over() {
        let mut world = World::new();
        world.leaves("a", 100, 200, Does::Nothing);
        let staying = world.stream("b", 100, &["ROOTCA"], Does::Applies);
        assert_eq!(world.aggregate(&[&staying], 201), (Aggregate::Pending(1), Some(245)));
        assert_eq!(world.aggregate(&[&staying], 245), (ACK, None));
        // Back, without an answer yet; and then with one.
        let back = world.stream("a", 210, &["ROOTCA"], Does::Nothing);
        assert_eq!(world.aggregate(&[&staying, &back], 211), (Aggregate::Pending(2), Some(245)));
        let back = world.stream("a", 210, &["ROOTCA"], Does::Applies);
        assert_eq!(world.aggregate(&[&staying, &back], 211), (ACK, None));
        // An older stream of the same node is another connection, and another node is somebody else.
        for (node, opened) in [("a", 199), ("c", 210)] {
            let other = world.stream(node, opened, &["ROOTCA"], Does::Applies);
            assert_eq!(world.aggregate(&[&other], 211).0, Aggregate::Pending(1), "{node} {opened}");
        }
        let at_once = world.stream("a", 200, &["ROOTCA"], Does::Applies);
        assert_eq!(world.aggregate(&[&at_once], 211), (ACK, None));
        // Who asked for something else lacks nothing.
        let other = world.stream("d", 100, &["default"], Does::Nothing);
        let after = world.after(203);
        world.absent.add(other, after);
        assert_eq!(world.aggregate(&[&staying], 204), (Aggregate::Pending(1), Some(245)));
        // Coming and going is not coming back, until it is.
        world.leaves("a", 205, 206, Does::Nothing);
        assert_eq!(world.aggregate(&[&staying], 220), (Aggregate::Pending(2), Some(251)));
        assert_eq!(world.aggregate(&[&back], 220), (ACK, None));
        world.leaves("a", 210, 221, Does::Applies);
        assert_eq!(world.aggregate(&[], 222), (ACK, None));
    }

    #[test]
    fn a_refusal_outlives_its_stream_until_the_grace_is_over_or_the_node_has_applied_it() {
        let mut world = World::new();
        world.leaves("a", 100, 200, Does::Refuses("no"));
        assert_eq!(world.aggregate(&[], 201), (nack(), Some(245)));
        let back = world.stream("a", 201, &["ROOTCA"], Does::Nothing);
        assert_eq!(world.aggregate(&[&back], 202).0, nack());
        let back = world.stream("a", 201, &["ROOTCA"], Does::Applies);
        assert_eq!(world.aggregate(&[&back], 202), (ACK, None));
        assert_eq!(world.aggregate(&[], 245), (ACK, None));
    }

    #[test]
    fn the_refusal_that_is_told_is_that_of_the_client_connected_longest_and_those_away_come_last() {
        let mut world = World::new();
        let [one, two] = ["one", "two"].map(|text| world.stream(text, 100, &["ROOTCA"], Does::Refuses(text)));
        let slow = world.stream("slow", 90, &["ROOTCA"], Does::Nothing);
        assert_eq!(world.aggregate(&[&slow, &one, &two], 101).0, refused("one"), "whoever has not answered yet");
        world.leaves("three", 80, 200, Does::Refuses("three"));
        world.leaves("four", 70, 201, Does::Refuses("four"));
        assert_eq!(world.aggregate(&[&two], 202).0, refused("two"));
        assert_eq!(world.aggregate(&[], 202).0, refused("three"));
    }

    #[test]
    fn without_grace_nobody_is_remembered_and_with_it_only_so_many() {
        let mut world = World::new();
        for at in 0..1000 {
            world.leaves("a", 100, 200 + at / 100, Does::Nothing);
        }
        assert_eq!(world.absent.departed.len(), MAX_DEPARTED);
        world.leaves("late", 100, 210, Does::Refuses("no"));
        world.leaves("later", 100, 211, Does::Nothing);
        assert_eq!((world.absent.departed.len(), world.aggregate(&[], 212).0), (MAX_DEPARTED, nack()), "the oldest go");
        world.leaves("a", 300, 400, Does::Nothing);
        assert_eq!(world.absent.departed.len(), 1, "what is over is forgotten");
        world.absent = Absent::new(Duration::ZERO, world.start);
        world.leaves("a", 100, 200, Does::Refuses("no"));
        assert_eq!((world.aggregate(&[], 200), world.aggregate(&[], 0)), ((ACK, None), (ACK, None)));
    }

    #[test]
    fn a_star_among_the_names_asks_for_everything_and_is_no_name() {
        for names in [&["*"][..], &["*", "other"], &[]] {
            let world = World::new();
            let stream = world.stream("a", 1, names, Does::Applies);
            assert!(stream.view.everything && stream.view.names.is_empty(), "{:?}", stream.view);
            assert_eq!(world.aggregate(&[&stream], 2), (ACK, None), "{names:?}");
            let stream = world.stream("a", 1, names, Does::Nothing);
            assert_eq!(world.aggregate(&[&stream], 50), (Aggregate::Pending(1), None), "{names:?}");
        }
    }
}
