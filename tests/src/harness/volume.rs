//! A volume as kubelet keeps it: files that are links through one link, which is replaced when they change, so that all of them
//! change at once.

use std::os::unix::fs::{PermissionsExt as _, lchown, symlink};
use std::path::{Path, PathBuf};

use crate::failure::{Failure, Outcome};

/// A file of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub content: Vec<u8>,
    /// Who may do what.
    pub mode: u32,
}

impl File {
    /// One that everybody may read.
    #[must_use]
    pub fn new(name: &str, content: impl Into<Vec<u8>>) -> Self {
        Self { name: name.to_owned(), content: content.into(), mode: 0o644 }
    }
}

/// The volume.
#[derive(Debug)]
pub struct Volume {
    path: PathBuf,
    versions: usize,
    group: Option<u32>,
    now: Vec<File>,
}

impl Volume {
    /// One in this directory, which is there and empty.
    #[must_use]
    pub fn at(path: PathBuf) -> Self {
        Self { path, versions: 0, group: None, now: Vec::new() }
    }

    /// Its files are of this group.
    #[must_use]
    pub fn of_group(self, group: Option<u32>) -> Self {
        Self { group, ..self }
    }

    /// Puts these files in the place of those before, all at once, if they are others.
    ///
    /// # Errors
    /// [`Failure::Io`].
    pub fn write(&mut self, files: &[File]) -> Outcome {
        if self.versions > 0 && self.now == files {
            return Ok(());
        }
        let io = || Failure::io("write a volume");
        // Somebody else may have written there.
        let before = std::fs::read_link(self.path.join("..data")).ok();
        self.versions += 1;
        while self.path.join(format!("..version-{}", self.versions)).exists() {
            self.versions += 1;
        }
        let version = self.path.join(format!("..version-{}", self.versions));
        std::fs::create_dir(&version).map_err(io())?;
        for File { name, content, mode } in files {
            let file = version.join(name);
            std::fs::write(&file, content).map_err(io())?;
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(*mode)).map_err(io())?;
            if self.group.is_some() {
                lchown(&file, None, self.group).map_err(io())?;
            }
            let link = self.path.join(name);
            if link.symlink_metadata().is_err() {
                symlink(Path::new("..data").join(name), link).map_err(io())?;
            }
        }
        symlink(format!("..version-{}", self.versions), self.path.join("..data_tmp")).map_err(io())?;
        std::fs::rename(self.path.join("..data_tmp"), self.path.join("..data")).map_err(io())?;
        if let Some(before) = before {
            std::fs::remove_dir_all(self.path.join(before)).map_err(io())?;
        }
        self.now = files.to_vec();
        Ok(())
    }
}
