//! A CA in a directory. A line `== name` begins each file.
//!
//! Promises: what is offered is in the files, by another PEM reader; the chain leads from the signer to the root, link by
//! link; the key is the signer's and signs; roots are each there once, none has ended; a second look says the same; broken
//! lists never block the keys.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use signet_core::certificate::Facts;
use signet_core::clock::ManualClock;
use signet_core::seams::custody::KeyCustody;
use signet_core::seams::upstream_authority::UpstreamAuthority as _;
use signet_core::source::Offer;
use signet_plugins::authority::FilesAuthority;
use signet_plugins::custody::MemoryCustody;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::blocks::certificates;
use super::{Verdict, promise, readable, wait_for};
use crate::world::NOW;

pub(super) const WORDS: &[&str] = &[
    "== tls.crt\n",
    "== tls.key\n",
    "== ca.crt\n",
    "== ca-cert.pem\n",
    "== ca-key.pem\n",
    "== root-cert.pem\n",
    "== cert-chain.pem\n",
    "== ca-crl.pem\n",
    "== \n",
    "-----BEGIN CERTIFICATE-----\n",
    "-----END CERTIFICATE-----\n",
    "-----BEGIN PRIVATE KEY-----\n",
    "-----END PRIVATE KEY-----\n",
    "-----BEGIN ",
    "-----",
    "# a comment\n",
    "\r\n",
];

const NAMES: [&str; 8] =
    ["tls.crt", "tls.key", "ca.crt", "ca-cert.pem", "ca-key.pem", "root-cert.pem", "cert-chain.pem", "ca-crl.pem"];

/// The parts of an input that `== name` lines divide; what stands before the first has an empty name.
pub(super) fn parts(input: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut parts = vec![(String::new(), Vec::new())];
    for line in input.split_inclusive(|byte| *byte == b'\n') {
        match (line.strip_prefix(b"== "), parts.last_mut()) {
            (Some(name), _) => parts.push((String::from_utf8_lossy(name).trim().to_owned(), Vec::new())),
            (None, Some((_, content))) => content.extend(line),
            (None, None) => {}
        }
    }
    parts
}

pub(super) fn run(input: &[u8]) -> Verdict {
    let files: Vec<(String, Vec<u8>)> =
        parts(input).into_iter().filter(|(name, _)| NAMES.contains(&name.as_str())).collect();
    let directory = tempfile::tempdir().map_err(|error| format!("no directory: {error}"))?;
    for (name, content) in &files {
        std::fs::write(directory.path().join(name), content).map_err(|error| format!("no file: {error}"))?;
    }
    let custody = Arc::new(MemoryCustody::new());
    let (offer, problem) = match wait_for(look(directory.path(), Arc::clone(&custody)))?? {
        Err(words) => {
            readable(&words)?;
            return Ok(words.replace(&directory.path().display().to_string(), ""));
        }
        Ok(offered) => offered,
    };
    let known: BTreeSet<Vec<u8>> = files.iter().flat_map(|(_, content)| certificates(content)).collect();
    check(&offer, &known)?;
    wait_for(check_key(&offer, custody.as_ref()))??;
    let (roots, between, lists) = (
        offer.roots.len().min(5),
        offer.given().map_or(0, |given| given.intermediates.len()),
        offer.revocation_lists.len(),
    );
    Ok(format!("{roots} roots, {between} between, {lists} lists, {problem:?}"))
}

type Offered = Result<(Box<Offer>, Option<String>), String>;

/// What is offered, the same at a second look, or why nothing is.
async fn look(directory: &Path, custody: Arc<MemoryCustody>) -> Result<Offered, String> {
    let authority = FilesAuthority::new(directory.to_owned(), custody, Arc::new(ManualClock::at(NOW)));
    let first = authority.offer().await;
    let second = authority.offer().await;
    promise(format!("{first:?}") == format!("{second:?}"), || format!("first {first:?}, then {second:?}"))?;
    match first {
        Ok(Some(offer)) => Ok(Ok((Box::new(offer), authority.crl_problem()))),
        Ok(None) => Err("neither an offer nor a reason".to_owned()),
        Err(error) => Ok(Err(error.to_string())),
    }
}

fn check(offer: &Offer, certificates: &BTreeSet<Vec<u8>>) -> Result<(), String> {
    let issuing = offer.given().ok_or("no issuing CA")?;
    let roots: BTreeSet<String> = offer.roots.iter().map(|root| root.id.to_string()).collect();
    promise(roots.len() == offer.roots.len(), || "a root is there twice".to_owned())?;
    promise(roots.contains(&offer.signer.to_string()), || "the root that signs is not offered".to_owned())?;
    let all =
        offer.roots.iter().map(|root| &root.certificate).chain(&issuing.intermediates).chain([&issuing.certificate]);
    for der in all {
        promise(certificates.contains(der.as_ref()), || "a certificate that another reader does not find".to_owned())?;
        let facts = Facts::read(der).map_err(|error| format!("an unreadable certificate: {error}"))?;
        promise(facts.may_be_anchor(), || "a certificate of no CA".to_owned())?;
        promise(facts.not_after > NOW, || "a certificate that has ended".to_owned())?;
    }
    let root = offer.roots.iter().find(|root| root.id == offer.signer).ok_or("no root")?;
    let mut chain = vec![&issuing.certificate];
    chain.extend(&issuing.intermediates);
    chain.push(&root.certificate);
    chain.dedup();
    for link in chain.windows(2) {
        let [below, above] = link else { continue };
        let (_, below) = X509Certificate::from_der(below).map_err(|error| error.to_string())?;
        let (_, above) = X509Certificate::from_der(above).map_err(|error| error.to_string())?;
        promise(below.issuer().as_raw() == above.subject().as_raw(), || "a chain with a gap".to_owned())?;
        promise(below.verify_signature(Some(above.public_key())).is_ok(), || "a chain without signature".to_owned())?;
    }
    Ok(())
}

/// The key in custody is that of the issuing certificate and of nobody else.
async fn check_key(offer: &Offer, custody: &MemoryCustody) -> Result<(), String> {
    let issuing = offer.given().ok_or("no issuing CA")?;
    let id = issuing.key.as_ref().ok_or("no key")?;
    let key = custody.open(id).await.map_err(|error| format!("the key is not kept: {error}"))?;
    let facts = Facts::read(&issuing.certificate).map_err(|error| error.to_string())?;
    promise(key.spki_der() == facts.spki_der, || "the key of another certificate".to_owned())
}
