//! Has witnesses cosign the newest checkpoint: one request at a time to each, in rounds. What they have cosigned is kept in
//! storage, for all replicas. Nothing waits for it, and nothing is held back because of it.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use signet_core::seams::record_tree::{KeptCheckpoint, KeptNote, NoteChange, RecordTree};
use signet_core::seams::store::StoreError;
use signet_core::seams::witness::Witness;
use signet_core::transparency::{Answer, Checkpoint, Note, Signature, VerifierKey, submission};
use signet_runtime::backoff::Backoff;
use signet_runtime::output::error_chain;
use signet_runtime::readiness::Condition;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::cosigned::{Kept, moment, noted};
use super::metrics::WitnessMetrics;
use super::proofs::consistency_path;

/// How often witnesses are asked at most. What is signed here is noticed at once, what others have signed after twice as long.
const PAUSE: Duration = Duration::from_secs(1);

/// How long a checkpoint of another replica is left to that one.
const OVERDUE: Duration = Duration::from_secs(10);

/// How long a witness is left alone after a failure, at first and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Requests to one witness in one round: it may say once from where it goes on, and be asked by another replica meanwhile.
const ATTEMPTS: usize = 3;

/// How often what was cosigned is written while other replicas write, too.
const WRITES: usize = 3;

/// A witness, and the way to it.
pub struct Watcher {
    /// What it is called here.
    pub name: String,
    /// What its cosignatures are verified with.
    pub key: VerifierKey,
    /// The way to it.
    pub way: Arc<dyn Witness>,
}

/// How it went with a witness the last time.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Went {
    /// Nothing was asked of it yet.
    Unasked,
    Cosigned,
    /// It has cosigned a later checkpoint of another replica.
    Overtaken,
    /// It does not answer, or not usefully.
    Failed(String),
    /// It does not cosign.
    Refused(String),
    /// It has seen another history than the one in storage.
    OtherHistory(String),
}

impl Went {
    /// As it is counted.
    fn label(&self) -> Option<&'static str> {
        Some(match self {
            Self::Unasked => return None,
            Self::Cosigned => "cosigned",
            Self::Overtaken => "overtaken",
            Self::Failed(_) => "failed",
            Self::Refused(_) => "refused",
            Self::OtherHistory(_) => "other_history",
        })
    }

    fn problem(&self) -> Option<&str> {
        match self {
            Self::Unasked | Self::Cosigned | Self::Overtaken => None,
            Self::Failed(why) | Self::Refused(why) | Self::OtherHistory(why) => Some(why),
        }
    }
}

struct Watched {
    witness: Watcher,
    backoff: Backoff,
    not_before: Instant,
    went: Went,
}

/// A checkpoint that is to be cosigned.
struct Target<'a> {
    kept: &'a KeptCheckpoint,
    note: &'a Note,
}

/// Who has checkpoints cosigned.
pub struct Cosigner {
    tree: Arc<dyn RecordTree>,
    origin: String,
    watched: Vec<Watched>,
    quorum: usize,
    metrics: WitnessMetrics,
    /// The checkpoint that was signed here last.
    ours: watch::Receiver<String>,
    /// How much all have cosigned together, and since when that is so while there is more to be cosigned.
    behind: Option<(u64, Instant)>,
}

impl Cosigner {
    /// Has the log `origin` cosigned by these, `quorum` of whom are enough.
    #[must_use]
    pub fn new(
        tree: Arc<dyn RecordTree>,
        origin: String,
        (witnesses, quorum): (Vec<Watcher>, usize),
        metrics: WitnessMetrics,
        ours: watch::Receiver<String>,
    ) -> Self {
        let now = Instant::now();
        let watch = |witness| Watched {
            witness,
            backoff: Backoff::new(BACKOFF.0, BACKOFF.1, 2.0),
            not_before: now,
            went: Went::Unasked,
        };
        let watched = witnesses.into_iter().map(watch).collect();
        Self { tree, origin, watched, quorum, metrics, ours, behind: None }
    }

    /// Goes on until `stop`. Degraded at most.
    ///
    /// # Errors
    /// None.
    pub async fn run(mut self, condition: Condition, stop: CancellationToken) -> Result<(), std::convert::Infallible> {
        let mut told = Vec::new();
        loop {
            let Some(done) = stop.run_until_cancelled(self.round()).await else { return Ok(()) };
            match done {
                Ok(kept) => self.tell(&kept, &condition, &mut told),
                Err(error) => condition.degraded(format!("no witness is asked: {}", error_chain(&error))),
            }
            let pause = async {
                tokio::time::sleep(PAUSE).await;
                // Whoever signs may be gone: then it is looked again all the same.
                let _signed = tokio::time::timeout(PAUSE, self.ours.changed()).await;
            };
            if stop.run_until_cancelled(pause).await.is_none() {
                return Ok(());
            }
        }
    }

    /// Says how it stands, and in the log what is new of that.
    fn tell(&self, kept: &Kept, condition: &Condition, told: &mut Vec<String>) {
        let line = |watched: &Watched| {
            let key = &watched.witness.key;
            let until = kept
                .of(key)
                .map_or("nothing yet".to_owned(), |(size, time)| format!("{size} events at {}", moment(time)));
            let why = watched.went.problem().map_or(String::new(), |why| format!(" ({why})"));
            format!("{}: {until}{why}", watched.witness.name)
        };
        let lines: Vec<String> = self.watched.iter().map(line).collect();
        let enough = kept.quorum().map_or("none yet".to_owned(), |checkpoint| format!("{} events", checkpoint.size));
        let text = format!("cosigned by {} or more: {enough}; {}", self.quorum, lines.join("; "));
        let well = self.watched.iter().filter(|watched| watched.went.problem().is_none()).count();
        let differs = self.watched.iter().any(|watched| matches!(watched.went, Went::OtherHistory(_)));
        if differs || well < self.quorum {
            condition.degraded(text);
        } else {
            condition.ready(text);
        }
        let problems = |watched: &Watched| {
            let problem = watched.went.problem()?;
            Some(format!("{}: {problem}", watched.witness.name))
        };
        let problems: Vec<String> = self.watched.iter().filter_map(problems).collect();
        for problem in problems.iter().filter(|problem| !told.contains(problem)) {
            tracing::warn!(error = %problem, "a witness has not cosigned the record");
        }
        *told = problems;
    }

    /// Asks those whose turn it is, and gives what is cosigned then.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(super) async fn round(&mut self) -> Result<Kept, StoreError> {
        let kept = self.tree.checkpoint().await?;
        let mut cosigned = self.enough_of(Kept::read(&*self.tree, &self.origin).await?).await?;
        let note = kept.as_ref().and_then(|kept| noted(&kept.note, &self.origin));
        if let (Some(kept), Some((note, checkpoint))) = (&kept, &note)
            && self.is_our_turn(&kept.note, checkpoint, &cosigned)
        {
            let due = self.due(&cosigned, checkpoint);
            if !due.is_empty() {
                let lines = self.ask(&due, &Target { kept, note }, &cosigned).await;
                cosigned = self.keep(note, checkpoint, &lines).await?;
            }
        }
        self.measure(&cosigned);
        Ok(cosigned)
    }

    /// What is kept, without a checkpoint as one that enough have cosigned when these were other witnesses, or fewer of them: the
    /// configuration says now who is enough.
    async fn enough_of(&self, kept: Kept) -> Result<Kept, StoreError> {
        if kept.quorum().is_none() || kept.quorum_count(&self.keys()) >= self.quorum {
            return Ok(kept);
        }
        self.tree.keep_notes(&[kept.no_quorum()]).await?;
        Kept::read(&*self.tree, &self.origin).await
    }

    fn keys(&self) -> Vec<VerifierKey> {
        self.watched.iter().map(|watched| watched.witness.key.clone()).collect()
    }

    /// Whether this checkpoint is for this replica to send: it has signed it, or the others do not get ahead with theirs.
    fn is_our_turn(&mut self, note: &str, checkpoint: &Checkpoint, kept: &Kept) -> bool {
        let sizes = self.watched.iter().map(|watched| kept.of(&watched.witness.key).map_or(0, |(size, _)| size));
        let sizes: Vec<u64> = sizes.collect();
        let all = sizes.iter().fold(0, |all: u64, size| all.saturating_add(*size));
        let now = Instant::now();
        if sizes.iter().all(|size| *size >= checkpoint.size) {
            self.behind = None;
        } else if self.behind.is_none_or(|(before, _)| before != all) {
            self.behind = Some((all, now));
        }
        let overdue = |(_, since)| now.saturating_duration_since(since) >= OVERDUE;
        *self.ours.borrow_and_update() == note || self.behind.is_some_and(overdue)
    }

    /// Those who have not cosigned this checkpoint, or a later one, and are not left alone.
    fn due(&self, kept: &Kept, checkpoint: &Checkpoint) -> Vec<usize> {
        let now = Instant::now();
        let is_due = |watched: &Watched| {
            let has = kept.of(&watched.witness.key).is_some_and(|(size, _)| size >= checkpoint.size);
            !has && watched.not_before <= now
        };
        (0..).zip(&self.watched).filter(|(_, watched)| is_due(watched)).map(|(number, _)| number).collect()
    }

    /// Asks each of them at the same time, and gives the checkpoint with each one's cosignature.
    async fn ask(&mut self, due: &[usize], target: &Target<'_>, kept: &Kept) -> Vec<(VerifierKey, Note)> {
        let tree = &*self.tree;
        let asked = due.iter().filter_map(|number| self.watched.get(*number)).map(|watched| {
            let old = kept.of(&watched.witness.key).map_or(0, |(size, _)| size);
            ask_one(tree, &watched.witness, target, old)
        });
        let answers = join_all(asked).await;
        let mut cosigned = Vec::new();
        for (number, (went, note)) in due.iter().zip(answers) {
            let Some(watched) = self.watched.get_mut(*number) else { continue };
            self.metrics.answered(&watched.witness.name, went.label());
            if went.problem().is_some() {
                watched.not_before = Instant::now() + watched.backoff.next(1.0);
            } else {
                watched.backoff.reset();
            }
            watched.went = went;
            cosigned.extend(note.map(|note| (watched.witness.key.clone(), note)));
        }
        cosigned
    }

    /// Keeps what was cosigned, beside what other replicas have kept meanwhile.
    async fn keep(
        &self,
        note: &Note,
        checkpoint: &Checkpoint,
        lines: &[(VerifierKey, Note)],
    ) -> Result<Kept, StoreError> {
        let mut kept = Kept::read(&*self.tree, &self.origin).await?;
        let keys = self.keys();
        for _ in 0..WRITES {
            let mut changes: Vec<NoteChange> = Vec::new();
            for (key, note) in lines {
                if kept.of(key).is_none_or(|(size, _)| size < checkpoint.size) {
                    changes.push(kept.change(KeptNote::of_witness(key), note));
                }
            }
            let mut whole = note.clone();
            whole.join(lines.iter().flat_map(|(_, note)| note.signatures.iter().cloned()));
            whole.join(kept.signatures_of(&note.text));
            let by = whole.signers(&keys).map_or(0, |by| by.len());
            let had = kept.quorum_count(&keys);
            let before = kept.quorum().filter(|before| had >= self.quorum && before.size >= checkpoint.size);
            let is_more = before.is_none_or(|before| before == *checkpoint && by > had);
            if by >= self.quorum && is_more {
                changes.push(kept.change(KeptNote::QUORUM.to_owned(), &whole));
            }
            if changes.is_empty() || self.tree.keep_notes(&changes).await? {
                break;
            }
            kept = Kept::read(&*self.tree, &self.origin).await?;
        }
        Kept::read(&*self.tree, &self.origin).await
    }

    fn measure(&self, kept: &Kept) {
        for watched in &self.watched {
            let (size, time) = kept.of(&watched.witness.key).unwrap_or_default();
            let differs = matches!(watched.went, Went::OtherHistory(_));
            self.metrics.stands(&watched.witness.name, size, time, differs);
        }
        self.metrics.quorum(kept.quorum().map_or(0, |checkpoint| checkpoint.size));
    }
}

/// Asks one witness, from the size that it stands at.
async fn ask_one(tree: &dyn RecordTree, witness: &Watcher, target: &Target<'_>, mut old: u64) -> (Went, Option<Note>) {
    let size = target.kept.edge.size();
    for _ in 0..ATTEMPTS {
        if old > size {
            return (ahead(tree, old).await, None);
        }
        let path = match consistency_path(tree, &target.kept.edge, old).await {
            Ok(path) => path.unwrap_or_default(),
            Err(error) => return (Went::Failed(error_chain(&error)), None),
        };
        let reply = match witness.way.add_checkpoint(submission(old, &path, target.note)).await {
            Ok(reply) => reply,
            Err(error) => return (Went::Failed(error.to_string()), None),
        };
        match Answer::read(reply.status, &reply.body) {
            Answer::Cosigned(lines) => {
                let mut note = target.note.clone();
                let is_theirs = |line: &Signature| line.name == witness.key.name && line.id == witness.key.id();
                note.join(lines.into_iter().filter(is_theirs));
                return match note.signers(std::slice::from_ref(&witness.key)) {
                    Ok(by) if !by.is_empty() => (Went::Cosigned, Some(note)),
                    Ok(_) => {
                        (Went::Failed("its cosignature is by none of its keys that is known here".to_owned()), None)
                    }
                    Err(error) => (Went::Failed(error.to_string()), None),
                };
            }
            Answer::Stands(stands) if stands == old => {
                let why = format!("it has cosigned other {old} events of this log than those here (409)");
                return (Went::OtherHistory(why), None);
            }
            Answer::Stands(stands) => old = stands,
            Answer::Refused(why) if reply.status == 422 => {
                return (Went::OtherHistory(format!("{why}, of {old} events")), None);
            }
            Answer::Refused(why) => return (Went::Refused(why.to_owned()), None),
            Answer::Unable(status) => return (Went::Failed(format!("it cannot cosign now ({status})")), None),
            Answer::Wrong(why) => return (Went::Failed(why.to_owned()), None),
        }
    }
    (Went::Failed("it names another size each time".to_owned()), None)
}

/// What it means that a witness has cosigned more events than this checkpoint has.
async fn ahead(tree: &dyn RecordTree, stands: u64) -> Went {
    match tree.checkpoint().await {
        Ok(Some(kept)) if kept.edge.size() >= stands => Went::Overtaken,
        Ok(kept) => {
            let here = kept.map_or(0, |kept| kept.edge.size());
            Went::OtherHistory(format!(
                "it has cosigned {stands} events of this log, and the newest checkpoint here is of {here}: the storage was set \
                 back, or is another one"
            ))
        }
        Err(error) => Went::Failed(error_chain(&error)),
    }
}

#[cfg(test)]
#[path = "cosigner_tests.rs"]
mod tests;
