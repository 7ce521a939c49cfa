//! Writes the checkpoint outside of storage anew, because an operator says so.

use std::path::PathBuf;

use signet_core::audit::Outcome;
use signet_core::transparency::VerifierKey;
use signet_runtime::output::error_chain;

use super::error::AppError;
use super::record::command_event;
use super::storage;
use crate::config::Config;
use crate::record_tree::{OutsideFile, newest};

/// What was written.
#[derive(Debug, Clone)]
pub struct WrittenOutside {
    /// Where.
    pub path: PathBuf,
    /// How many events the checkpoint covers.
    pub size: u64,
}

/// Writes the newest checkpoint in storage to the file outside of it, where none is. That is on record before it is done.
///
/// # Errors
/// [`AppError`].
pub async fn write_outside(config: &Config) -> Result<WrittenOutside, AppError> {
    let refused = |why: String| AppError::Outside(why);
    let path = config.audit.checkpoint_file.clone();
    let path =
        path.ok_or_else(|| refused("audit.checkpoint_file is not set: there is no file to be written".into()))?;
    let file = OutsideFile::new(path.clone());
    if file.is_there().await.map_err(|error| refused(error_chain(&error)))? {
        let shown = path.display();
        return Err(refused(format!(
            "{shown} is there, and stays: look at it first, and move it away if it is to be replaced"
        )));
    }
    let location = storage::location(&config.storage)?;
    // A storage that is not there must not be made here.
    let found = location.open_read_only(storage::DEADLINE).await?;
    let kept = newest(&*found, &config.audit.origin).await;
    found.close().await;
    let (kept, checkpoint) = kept.map_err(|error| refused(error_chain(&error)))?;
    let keys: Vec<VerifierKey> = kept.keys.lines().filter_map(|line| VerifierKey::parse(line).ok()).collect();
    OutsideFile::check(&kept.note, &keys).map_err(refused)?;
    let store = location.open(storage::DEADLINE).await?;
    let size = checkpoint.size;
    let text =
        format!("a checkpoint of {size} events is written to {} in the place of one that is gone", path.display());
    let told = store.append(vec![command_event("audit checkpoint", Outcome::Done, &text)]).await;
    store.close().await;
    told?;
    file.write(&kept.note).await.map_err(|error| refused(error_chain(&error)))?;
    Ok(WrittenOutside { path, size })
}
