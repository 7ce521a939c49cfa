//! The responses of one stream that may still be answered, and what the answers so far amount to. Several may be under way
//! at a time, so an answer is about the secrets in the response it speaks of, whichever came after.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::acknowledgement::{Acknowledgement, Answer, LastAnswers, printable};
use super::message::{Event, Request};
use crate::snapshot::{Name, Version, Versioned};

/// The most responses that are remembered for their answers. A client that answers in order needs few.
pub(super) const MAX_OPEN: usize = 8;

/// One secret as it went out.
#[derive(Debug)]
pub(super) struct SentSecret {
    pub(super) name: Name,
    pub(super) version: Version,
    /// The content, if one may go back to it.
    pub(super) content: Option<Arc<Versioned>>,
    /// Whether it is the last good content in the place of the newest one, which the client has refused.
    pub(super) is_fallback: bool,
}

#[derive(Debug)]
struct SentResponse {
    number: u64,
    nonce: String,
    /// The version of the whole set, by which an ACK is known.
    version: String,
    secrets: Vec<SentSecret>,
    /// `None` while it is pending.
    answer: Option<Answer>,
}

/// What one stream was sent and what its client said.
#[derive(Debug, Default)]
pub(super) struct SentResponses {
    /// Oldest first; the last one is the newest response, answered or not.
    open: VecDeque<SentResponse>,
    count: u64,
    last_answers: BTreeMap<Name, LastAnswers>,
    /// What was applied last, of the secrets that one may go back to.
    last_good: BTreeMap<Name, Arc<Versioned>>,
    acknowledgements: Vec<Acknowledgement>,
}

impl SentResponses {
    /// How many there were.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Notes the next one.
    pub(super) fn push(&mut self, nonce: String, version: String, secrets: Vec<SentSecret>) {
        self.count += 1;
        self.open.push_back(SentResponse { number: self.count, nonce, version, secrets, answer: None });
        if self.open.len() > MAX_OPEN
            && let Some(oldest) = self.open.pop_front()
            && oldest.answer.is_none()
            && let Some(next) = self.open.front_mut()
        {
            // Answering the next one answers this one too, except where it brought something newer.
            let newer = |one: &SentSecret| next.secrets.iter().any(|other| other.name == one.name);
            let kept: Vec<SentSecret> = oldest.secrets.into_iter().filter(|one| !newer(one)).collect();
            next.secrets.extend(kept);
        }
    }

    /// Takes what a request says about the response with its nonce, and gives what it means. Told by its nonce, an answer to
    /// an older response is worth as much as one to the newest, though the request means nothing else then. A NACK is known
    /// by its error alone: a request that changes the subscription carries an older version too (rule 3).
    pub(super) fn answered(&mut self, request: &Request<'_>) -> Event {
        let is_newest = request.nonce == self.open.back().map_or("", |newest| newest.nonce.as_str());
        let at = self.open.iter().position(|sent| sent.nonce == request.nonce);
        let event = match (at.and_then(|at| Some((at, self.open.get(at)?))), request.error) {
            (Some((at, _)), Some(error)) => {
                let text = printable(error);
                self.nack(at, &text);
                Event::Answered(Answer::Nack(text))
            }
            (Some((at, sent)), None) if sent.version == request.version => {
                let again = sent.answer == Some(Answer::Ack);
                self.ack(at);
                if again { Event::Repeated } else { Event::Answered(Answer::Ack) }
            }
            _ => Event::Subscription,
        };
        if is_newest { event } else { Event::StaleNonce }
    }

    /// The version of a response is that of the whole set (rule 10): who holds it, holds also what earlier responses
    /// brought, unless it has refused one of those.
    fn ack(&mut self, at: usize) {
        for (index, sent) in self.open.iter_mut().enumerate().take(at + 1) {
            match sent.answer {
                Some(Answer::Ack) => continue,
                Some(Answer::Nack(_)) if index != at => continue,
                _ => sent.answer = Some(Answer::Ack),
            }
            for SentSecret { name, version, content, is_fallback } in &sent.secrets {
                let last = self.last_answers.entry(name.clone()).or_default();
                if last.response > sent.number {
                    continue;
                }
                last.response = sent.number;
                if let Some(content) = content {
                    self.last_good.insert(name.clone(), Arc::clone(content));
                }
                // Going back to what was good says nothing about what was refused: that stays on record.
                let recovers = !is_fallback && last.nacked.take().is_some();
                if last.acked.replace(*version) != Some(*version) || recovers {
                    let (name, version) = (name.clone(), *version);
                    self.acknowledgements.push(Acknowledgement { name, version, answer: Answer::Ack });
                }
            }
        }
        // The response itself may still be refused later.
        self.open.drain(..at);
    }

    fn nack(&mut self, at: usize, text: &str) {
        let Some(sent) = self.open.get_mut(at) else { return };
        let answer = Answer::Nack(text.to_owned());
        sent.answer = Some(answer.clone());
        // A client that refuses what it had applied before has another trouble than what it refused at first.
        for SentSecret { name, version, .. } in sent.secrets.iter().filter(|secret| !secret.is_fallback) {
            let last = self.last_answers.entry(name.clone()).or_default();
            if last.response > sent.number {
                continue;
            }
            last.response = sent.number;
            if self.last_good.get(name).is_some_and(|good| good.version() == *version) {
                self.last_good.remove(name);
            }
            let nacked = Some((*version, text.to_owned()));
            if last.nacked != nacked {
                last.nacked = nacked;
                last.acked = last.acked.filter(|acked| acked != version);
                let (name, version) = (name.clone(), *version);
                self.acknowledgements.push(Acknowledgement { name, version, answer: answer.clone() });
            }
        }
    }

    /// Forgets every name that is not wanted any more.
    pub(super) fn retain(&mut self, wanted: impl Fn(&Name) -> bool) {
        self.last_answers.retain(|name, _| wanted(name));
        self.last_good.retain(|name, _| wanted(name));
        for sent in &mut self.open {
            sent.secrets.retain(|secret| wanted(&secret.name));
        }
    }

    /// What the client is to have while `newest` is the newest content and it has refused that: the content that it
    /// applied last, if that is known.
    pub(super) fn fallback(&self, name: &Name, newest: Version) -> Option<&Arc<Versioned>> {
        let (nacked, _) = self.last_answers.get(name)?.nacked.as_ref()?;
        self.last_good.get(name).filter(|_| *nacked == newest)
    }

    /// What was said since the last call.
    pub(super) fn take_acknowledgements(&mut self) -> Vec<Acknowledgement> {
        std::mem::take(&mut self.acknowledgements)
    }

    pub(super) fn last_answers(&self) -> &BTreeMap<Name, LastAnswers> {
        &self.last_answers
    }
}
