//! The check that what an authority signed is what was decided, before anything is recorded or released.

use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::bundle::TrustBundle;
use crate::certificate::{CertificateChain, CertificateError, Facts};
use crate::policy::{SigningRequest, Subject};
use crate::profile::{leaf_usages, usage};
use crate::release::Unreleased;

/// How far the signature itself is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signer {
    /// A key of this process signed. Names, key identifiers and validity of the chain are checked; the signature is
    /// not verified again, which would cost more than making it and could only find a fault of the CPU.
    Here,
    /// Somebody else's system signed: every signature up to a root of the bundle is verified.
    Elsewhere,
}

/// How an issued certificate differs from the decision. Each is a defect of the authority; nothing is released.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Mismatch {
    /// A certificate of the chain is unreadable.
    #[error("the authority returned an unreadable certificate: {0}")]
    Unreadable(CertificateError),
    /// A field of the leaf is not as decided.
    #[error("the issued certificate has another {0} than was decided")]
    Field(&'static str),
    /// The chain does not lead to a root of the bundle.
    #[error("the issued chain does not lead to a root of the trust bundle: {0}")]
    Chain(&'static str),
}

impl From<CertificateError> for Mismatch {
    fn from(error: CertificateError) -> Self {
        Self::Unreadable(error)
    }
}

/// The certificates between leaves and a root of the bundle, checked once for all the leaves below them: names, key
/// identifiers, validity, CA rights and every signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedPath {
    certificates: Vec<CertificateDer<'static>>,
    issuer: Facts,
    issuer_der: CertificateDer<'static>,
    /// The time that every certificate up to the root covers. In an operator's chain one may outlive its issuer, which
    /// verifiers accept; a leaf may not outlive any of them.
    bounds: (OffsetDateTime, OffsetDateTime),
}

impl VerifiedPath {
    /// Checks `intermediates`, nearest to the leaf first and without the root; with none, leaves are signed by the root
    /// with the name and key of the certificate `leaf_issuer`: two roots may share one key.
    ///
    /// # Errors
    /// [`Mismatch::Unreadable`] or [`Mismatch::Chain`].
    pub fn check(
        intermediates: &[CertificateDer<'static>],
        leaf_issuer: &[u8],
        bundle: &TrustBundle,
    ) -> Result<Self, Mismatch> {
        let roots: Vec<Facts> = bundle.roots().iter().map(|root| Facts::read(root)).collect::<Result<_, _>>()?;
        let root_of = |matches: &dyn Fn(&Facts) -> bool| {
            let found = roots.iter().zip(bundle.roots()).find(|(facts, _)| matches(facts));
            found.ok_or(Mismatch::Chain("no root of that name and key"))
        };
        let chain: Vec<(Facts, &CertificateDer<'static>)> =
            intermediates.iter().map(|der| Ok((Facts::read(der)?, der))).collect::<Result<_, CertificateError>>()?;
        let (first, mut below) = match (chain.first(), chain.last()) {
            (Some(first), Some(last)) => (first.clone(), last),
            _ => {
                let own = Facts::read(leaf_issuer)?;
                let is_same = |root: &Facts| root.subject_der == own.subject_der && root.spki_der == own.spki_der;
                let (facts, der) = root_of(&is_same)?;
                let (issuer, issuer_der) = (facts.clone(), der.clone());
                let bounds = (issuer.not_before, issuer.not_after);
                return Ok(Self { certificates: Vec::new(), issuer, issuer_der, bounds });
            }
        };
        // Several generations of a CA may share a name, and an operator's certificate need not name its issuer's key:
        // the signature decides.
        let named = roots.iter().zip(bundle.roots()).filter(|(root, _)| root.subject_der == below.0.issuer_der);
        let mut tried = Err(Mismatch::Chain("no root of that name and key"));
        for (root, der) in named {
            tried = check_link(&below.0, below.1, root, der, Signer::Elsewhere).map(|()| root);
            if tried.is_ok() {
                break;
            }
        }
        let root = tried?;
        for above in chain.iter().rev().skip(1) {
            check_link(&above.0, above.1, &below.0, below.1, Signer::Elsewhere)?;
            below = above;
        }
        let above = || chain.iter().map(|(facts, _)| facts).chain([root]);
        let first_day = above().map(|facts| facts.not_before).max().unwrap_or(root.not_before);
        let last_day = above().map(|facts| facts.not_after).min().unwrap_or(root.not_after);
        let bounds = (first_day, last_day);
        Ok(Self { certificates: intermediates.to_vec(), issuer: first.0, issuer_der: first.1.clone(), bounds })
    }
}

/// Compares `chain` with the decision and uses the decision up.
///
/// # Errors
/// The first [`Mismatch`]; the chain is dropped.
pub fn check_issued(
    request: SigningRequest,
    chain: CertificateChain,
    path: &VerifiedPath,
    signer: Signer,
) -> Result<Unreleased, Mismatch> {
    let leaf = Facts::read(chain.leaf())?;
    check_leaf(&request, &leaf)?;
    if chain.intermediates() != path.certificates {
        return Err(Mismatch::Chain("the intermediates are not those that were verified"));
    }
    check_link(&leaf, chain.leaf(), &path.issuer, &path.issuer_der, signer)?;
    let expect = |holds: bool, what| if holds { Ok(()) } else { Err(Mismatch::Chain(what)) };
    expect(leaf.not_after <= path.bounds.1, "a certificate outlives its issuer")?;
    expect(leaf.not_before >= path.bounds.0, "a certificate starts before its issuer")?;
    Ok(Unreleased::new(chain, request.serial()))
}

fn check_leaf(request: &SigningRequest, leaf: &Facts) -> Result<(), Mismatch> {
    let expect = |holds: bool, field| if holds { Ok(()) } else { Err(Mismatch::Field(field)) };
    let (dns, ips) = match request.subject() {
        Subject::Workload(_) => (&[][..], &[][..]),
        Subject::Serving { dns, ips, .. } => (dns.as_slice(), ips.as_slice()),
    };
    // exactly one URI SAN.
    expect(matches!(leaf.uris.as_slice(), [uri] if uri == request.spiffe_id().as_str()), "URI SAN")?;
    expect(leaf.dns == dns && leaf.ips == ips && leaf.other_names == 0, "set of other SANs")?;
    // an empty subject makes the SAN extension critical; a subject would name somebody nobody decided on.
    expect(leaf.subject_empty && leaf.san_critical, "subject")?;
    expect(leaf.spki_der == request.key().spki_der(), "public key")?;
    expect(leaf.serial == request.serial().as_bytes(), "serial number")?;
    expect(leaf.not_before == request.not_before() && leaf.not_after == request.not_after(), "validity")?;
    expect(!leaf.is_ca, "CA flag")?;
    //
    let flags = leaf_usages(request.key().family()).iter().fold(0u16, |flags, bit| flags | 1 << bit);
    expect(leaf.key_usage == Some(flags) && leaf.key_usage_critical, "key usage")?;
    expect(leaf.extended_key_usage == Some((true, true, false)), "extended key usage")?;
    expect(leaf.unknown_critical == 0, "set of critical extensions")
}

fn check_link(
    below: &Facts,
    below_der: &[u8],
    issuer: &Facts,
    issuer_der: &[u8],
    signer: Signer,
) -> Result<(), Mismatch> {
    let expect = |holds: bool, what| if holds { Ok(()) } else { Err(Mismatch::Chain(what)) };
    expect(below.issuer_der == issuer.subject_der, "issuer and subject names differ")?;
    // RFC 5280 section 4.2.1.1 demands the identifier, yet CAs made with common scripts lack it; ours do not.
    let named = below.authority_key_id.is_some() || signer == Signer::Here;
    expect(!named || matches_key_id(below, issuer), "key identifiers differ")?;
    // X-5a.
    expect(issuer.is_ca && issuer.has_usage(usage::KEY_CERT_SIGN), "an issuer may not sign certificates")?;
    if signer == Signer::Elsewhere {
        let (_, child) = X509Certificate::from_der(below_der).map_err(|_| CertificateError::NotX509)?;
        let (_, parent) = X509Certificate::from_der(issuer_der).map_err(|_| CertificateError::NotX509)?;
        child
            .verify_signature(Some(parent.public_key()))
            .map_err(|_| Mismatch::Chain("a signature does not verify"))?;
    }
    Ok(())
}

fn matches_key_id(below: &Facts, issuer: &Facts) -> bool {
    below.authority_key_id.is_some() && below.authority_key_id == issuer.subject_key_id
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
