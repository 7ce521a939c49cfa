//! What the CA sent is believed only after it was checked: identity, key, validity and chain (AG-05).

use std::sync::Arc;
use std::time::Duration;

use ring::digest::{SHA256, digest};
use rustls_pki_types::CertificateDer;
use signet_core::bundle::{BundleError, TrustBundle};
use signet_core::certificate::{CertificateChain, CertificateError, Facts};
use signet_core::clock::rfc3339;
use signet_core::digest::hex;
use signet_core::identity::{SpiffeId, TrustDomain};
use signet_core::pem::read_certificates;
use signet_core::renewal::renew_at;
use signet_core::secret::Secret;
use signet_core::time_math;
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, X509Name};

use crate::identity::issued::{Issued, check_chain};

/// How far in the future a certificate may start: the CA's clock may be ahead of ours.
pub const SKEW: Duration = Duration::from_secs(120);

/// The most elements, and the most certificates, that are looked at.
const MAX_CERTIFICATES: usize = 64;

/// The most characters of why a chain does not verify: the cause may list what the certificate says.
const MAX_CAUSE: usize = 300;

/// Why a reply is refused. The certificate held so far stays.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplyError {
    /// A leaf and a root are the least.
    #[error("the CA's reply has {0} elements; a leaf and a root bundle are the least")]
    TooShort(usize),
    /// More certificates than any chain has.
    #[error("the CA's reply holds more than {MAX_CERTIFICATES} certificates")]
    TooLong,
    /// An element is not PEM, or holds none or too many certificates.
    #[error("element {0} of the CA's reply is not the PEM certificate that belongs there")]
    NotPem(usize),
    /// A certificate is unreadable.
    #[error("the CA's reply holds an unreadable certificate")]
    Unreadable(#[source] CertificateError),
    /// The roots are not a trust bundle.
    #[error("the last element of the CA's reply is not a trust bundle")]
    Bundle(#[source] BundleError),
    /// The leaf is for somebody else.
    #[error("the CA certified {given:?} instead of {wanted}")]
    Identity {
        /// The leaf's names.
        given: Vec<String>,
        /// What was asked for.
        wanted: SpiffeId,
    },
    /// The leaf holds another key.
    #[error("the CA certified another key than ours")]
    Key,
    /// The leaf may sign certificates.
    #[error("the CA sent a CA certificate as leaf")]
    IsCa,
    /// The leaf is over.
    #[error("the certificate from the CA ended at {end}, which is past by this machine's clock", end = rfc3339(*.0))]
    Expired(OffsetDateTime),
    /// The leaf has not begun.
    #[error("the certificate from the CA starts at {start}, which is in the future; check this machine's clock", start = rfc3339(*.0))]
    NotYetValid(OffsetDateTime),
    /// The chain does not verify.
    #[error("the chain from the CA does not lead to a root it sent: {0}")]
    Chain(String),
}

/// What the CA answered; nothing of it is checked yet.
#[derive(Debug)]
pub struct Reply {
    /// PEM: leaf, intermediates, and the roots in the last element.
    pub elements: Vec<String>,
    /// The sequence of the bundle in it, from a CA that tells.
    pub sequence: Option<u64>,
}

/// What was asked for, to compare the reply with.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The identity.
    pub spiffe_id: &'a SpiffeId,
    /// The trust domain.
    pub trust_domain: &'a TrustDomain,
    /// SubjectPublicKeyInfo of our key, DER.
    pub spki_der: &'a [u8],
}

/// Checks the reply's elements (PEM: leaf, intermediates, and the roots in the last one) and joins them with the key.
///
/// Both of Istio's clients read replies in this way: the first certificate is the leaf, the last element the whole
/// root bundle. Self-signed roots among the intermediates are dropped, since a peer has its own.
///
/// # Errors
/// [`ReplyError`]; nothing of such a reply may be used.
pub fn check(reply: &Reply, asked: Asked<'_>, key_pem: Secret, now: OffsetDateTime) -> Result<Issued, ReplyError> {
    let elements = &reply.elements;
    let [leaf, middle @ .., roots] = elements.as_slice() else { return Err(ReplyError::TooShort(elements.len())) };
    if elements.len() > MAX_CERTIFICATES {
        return Err(ReplyError::TooLong);
    }
    let leaf = match certificates(leaf, 0)?.as_slice() {
        [leaf] => leaf.clone(),
        _ => return Err(ReplyError::NotPem(0)),
    };
    let roots = certificates(roots, elements.len() - 1)?;
    let sequence = reply.sequence.unwrap_or_default();
    let bundle = TrustBundle::new(asked.trust_domain.clone(), sequence, roots).map_err(ReplyError::Bundle)?;
    let mut intermediates = Vec::new();
    for (index, element) in middle.iter().enumerate() {
        for certificate in certificates(element, index + 1)? {
            let facts = Facts::read(&certificate).map_err(ReplyError::Unreadable)?;
            // Also one that stands among the roots: there may be peers that know only what is above it.
            if facts.subject_der != facts.issuer_der {
                intermediates.push(certificate);
            }
        }
    }
    if intermediates.len() + bundle.roots().len() >= MAX_CERTIFICATES {
        return Err(ReplyError::TooLong);
    }
    let facts = Facts::read(&leaf).map_err(ReplyError::Unreadable)?;
    check_leaf(&facts, asked, now)?;
    check_chain(&leaf, &intermediates, &bundle, now.max(facts.not_before))
        .map_err(|error| ReplyError::Chain(error.to_string().chars().take(MAX_CAUSE).collect()))?;
    let mut fingerprint = [0; 32];
    fingerprint.copy_from_slice(digest(&SHA256, &leaf).as_ref());
    Ok(Issued {
        spiffe_id: asked.spiffe_id.clone(),
        chain: CertificateChain::new(leaf, intermediates),
        key_pem: Arc::new(key_pem),
        bundle,
        sequence: reply.sequence,
        serial: facts.serial_text(),
        authority: hex(facts.authority_key_id.as_deref().unwrap_or_default()),
        issuer: X509Name::from_der(&facts.issuer_der).map(|(_, name)| name.to_string()).unwrap_or_default(),
        not_before: facts.not_before,
        not_after: facts.not_after,
        renew_at: renew_at(facts.not_before, facts.not_after, &fingerprint),
        jitter: jitter(&fingerprint),
    })
}

fn certificates(element: &str, index: usize) -> Result<Vec<CertificateDer<'static>>, ReplyError> {
    match read_certificates(element.as_bytes()) {
        Ok(found) if found.len() > MAX_CERTIFICATES => Err(ReplyError::TooLong),
        Ok(found) if !found.is_empty() => Ok(found.into_iter().map(|(_, certificate)| certificate).collect()),
        _ => Err(ReplyError::NotPem(index)),
    }
}

fn check_leaf(facts: &Facts, asked: Asked<'_>, now: OffsetDateTime) -> Result<(), ReplyError> {
    let others = facts.dns.len() + facts.ips.len() + facts.other_names;
    // one URI, byte for byte the one we asked for, and nothing else that names somebody.
    if !matches!(facts.uris.as_slice(), [uri] if uri == asked.spiffe_id.as_str()) || others > 0 {
        let given = facts.uris.iter().chain(&facts.dns).take(8).map(|name| name.chars().take(100).collect()).collect();
        return Err(ReplyError::Identity { given, wanted: asked.spiffe_id.clone() });
    }
    if facts.spki_der != asked.spki_der {
        return Err(ReplyError::Key);
    }
    if facts.is_ca {
        return Err(ReplyError::IsCa);
    }
    if facts.not_after <= now {
        return Err(ReplyError::Expired(facts.not_after));
    }
    if facts.not_before > time_math::after(now, SKEW) {
        return Err(ReplyError::NotYetValid(facts.not_before));
    }
    Ok(())
}

/// From other bytes than the time of the normal renewal is.
fn jitter(fingerprint: &[u8; 32]) -> f64 {
    let [.., a, b, c, d] = *fingerprint;
    f64::from(u32::from_be_bytes([a, b, c, d])) / f64::from(u32::MAX)
}

#[cfg(test)]
#[path = "reply_tests.rs"]
mod tests;
