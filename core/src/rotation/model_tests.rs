//! Rotation under random events: time passes, holders come, acknowledge late or never, replicas lag, race and crash,
//! operators ask for things at the wrong moment. Whatever happens, no holder ever meets a certificate that it cannot
//! verify (invariants 1 to 3).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use time::OffsetDateTime;

use super::test_authorities::{DAY, START, Seen, rules, take};
use super::*;
use crate::holder::{Count, Coverage};

/// What a replica may lag behind the journal at most.
const STALE: Duration = Duration::from_secs(1);

#[derive(Debug, Clone)]
enum Event {
    Pass(u32),
    Issue {
        holder: usize,
        replica: usize,
        ttl: u32,
    },
    /// The stream brings the bundle of a replica to the holder's proxies; the acknowledgement is on its way.
    Deliver {
        holder: usize,
        replica: usize,
    },
    /// One of the acknowledgements on their way arrives, in any order.
    Arrive {
        holder: usize,
        which: usize,
    },
    Step {
        replica: usize,
        crash: bool,
    },
    Refresh {
        replica: usize,
    },
    Ask {
        command: usize,
        target: usize,
    },
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        2 => (1u32..200).prop_map(Event::Pass),
        1 => (1000u32..200_000).prop_map(Event::Pass),
        6 => (0usize..5, 0usize..2, 30u32..4000).prop_map(|(holder, replica, ttl)| Event::Issue { holder, replica, ttl }),
        5 => (0usize..5, 0usize..2).prop_map(|(holder, replica)| Event::Deliver { holder, replica }),
        5 => (0usize..5, 0usize..4).prop_map(|(holder, which)| Event::Arrive { holder, which }),
        8 => (0usize..2, prop::bool::weighted(0.1)).prop_map(|(replica, crash)| Event::Step { replica, crash }),
        2 => (0usize..2).prop_map(|replica| Event::Refresh { replica }),
        3 => (0usize..8, 0usize..5).prop_map(|(command, target)| Event::Ask { command, target }),
    ]
}

#[derive(Default)]
struct Holder {
    acknowledges: bool,
    /// The roots its proxies verify with.
    known: BTreeSet<AuthorityId>,
    /// What the records say it has received.
    sequence: u64,
    on_their_way: Vec<u64>,
    /// Root, issuing CA and end of its certificates, newest last.
    certificates: Vec<(AuthorityId, AuthorityId, OffsetDateTime)>,
}

impl Holder {
    fn newest(&self, now: OffsetDateTime) -> Option<&(AuthorityId, AuthorityId, OffsetDateTime)> {
        self.certificates.last().filter(|(_, _, end)| *end > now)
    }
}

struct World {
    now: OffsetDateTime,
    version: u64,
    journal: Authorities,
    replicas: Vec<(u64, Authorities, OffsetDateTime)>,
    holders: Vec<Holder>,
    made: u32,
    revoked: BTreeSet<AuthorityId>,
    generations: BTreeSet<u64>,
}

impl World {
    fn new() -> Self {
        let empty = (0, Authorities::default(), START);
        let holder = |index: usize| Holder { acknowledges: index.is_multiple_of(2), ..Holder::default() };
        Self {
            now: START,
            version: 0,
            journal: Authorities::default(),
            replicas: vec![empty.clone(), empty],
            holders: (0..5).map(holder).collect(),
            made: 0,
            revoked: BTreeSet::new(),
            generations: BTreeSet::new(),
        }
    }

    /// The records, always as they are: both replicas read the same database.
    fn seen(&self) -> Seen {
        let mut coverage = Coverage::default();
        let mut seen = Seen::nobody();
        for holder in &self.holders {
            for (_, issuing, end) in &holder.certificates {
                let last = seen.ends.entry(issuing.clone()).or_insert(*end);
                *last = (*last).max(*end);
            }
            let last = holder.certificates.iter().map(|(_, _, end)| *end).max();
            if let (Some(end), Some((_, issuing, _))) = (last, holder.certificates.last())
                && end > self.now
            {
                let count: &mut Count = coverage.by_sequence.entry(holder.sequence).or_default();
                count.holders += 1;
                count.acknowledging += u64::from(holder.acknowledges);
                *coverage.by_authority.entry(issuing.clone()).or_insert(0) += 1;
            }
        }
        Seen { coverage, ..seen }
    }

    fn refresh(&mut self, replica: usize) {
        self.replicas[replica] = (self.version, self.journal.clone(), self.now);
    }

    /// What a replica believes, never older than its poll interval allows.
    fn belief(&mut self, replica: usize) -> Authorities {
        if self.replicas[replica].2 + STALE < self.now {
            self.refresh(replica);
        }
        self.replicas[replica].1.clone()
    }

    fn write(&mut self, expected: u64, step: &Step, next: Authorities) {
        if expected != self.version || next == self.journal {
            return;
        }
        if let Step::Retire(id) = step {
            let needed =
                |holder: &&Holder| holder.certificates.iter().any(|(root, _, end)| root == id && *end > self.now);
            assert!(!self.holders.iter().any(|holder| needed(&holder)), "retired while a certificate needs it");
        }
        if let Step::Revoke(id) = step {
            self.revoked.insert(id.clone());
        }
        let roots = |authorities: &Authorities| -> BTreeSet<AuthorityId> {
            authorities.roots.iter().map(|root| root.id.clone()).collect()
        };
        let changed = roots(&next) != roots(&self.journal);
        assert_eq!(next.bundle_sequence > self.journal.bundle_sequence, changed, "the sequence follows the roots");
        assert!(next.bundle_sequence >= self.journal.bundle_sequence);
        for root in next.roots.iter().filter(|root| self.journal.root(&root.id).is_none()) {
            assert!(self.generations.insert(root.generation), "a generation is used twice");
        }
        assert_eq!(next.roots.iter().filter(|root| root.state == AuthorityState::Active).count(), 1);
        self.journal = next;
        self.version += 1;
    }

    fn apply(&mut self, event: &Event) {
        match *event {
            Event::Pass(seconds) => self.now += Duration::from_secs(u64::from(seconds)),
            Event::Refresh { replica } => self.refresh(replica),
            Event::Step { replica, crash } => {
                let (version, authorities, _) = self.replicas[replica].clone();
                let seen = self.seen();
                let step = next_step(self.now, &authorities, &seen.view(), &rules());
                if matches!(step, Step::WaitUntil(_)) {
                    return self.refresh(replica);
                }
                self.made += 1;
                let next = take(&step, &authorities, &seen, self.now, &format!("m{}", self.made));
                if !crash {
                    self.write(version, &step, next);
                    self.refresh(replica);
                }
            }
            Event::Ask { command, target } => self.ask(command, target),
            Event::Issue { holder, replica, ttl } => self.issue(holder, replica, ttl),
            Event::Deliver { holder, replica } => {
                let belief = self.belief(replica);
                let holder = &mut self.holders[holder];
                if holder.acknowledges && !belief.roots.is_empty() && belief.bundle_sequence >= holder.sequence {
                    holder.known = belief.roots.iter().map(|root| root.id.clone()).collect();
                    holder.on_their_way.push(belief.bundle_sequence);
                }
            }
            Event::Arrive { holder, which } => {
                let holder = &mut self.holders[holder];
                if which < holder.on_their_way.len() {
                    holder.sequence = holder.sequence.max(holder.on_their_way.remove(which));
                }
            }
        }
        self.check();
    }

    fn ask(&mut self, command: usize, target: usize) {
        let roots: Vec<AuthorityId> = self.journal.roots.iter().map(|root| root.id.clone()).collect();
        let id = roots.get(target).cloned().unwrap_or_else(|| AuthorityId::from_spki(b"nobody"));
        let command = match command {
            0 => Command::Prepare,
            1 => Command::Rotate,
            2 => Command::RenewIssuing,
            3 => Command::Activate { id, force: false },
            4 => Command::Rollback,
            5 => Command::Taint { id, force: false },
            _ => Command::Revoke { id, force: false },
        };
        let seen = self.seen();
        if let Ok(Some(step)) = judge(self.now, &self.journal, &seen.view(), &rules(), &command) {
            if matches!(step, Step::RevokeIssuing(_)) {
                return;
            }
            self.made += 1;
            let next = take(&step, &self.journal, &seen, self.now, &format!("m{}", self.made));
            self.write(self.version, &step, next);
        }
    }

    fn issue(&mut self, holder: usize, replica: usize, ttl: u32) {
        let belief = self.belief(replica);
        let (Some(root), Some(issuing)) = (belief.active(), belief.active_issuer(self.now)) else { return };
        if issuing.not_after <= self.now {
            return;
        }
        let end = (self.now + Duration::from_secs(u64::from(ttl))).min(issuing.not_after);
        let roots: BTreeSet<AuthorityId> = belief.roots.iter().map(|root| root.id.clone()).collect();
        let now = self.now;
        let holder = &mut self.holders[holder];
        if !holder.acknowledges {
            holder.sequence = holder.sequence.max(belief.bundle_sequence);
            holder.known = roots;
        } else if holder.known.is_empty() || holder.newest(now).is_none() {
            holder.known = roots;
        }
        holder.certificates.push((root.id.clone(), issuing.id.clone(), end));
    }

    fn check(&self) {
        let live: Vec<&Holder> = self.holders.iter().filter(|holder| holder.newest(self.now).is_some()).collect();
        for holder in &live {
            let (root, _, _) = holder.newest(self.now).unwrap();
            assert!(self.journal.root(root).is_some(), "a live certificate chains to {root}, which is in no bundle");
            for other in &live {
                assert!(other.known.contains(root), "a holder cannot verify a certificate under {root}");
            }
        }
        for (root, _, _) in self.holders.iter().flat_map(|holder| &holder.certificates).filter(|one| one.2 > self.now) {
            assert!(self.journal.root(root).is_some() || self.revoked.contains(root), "{root} left too early");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn no_order_of_events_lets_a_holder_meet_a_certificate_it_cannot_verify(events in prop::collection::vec(event(), 1..250)) {
        let mut world = World::new();
        world.apply(&Event::Step { replica: 0, crash: false });
        for event in &events {
            world.apply(event);
        }
    }

    /// Left alone with holders that answer, every rotation comes to its end.
    #[test]
    fn rotation_always_comes_to_an_end_when_holders_answer(events in prop::collection::vec(event(), 1..120)) {
        let mut world = World::new();
        world.apply(&Event::Step { replica: 0, crash: false });
        for event in &events {
            world.apply(event);
        }
        let seen = world.seen();
        let asked = judge(world.now, &world.journal, &seen.view(), &rules(), &Command::Rotate);
        if let Ok(Some(step)) = asked {
            let next = take(&step, &world.journal, &seen, world.now, "last");
            world.write(world.version, &step, next);
        }
        for _ in 0..60 {
            world.apply(&Event::Pass(120));
            for holder in 0..5 {
                world.apply(&Event::Deliver { holder, replica: 0 });
                world.apply(&Event::Arrive { holder, which: 0 });
                world.apply(&Event::Issue { holder, replica: 0, ttl: 300 });
            }
            world.apply(&Event::Step { replica: 0, crash: false });
            world.apply(&Event::Step { replica: 0, crash: false });
        }
        prop_assert_eq!(Phase::of(&world.journal), Phase::Settled);
    }
}

#[test]
fn the_model_reaches_every_phase() {
    // The properties above would hold for a machine that does nothing; this shows that random events get everywhere.
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut phases = BTreeMap::new();
    for _ in 0..300 {
        let events = prop::collection::vec(event(), 250).new_tree(&mut runner).unwrap().current();
        let mut world = World::new();
        world.apply(&Event::Step { replica: 0, crash: false });
        for event in &events {
            world.apply(event);
            *phases.entry(Phase::of(&world.journal).as_str()).or_insert(0) += 1;
        }
    }
    let reached: Vec<&str> = phases.keys().copied().collect();
    assert_eq!(reached, ["drain", "emergency", "propagate", "settled"], "{phases:?}");
    assert!(DAY > STALE);
}
