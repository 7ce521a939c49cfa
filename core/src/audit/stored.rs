//! Events as they come out of the log: with their position, and as far as this version can read them.

use std::fmt;

use serde::{Serialize, Serializer};
use time::OffsetDateTime;

use super::encoding::UnknownFields;
use super::event::{AuditEvent, EventKind, Outcome, moment};

/// An event as it is in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StoredEvent {
    /// Its position in the log, from 0, without gaps.
    pub sequence: u64,
    /// The event.
    #[serde(flatten)]
    pub event: AuditEvent,
    /// What a newer version has said of it that this one does not know.
    #[serde(skip_serializing_if = "UnknownFields::is_empty")]
    pub unknown_fields: UnknownFields,
}

/// Why an event cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreadable {
    /// Its bytes have their hash, so they are what was once written, but not by a version that this one knows.
    Newer,
    /// Its bytes do not have their hash: they were changed after they were written.
    Damaged,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Newer => "written by a newer version",
            Self::Damaged => "damaged",
        })
    }
}

impl Serialize for Unreadable {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// An event that is in the log and cannot be read: what is known of it without its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnreadEvent {
    /// Its position in the log.
    pub sequence: u64,
    /// When, in microseconds since 1970.
    pub at_micros: i64,
    /// What kind of event it is.
    pub kind: EventKind,
    /// How it ended.
    pub outcome: Outcome,
    /// Why it cannot be read.
    pub problem: Unreadable,
}

impl UnreadEvent {
    /// When it happened.
    #[must_use]
    pub fn at(&self) -> OffsetDateTime {
        moment(self.at_micros)
    }
}
