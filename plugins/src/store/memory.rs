//! Storage that forgets everything at the end of the process: for tests and for trying things out. Same semantics as
//! the databases but for durability.

mod claims;
mod record_tree;
mod retention;
mod signed_leaves;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use signet_core::audit::{AuditEvent, AuditQuery, Page, StoredEvent};
use signet_core::authority::{AuthorityId, KeyId};
use signet_core::certificate::Serial;
use signet_core::holder::{Acknowledgement, Acknowledger, Coverage, Gone, Holder, HolderKey, HolderQuery, Lag, Mark};
use signet_core::publication::{KEPT, MAX_NAME, Publication, Publications, Report};
use signet_core::record_before_release::{ClaimName, Claimed, Kept, Recorded};
use signet_core::rotation::{Authorities, Fence};
use signet_core::seams::record_tree::KeptCheckpoint;
use signet_core::seams::store::{
    AppendError, AuditStore, AuthorityJournal, Change, Changed, HolderStore, JournalVersion, NewRecord,
    PublicationStore, SealedKeys, StoreError,
};
use signet_core::transparency::{Hash, Tile};
use time::OffsetDateTime;

use super::holder_marks::{Marked, Seen, hand_over};
use super::holders::{HolderRow, Raises, Renewals, column, coverage, ended_below, lag, lag_of, last_ends, live_above};
use super::pod_certificates::ClaimEntry;
use super::rows::{page, remembered};

/// An audit log, holders, a journal and sealed keys in memory.
#[derive(Default)]
pub struct MemoryStore {
    content: Mutex<Content>,
}

#[derive(Default)]
struct Content {
    events: Vec<AuditEvent>,
    serials: HashSet<Serial>,
    holders: BTreeMap<HolderKey, HolderRow>,
    raises: Raises,
    usage: BTreeMap<String, i64>,
    journal: Option<(JournalVersion, Authorities)>,
    fence: Fence,
    keys: HashMap<KeyId, Vec<u8>>,
    claims: BTreeMap<String, ClaimEntry>,
    leaves: signed_leaves::Leaves,
    publications: BTreeMap<String, Publication>,
    tiles: HashMap<Tile, Vec<Hash>>,
    checkpoint: Option<KeptCheckpoint>,
    notes: BTreeMap<String, String>,
    forgotten: retention::Forgotten,
    /// Whose turn it is to publish, and until when.
    turns: HashMap<String, (String, OffsetDateTime)>,
}

impl Content {
    fn append(&mut self, records: Vec<NewRecord>) -> Vec<Result<Recorded, AppendError>> {
        let before = self.events.len();
        let mut append = |(event, kept): NewRecord| {
            let has_claim = |claimed: &Claimed| {
                let ClaimName { uid, claimant } = &claimed.claim;
                self.claims.get(uid).is_some_and(|claim| claim.takes(claimant))
            };
            let claimed = kept.as_ref().and_then(Kept::claimed);
            if !claimed.is_none_or(has_claim) {
                return Err(AppendError::ClaimLost);
            }
            if !self.fence.admits_event(&event) {
                return Err(AppendError::Fenced);
            }
            let serial = event.what.as_ref().and_then(|what| what.serial());
            if serial.is_some_and(|serial| !self.serials.insert(serial)) {
                return Err(AppendError::SerialTaken);
            }
            if let Some(claimed) = claimed
                && let Some(claim) = self.claims.get_mut(&claimed.claim.uid)
            {
                claim.keep(&claimed.chain);
            }
            if let (Some(serial), Some(what), Some(leaf)) = (serial, &event.what, kept.as_ref().and_then(Kept::leaf)) {
                self.leaves.insert(serial, (what.not_after, leaf.clone()));
            }
            let sequence = u64::try_from(self.events.len()).unwrap_or(u64::MAX);
            self.events.push(event);
            Ok(Recorded::durable(sequence, serial))
        };
        let recorded = records.into_iter().map(&mut append).collect();
        let Self { events, holders, usage, .. } = self;
        for event in events.iter().skip(before) {
            renew(holders, usage, Renewals::of([event]));
        }
        recorded
    }

    fn coverage(&self, now: OffsetDateTime) -> Result<Coverage, StoreError> {
        let live = self.holders.values().filter(|row| row.not_after > live_above(now));
        let raised = self.raises.0.iter().map(|((before, after), at)| (*before, *after, *at));
        Ok(Coverage { published: self.published(), ..coverage(live.map(HolderRow::group), raised)? })
    }

    fn published(&self) -> Publications {
        Publications::new(self.publications.values().cloned().collect())
    }

    /// The holder that a recorded certificate was issued to.
    fn holder_of(&self, spiffe_id: &str, serial: &str) -> Option<HolderKey> {
        let of = |event: &&AuditEvent| event.what.as_ref().is_some_and(|what| what.serial == serial);
        let key = self.events.iter().find(of)?.holder()?;
        Some(key).filter(|key| key.spiffe_id == spiffe_id)
    }

    fn last_ends(&self) -> Result<BTreeMap<AuthorityId, OffsetDateTime>, StoreError> {
        last_ends(self.usage.iter().map(|(authority, end)| (authority.clone(), *end)))
    }
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl AuditStore for MemoryStore {
    async fn append(&self, events: Vec<AuditEvent>) -> Result<Vec<Result<Recorded, AppendError>>, StoreError> {
        Ok(self.content().append(events.into_iter().map(|event| (event, None)).collect()))
    }

    async fn append_keeping(&self, records: Vec<NewRecord>) -> Result<Vec<Result<Recorded, AppendError>>, StoreError> {
        Ok(self.content().append(records))
    }

    async fn query(&self, query: &AuditQuery) -> Result<Page<StoredEvent>, StoreError> {
        let content = self.content();
        let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
        let before = query.before.and_then(|before| usize::try_from(before).ok()).unwrap_or(usize::MAX);
        let older = content.events.iter().enumerate().take(before).rev();
        let has_words = |sequence: usize| !content.forgotten.events.contains(&(sequence as u64));
        let found = older.filter(|(sequence, event)| has_words(*sequence) && query.matches(event));
        let items = found.take(limit.saturating_add(1));
        let found = |(sequence, event): (usize, &AuditEvent)| {
            remembered(u64::try_from(sequence).unwrap_or(u64::MAX), event.clone())
        };
        Ok(page(items.map(found).collect(), query.limit, None))
    }

    async fn probe(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

/// Enters what recorded events change.
fn renew(holders: &mut BTreeMap<HolderKey, HolderRow>, usage: &mut BTreeMap<String, i64>, renewals: Renewals<'_>) {
    for (key, renewal) in renewals.holders {
        let row = match holders.remove(&key) {
            Some(row) => row.renewed(&renewal),
            None => HolderRow::new(key.clone(), &renewal),
        };
        holders.insert(key, row);
    }
    for (authority, last_not_after) in renewals.usage {
        let last = usage.entry(authority.to_owned()).or_insert(last_not_after);
        *last = last_not_after.max(*last);
    }
}

#[async_trait]
impl HolderStore for MemoryStore {
    async fn acknowledge(&self, acknowledgements: &[Acknowledgement]) -> Result<(), StoreError> {
        let content = &mut *self.content();
        for acknowledgement in acknowledgements {
            let key = match &acknowledgement.from {
                Acknowledger::Holder(key) => Some(key.clone()),
                Acknowledger::Certificate { spiffe_id, serial } => content.holder_of(spiffe_id, serial),
            };
            if let Some(row) = key.and_then(|key| content.holders.get_mut(&key)) {
                row.acknowledge(acknowledgement, &mut content.raises);
            }
        }
        Ok(())
    }

    async fn mark(&self, marks: &[Mark], at: OffsetDateTime) -> Result<bool, StoreError> {
        let Content { holders, raises, .. } = &mut *self.content();
        let at = AuditEvent::micros(at);
        let seen = |mark: &Mark| holders.get(&mark.reply.holder).map(|row| Seen::of(row, &mark.reply));
        let marked = Marked::of(marks.iter().filter_map(|mark| Some((mark, seen(mark)?))), at);
        for (key, (sequence, serial)) in &marked.has {
            if let Some(row) = holders.get_mut(*key) {
                hand_over(row, *sequence, serial);
            }
        }
        for reply in &marked.lost {
            if holders.get(&reply.holder).is_some_and(|row| Seen::of(row, reply).is_lost()) {
                holders.remove(&reply.holder);
            }
        }
        for ((before, after), at) in &marked.raises.0 {
            raises.add(*before, *after, *at);
        }
        Ok(!marked.is_empty())
    }

    async fn gone(&self, gone: &[Gone], seen_before: OffsetDateTime, at: OffsetDateTime) -> Result<u64, StoreError> {
        let (seen_before, at) = (AuditEvent::micros(seen_before), AuditEvent::micros(at));
        let holders = &mut self.content().holders;
        let goes = |one: &&Gone| holders.get_mut(&one.key).is_some_and(|row| row.goes(&one.serial, seen_before, at));
        Ok(gone.iter().filter(goes).count() as u64)
    }

    async fn published_to(
        &self,
        cluster: &str,
        signer: &str,
        sequence: u64,
        at: OffsetDateTime,
    ) -> Result<u64, StoreError> {
        let Content { holders, raises, .. } = &mut *self.content();
        let (at, of) = (AuditEvent::micros(at), (cluster, HolderKey::kubelets(signer)));
        let news = holders.values_mut().filter_map(|row| row.is_published(&of, sequence, at, raises).then_some(()));
        Ok(news.count() as u64)
    }

    async fn coverage(&self, now: OffsetDateTime) -> Result<Coverage, StoreError> {
        self.content().coverage(now)
    }

    async fn lag(&self, now: OffsetDateTime, sequence: u64) -> Result<Lag, StoreError> {
        lag(lag_of(self.content().holders.values(), now, sequence))
    }

    async fn holders(&self, query: &HolderQuery) -> Result<Vec<Holder>, StoreError> {
        let content = self.content();
        let rows = content.holders.values().filter(|row| row.is_asked_for(query));
        rows.take(query.page_size()).cloned().map(HolderRow::into_holder).collect()
    }

    async fn last_ends(&self) -> Result<BTreeMap<AuthorityId, OffsetDateTime>, StoreError> {
        self.content().last_ends()
    }

    async fn forget_ended(&self, before: OffsetDateTime, limit: u32) -> Result<u64, StoreError> {
        let mut forgotten = 0;
        self.content().holders.retain(|_, row| {
            let forget = row.not_after < ended_below(before) && forgotten < u64::from(limit);
            forgotten += u64::from(forget);
            !forget
        });
        Ok(forgotten)
    }
}

#[async_trait]
impl AuthorityJournal for MemoryStore {
    async fn load(&self) -> Result<Option<(JournalVersion, Authorities)>, StoreError> {
        Ok(self.content().journal.clone())
    }

    async fn version(&self) -> Result<JournalVersion, StoreError> {
        Ok(self.content().journal.as_ref().map_or(JournalVersion(0), |(version, _)| *version))
    }

    async fn change(&self, change: Change<'_>) -> Result<Changed, StoreError> {
        let content = &mut *self.content();
        let current = content.journal.as_ref().map_or(JournalVersion(0), |(version, _)| *version);
        if current != change.expected {
            return Ok(Changed::Overtaken);
        }
        let (coverage, last_ends) = (content.coverage(change.now)?, content.last_ends()?);
        if !change.conditions.iter().all(|condition| condition.holds(&coverage, &last_ends)) {
            return Ok(Changed::Unmet);
        }
        let version = JournalVersion(change.expected.0.saturating_add(1));
        content.fence = Fence::of(change.next);
        content.journal = Some((version, change.next.clone()));
        let (oldest, newest) = change.next.awaited().unwrap_or((u64::MAX, 0));
        content.raises.0.retain(|(before, after), _| *after >= column(oldest) && *before < column(newest));
        content.append(change.events.into_iter().map(|event| (event, None)).collect());
        Ok(Changed::Made(version))
    }
}

#[async_trait]
impl PublicationStore for MemoryStore {
    async fn report(&self, report: &Report) -> Result<(), StoreError> {
        if report.publisher.len() > MAX_NAME {
            return Err(StoreError::Unavailable("the name of a publisher is too long".to_owned()));
        }
        let Report { publisher, sequence, wanted, in_place, problem, at } = report.clone();
        let problem = problem.map(|problem| problem.chars().take(1000).collect());
        let new = Publication { publisher, reached: BTreeMap::new(), wanted, in_place, problem, heard_at: at };
        let content = &mut *self.content();
        let kept = content.publications.entry(report.publisher.clone()).or_insert_with(|| new.clone());
        if let Some(sequence) = sequence {
            kept.reached.entry(sequence).or_insert(at);
            while kept.reached.len() > KEPT {
                kept.reached.pop_first();
            }
        }
        if at >= kept.heard_at {
            *kept = Publication { reached: std::mem::take(&mut kept.reached), ..new };
        }
        Ok(())
    }

    async fn publications(&self) -> Result<Publications, StoreError> {
        Ok(self.content().published())
    }

    async fn take_turn(
        &self,
        publisher: &str,
        who: &str,
        now: OffsetDateTime,
        until: OffsetDateTime,
    ) -> Result<bool, StoreError> {
        let turns = &mut self.content().turns;
        let is_free = turns.get(publisher).is_none_or(|(other, until)| other == who || *until <= now);
        if is_free {
            turns.insert(publisher.to_owned(), (who.to_owned(), until));
        }
        Ok(is_free)
    }

    async fn forget_silent(&self, ours: &[String], before: OffsetDateTime) -> Result<Vec<String>, StoreError> {
        let publications = &mut self.content().publications;
        let is_silent = |one: &&Publication| one.heard_at < before && !ours.contains(&one.publisher);
        let silent: Vec<String> = publications.values().filter(is_silent).map(|one| one.publisher.clone()).collect();
        publications.retain(|name, _| !silent.contains(name));
        Ok(silent)
    }
}

#[async_trait]
impl SealedKeys for MemoryStore {
    async fn insert(&self, id: &KeyId, sealed: &[u8]) -> Result<bool, StoreError> {
        let mut content = self.content();
        let free = !content.keys.contains_key(id);
        if free {
            content.keys.insert(id.clone(), sealed.to_vec());
        }
        Ok(free)
    }

    async fn all(&self) -> Result<Vec<(KeyId, Vec<u8>)>, StoreError> {
        Ok(self.content().keys.iter().map(|(id, sealed)| (id.clone(), sealed.clone())).collect())
    }

    async fn reseal(&self, id: &KeyId, before: &[u8], sealed: &[u8]) -> Result<bool, StoreError> {
        let mut content = self.content();
        let kept = content.keys.get_mut(id).filter(|kept| *kept == before);
        Ok(kept.map(|kept| *kept = sealed.to_vec()).is_some())
    }

    async fn fetch(&self, id: &KeyId) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.content().keys.get(id).cloned())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::suite;
    use super::MemoryStore;

    #[tokio::test(flavor = "multi_thread")]
    async fn memory_passes_the_suite() {
        suite::every_case(async || {
            let store = Arc::new(MemoryStore::new());
            [Arc::clone(&store), store]
        })
        .await;
    }
}
