//! One certificate that the CA has issued to us, after every check, and whether peers go on to accept it.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::server::ParsedCertificate;
use rustls_pki_types::{CertificateDer, UnixTime};
use signet_core::bundle::TrustBundle;
use signet_core::certificate::CertificateChain;
use signet_core::identity::SpiffeId;
use signet_core::secret::Secret;
use time::OffsetDateTime;

/// A certificate that passed every check, with its key.
#[derive(Debug)]
pub struct Issued {
    /// Who it is for.
    pub spiffe_id: SpiffeId,
    /// Leaf and intermediates, without any root.
    pub chain: CertificateChain,
    /// The private key, PKCS#8 PEM.
    pub key_pem: Arc<Secret>,
    /// The roots that came along; whether they are served is another question.
    pub bundle: TrustBundle,
    /// The CA's number for that bundle, if it told one.
    pub sequence: Option<u64>,
    /// Serial number, hexadecimal, as a CA's records name it.
    pub serial: String,
    /// Key identifier of the issuing CA, hexadecimal; empty when the leaf does not tell.
    pub authority: String,
    /// Name of the issuing CA.
    pub issuer: String,
    /// Start of validity.
    pub not_before: OffsetDateTime,
    /// End of validity.
    pub not_after: OffsetDateTime,
    /// When it is replaced.
    pub renew_at: OffsetDateTime,
    /// A number from 0 to 1 that is always the same for this certificate: its place among those that are hinted to
    /// renew.
    pub jitter: f64,
}

impl Issued {
    /// Whether peers with this bundle refuse the certificate, which came with another one.
    #[must_use]
    pub fn is_cut_off_by(&self, bundle: &TrustBundle, now: OffsetDateTime) -> bool {
        if self.bundle.roots().iter().all(|root| bundle.roots().contains(root)) {
            return false;
        }
        let now = now.max(self.not_before).min(self.not_after);
        check_chain(self.chain.leaf(), self.chain.intermediates(), bundle, now).is_err()
    }
}

/// Verifies as a peer would: signatures, validity, CA flags and usages up to one of the bundle's roots.
pub(crate) fn check_chain(
    leaf: &CertificateDer<'static>,
    intermediates: &[CertificateDer<'static>],
    bundle: &TrustBundle,
    now: OffsetDateTime,
) -> Result<(), rustls::Error> {
    let mut roots = rustls::RootCertStore::empty();
    // A root that is of no use here is no reason to refuse what chains to another one.
    let (_usable, _unreadable) = roots.add_parsable_certificates(bundle.roots().iter().cloned());
    let seconds = u64::try_from(now.unix_timestamp()).unwrap_or_default();
    let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms.all;
    verify_server_cert_signed_by_trust_anchor(
        &ParsedCertificate::try_from(leaf)?,
        &roots,
        intermediates,
        now,
        algorithms,
    )
}
