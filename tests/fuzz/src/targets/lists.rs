//! Revocation lists of an operator.
//!
//! Promises: each list that is taken was signed by a CA of the set (the issuer's are judged by ring alone), is in force,
//! and is the only one of its CA; the lists of a required CA are there; written again, what was taken is taken.

use std::collections::BTreeSet;

use signet_core::pem::pem_block;
use signet_plugins::authority::read_lists;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::revocation_list::CertificateRevocationList;

use super::blocks::blocks;
use super::signed::{is_signed_by_us, signed};
use super::{Verdict, promise, readable};
use crate::world::{NOW, issuer, root};

const LABEL: &str = "X509 CRL";

pub(super) fn run(input: &[u8]) -> Verdict {
    let input = signed(input, LABEL);
    let (required, others) = ([issuer()], [root()]);
    let lists = match read_lists(&input, &required, &others, NOW) {
        Err(error) => {
            readable(&error.to_string())?;
            return Ok(format!("{error:?}"));
        }
        Ok(lists) => lists,
    };
    if lists.is_empty() {
        promise(input.iter().all(u8::is_ascii_whitespace), || "something was read as no lists".to_owned())?;
        return Ok("none".to_owned());
    }
    let written = blocks(&input, LABEL).len().max(1);
    promise(lists.len() <= written, || format!("{} lists out of {written} blocks", lists.len()))?;
    let issuers: BTreeSet<String> = lists.iter().map(|list| list.issuer.to_string()).collect();
    promise(issuers.len() == lists.len(), || "two lists of one CA".to_owned())?;
    let mut ours = 0;
    for list in &lists {
        let (rest, parsed) = CertificateRevocationList::from_der(&list.der).map_err(|error| error.to_string())?;
        promise(rest.is_empty(), || "a list with something behind it".to_owned())?;
        let end = parsed.next_update().ok_or("a list without an end")?.timestamp();
        promise(end == list.next_update && end > NOW.unix_timestamp(), || format!("a list that ended at {end}"))?;
        let der = issuer();
        let (_, ca) = X509Certificate::from_der(&der).map_err(|error| error.to_string())?;
        if parsed.issuer().as_raw() == ca.subject().as_raw() {
            ours += 1;
            let signed = is_signed_by_us(parsed.tbs_cert_list.as_ref(), &parsed.signature_value.data);
            promise(signed, || "a list that its CA has not signed".to_owned())?;
        }
    }
    promise(ours == 1, || format!("{ours} lists of the required CA"))?;
    let text: String = lists.iter().map(|list| pem_block(LABEL, &list.der)).collect();
    let again = read_lists(text.as_bytes(), &required, &others, NOW);
    promise(again.as_ref() == Ok(&lists), || format!("written again: {again:?}"))?;
    Ok(format!("{} lists", lists.len()))
}
