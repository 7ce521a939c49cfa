//! Puts CA files into a directory: for their owner only, each whole or not at all, and never in the place of others.

use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use signet_plugins::authority::{CaFile, CaFiles};
use signet_runtime::files::{self, Draft, FileError};
use signet_runtime::output::error_chain;
use zeroize::Zeroizing;

/// The file that is written last: without it there is no CA.
const LAST: &str = "ca-key.pem";

/// What is to be done, and nothing of it done yet.
#[derive(Debug)]
pub(super) struct Plan {
    directory: PathBuf,
    new: Vec<(&'static str, Zeroizing<Vec<u8>>)>,
    /// Files that are there already with the same content.
    pub(super) kept: Vec<&'static str>,
    /// The key, if it is there already and others may read it.
    pub(super) open_key: Option<PathBuf>,
}

impl Plan {
    /// The names of the files that are written.
    pub(super) fn new_files(&self) -> Vec<&'static str> {
        self.new.iter().map(|(name, _)| *name).collect()
    }
}

/// Looks whether `files` can be put into `directory`; everything that speaks against it at once.
pub(super) async fn plan(files: &CaFiles, directory: &Path) -> Result<Plan, Vec<String>> {
    let mut plan = Plan { directory: directory.to_owned(), new: Vec::new(), kept: Vec::new(), open_key: None };
    if directory.exists() && !directory.is_dir() {
        return Err(vec![format!("{} is not a directory; choose another place with --to", directory.display())]);
    }
    let mut problems = Vec::new();
    for CaFile { name, limit } in CaFiles::known() {
        let path = directory.join(name);
        let wanted = files.each().find(|(known, _)| *known == name).map(|(_, content)| content.expose());
        let other = |problem: &str| {
            format!(
                "{} {problem}, and is never replaced: choose another directory with --to, or move that set away",
                path.display()
            )
        };
        match (wanted, files::read_in_time(&path, limit).await.map(Zeroizing::new)) {
            (None, Err(FileError::Read { source, .. })) if source.kind() == std::io::ErrorKind::NotFound => {}
            (Some(wanted), Err(FileError::Read { source, .. })) if source.kind() == std::io::ErrorKind::NotFound => {
                plan.new.push((name, Zeroizing::new(wanted.to_vec())));
            }
            (Some(wanted), Ok(found)) if *found == wanted => {
                let is_open = || std::fs::metadata(&path).is_ok_and(|file| file.permissions().mode() & 0o077 != 0);
                if name == LAST && is_open() {
                    plan.open_key = Some(path.clone());
                }
                plan.kept.push(name);
            }
            (Some(_), Ok(_)) => problems.push(other("is there with another content")),
            (None, Ok(_)) => problems.push(other("is there, does not belong to this CA")),
            (_, Err(error)) => problems.push(error_chain(&error)),
        }
    }
    plan.new.sort_by_key(|(name, _)| *name == LAST);
    if problems.is_empty() { Ok(plan) } else { Err(problems) }
}

/// Does it. What was written before something has failed stays, and is no set without its key: the same once more goes on.
pub(super) async fn write(plan: Plan) -> Result<(), String> {
    let directory = plan.directory.clone();
    files::in_time(&directory, move |_| put(&plan)).await.map_err(|error: FileError| error_chain(&error))
}

fn put(plan: &Plan) -> Result<(), FileError> {
    let failed = |path: &Path, source| FileError::Write { path: path.to_owned(), source };
    let directory = &plan.directory;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.map_err(|error| failed(directory, error))?;
    let owner = std::fs::metadata(directory).map_err(|error| failed(directory, error))?;
    for (name, content) in &plan.new {
        let path = directory.join(name);
        let draft = Draft::begin(&path)?;
        std::fs::write(draft.temporary(), content).map_err(|error| failed(&path, error))?;
        // Who prepares the directory for the CA's user as root means its files, too.
        if rustix::process::geteuid().is_root() && owner.uid() != 0 {
            let given = chown(draft.temporary(), Some(owner.uid()), Some(owner.gid()));
            given.map_err(|error| failed(&path, error))?;
        }
        draft.publish()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn set(key: &str) -> CaFiles {
        let mut files = CaFiles::default();
        for (name, content) in
            [("ca-cert.pem", "cert"), ("ca-key.pem", key), ("root-cert.pem", "root"), ("cert-chain.pem", "")]
        {
            files.put(name, content.into());
        }
        files
    }

    #[tokio::test]
    async fn files_are_for_their_owner_written_once_and_the_key_last() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("new/ca");
        let first = plan(&set("key"), &directory).await.unwrap();
        assert_eq!(first.new_files().last(), Some(&"ca-key.pem"));
        write(first).await.unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&directory), mode(&directory.join("ca-key.pem"))), (0o700, 0o600));
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 4, "and nothing else");
        let again = plan(&set("key"), &directory).await.unwrap();
        assert_eq!((again.new_files().len(), again.kept.len(), &again.open_key), (0, 4, &None));
        // What a writing that was cut off has left is completed.
        std::fs::remove_file(directory.join("ca-key.pem")).unwrap();
        let rest = plan(&set("key"), &directory).await.unwrap();
        assert_eq!(rest.new_files(), ["ca-key.pem"]);
        write(rest).await.unwrap();
        std::fs::set_permissions(directory.join("ca-key.pem"), PermissionsExt::from_mode(0o644)).unwrap();
        assert!(plan(&set("key"), &directory).await.unwrap().open_key.is_some());
    }

    #[tokio::test]
    async fn nothing_of_others_is_ever_replaced_and_all_that_is_in_the_way_is_named() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("ca-key.pem"), "theirs").unwrap();
        std::fs::write(directory.path().join("tls.crt"), "theirs").unwrap();
        std::fs::write(directory.path().join("unrelated"), "x").unwrap();
        let told = plan(&set("key"), directory.path()).await.unwrap_err();
        assert!(told.len() == 2 && told.iter().all(|text| text.contains("never replaced")), "{told:#?}");
        assert!(!format!("{told:?}").contains("theirs"));
        let file = directory.path().join("unrelated");
        assert!(plan(&set("key"), &file).await.unwrap_err().iter().all(|text| text.contains("not a directory")));
        // What comes into the way after it was looked is not replaced either.
        let late = tempfile::tempdir().unwrap();
        let planned = plan(&set("key"), late.path()).await.unwrap();
        std::fs::write(late.path().join("ca-cert.pem"), "theirs").unwrap();
        assert!(write(planned).await.unwrap_err().contains("exists already"));
        assert_eq!(std::fs::read(late.path().join("ca-cert.pem")).unwrap(), b"theirs");
        assert!(!late.path().join("ca-key.pem").exists());
    }
}
