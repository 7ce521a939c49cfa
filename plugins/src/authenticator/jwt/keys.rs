//! A cluster's published keys (RFC 7517) and which of them may verify which token.

use std::fmt;

use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

use super::jwk::{self, VerifyingKey};
use super::{is_object, shorten};

/// The most keys that a set may hold. A cluster has two or three.
const MAX_KEYS: usize = 256;
/// The most keys that are tried for one token: so many of one kind may share a `kid`.
const MAX_ALIKE: usize = 4;
/// How many keys an error tells of.
const TOLD: usize = 8;

/// Why a JWKS document cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeySetError {
    /// Not a JSON object with a list `keys`.
    #[error("not a JWK set: {0}")]
    NotJwks(String),
    /// More keys than any cluster has.
    #[error("the JWK set holds {0} keys; at most {MAX_KEYS} are read")]
    TooManyKeys(usize),
    /// There is no key that could verify a token. To shut a cluster out, remove it from the configuration.
    #[error("the JWK set holds no key for verifying RS, PS or ES tokens: {}", reasons(.0))]
    NoUsableKey(Vec<LeftOut>),
}

/// A published key that verifies nothing, while the others count (RFC 7517 section 5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// Its position in the set, from 0.
    pub index: usize,
    /// Its `kid`, shortened.
    pub kid: Option<String>,
    /// Why it cannot be used, such as "is RSA of 1024 bits; use 2048 to 8192".
    pub problem: String,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { index, kid, problem } = self;
        match kid {
            Some(kid) => write!(f, "key {index} (kid {kid:?}) {problem}"),
            None => write!(f, "key {index} (without kid) {problem}"),
        }
    }
}

fn reasons(left_out: &[LeftOut]) -> String {
    if left_out.is_empty() {
        return "it is empty".to_owned();
    }
    let told = left_out.iter().take(TOLD).map(ToString::to_string).collect::<Vec<_>>().join("; ");
    match left_out.len().saturating_sub(TOLD) {
        0 => told,
        more => format!("{told}; and {more} more"),
    }
}

/// Why no key of the set may verify a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NoKey {
    /// The token names no key although there are several, or one that is not there.
    Unknown,
    /// The key named is there but cannot be used.
    LeftOut(String),
    /// The key named is there but is for other algorithms.
    OtherAlgorithm,
}

#[derive(Deserialize)]
struct Document {
    /// Read one by one afterwards, so that a key of a kind not known here may look as it likes.
    keys: Vec<Value>,
}

/// The keys that may verify tokens, at least one.
pub(in crate::authenticator) struct KeySet {
    keys: Vec<VerifyingKey>,
    left_out: Vec<LeftOut>,
}

impl KeySet {
    /// Reads a JWK set. A key that cannot be used is left out (RFC 7517 section 5); one that is published twice is one.
    ///
    /// # Errors
    /// [`KeySetError`]; total on any input.
    pub(in crate::authenticator) fn parse(bytes: &[u8]) -> Result<Self, KeySetError> {
        let document: Document =
            serde_json::from_slice(plain(bytes)?).map_err(|error| KeySetError::NotJwks(shorten(&error.to_string())))?;
        if document.keys.len() > MAX_KEYS {
            return Err(KeySetError::TooManyKeys(document.keys.len()));
        }
        let mut set = Self { keys: Vec::new(), left_out: Vec::new() };
        for (index, entry) in document.keys.iter().enumerate() {
            if let Err(problem) = jwk::read(entry).and_then(|key| set.add(key)) {
                set.left_out.push(LeftOut { index, kid: jwk::kid(entry).map(shorten), problem });
            }
        }
        if set.keys.is_empty() { Err(KeySetError::NoUsableKey(set.left_out)) } else { Ok(set) }
    }

    fn add(&mut self, key: VerifyingKey) -> Result<(), String> {
        // kube-apiserver publishes a key as often as its key files hold it.
        if self.keys.iter().any(|other| other.repeats(&key)) {
            return Ok(());
        }
        if self.keys.iter().filter(|other| other.is_confusable_with(&key)).count() >= MAX_ALIKE {
            return Err(format!("is of the same kid and kind as {MAX_ALIKE} before it; give each its own kid"));
        }
        self.keys.push(key);
        Ok(())
    }

    /// How many keys may verify tokens.
    pub(in crate::authenticator) fn len(&self) -> usize {
        self.keys.len()
    }

    /// The published keys that may not.
    pub(in crate::authenticator) fn left_out(&self) -> &[LeftOut] {
        &self.left_out
    }

    /// The keys for a token with this header, at least one and few: those of its `kid` that are for its algorithm. A
    /// token without `kid` is given the keys without one, or the only key there is.
    ///
    /// # Errors
    /// [`NoKey`]: the algorithm is the key's to choose, never the token's (RFC 8725 section 3.1).
    pub(super) fn choose(&self, kid: Option<&str>, algorithm: Algorithm) -> Result<Vec<&DecodingKey>, NoKey> {
        let kid = kid.filter(|kid| !kid.is_empty());
        let only = kid.is_none() && self.keys.len() == 1;
        let mut named = self.keys.iter().filter(|key| only || key.kid() == kid).peekable();
        if named.peek().is_none() {
            let left_out = self.left_out.iter().find(|key| kid.is_some() && key.kid.as_deref() == kid);
            return Err(left_out.map_or(NoKey::Unknown, |key| NoKey::LeftOut(key.problem.clone())));
        }
        let fitting: Vec<_> = named.filter_map(|key| key.for_algorithm(algorithm)).collect();
        if fitting.is_empty() { Err(NoKey::OtherAlgorithm) } else { Ok(fitting) }
    }
}

/// The document as JSON wants it: UTF-8 (RFC 8259 section 8.1), whose mark some editors write in front.
fn plain(bytes: &[u8]) -> Result<&[u8], KeySetError> {
    // No JSON text holds a zero byte; in UTF-16 every other byte is one.
    if bytes.contains(&0) {
        let wrong = "it holds zero bytes, as UTF-16 does (PowerShell writes it); save it as UTF-8";
        return Err(KeySetError::NotJwks(wrong.to_owned()));
    }
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    if is_object(text) { Ok(text) } else { Err(KeySetError::NotJwks("it is not a JSON object".to_owned())) }
}

#[cfg(test)]
mod tests;
