//! State of the world: the client repeats its whole subscription in every request, the server sends what changed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::answers::{Answer as SecretAnswer, Answers, Item, Standing};
use super::{Event, Outcome, REFETCH_PAUSE, Refusal, Request, Response, WILDCARD, check};
use crate::snapshot::{Name, SecretContent, Snapshot, Version, Versioned};

/// The longest version that a client may hold from an earlier stream, in bytes; ours are shorter.
const MAX_VERSION: usize = 64;

/// One stream. Times are durations since the stream began, given by the caller.
#[derive(Debug)]
pub struct Sotw {
    /// Makes nonces unique across streams, so that one from another stream is seen to be stale (rule 2).
    prefix: String,
    responses: u64,
    /// `None` until the first request.
    subscription: Option<Subscription>,
    last: Option<Sent>,
    /// What was sent last of each subscribed name, applied or not: content that the client refused is not sent again
    /// (rules 5 and 21). The mark tells content that stands in for such from the newest.
    sent: BTreeMap<Name, (Version, bool)>,
    /// The version that the client says it holds from an earlier stream.
    held_before: String,
    refetch: Refetch,
    answers: Answers,
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

#[derive(Debug)]
struct Sent {
    nonce: String,
    version: String,
    answer: Answer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Awaited,
    Acknowledged,
    Refused,
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
            responses: 0,
            subscription: None,
            last: None,
            sent: BTreeMap::new(),
            held_before: String::new(),
            refetch: Refetch::default(),
            answers: Answers::default(),
        }
    }

    /// Takes a request. `snapshot` is the newest one.
    ///
    /// # Errors
    /// [`Refusal`]: the stream must be closed with it. An unknown name is no reason to (rule 19).
    pub fn on_request(
        &mut self,
        request: &Request<'_>,
        snapshot: &Snapshot,
        now: Duration,
    ) -> Result<Outcome, Refusal> {
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
            return Ok(Outcome { event: Event::Opened, response: self.send_due(snapshot) });
        };
        // Told by its nonce, an answer to an older response is worth as much as one to the newest, though it gets no reply.
        self.answers.take(request.nonce, request.version, request.error);
        if request.nonce != self.last.as_ref().map_or("", |sent| sent.nonce.as_str()) {
            return Ok(Outcome { event: Event::StaleNonce, response: None });
        }
        let changed = !current.is_same(&wanted);
        let event = self.judge(request, changed);
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
        self.send_due(snapshot)
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
    pub fn take_answers(&mut self) -> Vec<SecretAnswer> {
        self.answers.news()
    }

    /// Where the client stands with each secret it was sent and still asks for.
    #[must_use]
    pub fn standing(&self) -> &BTreeMap<Name, Standing> {
        self.answers.standing()
    }

    fn is_subscribed(&self) -> bool {
        self.wants_everything() || self.names().next().is_some()
    }

    /// Notes the client's answer to the newest response. A NACK is known by its error alone: a request that changes
    /// the subscription carries an older version too (rule 3).
    fn judge(&mut self, request: &Request<'_>, changed: bool) -> Event {
        let Some(last) = &mut self.last else { return Event::Subscription };
        if let Some(error) = request.error {
            last.answer = Answer::Refused;
            return Event::Refused(error.to_owned());
        }
        if request.version != last.version {
            return Event::Subscription;
        }
        match last.answer {
            Answer::Acknowledged if changed => Event::Subscription,
            Answer::Acknowledged => Event::Repeated,
            Answer::Awaited | Answer::Refused => {
                last.answer = Answer::Acknowledged;
                Event::Acknowledged
            }
        }
    }

    /// Forgets what was sent of the names that left, so that they are sent again when they come back (rule 6).
    fn resubscribe(&mut self, wanted: Subscription) {
        match &wanted {
            // Every name that was asked for before still is.
            Subscription::Everything { .. } => {}
            Subscription::Names(names) => {
                if self.wants_everything() {
                    // Every name is now an added one.
                    self.sent.clear();
                } else {
                    self.sent.retain(|name, _| names.contains(name));
                }
                self.answers.retain(|name| names.contains(name));
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
            self.sent.clear();
        }
        self.send_due(snapshot)
    }

    /// The subscribed secrets whose newest version has not been sent, or, for roots that the client has refused, those
    /// that it applied last. What is not there yet, or no more, is passed over: it is sent when it appears (rule 7), and
    /// removal has no form in this protocol (rule 6).
    fn send_due(&mut self, snapshot: &Snapshot) -> Option<Response> {
        let newest: Vec<(&Name, &Arc<Versioned>)> = match self.subscription.as_ref()? {
            Subscription::Everything { .. } => snapshot.iter().collect(),
            Subscription::Names(names) => snapshot.iter().filter(|(name, _)| names.contains(*name)).collect(),
        };
        // Bytes that only programs understand are asked for by one of ours, which keeps by itself what it had.
        let is_generic = |secret: &Versioned| matches!(secret.content(), SecretContent::Generic(_));
        let goes_back = !newest.iter().any(|(_, secret)| is_generic(secret));
        let item = |(name, newest): (&Name, &Arc<Versioned>)| {
            let older = self.answers.stand_in(name, newest.version()).filter(|_| goes_back);
            let (secret, stands_in) = (older.unwrap_or(newest), older.is_some());
            // Never to an older certificate: it would end sooner, and its key would have to be kept.
            let is_roots = matches!(secret.content(), SecretContent::Validation(_));
            let content = is_roots.then(|| Arc::clone(secret));
            Item { name: Arc::clone(name), version: secret.version(), content, stands_in }
        };
        let held: Vec<Item> = newest.into_iter().map(item).collect();
        let set = Version::of_set(held.iter().map(|item| (&*item.name, item.version)));
        let mark = |item: &Item| (item.version, item.stands_in);
        let marks: Vec<_> = held.iter().map(|item| (Arc::clone(&item.name), mark(item))).collect();
        let due: Vec<Item> = held.into_iter().filter(|item| self.sent.get(&item.name) != Some(&mark(item))).collect();
        if due.is_empty() {
            return None;
        }
        if self.wants_everything() {
            self.sent.clear();
            self.answers.retain(|name| snapshot.secret(name).is_some());
        }
        self.sent.extend(marks);
        let version = set.to_string();
        let is_new_to_client = goes_back && self.responses == 0 && version != self.held_before;
        self.responses += 1;
        self.held_before = String::new();
        let nonce = format!("{}-{}", self.prefix, self.responses);
        self.last = Some(Sent { nonce: nonce.clone(), version: version.clone(), answer: Answer::Awaited });
        let names = due.iter().map(|item| Arc::clone(&item.name)).collect();
        let stand_ins = due.iter().filter(|item| item.stands_in);
        let older = stand_ins.filter_map(|item| Some((Arc::clone(&item.name), item.content.clone()?))).collect();
        self.answers.sent(nonce.clone(), version, due);
        Some(Response { version: set, nonce, names, older, is_new_to_client })
    }
}
