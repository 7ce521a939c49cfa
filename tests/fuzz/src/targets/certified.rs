//! What the targets about backends share: a root that certifies issuing CAs, the key that is to be certified, and an independent
//! look at what was taken.

use rustls_pki_types::CertificateDer;
use signet_core::certificate::Facts;
use signet_core::seams::upstream_authority::Certified;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::promise;
use crate::world::{NOW, leaf};

/// The SPIFFE ID that an issuing CA is to have.
pub(super) const URI: &str = "spiffe://cluster.local";

pub(super) const WORDS: &[&str] = &[
    "== issuer\n",
    "== signed\n",
    "== login\n",
    "== capabilities\n",
    "== refusal\n",
    "== status\n",
    "== chain\n",
    "-----BEGIN CERTIFICATE-----\n",
    "-----END CERTIFICATE-----\n",
    "data",
    "certificate",
    "ca_chain",
    "issuing_ca",
    "auth",
    "client_token",
    "lease_duration",
    "renewable",
    "errors",
    "pki/root/sign-intermediate",
    "update",
    "root",
    "deny",
    "null",
    "status",
    "conditions",
    "type",
    "reason",
    "message",
    "True",
    "False",
    "Ready",
    "Approved",
    "Denied",
    "InvalidRequest",
    "Issued",
    "Failed",
    "Pending",
];

/// The key that is to be certified: that of the leaf of this world.
pub(super) fn key() -> Result<Vec<u8>, String> {
    Ok(Facts::read(&leaf()).map_err(|error| error.to_string())?.spki_der)
}

/// Promises: the certificate is for the key, of a CA, with one name, in force; each link to the root is signed by the one above it.
pub(super) fn check(found: &Certified, root: &CertificateDer<'static>) -> Result<(), String> {
    let facts = Facts::read(&found.certificate).map_err(|error| format!("an unreadable certificate: {error}"))?;
    promise(facts.spki_der == key()?, || "a CA for another key".to_owned())?;
    promise(facts.is_ca && !facts.subject_empty, || "a certificate of no CA".to_owned())?;
    promise(facts.uris == [URI], || format!("a CA for {:?}", facts.uris))?;
    promise(facts.dns.is_empty() && facts.ips.is_empty() && facts.other_names == 0, || "more names".to_owned())?;
    let chain: Vec<&CertificateDer<'static>> =
        std::iter::once(&found.certificate).chain(&found.intermediates).chain([root]).collect();
    for link in chain.windows(2) {
        let [below, above] = link else { continue };
        let (_, below) = X509Certificate::from_der(below).map_err(|error| error.to_string())?;
        let (_, above) = X509Certificate::from_der(above).map_err(|error| error.to_string())?;
        promise(below.issuer().as_raw() == above.subject().as_raw(), || "a chain with a gap".to_owned())?;
        promise(below.verify_signature(Some(above.public_key())).is_ok(), || "a chain without signature".to_owned())?;
        let ends = below.validity().not_after.timestamp();
        promise(ends > NOW.unix_timestamp(), || format!("a certificate that ended at {ends}"))?;
    }
    Ok(())
}
