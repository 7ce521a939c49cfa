//! The roots that the issuer's certificates lead to: read where the operator says, and checked as those of his files are.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Api;
use rustls_pki_types::CertificateDer;
use signet_core::authority::{IssuingCa, Root};
use signet_core::certificate::{Facts, check_encoding, subject};
use signet_core::clock::rfc3339;
use signet_core::seams::certificate_authority::SignError;
use signet_core::source::{Offer, OfferedCa, SourceFingerprint};
use time::OffsetDateTime;

use super::super::certificates::is_self_signed;
use super::answer::read;
use super::calls::{Fault, within};
use super::settings::{ObjectKey, RootsFrom};
use crate::kubernetes::{ApiServer, Files};

/// How long reading them may take; whoever waits for it has other things to do.
const WITHIN: Duration = Duration::from_secs(5);
/// How many keys of an object are told.
const TOLD: usize = 8;

/// The roots, checked, that of the issuer first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Roots {
    pub(super) signer: Root,
    /// All, with the signer.
    pub(super) all: Vec<Root>,
    /// Subjects of those that are left out because they have ended.
    pub(super) ended: Vec<String>,
    fingerprint: SourceFingerprint,
}

impl Roots {
    /// The roots in a PEM text. The first is the one that issuing CAs are certified under.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(super) fn parse(text: &[u8], now: OffsetDateTime) -> Result<Self, String> {
        Self::of(&read(text)?, now)
    }

    /// The same of certificates.
    pub(super) fn of(ders: &[CertificateDer<'static>], now: OffsetDateTime) -> Result<Self, String> {
        let (mut all, mut ended) = (Vec::<Root>::new(), Vec::new());
        let first = ders.first().ok_or("there is no certificate in it")?;
        for der in ders {
            check_encoding(der).map_err(|flaw| format!("a certificate is not DER: {flaw}"))?;
            let facts = Facts::read(der).map_err(|error| format!("a certificate cannot be read: {error}"))?;
            let name = subject(der);
            if !facts.may_be_anchor() || !is_self_signed(der, &facts) {
                return Err(format!("{name} is not a root: it is not self-signed, or not of a CA; take it out"));
            }
            if now < facts.not_before {
                return Err(format!("{name} begins only at {}; is a clock wrong?", rfc3339(facts.not_before)));
            }
            if facts.not_after <= now {
                ended.push(format!("{name}, ended {}", rfc3339(facts.not_after)));
                continue;
            }
            let root = Root::new(der.clone(), None).map_err(|error| format!("{name}: {error}"))?;
            match all.iter_mut().find(|known| known.id == root.id) {
                // Renewed with its key; leaves may live as long as the longer one.
                Some(known) if known.not_after < root.not_after => *known = root,
                Some(_) => {}
                None => all.push(root),
            }
        }
        let signer = Root::new(first.clone(), None).map_err(|error| error.to_string())?.id;
        let signer = all.iter().find(|root| root.id == signer).cloned();
        let signer = signer.ok_or_else(|| format!("the first root has ended: {}", ended.join("; ")))?;
        // Ended or not: the day on which one ends must not make this look new.
        let fingerprint = SourceFingerprint::of_set(first, [], ders);
        Ok(Self { signer, all, ended, fingerprint })
    }

    /// What the rotator gets to see, with the CA that signs leaves itself, if it does.
    pub(super) fn offer(&self, leaves: Option<&IssuingCa>, now: OffsetDateTime) -> Offer {
        let (issuing, fingerprint) = match leaves {
            // What lies between is seen with the answer only.
            None => (OfferedCa::Certified { until: self.signer.not_after }, self.fingerprint.clone()),
            Some(issuing) => {
                let roots = self.all.iter().map(|root| &root.certificate);
                let fingerprint = SourceFingerprint::of_set(&issuing.certificate, &issuing.intermediates, roots);
                (OfferedCa::Given(issuing.clone()), fingerprint.signing_leaves())
            }
        };
        let counts = |root: &&Root| root.not_after > now || root.id == self.signer.id;
        Offer {
            roots: self.all.iter().filter(counts).cloned().collect(),
            signer: self.signer.id.clone(),
            issuing,
            revocation_lists: Vec::new(),
            lists_on_demand: false,
            fingerprint,
        }
    }
}

/// Reads the text of a source in a file or in the cluster.
///
/// # Errors
/// [`SignError::Unavailable`] when it cannot be read now, [`SignError::Unusable`] when there is no such thing.
pub(super) async fn text(from: &RootsFrom, server: Option<&ApiServer>, files: &Files) -> Result<Vec<u8>, SignError> {
    let reading = async {
        match (from, server) {
            (RootsFrom::File(path), _) => files.read(path).await.map_err(SignError::Unavailable),
            (RootsFrom::ConfigMap(at), Some(server)) => {
                let maps: Api<ConfigMap> = Api::namespaced(server.client(), &at.namespace);
                let map = found(within(maps.get(&at.name)).await, from)?;
                let (mut texts, mut bytes) = (map.data.unwrap_or_default(), map.binary_data.unwrap_or_default());
                let value = texts.remove(&at.key).map(String::into_bytes);
                let value = value.or_else(|| bytes.remove(&at.key).map(|bytes| bytes.0));
                value.ok_or_else(|| no_key(from, at, texts.keys().chain(bytes.keys())))
            }
            (RootsFrom::Secret(at), Some(server)) => {
                let secrets: Api<Secret> = Api::namespaced(server.client(), &at.namespace);
                let mut values = found(within(secrets.get(&at.name)).await, from)?.data.unwrap_or_default();
                let value = values.remove(&at.key).map(|bytes| bytes.0);
                value.ok_or_else(|| no_key(from, at, values.keys()))
            }
            (from, _) => Err(SignError::Failed(format!("bug: {from} is nothing to be read"))),
        }
    };
    let late = |_| SignError::Unavailable(format!("{from} could not be read within {WITHIN:?}"));
    tokio::time::timeout(WITHIN, reading).await.map_err(late)?
}

fn found<T>(answer: Result<T, Fault>, from: &RootsFrom) -> Result<T, SignError> {
    answer.map_err(|fault| match fault {
        Fault::Absent(_) => {
            SignError::Unusable(format!("{from}: there is none; make it, or correct authority.cert_manager.roots"))
        }
        fault => fault.signing(&from.to_string()),
    })
}

fn no_key<'a>(from: &RootsFrom, at: &ObjectKey, keys: impl Iterator<Item = &'a String>) -> SignError {
    let keys: Vec<_> = keys.take(TOLD).map(String::as_str).collect();
    SignError::Unusable(format!("{from}: there is no key {}, but: {}", at.key, keys.join(", ")))
}

#[cfg(test)]
#[path = "roots_tests.rs"]
mod tests;
