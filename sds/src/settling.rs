//! When content counts as taken over by everybody who is served: by the streams that are open, and by those that have
//! left and may come back. A client that is away does not agree to anything by being away.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::session::Standing;
use crate::snapshot::Version;
use crate::streams::StreamView;

/// The most streams that are remembered after their end. Beyond it the oldest go, which are waited for the shortest.
const MAX_DEPARTED: usize = 256;

/// Whether one content of one secret has reached everybody who asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// Every stream that asks for the secret has applied this content, and nobody is waited for to come back.
    Yes,
    /// This many streams have not answered yet or are awaited, and none has refused.
    Waiting(usize),
    /// At least one stream could not apply it: the text of the one that has been open longest.
    Refused(String),
}

/// Where one stream stands with one content.
enum Stand {
    Applied,
    Refused(String),
    Lacking,
}

fn stand(view: &StreamView, name: &str, version: Version) -> Stand {
    match view.standing.get(name) {
        Some(Standing { refused: Some((what, text)), .. }) if *what == version => Stand::Refused(text.clone()),
        Some(Standing { applied: Some(what), .. }) if *what == version => Stand::Applied,
        _ => Stand::Lacking,
    }
}

/// A stream with its times by the monotonic clock.
#[derive(Debug)]
pub(crate) struct Timed {
    pub(crate) view: StreamView,
    pub(crate) opened: Instant,
}

#[derive(Debug)]
struct Departed {
    stream: Timed,
    left: Instant,
}

/// Remembers streams that have ended, for as long as they may come back.
#[derive(Debug)]
pub(crate) struct Absence {
    grace: Duration,
    started: Instant,
    departed: VecDeque<Departed>,
}

impl Absence {
    /// Clients may take this long to come, after `started` and after they have left. Zero: nobody is waited for.
    pub(crate) fn new(grace: Duration, started: Instant) -> Self {
        Self { grace, started, departed: VecDeque::new() }
    }

    /// A stream has ended.
    pub(crate) fn left(&mut self, stream: Timed, now: Instant) {
        self.departed.retain(|gone| now.duration_since(gone.left) < self.grace);
        if self.grace.is_zero() {
            return;
        }
        if self.departed.len() >= MAX_DEPARTED {
            self.departed.pop_front();
        }
        self.departed.push_back(Departed { stream, left: now });
    }

    /// Whether this content is settled among the `open` streams, oldest first, and those that are away; and when the
    /// answer may become another one by the mere passing of time.
    pub(crate) fn settled<'s>(
        &self,
        open: impl Iterator<Item = &'s Timed>,
        name: &str,
        version: Version,
        now: Instant,
    ) -> (Settled, Option<Instant>) {
        let (mut waiting, mut refused, mut until) = (0_usize, None, None);
        let mut applied = Vec::new();
        for stream in open.filter(|stream| stream.view.wants(name)) {
            match stand(&stream.view, name, version) {
                Stand::Applied => applied.push(stream),
                Stand::Refused(text) => refused = refused.or(Some(text)),
                Stand::Lacking => waiting += 1,
            }
        }
        let away = || self.departed.iter().filter(|gone| gone.stream.view.wants(name) && gone.left + self.grace > now);
        applied.extend(
            away().map(|gone| &gone.stream).filter(|it| matches!(stand(&it.view, name, version), Stand::Applied)),
        );
        for gone in away() {
            let text = match stand(&gone.stream.view, name, version) {
                Stand::Applied => continue,
                Stand::Refused(text) => Some(text),
                Stand::Lacking => None,
            };
            // Back again: a later stream of the same node has what this one lacked.
            let node = &gone.stream.view.node_id;
            if applied.iter().any(|stream| stream.opened >= gone.left && stream.view.node_id == *node) {
                continue;
            }
            until = until.max(Some(gone.left + self.grace));
            match text {
                Some(text) => refused = refused.or(Some(text)),
                None => waiting += 1,
            }
        }
        let expected = self.started + self.grace;
        if applied.is_empty() && now < expected {
            until = until.max(Some(expected));
            waiting = waiting.max(1);
        }
        let settled = match (refused, waiting) {
            (Some(text), _) => Settled::Refused(text),
            (None, 0) => Settled::Yes,
            (None, waiting) => Settled::Waiting(waiting),
        };
        (settled, until)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
    use super::*;
    use crate::session::{Request, Sotw};
    use crate::snapshot::Snapshot;
    use crate::snapshot::tests::certificate;

    const GRACE: Duration = Duration::from_secs(45);

    struct World {
        absence: Absence,
        start: Instant,
        old: Snapshot,
        new: Snapshot,
    }

    /// What a stream does with the new content.
    #[derive(Clone, Copy, PartialEq)]
    enum Does {
        Nothing,
        Applies,
        Refuses,
    }

    impl World {
        fn new() -> Self {
            let start = Instant::now();
            let snapshot = |content| Snapshot::new([("ROOTCA", certificate(content, "key"))]);
            Self { absence: Absence::new(GRACE, start), start, old: snapshot("old"), new: snapshot("new") }
        }

        fn after(&self, seconds: u64) -> Instant {
            self.start + Duration::from_secs(seconds)
        }

        /// A stream that has applied the old content and does this with the new one.
        fn stream(&self, node: &str, opened: u64, names: &[&str], does: Does) -> Timed {
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
                Does::Refuses => answer(&self.new, false, Some("no")),
            }
            let mut view = StreamView::opened("peer", time::OffsetDateTime::UNIX_EPOCH);
            view.node_id = node.to_owned();
            view.note(&session);
            Timed { view, opened: self.after(opened) }
        }

        fn leaves(&mut self, node: &str, opened: u64, left: u64, does: Does) {
            let stream = self.stream(node, opened, &["ROOTCA"], does);
            self.absence.left(stream, self.after(left));
        }

        /// And the second at which the answer changes by itself.
        fn settled(&self, open: &[&Timed], now: u64) -> (Settled, Option<u64>) {
            let version = self.new.secret("ROOTCA").unwrap().version();
            let (settled, until) = self.absence.settled(open.iter().copied(), "ROOTCA", version, self.after(now));
            (settled, until.map(|at| at.duration_since(self.start).as_secs()))
        }
    }

    fn refused() -> Settled {
        Settled::Refused("no".to_owned())
    }

    #[test]
    fn after_the_start_somebody_must_have_applied_it_or_the_grace_is_over() {
        let mut world = World::new();
        assert_eq!(world.settled(&[], 0), (Settled::Waiting(1), Some(45)));
        assert_eq!(world.settled(&[], 44), (Settled::Waiting(1), Some(45)));
        assert_eq!(world.settled(&[], 45), (Settled::Yes, None));
        let one = world.stream("a", 1, &["ROOTCA"], Does::Applies);
        assert_eq!(world.settled(&[&one], 2), (Settled::Yes, None));
        let other = world.stream("b", 1, &["default"], Does::Applies);
        assert_eq!(world.settled(&[&other], 2).0, Settled::Waiting(1), "asks for something else");
        // It counts too if it has left since.
        world.leaves("a", 1, 3, Does::Applies);
        assert_eq!(world.settled(&[], 4), (Settled::Yes, None));
    }

    #[test]
    fn who_left_without_it_is_waited_for_until_the_same_node_has_applied_it_or_the_grace_is_over() {
        let mut world = World::new();
        world.leaves("a", 100, 200, Does::Nothing);
        let staying = world.stream("b", 100, &["ROOTCA"], Does::Applies);
        assert_eq!(world.settled(&[&staying], 201), (Settled::Waiting(1), Some(245)));
        assert_eq!(world.settled(&[&staying], 245), (Settled::Yes, None));
        // Back, without an answer yet; and then with one.
        let back = world.stream("a", 210, &["ROOTCA"], Does::Nothing);
        assert_eq!(world.settled(&[&staying, &back], 211), (Settled::Waiting(2), Some(245)));
        let back = world.stream("a", 210, &["ROOTCA"], Does::Applies);
        assert_eq!(world.settled(&[&staying, &back], 211), (Settled::Yes, None));
        // An older stream of the same node is another connection, and another node is somebody else.
        for (node, opened) in [("a", 199), ("c", 210)] {
            let other = world.stream(node, opened, &["ROOTCA"], Does::Applies);
            assert_eq!(world.settled(&[&other], 211).0, Settled::Waiting(1), "{node} {opened}");
        }
        // Coming and going is not coming back, until it is.
        world.leaves("a", 205, 206, Does::Nothing);
        assert_eq!(world.settled(&[&staying], 220), (Settled::Waiting(2), Some(251)));
        assert_eq!(world.settled(&[&back], 220), (Settled::Yes, None));
        world.leaves("a", 210, 221, Does::Applies);
        assert_eq!(world.settled(&[], 222), (Settled::Yes, None));
    }

    #[test]
    fn a_refusal_outlives_its_stream_until_the_grace_is_over_or_the_node_has_applied_it() {
        let mut world = World::new();
        world.leaves("a", 100, 200, Does::Refuses);
        assert_eq!(world.settled(&[], 201), (refused(), Some(245)));
        let back = world.stream("a", 201, &["ROOTCA"], Does::Nothing);
        assert_eq!(world.settled(&[&back], 202).0, refused());
        let back = world.stream("a", 201, &["ROOTCA"], Does::Applies);
        assert_eq!(world.settled(&[&back], 202), (Settled::Yes, None));
        assert_eq!(world.settled(&[], 245), (Settled::Yes, None));
    }

    #[test]
    fn without_grace_nobody_is_remembered_and_with_it_only_so_many() {
        let mut world = World::new();
        for at in 0..1000 {
            world.leaves("a", 100, 200 + at / 100, Does::Nothing);
        }
        assert_eq!(world.absence.departed.len(), MAX_DEPARTED);
        world.leaves("a", 300, 400, Does::Nothing);
        assert_eq!(world.absence.departed.len(), 1, "what is over is forgotten");
        world.absence = Absence::new(Duration::ZERO, world.start);
        world.leaves("a", 100, 200, Does::Refuses);
        assert_eq!((world.settled(&[], 200), world.settled(&[], 0)), ((Settled::Yes, None), (Settled::Yes, None)));
    }

    #[test]
    fn a_star_among_the_names_asks_for_everything_and_is_no_name() {
        for names in [&["*"][..], &["*", "other"], &[]] {
            let world = World::new();
            let stream = world.stream("a", 1, names, Does::Applies);
            assert!(stream.view.everything && stream.view.names.is_empty(), "{:?}", stream.view);
            assert_eq!(world.settled(&[&stream], 2), (Settled::Yes, None), "{names:?}");
            let stream = world.stream("a", 1, names, Does::Nothing);
            assert_eq!(world.settled(&[&stream], 50), (Settled::Waiting(1), None), "{names:?}");
        }
    }
}
