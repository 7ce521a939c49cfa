//! The check that what an authority signed is what was decided, before anything is recorded or released.

use std::time::Duration;

use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::bundle::TrustBundle;
use crate::certificate::{CertificateChain, CertificateError, Facts, Serial};
use crate::policy::{SigningRequest, Subject};
use crate::profile::{leaf_usages, usage};
use crate::record_before_release::Unreleased;
use crate::signature::{SignatureError, verify_certificate};
use crate::time_math;

/// By how much the life of what somebody else signs may lie later than was decided: their clock is another one, and an answer
/// takes its time.
const LATER: Duration = Duration::from_secs(300);

/// How much earlier it may begin: how far they backdate is set with them.
const EARLIER: Duration = Duration::from_secs(3600);

/// How far the signature itself is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signer {
    /// A key of this process signed. Names, key identifiers and validity of the chain are checked; the signature is
    /// not verified again, which would cost more than making it and could only find a fault of the CPU.
    Here,
    /// Somebody else's system signed: every signature up to a root of the bundle is verified. The serial number is theirs,
    /// and the life may be a shorter one, or lie somewhat later.
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
    /// A signature in the chain is of a kind that is not verified here.
    #[error("a signature of the issued chain cannot be verified: {0}")]
    Unsupported(SignatureError),
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
    /// They may go on above a root of the bundle, for peers that know only another one: what lies there is checked link by
    /// link, and bounds nothing.
    ///
    /// # Errors
    /// [`Mismatch`].
    pub fn check(
        intermediates: &[CertificateDer<'static>],
        leaf_issuer: &[u8],
        bundle: &TrustBundle,
    ) -> Result<Self, Mismatch> {
        let roots: Vec<Facts> = bundle.roots().iter().map(|root| Facts::read(root)).collect::<Result<_, _>>()?;
        let chain: Vec<(Facts, &CertificateDer<'static>)> =
            intermediates.iter().map(|der| Ok((Facts::read(der)?, der))).collect::<Result<_, CertificateError>>()?;
        for ((below, below_der), (above, above_der)) in chain.iter().zip(chain.iter().skip(1)) {
            check_link(below, below_der, above, above_der, Signer::Elsewhere)?;
        }
        let made = |issuer: &Facts, issuer_der: &CertificateDer<'static>, bounds| Self {
            certificates: intermediates.to_vec(),
            issuer: issuer.clone(),
            issuer_der: issuer_der.clone(),
            bounds,
        };
        if let Some((root, der)) = root_that_signs(leaf_issuer, &chain, &roots, bundle)? {
            return Ok(made(root, der, (root.not_before, root.not_after)));
        }
        let mut tried = Mismatch::Chain("no root of that name and key");
        for (at, (below, below_der)) in chain.iter().enumerate() {
            // Several generations of a CA may share a name, and an operator's certificate need not name its issuer's
            // key: the signature decides.
            let named = roots.iter().zip(bundle.roots()).filter(|(root, _)| root.subject_der == below.issuer_der);
            for (root, der) in named {
                match check_link(below, below_der, root, der, Signer::Elsewhere) {
                    Err(error) => tried = error,
                    Ok(()) => {
                        let path = || chain.iter().take(at.saturating_add(1)).map(|(facts, _)| facts).chain([root]);
                        let first_day = path().map(|facts| facts.not_before).max().unwrap_or(root.not_before);
                        let last_day = path().map(|facts| facts.not_after).min().unwrap_or(root.not_after);
                        let (issuer, issuer_der) = chain.first().map_or((below, *below_der), |(one, der)| (one, *der));
                        return Ok(made(issuer, issuer_der, (first_day, last_day)));
                    }
                }
            }
        }
        Err(tried)
    }
}

/// The root of the bundle that signs leaves itself, which is the one with the name and the key of `leaf_issuer`; `None`
/// when the first certificate of the chain signs them. With a root, a chain begins with a cross certificate of it.
fn root_that_signs<'a>(
    leaf_issuer: &[u8],
    chain: &[(Facts, &CertificateDer<'static>)],
    roots: &'a [Facts],
    bundle: &'a TrustBundle,
) -> Result<Option<(&'a Facts, &'a CertificateDer<'static>)>, Mismatch> {
    let same = |one: &Facts, other: &Facts| one.subject_der == other.subject_der && one.spki_der == other.spki_der;
    let root_of = |own: &Facts| roots.iter().zip(bundle.roots()).find(|(root, _)| same(root, own));
    match chain.first() {
        None => {
            let own = Facts::read(leaf_issuer)?;
            root_of(&own).map(Some).ok_or(Mismatch::Chain("no root of that name and key"))
        }
        Some((first, der)) if ***der != *leaf_issuer => {
            let own = Facts::read(leaf_issuer).ok().filter(|own| same(own, first));
            Ok(own.and_then(|own| root_of(&own)))
        }
        Some(_) => Ok(None),
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
    let serial = match signer {
        Signer::Here => check_made_here(&request, &leaf)?,
        Signer::Elsewhere => check_made_elsewhere(&request, &leaf)?,
    };
    if chain.intermediates() != path.certificates {
        return Err(Mismatch::Chain("the intermediates are not those that were verified"));
    }
    check_link(&leaf, chain.leaf(), &path.issuer, &path.issuer_der, signer)?;
    let expect = |holds: bool, what| if holds { Ok(()) } else { Err(Mismatch::Chain(what)) };
    expect(leaf.not_after <= path.bounds.1, "a certificate outlives its issuer")?;
    expect(leaf.not_before >= path.bounds.0, "a certificate starts before its issuer")?;
    Ok(Unreleased::new(chain, serial, (leaf.not_before, leaf.not_after)))
}

/// What is made here says exactly what was decided.
fn check_made_here(request: &SigningRequest, leaf: &Facts) -> Result<Serial, Mismatch> {
    let expect = |holds: bool, field| if holds { Ok(()) } else { Err(Mismatch::Field(field)) };
    check_names(request, leaf)?;
    // an empty subject makes the SAN extension critical; a subject would name somebody nobody decided on.
    expect(leaf.subject_empty && leaf.san_critical, "subject")?;
    expect(leaf.serial == request.serial().as_bytes(), "serial number")?;
    expect(leaf.not_before == request.not_before() && leaf.not_after == request.not_after(), "validity")?;
    //
    let flags = leaf_usages(request.key().family()).iter().fold(0u16, |flags, bit| flags | 1 << bit);
    expect(leaf.key_usage == Some(flags) && leaf.key_usage_critical, "key usage")?;
    Ok(request.serial())
}

/// What is made elsewhere says nothing else than what was decided; some things are theirs to choose.
fn check_made_elsewhere(request: &SigningRequest, leaf: &Facts) -> Result<Serial, Mismatch> {
    let expect = |holds: bool, field| if holds { Ok(()) } else { Err(Mismatch::Field(field)) };
    check_names(request, leaf)?;
    // Istio's agents ask for an organisation without a name, and an authority that signs requests as they stand repeats it.
    expect(leaf.subject_names_nobody && (leaf.san_critical || !leaf.subject_empty), "subject")?;
    let (start, end) = (leaf.not_before, leaf.not_after);
    let asked = time_math::until(request.not_before(), request.not_after());
    let longest = request.whole_life().unwrap_or_else(|| asked.saturating_add(EARLIER));
    let decided = request.decided_at();
    expect(
        start < end
            && decided < end
            && end <= time_math::after(request.not_after(), LATER)
            && start <= time_math::after(decided, LATER)
            && start >= time_math::before(request.not_before(), EARLIER)
            && time_math::until(start, end) <= longest,
        "validity",
    )?;
    // what more may be done with the key is nothing to sign certificates with.
    let may = |bit| leaf.has_usage(bit);
    expect(may(usage::DIGITAL_SIGNATURE) && !may(usage::KEY_CERT_SIGN) && !may(usage::CRL_SIGN), "key usage")?;
    expect(leaf.key_usage_critical, "key usage")?;
    Serial::from_bytes(&leaf.serial).ok_or(Mismatch::Field("serial number"))
}

/// Names, key and powers, which nobody has a choice about.
fn check_names(request: &SigningRequest, leaf: &Facts) -> Result<(), Mismatch> {
    let expect = |holds: bool, field| if holds { Ok(()) } else { Err(Mismatch::Field(field)) };
    let (dns, ips) = match request.subject() {
        Subject::Workload(_) => (&[][..], &[][..]),
        Subject::Serving { dns, ips, .. } => (dns.as_slice(), ips.as_slice()),
    };
    // exactly one URI SAN.
    expect(matches!(leaf.uris.as_slice(), [uri] if uri == request.spiffe_id().as_str()), "URI SAN")?;
    expect(leaf.dns == dns && leaf.ips == ips && leaf.other_names == 0, "set of other SANs")?;
    expect(leaf.spki_der == request.key().spki_der(), "public key")?;
    expect(!leaf.is_ca, "CA flag")?;
    //
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
    expect(names_key_of(below, issuer, signer), "key identifiers differ")?;
    // X-5a.
    expect(issuer.may_sign_certificates(), "an issuer may not sign certificates")?;
    if signer == Signer::Elsewhere {
        let (_, child) = X509Certificate::from_der(below_der).map_err(|_| CertificateError::NotX509)?;
        let (_, parent) = X509Certificate::from_der(issuer_der).map_err(|_| CertificateError::NotX509)?;
        verify_certificate(&child, parent.public_key()).map_err(|error| match error {
            SignatureError::False => Mismatch::Chain("a signature does not verify"),
            error => Mismatch::Unsupported(error),
        })?;
    }
    Ok(())
}

/// Whether `below` names the key of its issuer. RFC 5280 section 4.2.1.1 demands that, yet CAs made with common scripts
/// have no identifiers; what is signed here has one always.
fn names_key_of(below: &Facts, issuer: &Facts, signer: Signer) -> bool {
    match (&below.authority_key_id, &issuer.subject_key_id) {
        (Some(named), _) if signer == Signer::Here => *named == issuer.key_id(),
        (Some(named), Some(own)) => named == own,
        _ => signer == Signer::Elsewhere,
    }
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
