//! What marks change of holders, the same for every database.

use std::collections::BTreeMap;

use signet_core::holder::{Handover, HolderKey, Mark, Reply};

use super::holders::{HolderRow, Raises, column};

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
    /// What `marks`, written at the time `at`, change of holders as they are now.
    pub(super) fn of(marks: &'a [Mark], at: i64, rows: &BTreeMap<HolderKey, HolderRow>) -> Self {
        let mut all = Self::default();
        for mark in marks {
            let reply = &mark.reply;
            let Some(row) = rows.get(&reply.holder) else { continue };
            match mark.handover {
                Handover::Nothing if is_lost(row, reply) => all.lost.push(reply),
                Handover::Nothing => {}
                Handover::Whole => all.add(row, reply, at),
            }
        }
        all
    }

    fn add(&mut self, row: &HolderRow, reply: &'a Reply, at: i64) {
        let sequence = column(reply.sequence);
        let raises = !row.acknowledges && sequence > row.sequence;
        let settles = is_settled(row, &reply.serial);
        if !raises && !settles {
            return;
        }
        if raises {
            self.raises.add(row.had(), sequence, at);
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

/// Whether nobody has the only certificate of this holder, and it has received nothing.
pub(super) fn is_lost(row: &HolderRow, reply: &Reply) -> bool {
    row.first_bundle.is_some() && row.sequence == 0 && row.serial == reply.serial
}

/// Whether it becomes known that the newest certificate is in use.
fn is_settled(row: &HolderRow, serial: &str) -> bool {
    row.serial == serial && !row.former.is_empty()
}

/// Notes that a holder has a certificate and a bundle.
pub(super) fn hand_over(row: &mut HolderRow, sequence: i64, serial: &str) {
    if is_settled(row, serial) {
        row.former.clear();
    }
    if !row.acknowledges {
        row.sequence = row.sequence.max(sequence);
    }
}
