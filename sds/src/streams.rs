//! Which clients are connected and what they said: for people to look at, and for metrics by way of [`Observer`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use signet_core::clock::SharedClock;
use time::OffsetDateTime;

use crate::session::{Event, Response, Sotw};
use crate::snapshot::Name;

/// The longest text of a client that is kept, in characters.
const MAX_TEXT: usize = 512;

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
    /// The names asked for, as the client wrote them; `*` stands for everything.
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
}

type Views = BTreeMap<u64, StreamView>;

/// The registry of connected streams; clones share it.
#[derive(Clone)]
pub struct Streams {
    views: Arc<Mutex<Views>>,
    max: usize,
    clock: SharedClock,
    observer: Arc<dyn Observer>,
}

impl Streams {
    /// A registry for at most `max` streams at a time.
    #[must_use]
    pub fn new(max: usize, clock: SharedClock, observer: Arc<dyn Observer>) -> Self {
        Self { views: Arc::default(), max, clock, observer }
    }

    /// The streams that are open now, oldest first.
    #[must_use]
    pub fn views(&self) -> Vec<StreamView> {
        self.lock().values().cloned().collect()
    }

    /// The most streams at a time.
    #[must_use]
    pub fn max(&self) -> usize {
        self.max
    }

    /// Enters a stream, or gives `None` when there are too many. `id` is unique in the process.
    pub(crate) fn enter(&self, id: u64, peer: String) -> Option<Entry> {
        let connected_at = self.clock.now();
        let mut views = self.lock();
        if views.len() >= self.max {
            return None;
        }
        let view = StreamView {
            peer: printable(&peer),
            connected_at,
            node_id: String::new(),
            names: Vec::new(),
            acked_version: String::new(),
            pushes: 0,
            acks: 0,
            nacks: 0,
            last_nack: None,
        };
        views.insert(id, view);
        drop(views);
        self.observer.opened();
        Some(Entry { id, streams: self.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, Views> {
        self.views.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of one stream in the registry; leaves it when dropped.
pub(crate) struct Entry {
    id: u64,
    streams: Streams,
}

impl Entry {
    fn update(&self, change: impl FnOnce(&mut StreamView)) {
        if let Some(view) = self.streams.lock().get_mut(&self.id) {
            change(view);
        }
    }

    pub(crate) fn node(&self, id: &str) {
        self.update(|view| view.node_id = printable(id));
    }

    /// Notes what a request meant; `version` is the one it carried.
    pub(crate) fn requested(&self, event: &Event, version: &str, session: &Sotw) {
        let now = self.streams.clock.now();
        let names: Vec<Name> =
            if session.wants_everything() { vec!["*".into()] } else { session.names().cloned().collect() };
        self.update(|view| {
            view.names = names;
            match event {
                Event::Acknowledged => {
                    view.acks += 1;
                    view.acked_version = printable(version);
                }
                Event::Refused(error) => {
                    view.nacks += 1;
                    view.last_nack = Some((printable(error), now));
                }
                _ => {}
            }
        });
        match event {
            Event::Acknowledged => self.streams.observer.acknowledged(),
            Event::Refused(error) => {
                self.streams.observer.refused();
                let (peer, node) = self.who();
                let error = printable(error);
                tracing::warn!(
                    peer.addr = peer,
                    node.id = node,
                    error,
                    "an SDS client refused a secret and keeps its old one"
                );
            }
            _ => {}
        }
    }

    pub(crate) fn pushed(&self, response: &Response) {
        self.update(|view| view.pushes += 1);
        self.streams.observer.pushed();
        tracing::debug!(stream = self.id, secrets = response.names.len(), version = %response.version, "secrets sent");
    }

    fn who(&self) -> (String, String) {
        self.streams.lock().get(&self.id).map(|view| (view.peer.clone(), view.node_id.clone())).unwrap_or_default()
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.streams.lock().remove(&self.id);
        self.streams.observer.closed();
    }
}

/// Text from outside, bounded and without anything that steers a terminal or breaks a log line.
fn printable(text: &str) -> String {
    text.chars().take(MAX_TEXT).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
