//! The table of open connections: whose they are, what those hold that have proved nothing yet, and who gives way.
//!
//! A connection begins as one of its source. With its first authenticated request it becomes one of an identity, and
//! with a request that does not authenticate it falls back. Only the former are limited per source, in number, in calls
//! whose messages have not arrived and in memory for these; where one more has no room, the oldest of them is closed: who
//! means well proves itself within milliseconds and is never the oldest.

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

use super::source::Source;
use crate::config::Rate;
use crate::turned_away::{Limit, TurnedAway};

/// Sources that are remembered for the rate of their handshakes; those at rest are forgotten beyond it.
const MOST_SOURCES: usize = 100_000;

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
    /// Bytes of such calls of one source.
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
}

/// What one source holds that is unproved.
struct Held {
    connections: BTreeSet<u64>,
    calls: usize,
    memory: usize,
    handshakes: Bucket,
}

/// One connection.
struct Entry {
    source: Source,
    identity: Option<Arc<str>>,
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
    sources: HashMap<Source, Held>,
    identities: HashMap<Arc<str>, BTreeSet<u64>>,
    /// Sources by how many unproved connections, and by how much memory they hold: the greediest gives way.
    by_connections: BTreeSet<(usize, Source)>,
    by_memory: BTreeSet<(usize, Source)>,
    total_memory: usize,
    next: u64,
}

impl Table {
    /// The entry of a source, with its ranks taken out; [`Table::rank`] puts them back.
    fn unranked(&mut self, source: Source) -> &mut Held {
        let rate = self.room.handshakes;
        let held = self.sources.entry(source).or_insert_with(|| Held {
            connections: BTreeSet::new(),
            calls: 0,
            memory: 0,
            handshakes: Bucket::full(rate, Instant::now()),
        });
        self.by_connections.remove(&(held.connections.len(), source));
        self.by_memory.remove(&(held.memory, source));
        held
    }

    fn rank(&mut self, source: Source) {
        let Some(held) = self.sources.get(&source) else { return };
        if !held.connections.is_empty() {
            self.by_connections.insert((held.connections.len(), source));
        }
        if held.memory > 0 {
            self.by_memory.insert((held.memory, source));
        }
    }

    /// Puts a connection among those of its source.
    fn join_source(&mut self, id: u64, source: Source, calls: usize, memory: usize) {
        let held = self.unranked(source);
        held.connections.insert(id);
        held.calls += calls;
        held.memory += memory;
        self.total_memory += memory;
        self.rank(source);
    }

    /// Takes a connection out of its source or identity.
    fn part(&mut self, id: u64, entry: &Entry) {
        if let Some(identity) = &entry.identity {
            if let Some(members) = self.identities.get_mut(identity) {
                members.remove(&id);
                if members.is_empty() {
                    self.identities.remove(identity);
                }
            }
            return;
        }
        let held = self.unranked(entry.source);
        held.connections.remove(&id);
        held.calls -= entry.calls;
        held.memory -= entry.memory;
        self.total_memory -= entry.memory;
        self.rank(entry.source);
    }

    fn close(&mut self, id: u64) {
        if let Some(entry) = self.entries.remove(&id) {
            self.part(id, &entry);
            entry.signal.close();
        }
    }

    /// The oldest unproved connection of a source; with `holding`, of those that hold calls or memory.
    fn oldest(&self, source: Source, holding: bool) -> Option<u64> {
        let held = self.sources.get(&source)?;
        let holds = |id: &&u64| self.entries.get(id).is_some_and(|entry| entry.calls > 0 || entry.memory > 0);
        held.connections.iter().find(|id| !holding || holds(id)).copied()
    }

    /// Closes who must give way until calls and memory of unproved connections have room again.
    fn make_room(&mut self, source: Source, turned_away: &TurnedAway) {
        loop {
            let held = self.sources.get(&source);
            let over = held.and_then(|held| {
                let memory = (held.memory > self.room.memory).then_some(Limit::Memory);
                memory.or_else(|| (held.calls > self.room.calls).then_some(Limit::OpenCalls))
            });
            let from = match over {
                Some(limit) => Some((limit, source)),
                None if self.total_memory > self.room.total_memory => {
                    self.by_memory.last().map(|(_, greediest)| (Limit::Memory, *greediest))
                }
                None => None,
            };
            let Some((limit, from)) = from else { return };
            let Some(oldest) = self.oldest(from, true) else { return };
            turned_away.note(limit);
            self.close(oldest);
        }
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
            sources: HashMap::new(),
            identities: HashMap::new(),
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
        if table.sources.len() > MOST_SOURCES {
            let at_rest = |held: &mut Held| {
                held.handshakes.fill(room.handshakes, now);
                held.connections.is_empty() && held.handshakes.tokens >= f64::from(room.handshakes.burst.get())
            };
            table.sources.retain(|_, held| !at_rest(held));
        }
        let allowed = table.unranked(source).handshakes.take(room.handshakes, now);
        table.rank(source);
        if !allowed {
            self.turned_away.note(Limit::Handshakes);
            return Err(NotLetIn::Handshakes);
        }
        let held = table.sources.get(&source).map_or(0, |held| held.connections.len());
        if held >= room.per_source
            && let Some(oldest) = table.oldest(source, false)
        {
            self.turned_away.note(Limit::SourceConnections);
            table.close(oldest);
        }
        if table.entries.len() >= room.connections {
            let most = table.by_connections.last().map(|(_, source)| *source);
            let Some(oldest) = most.and_then(|source| table.oldest(source, false)) else {
                // It comes again.
                table.unranked(source).handshakes.tokens += 1.0;
                table.rank(source);
                self.turned_away.note(Limit::Connections);
                return Err(NotLetIn::Full);
            };
            self.turned_away.note(Limit::Connections);
            table.close(oldest);
        }
        let id = table.next;
        table.next += 1;
        let signal = Arc::<Signal>::default();
        let entry = Entry { source, identity: None, calls: 0, memory: 0, signal: Arc::clone(&signal) };
        table.entries.insert(id, entry);
        table.join_source(id, source, 0, 0);
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
        let Some(mut entry) = table.entries.remove(&self.id) else { return };
        table.part(self.id, &entry);
        let burst = f64::from(table.room.handshakes.burst.get());
        let handshakes = &mut table.unranked(self.source).handshakes;
        handshakes.tokens = (handshakes.tokens + 1.0).min(burst);
        table.rank(self.source);
        let name =
            table.identities.get_key_value(identity).map_or_else(|| Arc::from(identity), |(name, _)| name.clone());
        let members = table.identities.entry(Arc::clone(&name)).or_default();
        members.insert(self.id);
        let (oldest, many) = (members.first().copied(), members.len());
        let oldest = oldest.filter(|_| many > table.room.per_identity);
        entry.identity = Some(name);
        table.entries.insert(self.id, entry);
        if let Some(oldest) = oldest {
            self.connections.turned_away.note(Limit::IdentityConnections);
            table.close(oldest);
        }
    }

    /// A request on this connection did not authenticate: it counts as unproved again.
    pub fn lapse(&self) {
        if !self.proved.swap(false, Ordering::AcqRel) {
            return;
        }
        let mut table = self.connections.lock();
        let Some(mut entry) = table.entries.remove(&self.id) else { return };
        table.part(self.id, &entry);
        entry.identity = None;
        table.join_source(self.id, self.source, entry.calls, entry.memory);
        table.entries.insert(self.id, entry);
        table.make_room(self.source, &self.connections.turned_away);
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
        let proved = entry.identity.is_some();
        // Whoever has proved itself may use all calls that HTTP/2 allows it, and as much memory as these need.
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
        if !proved {
            let held = table.unranked(self.source);
            held.calls += calls;
            held.memory += bytes;
            table.total_memory += bytes;
            table.rank(self.source);
            table.make_room(self.source, &self.connections.turned_away);
        }
        Ok(())
    }

    fn discharge(&self, calls: usize, bytes: usize) {
        let mut table = self.connections.lock();
        let Some(entry) = table.entries.get_mut(&self.id) else { return };
        entry.calls -= calls;
        entry.memory -= bytes;
        if entry.identity.is_none() {
            let held = table.unranked(self.source);
            held.calls -= calls;
            held.memory -= bytes;
            table.total_memory -= bytes;
            table.rank(self.source);
        }
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
        if let Some(entry) = table.entries.remove(&self.id) {
            table.part(self.id, &entry);
        }
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
