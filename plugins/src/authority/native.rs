//! The issuing CA whose key this process holds: leaves are signed here, at full speed.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use rustls_pki_types::CertificateDer;
use signet_core::authority::IssuingCa;
use signet_core::certificate::CertificateChain;
use signet_core::policy::{CsrUse, IssuerLimits, SigningRequest};
use signet_core::seams::certificate_authority::{CertificateAuthority, SignError};
use signet_core::seams::custody::SigningKey;
use signet_core::verify::Signer;

use super::certificates::{AuthorityError, PreparedIssuer, prepare, sent_with_leaves};
use super::leaf::LeafTemplate;

/// Signs leaves with a local issuing key.
///
/// Everything that does not depend on the request is prepared once. Where and how a signature is made is the key's affair.
pub struct NativeAuthority {
    limits: IssuerLimits,
    issuer: PreparedIssuer,
    template: LeafTemplate,
    /// The issuing CA, then what lies between it and the root.
    intermediates: Vec<CertificateDer<'static>>,
}

impl NativeAuthority {
    /// Joins the issuing key and what the journal says about its CA.
    ///
    /// Leaves stay within the validity of the certificate and within that of the record, which is narrower when
    /// something above the issuing CA ends earlier. Their authority key identifier is the one in the certificate, which
    /// an operator's CA need not have derived from its key as Signet does. A self-signed certificate is a root that
    /// signs leaves itself; as every root it is left out of the chain, and cross certificates of it are not.
    ///
    /// # Errors
    /// [`AuthorityError`] when key and certificate do not make a certificate authority.
    pub fn new(key: Arc<dyn SigningKey>, issuing: &IssuingCa) -> Result<Self, AuthorityError> {
        let (issuer, facts) = prepare(key, &issuing.certificate)?;
        let not_before = facts.not_before.max(issuing.not_before);
        let not_after = facts.not_after.min(issuing.not_after);
        let intermediates = sent_with_leaves(issuing, &facts);
        let limits = IssuerLimits { authority: issuing.id.clone(), not_before, not_after, takes: CsrUse::Key };
        let template = LeafTemplate::new(&issuer);
        Ok(Self { limits, issuer, template, intermediates })
    }
}

#[async_trait]
impl CertificateAuthority for NativeAuthority {
    fn limits(&self) -> &IssuerLimits {
        &self.limits
    }

    fn signer(&self) -> Signer {
        Signer::Here
    }

    async fn sign(&self, request: &SigningRequest) -> Result<CertificateChain, SignError> {
        if *request.issuer() != self.limits.authority {
            return Err(SignError::WrongIssuer);
        }
        let leaf = self.template.sign(request, &self.issuer).await?;
        Ok(CertificateChain::new(leaf, self.intermediates.clone()))
    }
}

impl fmt::Debug for NativeAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NativeAuthority").field("limits", &self.limits).finish_non_exhaustive()
    }
}
