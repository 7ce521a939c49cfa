//! What certifies issuing CAs: the issuer in Vault as it is now, with its chain up to the root; and what of its answers is used.

use std::time::Duration;

use rustls_pki_types::CertificateDer;
use signet_core::authority::{AuthorityId, IssuingCa, Root};
use signet_core::certificate::Facts;
use signet_core::clock::rfc3339;
use signet_core::pem::read_certificates;
use signet_core::revocation::RevocationList;
use signet_core::seams::upstream_authority::Certified;
use signet_core::source::{Offer, OfferedCa, SourceFingerprint};
use signet_core::time_math;
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::super::files::{Way, way_to_root};
use super::super::revocation::subject;
use super::calls::{Issuer, Signed};
use super::error::VaultError;

/// How much longer than asked for it may last: the clock there may be ahead.
const LONGER: Duration = Duration::from_secs(300);

/// What certificates from there are called.
const CHAIN: &str = "ca_chain of the issuer in Vault";

pub(super) const READ_ISSUER: &str = "read the issuer";
pub(super) const SIGN: &str = "sign the issuing CA";

/// The issuer, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    /// Everything that Vault names above what the issuer signs: it, and its chain.
    chain: Vec<CertificateDer<'static>>,
    /// The root that it leads to.
    pub(super) root: Root,
    /// When the first of them ends.
    pub(super) until: OffsetDateTime,
    /// What Vault calls it.
    pub(super) id: String,
    fingerprint: SourceFingerprint,
}

impl Source {
    /// Checks what Vault says of its issuer.
    pub(super) fn of(issuer: &Issuer, now: OffsetDateTime) -> Result<Self, VaultError> {
        let wrong = |cause: String| VaultError::Answer { what: READ_ISSUER, cause };
        let certificate = one(&issuer.certificate).map_err(wrong)?;
        let chain = all(issuer.ca_chain.iter().map(String::as_str)).map_err(wrong)?;
        let Way { intermediates, root } = way_to_root(&certificate, &chain, 1, CHAIN, now).map_err(wrong)?;
        let fingerprint = SourceFingerprint::of_set(&certificate, &intermediates, [&root]);
        let root = Root::new(root, None).map_err(|error| wrong(error.to_string()))?;
        let mut until = root.not_after;
        for above in intermediates.iter().chain([&certificate]) {
            until = until.min(Facts::read(above).map_err(|error| wrong(error.to_string()))?.not_after);
        }
        let chain = std::iter::once(certificate).chain(intermediates).chain([root.certificate.clone()]).collect();
        Ok(Self { chain, root, until, id: issuer.issuer_id.clone(), fingerprint })
    }

    /// The issuer and what is above it, with their names for people.
    pub(super) fn above(&self) -> impl Iterator<Item = (AuthorityId, String)> {
        let named = |der: &CertificateDer<'static>| {
            let facts = Facts::read(der).ok()?;
            Some((AuthorityId::of(&facts), subject(der)))
        };
        self.chain.iter().filter_map(named)
    }

    /// What the rotator gets to see: the issuer itself as issuing CA when it `signs_leaves`.
    pub(super) fn offer(&self, signs_leaves: bool, revocation_lists: Vec<RevocationList>) -> Result<Offer, VaultError> {
        let (issuing, fingerprint) = match signs_leaves {
            true => (OfferedCa::Given(self.issuing()?), self.fingerprint.clone().signing_leaves()),
            false => (OfferedCa::Certified { until: self.until }, self.fingerprint.clone()),
        };
        let (roots, signer) = (vec![self.root.clone()], self.root.id.clone());
        Ok(Offer { roots, signer, issuing, revocation_lists, lists_on_demand: true, fingerprint })
    }

    /// The issuer as an issuing CA whose key is Vault's.
    fn issuing(&self) -> Result<IssuingCa, VaultError> {
        let wrong = |cause: String| VaultError::Answer { what: READ_ISSUER, cause };
        let (first, above) = self.chain.split_first().ok_or_else(|| wrong("there is no issuer".to_owned()))?;
        // The last is the root; it may be the issuer itself.
        let between = above.iter().take(above.len().saturating_sub(1)).cloned().collect();
        IssuingCa::below(first.clone(), None, between, &self.root).map_err(|error| wrong(error.to_string()))
    }

    /// Whether it is the issuer of this certificate.
    pub(super) fn is(&self, issuing: &IssuingCa) -> bool {
        self.chain.first() == Some(&issuing.certificate)
    }

    /// Judges a signed certificate: it must be one of a CA with exactly this key and name that certifies no other CA, in force for no
    /// longer than was asked for, and lead to the root of this issuer. When it ends before that, it does.
    pub(super) fn accept(
        &self,
        signed: &Signed,
        asked: &Asked<'_>,
        now: OffsetDateTime,
    ) -> Result<Certified, VaultError> {
        let wrong = |cause: String| VaultError::Answer { what: SIGN, cause };
        let certificate = one(&signed.certificate).map_err(wrong)?;
        let facts = Facts::read(&certificate).map_err(|error| wrong(error.to_string()))?;
        let expect = |holds: bool, what: &str| if holds { Ok(()) } else { Err(wrong(what.to_owned())) };
        expect(facts.spki_der == asked.spki_der, "the certificate is for another key")?;
        expect(facts.is_ca, "the certificate is not one of a CA")?;
        expect(facts.may_sign_lists(), "the certificate may not sign revocation lists (key usage cRLSign)")?;
        expect(path_length(&certificate) == Some(0), "its path length is not 0, which max_path_length asked for")?;
        expect(!facts.subject_empty, "the certificate has no subject")?;
        // What else it names, our leaves would be issued in the name of.
        expect(facts.uris == [asked.uri], "the URI of the certificate is not the one that was asked for")?;
        expect(
            facts.dns.is_empty() && facts.ips.is_empty() && facts.other_names == 0,
            "the certificate has names that were not asked for",
        )?;
        if now < facts.not_before {
            return Err(wrong(format!(
                "the certificate starts only at {}; is a clock wrong?",
                rfc3339(facts.not_before)
            )));
        }
        if facts.not_after > time_math::after(now, asked.lifetime.saturating_add(LONGER)) {
            return Err(wrong(format!(
                "the certificate lasts until {}, longer than the {} s that were asked for",
                rfc3339(facts.not_after),
                asked.lifetime.as_secs()
            )));
        }
        let parts = signed.ca_chain.iter().map(String::as_str).chain([signed.issuing_ca.as_str()]);
        let mut among = all(parts.filter(|text| !text.is_empty())).map_err(wrong)?;
        among.extend(self.chain.iter().cloned());
        let way = way_to_root(&certificate, &among, 0, CHAIN, now).map_err(wrong)?;
        let found = Root::new(way.root, None).map_err(|error| wrong(error.to_string()))?;
        let root = &self.root.id;
        if found.id != *root {
            let cause = format!("it leads to root {}, not to {root}: the issuer has changed meanwhile", found.id);
            return Err(wrong(cause));
        }
        Ok(Certified { certificate, intermediates: way.intermediates })
    }
}

/// What a signed certificate must say.
pub(super) struct Asked<'a> {
    /// The key.
    pub(super) spki_der: &'a [u8],
    /// The SPIFFE ID: that of the trust domain, or of a trial.
    pub(super) uri: &'a str,
    /// How long it was to last.
    pub(super) lifetime: Duration,
}

/// How many CAs may follow below this one, where that is said.
fn path_length(certificate: &[u8]) -> Option<u32> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    parsed.basic_constraints().ok()??.value.path_len_constraint
}

/// The certificate in a PEM text.
pub(super) fn one(text: &str) -> Result<CertificateDer<'static>, String> {
    match <[_; 1]>::try_from(all([text])?) {
        Ok([certificate]) => Ok(certificate),
        Err(several) => Err(format!("there are {} certificates in the place of one", several.len())),
    }
}

/// The certificates in these texts.
fn all<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Vec<CertificateDer<'static>>, String> {
    let mut found = Vec::new();
    for text in texts {
        let read =
            read_certificates(text.as_bytes()).map_err(|error| format!("a certificate cannot be read: {error}"))?;
        found.extend(read.into_iter().map(|(_, certificate)| certificate));
    }
    Ok(found)
}
