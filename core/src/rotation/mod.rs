//! Authorities and their life: what exists, what each may do, and what to do next.
//!
//! [`next_step`] is what happens by itself, [`judge`] what an operator may do; both name one [`Step`], whose effect on
//! the journal's document is in `change`.

mod apply;
mod change;
mod command;
mod compromise;
mod condition;
mod fence;
mod forecast;
mod format;
mod phase;
mod renewal_hint;
mod resume;
mod retire;
mod revocation_lists;
mod rules;
mod serving;
mod shared_key;
mod standing;
mod state;
mod step;
mod unsettled;
mod wire;

#[cfg(test)]
mod certified_tests;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod no_end_tests;
#[cfg(test)]
mod source_tests;
#[cfg(test)]
pub(crate) mod test_authorities;

pub use apply::{Made, Needs, apply, needs};
pub use command::{Command, Refused, judge};
pub use condition::{Condition, conditions};
pub use fence::Fence;
pub use format::{FormatError, FormerIds, Version};
pub use phase::Phase;
pub use renewal_hint::{KeptHint, RenewalHint};
pub use retire::is_held;
pub use revocation_lists::{is_revoked, lists_possible};
pub use rules::{Observed, Retirement, Rules, SETTLE, Schedule};
pub use standing::Standing;
pub use state::{Activation, Authorities, AuthorityState, IssuingAuthority, RootAuthority};
pub use step::{LAG, Step, next_step, propagated_at, unpublished, usable_issuer};
pub use unsettled::Unsettled;
