//! The parts of `make demo-rotation`: its stage, its watcher, its phases, its judge and its record.

pub mod judge;
pub mod phases;
pub mod record;
pub mod stage;
pub mod watch;
