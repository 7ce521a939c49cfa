//! Proof of what this CA has given out, for whoever comes back with it.

/// Makes proofs of bundle sequences and knows its own again, whatever storage has forgotten.
pub trait SequenceProofs: Send + Sync + 'static {
    /// A text of visible ASCII characters that nobody else can make, always the same for the same sequence and key; of
    /// no use for anything but being shown. `None` when none can be made.
    fn prove(&self, sequence: u64) -> Option<String>;

    /// The sequence of a proof that was made here once; `None` for anything else, however long.
    fn verify(&self, proof: &str) -> Option<u64>;
}
