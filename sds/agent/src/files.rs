//! Writes a certificate, its key and its roots to a directory **as one set**, for programs that read files.
//!
//! The layout is that of Kubernetes volumes: the files lie in a directory per generation, `..data` is a symlink to the
//! newest one, and the visible names are symlinks through `..data`. Replacing that one symlink by a rename switches
//! all three files in the same instant, also for a crash in between: no set is ever seen half written, and whoever
//! opens the directory `..data` once and then its files reads one generation. (A program that resolves each name anew
//! may read one file before and one after the switch, as with a Kubernetes volume, and must compare key and
//! certificate.) The generation before stays until the next switch, for those who are just reading it.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};

use signet_core::bundle::TrustBundle;
use signet_runtime::files::{FileError, write_atomic};

use crate::identity::issued::Issued;

/// Leaf and intermediates.
pub(crate) const CHAIN_FILE: &str = "cert-chain.pem";
/// The private key, readable by its owner only.
pub(crate) const KEY_FILE: &str = "key.pem";
/// The trust bundle.
pub(crate) const ROOT_FILE: &str = "root-cert.pem";

/// All of them.
pub(crate) const FILES: [&str; 3] = [CHAIN_FILE, KEY_FILE, ROOT_FILE];
const CURRENT: &str = "..data";
const CURRENT_NEW: &str = "..data_tmp";
const GENERATION: &str = "..generation-";

/// Why the set was not written; the one before it is still in place.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum WriteError {
    /// A file could not be written.
    #[error("cannot write the certificate files")]
    File(#[from] FileError),
    /// A directory or symlink could not be made.
    #[error("cannot {doing} {}", path.display())]
    System {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Writes the certificate, its key and the roots of `bundle` to `directory`, which is made when missing, and switches to it.
///
/// # Errors
/// [`WriteError`].
pub(crate) fn write_set(directory: &Path, issued: &Issued, bundle: &TrustBundle) -> Result<(), WriteError> {
    let system = |doing, path: &Path| {
        let path = path.to_owned();
        move |source| WriteError::System { doing, path, source }
    };
    fs::create_dir_all(directory).map_err(system("make the directory", directory))?;
    let current = directory.join(CURRENT);
    let before = fs::read_link(&current).ok();
    let name = format!("{GENERATION}{}", next_number(directory).map_err(system("list", directory))?);
    let generation = directory.join(&name);
    // Open to all, because the chain and the roots may be read by all; the key's own mode protects it.
    fs::DirBuilder::new().mode(0o755).create(&generation).map_err(system("make the directory", &generation))?;
    write_atomic(&generation.join(CHAIN_FILE), issued.chain.pem().as_bytes(), 0o644)?;
    write_atomic(&generation.join(KEY_FILE), issued.key_pem.expose(), 0o600)?;
    write_atomic(&generation.join(ROOT_FILE), bundle.pem().as_bytes(), 0o644)?;
    let new = directory.join(CURRENT_NEW);
    replace_link(Path::new(&name), &new, &current).map_err(system("switch", &current))?;
    for file in FILES {
        let visible = directory.join(file);
        let target = Path::new(CURRENT).join(file);
        if fs::read_link(&visible).ok().as_ref() != Some(&target) {
            replace_link(&target, &directory.join(format!("..{file}_tmp")), &visible)
                .map_err(system("link", &visible))?;
        }
    }
    fs::File::open(directory).and_then(|opened| opened.sync_all()).map_err(system("sync", directory))?;
    let keep: BTreeSet<PathBuf> = before.into_iter().chain([PathBuf::from(name)]).collect();
    remove_old(directory, &keep).map_err(system("tidy", directory))
}

/// Makes a symlink to `target` at `path` in one step, by way of `temporary`.
fn replace_link(target: &Path, temporary: &Path, path: &Path) -> io::Result<()> {
    match fs::remove_file(temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    symlink(target, temporary)?;
    fs::rename(temporary, path)
}

fn generations(directory: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(GENERATION)).and_then(|text| text.parse().ok());
        found.extend(number.map(|number| (number, PathBuf::from(name))));
    }
    Ok(found)
}

/// One more than the largest there is: a generation that a crash left behind is never written into.
fn next_number(directory: &Path) -> io::Result<u64> {
    Ok(generations(directory)?.into_iter().map(|(number, _)| number).max().unwrap_or(0) + 1)
}

fn remove_old(directory: &Path, keep: &BTreeSet<PathBuf>) -> io::Result<()> {
    for (_, name) in generations(directory)? {
        if !keep.contains(&name) {
            fs::remove_dir_all(directory.join(name))?;
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "files_tests.rs"]
mod tests;
