//! Reads one YAML file into plain typed values and reports every wrong field at once, each with its line and
//! dotted path.
//!
//! A program writes one function `read(&mut Section<'_>) -> Option<Config>`. The same function makes the values,
//! the effective configuration for the log and the reference table of the documentation ([`Reference`]).
//!
//! ```
//! use signet_runtime::config::{self, Section, kind};
//!
//! struct Server { listen: std::net::SocketAddr, ttl: std::time::Duration }
//!
//! fn read(s: &mut Section<'_>) -> Option<Server> {
//!     let listen = s.defaulted("listen", "127.0.0.1:15012", kind::socket_address(), "where callers connect");
//!     let ttl = s.defaulted("ttl", "24h", kind::duration(), "lifetime of a certificate");
//!     Some(Server { listen: listen?, ttl: ttl? }) // every field is read before the first `?`
//! }
//!
//! let loaded = config::parse("server.yaml", "ttl: 1h30m", read).unwrap();
//! assert_eq!(loaded.config.ttl.as_secs(), 5400);
//! assert_eq!(loaded.effective["listen"], "127.0.0.1:15012");
//! ```

pub mod kind;
mod problems;
mod reference;
mod schema;
mod section;
pub mod units;
mod yaml;

use std::path::Path;

use serde_json::{Map, Value};
use thiserror::Error;

pub use self::{
    problems::{Places, Problem, Problems},
    reference::{Choice, FieldDoc, Presence, Reference},
    section::{Section, Variant},
};
use crate::files::{self, FileError};

/// The largest configuration file that is read, in bytes.
pub const MAX_FILE_SIZE: u64 = 1 << 20;

/// Why a configuration was not accepted.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file could not be read, or is larger than [`MAX_FILE_SIZE`].
    #[error("reading the configuration failed")]
    Read(#[source] FileError),
    /// The text is not UTF-8.
    #[error("{file}: the configuration is not UTF-8 text")]
    NotText {
        /// The file's name.
        file: String,
    },
    /// The text is not one YAML document with unique text keys.
    #[error("{file}:{line}:{column}: {message}")]
    Syntax {
        /// The file's name.
        file: String,
        /// The line, from 1.
        line: u64,
        /// The column, from 1.
        column: u64,
        /// What is wrong there.
        message: String,
    },
    /// The document is a list or a single value.
    #[error("{file}: the configuration must be made of `key: value` lines")]
    NotASection {
        /// The file's name.
        file: String,
    },
    /// Fields are wrong, missing or not known.
    #[error(transparent)]
    Problems(#[from] Problems),
}

/// A configuration that was accepted.
#[derive(Debug)]
pub struct Loaded<T> {
    /// The typed values.
    pub config: T,
    /// Every value in effect, defaults filled in, as written in the file. Holds no secrets: those are only
    /// ever named by file path.
    pub effective: Value,
    /// Where its fields stand.
    pub places: Places,
}

/// Reads the file at `path` with `read`.
///
/// # Errors
/// [`ConfigError`]; for wrong fields it holds all of them.
pub fn load<T>(path: &Path, read: impl FnOnce(&mut Section<'_>) -> Option<T>) -> Result<Loaded<T>, ConfigError> {
    let file = path.display().to_string();
    let bytes = files::read(path, MAX_FILE_SIZE).map_err(ConfigError::Read)?;
    let text = String::from_utf8(bytes).map_err(|_not_utf8| ConfigError::NotText { file: file.clone() })?;
    parse(&file, &text, read)
}

/// The other program of this software, and keys at the top of its file that this one does not know.
#[derive(Debug, Clone, Copy)]
pub struct Sibling {
    /// Its name.
    pub program: &'static str,
    /// Some of its keys.
    pub keys: &'static [&'static str],
}

impl ConfigError {
    /// All that is wrong, one mistake per entry; of a file that is meant for the other program, that first.
    #[must_use]
    pub fn mistakes(&self, sibling: Sibling) -> Vec<String> {
        let Self::Problems(problems) = self else { return vec![crate::output::error_chain(self)] };
        let mut all = problems.lines();
        if problems.knows_not(sibling.keys) {
            all.insert(0, format!("{}: this looks like the configuration of {}", problems.file(), sibling.program));
        }
        all
    }
}

/// Reads a part of a file that may be wrong elsewhere: only what `read` gives up on is an error.
///
/// # Errors
/// As [`load`].
pub fn load_part<T>(path: &Path, read: impl FnOnce(&mut Section<'_>) -> Option<T>) -> Result<T, ConfigError> {
    let file = path.display().to_string();
    let bytes = files::read(path, MAX_FILE_SIZE).map_err(ConfigError::Read)?;
    let text = String::from_utf8(bytes).map_err(|_not_utf8| ConfigError::NotText { file: file.clone() })?;
    let (values, lines) = document(&file, &text)?;
    let (part, _, mut found) = section::read_root(&values, read);
    // All that the part does not read.
    found.retain(|problem| !problem.text.starts_with(section::UNKNOWN));
    part.ok_or_else(|| Problems::new(&file, &lines, found).into())
}

/// Reads a configuration from `text`; `file` only names it in messages.
///
/// # Errors
/// As [`load`], without the reading.
pub fn parse<T>(
    file: &str,
    text: &str,
    read: impl FnOnce(&mut Section<'_>) -> Option<T>,
) -> Result<Loaded<T>, ConfigError> {
    let (values, lines) = document(file, text)?;
    let (config, effective, mut found) = section::read_root(&values, read);
    match config {
        Some(config) if found.is_empty() => {
            Ok(Loaded { config, effective: Value::Object(effective), places: Places::new(file, lines) })
        }
        _ => {
            if found.is_empty() {
                // A reader that gives up without a reason is a bug of ours; saying so beats accepting the file.
                found.push(Problem::new("", "the reader refused the configuration without a reason; this is a bug"));
            }
            Err(Problems::new(file, &lines, found).into())
        }
    }
}

/// The fields of a YAML or JSON document that is no configuration, such as an object of Kubernetes.
///
/// # Errors
/// The line and the column at which it is none. What stands there is not told: it may be a secret.
pub fn fields(text: &str) -> Result<Map<String, Value>, (u64, u64)> {
    match yaml::parse(text) {
        Ok((Value::Object(fields), _)) => Ok(fields),
        Ok(_) => Err((1, 1)),
        Err(fault) => Err((fault.line, fault.column)),
    }
}

/// The fields of the document, and on which lines they stand.
fn document(file: &str, text: &str) -> Result<(Map<String, Value>, yaml::Lines), ConfigError> {
    let (document, lines) = yaml::parse(text).map_err(|fault| ConfigError::Syntax {
        file: file.to_owned(),
        line: fault.line,
        column: fault.column,
        message: fault.message,
    })?;
    match document {
        Value::Null => Ok((Map::new(), lines)),
        Value::Object(values) => Ok((values, lines)),
        _ => Err(ConfigError::NotASection { file: file.to_owned() }),
    }
}

#[cfg(test)]
mod tests;
