//! Follows the record into a file of JSON lines, for whatever carries lines to where auditors look: each event once, in order,
//! also across restarts, crashes and log rotation.

mod file;
mod follower;

pub use file::{Position, SinkError, append, find};
pub use follower::{FollowError, Follower, SinkMetrics};

#[cfg(test)]
#[path = "sink_tests.rs"]
mod tests;
