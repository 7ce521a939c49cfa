//! What is fuzzed, one file per reader, each with the promises that its outcomes must keep.

mod blocks;
mod cert_manager;
mod certified;
mod config;
mod csr;
mod files;
mod jwks;
mod lists;
mod proof;
mod record;
mod reply;
mod request;
mod sds;
mod signed;
mod token;
mod vault;

use crate::mutate::{Change, bytes, json, pem, text};

/// What came of an input that broke nothing, in a few words: another outcome, other words. `Err` is the broken promise.
pub type Verdict = Result<String, String>;

/// One reader under test.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, which is that of its folder in the corpus.
    pub name: &'static str,
    /// How inputs are changed.
    pub changes: &'static [Change],
    /// Words that mean something to it.
    pub words: &'static [&'static str],
    /// Reads one input and judges the outcome. It may panic; that is a broken promise too.
    pub run: fn(&[u8]) -> Verdict,
}

/// Every target.
pub const ALL: [Target; 13] = [
    Target {
        name: "token",
        changes: &[json::change, bytes::change, text::change],
        words: token::WORDS,
        run: token::run,
    },
    Target {
        name: "jwks",
        changes: &[json::change, json::change, bytes::change, text::change],
        words: jwks::WORDS,
        run: jwks::run,
    },
    Target {
        name: "csr",
        changes: &[pem::change, pem::change, pem::change, bytes::change],
        words: signed::WORDS,
        run: csr::run,
    },
    Target {
        name: "files",
        changes: &[pem::change, pem::change, bytes::change, text::change],
        words: files::WORDS,
        run: files::run,
    },
    Target {
        name: "lists",
        changes: &[pem::change, pem::change, pem::change, bytes::change],
        words: signed::WORDS,
        run: lists::run,
    },
    Target {
        name: "reply",
        changes: &[pem::change, pem::change, bytes::change, text::change],
        words: files::WORDS,
        run: reply::run,
    },
    Target {
        name: "request",
        changes: &[request::change, request::change, bytes::change, text::change],
        words: request::WORDS,
        run: request::run,
    },
    Target {
        name: "sds",
        changes: &[text::change, text::change, sds::change, bytes::change],
        words: sds::WORDS,
        run: sds::run,
    },
    Target {
        name: "config",
        changes: &[text::change, text::change, bytes::change],
        words: config::WORDS,
        run: config::run,
    },
    Target {
        name: "proof",
        changes: &[text::change, text::change, bytes::change],
        words: proof::WORDS,
        run: proof::run,
    },
    Target {
        name: "record",
        changes: &[bytes::change, bytes::change, json::change, text::change],
        words: record::WORDS,
        run: record::run,
    },
    Target {
        name: "vault",
        changes: &[pem::change, pem::change, json::change, bytes::change, text::change],
        words: certified::WORDS,
        run: vault::run,
    },
    Target {
        name: "cert-manager",
        changes: &[pem::change, pem::change, json::change, bytes::change, text::change],
        words: certified::WORDS,
        run: cert_manager::run,
    },
];

/// The target of this name.
#[must_use]
pub fn named(name: &str) -> Option<Target> {
    ALL.into_iter().find(|target| target.name == name)
}

/// A promise, and what to say when it is broken.
///
/// # Errors
/// The words, when the promise is broken.
pub(crate) fn promise(kept: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if kept { Ok(()) } else { Err(what()) }
}

/// Messages are for people and for logs: never without words, never as long as what they complain about.
pub(crate) fn readable(message: &str) -> Result<(), String> {
    const LONGEST: usize = 16 * 1024;
    promise(!message.trim().is_empty(), || "an error without words".to_owned())?;
    promise(message.len() <= LONGEST, || format!("an error of {} bytes", message.len()))
}

/// Runs what is asynchronous to its end on this thread.
///
/// # Errors
/// When there is no runtime.
pub(crate) fn wait_for<T>(future: impl Future<Output = T>) -> Result<T, String> {
    thread_local! {
        static RUNTIME: std::io::Result<tokio::runtime::Runtime> =
            tokio::runtime::Builder::new_current_thread().enable_time().build();
    }
    RUNTIME.with(|runtime| match runtime {
        Ok(runtime) => Ok(runtime.block_on(future)),
        Err(error) => Err(format!("no runtime: {error}")),
    })
}
