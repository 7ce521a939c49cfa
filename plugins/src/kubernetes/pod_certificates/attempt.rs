//! How attempts to answer a request end.

use std::time::Duration;

/// What became of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// The certificate is in the status.
    Issued,
    /// The refusal is.
    Denied,
    /// Somebody else has answered, or nobody waits any more.
    Over,
    /// It is given up: what the API server does not take, it never will.
    GivenUp,
    /// It is tried again later.
    Later,
}

impl Attempt {
    /// Every one.
    pub const ALL: [Self; 5] = [Self::Issued, Self::Denied, Self::Over, Self::GivenUp, Self::Later];

    /// A short constant for metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Issued => "issued",
            Self::Denied => "denied",
            Self::Over => "over",
            Self::GivenUp => "given_up",
            Self::Later => "later",
        }
    }
}

/// The end of an attempt.
pub(super) struct Ended {
    pub(super) attempt: Attempt,
    /// When it is tried again, if that is known.
    pub(super) again: Option<Duration>,
    pub(super) problem: Option<String>,
}

impl Ended {
    pub(super) fn of(attempt: Attempt) -> Self {
        Self { attempt, again: None, problem: None }
    }

    pub(super) fn later(why: String) -> Self {
        Self { problem: Some(why), ..Self::of(Attempt::Later) }
    }
}
