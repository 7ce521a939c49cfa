//! Who a client is, by the certificate that it has shown.

use rustls_pki_types::CertificateDer;
use signet_core::certificate::Facts;
use signet_core::credential_on_record::Shown;
use signet_core::digest::{hex, key_hash};
use signet_core::identity::SpiffeId;
use signet_core::profile::usage;
use time::OffsetDateTime;

use super::refused::ClientRefused;
use super::verdicts::ChainHash;

/// Who is on the other end of a TLS connection, by a certificate that was verified in its handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientIdentity {
    /// The SPIFFE ID.
    pub spiffe_id: SpiffeId,
    /// The certificate's serial number, 32 hexadecimal digits.
    pub serial: String,
    /// When the certificate ends. A connection may last longer: see [`ClientVerifier::check_again`](super::ClientVerifier::check_again).
    pub not_after: OffsetDateTime,
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) hash: ChainHash,
}

impl ClientIdentity {
    /// Reads the identity out of a chain, leaf first, that a handshake with a [`ClientVerifier`](super::ClientVerifier) has accepted.
    ///
    /// # Errors
    /// [`ClientRefused`] when the leaf is none that such a handshake accepts.
    pub fn of_verified(chain: &[CertificateDer<'static>]) -> Result<Self, ClientRefused> {
        let leaf = chain.first().ok_or(ClientRefused::Unreadable)?;
        let facts = Facts::read(leaf).map_err(|_| ClientRefused::Unreadable)?;
        let spiffe_id = check_profile(&facts)?;
        let (serial, not_after, hash) = (facts.serial_text(), facts.not_after, ChainHash::of(chain.iter()));
        Ok(Self { spiffe_id, serial, not_after, chain: chain.to_vec(), hash })
    }

    /// What of the leaf the record is compared with.
    ///
    /// # Errors
    /// [`ClientRefused::Unreadable`].
    pub fn shown(&self) -> Result<Shown, ClientRefused> {
        let leaf = self.chain.first().and_then(|leaf| Facts::read(leaf).ok()).ok_or(ClientRefused::Unreadable)?;
        Ok(Shown {
            spiffe_id: self.spiffe_id.clone(),
            serial: self.serial.clone(),
            key_hash: hex(&key_hash(&leaf.spki_der)),
            not_after: self.not_after,
            issuer_key_id: leaf.authority_key_id.as_deref().map(hex).unwrap_or_default(),
        })
    }
}

/// What makes a leaf an X.509-SVID of a workload.
pub(super) fn check_profile(leaf: &Facts) -> Result<SpiffeId, ClientRefused> {
    let wrong = |what| Err(ClientRefused::Profile(what));
    let [uri] = leaf.uris.as_slice() else { return wrong("it needs exactly one URI name") };
    let Ok(id) = SpiffeId::parse(uri) else { return wrong("its URI is no SPIFFE ID") };
    if id.path().is_empty() {
        return wrong("its SPIFFE ID has no path");
    }
    if leaf.is_ca || leaf.has_usage(usage::KEY_CERT_SIGN) || leaf.has_usage(usage::CRL_SIGN) {
        return wrong("it is one of a CA");
    }
    if !leaf.has_usage(usage::DIGITAL_SIGNATURE) {
        return wrong("its key usage does not allow signatures");
    }
    Ok(id)
}
