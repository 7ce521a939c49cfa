//! Certificates as Signet builds them: the profiles of root and issuing CA, and their builder's view of our keys.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyIdMethod, KeyUsagePurpose,
    SanType, SerialNumber,
};
use ring::rand::{SecureRandom, SystemRandom};
use rustls_pki_types::CertificateDer;
use signet_core::authority::IssuingCa;
use signet_core::certificate::{CertificateError, Facts, Serial};
use signet_core::digest::{hex, key_identifier};
use signet_core::identity::TrustDomain;
use signet_core::profile::backdate;
use signet_core::seams::certificate_authority::SignError;
use signet_core::seams::custody::{CustodyError, SigningKey};
use signet_core::signature::{SignatureError, verify_certificate};
use signet_core::time_math;
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, X509Certificate, X509Name};

use super::remote_signature::{Unsigned, complete, complete_as};
use crate::custody::public_key::PublicKey;

/// The longest organisation name that X.520 allows (ub-organization-name); trust domains may be longer.
const MAX_ORGANIZATION: usize = 64;

/// Why a certificate and a key do not make an authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthorityError {
    /// The certificate does not parse.
    #[error("reading the authority's certificate: {0}")]
    Unreadable(CertificateError),
    /// The private key is not the one the certificate names.
    #[error("the private key does not belong to the authority's certificate")]
    OtherKey,
    /// The key is of a kind that Signet does not sign with.
    #[error("the authority's key is neither ECDSA P-256 or P-384 nor RSA")]
    UnsupportedKey,
    /// The certificate may not sign certificates (X-5a).
    #[error("the certificate is not one of a CA: it needs basicConstraints cA, and keyCertSign if it has a keyUsage")]
    NotCa,
    /// It has no name that leaves could be issued in (RFC 5280 section 4.1.2.4).
    #[error("the CA certificate's subject is empty, so that no certificate could name it as its issuer")]
    NoSubject,
}

impl From<CertificateError> for AuthorityError {
    fn from(error: CertificateError) -> Self {
        Self::Unreadable(error)
    }
}

/// An authority ready to sign: key and name are prepared once, not per signature.
pub(super) struct PreparedIssuer {
    /// What rcgen needs to know of it. Its name is a stand-in: rcgen knows a name as a set of attributes of a few types, and
    /// what others have named their CAs would not come out as it went in.
    pub(super) issuer: Issuer<'static, Unsigned>,
    /// Its name, DER.
    pub(super) subject: Vec<u8>,
    /// Who signs.
    pub(super) key: Arc<dyn SigningKey>,
}

/// Checks that `key` and `certificate` make an authority, and prepares it.
///
/// The issuer name of what it signs is the subject of `certificate` byte by byte (RFC 5280 section 4.1.2.4 compares more
/// loosely, but verifiers differ), whatever that consists of.
pub(super) fn prepare(
    key: Arc<dyn SigningKey>,
    certificate: &CertificateDer<'static>,
) -> Result<(PreparedIssuer, Facts), AuthorityError> {
    let facts = Facts::read(certificate)?;
    if facts.spki_der != key.spki_der() {
        return Err(AuthorityError::OtherKey);
    }
    let unsigned = Unsigned::of(&*key).ok_or(AuthorityError::UnsupportedKey)?;
    if !facts.may_sign_certificates() {
        return Err(AuthorityError::NotCa);
    }
    if facts.subject_empty {
        return Err(AuthorityError::NoSubject);
    }
    let mut params = CertificateParams::default();
    params.key_identifier_method = KeyIdMethod::PreSpecified(facts.key_id());
    let (issuer, subject) = (Issuer::new(params, unsigned), facts.subject_der.clone());
    Ok((PreparedIssuer { issuer, subject, key }, facts))
}

/// Whether a certificate is signed with the key it certifies: a root.
///
/// A signature of a kind that cannot be verified here decides nothing; names and key identifiers do then.
pub(super) fn is_self_signed(certificate: &[u8], facts: &Facts) -> bool {
    let other_key = match (&facts.authority_key_id, &facts.subject_key_id) {
        (Some(named), Some(own)) => named != own,
        _ => false,
    };
    facts.issuer_der == facts.subject_der
        && !other_key
        && X509Certificate::from_der(certificate)
            .is_ok_and(|(_, parsed)| verify_certificate(&parsed, parsed.public_key()) != Err(SignatureError::False))
}

/// What goes with the leaves of an issuing CA: its certificate, unless that is a root, and what lies above it.
pub(super) fn sent_with_leaves(issuing: &IssuingCa, facts: &Facts) -> Vec<CertificateDer<'static>> {
    let own = (!is_self_signed(&issuing.certificate, facts)).then_some(&issuing.certificate);
    own.into_iter().chain(&issuing.intermediates).cloned().collect()
}

/// A name for people. Whoever wrote the file chose its length.
pub(super) fn shown(name: &X509Name<'_>) -> String {
    const LONGEST: usize = 200;
    name.to_string().chars().take(LONGEST).collect()
}

/// What a CA certificate is to say.
pub(super) struct CaProfile<'a> {
    pub(super) trust_domain: &'a TrustDomain,
    /// `root` or `issuing`, for the common name.
    pub(super) kind: &'static str,
    /// The key to certify, as SubjectPublicKeyInfo in DER.
    pub(super) spki_der: &'a [u8],
    /// How many CAs may follow below it.
    pub(super) path: BasicConstraints,
    pub(super) not_before: OffsetDateTime,
    pub(super) not_after: OffsetDateTime,
}

impl CaProfile<'_> {
    /// The parameters of the certificate.
    ///
    /// The common name holds the start of the key's identifier, so that two generations never share a name and every
    /// chain builds in one way only. There is no extended key usage: some verifiers apply it to everything below
    /// (X-11c). The URI makes the CA an SVID of its trust domain, without a path (X-5b, X-5c).
    pub(super) fn params(&self) -> Result<CertificateParams, SignError> {
        let key_id = key_identifier(self.spki_der);
        let mut subject = DistinguishedName::new();
        let organization: String = self.trust_domain.as_str().chars().take(MAX_ORGANIZATION).collect();
        subject.push(DnType::OrganizationName, organization);
        let short_id: String = hex(&key_id).chars().take(8).collect();
        subject.push(DnType::CommonName, format!("Signet {} {short_id}", self.kind));

        let mut params = CertificateParams::default();
        params.serial_number = Some(random_serial(self.not_before)?);
        params.distinguished_name = subject;
        params.not_before = self.not_before;
        params.not_after = self.not_after;
        params.subject_alt_names = vec![uri(self.trust_domain.id().as_str())?];
        params.is_ca = IsCa::Ca(self.path);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.key_identifier_method = KeyIdMethod::PreSpecified(key_id.to_vec());
        Ok(params)
    }
}

/// The validity of a CA made at `now`: backdated, in whole seconds as X.509 has them, and within `bounds` if it has an
/// issuer. A lifetime that is cut ends at exactly the same second as the issuer.
///
/// # Errors
/// [`SignError::Failed`] when the end lies beyond the year 9999 and no bound cuts it.
pub(super) fn ca_validity(
    now: OffsetDateTime,
    ttl: Duration,
    bounds: Option<(OffsetDateTime, OffsetDateTime)>,
) -> Result<(OffsetDateTime, OffsetDateTime), SignError> {
    let now = time_math::whole_second(now);
    let seconds = i64::try_from(ttl.as_secs()).ok().map(time::Duration::seconds);
    let end = seconds.and_then(|ttl| now.checked_add(ttl));
    // Proportional as for leaves: a fixed backdate would put half of a short life into the past at birth.
    let start = time_math::before(now, Duration::from_secs(backdate(ttl).as_secs()));
    match (end, bounds) {
        (Some(end), None) => Ok((start, end)),
        (end, Some((first, last))) => Ok((start.max(first), end.map_or(last, |end| end.min(last)))),
        (None, None) => {
            Err(SignError::Failed(format!("a lifetime of {} s ends after the year 9999; ask for less", ttl.as_secs())))
        }
    }
}

/// Refuses to have a certificate made for no time at all: in whole seconds, which is what certificates have.
pub(super) fn some_time(ttl: Duration) -> Result<(), SignError> {
    match ttl.as_secs() {
        0 => Err(failed("a CA that lasts no second is of no use; ask for more (authority.issuing_ttl)")),
        _ => Ok(()),
    }
}

/// Signs `params` for the key in `spki_der`.
pub(super) async fn sign(
    params: &CertificateParams,
    spki_der: &[u8],
    by: &PreparedIssuer,
) -> Result<CertificateDer<'static>, SignError> {
    let key = PublicKey::parse(spki_der).ok_or_else(|| failed("the key to certify is of an unsupported kind"))?;
    let unsigned = params.signed_by(&key, &by.issuer).map_err(|error| build_failed(&error))?;
    complete_as(unsigned.der(), by).await.map(CertificateDer::from)
}

/// Signs `params` with the key that they certify.
pub(super) async fn self_sign(
    params: &CertificateParams,
    key: &dyn SigningKey,
) -> Result<CertificateDer<'static>, SignError> {
    let own = Unsigned::of(key).ok_or_else(|| failed("the key to certify is of an unsupported kind"))?;
    let unsigned = params.self_signed(&own).map_err(|error| build_failed(&error))?;
    complete(unsigned.der(), key).await.map(CertificateDer::from)
}

fn random_serial(at: OffsetDateTime) -> Result<SerialNumber, SignError> {
    Ok(SerialNumber::from_slice(Serial::new(at, random()?).as_bytes()))
}

/// Bytes from the operating system.
pub(super) fn random<const N: usize>() -> Result<[u8; N], SignError> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| failed("the system's random generator failed"))?;
    Ok(bytes)
}

pub(super) fn uri(text: &str) -> Result<SanType, SignError> {
    text.try_into().map(SanType::URI).map_err(|_| failed("a SPIFFE ID is not ASCII"))
}

pub(super) fn failed(what: &str) -> SignError {
    SignError::Failed(what.to_owned())
}

/// A failure of custody as one of signing: only what may pass by itself is called so.
pub(super) fn custody_failed(error: &CustodyError) -> SignError {
    match error {
        CustodyError::Store(_) => SignError::Unavailable(error.to_string()),
        _ => SignError::Failed(error.to_string()),
    }
}

fn build_failed(error: &rcgen::Error) -> SignError {
    SignError::Failed(format!("building the certificate: {error}"))
}
