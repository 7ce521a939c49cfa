//! What can go wrong while a real process is driven. Shown to people as it is: `Debug` prints the message.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Why a step of a test, the demo or the bench did not succeed.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// A program that is needed is not installed.
    #[error("{tool} is missing; install it with: {install}")]
    ToolMissing {
        /// The program.
        tool: String,
        /// The command that installs it.
        install: String,
    },
    /// A file or process operation failed.
    #[error("cannot {action}: {source}")]
    Io {
        /// What was being done.
        action: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A command ended with an error.
    #[error("{command} ended with {status}\n{output}")]
    Command {
        /// The command line.
        command: String,
        /// How it ended.
        status: String,
        /// What it printed.
        output: String,
    },
    /// Something did not happen in time.
    #[error("{what} did not happen within {within:?}{context}")]
    Deadline {
        /// What was awaited.
        what: String,
        /// How long.
        within: Duration,
        /// What is known instead, starting with a separator, or empty.
        context: String,
    },
    /// A process that should be running has ended.
    #[error("{name} ended ({status}); its log is\n{log}")]
    Ended {
        /// The process.
        name: String,
        /// How it ended.
        status: String,
        /// Its log.
        log: String,
    },
    /// A file does not have the expected shape.
    #[error("{}: {problem}", path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Something was observed that should not be so.
    #[error("{0}")]
    Unexpected(String),
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Failure {
    /// For `map_err`: an input or output error while `action` was being done.
    pub fn io(action: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let action = action.into();
        move |source| Self::Io { action, source }
    }

    /// For `map_err`: any foreign error while `action` was being done.
    pub fn while_doing<E: std::error::Error>(action: &str) -> impl FnOnce(E) -> Self {
        move |error| {
            let mut text = format!("cannot {action}: {error}");
            let mut source = error.source();
            while let Some(cause) = source {
                text = format!("{text}: {cause}");
                source = cause.source();
            }
            Self::Unexpected(text)
        }
    }

    /// Something was observed that should not be so.
    pub fn unexpected(text: impl Into<String>) -> Self {
        Self::Unexpected(text.into())
    }
}

/// The result of a step.
pub type Outcome<T = ()> = Result<T, Failure>;

/// Fails with the text unless the condition holds.
///
/// # Errors
/// [`Failure::Unexpected`].
pub fn ensure(condition: bool, text: impl FnOnce() -> String) -> Outcome {
    if condition { Ok(()) } else { Err(Failure::Unexpected(text())) }
}
