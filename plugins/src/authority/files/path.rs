//! Finds the certificates between the signer and a root: by names, key identifiers and signatures.

use signet_core::signature::{SignatureError, verify_certificate};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::error::FilesError;
use super::verify::Member;

/// CAs between the signer and the root, at most.
const MAX_INTERMEDIATES: usize = 8;

/// Signatures checked for one set, at most; certificates that all have one name make a search endless otherwise.
const MAX_CHECKS: usize = 200;

/// Why there is no way.
#[derive(Debug)]
pub(super) enum SearchError<'a> {
    /// Nobody has the issuer's name.
    NoIssuer(&'a Member),
    /// Somebody has the issuer's name, but did not sign.
    Signature { below: &'a Member, issuer: &'a Member },
    /// Somebody has the issuer's name, and nobody here can tell whether they signed.
    Unverifiable { below: &'a Member, issuer: &'a Member, cause: SignatureError },
    /// This issuer does not allow so many CAs below it.
    PathLength(&'a Member),
    /// The issuer is no CA or not in force.
    Unusable(Box<FilesError>),
    /// Too deep, or too many equal names.
    TooLong,
}

/// What to look for, and among what.
pub(super) struct Search<'a> {
    /// The signer.
    pub(super) below: &'a Member,
    /// Certificates that may lie between.
    pub(super) others: &'a [Member],
    /// Where a way may end.
    pub(super) roots: &'a [Member],
    /// How many CAs lie below `below`.
    pub(super) depth: usize,
    /// The time at which everything must be in force.
    pub(super) now: OffsetDateTime,
}

impl<'a> Search<'a> {
    /// The intermediates, nearest to the signer first, and the root.
    pub(super) fn run(&self) -> Result<(Vec<Member>, Member), SearchError<'a>> {
        let mut steps = Vec::new();
        let mut checks = MAX_CHECKS;
        let root = self.climb(self.below, &mut steps, &mut checks)?.clone();
        Ok((steps.into_iter().cloned().collect(), root))
    }

    /// Looks for a root above `below`; `steps` are the intermediates on the way. The error is the one of the candidate
    /// that was tried last, roots first.
    fn climb(
        &self,
        below: &'a Member,
        steps: &mut Vec<&'a Member>,
        checks: &mut usize,
    ) -> Result<&'a Member, SearchError<'a>> {
        let mut trouble = SearchError::NoIssuer(below);
        // A root that was renewed with its key is there twice; leaves may live as long as the longer one.
        let mut roots: Vec<&Member> = self.named(self.roots, below).collect();
        roots.sort_by_key(|root| std::cmp::Reverse(root.facts.not_after));
        for root in roots {
            match self.check(below, root, steps.len(), checks) {
                Ok(()) => return Ok(root),
                Err(error) => trouble = error,
            }
        }
        for issuer in self.named(self.others, below) {
            if steps.iter().any(|step| step.der == issuer.der) {
                continue;
            }
            if steps.len() >= MAX_INTERMEDIATES {
                return Err(SearchError::TooLong);
            }
            match self.check(below, issuer, steps.len(), checks) {
                Err(error) => trouble = error,
                Ok(()) => {
                    steps.push(issuer);
                    match self.climb(issuer, steps, checks) {
                        Ok(root) => return Ok(root),
                        Err(error) => trouble = error,
                    }
                    steps.pop();
                }
            }
        }
        Err(trouble)
    }

    /// Those with the name of the issuer of `below`, except itself: an anchor must be above the signer.
    fn named(&self, among: &'a [Member], below: &'a Member) -> impl Iterator<Item = &'a Member> + use<'a> {
        let signer = self.below;
        among.iter().filter(move |one| {
            one.facts.subject_der == below.facts.issuer_der && one.der != below.der && one.der != signer.der
        })
    }

    /// Whether `issuer` may have signed `below` and did; `depth` CAs lie between it and the signer.
    fn check(
        &self,
        below: &'a Member,
        issuer: &'a Member,
        depth: usize,
        checks: &mut usize,
    ) -> Result<(), SearchError<'a>> {
        *checks = checks.checked_sub(1).ok_or(SearchError::TooLong)?;
        let other_key = match (&below.facts.authority_key_id, &issuer.facts.subject_key_id) {
            (Some(wanted), Some(found)) => wanted != found,
            // Certificates made with Istio's own scripts do not name the issuer's key; the signature decides.
            _ => false,
        };
        if other_key {
            return Err(SearchError::Signature { below, issuer });
        }
        check_signature(&below.der, &issuer.der).map_err(|cause| match cause {
            SignatureError::False => SearchError::Signature { below, issuer },
            cause => SearchError::Unverifiable { below, issuer, cause },
        })?;
        issuer.check_usable(self.now).map_err(|cause| SearchError::Unusable(Box::new(cause)))?;
        // The signer itself lies below too (RFC 5280 section 4.2.1.9).
        let below_it = u32::try_from(self.depth + depth + 1).unwrap_or(u32::MAX);
        if issuer.path_len.is_some_and(|allowed| allowed < below_it) {
            return Err(SearchError::PathLength(issuer));
        }
        Ok(())
    }
}

fn check_signature(below: &[u8], issuer: &[u8]) -> Result<(), SignatureError> {
    let (Ok((_, below)), Ok((_, issuer))) = (X509Certificate::from_der(below), X509Certificate::from_der(issuer))
    else {
        return Err(SignatureError::False);
    };
    verify_certificate(&below, issuer.public_key())
}
