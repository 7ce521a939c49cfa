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
//! no reply, but it still tells what became of the secrets in that response; see [`Acknowledgement`].
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
//! stream therefore has a comment in its bytes unless the client says that it has applied it, see [`Response`].

mod acknowledgement;
mod message;
mod sent;
mod sotw;

pub use self::acknowledgement::{Acknowledgement, Answer, LastAnswers, printable};
pub use self::message::{
    Event, InvalidRequest, MAX_NAME_BYTES, MAX_NAMES, Outcome, REFETCH_PAUSE, Request, Response, WILDCARD, check,
};
pub use self::sotw::Sotw;

#[cfg(test)]
mod acknowledgement_tests;
#[cfg(test)]
mod going_back_tests;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod rule_tests;
#[cfg(test)]
mod test_model;
