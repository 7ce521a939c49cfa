//! Authorities: the root made here, the operator's own CA, a Vault, and the issuing CA under any of them, which signs in this
//! process.

#[cfg(feature = "kubernetes")]
mod cert_manager;
mod certificates;
mod files;
mod former;
mod leaf;
mod native;
mod remote_signature;
mod revocation;
mod self_signed;
mod trial;
#[cfg(feature = "vault")]
mod vault;

#[cfg(feature = "kubernetes")]
pub use cert_manager::{
    CertManagerAuthority, CertManagerSettings, IssuerRef, ObjectKey, ProbedIssuer, RequestStatus, RootsFrom,
    judge_request,
};
pub use certificates::AuthorityError;
pub use files::{CaFile, CaFiles, Examined, FilesAuthority, Unfit};
pub use former::WithFormer;
pub use native::NativeAuthority;
pub use revocation::{ListError, read_lists, sign_list};
pub use self_signed::SelfSignedRoot;
pub use trial::{Tried, trial_name};
#[cfg(feature = "vault")]
pub use vault::{
    CircuitState, DEFAULT_ISSUER, LeafRoles, LoggedIn, Login, LoginTeller, Probed, VaultAnswers, VaultAuthority,
    VaultError, VaultLogin, VaultSettings, VaultStatus,
};

#[cfg(test)]
mod profile_tests;
#[cfg(test)]
mod test_pki;
#[cfg(test)]
mod test_suite;
