//! What clients say about secrets, in the protocol's words: ACK, or NACK with a text, of one version.

use crate::snapshot::{Name, Version};

/// The longest text of a client that is kept, in characters.
const MAX_TEXT: usize = 512;

/// What a client says once it has tried what it was sent. Until then its answer is pending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It has applied it.
    Ack,
    /// It could not apply it, for this reason: bounded, without control characters.
    Nack(String),
}

impl Answer {
    /// NACK for this reason.
    #[must_use]
    pub fn nack(reason: &str) -> Self {
        Self::Nack(printable(reason))
    }
}

/// What a client said about one version of one secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledgement {
    /// The secret.
    pub name: Name,
    /// Which content of it.
    pub version: Version,
    /// What became of it.
    pub answer: Answer,
}

/// What a client said last about one secret.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LastAnswers {
    /// The version it applied last.
    pub acked: Option<Version>,
    /// The version it could not apply and why; gone once it applies any that is not sent in the place of this one.
    pub nacked: Option<(Version, String)>,
    /// The number of the response that the newest answer is about: an older one changes nothing any more.
    pub(super) response: u64,
}

impl LastAnswers {
    /// It has applied this version, and refused none.
    pub(crate) fn ack(version: Version) -> Self {
        Self { acked: Some(version), ..Self::default() }
    }

    /// What it said about this version; `None` while that is pending.
    pub(crate) fn about(&self, version: Version) -> Option<Answer> {
        match &self.nacked {
            Some((nacked, text)) if *nacked == version => Some(Answer::Nack(text.clone())),
            _ => (self.acked == Some(version)).then_some(Answer::Ack),
        }
    }
}

/// Text from outside, bounded and without anything that steers a terminal or breaks a log line.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars().take(MAX_TEXT).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
