//! What is sent to a witness, and what its answer means (C2SP tlog-witness, `add-checkpoint`).

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Hash, Note, Signature};

/// What a witness has answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// These lines; whether one of them counts is for whoever has its key to say.
    Cosigned(Vec<Signature>),
    /// It has cosigned this size, which is not the one that it was told.
    Stands(u64),
    /// It does not cosign, and why.
    Refused(&'static str),
    /// It cannot cosign now.
    Unable(u16),
    /// Nothing that this protocol knows.
    Wrong(&'static str),
}

impl Answer {
    /// Reads one.
    #[must_use]
    pub fn read(status: u16, body: &[u8]) -> Self {
        match status {
            200 => Signature::lines(body).map_or(Self::Wrong("its cosignature is not a line of one"), Self::Cosigned),
            400 => Self::Refused(
                "it takes the request for none, or has cosigned more events than this checkpoint has (400)",
            ),
            403 => Self::Refused("it does not know the key of this log, or the signature is wrong to it (403)"),
            404 => Self::Refused("it does not know this log (404)"),
            409 => size(body).map_or(Self::Wrong("it has cosigned another size, and does not say which"), Self::Stands),
            422 => Self::Refused("this checkpoint does not continue the one that it has cosigned (422)"),
            429 | 500..=599 => Self::Unable(status),
            _ => Self::Wrong("its answer is none of the protocol of witnesses"),
        }
    }
}

/// A size on a line of its own.
fn size(body: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(body).ok()?.strip_suffix('\n')?;
    text.parse().ok().filter(|size: &u64| size.to_string() == text)
}

/// What is sent: the size that the witness has cosigned, what proves that the checkpoint continues it, and the checkpoint.
#[must_use]
pub fn submission(old: u64, path: &[Hash], checkpoint: &Note) -> String {
    let mut text = format!("old {old}\n");
    for hash in path {
        // Writing to a string does not fail.
        let _written = writeln!(text, "{}", STANDARD.encode(hash));
    }
    text + "\n" + &checkpoint.to_string()
}

#[cfg(test)]
#[path = "witness_tests.rs"]
mod tests;
