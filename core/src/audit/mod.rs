//! The record of decisions: what an event says, how it is encoded for ever, and how it is asked for.

mod event;
mod query;
mod tree;
mod who;

pub use event::{AuditEvent, Certified, EventKind, Outcome, Repeated, StoredEvent};
pub use query::{AuditQuery, MAX_PAGE, Page, QueryError};
pub use tree::{LeafHash, leaf_hash};
pub use who::Attributed;
