//! What the client has said about each secret. Several responses may be under way at a time, so an answer is about the
//! names of the response it speaks of, whichever came after.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::snapshot::{Name, Version, Versioned};

/// The most responses that are remembered for their answers. A client that answers in order needs few.
pub(super) const MAX_OPEN: usize = 8;

/// The longest text of a client that is kept, in characters.
const MAX_TEXT: usize = 512;

/// News about one secret on one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The secret.
    pub name: Name,
    /// Which content of it.
    pub version: Version,
    /// Why it could not be applied; `None` when it was.
    pub refused: Option<String>,
}

/// Where a client stands with one secret. A secret that it asked for and neither applied nor refused is outstanding.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// The version it applied last.
    pub applied: Option<Version>,
    /// The version it could not apply and why; gone once it applies any that is not sent in the place of this one.
    pub refused: Option<(Version, String)>,
    /// The number of the response that the newest word is about: an older one changes nothing any more.
    response: u64,
}

/// One secret as it went out.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) name: Name,
    pub(super) version: Version,
    /// The content, if one may go back to it.
    pub(super) content: Option<Arc<Versioned>>,
    /// Whether it is the last good content in the place of the newest one, which the client has refused.
    pub(super) stands_in: bool,
}

#[derive(Debug)]
struct Sent {
    number: u64,
    nonce: String,
    /// The version of the whole set, by which an ACK is known.
    version: String,
    secrets: Vec<Item>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Awaited,
    Applied,
    Refused,
}

/// The responses whose answer may still come, and what the answers so far amount to.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// Oldest first; the last one is the newest response, answered or not.
    open: VecDeque<Sent>,
    numbered: u64,
    standing: BTreeMap<Name, Standing>,
    /// What was applied last, of the secrets that one may go back to.
    good: BTreeMap<Name, Arc<Versioned>>,
    news: Vec<Answer>,
}

impl Answers {
    /// Notes a response.
    pub(super) fn sent(&mut self, nonce: String, version: String, secrets: Vec<Item>) {
        self.numbered += 1;
        self.open.push_back(Sent { number: self.numbered, nonce, version, secrets, state: State::Awaited });
        if self.open.len() > MAX_OPEN
            && let Some(oldest) = self.open.pop_front()
            && oldest.state == State::Awaited
            && let Some(next) = self.open.front_mut()
        {
            // Answering the next one answers this one too, except where it brought something newer.
            let newer = |one: &Item| next.secrets.iter().any(|other| other.name == one.name);
            let kept: Vec<Item> = oldest.secrets.into_iter().filter(|one| !newer(one)).collect();
            next.secrets.extend(kept);
        }
    }

    /// Takes a request's word about the response with its nonce, the newest or an older one.
    pub(super) fn take(&mut self, nonce: &str, version: &str, error: Option<&str>) {
        let Some(at) = self.open.iter().position(|sent| sent.nonce == nonce) else { return };
        match error {
            Some(error) => self.refuse(at, &printable(error)),
            None if self.open.get(at).is_some_and(|sent| sent.version == version) => self.apply(at),
            None => {}
        }
    }

    /// The version of a response is that of the whole set (rule 10): who holds it, holds also what earlier responses
    /// brought, unless it has refused one of those.
    fn apply(&mut self, at: usize) {
        for (index, sent) in self.open.iter_mut().enumerate().take(at + 1) {
            if sent.state == State::Applied || (sent.state == State::Refused && index != at) {
                continue;
            }
            sent.state = State::Applied;
            for Item { name, version, content, stands_in } in &sent.secrets {
                let standing = self.standing.entry(name.clone()).or_default();
                if standing.response > sent.number {
                    continue;
                }
                standing.response = sent.number;
                if let Some(content) = content {
                    self.good.insert(name.clone(), Arc::clone(content));
                }
                // Going back to what was good says nothing about what was refused: that stays on record.
                let recovers = !stands_in && standing.refused.take().is_some();
                if standing.applied.replace(*version) != Some(*version) || recovers {
                    self.news.push(Answer { name: name.clone(), version: *version, refused: None });
                }
            }
        }
        // The response itself may still be refused later.
        self.open.drain(..at);
    }

    fn refuse(&mut self, at: usize, error: &str) {
        let Some(sent) = self.open.get_mut(at) else { return };
        sent.state = State::Refused;
        // A client that refuses what it had applied before has another trouble than what it refused at first.
        for Item { name, version, .. } in sent.secrets.iter().filter(|item| !item.stands_in) {
            let standing = self.standing.entry(name.clone()).or_default();
            if standing.response > sent.number {
                continue;
            }
            standing.response = sent.number;
            if self.good.get(name).is_some_and(|good| good.version() == *version) {
                self.good.remove(name);
            }
            let refused = Some((*version, error.to_owned()));
            if standing.refused != refused {
                standing.refused = refused;
                standing.applied = standing.applied.filter(|applied| applied != version);
                self.news.push(Answer { name: name.clone(), version: *version, refused: Some(error.to_owned()) });
            }
        }
    }

    /// Forgets every name that is not wanted any more.
    pub(super) fn retain(&mut self, wanted: impl Fn(&Name) -> bool) {
        self.standing.retain(|name, _| wanted(name));
        self.good.retain(|name, _| wanted(name));
        for sent in &mut self.open {
            sent.secrets.retain(|item| wanted(&item.name));
        }
    }

    /// What the client is to have while `newest` is the newest content and it has refused that: the content that it
    /// applied last, if that is known.
    pub(super) fn stand_in(&self, name: &Name, newest: Version) -> Option<&Arc<Versioned>> {
        let (refused, _) = self.standing.get(name)?.refused.as_ref()?;
        self.good.get(name).filter(|_| *refused == newest)
    }

    /// What has changed since the last call.
    pub(super) fn news(&mut self) -> Vec<Answer> {
        std::mem::take(&mut self.news)
    }

    pub(super) fn standing(&self) -> &BTreeMap<Name, Standing> {
        &self.standing
    }
}

/// Text from outside, bounded and without anything that steers a terminal or breaks a log line.
pub(crate) fn printable(text: &str) -> String {
    text.chars().take(MAX_TEXT).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
