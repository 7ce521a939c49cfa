//! Authorities that sign in this process: the root made here, and the issuing CA under it or under anyone's root.

mod certificates;
mod native;
mod self_signed;

pub use certificates::AuthorityError;
pub use native::NativeAuthority;
pub use self_signed::{RootCertificate, SelfSignedRoot};

#[cfg(test)]
mod profile_tests;
