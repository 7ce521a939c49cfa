//! Certificate revocation lists (RFC 5280 section 5): signing our own, and reading those that an operator made.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rcgen::{CertificateRevocationListParams, KeyIdMethod, RevokedCertParams, SerialNumber};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use signet_core::authority::AuthorityId;
use signet_core::bundle::MAX_LISTS_BYTES;
use signet_core::certificate::{Facts, Flaw, check_list_encoding};
use signet_core::clock::rfc3339;
use signet_core::pem::{InLine, PemError, read_revocation_lists};
use signet_core::revocation::{RevocationList, RevocationReason, Revoked};
use signet_core::seams::certificate_authority::SignError;
use signet_core::seams::custody::SigningKey;
use signet_core::seams::upstream_authority::ListContent;
use signet_core::signature::{SignatureError, verify_list};
use signet_core::unknown_fields::Unknown;
use time::OffsetDateTime;
use x509_parser::extensions::ParsedExtension;
use x509_parser::oid_registry::OID_X509_EXT_ISSUER_DISTRIBUTION_POINT;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::revocation_list::CertificateRevocationList;

use super::certificates::{failed, prepare, shown};
use super::remote_signature::complete_as;

/// Serial numbers have at most 20 bytes (RFC 5280 section 4.1.2.2).
const MAX_SERIAL_DIGITS: usize = 40;

/// More lists than this in one file are a mistake.
const MAX_LISTS: usize = 256;

/// Signs a revocation list (version 2, with its number and the authority's key identifier) with the key of a CA.
///
/// Entries are ordered by serial number, each serial once with its earliest time. A list without entries revokes nothing
/// and is valid.
///
/// # Errors
/// [`SignError::Failed`] when key and certificate do not belong together, the certificate lacks the key usage cRLSign
/// (verifiers refuse such lists), the times do not follow each other, or a serial number is not one.
pub async fn sign_list(
    key: Arc<dyn SigningKey>,
    certificate: &CertificateDer<'static>,
    content: &ListContent<'_>,
) -> Result<CertificateRevocationListDer<'static>, SignError> {
    let (signer, facts) = prepare(key, certificate).map_err(|error| SignError::Failed(error.to_string()))?;
    if !facts.may_sign_lists() {
        return Err(failed("the CA certificate has no key usage cRLSign, so it may not sign revocation lists"));
    }
    let mut entries: BTreeMap<Vec<u8>, RevokedCertParams> = BTreeMap::new();
    for revoked in content.revoked {
        let entry = entry(revoked, content.this_update)?;
        let serial = entry.serial_number.as_ref().to_vec();
        if entries.get(&serial).is_none_or(|earlier| entry.revocation_time < earlier.revocation_time) {
            entries.insert(serial, entry);
        }
    }
    let list = CertificateRevocationListParams {
        this_update: content.this_update,
        next_update: content.next_update,
        crl_number: SerialNumber::from(content.number),
        issuing_distribution_point: None,
        revoked_certs: entries.into_values().collect(),
        key_identifier_method: KeyIdMethod::PreSpecified(facts.key_id()),
    };
    let unsigned = list.signed_by(&signer.issuer);
    let unsigned = unsigned.map_err(|error| SignError::Failed(format!("making a list: {error}")))?;
    complete_as(unsigned.der(), &signer).await.map(CertificateRevocationListDer::from)
}

fn entry(revoked: &Revoked, this_update: OffsetDateTime) -> Result<RevokedCertParams, SignError> {
    let serial = serial_bytes(&revoked.serial)
        .ok_or_else(|| SignError::Failed(format!("`{}` is not a serial number in hexadecimal", revoked.serial)))?;
    let at = (revoked.at >= 0).then(|| OffsetDateTime::from_unix_timestamp(revoked.at).ok()).flatten();
    let revocation_time =
        at.ok_or_else(|| SignError::Failed(format!("serial {} is revoked at no possible time", revoked.serial)))?;
    let reason_code = match revoked.reason {
        // RFC 5280 section 5.3.1: left out rather than said.
        RevocationReason::Unspecified | RevocationReason::Unknown => None,
        RevocationReason::KeyCompromise => Some(rcgen::RevocationReason::KeyCompromise),
        RevocationReason::CaCompromise => Some(rcgen::RevocationReason::CaCompromise),
        RevocationReason::AffiliationChanged => Some(rcgen::RevocationReason::AffiliationChanged),
        RevocationReason::Superseded => Some(rcgen::RevocationReason::Superseded),
        RevocationReason::CessationOfOperation => Some(rcgen::RevocationReason::CessationOfOperation),
    };
    Ok(RevokedCertParams {
        serial_number: SerialNumber::from_slice(&serial),
        // A list cannot tell of what comes after it, and it says to be older than it is, since clocks differ.
        revocation_time: revocation_time.min(this_update),
        reason_code,
        invalidity_date: None,
    })
}

/// The bytes of a serial number, without leading zeroes; `None` for anything but a positive number of whole bytes.
fn serial_bytes(text: &str) -> Option<Vec<u8>> {
    if text.len() > MAX_SERIAL_DIGITS || !text.len().is_multiple_of(2) || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let pairs = text.as_bytes().chunks(2);
    let bytes = pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
    let bytes: Vec<u8> = bytes.collect::<Option<_>>()?;
    let bytes: Vec<u8> = bytes.into_iter().skip_while(|byte| *byte == 0).collect();
    (!bytes.is_empty()).then_some(bytes)
}

/// Why an operator's revocation lists are not used. Authorities are named by their subject.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ListError {
    /// There is something in the file, but no list.
    #[error("there is no list in it; put PEM blocks `X509 CRL`, one list in DER, or nothing at all to clear it")]
    NoLists,
    /// Not all of the file can be read as PEM.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// Agents would take neither these lists nor the roots that travel with them.
    #[error("the lists have {0} bytes as PEM, and agents take {MAX_LISTS_BYTES} at most; take off what has ended")]
    TooLarge(usize),
    /// A list does not parse.
    #[error("the list that begins in line {0} cannot be read: it is damaged or not a revocation list of version 2")]
    Unreadable(usize),
    /// A list is not written as DER has it.
    #[error("the list that begins in line {0} is not DER, and Envoy would refuse it and all roots with it: {1}")]
    NotDer(usize, Flaw),
    /// More lists than anybody needs.
    #[error("there are more than {MAX_LISTS} lists in it")]
    TooMany,
    /// A certificate to check lists against is unreadable; a bug, since they have been checked before.
    #[error("a CA certificate cannot be read")]
    Certificate,
    /// No known CA made this list.
    #[error("the list of `{0}` is of no CA in the files; add that CA to the chain file or remove its list")]
    UnknownIssuer(String),
    /// The signature is not the CA's.
    #[error("the list of `{0}` is not signed by that CA's key")]
    BadSignature(String),
    /// The signature is of a kind that is not verified here, nor by clients with rustls.
    #[error("the list of `{0}` cannot be verified: {1}")]
    Unverifiable(String, SignatureError),
    /// The CA certificate does not allow lists; Envoy and others refuse them then.
    #[error("the list of `{0}` is void: its CA certificate has no key usage cRLSign")]
    MayNotSign(String),
    /// It is a delta list, or limited in a way that not every verifier understands.
    #[error("the list of `{0}` has a critical extension that is not supported; use full lists")]
    Unsupported(String),
    /// It is not known how long it holds.
    #[error("the list of `{0}` does not say when the next one is due (nextUpdate)")]
    NoEnd(String),
    /// Verifiers would refuse everything.
    #[error("the list of `{0}` expired at {1}; make a new one")]
    Expired(String, String),
    /// Verifiers would refuse everything.
    #[error("the list of `{0}` starts only at {1}; is a clock wrong?")]
    NotYetValid(String, String),
    /// A CA has none: Envoy and others then refuse all its certificates.
    #[error("there is no list of `{0}`, but every CA needs one as soon as one has one")]
    Missing(String),
}

/// Reads the revocation lists of an operator, PEM blocks or one list in DER, and checks each: made and signed by a CA in
/// `required` or `others`, in force at `now`. Empty input is no lists: that is how a file of lists is cleared.
///
/// Gives one list (the newest) for each CA that has any, in the order of the file. What the lists revoke is not looked at.
///
/// # Errors
/// [`ListError`] for the first thing that is wrong, among them a CA of `required` without a list: verifiers treat lists
/// as all or nothing.
pub fn read_lists(
    pem_or_der: &[u8],
    required: &[CertificateDer<'static>],
    others: &[CertificateDer<'static>],
    now: OffsetDateTime,
) -> Result<Vec<RevocationList>, ListError> {
    if pem_or_der.iter().all(u8::is_ascii_whitespace) {
        return Ok(Vec::new());
    }
    let authorities: Vec<(Facts, &CertificateDer<'static>)> = required
        .iter()
        .chain(others)
        .map(|der| Ok((Facts::read(der).map_err(|_| ListError::Certificate)?, der)))
        .collect::<Result<_, ListError>>()?;
    let mut kept: Vec<(OffsetDateTime, RevocationList)> = Vec::new();
    for (line, der) in blocks(pem_or_der)? {
        let (this_update, list) = read_one(line, der, &authorities, now)?;
        match kept.iter_mut().find(|(_, other)| other.issuer == list.issuer) {
            Some(older) if older.0 < this_update => *older = (this_update, list),
            Some(_) => {}
            None => kept.push((this_update, list)),
        }
    }
    let made: BTreeSet<&AuthorityId> = kept.iter().map(|(_, list)| &list.issuer).collect();
    let without = authorities.iter().take(required.len()).find(|(facts, _)| !made.contains(&id(facts)));
    if let Some((_, der)) = without {
        return Err(ListError::Missing(subject(der)));
    }
    let lists: Vec<RevocationList> = kept.into_iter().map(|(_, list)| list).collect();
    match RevocationList::message_bytes(&lists) {
        size if size > MAX_LISTS_BYTES => Err(ListError::TooLarge(size)),
        _ => Ok(lists),
    }
}

fn blocks(pem_or_der: &[u8]) -> Result<Vec<InLine<CertificateRevocationListDer<'static>>>, ListError> {
    if !pem_or_der.windows(11).any(|window| window == b"-----BEGIN ") {
        // Every list is a DER SEQUENCE; anything else is text that holds no block.
        let der = pem_or_der.first() == Some(&0x30);
        return if der { Ok(vec![(1, pem_or_der.to_vec().into())]) } else { Err(ListError::NoLists) };
    }
    let lists = read_revocation_lists(pem_or_der)?;
    if lists.len() > MAX_LISTS { Err(ListError::TooMany) } else { Ok(lists) }
}

fn read_one(
    line: usize,
    der: CertificateRevocationListDer<'static>,
    authorities: &[(Facts, &CertificateDer<'static>)],
    now: OffsetDateTime,
) -> Result<(OffsetDateTime, RevocationList), ListError> {
    let (rest, list) = CertificateRevocationList::from_der(&der).map_err(|_| ListError::Unreadable(line))?;
    if !rest.is_empty() {
        return Err(ListError::Unreadable(line));
    }
    check_list_encoding(&der).map_err(|flaw| ListError::NotDer(line, flaw))?;
    let name = || shown(list.issuer());
    let key_id = list.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref().map(|id| id.0),
        _ => None,
    });
    let mut named = authorities.iter().filter(|(facts, _)| {
        let same_key = key_id.is_none() || facts.subject_key_id.is_none() || facts.subject_key_id.as_deref() == key_id;
        facts.subject_der == list.issuer().as_raw() && same_key
    });
    let mut candidates = named.by_ref().peekable();
    if candidates.peek().is_none() {
        return Err(ListError::UnknownIssuer(name()));
    }
    let mut trouble = ListError::BadSignature(name());
    let signed_by = candidates.find(|(_, der)| match check_signature(&list, der) {
        Ok(()) => true,
        Err(SignatureError::False) => false,
        Err(error) => {
            trouble = ListError::Unverifiable(name(), error);
            false
        }
    });
    let Some((facts, _)) = signed_by else { return Err(trouble) };
    if !facts.may_sign_lists() {
        return Err(ListError::MayNotSign(name()));
    }
    let foreign = |extension: &x509_parser::extensions::X509Extension<'_>| {
        extension.critical && extension.oid != OID_X509_EXT_ISSUER_DISTRIBUTION_POINT
    };
    if list.extensions().iter().any(foreign) {
        return Err(ListError::Unsupported(name()));
    }
    let this_update = list.last_update().to_datetime();
    let next_update = list.next_update().ok_or_else(|| ListError::NoEnd(name()))?.to_datetime();
    if next_update <= now {
        return Err(ListError::Expired(name(), rfc3339(next_update)));
    }
    if now < this_update {
        return Err(ListError::NotYetValid(name(), rfc3339(this_update)));
    }
    let (issuer, next_update) = (id(facts), next_update.unix_timestamp());
    Ok((this_update, RevocationList { issuer, der, next_update, unknown: Unknown::default() }))
}

fn check_signature(list: &CertificateRevocationList<'_>, authority: &[u8]) -> Result<(), SignatureError> {
    let (_, authority) = X509Certificate::from_der(authority).map_err(|_| SignatureError::False)?;
    verify_list(list, authority.public_key())
}

fn id(facts: &Facts) -> AuthorityId {
    AuthorityId::of(facts)
}

/// The name in a certificate, for people.
pub(super) fn subject(der: &[u8]) -> String {
    X509Certificate::from_der(der).map_or_else(|_| String::new(), |(_, parsed)| shown(parsed.subject()))
}

#[cfg(test)]
#[path = "revocation_tests.rs"]
mod tests;
