//! The parts of `make demo-audit`: its acts and its summary.

pub mod acts;
pub mod summary;
