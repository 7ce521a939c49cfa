//! The protocol of one stream as a pure state machine: requests and snapshots go in, responses come out.
//!
//! "Rule n" in this crate is one of these rules of Envoy's protocol; each has a test by its number. Numbers 12 to 17
//! belong to the incremental variant, which is not served yet.
//!
//! 1. The first request has no nonce, and alone is sure to tell the node.
//! 2. Each response has a new nonce, valid on its stream only; later requests carry the newest one the client has seen.
//! 3. ACK: the version equals the response's. NACK: there is an error; versions never tell.
//! 4. A request with a stale nonce is ignored.
//! 5. Only changes are sent: content that was acknowledged or refused is not sent again.
//! 6. Added names are sent even if they were sent before; other names only when changed; nothing is ever deleted.
//! 7. Names that do not exist yet are remembered and sent when they appear.
//! 8. No names in the first request means everything; after names were given it means nothing, without a reply. The name `*`,
//!    wherever it stands, means everything.
//! 9. A response holds each name once.
//! 10. The version belongs to the resources, not to the stream.
//! 11. State is kept per stream and name; another resource type is refused.
//! 18. A client finds out by its own timeout that a secret does not exist: it is not told.
//! 19. An unknown name never harms the others.
//! 20. Several names for one content, and certificates and bundles together, are each answered.
//! 21. A NACK is made known; the refused content is not sent again until it changes.
//! 22. The stream and the last good content outlive any outage behind it.
//!
//! Rules 3 and 4 leave one thing open: an answer to a response that was superseded while the answer was under way gets
//! no reply, but it still tells what became of the secrets in that response; see [`Standing`].
//!
//! And two proposals of ours. A client that repeats an acknowledgement with the same names has lost its copy (Envoy does
//! so after some listener updates) and is answered once more; see [`REFETCH_PAUSE`]. A client that has refused roots is
//! sent those that it applied last, once.
//!
//! # Going back
//!
//! Envoy puts a secret aside before it tries it: refused roots stay there, and every renewed certificate is refused
//! too, because it is tried together with them. So the client is sent the roots that it applied last on this stream.
//! Its answer speaks for those only: the refusal stays on record until it applies the refused roots or newer ones. The
//! version is that of the set with the older roots (rule 10); in this protocol versions have no order.
//!
//! And Envoy that holds what it has refused says yes to the same bytes on another stream, without a look. What opens a
//! stream is therefore marked in its bytes unless the client says that it has applied it, see [`Response`].

mod answers;
mod sotw;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub(crate) use self::answers::printable;
pub use self::answers::{Answer, Standing};
pub use self::sotw::Sotw;
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
    /// the module).
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
    /// The client applied the newest response (ACK).
    Acknowledged,
    /// The client could not apply the newest response (NACK), and says why.
    Refused(String),
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

/// A request that ends the stream: no client of good will sends it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
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
/// See [`Refusal`].
pub fn check(request: &Request<'_>) -> Result<(), Refusal> {
    if !matches!(request.type_url, "" | crate::resources::SECRET_TYPE_URL) {
        return Err(Refusal::WrongType);
    }
    if request.names.len() > MAX_NAMES {
        return Err(Refusal::TooManyNames(request.names.len()));
    }
    match request.names.iter().map(String::len).find(|length| *length > MAX_NAME_BYTES) {
        Some(length) => Err(Refusal::NameTooLong(length)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod answer_tests;
#[cfg(test)]
mod going_back_tests;
#[cfg(test)]
mod model;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod rule_tests;
