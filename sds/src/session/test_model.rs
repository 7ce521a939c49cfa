//! The model that sessions are compared with: it keeps the whole history of a stream and derives from it, by the words
//! of the rules, what must be sent. It shares no state representation with the session.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;
use std::time::Duration;

use super::*;
use crate::snapshot::SecretContent;
use crate::snapshot::tests::{bundle, certificate, root};

pub(super) const NAMES: [&str; 4] = ["default", "ROOTCA", "ALL", "spiffe://td/ns/a/sa/b"];
/// Those that hold roots.
pub(super) const ROOTS: [&str; 2] = ["ROOTCA", "ALL"];

pub(super) static BUNDLES: LazyLock<Vec<SecretContent>> =
    LazyLock::new(|| (0..4).map(|_| bundle(1, &[root("r")])).collect());

pub(super) fn content(name: &str, number: u8) -> SecretContent {
    if ROOTS.contains(&name) { BUNDLES[usize::from(number)].clone() } else { certificate(&number.to_string(), "key") }
}

pub(super) type World = BTreeMap<&'static str, u8>;
/// Content by name, and whether it stands in for newer one.
pub(super) type Content = BTreeMap<&'static str, (u8, bool)>;
pub(super) type Wanted = BTreeSet<&'static str>;

/// One thing that happened on the stream.
#[derive(Debug, Clone)]
pub(super) enum Entry {
    /// A request that counted, and what it asked for (`None`: everything).
    Wanted(Option<Wanted>),
    /// A response and the content it carried.
    Sent(Content),
    /// The client's answer to the response of this number: applied or not.
    Answer(usize, bool),
    /// The client got what it asked for once more, or will at the next response.
    Refetch,
}

/// What the rules say, derived from the history of one stream.
#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) history: Vec<Entry>,
    pub(super) nonces: Vec<String>,
    pub(super) all_versions: Vec<String>,
    pub(super) newest_version: String,
    pub(super) newest_acked: bool,
    pub(super) owed: bool,
    pub(super) last_refetch: Option<Duration>,
}

impl Model {
    pub(super) fn wanted(&self) -> Option<Option<Wanted>> {
        self.history.iter().rev().find_map(|entry| match entry {
            Entry::Wanted(wanted) => Some(wanted.clone()),
            _ => None,
        })
    }

    /// The content of `name` that the client was sent since it last began to ask for it, or for it once more.
    pub(super) fn sent_since_asked(&self, name: &str) -> Option<(u8, bool)> {
        let mut found = None;
        for (at, entry) in self.history.iter().enumerate() {
            match entry {
                Entry::Refetch => found = None,
                Entry::Sent(content) => found = content.get(name).copied().or(found),
                Entry::Answer(..) => {}
                Entry::Wanted(now) => {
                    let before = self.history.get(..at).unwrap().iter().rev().find_map(|entry| match entry {
                        Entry::Wanted(wanted) => Some(wanted.clone()),
                        _ => None,
                    });
                    let asked = |wanted: &Option<Wanted>| wanted.as_ref().is_none_or(|names| names.contains(name));
                    let newly = match (&before, now) {
                        (None, _) => true,
                        (Some(None), Some(_)) => true,
                        (Some(before), now) => !asked(before) && asked(now),
                    };
                    if newly {
                        found = None;
                    }
                }
            }
        }
        found
    }

    /// What the client is to hold: the newest content, or, while it refuses that, the roots that it applied last. Told
    /// from all its words since it asked for them.
    pub(super) fn target(&self, name: &str, newest: u8) -> (u8, bool) {
        let (mut good, mut refused, mut newest_word) = (None, None, 0);
        // Of each response what it held under this name, and what was said of it last.
        let (mut responses, mut asked, mut known_from) = (Vec::<(Option<(u8, bool)>, Option<bool>)>::new(), false, 0);
        for entry in &self.history {
            match entry {
                Entry::Wanted(wanted) => {
                    asked = wanted.as_ref().is_none_or(|names| names.contains(name));
                    if !asked {
                        (good, refused, newest_word) = (None, None, 0);
                        responses.iter_mut().for_each(|(held, _)| *held = None);
                    }
                }
                Entry::Sent(content) => responses.push((content.get(name).copied(), None)),
                Entry::Answer(at, true) if *at >= known_from => {
                    for (index, (held, said)) in responses.iter_mut().enumerate().take(*at + 1).skip(known_from) {
                        if *said == Some(true) || (*said == Some(false) && index != *at) {
                            continue;
                        }
                        *said = Some(true);
                        let Some((number, is_fallback)) = held.filter(|_| index >= newest_word) else { continue };
                        (good, newest_word) = (Some(number), index);
                        refused = refused.filter(|_| is_fallback);
                    }
                    known_from = *at;
                }
                Entry::Answer(at, false) if *at >= known_from => {
                    responses[*at].1 = Some(false);
                    if let (Some((number, false)), true) = (responses[*at].0, *at >= newest_word) {
                        (refused, newest_word) = (Some(number), *at);
                        good = good.filter(|good| *good != number);
                    }
                }
                Entry::Refetch | Entry::Answer(..) => {}
            }
        }
        let older = good.filter(|_| ROOTS.contains(&name) && asked && refused == Some(newest));
        older.map_or((newest, false), |older| (older, true))
    }

    /// What a response must hold now (rules 5, 6, 7, 9, 19, 21).
    pub(super) fn pending(&self, world: &World) -> BTreeSet<&'static str> {
        let Some(wanted) = self.wanted() else { return BTreeSet::new() };
        world
            .iter()
            .filter(|(name, _)| wanted.as_ref().is_none_or(|names| names.contains(*name)))
            .filter(|(name, content)| self.sent_since_asked(name) != Some(self.target(name, **content)))
            .map(|(name, _)| *name)
            .collect()
    }

    pub(super) fn request(&mut self, names: &Wanted, nonce: &str, version: &str, error: bool, now: Duration) -> Event {
        let Some(current) = self.wanted() else {
            self.history.push(Entry::Wanted((!names.is_empty()).then(|| names.clone())));
            return Event::Opened;
        };
        let about = self.nonces.iter().position(|known| known == nonce);
        if let Some(at) = about.filter(|at| error || self.all_versions[*at] == version) {
            self.history.push(Entry::Answer(at, !error));
        }
        if nonce != self.nonces.last().map_or("", String::as_str) {
            return Event::StaleNonce;
        }
        let changed = match &current {
            None => !names.is_empty(),
            Some(before) => before != names,
        };
        let event = if self.nonces.is_empty() {
            Event::Subscription
        } else if error {
            self.newest_acked = false;
            Event::Answered(Answer::Nack("error".into()))
        } else if version != self.newest_version {
            Event::Subscription
        } else if !self.newest_acked {
            self.newest_acked = true;
            Event::Answered(Answer::Ack)
        } else if changed {
            Event::Subscription
        } else {
            Event::Repeated
        };
        if changed {
            self.history.push(Entry::Wanted(Some(names.clone())));
            if names.is_empty() {
                self.owed = false;
            }
        }
        if event == Event::Repeated && !matches!(self.wanted(), Some(Some(names)) if names.is_empty()) {
            self.owed = true;
        }
        self.refetch_if_owed(now);
        event
    }

    pub(super) fn refetch_if_owed(&mut self, now: Duration) {
        if self.owed && self.last_refetch.is_none_or(|last| now >= last + REFETCH_PAUSE) {
            self.owed = false;
            self.last_refetch = Some(now);
            self.history.push(Entry::Refetch);
        }
    }
}
