//! Somebody with the database changes the record of a CA that is stopped.

use std::process::Command;

use crate::failure::{Failure, Outcome};
use crate::harness::Dev;
use crate::harness::database::{self, Store};
use crate::tools;

/// Does what the script beside this file says of `act`, with the events at these two positions.
///
/// # Errors
/// [`Failure`].
pub fn tamper(dev: &Dev, act: &str, at: u64, other: u64) -> Outcome {
    let mut command = Command::new("python3");
    command.args(["-c", include_str!("tamper.py")]);
    let places = [at.to_string(), other.to_string()];
    match dev.store()? {
        Store::Sqlite => tools::run(command.args(["sqlite", act]).args(places).arg(dev.path("signet.db"))).map(drop),
        Store::Postgres => {
            let statements = tools::run(command.args(["postgres", act]).args(places))?;
            let done = database::shared()?.sql(&dev.database()?, &statements);
            done.map(drop).map_err(Failure::while_doing("change the storage"))
        }
    }
}
