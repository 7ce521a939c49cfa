//! What marks change of holders, the same for every database.

use std::collections::BTreeMap;

use signet_core::holder::{Handover, HolderKey, Mark, Reply};

use super::holders::{HolderRow, Raises, column, had};

/// What a mark asks of the holder that it is about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    /// See [`HolderRow`].
    pub(super) sequence: i64,
    /// See [`HolderRow`].
    pub(super) acknowledges: bool,
    /// See [`HolderRow`].
    pub(super) first_bundle: Option<i64>,
    /// Whether the certificate of the reply is the newest.
    pub(super) is_newest: bool,
    /// Whether earlier ones may be in use.
    pub(super) has_former: bool,
    /// Whether the certificate of the reply is of the issuing CA of the newest.
    pub(super) is_of_issuer: bool,
}

impl Seen {
    /// What there is to say of `row` about this reply.
    pub(super) fn of(row: &HolderRow, reply: &Reply) -> Self {
        Self {
            sequence: row.sequence,
            acknowledges: row.acknowledges,
            first_bundle: row.first_bundle,
            is_newest: row.serial == reply.serial,
            has_former: !row.former.is_empty(),
            is_of_issuer: row.authority == reply.authority,
        }
    }

    /// Whether nobody has the only certificate of this holder, and it has received nothing.
    pub(super) fn is_lost(self) -> bool {
        self.first_bundle.is_some() && self.sequence == 0 && self.is_newest
    }

    /// Whether this mark changes nothing of the holder, whatever later records say: it has the bundle, which it keeps, and uses
    /// no certificate of another issuing CA; or its only reply is not lost, since it has received one. In the first case a
    /// certificate of another issuing CA may come between; then that counts until the next reply, which is safe.
    pub(super) fn changes_nothing(self, mark: &Mark) -> bool {
        let has_bundle = self.acknowledges || self.sequence >= column(mark.reply.sequence);
        match mark.handover {
            Handover::Whole => has_bundle && self.is_of_issuer && !self.has_former,
            Handover::Nothing => self.sequence > 0,
        }
    }

    /// Whether it becomes known that the newest certificate is in use.
    fn is_settled(self) -> bool {
        self.is_newest && self.has_former
    }
}

/// What a batch of marks changes. Nothing of it is undone by what happens to the holders meanwhile: a sequence that has
/// been raised further stays, and whoever has received something is not removed.
#[derive(Default)]
pub(super) struct Marked<'a> {
    /// Holders to which a reply was handed over in full: the newest bundle, and the serial of a certificate of theirs that
    /// they have.
    pub(super) has: BTreeMap<&'a HolderKey, (i64, &'a str)>,
    /// Certificates that nobody has, whose holders have no other.
    pub(super) lost: Vec<&'a Reply>,
    /// Who of them had been behind.
    pub(super) raises: Raises,
}

impl<'a> Marked<'a> {
    /// What marks, written at the time `at`, change of their holders as they are now; those of no holder are left out.
    pub(super) fn of(marks: impl IntoIterator<Item = (&'a Mark, Seen)>, at: i64) -> Self {
        let mut all = Self::default();
        for (mark, seen) in marks {
            match mark.handover {
                Handover::Nothing if seen.is_lost() => all.lost.push(&mark.reply),
                Handover::Nothing => {}
                Handover::Whole => all.add(seen, &mark.reply, at),
            }
        }
        all
    }

    fn add(&mut self, seen: Seen, reply: &'a Reply, at: i64) {
        let sequence = column(reply.sequence);
        let raises = !seen.acknowledges && sequence > seen.sequence;
        let settles = seen.is_settled();
        if !raises && !settles {
            return;
        }
        if raises {
            self.raises.add(had(seen.sequence, seen.first_bundle), sequence, at);
        }
        let (newest, serial) = self.has.entry(&reply.holder).or_insert((sequence, &reply.serial));
        *newest = sequence.max(*newest);
        if settles {
            *serial = &reply.serial;
        }
    }

    /// Whether nothing changes.
    pub(super) fn is_empty(&self) -> bool {
        self.has.is_empty() && self.lost.is_empty()
    }
}

/// Notes that a holder has a certificate and a bundle.
pub(super) fn hand_over(row: &mut HolderRow, sequence: i64, serial: &str) {
    if row.serial == serial {
        row.former.clear();
    }
    if !row.acknowledges {
        row.sequence = row.sequence.max(sequence);
    }
}
