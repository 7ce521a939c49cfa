//! The inputs that are kept in the tree, and where those go that broke something.

use std::path::{Path, PathBuf};

use crate::targets::Target;

/// `tests/fuzz` of the source tree.
#[must_use]
pub fn home() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The kept inputs of a target by their path: seeds of `corpus/`, and what once broke something, of `regressions/`.
///
/// # Errors
/// When a folder cannot be read; a target without regressions is none.
pub fn kept(target: &Target) -> std::io::Result<Vec<(PathBuf, Vec<u8>)>> {
    let mut inputs = read(&home().join("corpus").join(target.name))?;
    let regressions = home().join("regressions").join(target.name);
    if regressions.is_dir() {
        inputs.extend(read(&regressions)?);
    }
    Ok(inputs)
}

fn read(folder: &Path) -> std::io::Result<Vec<(PathBuf, Vec<u8>)>> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)?.flatten().map(|entry| entry.path()).collect();
    // The order decides what a seed finds.
    paths.sort();
    paths.into_iter().map(|path| std::fs::read(&path).map(|input| (path, input))).collect()
}

/// Writes an input to `folder`, named by target and content.
///
/// # Errors
/// When it cannot be written.
pub fn write(folder: &Path, target: &str, input: &[u8]) -> std::io::Result<PathBuf> {
    std::fs::create_dir_all(folder)?;
    let hash = signet_core::digest::hex(&signet_core::digest::sha256(input));
    let path = folder.join(format!("{target}-{}", hash.get(..16).unwrap_or_default()));
    std::fs::write(&path, input)?;
    Ok(path)
}
