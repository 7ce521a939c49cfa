//! Finds the programs of a server, or says how to install them.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::ServerError;

/// The oldest PostgreSQL that Signet's store takes.
const OLDEST: u32 = 15;

/// Where Debian keeps a directory for each version, and what else is searched.
pub(crate) struct Places {
    pub(crate) versions: PathBuf,
    pub(crate) path: Vec<PathBuf>,
    pub(crate) os_release: PathBuf,
}

impl Places {
    pub(crate) fn of_this_machine() -> Self {
        let path = std::env::var_os("PATH").unwrap_or_default();
        Self {
            versions: PathBuf::from("/usr/lib/postgresql"),
            path: std::env::split_paths(&path).collect(),
            os_release: PathBuf::from("/etc/os-release"),
        }
    }
}

/// The directory with `postgres`, `initdb`, `createdb` and `psql` of the newest PostgreSQL here.
pub(crate) fn postgres(places: &Places) -> Result<PathBuf, ServerError> {
    let packaged = std::fs::read_dir(&places.versions).into_iter().flatten().flatten().filter_map(|version| {
        let number: u32 = version.file_name().to_str()?.parse().ok()?;
        Some((number, version.path().join("bin")))
    });
    let elsewhere = places.path.iter().filter_map(|directory| {
        // Links among the programs of a system lead to where the rest of that version is.
        let program = directory.join("postgres").canonicalize().ok()?;
        Some((version(&program)?, program.parent()?.to_path_buf()))
    });
    let mut found: Vec<(u32, PathBuf)> = packaged.chain(elsewhere).filter(|(_, programs)| complete(programs)).collect();
    found.sort_by_key(|(number, _)| *number);
    match found.pop() {
        Some((number, programs)) if number >= OLDEST => Ok(programs),
        other => {
            let instead = other.map(|(number, programs)| format!(" (found {number} in {})", programs.display()));
            let what = format!(
                "PostgreSQL {OLDEST} or newer is missing: looked in {} and in PATH{}",
                places.versions.display(),
                instead.unwrap_or_default()
            );
            Err(ServerError::Missing { what, install: format!("apt-get install {}", package(&places.os_release)) })
        }
    }
}

fn complete(programs: &Path) -> bool {
    ["postgres", "initdb", "createdb", "psql"].iter().all(|name| programs.join(name).is_file())
}

/// The first number of `postgres (PostgreSQL) 15.18 (Debian …)`.
fn version(program: &Path) -> Option<u32> {
    let output = Command::new(program).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let number = text.split_whitespace().nth(2)?;
    number.split(|character: char| !character.is_ascii_digit()).next()?.parse().ok()
}

/// Debian 12 has 15 under this name; elsewhere the package without a number is the newest there is.
fn package(os_release: &Path) -> &'static str {
    let text = std::fs::read_to_string(os_release).unwrap_or_default();
    if text.lines().any(|line| line == "VERSION_CODENAME=bookworm") { "postgresql-15" } else { "postgresql" }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    /// A directory in which these versions are installed, each with these programs.
    fn machine(versions: &[u32], programs: &[&str], codename: &str) -> (tempfile::TempDir, Places) {
        let directory = tempfile::tempdir().unwrap();
        let places = Places {
            versions: directory.path().join("postgresql"),
            path: vec![directory.path().join("bin")],
            os_release: directory.path().join("os-release"),
        };
        std::fs::create_dir_all(&places.versions).unwrap();
        for version in versions {
            install(&places.versions.join(version.to_string()).join("bin"), *version, programs);
        }
        std::fs::write(&places.os_release, format!("ID=debian\nVERSION_CODENAME={codename}\n")).unwrap();
        (directory, places)
    }

    fn install(programs: &Path, version: u32, names: &[&str]) {
        std::fs::create_dir_all(programs).unwrap();
        for name in names {
            let file = programs.join(name);
            std::fs::write(&file, format!("#!/bin/sh\necho '{name} (PostgreSQL) {version}.4 (Debian)'\n")).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
    }

    const ALL: [&str; 4] = ["postgres", "initdb", "createdb", "psql"];

    #[test]
    fn the_newest_complete_version_is_taken() {
        for (versions, programs, expected) in
            [(&[15, 9, 17, 16][..], &ALL[..], Some(17)), (&[14, 15], &ALL, Some(15)), (&[15], &ALL[..3], None)]
        {
            let (_kept, places) = machine(versions, programs, "bookworm");
            let found = postgres(&places).ok();
            let expected = expected.map(|version| places.versions.join(version.to_string()).join("bin"));
            assert_eq!(found, expected, "{versions:?}");
        }
    }

    #[test]
    fn a_version_in_path_counts_by_what_it_says() {
        let (kept, places) = machine(&[], &ALL, "bookworm");
        install(places.path.first().unwrap(), 16, &ALL);
        assert_eq!(postgres(&places).unwrap(), kept.path().canonicalize().unwrap().join("bin"));
    }

    #[test]
    fn what_is_missing_ends_with_the_line_that_installs_it() {
        for (versions, codename, found, line) in [
            (&[][..], "bookworm", "in PATH; install", "\napt-get install postgresql-15"),
            (&[13, 14], "bookworm", "(found 14 in ", "\napt-get install postgresql-15"),
            (&[], "trixie", "in PATH; install", "\napt-get install postgresql"),
        ] {
            let (_kept, places) = machine(versions, &ALL, codename);
            let text = postgres(&places).unwrap_err().to_string();
            assert!(text.contains(found) && text.ends_with(line), "{text}");
        }
    }
}
