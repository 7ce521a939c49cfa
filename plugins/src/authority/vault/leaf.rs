//! Leaves that Vault signs itself, each with a call of its own. Which issuer of the mount that is, is said with each call, since
//! the one that is meant by default may have changed.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use rustls_pki_types::CertificateDer;
use signet_core::authority::IssuingCa;
use signet_core::certificate::{CertificateChain, Facts};
use signet_core::clock::rfc3339;
use signet_core::pem::pem_block;
use signet_core::policy::{CsrUse, IssuerLimits, SigningRequest, Subject};
use signet_core::seams::certificate_authority::{CertificateAuthority, SignError};
use signet_core::verify::Signer;
use vaultrs::api::pki::requests::ReadIssuerCertificateRequest;

use super::super::certificates::sent_with_leaves;
use super::calls::{self, Issuer, Issuers, LeafNames, Signed};
use super::error::VaultError;
use super::issuer::{self, READ_ISSUER};
use super::{LeafRoles, VaultAuthority, probe};

pub(super) const SIGN_LEAF: &str = "sign a leaf";
const LIST: &str = "list its issuers";

/// More issuers than this in a mount are not looked through.
const MOST: usize = 100;

/// An issuer in Vault as the issuing CA of leaves.
pub(super) struct VaultLeaves {
    vault: Arc<VaultAuthority>,
    roles: LeafRoles,
    issuing: IssuingCa,
    limits: IssuerLimits,
    intermediates: Vec<CertificateDer<'static>>,
    /// What Vault calls it, once that is known.
    id: tokio::sync::OnceCell<String>,
}

impl VaultLeaves {
    pub(super) fn new(vault: Arc<VaultAuthority>, issuing: &IssuingCa) -> Result<Self, SignError> {
        let roles = vault.settings.leaves.clone().ok_or_else(|| {
            SignError::Unusable(format!(
                "Vault signs leaves with issuing CA {} only in `authority.vault.mode: leaf`",
                issuing.id
            ))
        })?;
        let facts = Facts::read(&issuing.certificate).map_err(|error| SignError::Failed(error.to_string()))?;
        let intermediates = sent_with_leaves(issuing, &facts);
        let (not_before, not_after) = (issuing.not_before, issuing.not_after);
        let limits = IssuerLimits { authority: issuing.id.clone(), not_before, not_after, takes: CsrUse::Key };
        Ok(Self { vault, roles, issuing: issuing.clone(), limits, intermediates, id: tokio::sync::OnceCell::new() })
    }

    async fn id(&self) -> Result<&String, VaultError> {
        self.id.get_or_try_init(async || self.vault.issuer_id(&self.issuing).await).await
    }

    async fn signed(&self, request: &SigningRequest) -> Result<CertificateDer<'static>, SignError> {
        let csr = request.key().request().ok_or_else(|| {
            SignError::Unusable("Vault signs PKCS#10 requests only, and this key was proved in another way".to_owned())
        })?;
        let (dns, ips) = match request.subject() {
            Subject::Workload(_) => (&[][..], &[][..]),
            Subject::Serving { dns, ips, .. } => (dns.as_slice(), ips.as_slice()),
        };
        let role = if dns.is_empty() && ips.is_empty() { &self.roles.workloads } else { &self.roles.serving };
        let ips: Vec<String> = ips.iter().map(IpAddr::to_string).collect();
        let names = LeafNames { uri: request.spiffe_id().to_string(), dns: dns.join(","), ips: ips.join(",") };
        let (csr, end) = (pem_block("CERTIFICATE REQUEST", csr), rfc3339(request.not_after()));
        let path = self.vault.settings.leaf_path(self.id().await?, role);
        let answer = self.vault.session.call(SIGN_LEAF, || calls::sign_leaf(&path, &csr, &names, &end)).await;
        let body = answer.map_err(|error| probe::with_role(error, &path, role))?;
        Ok(leaf_in(body.expose())?)
    }
}

/// The leaf in an answer.
pub(super) fn leaf_in(body: &[u8]) -> Result<CertificateDer<'static>, VaultError> {
    let signed: Signed = calls::data(SIGN_LEAF, body)?;
    issuer::one(&signed.certificate).map_err(|cause| VaultError::Answer { what: SIGN_LEAF, cause })
}

/// The ids of the issuers that are looked through; what stands there becomes part of a path.
pub(super) fn ids_in(body: &[u8]) -> Result<Vec<String>, VaultError> {
    let Issuers { keys } = calls::data(LIST, body)?;
    Ok(keys.into_iter().filter(|id| calls::is_word(id)).take(MOST).collect())
}

impl VaultAuthority {
    /// What Vault calls the issuer with this certificate.
    async fn issuer_id(&self, issuing: &IssuingCa) -> Result<String, VaultError> {
        if let Some(Ok(source)) = self.known()
            && source.is(issuing)
            && calls::is_word(&source.id)
        {
            return Ok(source.id);
        }
        // One that was meant by default, and is not any more.
        let mount = &self.settings.mount;
        let body = self.session.transport.send(LIST, calls::list_issuers(mount), None).await?;
        for id in ids_in(body.expose())? {
            let read = ReadIssuerCertificateRequest { mount: mount.clone(), issuer: id.clone() };
            let body = self.session.transport.send(READ_ISSUER, read, None).await?;
            let found: Issuer = calls::data(READ_ISSUER, body.expose())?;
            if issuer::one(&found.certificate).is_ok_and(|certificate| certificate == issuing.certificate) {
                return Ok(id);
            }
        }
        let cause = format!("issuing CA {}, which signs leaves, is not among the issuers of {mount:?}", issuing.id);
        Err(VaultError::Answer { what: LIST, cause })
    }
}

#[async_trait]
impl CertificateAuthority for VaultLeaves {
    fn limits(&self) -> &IssuerLimits {
        &self.limits
    }

    fn signer(&self) -> Signer {
        Signer::Elsewhere
    }

    fn revokes_leaves(&self) -> bool {
        true
    }

    fn ready(&self) -> Result<(), SignError> {
        self.vault.session.transport.paused().map_or(Ok(()), |last| Err(SignError::Unavailable(last)))
    }

    async fn sign(&self, request: &SigningRequest) -> Result<CertificateChain, SignError> {
        if *request.issuer() != self.limits.authority {
            return Err(SignError::WrongIssuer);
        }
        let leaf = self.signed(request).await?;
        Ok(CertificateChain::new(leaf, self.intermediates.clone()))
    }
}

impl fmt::Debug for VaultLeaves {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VaultLeaves").field("limits", &self.limits).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "leaf_tests.rs"]
mod tests;
