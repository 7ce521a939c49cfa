//! The table of connections: who owns each, what each owner holds, and who has to give way.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::task::AtomicWaker;
use tokio::time::Instant;

use crate::client_address::Source;
use crate::config::Rate;
use crate::over_limit::{Limit, TurnedAway};

/// Sources that are remembered for the rate of their handshakes; those at rest are forgotten beyond it.
pub(super) const MOST_SOURCES: usize = 100_000;

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
    /// Bytes of such calls of one source. One identity, which many workloads may share, has four times as much of
    /// both.
    pub memory: usize,
    /// The same on one connection.
    pub memory_per_connection: usize,
    /// The same of all sources together.
    pub total_memory: usize,
}

/// A token bucket that can be given back to.
#[derive(Debug)]
pub(super) struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    pub(super) fn full(rate: Rate, now: Instant) -> Self {
        Self { tokens: f64::from(rate.burst.get()), at: now }
    }

    pub(super) fn fill(&mut self, rate: Rate, now: Instant) {
        let gained = now.saturating_duration_since(self.at).as_secs_f64() * f64::from(rate.per_second.get());
        *self = Self { tokens: (self.tokens + gained).min(f64::from(rate.burst.get())), at: now };
    }

    pub(super) fn take(&mut self, rate: Rate, now: Instant) -> bool {
        self.fill(rate, now);
        let has = self.tokens >= 1.0;
        if has {
            self.tokens -= 1.0;
        }
        has
    }

    pub(super) fn give(&mut self, rate: Rate) {
        self.tokens = (self.tokens + 1.0).min(f64::from(rate.burst.get()));
    }

    pub(super) fn is_full(&mut self, rate: Rate, now: Instant) -> bool {
        self.fill(rate, now);
        self.tokens >= f64::from(rate.burst.get())
    }
}

/// Whose a connection is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Owner {
    /// Unproved: that of where it comes from.
    Source(Source),
    /// Proved.
    Identity(Arc<str>),
}

/// What one owner holds.
#[derive(Default)]
pub(super) struct Held {
    pub(super) connections: BTreeSet<u64>,
    pub(super) calls: usize,
    pub(super) memory: usize,
}

/// One connection.
pub(super) struct ConnectionEntry {
    pub(super) owner: Owner,
    pub(super) calls: usize,
    pub(super) memory: usize,
    pub(super) signal: Arc<Signal>,
}

/// How a connection learns what became of it.
#[derive(Default)]
pub(super) struct Signal {
    pub(super) closing: AtomicBool,
    pub(super) waker: AtomicWaker,
}

impl Signal {
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.waker.wake();
    }
}

pub(super) struct Table {
    pub(super) room: Room,
    pub(super) entries: HashMap<u64, ConnectionEntry>,
    pub(super) owners: HashMap<Owner, Held>,
    pub(super) handshakes: HashMap<Source, Bucket>,
    /// Sources by how many unproved connections they hold, and owners by how much memory: the greediest gives way.
    pub(super) by_connections: BTreeSet<(usize, Source)>,
    pub(super) by_memory: BTreeSet<(usize, Owner)>,
    pub(super) total_memory: usize,
    pub(super) next: u64,
}

impl Table {
    pub(super) fn new(room: Room) -> Self {
        Self {
            room,
            entries: HashMap::new(),
            owners: HashMap::new(),
            handshakes: HashMap::new(),
            by_connections: BTreeSet::new(),
            by_memory: BTreeSet::new(),
            total_memory: 0,
            next: 0,
        }
    }

    /// Changes what an owner holds, and its ranks with it.
    pub(super) fn change(&mut self, owner: &Owner, change: impl FnOnce(&mut Held)) {
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

    pub(super) fn join(&mut self, id: u64, entry: ConnectionEntry) {
        let (owner, calls, memory) = (entry.owner.clone(), entry.calls, entry.memory);
        self.change(&owner, |held| {
            held.connections.insert(id);
            held.calls += calls;
            held.memory += memory;
        });
        self.entries.insert(id, entry);
    }

    pub(super) fn part(&mut self, id: u64) -> Option<ConnectionEntry> {
        let entry = self.entries.remove(&id)?;
        self.change(&entry.owner, |held| {
            held.connections.remove(&id);
            held.calls -= entry.calls;
            held.memory -= entry.memory;
        });
        Some(entry)
    }

    pub(super) fn close(&mut self, id: u64) {
        if let Some(entry) = self.part(id) {
            entry.signal.close();
        }
    }

    /// The oldest connection of an owner; with `holding`, of those that hold calls or memory.
    pub(super) fn oldest(&self, owner: &Owner, holding: bool) -> Option<u64> {
        let held = self.owners.get(owner)?;
        let holds = |id: &&u64| self.entries.get(id).is_some_and(|entry| entry.calls > 0 || entry.memory > 0);
        held.connections.iter().find(|id| !holding || holds(id)).copied()
    }

    /// The limit that an owner is over with its connections, or with calls that have not arrived.
    pub(super) fn over(&self, owner: &Owner) -> Option<(Limit, bool)> {
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
    pub(super) fn make_room(&mut self, owner: &Owner, turned_away: &TurnedAway) {
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

    pub(super) fn bucket(&mut self, source: Source, now: Instant) -> &mut Bucket {
        let rate = self.room.handshakes;
        self.handshakes.entry(source).or_insert_with(|| Bucket::full(rate, now))
    }
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
