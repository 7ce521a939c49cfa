//! Writes the trust bundle to a file at each change, for everybody who reads roots from one.

use std::path::{Path, PathBuf};
use std::time::Duration;

use signet_runtime::files::{self, FileError};
use signet_runtime::output::error_chain;
use signet_runtime::readiness::Condition;
use tokio_util::sync::CancellationToken;

use crate::signing_state::{self, StateReader};

/// How soon a failed write is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// Keeps `path` the PEM of the newest bundle until `stop`; `condition` says whether that works.
///
/// # Errors
/// None: a failing write shows in readiness and is retried.
pub async fn keep(
    path: PathBuf,
    mut state: StateReader,
    condition: Condition,
    stop: CancellationToken,
) -> Result<(), std::convert::Infallible> {
    loop {
        let newest = {
            state.borrow_and_update();
            signing_state::current(&state)
        };
        let mut retry = false;
        if let Some(newest) = newest {
            let pem = newest.bundle().pem().to_owned();
            let writing = files::in_time(&path, move |path| write(path, &pem));
            let Some(written) = stop.run_until_cancelled(writing).await else { return Ok(()) };
            match written {
                Ok(()) => condition.ready(format!("bundle {} in {}", newest.bundle().sequence(), path.display())),
                Err(error) => {
                    let error = format!("bundle_file: {}", error_chain(&error));
                    tracing::warn!(error, "the trust bundle could not be written");
                    condition.degraded(error);
                    retry = true;
                }
            }
        }
        let wait = async {
            tokio::select! {
                changed = state.changed() => if changed.is_err() { std::future::pending::<()>().await },
                () = tokio::time::sleep(RETRY), if retry => {}
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
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn only_another_content_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("roots.pem");
        write(&path, "one").unwrap();
        let first = std::fs::metadata(&path).unwrap().modified().unwrap();
        write(&path, "one").unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().modified().unwrap(), first);
        write(&path, "two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert!(write(&directory.path().join("no/such/place"), "x").is_err());
    }
}
