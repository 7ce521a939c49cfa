//! What a caller hears who was turned away for want of room, where there is a caller to tell.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::limit::Limit;

/// When those who were turned away may come again at the earliest, and over how long they are spread: who is told the same
/// time comes back at the same time.
const AGAIN: Duration = Duration::from_secs(1);
const SPREAD_MILLIS: u32 = 2000;

/// What a caller is told who was turned away for want of room, with the time after which to try again (`RetryInfo` of
/// google.rpc). It must cost little: under load it is the commonest answer.
#[must_use]
pub fn retry_later(limit: Limit) -> Status {
    static TURN: AtomicU32 = AtomicU32::new(0);
    // Steps by the golden ratio spread evenly, however many there are, and need no randomness.
    let turn = TURN.fetch_add(0x9e37_79b9, Ordering::Relaxed);
    let spread = (u64::from(turn) * u64::from(SPREAD_MILLIS)) >> 32;
    let details = ErrorDetails::with_retry_info(Some(AGAIN + Duration::from_millis(spread)));
    let code = if limit == Limit::MessageTime { Code::Unavailable } else { Code::ResourceExhausted };
    Status::with_error_details(code, limit.in_words(), details)
}
