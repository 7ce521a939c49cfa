//! The ledger of acknowledgements: who is connected, what everybody was sent, and what was said about it. It is shown to people
//! as [`StreamView`], counted by an [`Observer`], told to an [`AcknowledgementListener`] as it comes, and summed up by
//! [`Ledger::aggregate`] for whoever speaks for all clients together.

mod aggregate;
mod client;
mod observer;
mod unserved;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use signet_core::clock::SharedClock;
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::time::Instant;

use self::aggregate::Absent;
pub use self::aggregate::Aggregate;
use self::client::Client;
pub use self::client::StreamView;
pub use self::observer::{AcknowledgementListener, Observer};
use self::unserved::Told;
pub(crate) use self::unserved::not_served;
use crate::session::{Acknowledgement, Answer, Event, LastAnswers, Response, Sotw, printable};
use crate::snapshot::{Name, Snapshot, Version};

struct Clients {
    /// The number of the next one.
    next: u64,
    connected: BTreeMap<u64, Client>,
    absent: Absent,
}

/// The ledger; clones share it.
#[derive(Clone)]
pub struct Ledger {
    clients: Arc<Mutex<Clients>>,
    max_streams: usize,
    clock: SharedClock,
    observer: Arc<dyn Observer>,
    /// Counts what [`Ledger::aggregate`] depends on.
    changes: Arc<watch::Sender<u64>>,
}

impl Ledger {
    /// A ledger of at most `max_streams` streams at a time.
    #[must_use]
    pub fn new(max_streams: usize, clock: SharedClock, observer: Arc<dyn Observer>) -> Self {
        let absent = Absent::new(Duration::ZERO, Instant::now());
        let clients = Arc::new(Mutex::new(Clients { next: 0, connected: BTreeMap::new(), absent }));
        Self { clients, max_streams, clock, observer, changes: Arc::default() }
    }

    /// Clients may take this long to come, from now on and after each end of a stream: until then content is pending
    /// without them. Zero, as it is without this call: nobody is waited for.
    #[must_use]
    pub fn with_grace(self, grace: Duration) -> Self {
        self.lock().absent = Absent::new(grace, Instant::now());
        self
    }

    /// The clients that are connected now, oldest first.
    #[must_use]
    pub fn views(&self) -> Vec<StreamView> {
        self.lock().connected.values().map(|client| client.view.clone()).collect()
    }

    /// The most streams at a time.
    #[must_use]
    pub fn max_streams(&self) -> usize {
        self.max_streams
    }

    /// What everybody who asks for the secret `name`, or for everything, says about this content of it: all clients that are
    /// connected, and those that left without it no longer ago than the grace, unless the same node has applied it since.
    /// Within the grace after the start somebody must have applied it.
    ///
    /// Also gives when to ask again if nothing changes until then.
    #[must_use]
    pub fn aggregate(&self, name: &str, version: Version) -> (Aggregate, Option<Instant>) {
        let clients = self.lock();
        clients.absent.aggregate(clients.connected.values(), name, version, Instant::now())
    }

    /// Marked as changed whenever [`Ledger::aggregate`] may be another one. Subscribe before asking.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Tells the listeners of all open streams that have applied this content once more: what it stands for may have changed
    /// although the content has not, so that nothing is sent and nobody will say anything.
    pub fn repeat(&self, name: &Name, version: Version) {
        let acknowledgement = Acknowledgement { name: Arc::clone(name), version, answer: Answer::Ack };
        let ids: Vec<u64> = self.lock().connected.keys().copied().collect();
        for id in ids {
            // Nobody is told under the lock: the last to let go of a listener may have locks of its own to take.
            let listener = self.lock().connected.get(&id).and_then(|client| {
                let listener = client.listener.as_ref()?;
                (client.view.answer(name, version)? == Answer::Ack).then(|| Arc::clone(listener))
            });
            if let Some(listener) = listener {
                listener.heard(&acknowledgement);
            }
        }
    }

    /// Enters a client in this process that asks for one secret, without a stream; shown to people as `who`.
    #[must_use]
    pub fn enter_local(&self, who: &str, name: impl Into<Name>) -> LocalClient {
        let name = name.into();
        let view = StreamView { names: vec![Arc::clone(&name)], ..StreamView::opened(who, self.clock.now()) };
        let id = self.lock().add(Client { view, opened: Instant::now(), listener: None });
        self.changed();
        LocalClient { id, ledger: self.clone(), name }
    }

    /// Enters a stream, or gives `None` when there are too many.
    pub(crate) fn enter(&self, peer: &str, listener: Option<Arc<dyn AcknowledgementListener>>) -> Option<OpenStream> {
        let connected_at = self.clock.now();
        let mut clients = self.lock();
        if clients.connected.len() >= self.max_streams {
            return None;
        }
        let view = StreamView::opened(peer, connected_at);
        let id = clients.add(Client { view, opened: Instant::now(), listener: listener.clone() });
        drop(clients);
        self.observer.opened();
        Some(OpenStream { id, connected_at, ledger: self.clone(), listener, told: Told::default() })
    }

    /// Counts names that were asked for without a stream and that are not served.
    pub(crate) fn count_unserved(&self, names: usize) {
        (0..names).for_each(|_| self.observer.unserved());
    }

    fn update<T: Default>(&self, id: u64, change: impl FnOnce(&mut StreamView) -> T) -> T {
        self.lock().connected.get_mut(&id).map(|client| change(&mut client.view)).unwrap_or_default()
    }

    fn leave(&self, id: u64) {
        let mut clients = self.lock();
        let left = clients.connected.remove(&id);
        let listener = left.and_then(|mut client| {
            let listener = client.listener.take();
            clients.absent.add(client, Instant::now());
            listener
        });
        drop(clients);
        drop(listener);
        self.changed();
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    fn lock(&self) -> MutexGuard<'_, Clients> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clients {
    fn add(&mut self, client: Client) -> u64 {
        let id = self.next;
        self.next += 1;
        self.connected.insert(id, client);
        id
    }
}

/// The place of one stream in the ledger; leaves it when dropped.
pub(crate) struct OpenStream {
    id: u64,
    connected_at: OffsetDateTime,
    ledger: Ledger,
    listener: Option<Arc<dyn AcknowledgementListener>>,
    /// What the log was told of names that are not served.
    told: Told,
}

impl OpenStream {
    /// Its number, which no other stream of this ledger has ever had.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn opened_at(&self) -> OffsetDateTime {
        self.connected_at
    }

    /// Notes what a request meant; `version` and `node`, the first of which counts, are those that it carried. `snapshot`
    /// is the newest one.
    pub(crate) fn requested(
        &mut self,
        (event, version, node): (&Event, &str, Option<&str>),
        session: &mut Sotw,
        snapshot: &Snapshot,
    ) {
        let now = self.ledger.clock.now();
        let acknowledgements = session.take_acknowledgements();
        let unserved: Vec<Name> = session.names().filter(|name| !snapshot.serves(name)).cloned().collect();
        let answer = match event {
            Event::Answered(answer) => Some(answer),
            // An answer to a superseded response counts too; it is only not replied to.
            _ => acknowledgements.first().map(|acknowledgement| &acknowledgement.answer),
        };
        let (asks_for_others, who, new) = self.ledger.update(self.id, |view| {
            if let Some(node) = node.filter(|_| view.node_id.is_empty()) {
                view.node_id = printable(node);
            }
            if *event == Event::Answered(Answer::Ack) {
                view.acked_version = printable(version);
            }
            match answer {
                Some(Answer::Ack) => view.acks += 1,
                Some(Answer::Nack(text)) => {
                    view.nacks += 1;
                    view.last_nack = Some((text.clone(), now));
                }
                None => {}
            }
            let new = view.ask_in_vain(unserved);
            let is_told = matches!(answer, Some(Answer::Nack(_))) || !new.is_empty();
            let who = is_told.then(|| (view.peer.clone(), view.node_id.clone()));
            (view.note(session), who, new)
        });
        let (peer, node) = who.unwrap_or_default();
        self.ledger.count_unserved(new.len());
        self.told.tell(&new, (&peer, &node), snapshot);
        if asks_for_others || !acknowledgements.is_empty() {
            self.ledger.changed();
        }
        match answer {
            Some(Answer::Ack) => self.ledger.observer.acknowledged(),
            Some(Answer::Nack(error)) => {
                self.ledger.observer.refused();
                tracing::warn!(
                    peer.addr = peer,
                    node.id = node,
                    error,
                    "an SDS client refused a secret and keeps its old one"
                );
            }
            None => {}
        }
        for acknowledgement in &acknowledgements {
            if let Some(listener) = &self.listener {
                listener.heard(acknowledgement);
            }
        }
    }

    pub(crate) fn pushed(&self, response: &Response) {
        self.ledger.update(self.id, |view| view.pushes += 1);
        self.ledger.observer.pushed();
        tracing::debug!(stream = self.id, secrets = response.names.len(), version = %response.version, "secrets sent");
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.ledger.leave(self.id);
        self.ledger.observer.closed();
    }
}

/// A client without a stream; leaves the ledger when dropped.
pub struct LocalClient {
    id: u64,
    ledger: Ledger,
    name: Name,
}

impl LocalClient {
    /// It has applied this content of its secret.
    pub fn acknowledge(&self, version: Version) {
        self.ledger.update(self.id, |view| {
            view.last_answers.insert(Arc::clone(&self.name), LastAnswers::ack(version));
        });
        self.ledger.changed();
    }
}

impl Drop for LocalClient {
    fn drop(&mut self) {
        self.ledger.leave(self.id);
    }
}
