//! The table of open connections: whose they are, what those hold that have proved nothing yet, and who gives way.
//!
//! A connection begins as one of its source. With its first authenticated request it becomes one of an identity, and
//! with a request that does not authenticate it falls back. Each owner is limited in connections, in calls whose messages
//! have not arrived and in memory for these; where one more has no room, the oldest connection of that owner is closed. Of
//! the places of all, only those who have proved nothing lose theirs: who means well proves itself within milliseconds and
//! is never the oldest.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use prometheus::IntGauge;
use tokio::sync::Notify;
use tokio::time::Instant;

pub use super::table::Room;
use super::table::{ConnectionEntry, MOST_SOURCES, Owner, Signal, Table};
use crate::client_address::Source;
use crate::over_limit::{Limit, TurnedAway};

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

/// How many connections may be open beyond those that have a place before the next ones are taken more slowly: who has lost a
/// place is closed by a task of its own and keeps a file open until then. That is less than the limit of open files leaves for
/// everything else.
const LEAVING: usize = 64;

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
        let table = Table::new(room);
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
        table.join(id, ConnectionEntry { owner: owner.clone(), calls: 0, memory: 0, signal: Arc::clone(&signal) });
        table.make_room(&owner, &self.turned_away);
        drop(table);
        self.open.inc();
        let (proved, active) = (AtomicBool::new(false), AtomicU64::new(0));
        Ok(Arc::new(Place { id, source, signal, proved, active, since: now, connections: self.clone() }))
    }

    /// Whether many of those who have lost their places are not gone yet.
    #[must_use]
    pub fn are_leaving(&self) -> bool {
        let most = self.lock().room.connections.saturating_add(LEAVING);
        usize::try_from(self.open.get()).is_ok_and(|open| open >= most)
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
        table.join(self.id, ConnectionEntry { owner: owner.clone(), ..entry });
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
        table.join(self.id, ConnectionEntry { owner: owner.clone(), ..entry });
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
