//! Looks at CA files before anybody reads them as a CA: what they are, or everything that is wrong with them at once.

use std::collections::BTreeMap;

use signet_core::authority::IssuingCa;
use signet_core::secret::Secret;
use signet_core::source::Offer;
use time::OffsetDateTime;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::super::certificates::{AuthorityError, is_self_signed};
use super::super::revocation::read_lists;
use super::error::FilesError;
use super::read::{FileSet, Form, LISTS, ListsFile, MAX_FILE, MAX_LISTS_FILE, NAMES, digest};
use super::verify::{Verified, certificates, key, usable_roots, verify, verify_with};
use super::{issuing, key_id, offer, with_lists};

/// A file that is read of a CA: its name, and the most bytes that it may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CaFile {
    /// Its name.
    pub name: &'static str,
    /// The most bytes.
    pub limit: u64,
}

/// The files of a CA by their names, each of which may be the key.
#[derive(Debug, Default)]
pub struct CaFiles(BTreeMap<&'static str, Secret>);

/// What a usable set of files is.
#[derive(Debug, Clone)]
pub struct Examined {
    /// The CA as it would be used, its revocation lists apart.
    pub offer: Offer,
    /// The CA that signs.
    pub issuing: IssuingCa,
    /// The kind of its key, such as `RSA 2048` or `ECDSA P-256`.
    pub key: String,
    /// Whether the CA that signs is a root itself.
    pub self_signed: bool,
    /// Whether peers would accept revocation lists of it.
    pub may_sign_lists: bool,
    /// Subjects of roots that are left out, because they have ended.
    pub ended: Vec<String>,
}

/// All that keeps files from being used, each with its file and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub struct Unfit(pub Vec<String>);

impl CaFiles {
    /// The files that there may be.
    pub fn known() -> impl Iterator<Item = CaFile> {
        let limit = |name| if name == LISTS { MAX_LISTS_FILE } else { MAX_FILE };
        NAMES.iter().map(move |name| CaFile { name, limit: limit(*name) })
    }

    /// Adds a file, which replaces one of the same name. One that is none of a CA is left out.
    pub fn put(&mut self, name: &str, content: Vec<u8>) {
        if let Some(name) = NAMES.iter().find(|known| **known == name) {
            self.0.insert(name, Secret::new(content));
        }
    }

    /// The names that there are, and what they hold.
    pub fn each(&self) -> impl Iterator<Item = (&'static str, &Secret)> {
        self.0.iter().map(|(name, content)| (*name, content))
    }

    /// Adds what istiod leaves empty of a CA that it has made itself: such a CA is its own root, and nothing lies between.
    /// Tells which files those are; none of any other set.
    pub fn complete(&mut self) -> Vec<&'static str> {
        let form = Form::Istio;
        let is_blank = |name: &str| self.0.get(name).is_none_or(|file| file.expose().trim_ascii().is_empty());
        let own = self.0.get(form.signer()).map(|file| file.expose().to_vec());
        let Some(own) = own.filter(|_| is_blank(form.chain())) else { return Vec::new() };
        let first = certificates(&own, form.signer()).ok().and_then(|all| all.into_iter().next());
        if !first.is_some_and(|signer| is_self_signed(&signer.der, &signer.facts)) {
            return Vec::new();
        }
        let mut added = Vec::new();
        if is_blank(form.roots()) {
            self.put(form.roots(), own);
            added.push(form.roots());
        }
        if !self.0.contains_key(form.chain()) {
            self.put(form.chain(), Vec::new());
            added.push(form.chain());
        }
        added
    }

    /// What the files are, by the same verification as when they are read as a CA. `from` is where they are, for people.
    ///
    /// # Errors
    /// [`Unfit`]; of what can be told without another thing, all.
    pub fn examine(self, from: &str, now: OffsetDateTime) -> Result<Examined, Unfit> {
        let set = self.into_set(from).map_err(|error| Unfit(vec![error.to_string()]))?;
        let mut all: Vec<String> = problems(&set, now).iter().map(ToString::to_string).collect();
        let verified =
            if all.is_empty() { verify(&set, now).map_err(|error| all.push(error.to_string())).ok() } else { None };
        let Some(verified) = verified else { return Err(Unfit(all)) };
        let (required, others) = with_lists(&verified);
        if let ListsFile::Content(content) = &set.lists
            && let Err(error) = read_lists(content, &required, &others, now)
        {
            return Err(Unfit(vec![format!(
                "{LISTS}: {error}; replace it, or leave it out, which says that nothing is revoked"
            )]));
        }
        let key_id = key_id(&verified).map_err(|error| Unfit(vec![error.to_string()]))?;
        let (issuing, offer) = (issuing(&verified, &key_id), offer(&verified, &key_id));
        let Verified { signer, ended, .. } = verified;
        Ok(Examined {
            key: key_kind(&signer.facts.spki_der),
            self_signed: offer.signer == issuing.id,
            issuing,
            may_sign_lists: signer.facts.may_sign_lists(),
            ended,
            offer,
        })
    }

    /// The files as one set, as it is read from a directory.
    fn into_set(mut self, from: &str) -> Result<FileSet, FilesError> {
        let form = if self.0.contains_key(Form::Tls.signer()) { Form::Tls } else { Form::Istio };
        let other = if form == Form::Tls { Form::Istio } else { Form::Tls };
        let names = |form: Form| form.required().join(", ");
        if other.required().iter().any(|name| self.0.contains_key(name)) && self.0.contains_key(form.signer()) {
            let (tls, istio) = (names(Form::Tls), names(Form::Istio));
            return Err(FilesError::TwoSets { directory: from.to_owned(), tls, istio });
        }
        let (present, missing): (Vec<&str>, Vec<&str>) =
            form.required().iter().partition(|name| self.0.contains_key(**name));
        if present.is_empty() {
            return Err(FilesError::None(from.to_owned()));
        }
        if !missing.is_empty() {
            let list =
                |names: Vec<&str>| format!("{} {}", names.join(", "), if names.len() == 1 { "is" } else { "are" });
            let (present, missing) = (list(present), list(missing));
            return Err(FilesError::Partial { directory: from.to_owned(), present, missing });
        }
        let mut take = |name: &str| self.0.remove(name).unwrap_or_else(|| Secret::new(Vec::new()));
        let (signer, key, roots) = (take(form.signer()), take(form.key()), take(form.roots()));
        let chain = take(form.chain());
        let bytes = |file: &Secret| file.expose().to_vec();
        let lists = match self.0.remove(LISTS) {
            None => ListsFile::Absent,
            Some(lists) => ListsFile::Content(bytes(&lists)),
        };
        let (signer, roots, chain) = (bytes(&signer), bytes(&roots), bytes(&chain));
        let digest = digest(form, &[&signer, key.expose(), &roots, &chain], &lists);
        Ok(FileSet { form, signer, key, roots, chain, lists, key_open: false, digest })
    }
}

/// What is wrong with each file by itself, and with the way from the signer to a root, whatever the key is.
fn problems(set: &FileSet, now: OffsetDateTime) -> Vec<FilesError> {
    let form = set.form;
    let mut all = Vec::new();
    match certificates(&set.signer, form.signer()).map(|all| all.into_iter().next()) {
        Err(error) => all.push(error),
        Ok(None) => all.push(FilesError::NoCertificate(form.signer().to_owned())),
        Ok(Some(signer)) => {
            if !signer.facts.may_sign_certificates() {
                all.push(FilesError::NotCa { file: form.signer().to_owned(), subject: signer.subject() });
            }
            all.extend(signer.check_in_force(now).err());
            all.extend(signer.check_tls().err());
            let of_key = key(set, &signer).err();
            // That it is no CA is said already.
            all.extend(
                of_key.filter(|error| !matches!(error, FilesError::Signer { cause: AuthorityError::NotCa, .. })),
            );
        }
    }
    all.extend(certificates(&set.chain, form.chain()).err());
    match certificates(&set.roots, form.roots()) {
        Err(error) => all.push(error),
        Ok(roots) if roots.is_empty() => all.push(FilesError::NoCertificate(form.roots().to_owned())),
        Ok(roots) => all.extend(usable_roots(roots, now).err()),
    }
    let of_way = verify_with(set, now, |_, _| Ok(Secret::new(Vec::new()))).err();
    all.extend(of_way.filter(|error| !all.contains(error)));
    all
}

/// A public key for people.
fn key_kind(spki: &[u8]) -> String {
    let parsed = SubjectPublicKeyInfo::from_der(spki).ok();
    match parsed.as_ref().and_then(|(_, spki)| spki.parsed().ok()) {
        Some(PublicKey::RSA(key)) => format!("RSA {}", key.key_size()),
        Some(PublicKey::EC(point)) => format!("ECDSA P-{}", point.key_size()),
        _ => "of an unknown kind".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
    use signet_core::key_type::KeyType;

    use super::super::super::test_pki::{Ca, DAY, Encoding, NOW};
    use super::*;

    fn files(signer: &Ca, chain: &str, roots: &str) -> CaFiles {
        let mut files = CaFiles::default();
        files.put("ca-cert.pem", signer.pem().into());
        files.put("ca-key.pem", signer.key_pem(Encoding::Pkcs8).into());
        files.put("cert-chain.pem", chain.into());
        files.put("root-cert.pem", roots.into());
        // Of istiod's Secret, and of no CA.
        files.put("key.pem", Vec::new());
        files
    }

    #[tokio::test]
    async fn what_istiod_made_itself_is_completed_and_nothing_else_is() {
        let own =
            Ca::root_of(KeyType::Rsa2048, "istiod", |it| it.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign]);
        let own = own.await;
        let mut set = files(&own, "", " \n");
        assert_eq!(set.complete(), ["root-cert.pem"]);
        let found = set.examine("here", NOW).unwrap();
        assert_eq!((found.key.as_str(), found.self_signed, found.may_sign_lists), ("RSA 2048", true, false));
        assert_eq!((found.offer.roots.len(), &found.offer.signer), (1, &own.id()));
        let mut two = CaFiles::default();
        two.put("ca-cert.pem", own.pem().into());
        two.put("ca-key.pem", own.key_pem(Encoding::Traditional).into());
        assert_eq!(two.complete(), ["root-cert.pem", "cert-chain.pem"]);
        two.examine("here", NOW).unwrap();
        // istiod keeps a former root in this file.
        let other = Ca::root("other");
        let mut more = files(&own, "", &(own.pem() + &other.pem()));
        assert_eq!(more.complete(), Vec::<&str>::new());
        assert_eq!(more.examine("here", NOW).unwrap().offer.roots.len(), 2);
        let below = Ca::root("root").below("signer", |_| {});
        let mut set = files(&below, "", "");
        assert_eq!(set.complete(), Vec::<&str>::new());
        let told = set.examine("here", NOW).unwrap_err().0;
        assert!(told[0].contains("root-cert.pem holds no PEM block"), "{told:?}");
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once_and_each_thing_once() {
        let (root, other) = (Ca::root("root"), Ca::root("other"));
        let leaf = root.below("leaf", |it| {
            it.is_ca = rcgen::IsCa::ExplicitNoCa;
            it.not_after = NOW - DAY;
        });
        let mut set = files(&leaf, "-----BEGIN CERTIFICATE-----", "");
        set.put("ca-key.pem", other.key_pem(Encoding::Pkcs8).into());
        let told = set.examine("here", NOW).unwrap_err().0;
        for part in [
            "is not the certificate of a CA",
            "ended at",
            "is not the key of",
            "cert-chain.pem: ",
            "root-cert.pem holds no",
        ] {
            assert_eq!(told.iter().filter(|text| text.contains(part)).count(), 1, "{part}: {told:#?}");
        }
        assert_eq!(told.len(), 5, "{told:#?}");
        // The way to a root is looked for although the key is another one.
        let signer = root.below("signer", |_| {});
        let mut set = files(&signer, "", &other.pem());
        set.put("ca-key.pem", other.key_pem(Encoding::Pkcs8).into());
        let told = set.examine("here", NOW).unwrap_err().0;
        assert!(told.len() == 2 && told[1].contains("the issuer of `CN=signer`"), "{told:#?}");
        assert!(told.iter().all(|text| !text.contains("PRIVATE")), "{told:#?}");
    }

    #[test]
    fn what_is_missing_or_there_twice_is_named() {
        let root = Ca::root("root");
        let signer = root.below("signer", |_| {});
        let mut set = CaFiles::default();
        set.put("ca-cert.pem", signer.pem().into());
        set.put("root-cert.pem", root.pem().into());
        let told = set.examine("here", NOW).unwrap_err().0;
        assert!(told[0].contains("ca-key.pem, cert-chain.pem are missing"), "{told:?}");
        assert!(CaFiles::default().examine("here", NOW).unwrap_err().0[0].contains("there are no CA files"));
        let mut set = files(&signer, "", &root.pem());
        set.put("tls.crt", signer.pem().into());
        assert!(set.examine("here", NOW).unwrap_err().0[0].contains("two sets"));
        let mut set = files(&signer, "", &root.pem());
        set.put("ca-crl.pem", root.pem().into());
        let told = set.examine("here", NOW).unwrap_err().0;
        assert!(told[0].starts_with("ca-crl.pem: ") && told[0].contains("leave it out"), "{told:?}");
        let found = files(&signer, &(signer.pem() + &root.pem()), &root.pem()).examine("here", NOW).unwrap();
        assert_eq!((found.key.as_str(), found.self_signed, found.may_sign_lists), ("ECDSA P-256", false, true));
    }
}
