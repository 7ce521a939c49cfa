//! The operator's own CA in a directory of files, as Istio's plug-in CA has it. What the files are when is the operator's
//! business; when what they offer is used is the rotator's.

mod error;
mod examine;
mod path;
mod read;
mod verify;
#[cfg(any(feature = "kubernetes", feature = "vault"))]
mod way;

use std::collections::HashSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rustls_pki_types::CertificateDer;
use signet_core::authority::{AuthorityId, IssuingCa, KeyId, Root};
use signet_core::clock::{SharedClock, rfc3339};
use signet_core::digest::{hex, key_identifier};
use signet_core::revocation::RevocationList;
use signet_core::seams::certificate_authority::SignError;
use signet_core::seams::custody::{KeyCustody, SigningKey};
use signet_core::seams::upstream_authority::{Certified, UpstreamAuthority};
use signet_core::source::{Offer, OfferedCa, RevokedBy};
use time::OffsetDateTime;
use tokio::sync::Semaphore;

use super::certificates::{custody_failed, failed};
use super::revocation::read_lists;
use error::FilesError;
pub use examine::{CaFile, CaFiles, Examined, Unfit};
use read::{FileSet, LISTS, ListsFile};
use verify::{Member, Verified};
#[cfg(feature = "vault")]
pub(super) use way::Way;
#[cfg(any(feature = "kubernetes", feature = "vault"))]
pub(super) use way::way_to_root;

/// How long reading a few files may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// A CA that lies in a directory: `ca-cert.pem`, `ca-key.pem`, `root-cert.pem` and `cert-chain.pem`, or `tls.crt`,
/// `tls.key` and `ca.crt`; both only if they say the same. `ca-crl.pem` with revocation lists is optional.
///
/// [`offer`](UpstreamAuthority::offer) reads the directory each time, so files that appear later, change or are swapped
/// are noticed without a restart, and costs little when nothing has changed. A set is used whole or not at all. The key of
/// each signer that was ever offered is kept in custody, so a former signer can go on after its files are gone.
pub struct FilesAuthority {
    directory: PathBuf,
    custody: Arc<dyn KeyCustody>,
    clock: SharedClock,
    /// One reader at a time, even when the file system hangs.
    reading: Arc<Semaphore>,
    state: Mutex<FilesState>,
}

#[derive(Default)]
struct FilesState {
    known: Option<CheckedSet>,
    crl_problem: Option<String>,
    /// Of which content it was said what it is.
    said: Option<[u8; 32]>,
    /// Whether it was said that others can read the key.
    key_open_said: bool,
    /// When the last reading began.
    reading_since: Option<OffsetDateTime>,
}

/// What the files said when they were last checked.
#[derive(Clone)]
struct CheckedSet {
    digest: [u8; 32],
    /// Without lists.
    offer: Offer,
    /// CAs that need a revocation list as soon as one has one.
    required: Vec<CertificateDer<'static>>,
    /// CAs that may have one.
    others: Vec<CertificateDer<'static>>,
    lists: ListsFound,
}

#[derive(Clone)]
enum ListsFound {
    Unread,
    /// In force until the first of them ends.
    Good(Vec<RevocationList>, OffsetDateTime),
    Bad(String),
}

impl FilesAuthority {
    /// The CA in `directory`, with the signers' keys kept in `custody`. Touches nothing yet.
    #[must_use]
    pub fn new(directory: PathBuf, custody: Arc<dyn KeyCustody>, clock: SharedClock) -> Self {
        let reading = Arc::new(Semaphore::new(1));
        Self { directory, custody, clock, reading, state: Mutex::default() }
    }

    /// Why the revocation lists in `ca-crl.pem` are not used, for readiness; `None` when they are, or when there are none.
    /// Says what the last [`offer`](UpstreamAuthority::offer) found.
    #[must_use]
    pub fn crl_problem(&self) -> Option<String> {
        self.with_state(|state| state.crl_problem.clone())
    }

    fn with_state<T>(&self, read: impl FnOnce(&mut FilesState) -> T) -> T {
        read(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn read(&self) -> Result<FileSet, FilesError> {
        let slow = || FilesError::Slow {
            directory: self.directory.display().to_string(),
            since: self.with_state(|state| state.reading_since).map_or_else(|| "a while".to_owned(), rfc3339),
        };
        let permit = tokio::time::timeout(DEADLINE, Arc::clone(&self.reading).acquire_owned()).await;
        let permit = permit.map_err(|_| slow())?;
        let (directory, now) = (self.directory.clone(), self.clock.now());
        self.with_state(|state| state.reading_since = Some(now));
        let reading = tokio::task::spawn_blocking(move || {
            let set = read::read(&directory);
            drop(permit);
            set
        });
        match tokio::time::timeout(DEADLINE, reading).await {
            Ok(Ok(set)) => set,
            // The reader is abandoned, or the runtime ends.
            Ok(Err(_)) | Err(_) => Err(slow()),
        }
    }

    /// Checks a set that is new and keeps its key.
    async fn learn(&self, set: &FileSet, now: OffsetDateTime) -> Result<CheckedSet, SignError> {
        let verified = verify::verify(set, now)?;
        let key_id = key_id(&verified)?;
        self.custody.import(&key_id, &verified.pkcs8).await.map_err(|error| custody_failed(&error))?;
        let offer = offer(&verified, &key_id);
        self.say(set, &verified, &offer);
        let (required, others) = with_lists(&verified);
        Ok(CheckedSet { digest: set.digest, offer, required, others, lists: ListsFound::Unread })
    }

    fn say(&self, set: &FileSet, verified: &Verified, offer: &Offer) {
        // Two may ask at the same time, before either has learned it.
        if self.with_state(|state| state.said.replace(set.digest)) == Some(set.digest) {
            return;
        }
        let Some(issuing) = offer.given() else { return };
        let directory = self.directory.display();
        tracing::info!(
            %directory, authority.id = %issuing.id, root.id = %offer.signer, roots = offer.roots.len(),
            intermediates = issuing.intermediates.len(), not_after = rfc3339(issuing.not_after),
            signer.file = set.form.signer(), "CA files read"
        );
        if !verified.ended.is_empty() {
            let roots = verified.ended.join("; ");
            tracing::warn!(%directory, roots, file = set.form.roots(), "roots that have ended are left out; remove them from the file");
        }
        let first = self.with_state(|state| set.key_open && !std::mem::replace(&mut state.key_open_said, set.key_open));
        if first {
            tracing::warn!(%directory, file = set.form.key(), "the CA's private key may be read by others than the owner of its file");
        }
    }

    /// The lists in force, and what is wrong with those that are there.
    fn lists(&self, known: &CheckedSet, set: &FileSet, now: OffsetDateTime) -> ListsFound {
        let result = match &set.lists {
            ListsFile::Absent => Ok(Vec::new()),
            ListsFile::Unusable(why) => Err(why.clone()),
            ListsFile::Content(content) => {
                read_lists(content, &known.required, &known.others, now).map_err(|error| error.to_string())
            }
        };
        match result {
            Err(why) => ListsFound::Bad(why),
            Ok(lists) => {
                let ends = lists.iter().filter_map(|list| OffsetDateTime::from_unix_timestamp(list.next_update).ok());
                let until = ends.min().unwrap_or(time::PrimitiveDateTime::MAX.assume_utc());
                ListsFound::Good(lists, until)
            }
        }
    }

    /// Remembers the lists' state and says when they become unusable, once for each content and cause.
    fn report_lists(&self, known: &CheckedSet, lists: &ListsFound) {
        let ListsFound::Bad(why) = lists else {
            if self.with_state(|state| state.crl_problem.take()).is_some() {
                tracing::info!(directory = %self.directory.display(), file = LISTS, "the revocation lists can be used again");
            }
            return;
        };
        let said = matches!(&known.lists, ListsFound::Bad(before) if before == why);
        self.with_state(|state| state.crl_problem = Some(format!("{LISTS}: {why}")));
        if !said {
            tracing::warn!(
                directory = %self.directory.display(), file = LISTS, error = %why,
                "the revocation lists cannot be used; those in use go on until they end; keys and certificates are not affected"
            );
        }
    }
}

/// CAs that need a revocation list as soon as one has one, and CAs that may have one.
fn with_lists(verified: &Verified) -> (Vec<CertificateDer<'static>>, Vec<CertificateDer<'static>>) {
    let ders = |members: &mut dyn Iterator<Item = &Member>| {
        let mut seen = HashSet::new();
        members.map(|one| one.der.clone()).filter(|der| seen.insert(der.clone())).collect::<Vec<_>>()
    };
    let required = ders(&mut verified.path().chain(&verified.roots));
    (required, ders(&mut verified.others.iter().chain(&verified.beyond)))
}

/// How the signer's key is called in custody: by the key alone, since it is one key, whatever names there are for it.
fn key_id(verified: &Verified) -> Result<KeyId, SignError> {
    let key = hex(&key_identifier(&verified.signer.facts.spki_der));
    KeyId::parse(&format!("{}{key}", KeyId::IMPORTED))
        .ok_or_else(|| failed("naming the signer's key failed; this is a bug"))
}

/// The CA that signs.
fn issuing(verified: &Verified, key_id: &KeyId) -> IssuingCa {
    let starts = verified.path().map(|one| one.facts.not_before).max();
    let ends = verified.path().map(|one| one.facts.not_after).min();
    IssuingCa {
        id: AuthorityId::of(&verified.signer.facts),
        key: Some(key_id.clone()),
        certificate: verified.signer.der.clone(),
        not_before: starts.unwrap_or(verified.signer.facts.not_before),
        not_after: ends.unwrap_or(verified.signer.facts.not_after),
        intermediates: verified.intermediates.iter().chain(&verified.beyond).map(|one| one.der.clone()).collect(),
    }
}

/// What the rotator gets to see.
fn offer(verified: &Verified, key_id: &KeyId) -> Offer {
    let signer = AuthorityId::of(&verified.root.facts);
    let own = AuthorityId::of(&verified.signer.facts);
    let roots = verified.roots.iter().map(|root| {
        let id = AuthorityId::of(&root.facts);
        Root {
            key: (id == own).then(|| key_id.clone()),
            certificate: root.der.clone(),
            not_before: root.facts.not_before,
            not_after: root.facts.not_after,
            id,
        }
    });
    Offer {
        roots: roots.collect(),
        signer,
        issuing: OfferedCa::Given(issuing(verified, key_id)),
        revocation_lists: Vec::new(),
        lists_on_demand: false,
        fingerprint: verified.fingerprint.clone(),
    }
}

#[async_trait]
impl UpstreamAuthority for FilesAuthority {
    fn revoked_by(&self) -> RevokedBy {
        RevokedBy::Owner
    }

    async fn prepare_root(&self, _generation: u64, _now: OffsetDateTime) -> Result<Root, SignError> {
        Err(self.operators())
    }

    /// The CA that the files make, never `None`.
    ///
    /// The record of the issuing CA is valid while the whole chain is: Istio's own scripts make intermediates that end
    /// seconds after their root. When the signer is a root itself, its certificate is the root's.
    ///
    /// # Errors
    /// [`SignError::Unavailable`] when the files could not be read or keep changing, [`SignError::Unusable`] when they are
    /// not a usable set, with a text that names the file, what is wrong, and what to do.
    async fn offer(&self) -> Result<Option<Offer>, SignError> {
        let set = self.read().await?;
        let now = self.clock.now();
        let unchanged = |known: &CheckedSet| known.digest == set.digest;
        let known = self.with_state(|state| state.known.clone().filter(unchanged));
        let mut known = match known {
            Some(known) => known,
            None => self.learn(&set, now).await?,
        };
        if !matches!(&known.lists, ListsFound::Good(_, until) if now < *until) {
            let lists = self.lists(&known, &set, now);
            self.report_lists(&known, &lists);
            known.lists = lists;
        }
        let mut offer = known.offer.clone();
        // Left out whenever they were read: processes that have read the same set at other times must agree.
        offer.roots.retain(|root| root.not_after > now || root.id == offer.signer);
        let set = offer.fingerprint;
        offer.fingerprint = match &known.lists {
            ListsFound::Good(lists, _) => {
                offer.revocation_lists.clone_from(lists);
                set.with_lists(lists)
            }
            ListsFound::Bad(_) | ListsFound::Unread => set.with_unusable_lists(),
        };
        self.with_state(|state| state.known = Some(known));
        Ok(Some(offer))
    }

    async fn certify(
        &self,
        _root: &Root,
        _key: &dyn SigningKey,
        _ttl: Duration,
        _now: OffsetDateTime,
    ) -> Result<Certified, SignError> {
        Err(self.operators())
    }
}

impl FilesAuthority {
    fn operators(&self) -> SignError {
        let directory = self.directory.display();
        SignError::Failed(format!("the CA is the operator's own; replace the files in {directory} to rotate it"))
    }
}

impl fmt::Debug for FilesAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FilesAuthority").field("directory", &self.directory).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod kind_tests;
#[cfg(test)]
mod list_tests;
#[cfg(test)]
mod refusal_tests;
#[cfg(test)]
mod test_world;
#[cfg(test)]
mod tests;
