//! Why a server did not do what a test asked for. `Debug` prints the message, as tests show it to people.

use std::fmt;

/// Why a server was not started, stopped or asked.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The server is not installed. The last line is the command that installs it.
    #[error("{what}; install it with:\n{install}")]
    Missing {
        /// What was looked for, where, and what was found instead.
        what: String,
        /// The command.
        install: String,
    },
    /// A file or a process could not be worked with.
    #[error("cannot {doing}: {source}")]
    Io {
        /// What was being done.
        doing: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A program of the server refused.
    #[error("cannot {doing}: {said}")]
    Refused {
        /// What was being done.
        doing: String,
        /// What it printed.
        said: String,
    },
}

impl fmt::Debug for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl ServerError {
    /// For `map_err`: an error of the system while `doing` was done.
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }

    pub(crate) fn refused(doing: impl Into<String>, said: impl Into<String>) -> Self {
        Self::Refused { doing: doing.into(), said: said.into() }
    }
}
