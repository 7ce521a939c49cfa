//! Moving the storage from its file into a database of a server.

use signet_core::audit::Outcome;
use signet_plugins::store::{Ended, Location, Moved, move_storage};

use super::error::AppError;
use super::record::command_event;
use super::storage;
use crate::config::{Config, Storage};

/// Moves the storage of a configuration to another place, where it is used from then on; the file is never issued from again.
/// `progress` is told how many rows are done, of how many. It may be dropped at any time and begun again.
///
/// # Errors
/// [`AppError::Migrate`].
pub async fn migrate(config: &Config, to: &Storage, progress: impl Fn(u64, u64)) -> Result<Ended, AppError> {
    let refused = |text: &str| Err(AppError::Migrate(text.to_owned()));
    let from = storage::location(&config.storage)?;
    let Some(file) = from.file() else {
        return refused("the storage of this configuration is a database of a server already");
    };
    let Location::Postgres { access, .. } = storage::location(to)? else {
        return refused("a storage is moved into a database of a PostgreSQL server only");
    };
    let origin = &config.storage;
    let event = |moved: &Moved| {
        let Moved { events, journal, holders, keys, damaged } = moved;
        let text = format!(
            "moved from {origin}: {events} events, journal version {journal}, {holders} holders, {keys} encrypted keys"
        );
        let text = if *damaged > 0 { format!("{text}; {damaged} of the events were damaged before") } else { text };
        command_event("migrate", Outcome::Done, &text)
    };
    move_storage(file, &access, event, progress).await.map_err(|error| AppError::Migrate(error.to_string()))
}
