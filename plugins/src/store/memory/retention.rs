//! Words of events are forgotten, in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;
use signet_core::audit::Class;
use signet_core::seams::retention::{Aging, Forgetting, MAX_AT_ONCE, RecordRetention};
use signet_core::seams::store::StoreError;
use time::OffsetDateTime;

use super::{Content, MemoryStore};
use crate::store::retention::Life;

/// What is forgotten, and what is to be.
#[derive(Default)]
pub(super) struct Forgotten {
    /// Positions of events without words.
    pub(super) events: BTreeSet<u64>,
    looked_at: BTreeMap<Class, u64>,
    put_off: BTreeMap<u64, (Class, OffsetDateTime)>,
    longest: Option<(i64, i64)>,
}

impl Content {
    fn aging(&self, sequence: u64) -> Option<Aging> {
        let event = self.events.get(usize::try_from(sequence).ok()?)?;
        let body = (!self.forgotten.events.contains(&sequence)).then(|| event.encode());
        Some(Aging { sequence, at_micros: event.at_micros, kind: event.kind, outcome: event.outcome, body })
    }
}

#[async_trait]
impl RecordRetention for MemoryStore {
    async fn looked_at_below(&self, class: Class) -> Result<u64, StoreError> {
        Ok(self.content().forgotten.looked_at.get(&class).copied().unwrap_or_default())
    }

    async fn aging(&self, from: u64) -> Result<Vec<Aging>, StoreError> {
        let content = self.content();
        let below = from.saturating_add(u64::from(MAX_AT_ONCE));
        Ok((from..below).map_while(|sequence| content.aging(sequence)).collect())
    }

    async fn put_off(&self, class: Class, now: OffsetDateTime) -> Result<Vec<Aging>, StoreError> {
        let content = self.content();
        let is_due = |(_, (of, due)): &(&u64, &(Class, OffsetDateTime))| *of == class && *due <= now;
        let mut due: Vec<_> =
            content.forgotten.put_off.iter().filter(is_due).map(|(at, (_, due))| (*due, *at)).collect();
        due.sort_unstable();
        due.truncate(usize::try_from(MAX_AT_ONCE).unwrap_or(usize::MAX));
        due.sort_unstable_by_key(|(_, sequence)| *sequence);
        Ok(due.into_iter().filter_map(|(_, sequence)| content.aging(sequence)).collect())
    }

    async fn forget(&self, step: &Forgetting) -> Result<bool, StoreError> {
        let forgotten = &mut self.content().forgotten;
        let cursor = forgotten.looked_at.entry(step.class).or_default();
        if *cursor != step.from {
            return Ok(false);
        }
        *cursor = step.below;
        for sequence in &step.forgotten {
            forgotten.events.insert(*sequence);
            forgotten.put_off.remove(sequence);
        }
        forgotten.put_off.extend(step.put_off.iter().map(|(sequence, until)| (*sequence, (step.class, *until))));
        Ok(true)
    }

    /// There are no names beside the events.
    async fn sweep_names(&self, _: &str) -> Result<Option<String>, StoreError> {
        Ok(None)
    }

    async fn longest_life(&self, configured: Duration, now: OffsetDateTime) -> Result<Duration, StoreError> {
        let longest = &mut self.content().forgotten.longest;
        let life = Life::of(configured, now);
        if !life.is_said(*longest) {
            *longest = Some((life.seconds, life.until_micros));
        }
        Ok(life.longest(*longest))
    }
}
