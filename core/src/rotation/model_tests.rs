//! Rotation under random events: time passes, holders come, acknowledge late or never, replies are lost, replicas lag, race
//! and crash, operators ask for things at the wrong moment, and files reach one replica before the other. Replicas lag for any time. Whatever happens, no
//! holder ever meets a certificate that it cannot verify (invariants 1 to 3), and replicas never fight.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use time::OffsetDateTime;

use self::holders::{Fate, Holder, fate};
use super::test_authorities::{DAY, START, Seen, id, offer, rules, take};
use super::*;
use crate::audit::EventKind;
use crate::authority::AuthorityId;
use crate::holder::{Count, Coverage, Raise};
use crate::source::{Offer, OfferedCa, ReplicaSource, SourceFingerprint, SourceStanding};

#[derive(Debug, Clone)]
enum Event {
    Pass(u32),
    Issue {
        holder: usize,
        replica: usize,
        ttl: u32,
        /// Whether the holder's process is a new one, which has no bundle yet.
        anew: bool,
        fate: Fate,
    },
    /// What became of one of the last replies is noted, in any order, or lost with the process.
    Mark {
        holder: usize,
        which: usize,
        lost: bool,
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
        replica: usize,
        command: usize,
        target: usize,
    },
    /// Another set reaches a replica: none (our own backend, after a restart), one of a few that may have been there
    /// before, or one that nobody has seen.
    Change {
        replica: usize,
        set: usize,
    },
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        2 => (1u32..200).prop_map(Event::Pass),
        1 => (1000u32..200_000).prop_map(Event::Pass),
        6 => (0usize..5, 0usize..2, 30u32..4000, prop::bool::weighted(0.2), fate())
            .prop_map(|(holder, replica, ttl, anew, fate)| Event::Issue { holder, replica, ttl, anew, fate }),
        6 => (0usize..5, 0usize..4, prop::bool::weighted(0.1))
            .prop_map(|(holder, which, lost)| Event::Mark { holder, which, lost }),
        5 => (0usize..5, 0usize..2).prop_map(|(holder, replica)| Event::Deliver { holder, replica }),
        5 => (0usize..5, 0usize..4).prop_map(|(holder, which)| Event::Arrive { holder, which }),
        8 => (0usize..2, prop::bool::weighted(0.1)).prop_map(|(replica, crash)| Event::Step { replica, crash }),
        2 => (0usize..2).prop_map(|replica| Event::Refresh { replica }),
        3 => (0usize..2, 0usize..9, 0usize..5)
            .prop_map(|(replica, command, target)| Event::Ask { replica, command, target }),
    ]
}

/// The same, and files that come and go.
fn event_with_files() -> impl Strategy<Value = Event> {
    prop_oneof![
        30 => event(),
        3 => (0usize..2, 0usize..5).prop_map(|(replica, set)| Event::Change { replica, set }),
    ]
}

/// What one process has.
#[derive(Default, Clone)]
struct Process {
    files: Option<Offer>,
}

struct World {
    now: OffsetDateTime,
    version: u64,
    journal: Authorities,
    replicas: Vec<(u64, Authorities)>,
    servers: Vec<servers::Server>,
    holders: Vec<Holder>,
    raised: Vec<Raise>,
    made: u32,
    revoked: BTreeSet<AuthorityId>,
    generations: BTreeSet<u64>,
    processes: Vec<Process>,
    /// How often the journal has turned to other files, and for how many reasons.
    adoptions: u32,
    changes: u32,
}

impl World {
    fn new() -> Self {
        let empty = (0, Authorities::default());
        let holder = |index: usize| Holder { acknowledges: index.is_multiple_of(2), ..Holder::default() };
        Self {
            now: START,
            version: 0,
            journal: Authorities::default(),
            replicas: vec![empty.clone(), empty],
            servers: vec![servers::Server::default(); 2],
            holders: (0..5).map(holder).collect(),
            raised: Vec::new(),
            made: 0,
            revoked: BTreeSet::new(),
            generations: BTreeSet::new(),
            processes: vec![Process::default(); 2],
            adoptions: 0,
            changes: 0,
        }
    }

    /// The first authority is made by an act.
    fn with_first_root() -> Self {
        let mut world = Self::new();
        let (journal, seen) = (world.journal.clone(), world.seen_by(0, &Authorities::default()));
        let next = world.take(&Step::CreateRoot, &journal, &seen);
        world.write(world.version, &Step::CreateRoot, next);
        world.refresh(0);
        world
    }

    /// The records, always as they are: both replicas read the same database.
    fn seen(&self) -> Seen {
        let mut coverage = Coverage { raised: self.raised.clone(), ..Coverage::default() };
        let mut seen = Seen::nobody();
        for holder in &self.holders {
            for (_, issuing, end) in &holder.recorded {
                let last = seen.ends.entry(issuing.clone()).or_insert(*end);
                *last = (*last).max(*end);
            }
            let Some(row) = holder.row.as_ref().filter(|row| row.end > self.now) else { continue };
            let count: &mut Count = coverage.by_sequence.entry(row.sequence).or_default();
            count.holders += 1;
            count.acknowledging += u64::from(holder.acknowledges);
            for issuing in row.former.iter().chain([&row.authority]).collect::<BTreeSet<_>>() {
                *coverage.by_authority.entry(issuing.clone()).or_insert(0) += 1;
            }
        }
        Seen { coverage, ..seen }
    }

    /// What a process sees that looks at this journal.
    fn seen_by(&self, replica: usize, authorities: &Authorities) -> Seen {
        let seen = self.seen();
        let process = &self.processes[replica];
        let own = SourceFingerprint::own();
        let mine = process.files.as_ref().map_or(&own, |files| &files.fingerprint);
        let standing = authorities.adopted.standing(mine);
        let offer = if standing == SourceStanding::Superseded { held(authorities) } else { process.files.clone() };
        Seen {
            offer,
            source: ReplicaSource {
                offer: process.files.clone(),
                fingerprint: Some(mine.clone()),
                standing,
                ..ReplicaSource::default()
            },
            ..seen
        }
    }

    /// Takes a step, on what was seen.
    fn take(&mut self, step: &Step, authorities: &Authorities, seen: &Seen) -> Authorities {
        self.made += 1;
        take(step, authorities, seen, self.now, &format!("m{}", self.made))
    }

    fn change(&mut self, replica: usize, set: usize) {
        self.changes += 1;
        let name = |number: usize| Some(offer(&format!("f{number}"), &format!("f{number}-signer")));
        self.processes[replica].files = match set {
            0 => None,
            4 => name(100 + self.changes as usize),
            known => name(known),
        };
    }

    fn refresh(&mut self, replica: usize) {
        self.replicas[replica] = (self.version, self.journal.clone());
        self.serve(replica);
    }

    /// What a replica believes, however old that is.
    fn belief(&self, replica: usize) -> Authorities {
        self.replicas[replica].1.clone()
    }

    fn write(&mut self, expected: u64, step: &Step, next: Authorities) {
        if expected != self.version || next == self.journal {
            return;
        }
        if let Step::Retire(id) = step {
            let needed = |holder: &&Holder| holder.recorded.iter().any(|(root, _, end)| root == id && *end > self.now);
            assert!(!self.holders.iter().any(|holder| needed(&holder)), "retired while a certificate needs it");
        }
        if let Step::Revoke(id) = step {
            self.revoked.insert(id.clone());
        }
        let roots = |authorities: &Authorities| -> BTreeSet<AuthorityId> {
            authorities.roots.iter().map(|root| root.id.clone()).collect()
        };
        self.adoptions += u32::from(matches!(step, Step::AdoptRoots));
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
                let (version, authorities) = self.replicas[replica].clone();
                let seen = self.seen_by(replica, &authorities);
                let step = next_step(self.now, &authorities, &seen.view(), &rules());
                if matches!(step, Step::WaitUntil(_)) {
                    return self.refresh(replica);
                }
                let next = self.take(&step, &authorities, &seen);
                if !crash {
                    self.write(version, &step, next);
                    self.refresh(replica);
                }
            }
            Event::Ask { replica, command, target } => self.ask(replica, command, target),
            Event::Change { replica, set } => self.change(replica, set),
            Event::Issue { holder, replica, ttl, anew, fate } => {
                // Refused by the fence, the replica looks at the journal and signs again, once.
                if !self.issue(holder, replica, ttl, anew, fate) {
                    self.refresh(replica);
                    self.issue(holder, replica, ttl, anew, fate);
                }
            }
            Event::Mark { holder, which, lost } => self.raised.extend(self.holders[holder].mark(which, lost, self.now)),
            Event::Deliver { holder, replica } => {
                let belief = self.belief(replica);
                let holder = &mut self.holders[holder];
                if holder.acknowledges && !belief.roots.is_empty() && belief.bundle_sequence >= holder.held {
                    holder.held = belief.bundle_sequence;
                    holder.known = belief.roots.iter().map(|root| root.id.clone()).collect();
                    holder.on_their_way.push(belief.bundle_sequence);
                }
            }
            Event::Arrive { holder, which } => {
                self.raised.extend(self.holders[holder].acknowledge(which, self.now));
            }
        }
        self.check();
    }

    fn ask(&mut self, replica: usize, command: usize, target: usize) {
        let roots: Vec<AuthorityId> = self.journal.roots.iter().map(|root| root.id.clone()).collect();
        let id = roots.get(target).cloned().unwrap_or_else(|| AuthorityId::new(b"", b"nobody"));
        let command = match command {
            0 => Command::Prepare,
            1 => Command::Rotate,
            2 => Command::RenewIssuing,
            3 => Command::Activate { id, force: false },
            4 => Command::Rollback,
            5 => Command::Taint { id, force: false },
            6 => Command::Adopt,
            7 => Command::Revoke { id, force: false },
            _ => Command::Retire { id },
        };
        self.command(replica, &command);
    }

    fn command(&mut self, replica: usize, command: &Command) {
        let journal = self.journal.clone();
        let seen = self.seen_by(replica, &journal);
        if let Ok(Some(step)) = judge(self.now, &journal, &seen.view(), &rules(), command) {
            if matches!(step, Step::RevokeIssuing(_)) {
                return;
            }
            self.changes += u32::from(matches!(step, Step::AdoptRoots));
            let next = self.take(&step, &journal, &seen);
            self.write(self.version, &step, next);
        }
    }

    /// Everybody answers, and both replicas work, one after the other.
    fn calm(&mut self) {
        for _ in 0..30 {
            self.apply(&Event::Pass(240));
            for holder in 0..5 {
                // What ended long ago makes no difference any more, but looking at it takes time.
                let now = self.now;
                self.holders[holder].recorded.retain(|(_, _, end)| *end + DAY > now);
                self.raised.retain(|raise| raise.at + DAY > now);
                self.apply(&Event::Deliver { holder, replica: 0 });
                self.apply(&Event::Arrive { holder, which: 0 });
                self.apply(&Event::Issue { holder, replica: 0, ttl: 300, anew: false, fate: Fate::Whole });
                let last = self.holders[holder].said.len().saturating_sub(1);
                self.apply(&Event::Mark { holder, which: last, lost: false });
            }
            for replica in [0, 0, 1, 1] {
                self.apply(&Event::Step { replica, crash: false });
            }
        }
    }

    /// Whether the adopted source is what this replica has.
    fn has_adopted(&self, replica: usize) -> bool {
        let files = self.processes[replica].files.as_ref();
        files.is_some_and(|files| self.journal.adopted.standing(&files.fingerprint) == SourceStanding::Newest)
    }

    fn check(&self) {
        assert!(self.adoptions <= self.changes, "{} adoptions for {} changes", self.adoptions, self.changes);
        let live: Vec<&Holder> = self.holders.iter().filter(|holder| holder.newest(self.now).is_some()).collect();
        for holder in &live {
            let (root, _, _) = holder.newest(self.now).unwrap();
            assert!(self.journal.root(root).is_some(), "a live certificate chains to {root}, which is in no bundle");
            for other in &live {
                assert!(other.known.contains(root), "a holder cannot verify a certificate under {root}");
            }
        }
        self.check_servers(&live);
        for (root, _, _) in self.holders.iter().flat_map(|holder| &holder.recorded).filter(|one| one.2 > self.now) {
            assert!(self.journal.root(root).is_some() || self.revoked.contains(root), "{root} left too early");
        }
    }
}

/// What the journal holds of files, as a CA goes on with it.
fn held(authorities: &Authorities) -> Option<Offer> {
    let active = authorities.active().filter(|root| root.pinned)?;
    let roots = authorities.roots.iter().filter(|root| root.pinned).map(|root| root.ca.clone()).collect();
    let (signer, issuing) = (active.id.clone(), OfferedCa::Given(active.issuing.last()?.ca.clone()));
    Some(Offer {
        roots,
        signer,
        issuing,
        revocation_lists: vec![],
        lists_on_demand: false,
        fingerprint: SourceFingerprint::own(),
    })
}

#[path = "test_model_holders.rs"]
mod holders;
#[path = "test_model_properties.rs"]
mod properties;
#[path = "test_model_servers.rs"]
mod servers;
