//! The table of open connections: whose they are, what those hold that have proved nothing yet, and who gives way.
//!
//! A connection begins as one of its source. With its first authenticated request it becomes one of an identity, and
//! with a request that does not authenticate it falls back. Each owner is limited in connections, in calls whose messages
//! have not arrived and in memory for these; where one more has no room, the oldest connection of that owner is closed. Of
//! the places of all, only those who have proved nothing lose theirs: who means well proves itself within milliseconds and
//! is never the oldest.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use futures::task::AtomicWaker;
use prometheus::IntGauge;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::config::Rate;
use crate::source::Source;
use crate::turned_away::{Limit, TurnedAway};

/// Sources that are remembered for the rate of their handshakes; those at rest are forgotten beyond it.
const MOST_SOURCES: usize = 100_000;

/// How many times what one source may hold, one identity may: a service account of many pods is one identity.
const SHARED: usize = 4;

/// How much there is room for.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// Connections, whoever has them.
    pub connections: usize,
    /// Connections of one identity.
    pub per_identity: usize,
    /// Unproved connections of one source.
    pub per_source: usize,
    /// Handshakes of one source; each that leads to an authenticated request is given back.
    pub handshakes: Rate,
    /// Calls of one source whose messages have not arrived.
    pub calls: usize,
    /// The same on one connection.
    pub calls_per_connection: usize,
    /// Bytes of such calls of one source. One identity, which many workloads may share, has [`SHARED`] times as much of
    /// both.
    pub memory: usize,
    /// The same on one connection.
    pub memory_per_connection: usize,
    /// The same of all sources together.
    pub total_memory: usize,
}

/// A token bucket that can be given back to.
#[derive(Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    fn full(rate: Rate, now: Instant) -> Self {
        Self { tokens: f64::from(rate.burst.get()), at: now }
    }

    fn fill(&mut self, rate: Rate, now: Instant) {
        let gained = now.saturating_duration_since(self.at).as_secs_f64() * f64::from(rate.per_second.get());
        *self = Self { tokens: (self.tokens + gained).min(f64::from(rate.burst.get())), at: now };
    }

    fn take(&mut self, rate: Rate, now: Instant) -> bool {
        self.fill(rate, now);
        let has = self.tokens >= 1.0;
        if has {
            self.tokens -= 1.0;
        }
        has
    }

    fn give(&mut self, rate: Rate) {
        self.tokens = (self.tokens + 1.0).min(f64::from(rate.burst.get()));
    }

    fn is_full(&mut self, rate: Rate, now: Instant) -> bool {
        self.fill(rate, now);
        self.tokens >= f64::from(rate.burst.get())
    }
}

/// Whose a connection is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Owner {
    /// Unproved: that of where it comes from.
    Source(Source),
    /// Proved.
    Identity(Arc<str>),
}

/// What one owner holds.
#[derive(Default)]
struct Held {
    connections: BTreeSet<u64>,
    calls: usize,
    memory: usize,
}

/// One connection.
struct Entry {
    owner: Owner,
    calls: usize,
    memory: usize,
    signal: Arc<Signal>,
}

/// How a connection learns what became of it.
#[derive(Default)]
struct Signal {
    closing: AtomicBool,
    waker: AtomicWaker,
}

impl Signal {
    fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.waker.wake();
    }
}

struct Table {
    room: Room,
    entries: HashMap<u64, Entry>,
    owners: HashMap<Owner, Held>,
    handshakes: HashMap<Source, Bucket>,
    /// Sources by how many unproved connections they hold, and owners by how much memory: the greediest gives way.
    by_connections: BTreeSet<(usize, Source)>,
    by_memory: BTreeSet<(usize, Owner)>,
    total_memory: usize,
    next: u64,
}

impl Table {
    /// Changes what an owner holds, and its ranks with it.
    fn change(&mut self, owner: &Owner, change: impl FnOnce(&mut Held)) {
        let held = self.owners.entry(owner.clone()).or_default();
        let before = (held.connections.len(), held.memory);
        change(held);
        let after = (held.connections.len(), held.memory);
        if after.0 == 0 {
            self.owners.remove(owner);
        }
        if let Owner::Source(source) = owner
            && before.0 != after.0
        {
            self.by_connections.remove(&(before.0, *source));
            if after.0 > 0 {
                self.by_connections.insert((after.0, *source));
            }
        }
        if before.1 != after.1 {
            self.by_memory.remove(&(before.1, owner.clone()));
            if after.1 > 0 {
                self.by_memory.insert((after.1, owner.clone()));
            }
            self.total_memory = self.total_memory - before.1 + after.1;
        }
    }

    fn join(&mut self, id: u64, entry: Entry) {
        let (owner, calls, memory) = (entry.owner.clone(), entry.calls, entry.memory);
        self.change(&owner, |held| {
            held.connections.insert(id);
            held.calls += calls;
            held.memory += memory;
        });
        self.entries.insert(id, entry);
    }

    fn part(&mut self, id: u64) -> Option<Entry> {
        let entry = self.entries.remove(&id)?;
        self.change(&entry.owner, |held| {
            held.connections.remove(&id);
            held.calls -= entry.calls;
            held.memory -= entry.memory;
        });
        Some(entry)
    }

    fn close(&mut self, id: u64) {
        if let Some(entry) = self.part(id) {
            entry.signal.close();
        }
    }

    /// The oldest connection of an owner; with `holding`, of those that hold calls or memory.
    fn oldest(&self, owner: &Owner, holding: bool) -> Option<u64> {
        let held = self.owners.get(owner)?;
        let holds = |id: &&u64| self.entries.get(id).is_some_and(|entry| entry.calls > 0 || entry.memory > 0);
        held.connections.iter().find(|id| !holding || holds(id)).copied()
    }

    /// The limit that an owner is over with its connections, or with calls that have not arrived.
    fn over(&self, owner: &Owner) -> Option<(Limit, bool)> {
        let held = self.owners.get(owner)?;
        let (connections, share, limit) = match owner {
            Owner::Source(_) => (self.room.per_source, 1, Limit::SourceConnections),
            Owner::Identity(_) => (self.room.per_identity, SHARED, Limit::IdentityConnections),
        };
        if held.connections.len() > connections {
            return Some((limit, false));
        }
        if held.memory > self.room.memory.saturating_mul(share) {
            return Some((Limit::Memory, true));
        }
        (held.calls > self.room.calls.saturating_mul(share)).then_some((Limit::OpenCalls, true))
    }

    /// Closes who must give way until what `owner` holds, and the memory of all, have room again.
    fn make_room(&mut self, owner: &Owner, turned_away: &TurnedAway) {
        loop {
            let (limit, holding, from) = if let Some((limit, holding)) = self.over(owner) {
                (limit, holding, owner.clone())
            } else if self.total_memory > self.room.total_memory
                && let Some((_, greediest)) = self.by_memory.last()
            {
                (Limit::Memory, true, greediest.clone())
            } else {
                return;
            };
            let Some(oldest) = self.oldest(&from, holding) else { return };
            turned_away.note(limit);
            self.close(oldest);
        }
    }

    fn bucket(&mut self, source: Source, now: Instant) -> &mut Bucket {
        let rate = self.room.handshakes;
        self.handshakes.entry(source).or_insert_with(|| Bucket::full(rate, now))
    }
}

/// The table; clones share it.
#[derive(Clone)]
pub struct Connections {
    table: Arc<Mutex<Table>>,
    turned_away: Arc<TurnedAway>,
    freed: Arc<Notify>,
    open: IntGauge,
}

/// Why a connection is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotLetIn {
    /// Its source makes too many that prove nothing; it is to be closed.
    Handshakes,
    /// Every place is held by somebody who has proved who he is; [`Connections::freed`] tells when to try again.
    Full,
}

/// Plenty of room, for tests of something else.
#[cfg(test)]
impl Default for Room {
    fn default() -> Self {
        let rate = Rate { per_second: std::num::NonZeroU32::MAX, burst: std::num::NonZeroU32::MAX };
        Self {
            connections: 1000,
            per_identity: 1000,
            per_source: 1000,
            handshakes: rate,
            calls: 1000,
            calls_per_connection: 1000,
            memory: 1 << 30,
            memory_per_connection: 1 << 30,
            total_memory: 1 << 30,
        }
    }
}

impl Connections {
    /// A table whose counts nobody looks at.
    #[cfg(test)]
    #[allow(clippy::unwrap_used, reason = "tests")]
    pub(crate) fn for_tests(room: Room) -> Self {
        let turned_away = TurnedAway::new(&signet_runtime::metrics::Metrics::new()).unwrap();
        Self::new(room, Arc::new(turned_away), IntGauge::new("open", "open").unwrap())
    }

    /// Nobody is connected yet; `open` shows how many are.
    #[must_use]
    pub fn new(room: Room, turned_away: Arc<TurnedAway>, open: IntGauge) -> Self {
        let table = Table {
            room,
            entries: HashMap::new(),
            owners: HashMap::new(),
            handshakes: HashMap::new(),
            by_connections: BTreeSet::new(),
            by_memory: BTreeSet::new(),
            total_memory: 0,
            next: 0,
        };
        Self { table: Arc::new(Mutex::new(table)), turned_away, freed: Arc::default(), open }
    }

    /// Who is told when somebody is turned away.
    #[must_use]
    pub fn turned_away(&self) -> &Arc<TurnedAway> {
        &self.turned_away
    }

    /// Takes a place for a connection from `source`. Where there is none left, the oldest connection that has proved
    /// nothing gives its own: first one of the same source when that has too many, else one of the source with most.
    ///
    /// # Errors
    /// [`NotLetIn`].
    pub fn enter(&self, source: Source) -> Result<Arc<Place>, NotLetIn> {
        let now = Instant::now();
        let mut table = self.lock();
        let room = table.room;
        if table.handshakes.len() > MOST_SOURCES {
            table.handshakes.retain(|_, bucket| !bucket.is_full(room.handshakes, now));
        }
        if !table.bucket(source, now).take(room.handshakes, now) {
            self.turned_away.note(Limit::Handshakes);
            return Err(NotLetIn::Handshakes);
        }
        let owner = Owner::Source(source);
        let has_all = table.owners.get(&owner).is_some_and(|held| held.connections.len() >= room.per_source);
        if table.entries.len() >= room.connections && !has_all {
            self.turned_away.note(Limit::Connections);
            let most = table.by_connections.last().map(|(_, source)| Owner::Source(*source));
            let Some(oldest) = most.and_then(|owner| table.oldest(&owner, false)) else {
                // It comes again.
                table.bucket(source, now).give(room.handshakes);
                return Err(NotLetIn::Full);
            };
            table.close(oldest);
        }
        let id = table.next;
        table.next += 1;
        let signal = Arc::<Signal>::default();
        table.join(id, Entry { owner: owner.clone(), calls: 0, memory: 0, signal: Arc::clone(&signal) });
        table.make_room(&owner, &self.turned_away);
        drop(table);
        self.open.inc();
        let (proved, active) = (AtomicBool::new(false), AtomicU64::new(0));
        Ok(Arc::new(Place { id, source, signal, proved, active, since: now, connections: self.clone() }))
    }

    /// Done when a place has become free since the last call.
    pub async fn freed(&self) {
        self.freed.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of one connection; it is given up when this is dropped.
pub struct Place {
    id: u64,
    source: Source,
    signal: Arc<Signal>,
    proved: AtomicBool,
    since: Instant,
    /// When a whole request arrived last, in milliseconds after `since`.
    active: AtomicU64,
    connections: Connections,
}

impl Place {
    /// Where the connection comes from.
    #[must_use]
    pub fn source(&self) -> Source {
        self.source
    }

    /// Whether the newest request that was judged on this connection was an authenticated one.
    #[must_use]
    pub fn is_proved(&self) -> bool {
        self.proved.load(Ordering::Acquire)
    }

    /// Whether the connection has to give way. `waker` is woken when this, or whether it is proved, changes.
    #[must_use]
    pub fn is_closing(&self, waker: &Waker) -> bool {
        self.signal.waker.register(waker);
        self.signal.closing.load(Ordering::Acquire)
    }

    /// Notes that a request has arrived whole.
    pub fn asked(&self) {
        let passed = self.since.elapsed().as_millis();
        self.active.store(u64::try_from(passed).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// When a request arrived whole last; when the connection was accepted, before the first one.
    #[must_use]
    pub fn asked_at(&self) -> Instant {
        self.since + Duration::from_millis(self.active.load(Ordering::Relaxed))
    }

    /// Counts a limit that was met on this connection.
    pub fn note(&self, limit: Limit) {
        self.connections.turned_away.note(limit);
    }

    /// A request on this connection was an authenticated one of `identity`: from now on the connection counts as one of
    /// that identity. Its oldest connection gives way when it has too many.
    pub fn prove(&self, identity: &str) {
        if self.proved.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut table = self.connections.lock();
        let Some(entry) = table.part(self.id) else { return };
        let rate = table.room.handshakes;
        if let Some(bucket) = table.handshakes.get_mut(&self.source) {
            bucket.give(rate);
        }
        let owner = Owner::Identity(Arc::from(identity));
        table.join(self.id, Entry { owner: owner.clone(), ..entry });
        table.make_room(&owner, &self.connections.turned_away);
    }

    /// A request on this connection did not authenticate: it counts as unproved again.
    pub fn lapse(&self) {
        if !self.proved.swap(false, Ordering::AcqRel) {
            return;
        }
        let mut table = self.connections.lock();
        let Some(entry) = table.part(self.id) else { return };
        let owner = Owner::Source(self.source);
        table.join(self.id, Entry { owner: owner.clone(), ..entry });
        table.make_room(&owner, &self.connections.turned_away);
        drop(table);
        // It has a deadline again.
        self.asked();
        self.signal.waker.wake();
    }

    /// Counts a call whose message is still to arrive, and the bytes that it holds already.
    ///
    /// # Errors
    /// The limit of this connection that has no room for it. Those of its source make the oldest connection give way
    /// instead, which may be this one.
    pub fn wait(self: &Arc<Self>, bytes: usize) -> Result<Waiting, Limit> {
        self.charge(1, bytes)?;
        Ok(Waiting { place: Arc::clone(self), bytes })
    }

    fn charge(&self, calls: usize, bytes: usize) -> Result<(), Limit> {
        let mut table = self.connections.lock();
        let room = table.room;
        let Some(entry) = table.entries.get_mut(&self.id) else { return Err(Limit::Connections) };
        let proved = matches!(entry.owner, Owner::Identity(_));
        // Whoever has proved itself may use all calls that HTTP/2 allows it.
        let over = if !proved && entry.calls + calls > room.calls_per_connection {
            Some(Limit::OpenCalls)
        } else {
            (entry.memory + bytes > room.memory_per_connection).then_some(Limit::Memory)
        };
        if let Some(limit) = over {
            self.connections.turned_away.note(limit);
            return Err(limit);
        }
        entry.calls += calls;
        entry.memory += bytes;
        let owner = entry.owner.clone();
        table.change(&owner, |held| {
            held.calls += calls;
            held.memory += bytes;
        });
        table.make_room(&owner, &self.connections.turned_away);
        Ok(())
    }

    fn discharge(&self, calls: usize, bytes: usize) {
        let mut table = self.connections.lock();
        let Some(entry) = table.entries.get_mut(&self.id) else { return };
        entry.calls -= calls;
        entry.memory -= bytes;
        let owner = entry.owner.clone();
        table.change(&owner, |held| {
            held.calls -= calls;
            held.memory -= bytes;
        });
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place").field("source", &self.source).field("proved", &self.proved).finish_non_exhaustive()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut table = self.connections.lock();
        drop(table.part(self.id));
        drop(table);
        self.connections.open.dec();
        self.connections.freed.notify_one();
    }
}

/// A call whose message has not arrived; no longer counted when this is dropped.
pub struct Waiting {
    place: Arc<Place>,
    bytes: usize,
}

impl Waiting {
    /// Counts further bytes.
    ///
    /// # Errors
    /// As for [`Place::wait`].
    pub fn grow(&mut self, bytes: usize) -> Result<(), Limit> {
        self.place.charge(0, bytes)?;
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.place.discharge(1, self.bytes);
    }
}

#[cfg(test)]
#[path = "connections_tests.rs"]
mod tests;
