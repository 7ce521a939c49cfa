//! What to say upstream about the responses of one stream: pure, and only what differs from what was said last.

use signet_sds::streams::Settled;

/// One thing to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Say {
    /// About which response.
    pub(super) nonce: String,
    /// The response's version for an ACK, the last good one for a NACK.
    pub(super) version: String,
    /// Why not, for a NACK.
    pub(super) error: Option<String>,
}

#[derive(Debug)]
struct Open {
    nonce: String,
    version: String,
    said: Option<Result<(), String>>,
}

/// The responses that are to be answered when the recipients have settled.
///
/// A response without roots that came after one with roots waits for its turn: an ACK of it would speak for the roots
/// as well.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// The newest response that carried usable roots.
    roots: Option<Open>,
    /// The newest usable one after it.
    later: Option<Open>,
    last_good: String,
}

impl Answers {
    /// Takes note of a usable response.
    pub(super) fn usable(&mut self, nonce: String, version: String, with_roots: bool) {
        let open = Some(Open { nonce, version, said: None });
        if with_roots {
            (self.roots, self.later) = (open, None);
        } else {
            self.later = open;
        }
    }

    /// What to say about a response that cannot be used. The ones before it are still to be answered.
    pub(super) fn unusable(&self, nonce: String, error: String) -> Say {
        Say { nonce, version: self.last_good.clone(), error: Some(error) }
    }

    /// What to say now that the recipients stand like this, oldest first.
    pub(super) fn due(&mut self, settled: &Settled) -> Vec<Say> {
        match (settled, &mut self.roots) {
            (Settled::Waiting(_), Some(_)) => Vec::new(),
            (Settled::Refused(text), Some(roots)) => {
                let refused = Some(Err(text.clone()));
                if roots.said == refused {
                    return Vec::new();
                }
                roots.said = refused;
                let (nonce, version) = (roots.nonce.clone(), self.last_good.clone());
                vec![Say { nonce, version, error: Some(text.clone()) }]
            }
            (Settled::Yes, _) | (_, None) => {
                let mut says = Vec::new();
                for open in self.roots.iter_mut().chain(&mut self.later) {
                    if open.said != Some(Ok(())) {
                        open.said = Some(Ok(()));
                        self.last_good.clone_from(&open.version);
                        says.push(Say { nonce: open.nonce.clone(), version: open.version.clone(), error: None });
                    }
                }
                says
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> Settled {
        Settled::Refused(text.to_owned())
    }

    fn ack(nonce: &str) -> Say {
        Say { nonce: nonce.into(), version: format!("v{nonce}"), error: None }
    }

    fn nack(nonce: &str, last_good: &str, text: &str) -> Say {
        Say { nonce: nonce.into(), version: last_good.into(), error: Some(text.into()) }
    }

    fn answers(responses: &[(&str, bool)]) -> Answers {
        let mut answers = Answers::default();
        for (nonce, with_roots) in responses {
            answers.usable((*nonce).to_owned(), format!("v{nonce}"), *with_roots);
        }
        answers
    }

    #[test]
    fn roots_are_acknowledged_once_and_only_when_settled() {
        let mut answers = answers(&[("1", true)]);
        assert_eq!(answers.due(&Settled::Waiting(1)), []);
        assert_eq!(answers.due(&Settled::Yes), [ack("1")]);
        assert_eq!(answers.due(&Settled::Yes), []);
        assert_eq!(answers.due(&Settled::Waiting(1)), [], "a new proxy takes nothing back");
        answers.usable("2".into(), "v2".into(), true);
        assert_eq!(answers.due(&Settled::Waiting(1)), []);
        assert_eq!(answers.due(&refused("no")), [nack("2", "v1", "no")]);
    }

    #[test]
    fn a_refusal_is_passed_on_once_per_text_and_a_recovery_with_the_same_nonce() {
        let mut answers = answers(&[("1", true)]);
        assert_eq!(answers.due(&refused("a")), [nack("1", "", "a")]);
        assert_eq!(answers.due(&refused("a")), []);
        assert_eq!(answers.due(&refused("b")), [nack("1", "", "b")]);
        assert_eq!(answers.due(&Settled::Waiting(1)), []);
        assert_eq!(answers.due(&Settled::Yes), [ack("1")]);
        assert_eq!(answers.due(&refused("b")), [nack("1", "v1", "b")]);
    }

    #[test]
    fn a_later_response_without_roots_never_speaks_for_roots_that_are_not_settled() {
        let mut answers = answers(&[("1", true), ("2", false), ("3", false)]);
        assert_eq!(answers.due(&Settled::Waiting(1)), []);
        assert_eq!(answers.due(&refused("no")), [nack("1", "", "no")]);
        assert_eq!(answers.due(&Settled::Yes), [ack("1"), ack("3")], "the older first");
        answers.usable("4".into(), "v4".into(), false);
        assert_eq!(answers.due(&Settled::Yes), [ack("4")]);
        // Newer roots take the place of everything before.
        answers.usable("5".into(), "v5".into(), true);
        assert_eq!(answers.due(&Settled::Yes), [ack("5")]);
    }

    #[test]
    fn without_roots_there_is_nothing_to_wait_for_and_what_is_unusable_stands_alone() {
        let mut answers = answers(&[("1", false)]);
        assert_eq!(answers.due(&Settled::Waiting(1)), [ack("1")]);
        answers.usable("2".into(), "v2".into(), true);
        assert_eq!(answers.unusable("3".into(), "junk".into()), nack("3", "v1", "junk"));
        assert_eq!(answers.due(&Settled::Yes), [ack("2")]);
    }
}
