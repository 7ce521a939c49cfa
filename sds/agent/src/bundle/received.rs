//! The CA's responses on one stream and how they are answered: pure, and each answer given once.

use signet_sds::ledger::Aggregate;
use signet_sds::session::Answer;

/// What the CA is to be told about one response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ResponseAnswer {
    pub(super) nonce: String,
    /// The response's version for an ACK, the last good one for a NACK.
    pub(super) version: String,
    pub(super) answer: Answer,
}

#[derive(Debug)]
struct Received {
    nonce: String,
    version: String,
    /// What the CA was told last.
    told: Option<Answer>,
}

/// The responses that are to be answered once everybody to whom they are handed on has answered.
///
/// A response without roots that came after one with roots waits for its turn: an ACK of it would speak for the roots
/// as well.
#[derive(Debug, Default)]
pub(super) struct ReceivedResponses {
    /// The newest response that carried usable roots.
    roots: Option<Received>,
    /// The newest usable one after it.
    later: Option<Received>,
    last_good: String,
}

impl ReceivedResponses {
    /// Takes note of a usable response.
    pub(super) fn usable(&mut self, nonce: String, version: String, with_roots: bool) {
        let received = Some(Received { nonce, version, told: None });
        if with_roots {
            (self.roots, self.later) = (received, None);
        } else {
            self.later = received;
        }
    }

    /// The answer to a response that cannot be used. The ones before it are still to be answered.
    pub(super) fn unusable(&self, nonce: String, reason: &str) -> ResponseAnswer {
        ResponseAnswer { nonce, version: self.last_good.clone(), answer: Answer::nack(reason) }
    }

    /// What to tell the CA, oldest first, now that this is what all say about the roots.
    pub(super) fn answers(&mut self, aggregate: &Aggregate) -> Vec<ResponseAnswer> {
        let answer = match aggregate {
            _ if self.roots.is_none() => &Answer::Ack,
            Aggregate::Answered(answer) => answer,
            Aggregate::Pending(_) => return Vec::new(),
        };
        let later = self.later.iter_mut().filter(|_| *answer == Answer::Ack);
        let untold = self.roots.iter_mut().chain(later).filter(|received| received.told.as_ref() != Some(answer));
        let mut answers = Vec::new();
        for received in untold {
            received.told = Some(answer.clone());
            if *answer == Answer::Ack {
                self.last_good.clone_from(&received.version);
            }
            let (nonce, version) = (received.nonce.clone(), self.last_good.clone());
            answers.push(ResponseAnswer { nonce, version, answer: answer.clone() });
        }
        answers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const APPLIED: Aggregate = Aggregate::Answered(Answer::Ack);

    fn refused(text: &str) -> Aggregate {
        Aggregate::Answered(Answer::Nack(text.to_owned()))
    }

    fn ack(nonce: &str) -> ResponseAnswer {
        ResponseAnswer { nonce: nonce.into(), version: format!("v{nonce}"), answer: Answer::Ack }
    }

    fn nack(nonce: &str, last_good: &str, text: &str) -> ResponseAnswer {
        ResponseAnswer { nonce: nonce.into(), version: last_good.into(), answer: Answer::Nack(text.into()) }
    }

    fn received(responses: &[(&str, bool)]) -> ReceivedResponses {
        let mut received = ReceivedResponses::default();
        for (nonce, with_roots) in responses {
            received.usable((*nonce).to_owned(), format!("v{nonce}"), *with_roots);
        }
        received
    }

    #[test]
    fn roots_are_acknowledged_once_and_only_when_everybody_has_applied_them() {
        let mut received = received(&[("1", true)]);
        assert_eq!(received.answers(&Aggregate::Pending(1)), []);
        assert_eq!(received.answers(&APPLIED), [ack("1")]);
        assert_eq!(received.answers(&APPLIED), []);
        assert_eq!(received.answers(&Aggregate::Pending(1)), [], "a new proxy takes nothing back");
        received.usable("2".into(), "v2".into(), true);
        assert_eq!(received.answers(&Aggregate::Pending(1)), []);
        assert_eq!(received.answers(&refused("no")), [nack("2", "v1", "no")]);
    }

    #[test]
    fn a_refusal_is_passed_on_once_per_text_and_a_recovery_with_the_same_nonce() {
        let mut received = received(&[("1", true)]);
        assert_eq!(received.answers(&refused("a")), [nack("1", "", "a")]);
        assert_eq!(received.answers(&refused("a")), []);
        assert_eq!(received.answers(&refused("b")), [nack("1", "", "b")]);
        assert_eq!(received.answers(&Aggregate::Pending(1)), []);
        assert_eq!(received.answers(&APPLIED), [ack("1")]);
        assert_eq!(received.answers(&refused("b")), [nack("1", "v1", "b")]);
    }

    #[test]
    fn a_later_response_without_roots_never_speaks_for_roots_that_are_pending() {
        let mut received = received(&[("1", true), ("2", false), ("3", false)]);
        assert_eq!(received.answers(&Aggregate::Pending(1)), []);
        assert_eq!(received.answers(&refused("no")), [nack("1", "", "no")]);
        assert_eq!(received.answers(&APPLIED), [ack("1"), ack("3")], "the older first");
        received.usable("4".into(), "v4".into(), false);
        assert_eq!(received.answers(&APPLIED), [ack("4")]);
        // Newer roots take the place of everything before.
        received.usable("5".into(), "v5".into(), false);
        received.usable("6".into(), "v6".into(), true);
        assert_eq!(received.answers(&APPLIED), [ack("6")]);
    }

    #[test]
    fn without_roots_there_is_nothing_to_wait_for_and_what_is_unusable_stands_alone() {
        let mut received = received(&[("1", false)]);
        assert_eq!(received.answers(&Aggregate::Pending(1)), [ack("1")]);
        received.usable("2".into(), "v2".into(), true);
        assert_eq!(received.unusable("3".into(), "junk"), nack("3", "v1", "junk"));
        assert_eq!(received.answers(&APPLIED), [ack("2")]);
    }
}
