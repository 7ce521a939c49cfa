//! Why a Vault did not do what it was asked, in words that say what to do. Never shows a token, a secret or a body.

use std::time::Duration;

use signet_core::clock::rfc3339;
use signet_core::seams::certificate_authority::SignError;
use time::OffsetDateTime;

/// The longest text of somebody else's that is shown, in characters.
const SHOWN: usize = 300;

/// A call came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VaultError {
    /// A file that is needed for the call cannot be used.
    #[error("{0}")]
    File(String),
    /// There is no connection, or it broke.
    #[error("Vault at {address} cannot be reached: {cause}")]
    Unreachable {
        /// Where.
        address: String,
        /// What the connection says.
        cause: String,
    },
    /// It took too long.
    #[error("Vault at {address} has not answered {what} within {within:?}")]
    Late {
        /// Where.
        address: String,
        /// What was asked.
        what: &'static str,
        /// How long that may take.
        within: Duration,
    },
    /// As many calls as there may be are under way.
    #[error("Vault is not asked {0}: as many calls are under way as there may be")]
    Crowded(&'static str),
    /// Too many calls in a row have failed.
    #[error("Vault is not asked before {}, since calls keep failing: {last}", rfc3339(*.until))]
    Paused {
        /// Until when.
        until: OffsetDateTime,
        /// How the last call failed.
        last: String,
    },
    /// It is sealed, or not initialised.
    #[error("Vault is sealed or a standby that serves nothing (HTTP {status}): {said}")]
    Sealed {
        /// The HTTP status.
        status: u16,
        /// What it says.
        said: String,
    },
    /// It has no time, or failed.
    #[error("Vault failed to {what} (HTTP {status}): {said}")]
    Failed {
        /// What was asked.
        what: &'static str,
        /// The HTTP status.
        status: u16,
        /// What it says.
        said: String,
    },
    /// It does not let this CA do that.
    #[error("Vault does not let this CA {what} (HTTP 403: {said}); {hint}")]
    Denied {
        /// What was asked.
        what: &'static str,
        /// What it says.
        said: String,
        /// What to do.
        hint: String,
    },
    /// It understood, and refused.
    #[error("Vault refuses to {what} (HTTP {status}): {said}")]
    Refused {
        /// What was asked.
        what: &'static str,
        /// The HTTP status.
        status: u16,
        /// What it says.
        said: String,
    },
    /// What it answered is of no use.
    #[error("what Vault answered to {what} cannot be used: {cause}")]
    Answer {
        /// What was asked.
        what: &'static str,
        /// What is wrong.
        cause: String,
    },
    /// What was asked could not be written down.
    #[error("asking Vault to {what}: {cause}")]
    Request {
        /// What was to be asked.
        what: &'static str,
        /// What is wrong.
        cause: String,
    },
}

/// What Vault answers with 500 although nothing is wrong with it.
const ANSWERS: [&str; 2] = ["unable to find CRL for issuer", "unable to verify signature on presented cert"];

impl VaultError {
    /// What an answer with an error status means.
    pub(super) fn of_status(what: &'static str, status: u16, body: &[u8]) -> Self {
        let said = said(body);
        match status {
            403 => Self::Denied { what, said, hint: "look at the policies of its token".to_owned() },
            // 501: not initialised; 472 and 473 are standbys of Vault Enterprise.
            503 | 501 | 472 | 473 => Self::Sealed { status, said },
            500 if ANSWERS.iter().any(|answer| said.contains(answer)) => Self::Refused { what, status, said },
            429 | 500..=599 => Self::Failed { what, status, said },
            301..=308 => {
                let said =
                    "it sends to another server; name the one that serves, or a load balancer before it".to_owned();
                Self::Refused { what, status, said }
            }
            _ => Self::Refused { what, status, said },
        }
    }

    /// Whether it is the server that is in trouble, so that asking it more makes nothing better.
    pub(super) fn is_outage(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Late { .. } | Self::Sealed { .. } | Self::Failed { .. })
    }
}

impl From<VaultError> for SignError {
    fn from(error: VaultError) -> Self {
        match error {
            VaultError::Answer { .. } | VaultError::Refused { .. } | VaultError::Denied { .. } => {
                Self::Unusable(error.to_string())
            }
            // Why, and not until when: that changes all the time.
            VaultError::Paused { last, .. } => Self::Unavailable(last),
            _ => Self::Unavailable(error.to_string()),
        }
    }
}

#[derive(serde::Deserialize)]
struct Errors {
    errors: Vec<String>,
}

/// What the body of an error says. Vault answers with its own words, which quote no credentials; anything else is not shown.
fn said(body: &[u8]) -> String {
    let Ok(Errors { errors }) = serde_json::from_slice(body) else { return "without saying why".to_owned() };
    let text = shown(&errors.join("; "));
    if text.is_empty() { "without saying why".to_owned() } else { text }
}

/// Somebody else's text, on one line and not too long.
pub(super) fn shown(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().filter(|word| *word != "*").collect();
    words.join(" ").chars().filter(|c| !c.is_control()).take(SHOWN).collect()
}
