//! Proofs, checkpoints and keys of the record: an auditor has them from somebody.
//!
//! Promises: what is read is written again as it was; nothing holds by a key that has not signed it.

use signet_core::audit::leaf_hash;
use signet_core::transparency::{Checkpoint, Note, Proof, Tile, VerifierKey};

use super::{Verdict, promise, readable};

pub(super) const WORDS: &[&str] = &[
    "c2sp.org/tlog-proof@v1",
    "extra ",
    "index ",
    "\u{2014} ",
    "\n\n",
    "cluster.local/record",
    "18446744073709551615",
    "0/x001/x234/067.p/255",
    "+",
    "=",
];

/// The key of the samples, in the name that they have.
const KEY: &str = "cluster.local/record+e76bf0ad+AbqqbJuqCcIACJYV3+03Do+xsc2anbovYO8iXvT9JKOz";

/// A key that has signed nothing.
const STRANGER: &str = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";

pub(super) fn run(input: &[u8]) -> Verdict {
    let text = String::from_utf8_lossy(input);
    let mut outcome = String::new();
    if let Some((tile, width)) = Tile::parse(&text) {
        promise(tile.path(width) == text, || format!("{text} is not written as it was"))?;
        outcome.push_str("tile ");
    }
    match VerifierKey::parse(&text) {
        Ok(key) => {
            promise(key.to_string() == text.trim_end_matches('\n'), || format!("{text} is another key"))?;
            outcome.push_str("key ");
        }
        Err(error) => readable(&error.to_string())?,
    }
    match Checkpoint::parse(&text) {
        Ok(read) => {
            promise(read.to_string() == text, || format!("{text} is another checkpoint"))?;
            outcome.push_str("checkpoint ");
        }
        Err(error) => readable(&error.to_string())?,
    }
    match Note::parse(input) {
        Ok(note) => {
            promise(note.to_string().as_bytes() == input, || format!("{text} is another note"))?;
            outcome.push_str(&format!("note of {} ", note.signatures.len().min(3)));
        }
        Err(error) => readable(&error.to_string())?,
    }
    match Proof::parse(input) {
        Ok(proof) => {
            promise(proof.to_string().as_bytes() == input, || format!("{text} is another proof"))?;
            let stranger = [VerifierKey::parse(STRANGER).map_err(|error| error.to_string())?];
            let leaf = leaf_hash(proof.extra.as_deref().unwrap_or_default());
            let by_stranger = proof.verify(&leaf, "example.com/foo", &stranger);
            promise(by_stranger.is_err(), || "a proof by a key that has signed nothing".to_owned())?;
            let key = [VerifierKey::parse(KEY).map_err(|error| error.to_string())?];
            match proof.verify(&leaf, "cluster.local/record", &key) {
                Ok(checkpoint) => {
                    promise(proof.index < checkpoint.size, || {
                        format!("number {} of {}", proof.index, checkpoint.size)
                    })?;
                    outcome.push_str("holds");
                }
                Err(error) => {
                    readable(&error.to_string())?;
                    outcome.push_str("a proof of nothing");
                }
            }
        }
        Err(error) => {
            readable(&error.to_string())?;
            outcome.push_str(&error.to_string());
        }
    }
    Ok(outcome.chars().take(80).collect())
}
