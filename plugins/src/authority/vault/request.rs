//! The certificate signing request for an issuing CA.

use rcgen::{BasicConstraints, IsCa};
use signet_core::identity::TrustDomain;
use signet_core::pem::pem_block;
use signet_core::seams::certificate_authority::SignError;
use signet_core::seams::custody::SigningKey;
use time::OffsetDateTime;

use super::super::certificates::{CaProfile, failed, uri};
use super::super::remote_signature::{Unsigned, complete};

/// A request in PEM with the name, and the SPIFFE ID, that issuing CAs made here have. What else the certificate says, the call
/// and Vault say.
pub(super) async fn csr(trust_domain: &TrustDomain, key: &dyn SigningKey) -> Result<String, SignError> {
    csr_as(trust_domain, ("issuing", trust_domain.id().as_str()), key).await
}

/// The same with another name: what of the common name says the kind, and the SPIFFE ID.
pub(super) async fn csr_as(
    trust_domain: &TrustDomain,
    (kind, id): (&'static str, &str),
    key: &dyn SigningKey,
) -> Result<String, SignError> {
    let at = OffsetDateTime::UNIX_EPOCH;
    let path = BasicConstraints::Constrained(0);
    let profile = CaProfile { trust_domain, kind, spki_der: key.spki_der(), path, not_before: at, not_after: at };
    let mut params = profile.params()?;
    params.subject_alt_names = vec![uri(id)?];
    (params.serial_number, params.is_ca, params.key_usages) = (None, IsCa::NoCa, Vec::new());
    let own = Unsigned::of(key).ok_or_else(|| failed("the key to certify is of an unsupported kind"))?;
    let unsigned = params
        .serialize_request(&own)
        .map_err(|error| SignError::Failed(format!("building the certificate signing request: {error}")))?;
    Ok(pem_block("CERTIFICATE REQUEST", &complete(unsigned.der(), key).await?))
}
