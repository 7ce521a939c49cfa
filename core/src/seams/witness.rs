//! The way to a witness: somebody else who cosigns a log as long as it goes on from what they have cosigned before.

use async_trait::async_trait;

/// What came back, of a bounded size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WitnessReply {
    /// The status of HTTP.
    pub status: u16,
    /// What was said.
    pub body: Vec<u8>,
}

/// Why nothing came back, or nothing that is read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct WitnessUnreachable(pub String);

/// The way to a witness.
#[async_trait]
pub trait Witness: Send + Sync {
    /// Sends it a checkpoint, as [`submission`](crate::transparency::submission) writes it, and waits for the answer for a
    /// bounded time.
    ///
    /// # Errors
    /// [`WitnessUnreachable`].
    async fn add_checkpoint(&self, submission: String) -> Result<WitnessReply, WitnessUnreachable>;
}
