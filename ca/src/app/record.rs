//! What is put on record by commands that work on the storage themselves.

use signet_core::audit::{Attributed, AuditEvent, EventKind, Outcome};
use signet_core::clock::{Clock, SystemClock};

use crate::operations::Operator;

/// That a command was given: by who has started this process, now, with what outcome.
pub(super) fn command_event(command: &str, outcome: Outcome, text: &str) -> AuditEvent {
    let user = Operator::of_this_process().name;
    AuditEvent {
        at_micros: AuditEvent::micros(SystemClock.now()),
        request_id: String::new(),
        kind: EventKind::Admin,
        outcome,
        reason: Some(command.to_owned()),
        detail: Some(format!("{user}: {command}: {text}")),
        who: Attributed { peer: Some(user), ..Attributed::default() },
        what: None,
        repeated: None,
    }
}
