//! The way from a CA of somebody else's to its root, found and checked as that of the operator's files is.

use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;

use super::super::certificates::is_self_signed;
use super::error::FilesError;
use super::path::Search;
use super::verify::{Member, search_failed};

/// More certificates than this are a mistake.
const MAX_CERTIFICATES: usize = 64;

/// What lies above a CA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::authority) struct Way {
    /// Between it and the root, nearest first.
    pub(in crate::authority) intermediates: Vec<CertificateDer<'static>>,
    /// The self-signed certificate at the end; that of the CA itself when it is one.
    pub(in crate::authority) root: CertificateDer<'static>,
}

/// Finds the way from `ca`, which has `depth` CAs below it, through `among`, in any order and each as often as it likes.
/// `source` is what they are called in what is said.
///
/// # Errors
/// What is wrong with them, and what to do.
pub(in crate::authority) fn way_to_root(
    ca: &CertificateDer<'static>,
    among: &[CertificateDer<'static>],
    depth: usize,
    source: &'static str,
    now: OffsetDateTime,
) -> Result<Way, String> {
    find(ca, among, depth, source, now).map_err(|error| error.to_string())
}

fn find(
    ca: &CertificateDer<'static>,
    among: &[CertificateDer<'static>],
    depth: usize,
    source: &'static str,
    now: OffsetDateTime,
) -> Result<Way, FilesError> {
    if among.len() > MAX_CERTIFICATES {
        return Err(FilesError::TooMany(source.to_owned(), MAX_CERTIFICATES));
    }
    let signer = Member::read(ca.clone(), source, 1)?;
    signer.check_usable(now)?;
    signer.check_tls()?;
    if signer.path_len.and_then(|allowed| usize::try_from(allowed).ok()).is_some_and(|allowed| allowed < depth) {
        return Err(FilesError::PathTooLong { file: source.to_owned(), subject: signer.subject() });
    }
    if is_self_signed(&signer.der, &signer.facts) {
        return Ok(Way { intermediates: Vec::new(), root: ca.clone() });
    }
    let mut members: Vec<Member> = Vec::new();
    for der in among.iter().filter(|der| *der != ca) {
        if members.iter().all(|known| known.der != *der) {
            members.push(Member::read(der.clone(), source, 1)?);
        }
    }
    let (roots, others): (Vec<Member>, Vec<Member>) =
        members.into_iter().partition(|one| is_self_signed(&one.der, &one.facts));
    let found = Search { below: &signer, others: &others, roots: &roots, depth, now }.run();
    let (intermediates, root) =
        found.map_err(|error| search_failed((source, "the issuers of the mount"), &signer, error))?;
    for intermediate in &intermediates {
        intermediate.check_tls()?;
    }
    Ok(Way { intermediates: intermediates.into_iter().map(|one| one.der).collect(), root: root.der })
}
