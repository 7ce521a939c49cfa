//! Authorities and their life: what exists, what each may do, and what to do next.

mod state;
mod step;

pub use state::{Authorities, AuthorityId, AuthorityState, IssuingCa, RootAuthority};
pub use step::{Schedule, Step, next_step};
