//! Judges what came back for what it is: cert-manager drops path lengths, cuts no lifetimes, and signs a request as it stands;
//! external issuers do what they like.

use std::time::Duration;

use rustls_pki_types::CertificateDer;
use signet_core::authority::Root;
use signet_core::certificate::{Facts, check_encoding, subject};
use signet_core::clock::rfc3339;
use signet_core::pem::read_certificates;
use signet_core::seams::upstream_authority::Certified;
use signet_core::time_math;
use time::OffsetDateTime;

use super::super::certificates::is_self_signed;
use super::super::files::way_to_root;

/// More certificates than this are a mistake.
const MOST: usize = 16;
/// How much longer than asked for it may last: clocks differ, and some issuers backdate.
const LONGER: Duration = Duration::from_secs(300);
/// How far the issuer's clock may be ahead.
pub(super) const AHEAD: Duration = Duration::from_secs(10);
/// What certificates from there are called.
const CHAIN: &str = "the answer of cert-manager";

/// What was asked for.
pub(super) struct Asked<'a> {
    /// The key, as SubjectPublicKeyInfo in DER.
    pub(super) spki_der: &'a [u8],
    /// The SPIFFE ID of the trust domain.
    pub(super) uri: &'a str,
    /// How long it was to last.
    pub(super) ttl: Duration,
    /// The root that it is to lead to.
    pub(super) root: &'a Root,
    /// All that are known, and what they come from.
    pub(super) roots: (&'a [Root], &'a str),
}

/// The certificate and what lies between it and the root, if it is what was asked for.
///
/// # Errors
/// What is wrong with it, and what to do.
pub(super) fn judge(chain: &[u8], asked: &Asked<'_>, now: OffsetDateTime) -> Result<Certified, String> {
    let mut certificates = read(chain)?;
    if certificates.is_empty() {
        return Err("the answer holds no certificate".to_owned());
    }
    let above = certificates.split_off(1);
    let certificate = certificates.swap_remove(0);
    check(&certificate, asked, now)?;
    // A root that comes with it is not trusted for that.
    let is_root = |der: &CertificateDer<'static>| Facts::read(der).is_ok_and(|facts| is_self_signed(der, &facts));
    let mut among: Vec<_> = above.into_iter().filter(|der| !is_root(der)).collect();
    let (roots, source) = asked.roots;
    among.extend(roots.iter().map(|root| root.certificate.clone()));
    let way = way_to_root(&certificate, &among, 0, CHAIN, now).map_err(|cause| {
        format!("no way leads from the certificate to a root in {source}, where that of the issuer belongs: {cause}")
    })?;
    if way.root != asked.root.certificate {
        return Err(format!(
            "the issuer signs under root {} now, and not under {}: put that root first in {source}",
            subject(&way.root),
            subject(&asked.root.certificate),
        ));
    }
    Ok(Certified { certificate, intermediates: way.intermediates })
}

/// The certificates in a PEM text.
pub(super) fn read(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = read_certificates(text).map_err(|error| format!("a certificate cannot be read: {error}"))?;
    if read.len() > MOST {
        return Err(format!("there are {} certificates, and {MOST} are the most that make sense", read.len()));
    }
    Ok(read.into_iter().map(|(_, der)| der).collect())
}

fn check(certificate: &CertificateDer<'static>, asked: &Asked<'_>, now: OffsetDateTime) -> Result<(), String> {
    check_encoding(certificate).map_err(|flaw| format!("the certificate is not DER: {flaw}"))?;
    let facts = Facts::read(certificate).map_err(|error| format!("the certificate cannot be read: {error}"))?;
    let expect = |holds: bool, what: &str| if holds { Ok(()) } else { Err(format!("the certificate {what}")) };
    expect(facts.spki_der == asked.spki_der, "is for another key")?;
    expect(facts.may_sign_certificates(), "is not one of a CA that may sign certificates")?;
    expect(facts.may_sign_lists(), "may not sign revocation lists (key usage cRLSign)")?;
    expect(!facts.subject_empty, "has no subject, so that none that it signs could name its issuer")?;
    expect(facts.uris == [asked.uri], &format!("does not have the URI {} and no other", asked.uri))?;
    let others = facts.dns.len() + facts.ips.len() + facts.other_names;
    expect(others == 0, "has names that nobody asked for")?;
    expect(facts.unknown_critical == 0, "has critical extensions that nobody asked for")?;
    let (start, end) = (facts.not_before, facts.not_after);
    if end <= start || end <= now {
        return Err(format!("the certificate ends at {}: it was never of use", rfc3339(end)));
    }
    if start > time_math::after(now, AHEAD) {
        return Err(format!(
            "the certificate begins at {}, and it is {} here: is a clock wrong?",
            rfc3339(start),
            rfc3339(now)
        ));
    }
    if end > time_math::after(now, asked.ttl.saturating_add(LONGER)) {
        return Err(format!(
            "the certificate lasts until {}, longer than the {} s that were asked for (authority.issuing_ttl)",
            rfc3339(end),
            asked.ttl.as_secs()
        ));
    }
    Ok(())
}

#[cfg(test)]
#[path = "answer_tests.rs"]
pub(super) mod tests;
