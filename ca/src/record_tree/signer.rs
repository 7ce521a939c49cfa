//! Signs a checkpoint over all events each second there is anything new. Any number of replicas may do so: the checkpoint in
//! storage advances by compare-and-set. Nothing is ever signed that is no continuation of what was signed before.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use signet_core::clock::SharedClock;
use signet_core::seams::custody::CustodyError;
use signet_core::seams::record_tree::{KeptCheckpoint, KeptNote, MAX_LEAVES, NoteChange, RecordKeys, RecordTree};
use signet_core::seams::store::StoreError;
use signet_core::transparency::{Checkpoint, Edge, FullTile, Hash, Note, NoteKey, VerifierKey, verify_consistency};
use signet_runtime::output::error_chain;
use signet_runtime::readiness::Condition;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::metrics::TreeMetrics;
use super::outside::{OutsideError, OutsideFile};
use super::proofs::{consistency_path, root_at};

/// How often it is looked for new events.
const PAUSE: Duration = Duration::from_secs(1);

/// The same while the record is no continuation: finding that out may take reading much of it.
const FORKED: Duration = Duration::from_secs(10);

/// How many events one step adds at most: what a first start finds is signed piece by piece.
const PIECE: u64 = 16_384;

/// How many keys sign: the newest, and the one that it has replaced.
const SIGNING: usize = 2;

/// What became of one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A checkpoint covers this many events, which are all.
    Covered(u64),
    /// A checkpoint covers this many events, and there are more.
    More(u64),
    /// Another replica was faster.
    Overtaken,
}

/// Why nothing is signed.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// Storage.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The keys.
    #[error("the key of the record cannot be used")]
    Keys(#[from] CustodyError),
    /// The checkpoint outside of storage.
    #[error(transparent)]
    Outside(#[from] OutsideError),
    /// The checkpoint outside of storage was there, and is not.
    #[error(
        "audit.checkpoint_file: {path} is not there, and this storage says that checkpoints of {origin} are kept outside of it \
         since there were {since} events: put the file back, or a copy of the one of another replica. If you know why it is \
         gone, `signet-ca audit checkpoint --write-file` writes it anew from this storage; see docs/audit.md"
    )]
    Missing {
        /// Where it should be.
        path: String,
        /// Of which log.
        origin: String,
        /// How many events there were when one was first written.
        since: u64,
    },
    /// The record is no continuation of what was signed before.
    #[error("{0}")]
    Forked(String),
}

/// The last checkpoint that was seen to continue all before it.
#[derive(Debug, Clone, Default)]
struct Known {
    note: Option<String>,
    edge: Edge,
}

/// Who signs.
pub struct Signer {
    tree: Arc<dyn RecordTree>,
    keys: Arc<dyn RecordKeys>,
    origin: String,
    outside: Option<OutsideFile>,
    metrics: TreeMetrics,
    clock: SharedClock,
    known: Option<Known>,
    /// What is in the file outside, as far as that is known.
    written: Option<(u64, Hash)>,
    /// Whether storage is known to say that there is such a file.
    noted: bool,
    /// The checkpoint that was signed here last.
    ours: watch::Sender<String>,
}

impl Signer {
    /// Signs the record in `tree` as the log `origin`.
    #[must_use]
    pub fn new(
        tree: Arc<dyn RecordTree>,
        keys: Arc<dyn RecordKeys>,
        origin: String,
        outside: Option<OutsideFile>,
        metrics: TreeMetrics,
        clock: SharedClock,
    ) -> Self {
        Self {
            tree,
            keys,
            origin,
            outside,
            metrics,
            clock,
            known: None,
            written: None,
            noted: false,
            ours: watch::Sender::default(),
        }
    }

    /// The checkpoints that are signed here, as they are.
    #[must_use]
    pub fn ours(&self) -> watch::Receiver<String> {
        self.ours.subscribe()
    }

    /// Signs until `stop`. Degraded at most: certificates are still issued, and are on record.
    ///
    /// # Errors
    /// None.
    pub async fn run(mut self, condition: Condition, stop: CancellationToken) -> Result<(), std::convert::Infallible> {
        let mut told = String::new();
        loop {
            let Some(step) = stop.run_until_cancelled(self.step()).await else { return Ok(()) };
            let is_forked = matches!(step, Err(Refused::Forked(_)));
            self.metrics.forked.set(i64::from(is_forked));
            match step {
                Ok(Step::Covered(size)) => {
                    self.metrics.size.set(i64::try_from(size).unwrap_or(i64::MAX));
                    self.metrics.covered.set(self.clock.now().unix_timestamp());
                    condition.ready("a signed checkpoint covers every event");
                    told.clear();
                }
                Ok(Step::More(size)) => {
                    self.metrics.size.set(i64::try_from(size).unwrap_or(i64::MAX));
                    condition.ready("checkpoints are being signed");
                    continue;
                }
                Ok(Step::Overtaken) => condition.ready("another replica has signed"),
                Err(refused) => {
                    let text = error_chain(&refused);
                    condition.degraded(format!("no checkpoint of the record is signed: {text}"));
                    if text != told {
                        tracing::warn!(error = %text, "no checkpoint of the record is signed");
                        told = text;
                    }
                }
            }
            let pause = tokio::time::sleep(if is_forked { FORKED } else { PAUSE });
            if stop.run_until_cancelled(pause).await.is_none() {
                return Ok(());
            }
        }
    }

    /// Looks at what there is, and signs what is new.
    ///
    /// # Errors
    /// [`Refused`]: then nothing was signed.
    pub async fn step(&mut self) -> Result<Step, Refused> {
        let kept = self.tree.checkpoint().await?;
        let events = self.tree.events().await?;
        if let (Some(known), Some(kept)) = (&self.known, &kept)
            && known.note.as_ref() == Some(&kept.note)
            && known.edge.size() == events
            && self.is_outside(&known.edge)
        {
            return Ok(Step::Covered(events));
        }
        if events == 0 && kept.is_none() && self.known.is_none() && self.outside.is_none() {
            return Ok(Step::Covered(0));
        }
        let keys = self.keys.keys(&self.origin).await?;
        let known = self.follow(kept.as_ref(), events, &keys).await?;
        self.check_outside(&known.edge, events, &keys).await?;
        let to = events.min(known.edge.size() + PIECE);
        let lines = key_lines(&keys);
        let as_signed = kept.as_ref().is_none_or(|kept| kept.keys == lines);
        if known.edge.size() == to && as_signed {
            self.known = Some(known);
        } else {
            let (mut edge, mut full) = (known.edge, Vec::new());
            self.extend(&mut edge, to, &mut full).await?;
            let next = KeptCheckpoint { note: self.sign(&edge, &keys), keys: lines, edge };
            if !self.tree.advance(known.note.as_deref(), &next, &full).await? {
                return Ok(Step::Overtaken);
            }
            self.ours.send_replace(next.note.clone());
            self.known = Some(Known { note: Some(next.note), edge: next.edge });
        }
        self.write_outside().await?;
        Ok(if to < events { Step::More(to) } else { Step::Covered(to) })
    }

    fn sign(&self, edge: &Edge, keys: &[Arc<NoteKey>]) -> String {
        let (origin, extensions) = (self.origin.clone(), Vec::new());
        let text = Checkpoint { origin, size: edge.size(), root: edge.root(), extensions }.to_string();
        let signatures = keys.iter().take(SIGNING).map(|key| key.sign(&text)).collect();
        Note { text, signatures }.to_string()
    }

    /// Adds the leaves up to `size`.
    async fn extend(&self, edge: &mut Edge, size: u64, full: &mut Vec<FullTile>) -> Result<(), StoreError> {
        while edge.size() < size {
            let most = u32::try_from(size - edge.size()).unwrap_or(MAX_LEAVES);
            let leaves = self.tree.leaf_hashes(edge.size(), most).await?;
            if leaves.is_empty() {
                return Err(StoreError::Damaged(format!("event {} is missing from the record", edge.size())));
            }
            leaves.into_iter().for_each(|leaf| edge.append(leaf, full));
        }
        Ok(())
    }

    /// The checkpoint in storage, once it is seen to continue the last one that was known here.
    async fn follow(
        &self,
        kept: Option<&KeptCheckpoint>,
        events: u64,
        keys: &[Arc<NoteKey>],
    ) -> Result<Known, Refused> {
        let forked = |why: String| Err(Refused::Forked(why));
        let Some(kept) = kept else {
            return match &self.known {
                Some(Known { note: Some(_), edge }) => {
                    forked(format!("the checkpoint of {} events is not in storage any more", edge.size()))
                }
                _ => Ok(Known::default()),
            };
        };
        if let Some(known) = self.known.as_ref().filter(|known| known.note.as_ref() == Some(&kept.note)) {
            return if events < known.edge.size() {
                forked(shorter(known.edge.size(), events))
            } else {
                Ok(known.clone())
            };
        }
        let signed = self.signed(kept, keys).await?;
        if (signed.size, signed.root) != (kept.edge.size(), kept.edge.root()) {
            return forked(format!(
                "the checkpoint in storage is of {} events with the root {}, and the hashes kept with it are of {} with {}",
                signed.size,
                shown(&signed.root),
                kept.edge.size(),
                shown(&kept.edge.root())
            ));
        }
        if events < signed.size {
            return forked(shorter(signed.size, events));
        }
        if let Some(known) = &self.known {
            if signed.size < known.edge.size() {
                let before = known.edge.size();
                return forked(format!("the checkpoint in storage was of {before} events, and is of {}", signed.size));
            }
            let (mut edge, mut full) = (known.edge.clone(), Vec::new());
            self.extend(&mut edge, signed.size, &mut full).await?;
            if edge.root() != signed.root {
                return forked(format!(
                    "the checkpoint in storage is of {} events with the root {}, and the events there have the root {}",
                    signed.size,
                    shown(&signed.root),
                    shown(&edge.root())
                ));
            }
        }
        Ok(Known { note: Some(kept.note.clone()), edge: kept.edge.clone() })
    }

    /// The checkpoint in storage, if it is signed with one of our keys: also in a name that the log had before.
    async fn signed(&self, kept: &KeptCheckpoint, keys: &[Arc<NoteKey>]) -> Result<Checkpoint, Refused> {
        let wrong = |why: String| Refused::Forked(format!("the checkpoint in storage counts for nothing: {why}"));
        let note = Note::parse(kept.note.as_bytes()).map_err(|error| wrong(error.to_string()))?;
        let checkpoint = Checkpoint::parse(&note.text).map_err(|error| wrong(error.to_string()))?;
        let verifiers = if checkpoint.origin == self.origin {
            verifiers(keys)
        } else {
            verifiers(&self.keys.keys(&checkpoint.origin).await?)
        };
        note.verify(&verifiers).map_err(|error| wrong(error.to_string()))?;
        Ok(checkpoint)
    }

    fn is_outside(&self, edge: &Edge) -> bool {
        self.outside.is_none() || (self.noted && self.written == Some((edge.size(), edge.root())))
    }

    /// That the tree in storage continues the checkpoint in the file outside.
    async fn check_outside(&self, edge: &Edge, events: u64, keys: &[Arc<NoteKey>]) -> Result<(), Refused> {
        let Some(file) = &self.outside else { return Ok(()) };
        let Some(outside) = file.read(&verifiers(keys)).await? else { return self.is_first(file).await };
        let (path, size) = (file.path().display(), outside.size);
        let is = format!("{path} holds a checkpoint of {size} events with the root {}", shown(&outside.root));
        // Another replica with the same file may have signed since events were counted.
        let events = if size > events { self.tree.events().await? } else { events };
        if size > events {
            let why = "the storage was set back, or is another one";
            return Err(Refused::Forked(format!("{is}, and there are {events} in storage: {why}")));
        }
        let here = if size > edge.size() {
            let (mut longer, mut full) = (edge.clone(), Vec::new());
            self.extend(&mut longer, size, &mut full).await?;
            longer.root()
        } else {
            let path = consistency_path(&*self.tree, edge, size).await?;
            let (old, new) = ((size, &outside.root), (edge.size(), &edge.root()));
            if path.is_some_and(|path| verify_consistency(old, new, &path)) {
                return Ok(());
            }
            root_at(&*self.tree, edge, size).await?
        };
        if here == outside.root {
            return Ok(());
        }
        let why = "the storage was set back and went on from there, or events were changed, or it is another one";
        Err(Refused::Forked(format!(
            "{is}, and the first {size} events in storage have the root {}: {why}",
            shown(&here)
        )))
    }

    /// That no file outside was ever kept of this log, as far as storage knows.
    async fn is_first(&self, file: &OutsideFile) -> Result<(), Refused> {
        let name = KeptNote::of_outside(&self.origin);
        let Some(first) = self.tree.notes().await?.into_iter().find(|kept| kept.name == name) else { return Ok(()) };
        let since = Note::parse(first.note.as_bytes()).ok().and_then(|note| Checkpoint::parse(&note.text).ok());
        let since = since.map_or(0, |checkpoint| checkpoint.size);
        Err(Refused::Missing { path: file.path().display().to_string(), origin: self.origin.clone(), since })
    }

    async fn write_outside(&mut self) -> Result<(), Refused> {
        let (Some(file), Some(Known { note: Some(note), edge })) = (&self.outside, &self.known) else { return Ok(()) };
        let now = Some((edge.size(), edge.root()));
        if self.written != now {
            file.write(note).await?;
            self.written = now;
        }
        if !self.noted {
            // After the file: one that is only there in words would be missed for ever. Another replica may have noted its own.
            let next = KeptNote { name: KeptNote::of_outside(&self.origin), note: note.clone() };
            self.tree.keep_notes(&[NoteChange { before: None, next }]).await?;
            self.noted = true;
        }
        Ok(())
    }
}

fn shorter(signed: u64, events: u64) -> String {
    format!("the checkpoint in storage covers {signed} events, and there are {events}: events were removed")
}

/// As it is in the text of a checkpoint.
fn shown(root: &Hash) -> String {
    STANDARD.encode(root)
}

fn verifiers(keys: &[Arc<NoteKey>]) -> Vec<VerifierKey> {
    keys.iter().map(|key| key.verifier().clone()).collect()
}

/// What verifies what is signed now, a line for each key.
fn key_lines(keys: &[Arc<NoteKey>]) -> String {
    keys.iter().take(SIGNING).map(|key| format!("{}\n", key.verifier())).collect()
}
