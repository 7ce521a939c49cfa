//! How far a storage has been written, as far as that is seen from outside: moments to be killed at.

use std::path::PathBuf;

use super::Dev;
use super::database::{Store, address, shared};
use super::way::Way;
use crate::failure::Outcome;

/// Something that changes with each write.
pub enum Writes {
    /// The size of SQLite's `-wal`.
    File(PathBuf),
    /// The messages to the server.
    Messages(Way),
}

impl Writes {
    /// A number that is another one after a write.
    #[must_use]
    pub fn count(&self) -> u64 {
        match self {
            Self::File(file) => std::fs::metadata(file).map_or(0, |found| found.len()),
            Self::Messages(way) => way.messages(),
        }
    }
}

impl Dev {
    /// Watches what is written into the storage from now on. Processes that are started later are seen.
    ///
    /// # Errors
    /// [`Failure`](crate::failure::Failure).
    pub fn watch_writes(&self) -> Outcome<Writes> {
        match self.store()? {
            Store::Sqlite => Ok(Writes::File(self.path("signet.db-wal"))),
            Store::Postgres => {
                let name = self.database()?;
                let way = Way::to(address(shared()?))?;
                self.set_ca("storage", shared()?.url_through(way.address.port(), &name))?;
                Ok(Writes::Messages(way))
            }
        }
    }
}
