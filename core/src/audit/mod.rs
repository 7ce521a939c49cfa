//! The record of decisions: what an event says, how it is encoded for ever, and how it is asked for.

mod cbor;
mod encoding;
mod event;
mod query;
mod retention;
mod stored;
mod tree;
mod who;

pub use encoding::{DecodeError, UnknownFields, shown_certificate};
pub use event::{AuditEvent, Certified, EventKind, Outcome, Repeated};
pub use query::{AuditQuery, MAX_AUTHORITIES, MAX_PAGE, Page, QueryError, ROOM};
pub use retention::{Class, Fate, Retention, fate};
pub use stored::{StoredEvent, UnreadEvent, Unreadable};
pub use tree::{LeafHash, leaf_hash};
pub use who::Attributed;
