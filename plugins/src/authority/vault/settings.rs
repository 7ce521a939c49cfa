//! Where a Vault is, as whom it is spoken to, and what is asked of it.

use std::path::PathBuf;
use std::time::Duration;

use signet_core::identity::TrustDomain;

/// A Vault or OpenBao, and its PKI mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultSettings {
    /// Scheme, host and port.
    pub address: String,
    /// The roots that its server's certificate chains to; the only ones. Without any, the address is one of this host.
    pub ca_file: Option<PathBuf>,
    /// The namespace of everything that follows.
    pub namespace: Option<String>,
    /// Where the PKI secrets engine is mounted.
    pub mount: String,
    /// Which of its issuers certifies issuing CAs: a name, an id, or `default`.
    pub issuer: String,
    /// How this CA proves who it is.
    pub login: Login,
    /// How long one call may take.
    pub timeout: Duration,
    /// How often the issuer is looked at.
    pub refresh: Duration,
    /// Whose issuing CAs they are.
    pub trust_domain: TrustDomain,
    /// How it signs leaves itself, if it does.
    pub leaves: Option<LeafRoles>,
}

/// How a Vault signs leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeafRoles {
    /// The role for workloads.
    pub workloads: String,
    /// The role for the CA's own serving certificate.
    pub serving: String,
    /// How many are signed at the same time.
    pub at_once: usize,
}

/// How a Vault is told who is asking. Secrets are in files, which are read at each login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Login {
    /// With a token of a Kubernetes service account.
    Kubernetes {
        /// Where the auth method is mounted.
        mount: String,
        /// Its role.
        role: String,
        /// The token, best a projected one with an audience of its own.
        token_file: PathBuf,
    },
    /// With an AppRole.
    AppRole {
        /// Where the auth method is mounted.
        mount: String,
        /// Which role.
        role_id: String,
        /// Its secret.
        secret_id_file: PathBuf,
    },
    /// With a Vault token that somebody else puts there.
    TokenFile(PathBuf),
    /// With a TLS client certificate.
    Certificate {
        /// Where the auth method is mounted.
        mount: String,
        /// Its role; any that fits when there is none.
        role: Option<String>,
        /// The certificate and its chain, PEM.
        certificate_file: PathBuf,
        /// Its key, PEM.
        key_file: PathBuf,
    },
}

/// What the issuer called `default` is called.
pub const DEFAULT_ISSUER: &str = "default";

impl VaultSettings {
    /// The path that leaves are signed at by an issuer with a role, as a policy names it.
    #[must_use]
    pub fn leaf_path(&self, issuer: &str, role: &str) -> String {
        format!("{}/issuer/{issuer}/sign/{role}", self.mount)
    }

    /// The path that certificates are revoked at.
    #[must_use]
    pub fn revoke_path(&self) -> String {
        format!("{}/revoke", self.mount)
    }

    /// The path that makes revocation lists anew.
    #[must_use]
    pub fn rebuild_path(&self) -> String {
        format!("{}/crl/rotate", self.mount)
    }

    /// The path that issuing CAs are signed at, as a policy names it.
    #[must_use]
    pub fn sign_path(&self) -> String {
        match self.issuer.as_str() {
            DEFAULT_ISSUER => format!("{}/root/sign-intermediate", self.mount),
            issuer => format!("{}/issuer/{issuer}/sign-intermediate", self.mount),
        }
    }
}
