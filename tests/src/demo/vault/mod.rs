//! The parts of `make demo-vault`: its acts, its crowd and its summary.

pub mod acts;
pub mod crowd;
mod leaves;
pub mod stage;
pub mod summary;
