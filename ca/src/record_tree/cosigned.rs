//! What witnesses have cosigned of a log, as it is kept in storage beside the newest checkpoint.

use signet_core::seams::record_tree::{KeptNote, NoteChange, RecordTree};
use signet_core::seams::store::StoreError;
use signet_core::transparency::{Checkpoint, Note, Signature, VerifierKey};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The notes that are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kept {
    origin: String,
    notes: Vec<KeptNote>,
}

/// A note and its checkpoint, if it is one of this log.
pub(super) fn noted(note: &str, origin: &str) -> Option<(Note, Checkpoint)> {
    let note = Note::parse(note.as_bytes()).ok()?;
    let checkpoint = Checkpoint::parse(&note.text).ok()?;
    (checkpoint.origin == origin).then_some((note, checkpoint))
}

impl Kept {
    /// Those of the log `origin`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn read(tree: &dyn RecordTree, origin: &str) -> Result<Self, StoreError> {
        Ok(Self { origin: origin.to_owned(), notes: tree.notes().await? })
    }

    fn named(&self, name: &str) -> Option<&str> {
        self.notes.iter().find(|kept| kept.name == name).map(|kept| kept.note.as_str())
    }

    /// How many events a witness has cosigned, and when it says that it has, in seconds since 1970.
    #[must_use]
    pub fn of(&self, key: &VerifierKey) -> Option<(u64, i64)> {
        let (note, checkpoint) = noted(self.named(&KeptNote::of_witness(key))?, &self.origin)?;
        // What somebody has put there counts for nothing.
        note.signers(std::slice::from_ref(key)).ok().filter(|by| !by.is_empty())?;
        Some((checkpoint.size, key.line(&note).and_then(Signature::cosigned_at)?))
    }

    /// The newest note that enough witnesses have cosigned.
    #[must_use]
    pub fn quorum_note(&self) -> Option<(Note, Checkpoint)> {
        noted(self.named(KeptNote::QUORUM)?, &self.origin)
    }

    /// The same as a checkpoint.
    #[must_use]
    pub fn quorum(&self) -> Option<Checkpoint> {
        self.quorum_note().map(|(_, checkpoint)| checkpoint)
    }

    /// How many of these have cosigned it.
    pub(super) fn quorum_count(&self, keys: &[VerifierKey]) -> usize {
        self.quorum_note().and_then(|(note, _)| note.signers(keys).ok().map(|by| by.len())).unwrap_or_default()
    }

    /// All signatures of this text.
    pub fn signatures_of(&self, text: &str) -> Vec<Signature> {
        let notes = self.notes.iter().filter_map(|kept| noted(&kept.note, &self.origin));
        notes.filter(|(note, _)| note.text == text).flat_map(|(note, _)| note.signatures).collect()
    }

    /// A note with all the signatures that are kept of its text.
    #[must_use]
    pub fn joined(&self, note: &str) -> String {
        let Some((mut read, _)) = noted(note, &self.origin) else { return note.to_owned() };
        read.join(self.signatures_of(&read.text));
        read.to_string()
    }

    /// The notes of this log, those of one text together, the largest first.
    #[must_use]
    pub fn together(&self, newest: Option<&str>) -> Vec<(Note, Checkpoint)> {
        let mut all: Vec<(Note, Checkpoint)> = Vec::new();
        let texts = newest.into_iter().chain(self.notes.iter().map(|kept| kept.note.as_str()));
        for (note, checkpoint) in texts.filter_map(|text| noted(text, &self.origin)) {
            match all.iter_mut().find(|(one, _)| one.text == note.text) {
                Some((one, _)) => one.join(note.signatures),
                None => all.push((note, checkpoint)),
            }
        }
        all.sort_by_key(|(_, checkpoint)| std::cmp::Reverse(checkpoint.size));
        all
    }

    /// The change that puts a note in the place of the one that was read.
    pub(super) fn change(&self, name: String, note: &Note) -> NoteChange {
        let before = self.named(&name).map(str::to_owned);
        NoteChange { before, next: KeptNote { name, note: note.to_string() } }
    }

    /// The change after which no checkpoint is one that enough have cosigned.
    pub(super) fn no_quorum(&self) -> NoteChange {
        let (name, note) = (KeptNote::QUORUM.to_owned(), String::new());
        NoteChange { before: self.named(&name).map(str::to_owned), next: KeptNote { name, note } }
    }

    /// Every witness that has cosigned this log: its key, how many events, and when.
    #[must_use]
    pub fn witnesses(&self) -> Vec<(VerifierKey, u64, i64)> {
        let of = |kept: &KeptNote| {
            let key = kept.witness()?;
            let (size, time) = self.of(&key)?;
            Some((key, size, time))
        };
        self.notes.iter().filter_map(of).collect()
    }
}

/// A moment that a witness has named, for people.
#[must_use]
pub fn moment(seconds: i64) -> String {
    let time = OffsetDateTime::from_unix_timestamp(seconds).ok();
    time.and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_else(|| format!("{seconds} s after 1970"))
}
