//! Holders of the model: what each really has, and what the records say of it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use super::*;
use crate::holder::Handover;

/// What becomes of a reply after its record was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is handed over in full, and received.
    Whole,
    /// It is handed over in part, which is of no use.
    Part,
    /// It is received, but whoever would say so does not.
    Unseen,
    /// Nothing of it is handed over.
    Nothing,
}

pub(super) fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![6 => Just(Fate::Whole), 1 => Just(Fate::Part), 1 => Just(Fate::Unseen), 2 => Just(Fate::Nothing)]
}

/// One holder that learns by replies, many of which are lost, and one that acknowledges, while roots are rotated.
pub(super) fn lossy_event() -> impl Strategy<Value = Event> {
    let issue = (0usize..2, 1500u32..4000, fate());
    prop_oneof![
        3 => (20u32..90).prop_map(Event::Pass),
        6 => issue.prop_map(|(holder, ttl, fate)| Event::Issue { holder, replica: 0, ttl, anew: false, fate }),
        4 => (0usize..2, 0usize..3, prop::bool::weighted(0.1))
            .prop_map(|(holder, which, lost)| Event::Mark { holder, which, lost }),
        2 => Just(Event::Deliver { holder: 0, replica: 0 }),
        2 => Just(Event::Arrive { holder: 0, which: 0 }),
        6 => (0usize..2).prop_map(|replica| Event::Step { replica, crash: false }),
        1 => (0usize..2).prop_map(|replica| Event::Ask { replica, command: 1, target: 0 }),
    ]
}

/// A certificate: root, issuing CA and end.
pub(super) type Certificate = (AuthorityId, AuthorityId, OffsetDateTime);

/// What storage knows of a holder.
pub(super) struct Row {
    pub(super) sequence: u64,
    pub(super) authority: AuthorityId,
    pub(super) former: Vec<AuthorityId>,
    pub(super) end: OffsetDateTime,
    /// The bundle that came with its only certificate.
    first_bundle: Option<u64>,
    serial: usize,
}

impl Row {
    fn raise(&mut self, sequence: u64, at: OffsetDateTime) -> Option<Raise> {
        let before = if self.sequence == 0 { self.first_bundle.unwrap_or_default() } else { self.sequence };
        self.sequence = self.sequence.max(sequence);
        (sequence > before).then_some(Raise { before, after: sequence, at })
    }
}

#[derive(Default)]
pub(super) struct Holder {
    pub(super) acknowledges: bool,
    /// The roots its proxies verify with.
    pub(super) known: BTreeSet<AuthorityId>,
    /// The bundle that they are from: an agent goes back to no earlier one.
    pub(super) held: u64,
    /// The certificate that it uses.
    pub(super) in_use: Option<Certificate>,
    /// Acknowledgements on their way.
    pub(super) on_their_way: Vec<u64>,
    /// What was said of replies and has not been noted: serial, bundle, how much.
    pub(super) said: Vec<(usize, u64, Handover)>,
    /// Every certificate that is on record, newest last.
    pub(super) recorded: Vec<Certificate>,
    pub(super) row: Option<Row>,
    pub(super) serials: usize,
}

impl Holder {
    /// The certificate in use, if it has not ended.
    pub(super) fn newest(&self, now: OffsetDateTime) -> Option<&Certificate> {
        self.in_use.as_ref().filter(|(_, _, end)| *end > now)
    }

    /// Puts a certificate on record, whose reply has this fate.
    pub(super) fn record(&mut self, certificate: &Certificate, bundle: u64, fate: Fate) {
        let (_, issuing, end) = certificate.clone();
        self.serials += 1;
        let serial = self.serials;
        self.recorded.push(certificate.clone());
        match &mut self.row {
            None => {
                let first_bundle = Some(bundle);
                self.row = Some(Row { sequence: 0, authority: issuing, former: vec![], end, first_bundle, serial });
            }
            Some(row) => {
                if row.authority != issuing {
                    row.former.push(std::mem::replace(&mut row.authority, issuing));
                }
                (row.first_bundle, row.serial, row.end) = (None, serial, row.end.max(end));
            }
        }
        match fate {
            Fate::Whole => self.said.push((serial, bundle, Handover::Whole)),
            Fate::Nothing => self.said.push((serial, bundle, Handover::Nothing)),
            Fate::Part | Fate::Unseen => {}
        }
    }

    /// Notes one of the things that were said, or loses it.
    pub(super) fn mark(&mut self, which: usize, lost: bool, now: OffsetDateTime) -> Option<Raise> {
        if which >= self.said.len() {
            return None;
        }
        let (serial, bundle, handover) = self.said.remove(which);
        let row = self.row.as_mut().filter(|_| !lost)?;
        match handover {
            Handover::Nothing => {
                if row.first_bundle.is_some() && row.sequence == 0 && row.serial == serial {
                    self.row = None;
                }
                None
            }
            Handover::Whole => {
                if row.serial == serial {
                    row.former.clear();
                }
                if self.acknowledges { None } else { row.raise(bundle, now) }
            }
        }
    }

    /// One of the acknowledgements on their way arrives.
    pub(super) fn acknowledge(&mut self, which: usize, now: OffsetDateTime) -> Option<Raise> {
        if which >= self.on_their_way.len() {
            return None;
        }
        let sequence = self.on_their_way.remove(which);
        self.row.as_mut()?.raise(sequence, now)
    }
}

impl World {
    /// Signs with what the replica believes; the record is held against the journal. `false` when that refuses it.
    pub(super) fn issue(&mut self, holder: usize, replica: usize, ttl: u32, anew: bool, fate: Fate) -> bool {
        let belief = self.belief(replica);
        let (Some(root), Some(issuing)) = (belief.active(), belief.active_issuer(self.now)) else { return false };
        if issuing.not_after <= self.now {
            return false;
        }
        if !Fence::of(&self.journal).admits(EventKind::Certificate, issuing.id.as_str(), belief.bundle_sequence) {
            return false;
        }
        let end = (self.now + Duration::from_secs(u64::from(ttl))).min(issuing.not_after);
        let roots: BTreeSet<AuthorityId> = belief.roots.iter().map(|root| root.id.clone()).collect();
        let now = self.now;
        let holder = &mut self.holders[holder];
        let certificate = (root.id.clone(), issuing.id.clone(), end);
        holder.record(&certificate, belief.bundle_sequence, fate);
        if matches!(fate, Fate::Whole | Fate::Unseen) {
            if !holder.acknowledges || anew || holder.known.is_empty() || holder.newest(now).is_none() {
                (holder.known, holder.held) = (roots, belief.bundle_sequence);
            }
            holder.in_use = Some(certificate);
        }
        true
    }
}
