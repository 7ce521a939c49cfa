//! Keeps the trust bundle in a file, for everybody who reads roots from one.

use std::path::{Path, PathBuf};
use std::time::Duration;

use signet_core::publication::MAX_NAME;
use signet_core::seams::publisher::Found;
use signet_runtime::files::{self, FileError};
use signet_runtime::output::error_chain;
use signet_runtime::readiness::Condition;
use tokio_util::sync::CancellationToken;

use crate::publishing::Reporter;
use crate::signing_state::{self, StateReader};

/// How soon a failed write is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// How often the file is looked at when there is nothing new, and reported.
const LOOK: Duration = Duration::from_secs(30);

/// The name of this publisher: each replica has a file of its own.
#[must_use]
pub fn publisher(path: &Path, host: &str) -> String {
    let mut name = format!("file/{host}/{}", path.display());
    name.truncate(name.floor_char_boundary(MAX_NAME));
    name
}

/// Keeps `path` the PEM of the newest bundle until `stop`, and reports so; `condition` says whether that works.
///
/// # Errors
/// None: a failing write shows in readiness and is retried.
pub async fn keep(
    path: PathBuf,
    mut state: StateReader,
    condition: Condition,
    reporter: Reporter,
    stop: CancellationToken,
) -> Result<(), std::convert::Infallible> {
    loop {
        let newest = {
            state.borrow_and_update();
            signing_state::current(&state)
        };
        let mut again = LOOK;
        if let Some(newest) = newest {
            let (pem, sequence) = (newest.bundle().pem().to_owned(), newest.bundle().sequence());
            let writing = files::in_time(&path, move |path| write(path, &pem));
            let Some(written) = stop.run_until_cancelled(writing).await else { return Ok(()) };
            let mut found = Found { wanted: 1, ..Found::default() };
            match written {
                Ok(()) => {
                    (found.sequence, found.in_place) = (Some(sequence), 1);
                    condition.ready(format!("bundle {sequence} in {}", path.display()));
                }
                Err(error) => {
                    let error = format!("bundle_file: {}", error_chain(&error));
                    tracing::warn!(error, "the trust bundle could not be written");
                    condition.degraded(error.as_str());
                    found.problem = Some(error);
                    again = RETRY;
                }
            }
            let Some(told) = stop.run_until_cancelled(reporter.tell(&found)).await else { return Ok(()) };
            if let Err(error) = told {
                tracing::debug!(%error, "that the trust bundle is in its file could not be noted");
                again = RETRY;
            }
        }
        let wait = async {
            tokio::select! {
                changed = state.changed() => if changed.is_err() { std::future::pending::<()>().await },
                () = tokio::time::sleep(again) => {}
            }
        };
        if stop.run_until_cancelled(wait).await.is_none() {
            return Ok(());
        }
    }
}

/// Writes only what is new, so that nobody who watches the file is woken for nothing.
fn write(path: &Path, pem: &str) -> Result<(), FileError> {
    let limit = u64::try_from(pem.len()).unwrap_or(u64::MAX).saturating_add(1);
    if files::read(path, limit).is_ok_and(|held| held == pem.as_bytes()) {
        return Ok(());
    }
    files::write_atomic(path, pem.as_bytes(), 0o644)
}

#[cfg(test)]
#[path = "bundle_file_tests.rs"]
mod tests;
