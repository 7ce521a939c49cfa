//! The record as a tree: who signs it each second, what is proven from it, how it is verified, and what of it is shown.

mod cosigned;
mod cosigner;
mod metrics;
mod outside;
mod pages;
mod proofs;
mod signer;
#[cfg(test)]
mod signer_tests;
#[cfg(test)]
mod test_tree;
#[cfg(test)]
mod test_witness;
mod verify;
#[cfg(test)]
mod verify_tests;

pub use cosigned::{Kept as Cosigned, moment};
pub use cosigner::{Cosigner, Watcher};
pub use metrics::{TreeMetrics, WitnessMetrics};
pub use outside::{OutsideError, OutsideFile};
pub use pages::pages;
pub use proofs::{ProveError, newest, prove, subtree_hash};
pub use signer::{Refused, Signer, Step};
pub use verify::{Against, Verified, VerifyError, verify};
