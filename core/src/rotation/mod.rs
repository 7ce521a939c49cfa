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
mod followed;
mod format;
mod lists;
mod phase;
mod renewal_hint;
mod resume;
mod retire;
mod rules;
mod serving;
mod shared_key;
mod state;
mod step;

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod no_end_tests;
#[cfg(test)]
mod test_authorities;

pub use apply::{Made, Needs, apply, needs};
pub use command::{Command, Refused, judge};
pub use condition::{Condition, conditions};
pub use fence::Fence;
pub use followed::{Fingerprint, Standing};
pub use format::{FormatError, FormerIds, Version};
pub use lists::{
    LIST_MARGIN, Lists, is_ours_to_renew, kept_list, lists_failed, lists_possible, lists_wanted, lists_worry,
};
pub use phase::Phase;
pub use renewal_hint::{KeptOrder, RenewalOrder};
pub use retire::is_held;
pub use rules::{Backend, Observed, Retirement, Rules, SETTLE, Schedule};
pub use state::{Activation, Authorities, AuthorityState, IssuingCa, RootAuthority};
pub use step::{LAG, Step, next_step, propagated_at, usable_issuer};

/// Whether the certificate of an issuing CA is on the list of its root.
#[must_use]
pub fn is_revoked(authorities: &Authorities, issuing: &IssuingCa) -> bool {
    revocation_of(authorities, issuing).is_some()
}

fn revocation_of<'a>(authorities: &'a Authorities, issuing: &IssuingCa) -> Option<&'a crate::revocation::Revoked> {
    if authorities.revocations.entries.is_empty() {
        return None;
    }
    let serial = crate::certificate::Facts::read(&issuing.certificate).ok()?.serial_text();
    // CAs of an operator's may share serial numbers.
    let root = &authorities.root_of(&issuing.id)?.id;
    authorities.revocations.entries.iter().find(|entry| entry.serial == serial && entry.issuer == *root)
}
