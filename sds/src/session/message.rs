//! What passes between a session and whoever drives it: requests in, responses and events out, and what no request may be.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::acknowledgement::Answer;
use crate::snapshot::{Name, SecretContent, Snapshot, Version, Versioned};

/// The most names one stream may ask for. Envoy asks for one or two.
pub const MAX_NAMES: usize = 128;

/// The longest name in bytes: that of a SPIFFE ID.
pub const MAX_NAME_BYTES: usize = 2048;

/// The name that stands for everything.
pub const WILDCARD: &str = "*";

/// How far apart two answers to repeated requests are at least: a client that acknowledges everything twice must not
/// make the two of us spin.
pub const REFETCH_PAUSE: Duration = Duration::from_secs(1);

/// The parts of a discovery request that the protocol looks at.
#[derive(Debug, Clone, Copy, Default)]
pub struct Request<'r> {
    /// The resource type; empty means "the one this service has".
    pub type_url: &'r str,
    /// The names of the subscription.
    pub names: &'r [String],
    /// The nonce of the newest response the client has seen.
    pub nonce: &'r str,
    /// The version of the newest response the client has applied.
    pub version: &'r str,
    /// Why the client could not apply the response with this nonce.
    pub error: Option<&'r str>,
}

/// What to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The version of the whole subscribed set, as the client is to have it.
    pub version: Version,
    /// Never used before on this stream.
    pub nonce: String,
    /// The secrets to send; each once, each in the snapshot the session was given, at least one.
    pub names: Vec<Name>,
    /// Those of which not the content in the snapshot is sent but this one, which the client applied before.
    pub older: BTreeMap<Name, Arc<Versioned>>,
    /// Whether it opens the stream of a proxy and is not what that has applied before, by its own word. It may still
    /// hold it, refused: the bytes must then differ from those, or it says yes without looking (see "Going back" in
    /// [`session`](super)).
    pub is_new_to_client: bool,
}

impl Response {
    /// The content of one of its names, of the snapshot that the session was given or an older one.
    #[must_use]
    pub fn content<'r>(&'r self, name: &str, snapshot: &'r Snapshot) -> Option<&'r SecretContent> {
        let secret = self.older.get(name).map(Arc::as_ref).or_else(|| snapshot.secret(name));
        secret.map(Versioned::content)
    }
}

/// What a request meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It opened the stream.
    Opened,
    /// It says what became of the newest response.
    Answered(Answer),
    /// It is about a response that was superseded; ignored.
    StaleNonce,
    /// It repeats an acknowledgement: the client wants the same secrets once more.
    Repeated,
    /// It changed the subscription, or nothing.
    Subscription,
}

/// The outcome of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What the request meant.
    pub event: Event,
    /// What to send now, if anything.
    pub response: Option<Response>,
}

/// Why a request ends the stream: no client of good will sends it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidRequest {
    /// Another resource type was asked for (rule 11).
    #[error("this service serves {url} only", url = crate::resources::SECRET_TYPE_URL)]
    WrongType,
    /// More names than [`MAX_NAMES`].
    #[error("{0} names were asked for on one stream; at most {MAX_NAMES} are served")]
    TooManyNames(usize),
    /// A name longer than [`MAX_NAME_BYTES`].
    #[error("a name of {0} bytes was asked for; names have at most {MAX_NAME_BYTES}")]
    NameTooLong(usize),
}

/// Checks what any request must keep to, whatever the state of the stream.
///
/// # Errors
/// See [`InvalidRequest`].
pub fn check(request: &Request<'_>) -> Result<(), InvalidRequest> {
    if !matches!(request.type_url, "" | crate::resources::SECRET_TYPE_URL) {
        return Err(InvalidRequest::WrongType);
    }
    if request.names.len() > MAX_NAMES {
        return Err(InvalidRequest::TooManyNames(request.names.len()));
    }
    match request.names.iter().map(String::len).find(|length| *length > MAX_NAME_BYTES) {
        Some(length) => Err(InvalidRequest::NameTooLong(length)),
        None => Ok(()),
    }
}
