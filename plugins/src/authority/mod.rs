//! Authorities that sign in this process: the root made here, the operator's own CA, and the issuing CA
//! under either of them.

mod certificates;
mod files;
mod leaf;
mod native;
mod remote_signature;
mod revocation;
mod self_signed;

pub use certificates::AuthorityError;
pub use files::{CaFile, CaFiles, Examined, FilesAuthority, Unfit};
pub use native::NativeAuthority;
pub use revocation::{ListError, read_lists, sign_list};
pub use self_signed::SelfSignedRoot;

#[cfg(test)]
mod profile_tests;
#[cfg(test)]
mod test_pki;
