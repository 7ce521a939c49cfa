//! One client in the ledger: what it asks for, what it was sent and what it said.

use std::collections::BTreeMap;
use std::sync::Arc;

use time::OffsetDateTime;
use tokio::time::Instant;

use super::observer::AcknowledgementListener;
use crate::session::{Answer, LastAnswers, Sotw, printable};
use crate::snapshot::{Name, Version};

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
    /// Those of them that are not served, now or later: the client waits for them in vain.
    pub unserved: Vec<Name>,
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
    /// What the client said last about each secret that was sent and is still asked for.
    pub last_answers: BTreeMap<Name, LastAnswers>,
}

impl StreamView {
    pub(super) fn opened(peer: &str, connected_at: OffsetDateTime) -> Self {
        Self {
            peer: printable(peer),
            connected_at,
            node_id: String::new(),
            everything: false,
            names: Vec::new(),
            unserved: Vec::new(),
            acked_version: String::new(),
            pushes: 0,
            acks: 0,
            nacks: 0,
            last_nack: None,
            last_answers: BTreeMap::new(),
        }
    }

    pub(super) fn wants(&self, secret: &str) -> bool {
        self.everything || self.names.iter().any(|name| **name == *secret)
    }

    /// What the client said about this content of the secret; `None` while that is pending.
    pub(super) fn answer(&self, secret: &str, version: Version) -> Option<Answer> {
        self.last_answers.get(secret)?.about(version)
    }

    /// Takes over which of the names that the client asks for are not served, in their order; gives those that it did not ask
    /// for before.
    pub(super) fn ask_in_vain(&mut self, unserved: Vec<Name>) -> Vec<Name> {
        let new = unserved.iter().filter(|name| self.unserved.binary_search(name).is_err()).cloned().collect();
        self.unserved = unserved;
        new
    }

    /// Takes over what the client asks for and what it said; gives whether it asks for something else now.
    pub(super) fn note(&mut self, session: &Sotw) -> bool {
        let everything = session.wants_everything();
        let changed = self.everything != everything || !self.names.iter().eq(session.names());
        if changed {
            self.everything = everything;
            self.names = session.names().cloned().collect();
        }
        self.last_answers.clone_from(session.last_answers());
        changed
    }
}

/// A client with what is not for people.
pub(super) struct Client {
    pub(super) view: StreamView,
    /// By the monotonic clock.
    pub(super) opened: Instant,
    pub(super) listener: Option<Arc<dyn AcknowledgementListener>>,
}
