//! Signed notes (C2SP signed-note): text with lines of signatures below it. Ours are Ed25519; cosignatures of witnesses are
//! Ed25519 with a time (C2SP tlog-cosignature).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SecureRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};

use crate::digest::{hex, sha256};
use crate::secret::Secret;

/// The longest note that is read, in bytes.
const LONGEST: usize = 64 * 1024;
/// How many signatures a note has at most; the specification wants 16 at least to be taken.
const MOST_SIGNATURES: usize = 64;
/// What a line of a signature begins with: an em dash and a space.
const DASH: &str = "\u{2014} ";
const ED25519_NOTE: u8 = 1;
const ED25519_COSIGNATURE: u8 = 4;
const PUBLIC_BYTES: usize = 32;
const SIGNATURE_BYTES: usize = 64;
const TIME_BYTES: usize = 8;

/// Why something is no note, no key of notes, or not signed as it has to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoteError {
    /// It is not written as a note.
    #[error("this is no signed note: {0}")]
    Malformed(&'static str),
    /// It is no key, or none of a kind that is used here.
    #[error("this is no key for signed notes: {0}")]
    Key(&'static str),
    /// Nobody has signed it whose key is known.
    #[error("nobody has signed it whose key was given: it is signed by {0}")]
    Unsigned(String),
    /// A signature by a known key is wrong: the note was changed, or somebody else has made it.
    #[error("the signature of {0} is not of this text")]
    False(String),
    /// The system gives no random numbers.
    #[error("the system gives no random numbers for a key")]
    Random,
}

/// One line below a note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// Whose key.
    pub name: String,
    /// Which of their keys.
    pub id: u32,
    /// What the key has made; what it means depends on the kind of the key.
    pub bytes: Vec<u8>,
}

impl Signature {
    fn parse(line: &str) -> Option<Self> {
        let (name, encoded) = line.strip_prefix(DASH)?.split_once(' ')?;
        let decoded = STANDARD.decode(encoded).ok()?;
        let (id, bytes) = decoded.split_first_chunk::<4>()?;
        (is_name(name) && !bytes.is_empty()).then(|| Self {
            name: name.to_owned(),
            id: u32::from_be_bytes(*id),
            bytes: bytes.to_vec(),
        })
    }
}

impl Signature {
    /// When a witness says that it has made this, in seconds since 1970. Of other signatures it means nothing.
    #[must_use]
    pub fn cosigned_at(&self) -> Option<i64> {
        let time = self.bytes.first_chunk::<TIME_BYTES>()?;
        i64::try_from(u64::from_be_bytes(*time)).ok()
    }

    /// The lines of signatures that a witness answers with.
    ///
    /// # Errors
    /// [`NoteError::Malformed`].
    pub fn lines(bytes: &[u8]) -> Result<Vec<Self>, NoteError> {
        let malformed = NoteError::Malformed("a line of the answer is no signature");
        let text = std::str::from_utf8(bytes).map_err(|_| malformed.clone())?.strip_suffix('\n');
        let lines = text.ok_or(NoteError::Malformed("the answer's last line does not end"))?.split('\n');
        let parsed: Option<Vec<Self>> = lines.take(MOST_SIGNATURES).map(Self::parse).collect();
        parsed.ok_or(malformed)
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [&self.id.to_be_bytes()[..], &self.bytes].concat();
        write!(f, "{DASH}{} {}", self.name, STANDARD.encode(bytes))
    }
}

/// Text with signatures below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// What is signed, with its last newline.
    pub text: String,
    /// By whom.
    pub signatures: Vec<Signature>,
}

impl Note {
    /// Reads a note. No signature is verified by that.
    ///
    /// # Errors
    /// [`NoteError::Malformed`].
    pub fn parse(bytes: &[u8]) -> Result<Self, NoteError> {
        let malformed = NoteError::Malformed;
        if bytes.len() > LONGEST {
            return Err(malformed("it is longer than 64 KiB"));
        }
        let whole = std::str::from_utf8(bytes).map_err(|_| malformed("it is not UTF-8"))?;
        if whole.chars().any(|one| one < ' ' && one != '\n') {
            return Err(malformed("it holds control characters"));
        }
        let split = whole.rfind("\n\n").ok_or(malformed("no empty line is before the signatures"))?;
        let (text, below) = whole.split_at_checked(split.saturating_add(1)).unwrap_or((whole, ""));
        let lines = below.strip_prefix('\n').and_then(|lines| lines.strip_suffix('\n'));
        let lines = lines.ok_or(malformed("its last line does not end"))?;
        let signatures = lines.split('\n').take(MOST_SIGNATURES.saturating_add(1)).map(Signature::parse);
        let signatures: Option<Vec<_>> = signatures.collect();
        let signatures = signatures.ok_or(malformed("a line below it is no signature"))?;
        if signatures.len() > MOST_SIGNATURES {
            return Err(malformed("it has more than 64 signatures"));
        }
        Ok(Self { text: text.to_owned(), signatures })
    }

    /// Which of these keys have signed it.
    ///
    /// # Errors
    /// [`NoteError::False`] when a signature by one of them is wrong, [`NoteError::Unsigned`] when there is none by any.
    pub fn verify<'k>(&self, keys: &'k [VerifierKey]) -> Result<Vec<&'k VerifierKey>, NoteError> {
        let by = self.signers(keys)?;
        if by.is_empty() {
            let names: Vec<&str> = self.signatures.iter().map(|one| one.name.as_str()).collect();
            return Err(NoteError::Unsigned(names.join(", ")));
        }
        Ok(by)
    }

    /// The same; it may be none of them.
    ///
    /// # Errors
    /// [`NoteError::False`].
    pub fn signers<'k>(&self, keys: &'k [VerifierKey]) -> Result<Vec<&'k VerifierKey>, NoteError> {
        let mut by = Vec::new();
        for signature in &self.signatures {
            let is_of = |key: &&VerifierKey| key.name == signature.name && key.id() == signature.id;
            let Some(key) = keys.iter().find(is_of) else { continue };
            if !key.verifies(&self.text, &signature.bytes) {
                return Err(NoteError::False(key.name.clone()));
            }
            if !by.contains(&key) {
                by.push(key);
            }
        }
        Ok(by)
    }

    /// Adds signatures of the same text that are not below it yet.
    pub fn join(&mut self, signatures: impl IntoIterator<Item = Signature>) {
        for signature in signatures {
            let is_there = self.signatures.iter().any(|one| (&one.name, one.id) == (&signature.name, signature.id));
            if !is_there && self.signatures.len() < MOST_SIGNATURES {
                self.signatures.push(signature);
            }
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures.iter().try_for_each(|signature| writeln!(f, "{signature}"))
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(|one: char| one.is_whitespace() || one == '+' || one < ' ')
}

/// What verifies signatures of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifierKey {
    /// Whose it is.
    pub name: String,
    kind: u8,
    public: [u8; PUBLIC_BYTES],
}

impl VerifierKey {
    /// Reads `NAME+ID+KEY`, as logs and witnesses publish their keys.
    ///
    /// # Errors
    /// [`NoteError::Key`].
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let mut parts = text.trim_end_matches('\n').splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(NoteError::Key("it is written NAME+ID+KEY"));
        };
        if !is_name(name) {
            return Err(NoteError::Key("its name is empty or has spaces"));
        }
        let decoded = STANDARD.decode(key).map_err(|_| NoteError::Key("its third part is not base64"))?;
        let read = match decoded.split_first() {
            Some((kind @ &(ED25519_NOTE | ED25519_COSIGNATURE), public)) => {
                public.try_into().ok().map(|public| Self { name: name.to_owned(), kind: *kind, public })
            }
            _ => return Err(NoteError::Key("it is not of Ed25519")),
        };
        let read = read.ok_or(NoteError::Key("a key of Ed25519 has 32 bytes"))?;
        if hex(&read.id().to_be_bytes()) != id {
            return Err(NoteError::Key("its id is not of this name and key"));
        }
        Ok(read)
    }

    /// Tells it from others of the same name: the beginning of `SHA-256(name || 0x0A || kind || key)`.
    #[must_use]
    pub fn id(&self) -> u32 {
        let named = [self.name.as_bytes(), b"\n", &[self.kind], &self.public].concat();
        sha256(&named).first_chunk().map_or(0, |id| u32::from_be_bytes(*id))
    }

    /// Whether it is of a witness: its signatures say when they were made.
    #[must_use]
    pub fn is_of_witness(&self) -> bool {
        self.kind == ED25519_COSIGNATURE
    }

    /// The line of this key below a note, if it has one; it need not be right.
    #[must_use]
    pub fn line<'n>(&self, note: &'n Note) -> Option<&'n Signature> {
        note.signatures.iter().find(|one| one.name == self.name && one.id == self.id())
    }

    fn verifies(&self, text: &str, signature: &[u8]) -> bool {
        let signed_by = |message: &[u8], signature: &[u8]| {
            signature.len() == SIGNATURE_BYTES
                && UnparsedPublicKey::new(&ED25519, self.public).verify(message, signature).is_ok()
        };
        if self.kind == ED25519_NOTE {
            return signed_by(text.as_bytes(), signature);
        }
        let Some((time, signature)) = signature.split_first_chunk::<TIME_BYTES>() else { return false };
        let seconds = u64::from_be_bytes(*time);
        i64::try_from(seconds).is_ok()
            && signed_by(format!("cosignature/v1\ntime {seconds}\n{text}").as_bytes(), signature)
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = STANDARD.encode([&[self.kind][..], &self.public].concat());
        write!(f, "{}+{}+{key}", self.name, hex(&self.id().to_be_bytes()))
    }
}

/// What signs notes.
pub struct NoteKey {
    verifier: VerifierKey,
    pair: Ed25519KeyPair,
}

impl NoteKey {
    /// Makes a key, as PKCS #8.
    ///
    /// # Errors
    /// [`NoteError::Random`].
    pub fn generate(random: &dyn SecureRandom) -> Result<Secret, NoteError> {
        let made = Ed25519KeyPair::generate_pkcs8(random).map_err(|_| NoteError::Random)?;
        Ok(Secret::new(made.as_ref().to_vec()))
    }

    /// Signs in this name with a key that [`generate`](Self::generate) has made.
    ///
    /// # Errors
    /// [`NoteError::Key`].
    pub fn new(name: &str, pkcs8: &Secret) -> Result<Self, NoteError> {
        if !is_name(name) {
            return Err(NoteError::Key("its name is empty or has spaces"));
        }
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8.expose());
        let pair = pair.map_err(|_| NoteError::Key("it is not of Ed25519 in PKCS #8"))?;
        let public = pair.public_key().as_ref().try_into();
        let public = public.map_err(|_| NoteError::Key("a key of Ed25519 has 32 bytes"))?;
        Ok(Self { verifier: VerifierKey { name: name.to_owned(), kind: ED25519_NOTE, public }, pair })
    }

    /// What verifies its signatures.
    #[must_use]
    pub fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    /// Signs `text`, which ends with a newline.
    #[must_use]
    pub fn sign(&self, text: &str) -> Signature {
        let bytes = self.pair.sign(text.as_bytes()).as_ref().to_vec();
        Signature { name: self.verifier.name.clone(), id: self.verifier.id(), bytes }
    }
}

impl fmt::Debug for NoteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NoteKey({})", self.verifier)
    }
}

#[cfg(test)]
#[path = "note_tests.rs"]
mod tests;
