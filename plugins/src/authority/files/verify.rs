//! Checks the operator's CA files as a set before anything uses them: the key, the signer, the roots, and the chain
//! between. Name constraints and certificate policies are not looked at, and neither is any revocation of a CA.

use std::sync::Arc;

use rustls_pki_types::CertificateDer;
use signet_core::certificate::{CertificateError, Facts, check_encoding};
use signet_core::clock::rfc3339;
use signet_core::pem::read_certificates;
use signet_core::secret::Secret;
use signet_core::source::SourceFingerprint;
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::super::certificates::{AuthorityError, is_self_signed, prepare, shown};
use super::error::FilesError;
use super::path::{Search, SearchError};
use super::read::FileSet;
use crate::custody::LocalKey;
use crate::custody::private_key::pkcs8_from_pem;

/// More certificates than this in one file are a mistake.
const MAX_CERTIFICATES: usize = 64;

/// A certificate of the files.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) der: CertificateDer<'static>,
    pub(super) facts: Facts,
    /// Name of its file.
    pub(super) file: &'static str,
    /// basicConstraints pathLenConstraint.
    pub(super) path_len: Option<u32>,
    /// Whether an extended key usage excludes TLS servers or clients.
    not_for_tls: bool,
}

impl Member {
    pub(super) fn read(der: CertificateDer<'static>, file: &'static str, line: usize) -> Result<Self, FilesError> {
        let unreadable = |cause| FilesError::Unreadable { file: file.to_owned(), line, cause };
        check_encoding(&der).map_err(|flaw| unreadable(CertificateError::NotDer(flaw)))?;
        let facts = Facts::read(&der).map_err(unreadable)?;
        let (_, parsed) = X509Certificate::from_der(&der).map_err(|_| unreadable(CertificateError::NotX509))?;
        let twice = |_| unreadable(CertificateError::BadExtension);
        let path_len = parsed.basic_constraints().map_err(twice)?.and_then(|found| found.value.path_len_constraint);
        let usage = parsed.extended_key_usage().map_err(twice)?;
        let not_for_tls =
            usage.is_some_and(|usage| !(usage.value.any || usage.value.server_auth && usage.value.client_auth));
        Ok(Self { der, facts, file, path_len, not_for_tls })
    }

    /// The subject, for people.
    pub(super) fn subject(&self) -> String {
        X509Certificate::from_der(&self.der).map_or_else(|_| String::new(), |(_, parsed)| shown(parsed.subject()))
    }

    /// Whether both are certificates of one CA, which is a name with a key.
    fn is_same_ca(&self, other: &Self) -> bool {
        self.facts.subject_der == other.facts.subject_der && self.facts.spki_der == other.facts.spki_der
    }

    /// The issuer's name, for people.
    fn issuer(&self) -> String {
        X509Certificate::from_der(&self.der).map_or_else(|_| String::new(), |(_, parsed)| shown(parsed.issuer()))
    }

    /// Whether it may sign certificates and is in force at `now`.
    pub(super) fn check_usable(&self, now: OffsetDateTime) -> Result<(), FilesError> {
        if !self.facts.may_sign_certificates() {
            return Err(FilesError::NotCa { file: self.file.to_owned(), subject: self.subject() });
        }
        self.check_in_force(now)
    }

    /// Whether it may stand among the roots and is in force at `now`. What signs nothing here is not judged as an issuer.
    fn check_anchor(&self, now: OffsetDateTime) -> Result<(), FilesError> {
        if !self.facts.may_be_anchor() {
            return Err(FilesError::NotRoot { file: self.file.to_owned(), subject: self.subject() });
        }
        self.check_in_force(now)
    }

    pub(super) fn check_in_force(&self, now: OffsetDateTime) -> Result<(), FilesError> {
        let (file, subject) = (self.file.to_owned(), || self.subject());
        if self.facts.not_after <= now {
            return Err(FilesError::Ended { file, subject: subject(), at: rfc3339(self.facts.not_after) });
        }
        if now < self.facts.not_before {
            return Err(FilesError::NotStarted { file, subject: subject(), at: rfc3339(self.facts.not_before) });
        }
        Ok(())
    }

    pub(super) fn check_tls(&self) -> Result<(), FilesError> {
        if self.not_for_tls {
            return Err(FilesError::NotForTls { file: self.file.to_owned(), subject: self.subject() });
        }
        Ok(())
    }
}

/// A set of files that makes a CA.
#[derive(Debug)]
pub(super) struct Verified {
    /// The certificate that signs leaves: with a self-signed one, the root's of the same key and name.
    pub(super) signer: Member,
    /// The signer's key as PKCS#8.
    pub(super) pkcs8: Secret,
    /// Between signer and root, nearest to the signer first.
    pub(super) intermediates: Vec<Member>,
    /// From a cross certificate of the root upwards, for peers that know only another root of the file.
    pub(super) beyond: Vec<Member>,
    /// The root that the signer chains to.
    pub(super) root: Member,
    /// Every root of the root file that has not ended, one certificate for each name and key, in the order of the file.
    pub(super) roots: Vec<Member>,
    /// Certificates of the files that are in no chain of ours.
    pub(super) others: Vec<Member>,
    /// Subjects of roots that are left out because they have ended.
    pub(super) ended: Vec<String>,
    /// Stands for the certificates in the files, whichever of them are in use at the time.
    pub(super) fingerprint: SourceFingerprint,
}

impl Verified {
    /// Signer, intermediates and root, each once.
    pub(super) fn path(&self) -> impl Iterator<Item = &Member> {
        let root = (self.root.der != self.signer.der).then_some(&self.root);
        std::iter::once(&self.signer).chain(&self.intermediates).chain(root)
    }
}

/// Checks the set at the time `now`.
pub(super) fn verify(set: &FileSet, now: OffsetDateTime) -> Result<Verified, FilesError> {
    verify_with(set, now, key)
}

/// The same with a key that is found in another way.
pub(super) fn verify_with(
    set: &FileSet,
    now: OffsetDateTime,
    key: impl FnOnce(&FileSet, &Member) -> Result<Secret, FilesError>,
) -> Result<Verified, FilesError> {
    let form = set.form;
    let mut own = certificates(&set.signer, form.signer())?;
    if own.is_empty() {
        return Err(FilesError::NoCertificate(form.signer().to_owned()));
    }
    let mut others = own.split_off(1);
    let signer = own.pop().ok_or_else(|| FilesError::NoCertificate(form.signer().to_owned()))?;
    signer.check_usable(now)?;
    signer.check_tls()?;
    let pkcs8 = key(set, &signer)?;
    // Istio's own self-signed CA has an empty chain file.
    others.extend(certificates(&set.chain, form.chain())?);

    let roots = certificates(&set.roots, form.roots())?;
    if roots.is_empty() {
        return Err(FilesError::NoCertificate(form.roots().to_owned()));
    }
    let fingerprint = fingerprint(&signer, &others, &roots);
    let (roots, ended) = usable_roots(roots, now)?;
    others.retain(|one| one.der != signer.der && !roots.iter().any(|root| root.der == one.der));

    if is_self_signed(&signer.der, &signer.facts) {
        let same = |root: &&Member| root.is_same_ca(&signer);
        let not_listed =
            || FilesError::RootNotListed { file: form.signer().to_owned(), roots: form.roots().to_owned() };
        let candidates = roots.iter().filter(same).filter(|root| is_self_signed(&root.der, &root.facts));
        // Istio renews its own root with the same key and leaves the old certificate in the root file. Peers know that
        // one, and leaves chain to it just as well if it has the key identifier.
        let candidates = candidates.filter(|root| root.facts.key_id() == signer.facts.key_id());
        let root = newest(candidates).ok_or_else(not_listed)?.clone();
        root.check_usable(now)?;
        let beyond = Anchors::among(&roots, &others).beyond(&root, 0, now);
        others.retain(|one| beyond.iter().all(|used| used.der != one.der));
        let roots = one_for_each_root(roots, &root);
        let (signer, intermediates) = (root.clone(), Vec::new());
        return Ok(Verified { signer, pkcs8, intermediates, beyond, root, roots, others, ended, fingerprint });
    }
    let anchors = Anchors::among(&roots, &others);
    // Only self-signed roots are known to everybody; where none is above, another one of the file will do.
    let far = Search { below: &signer, others: &anchors.between, roots: &anchors.self_signed, depth: 0, now }.run();
    let path = far.or_else(|_| Search { below: &signer, others: &others, roots: &roots, depth: 0, now }.run());
    let (intermediates, root) =
        path.map_err(|error| search_failed((set.form.chain(), set.form.roots()), &signer, error))?;
    for intermediate in &intermediates {
        intermediate.check_tls()?;
    }
    let beyond = anchors.beyond(&root, intermediates.len() + 1, now);
    others.retain(|one| intermediates.iter().chain(&beyond).all(|used| used.der != one.der));
    let roots = one_for_each_root(roots, &root);
    Ok(Verified { signer, pkcs8, intermediates, beyond, root, roots, others, ended, fingerprint })
}

/// The roots of the file, and what may lie below them.
struct Anchors {
    /// Those that are signed with their own key.
    self_signed: Vec<Member>,
    /// Everything else: intermediates and cross certificates, of which some may stand among the roots too.
    between: Vec<Member>,
}

impl Anchors {
    fn among(roots: &[Member], others: &[Member]) -> Self {
        let is_root = |one: &&Member| is_self_signed(&one.der, &one.facts);
        let (self_signed, cross): (Vec<&Member>, Vec<&Member>) = roots.iter().partition(is_root);
        Self {
            self_signed: self_signed.into_iter().cloned().collect(),
            between: others.iter().chain(cross).cloned().collect(),
        }
    }

    /// The way from a cross certificate of `root` to another root, which has `depth` CAs below it; nothing when there is
    /// none.
    fn beyond(&self, root: &Member, depth: usize, now: OffsetDateTime) -> Vec<Member> {
        let others: Vec<Member> = self.self_signed.iter().filter(|one| !one.is_same_ca(root)).cloned().collect();
        let crosses = self.between.iter().filter(|one| {
            let names_same_key = one.facts.subject_key_id.is_none() || one.facts.key_id() == root.facts.key_id();
            one.is_same_ca(root) && one.der != root.der && names_same_key
        });
        let way = |cross: &Member| {
            let allowed = cross.path_len.and_then(|allowed| usize::try_from(allowed).ok());
            let is_usable = |one: &Member| one.check_usable(now).is_ok() && one.check_tls().is_ok();
            if !is_usable(cross) || allowed.is_some_and(|allowed| allowed < depth) {
                return None;
            }
            let (above, _) = Search { below: cross, others: &self.between, roots: &others, depth, now }.run().ok()?;
            above.iter().all(is_usable).then(|| std::iter::once(cross.clone()).chain(above).collect())
        };
        crosses.filter_map(way).next().unwrap_or_default()
    }
}

/// The same for either form of the files, and for as long as nobody changes them: a root that ends changes the offer,
/// but must not make an old set look like a new one.
fn fingerprint(signer: &Member, others: &[Member], roots: &[Member]) -> SourceFingerprint {
    let stray = |one: &&Member| one.der != signer.der && roots.iter().all(|root| root.der != one.der);
    let between = others.iter().filter(stray).map(|one| &one.der);
    SourceFingerprint::of_set(&signer.der, between, roots.iter().map(|root| &root.der))
}

/// The error of a search through certificates that are in these two places.
pub(super) fn search_failed((chain, roots): (&str, &str), signer: &Member, error: SearchError) -> FilesError {
    match error {
        SearchError::NoIssuer(below) => FilesError::NoIssuer {
            file: below.file.to_owned(),
            subject: below.subject(),
            issuer: below.issuer(),
            chain: chain.to_owned(),
            roots: roots.to_owned(),
        },
        SearchError::Signature { below, issuer } => FilesError::BadSignature {
            file: below.file.to_owned(),
            subject: below.subject(),
            issuer: issuer.subject(),
            issuer_file: issuer.file.to_owned(),
        },
        SearchError::Unverifiable { below, issuer, cause } => FilesError::Unverifiable {
            file: below.file.to_owned(),
            subject: below.subject(),
            issuer: issuer.subject(),
            issuer_file: issuer.file.to_owned(),
            cause,
        },
        SearchError::PathLength(issuer) => {
            FilesError::PathTooLong { file: issuer.file.to_owned(), subject: issuer.subject() }
        }
        SearchError::Unusable(cause) => *cause,
        SearchError::TooLong => FilesError::TooDeep { file: signer.file.to_owned(), subject: signer.subject() },
    }
}

/// The signer's key, proven to be the one of its certificate.
pub(super) fn key(set: &FileSet, signer: &Member) -> Result<Secret, FilesError> {
    let (file, certificate) = (set.form.key(), set.form.signer());
    let pkcs8 = pkcs8_from_pem(&set.key, &signer.facts.spki_der)
        .map_err(|cause| FilesError::Key { file: file.to_owned(), cause })?;
    let key = LocalKey::from_pkcs8(pkcs8.expose())
        .ok_or_else(|| FilesError::UnusableKey { file: file.to_owned(), certificate: certificate.to_owned() })?;
    match prepare(Arc::new(key), &signer.der) {
        Ok(_) => Ok(pkcs8),
        Err(AuthorityError::OtherKey) => {
            Err(FilesError::OtherKey { file: file.to_owned(), certificate: certificate.to_owned() })
        }
        Err(cause) => Err(FilesError::Signer { file: certificate.to_owned(), cause }),
    }
}

/// Roots that have not ended, each once, and the subjects of the others. Those that start later are kept: peers may
/// know them early.
pub(super) fn usable_roots(roots: Vec<Member>, now: OffsetDateTime) -> Result<(Vec<Member>, Vec<String>), FilesError> {
    let (mut usable, mut ended): (Vec<Member>, Vec<String>) = (Vec::new(), Vec::new());
    let mut last = None;
    for root in roots {
        match root.check_anchor(now) {
            Err(error @ FilesError::Ended { .. }) => {
                ended.push(root.subject());
                last = Some(error);
            }
            Ok(()) | Err(FilesError::NotStarted { .. }) => {
                if usable.iter().all(|known| known.der != root.der) {
                    usable.push(root);
                }
            }
            Err(error) => return Err(error),
        }
    }
    match last {
        Some(error) if usable.is_empty() => Err(error),
        _ => Ok((usable, ended)),
    }
}

/// One certificate for each root, which is a name with a key: the one the chain leads to, else the one that ends last.
fn one_for_each_root(roots: Vec<Member>, chosen: &Member) -> Vec<Member> {
    let rank = |root: &Member| (root.der == chosen.der, root.facts.not_after);
    let mut kept: Vec<Member> = Vec::new();
    for root in roots {
        match kept.iter_mut().find(|one| one.is_same_ca(&root)) {
            Some(one) if rank(one) < rank(&root) => *one = root,
            Some(_) => {}
            None => kept.push(root),
        }
    }
    kept
}

fn newest<'a>(roots: impl Iterator<Item = &'a Member>) -> Option<&'a Member> {
    roots.max_by_key(|root| root.facts.not_after)
}

/// The certificates of a file, in its order.
pub(super) fn certificates(pem: &[u8], file: &'static str) -> Result<Vec<Member>, FilesError> {
    let blocks = read_certificates(pem).map_err(|cause| FilesError::Pem { file: file.to_owned(), cause })?;
    if blocks.len() > MAX_CERTIFICATES {
        return Err(FilesError::TooMany(file.to_owned(), MAX_CERTIFICATES));
    }
    blocks.into_iter().map(|(line, der)| Member::read(der, file, line)).collect()
}
