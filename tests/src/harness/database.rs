//! Which database an installation keeps its storage in.

use std::net::{Ipv4Addr, SocketAddr};

use signet_test_servers::{Postgres, ServerError};

use super::{Dev, yaml};
use crate::failure::{Failure, Outcome};

/// The environment variable that chooses for installations that do not choose themselves.
pub const STORE: &str = "STORE";

/// A kind of storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// A file in the state directory.
    Sqlite,
    /// A database of a server that all tests of this process share.
    Postgres,
}

impl Store {
    /// What the environment asks for: SQLite, if it says nothing.
    ///
    /// # Errors
    /// [`Failure::Unexpected`] when it asks for something else.
    #[expect(clippy::disallowed_methods, reason = "tests and demos are told by the environment")]
    pub fn wanted() -> Outcome<Self> {
        match std::env::var(STORE).as_deref() {
            Err(_) | Ok("" | "sqlite") => Ok(Self::Sqlite),
            Ok("postgres") => Ok(Self::Postgres),
            Ok(other) => Err(Failure::unexpected(format!("{STORE}={other}: write sqlite or postgres"))),
        }
    }
}

impl Dev {
    /// Keeps the storage of this installation in a new database of `server`. The authority of before is forgotten; another
    /// one is made when a CA is started next.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn store_in(&self, server: &Postgres) -> Outcome {
        let database = server.create_database().map_err(Failure::while_doing("make a database"))?;
        self.forget_files()?;
        self.set_ca("storage", server.url(&database))
    }

    /// What kind of storage this installation has.
    ///
    /// # Errors
    /// [`Failure`] of the configuration file.
    pub fn store(&self) -> Outcome<Store> {
        Ok(if self.storage()?.starts_with("postgres://") { Store::Postgres } else { Store::Sqlite })
    }

    /// The name of its database on a server.
    ///
    /// # Errors
    /// [`Failure`] of the configuration file.
    pub fn database(&self) -> Outcome<String> {
        let storage = self.storage()?;
        let name = storage.rsplit_once('/').map(|(_, name)| name.to_owned());
        name.ok_or_else(|| Failure::unexpected(format!("{storage}: no database")))
    }

    /// The URL of its storage, as configured.
    ///
    /// # Errors
    /// [`Failure`] of the configuration file.
    pub fn storage(&self) -> Outcome<String> {
        let config = yaml::read(&self.path("signet-ca.yaml"))?;
        yaml::text(&config, "/storage").map(str::to_owned)
    }
}

/// The server that all tests of this process share.
///
/// # Errors
/// [`Failure`], also when PostgreSQL is not installed.
pub fn shared() -> Outcome<&'static Postgres> {
    Postgres::shared().map_err(|error: &ServerError| Failure::unexpected(error.to_string()))
}

/// A server of one's own, that may be stopped.
///
/// # Errors
/// As [`shared`].
pub fn own() -> Outcome<Postgres> {
    let options = signet_test_servers::Options::default();
    Postgres::start(&options).map_err(Failure::while_doing("start PostgreSQL"))
}

/// Where a server takes connections.
#[must_use]
pub fn address(server: &Postgres) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, server.port()))
}
