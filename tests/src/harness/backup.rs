//! A backup of the storage of an installation, and a CA in the past: by the means that `docs/storage.md` names for each
//! kind of storage.

use std::path::PathBuf;

use super::database::{Store, shared};
use super::{Ca, Dev};
use crate::failure::{Failure, Outcome, ensure};
use crate::tools;

impl Dev {
    /// A copy of the storage as it is now, beside whoever is at work on it.
    ///
    /// # Errors
    /// [`Failure`] with what the program said.
    pub fn back_up(&self) -> Outcome {
        match self.store()? {
            Store::Sqlite => tools::run(self.ca_command(&["backup"])?.arg(self.backup())).map(drop),
            Store::Postgres => {
                let name = self.database()?;
                shared()?.dump(&name, &self.backup()).map_err(Failure::while_doing("make a backup"))
            }
        }
    }

    /// Puts the copy, which is kept, in the place of the storage that nobody is at work on.
    ///
    /// # Errors
    /// [`Failure`] with what the program said.
    pub fn put_back(&self) -> Outcome {
        match self.store()? {
            Store::Sqlite => {
                for suffix in ["", "-wal", "-shm"] {
                    let (from, to) = (format!("signet.db{suffix}"), format!("old.db{suffix}"));
                    let _absent = std::fs::rename(self.path(&from), self.path(&to));
                }
                let put = std::fs::copy(self.backup(), self.path("signet.db"));
                put.map(drop).map_err(Failure::io("put the backup in place"))
            }
            Store::Postgres => {
                let name = shared()?.load(&self.backup()).map_err(Failure::while_doing("load a backup"))?;
                self.set_ca("storage", shared()?.url(&name))
            }
        }
    }

    /// Stops the CA, puts the copy in the place of the storage, and starts the CA again.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn restore(&self, mut ca: Ca) -> Outcome<Ca> {
        ensure(ca.process.stop().await?.success(), || ca.process.log())?;
        self.put_back()?;
        self.start_ca().await
    }

    fn backup(&self) -> PathBuf {
        self.path("backup")
    }
}
