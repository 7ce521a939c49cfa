//! Which clients are connected and what they said: for people to look at, and for metrics by way of [`Observer`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use signet_core::clock::SharedClock;
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::session::{Answer, Event, Response, Sotw, Standing, printable};
pub use crate::settling::Settled;
use crate::settling::{Absence, Timed};
use crate::snapshot::{Name, Version};

/// Is told what happens, to count it. Calls are short and come from many tasks.
pub trait Observer: Send + Sync + 'static {
    /// A stream was opened.
    fn opened(&self) {}
    /// A stream has ended.
    fn closed(&self) {}
    /// A response was handed to the transport.
    fn pushed(&self) {}
    /// A client applied a response.
    fn acknowledged(&self) {}
    /// A client could not apply a response.
    fn refused(&self) {}
}

/// Is told what becomes of one stream. Calls are short and come from the stream's own task, in order.
pub trait StreamListener: Send + Sync + 'static {
    /// The client has applied this content of the secret: [`Versioned::version`](crate::snapshot::Versioned::version)
    /// of what it was sent. Told once per content, and again after a refusal.
    fn applied(&self, name: &str, version: Version);
    /// The client cannot apply this content of the secret and says why (bounded, without control characters).
    fn refused(&self, name: &str, version: Version, text: &str);
    /// The stream has ended; nothing follows.
    fn closed(&self) {}
}

/// Listens to nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoListener;

impl StreamListener for NoListener {
    fn applied(&self, _: &str, _: Version) {}
    fn refused(&self, _: &str, _: Version, _: &str) {}
}

/// Counts nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoObserver;

impl Observer for NoObserver {}

/// What is known about one connected stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamView {
    /// Who is at the other end, as the transport knows it.
    pub peer: String,
    /// When the stream was opened.
    pub connected_at: OffsetDateTime,
    /// The node's id from the first request (rule 1), empty until then.
    pub node_id: String,
    /// Whether the client asked for everything; there are no names then.
    pub everything: bool,
    /// The names asked for, as the client wrote them.
    pub names: Vec<Name>,
    /// The newest version the client applied, empty if none.
    pub acked_version: String,
    /// Responses sent.
    pub pushes: u64,
    /// Responses applied.
    pub acks: u64,
    /// Responses refused.
    pub nacks: u64,
    /// The newest refusal and when it came; kept when a later response is applied.
    pub last_nack: Option<(String, OffsetDateTime)>,
    /// What became of each secret that was sent and is still asked for.
    pub standing: BTreeMap<Name, Standing>,
}

impl StreamView {
    pub(crate) fn opened(peer: &str, connected_at: OffsetDateTime) -> Self {
        Self {
            peer: printable(peer),
            connected_at,
            node_id: String::new(),
            everything: false,
            names: Vec::new(),
            acked_version: String::new(),
            pushes: 0,
            acks: 0,
            nacks: 0,
            last_nack: None,
            standing: BTreeMap::new(),
        }
    }

    pub(crate) fn wants(&self, secret: &str) -> bool {
        self.everything || self.names.iter().any(|name| **name == *secret)
    }

    /// Takes over what the client asks for and where it stands; gives whether it asks for something else now.
    pub(crate) fn note(&mut self, session: &Sotw) -> bool {
        let everything = session.wants_everything();
        let changed = self.everything != everything || !self.names.iter().eq(session.names());
        if changed {
            self.everything = everything;
            self.names = session.names().cloned().collect();
        }
        self.standing.clone_from(session.standing());
        changed
    }
}

struct Registry {
    open: BTreeMap<u64, Timed>,
    absence: Absence,
}

/// The registry of connected streams; clones share it.
#[derive(Clone)]
pub struct Streams {
    registry: Arc<Mutex<Registry>>,
    max: usize,
    clock: SharedClock,
    observer: Arc<dyn Observer>,
    /// Counts what [`Streams::settled`] depends on.
    changes: Arc<watch::Sender<u64>>,
}

impl Streams {
    /// A registry for at most `max` streams at a time.
    #[must_use]
    pub fn new(max: usize, clock: SharedClock, observer: Arc<dyn Observer>) -> Self {
        let registry = Registry { open: BTreeMap::new(), absence: Absence::new(Duration::ZERO, Instant::now()) };
        Self { registry: Arc::new(Mutex::new(registry)), max, clock, observer, changes: Arc::default() }
    }

    /// Clients may take this long to come, from now on and after each end of a stream: until then content is not
    /// settled without them. Zero, as it is without this call: nobody is waited for.
    #[must_use]
    pub fn with_grace(self, grace: Duration) -> Self {
        self.lock().absence = Absence::new(grace, Instant::now());
        self
    }

    /// The streams that are open now, oldest first.
    #[must_use]
    pub fn views(&self) -> Vec<StreamView> {
        self.lock().open.values().map(|stream| stream.view.clone()).collect()
    }

    /// The most streams at a time.
    #[must_use]
    pub fn max(&self) -> usize {
        self.max
    }

    /// Whether everybody who asks for the secret `name`, or for everything, has applied this content of it: all streams
    /// that are open, and those that ended without it no longer ago than the grace, unless the same node has applied it
    /// since. Within the grace after the start somebody must have applied it.
    ///
    /// Also gives when to ask again if nothing changes until then.
    #[must_use]
    pub fn settled(&self, name: &str, version: Version) -> (Settled, Option<Instant>) {
        let registry = self.lock();
        registry.absence.settled(registry.open.values(), name, version, Instant::now())
    }

    /// Marked as changed whenever [`Streams::settled`] may have another answer. Subscribe before asking.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Enters a stream, or gives `None` when there are too many. `id` is unique in the process.
    pub(crate) fn enter(&self, id: u64, peer: &str, listener: Arc<dyn StreamListener>) -> Option<Entry> {
        let connected_at = self.clock.now();
        let mut registry = self.lock();
        if registry.open.len() >= self.max {
            return None;
        }
        let view = StreamView::opened(peer, connected_at);
        registry.open.insert(id, Timed { view, opened: Instant::now() });
        drop(registry);
        self.observer.opened();
        Some(Entry { id, connected_at, streams: self.clone(), listener })
    }

    fn lock(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of one stream in the registry; leaves it when dropped.
pub(crate) struct Entry {
    id: u64,
    connected_at: OffsetDateTime,
    streams: Streams,
    listener: Arc<dyn StreamListener>,
}

impl Entry {
    fn update(&self, change: impl FnOnce(&mut StreamView)) {
        if let Some(stream) = self.streams.lock().open.get_mut(&self.id) {
            change(&mut stream.view);
        }
    }

    pub(crate) fn opened_at(&self) -> OffsetDateTime {
        self.connected_at
    }

    pub(crate) fn node(&self, id: &str) {
        self.update(|view| view.node_id = printable(id));
    }

    /// Notes what a request meant; `version` is the one it carried.
    pub(crate) fn requested(&self, event: &Event, version: &str, session: &mut Sotw) {
        let now = self.streams.clock.now();
        let answers = session.take_answers();
        // An answer to a superseded response counts too; it is only not replied to.
        let refused = match event {
            Event::Refused(error) => Some(printable(error)),
            _ => answers.iter().find_map(|answer| answer.refused.clone()),
        };
        let applied = *event == Event::Acknowledged || (refused.is_none() && !answers.is_empty());
        let mut changed = !answers.is_empty();
        self.update(|view| {
            if *event == Event::Acknowledged {
                view.acked_version = printable(version);
            }
            view.acks += u64::from(applied);
            if let Some(error) = &refused {
                view.nacks += 1;
                view.last_nack = Some((error.clone(), now));
            }
            changed |= view.note(session);
        });
        if changed {
            self.streams.changes.send_modify(|count| *count += 1);
        }
        if applied {
            self.streams.observer.acknowledged();
        }
        if let Some(error) = refused {
            self.streams.observer.refused();
            let (peer, node) = self.who();
            tracing::warn!(
                peer.addr = peer,
                node.id = node,
                error,
                "an SDS client refused a secret and keeps its old one"
            );
        }
        for Answer { name, version, refused } in &answers {
            match refused {
                None => self.listener.applied(name, *version),
                Some(text) => self.listener.refused(name, *version, text),
            }
        }
    }

    pub(crate) fn pushed(&self, response: &Response) {
        self.update(|view| view.pushes += 1);
        self.streams.observer.pushed();
        tracing::debug!(stream = self.id, secrets = response.names.len(), version = %response.version, "secrets sent");
    }

    fn who(&self) -> (String, String) {
        let registry = self.streams.lock();
        let stream = registry.open.get(&self.id);
        stream.map(|Timed { view, .. }| (view.peer.clone(), view.node_id.clone())).unwrap_or_default()
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut registry = self.streams.lock();
        if let Some(stream) = registry.open.remove(&self.id) {
            registry.absence.left(stream, Instant::now());
        }
        drop(registry);
        self.streams.changes.send_modify(|count| *count += 1);
        self.streams.observer.closed();
        self.listener.closed();
    }
}
