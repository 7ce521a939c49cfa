//! Whether a file can be made somewhere, found out without making it.

use std::path::Path;

use rustix::fs::{Access, access};
use rustix::process::geteuid;

/// Which directories have to be there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Directories {
    /// That of the file.
    Exist,
    /// Any: the rest is made.
    AreMade,
}

/// Why no file can be made at `path`, by this user and now; `None` when nothing speaks against it.
#[must_use]
pub fn no_place(path: &Path, directories: Directories) -> Option<String> {
    if path.is_dir() {
        return Some(format!("{} is a directory", path.display()));
    }
    let mut above = path.ancestors().skip(1);
    let directory = match directories {
        Directories::Exist => above.next(),
        Directories::AreMade => above.find(|directory| directory.exists()),
    };
    let directory = directory.unwrap_or(Path::new("/"));
    let shown = directory.display();
    match std::fs::metadata(directory) {
        Ok(found) if found.is_dir() => {}
        Ok(_) => return Some(format!("{shown} is not a directory")),
        Err(error) => return Some(format!("the directory {shown}: {error}; create it")),
    }
    let denied = access(directory, Access::WRITE_OK | Access::EXEC_OK).err()?;
    Some(format!("uid {} may make nothing in {shown}: {denied}", geteuid().as_raw()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_place_needs_a_directory_that_is_there_or_can_be_made() {
        let directory = tempfile::tempdir().unwrap();
        let at = |path: &str| directory.path().join(path);
        std::fs::write(at("file"), "x").unwrap();
        std::fs::create_dir(at("dir")).unwrap();
        for (path, directories, expected) in [
            ("new", Directories::Exist, None),
            ("file", Directories::Exist, None),
            ("dir", Directories::Exist, Some("is a directory")),
            ("no/new", Directories::Exist, Some("create it")),
            ("no/where/new", Directories::AreMade, None),
            ("file/new", Directories::AreMade, Some("is not a directory")),
        ] {
            let told = no_place(&at(path), directories);
            let fits = expected.is_none_or(|words| told.as_ref().is_some_and(|told| told.contains(words)));
            assert!(fits && told.is_some() == expected.is_some(), "{path} {directories:?}: {told:?}");
        }
    }
}
