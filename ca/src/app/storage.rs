//! From the configured storage to where the store is.

use std::time::Duration;

use signet_core::seams::store::{AuthorityJournal, StoreError};
use signet_plugins::store::Location;
#[cfg(feature = "postgres")]
use signet_plugins::store::postgres::{PostgresAccess, Protection, Server};

use crate::config::Storage;
#[cfg(feature = "postgres")]
use crate::config::{Host, Postgres};

/// How long a call to the store may take: a request must not wait longer for it than it would for the whole CA.
pub(super) const DEADLINE: Duration = Duration::from_secs(5);

/// Where a configured storage is.
///
/// # Errors
/// [`StoreError::Unavailable`] when it is in a kind of database that this program was built without.
pub(super) fn location(storage: &Storage) -> Result<Location, StoreError> {
    match storage {
        Storage::Sqlite(path) => Ok(Location::Sqlite(path.clone())),
        #[cfg(feature = "postgres")]
        Storage::Postgres(postgres) => {
            Ok(Location::Postgres { access: access(postgres), connections: postgres.reach.connections })
        }
        #[cfg(not(feature = "postgres"))]
        Storage::Postgres(_) => Err(StoreError::Unavailable(crate::config::WITHOUT_POSTGRES.to_owned())),
    }
}

#[cfg(feature = "postgres")]
fn access(postgres: &Postgres) -> PostgresAccess {
    let Postgres { database, reach } = postgres;
    let server = match &database.host {
        Host::Name(name) => Server::Host(name.clone()),
        Host::Address(address) => Server::Host(address.to_string()),
        Host::Socket(directory) => Server::Directory(directory.clone()),
    };
    PostgresAccess {
        server,
        port: database.port,
        user: database.user.clone(),
        database: database.name.clone(),
        password_file: reach.password_file.clone(),
        ca_file: reach.ca_file.clone(),
        client_files: reach.client_files.clone(),
        protection: if postgres.is_encrypted() { Protection::Verified } else { Protection::Plain },
    }
}

/// Whether there is an authority in this storage.
pub(super) async fn holds_authority(store: &dyn AuthorityJournal) -> Result<bool, StoreError> {
    Ok(store.load().await?.is_some_and(|(_, authorities)| authorities.active().is_some()))
}

/// What an operator should know of a storage that is in order.
#[must_use]
pub fn storage_warning(storage: &Storage) -> Option<String> {
    let Storage::Postgres(postgres) = storage else { return None };
    let exposed = !postgres.is_encrypted() && !postgres.database.host.is_local();
    exposed.then(|| {
        format!(
            "postgres.tls is off, so that everything between this CA and {storage} can be read and changed on its way, the \
             password included"
        )
    })
}

#[cfg(all(test, feature = "postgres"))]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
    use signet_runtime::config::parse;

    use super::*;
    use crate::config::read_storage;

    fn storage(text: &str) -> Storage {
        parse("f", text, read_storage).unwrap().config
    }

    #[test]
    fn what_is_configured_is_where_the_store_is_and_how_it_is_reached() {
        let url = "postgres://ca@db.example.com:6000/signet";
        let files = "password_file: /p, ca_file: /ca, client_certificate_file: /c, client_key_file: /k";
        let storage = storage(&format!("storage: {url}\npostgres: {{ {files}, connections: 3 }}"));
        let Location::Postgres { access, connections } = location(&storage).unwrap() else { panic!("{storage}") };
        assert_eq!((access.to_string().as_str(), storage.to_string().as_str(), connections), (url, url, 3));
        assert_eq!((access.password_file, access.ca_file), (Some("/p".into()), Some("/ca".into())));
        assert_eq!(access.client_files, Some(("/c".into(), "/k".into())));
    }

    #[test]
    fn a_connection_is_verified_unless_it_stays_on_this_host_and_a_plain_one_elsewhere_is_told() {
        for (host, section, verified, told) in [
            ("ca@db/x", "{}", true, false),
            ("ca@10.0.0.1/x", "{ tls: off }", false, true),
            ("ca@localhost/x", "{}", false, false),
            ("ca@[::1]/x", "{ ca_file: /ca }", true, false),
            ("ca@127.0.0.1/x", "{ tls: off }", false, false),
            ("ca@/x?host=/run", "{}", false, false),
        ] {
            let storage = storage(&format!("storage: \"postgres://{host}\"\npostgres: {section}"));
            let Location::Postgres { access, .. } = location(&storage).unwrap() else { panic!("{storage}") };
            assert_eq!(access.protection == Protection::Verified, verified, "{host} {section}");
            assert_eq!(storage_warning(&storage).is_some(), told, "{host} {section}");
        }
    }
}
