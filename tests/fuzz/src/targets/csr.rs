//! Certificate signing requests in PEM.
//!
//! Promises: who is believed has signed the request with the very key that is taken from it (for P-256, judged by ring
//! alone); that key is fit and reads back as it is; the request reads the same when written in its plainest form; names of
//! workloads read back byte for byte.

use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey,
    VerificationAlgorithm,
};
use signet_core::csr::{CertificateRequest, KeyFamily, ProvenKey};
use signet_core::identity::SpiffeId;
use signet_core::pem::pem_block;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer as _;

use super::blocks::blocks;
use super::signed::signed;
use super::{Verdict, promise, readable};

const LABEL: &str = "CERTIFICATE REQUEST";

pub(super) fn run(input: &[u8]) -> Verdict {
    let input = signed(input, LABEL);
    let Ok(text) = std::str::from_utf8(&input) else { return Ok("not text".to_owned()) };
    let request = match CertificateRequest::parse(text) {
        Err(error) => {
            readable(&error.to_string())?;
            promise(!error.label().is_empty(), || "an error without a label".to_owned())?;
            return Ok(format!("{error:?}"));
        }
        Ok(request) => request,
    };
    // RFC 7468 section 7: the other label says the same. A mark in front is passed over.
    let usual =
        text.trim_start_matches('\u{feff}').replace(" NEW CERTIFICATE REQUEST-----", " CERTIFICATE REQUEST-----");
    let der = blocks(usual.as_bytes(), LABEL).pop().ok_or("accepted, but another reader finds no block")?;
    let (rest, parsed) = X509CertificationRequest::from_der(&der).map_err(|error| format!("accepted, but {error}"))?;
    promise(rest.is_empty(), || "accepted with something behind it".to_owned())?;
    let info = &parsed.certification_request_info;
    let key = request.key();
    promise(info.subject_pki.raw == key.spki_der(), || "another key was taken than the request's".to_owned())?;
    let own = ProvenKey::own(key.spki_der().to_vec());
    let is_same = own.as_ref().is_ok_and(|own| (own.spki_der(), own.family()) == (key.spki_der(), key.family()));
    promise(is_same, || format!("the key that was taken reads back as {own:?}"))?;
    promise(key.request() == Some(der.as_slice()), || "the request that goes with the key is another".to_owned())?;
    let oid = parsed.signature_algorithm.algorithm.to_id_string();
    let algorithm: Option<&dyn VerificationAlgorithm> = match (key.family(), oid.as_str(), key.spki_der().len()) {
        (KeyFamily::Ec, "1.2.840.10045.4.3.2", ..=91) => Some(&ECDSA_P256_SHA256_ASN1),
        (KeyFamily::Ec, "1.2.840.10045.4.3.3", 92..) => Some(&ECDSA_P384_SHA384_ASN1),
        (KeyFamily::Rsa, "1.2.840.113549.1.1.11", _) => Some(&RSA_PKCS1_2048_8192_SHA256),
        _ => None,
    };
    let verified = algorithm.map(|algorithm| {
        let public = UnparsedPublicKey::new(algorithm, &info.subject_pki.subject_public_key.data);
        public.verify(info.raw, &parsed.signature_value.data).is_ok()
    });
    promise(verified != Some(false), || "the sender has not shown that it holds the key".to_owned())?;
    let again = CertificateRequest::parse(&pem_block(LABEL, &der));
    promise(again.as_ref() == Ok(&request), || format!("written again it reads as {again:?}"))?;
    let names = request.names();
    for uri in &names.uris {
        if let Ok(id) = SpiffeId::parse(uri) {
            promise(id.as_str() == uri, || format!("{uri:?} became {id}"))?;
        }
    }
    promise(names.uris.len() + names.others.len() <= input.len(), || "names out of nothing".to_owned())?;
    Ok(format!("accepted {:?} {verified:?} {} {}", key.family(), names.uris.len().min(3), names.others.len().min(8)))
}
