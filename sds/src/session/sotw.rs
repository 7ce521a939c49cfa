//! State of the world: the client repeats its whole subscription in every request, the server sends what changed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::acknowledgement::{Acknowledgement, LastAnswers};
use super::message::{Event, InvalidRequest, Outcome, REFETCH_PAUSE, Request, Response, WILDCARD, check};
use super::sent::{SentResponses, SentSecret};
use crate::snapshot::{Name, SecretContent, Snapshot, Version, Versioned};

/// The longest version that a client may hold from an earlier stream, in bytes; ours are shorter.
const MAX_VERSION: usize = 64;

/// One stream. Times are durations since the stream began, given by the caller.
#[derive(Debug)]
pub struct Sotw {
    /// Makes nonces unique across streams, so that one from another stream is seen to be stale (rule 2).
    prefix: String,
    /// `None` until the first request.
    subscription: Option<Subscription>,
    sent: SentResponses,
    /// What was sent last of each subscribed name, applied or not: content that the client refused is not sent again
    /// (rules 5 and 21). And whether it was a fallback for such content, not the newest.
    last_sent: BTreeMap<Name, (Version, bool)>,
    /// The version that the client says it holds from an earlier stream.
    held_before: String,
    refetch: Refetch,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Subscription {
    /// The first request named nothing (rule 8), or `*` was among the names, as newer clients may write it.
    Everything {
        /// By `*`: then a request without names means nothing.
        named: bool,
    },
    Names(BTreeSet<Name>),
}

impl Subscription {
    /// What a request without names means depends on what was before.
    fn of(names: &[String], before: Option<&Self>) -> Self {
        match before {
            None | Some(Self::Everything { named: false }) if names.is_empty() => Self::Everything { named: false },
            _ if names.iter().any(|name| name == WILDCARD) => Self::Everything { named: true },
            _ => Self::Names(names.iter().map(|name| Arc::from(name.as_str())).collect()),
        }
    }

    fn is_same(&self, other: &Self) -> bool {
        matches!((self, other), (Self::Everything { .. }, Self::Everything { .. })) || self == other
    }
}

/// Answers to repeated requests: when the next may go out, and whether one is owed.
#[derive(Debug, Default)]
struct Refetch {
    allowed_at: Duration,
    owed: bool,
}

impl Sotw {
    /// A stream that has seen nothing yet; `prefix` differs for every stream of the process.
    #[must_use]
    pub fn new(prefix: impl Into<String>) -> Self {
        Self {
            prefix: prefix.into(),
            subscription: None,
            sent: SentResponses::default(),
            last_sent: BTreeMap::new(),
            held_before: String::new(),
            refetch: Refetch::default(),
        }
    }

    /// Takes a request. `snapshot` is the newest one.
    ///
    /// # Errors
    /// [`InvalidRequest`]: the stream must be closed with it. An unknown name is no reason to (rule 19).
    pub fn on_request(
        &mut self,
        request: &Request<'_>,
        snapshot: &Snapshot,
        now: Duration,
    ) -> Result<Outcome, InvalidRequest> {
        check(request)?;
        let wanted = Subscription::of(request.names, self.subscription.as_ref());
        let Some(current) = &self.subscription else {
            // Whatever nonce or version a client brings from another stream says nothing here (rules 1 and 2). It is
            // answered even if it holds the current version: sending it again is harmless, withholding it is not.
            self.subscription = Some(wanted);
            // None of ours is longer, and the stream would carry it about for as long as it is open.
            if request.version.len() <= MAX_VERSION {
                request.version.clone_into(&mut self.held_before);
            }
            return Ok(Outcome { event: Event::Opened, response: self.send_pending(snapshot) });
        };
        let changed = !current.is_same(&wanted);
        let event = match self.sent.answered(request) {
            Event::StaleNonce => return Ok(Outcome { event: Event::StaleNonce, response: None }),
            Event::Repeated if changed => Event::Subscription,
            event => event,
        };
        if changed {
            self.resubscribe(wanted);
        } else {
            self.subscription = Some(wanted);
        }
        if event == Event::Repeated && self.is_subscribed() {
            self.refetch.owed = true;
        }
        Ok(Outcome { event, response: self.send_if_owed(snapshot, now) })
    }

    /// Takes a new snapshot. Before the first request nothing is ever sent.
    #[must_use]
    pub fn on_snapshot(&mut self, snapshot: &Snapshot) -> Option<Response> {
        self.send_pending(snapshot)
    }

    /// When [`Sotw::on_wake`] wants to be called, if at all.
    #[must_use]
    pub fn wake_at(&self) -> Option<Duration> {
        self.refetch.owed.then_some(self.refetch.allowed_at)
    }

    /// Sends what was put off.
    #[must_use]
    pub fn on_wake(&mut self, snapshot: &Snapshot, now: Duration) -> Option<Response> {
        self.send_if_owed(snapshot, now)
    }

    /// The names the client asks for, known or not; empty for a stream that wants everything or nothing.
    pub fn names(&self) -> impl Iterator<Item = &Name> {
        let names = match &self.subscription {
            Some(Subscription::Names(names)) => Some(names),
            _ => None,
        };
        names.into_iter().flatten()
    }

    /// Whether the client asked for everything.
    #[must_use]
    pub fn wants_everything(&self) -> bool {
        matches!(self.subscription, Some(Subscription::Everything { .. }))
    }

    /// What requests have said about single secrets since the last call.
    pub fn take_acknowledgements(&mut self) -> Vec<Acknowledgement> {
        self.sent.take_acknowledgements()
    }

    /// What the client said last about each secret that it was sent and still asks for.
    #[must_use]
    pub fn last_answers(&self) -> &BTreeMap<Name, LastAnswers> {
        self.sent.last_answers()
    }

    fn is_subscribed(&self) -> bool {
        self.wants_everything() || self.names().next().is_some()
    }

    /// Forgets what was sent of the names that left, so that they are sent again when they come back (rule 6).
    fn resubscribe(&mut self, wanted: Subscription) {
        match &wanted {
            // Every name that was asked for before still is.
            Subscription::Everything { .. } => {}
            Subscription::Names(names) => {
                if self.wants_everything() {
                    // Every name is now an added one.
                    self.last_sent.clear();
                } else {
                    self.last_sent.retain(|name, _| names.contains(name));
                }
                self.sent.retain(|name| names.contains(name));
            }
        }
        self.subscription = Some(wanted);
        if !self.is_subscribed() {
            self.refetch.owed = false;
        }
    }

    fn send_if_owed(&mut self, snapshot: &Snapshot, now: Duration) -> Option<Response> {
        if self.refetch.owed && now >= self.refetch.allowed_at {
            self.refetch = Refetch { owed: false, allowed_at: now + REFETCH_PAUSE };
            self.last_sent.clear();
        }
        self.send_pending(snapshot)
    }

    /// The subscribed secrets whose newest version has not been sent, or, for roots that the client has refused, those
    /// that it applied last. What is not there yet, or no more, is passed over: it is sent when it appears (rule 7), and
    /// removal has no form in this protocol (rule 6).
    fn send_pending(&mut self, snapshot: &Snapshot) -> Option<Response> {
        let newest: Vec<(&Name, &Arc<Versioned>)> = match self.subscription.as_ref()? {
            Subscription::Everything { .. } => snapshot.iter().collect(),
            Subscription::Names(names) => snapshot.iter().filter(|(name, _)| names.contains(*name)).collect(),
        };
        // Bytes that only programs understand are asked for by one of ours, which keeps by itself what it had.
        let is_generic = |secret: &Versioned| matches!(secret.content(), SecretContent::Generic(_));
        let goes_back = !newest.iter().any(|(_, secret)| is_generic(secret));
        let secret = |(name, newest): (&Name, &Arc<Versioned>)| {
            let older = self.sent.fallback(name, newest.version()).filter(|_| goes_back);
            let (secret, is_fallback) = (older.unwrap_or(newest), older.is_some());
            // Never to an older certificate: it would end sooner, and its key would have to be kept.
            let is_roots = matches!(secret.content(), SecretContent::Validation(_));
            let content = is_roots.then(|| Arc::clone(secret));
            SentSecret { name: Arc::clone(name), version: secret.version(), content, is_fallback }
        };
        let all: Vec<SentSecret> = newest.into_iter().map(secret).collect();
        let set = Version::of_set(all.iter().map(|secret| (&*secret.name, secret.version)));
        let what = |secret: &SentSecret| (secret.version, secret.is_fallback);
        let last_sent: Vec<_> = all.iter().map(|secret| (Arc::clone(&secret.name), what(secret))).collect();
        let is_pending = |secret: &SentSecret| self.last_sent.get(&secret.name) != Some(&what(secret));
        let pending: Vec<SentSecret> = all.into_iter().filter(is_pending).collect();
        if pending.is_empty() {
            return None;
        }
        if self.wants_everything() {
            self.last_sent.clear();
            self.sent.retain(|name| snapshot.secret(name).is_some());
        }
        self.last_sent.extend(last_sent);
        let version = set.to_string();
        let is_new_to_client = goes_back && self.sent.count() == 0 && version != self.held_before;
        self.held_before = String::new();
        let nonce = format!("{}-{}", self.prefix, self.sent.count() + 1);
        let names = pending.iter().map(|secret| Arc::clone(&secret.name)).collect();
        let fallbacks = pending.iter().filter(|secret| secret.is_fallback);
        let older = fallbacks.filter_map(|secret| Some((Arc::clone(&secret.name), secret.content.clone()?))).collect();
        self.sent.push(nonce.clone(), version, pending);
        Some(Response { version: set, nonce, names, older, is_new_to_client })
    }
}
