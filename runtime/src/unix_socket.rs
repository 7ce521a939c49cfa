//! Why a Unix socket cannot be opened, in words that say who may and what to do.

use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use rustix::process::geteuid;

/// Why `path` cannot be connected to, which `server` serves.
#[must_use]
pub fn explain(path: &Path, error: &io::Error, server: &str) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => denied(path, geteuid().as_raw()),
        io::ErrorKind::NotFound => format!("there is no socket; is {server} running with this configuration?"),
        io::ErrorKind::ConnectionRefused => {
            format!("nobody serves the socket any more; is {server} running with this configuration?")
        }
        _ => format!("{error}; is {server} running with this configuration?"),
    }
}

/// Who may open a socket that user `uid` may not: the socket itself says so, or the directory above it that is closed.
fn denied(path: &Path, uid: u32) -> String {
    let visible = path.ancestors().find_map(|at| std::fs::metadata(at).ok().map(|found| (at, found)));
    let Some((at, found)) = visible else { return format!("uid {uid} may not open it") };
    let (owner, group, mode) = (found.uid(), found.gid(), found.permissions().mode() & 0o777);
    // Connecting is writing to a socket, and passing through a directory.
    let (what, of_group, of_all) = match at == path {
        true => ("it", mode & 0o020, mode & 0o002),
        false => ("a directory above it", mode & 0o010, mode & 0o001),
    };
    let owner = if owner == 0 { String::new() } else { format!(", and uid {owner}") };
    let group = if of_group == 0 { String::new() } else { format!(", the group gid {group}") };
    let all = if of_all == 0 { "" } else { ", by its mode everybody, so that something else forbids it" };
    format!(
        "uid {uid} may not open {what} ({}, mode {mode:04o}): root may{owner}{group}{all}; run this as one of them",
        at.display()
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::os::unix::net::{UnixListener, UnixStream};

    fn own() -> u32 {
        geteuid().as_raw()
    }

    #[test]
    fn whoever_may_not_open_a_socket_is_told_who_may() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s.sock");
        let _listener = UnixListener::bind(&path).unwrap();
        for (mode, words) in [(0o600, "mode 0600"), (0o660, "the group gid")] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let text = explain(&path, &io::Error::from(io::ErrorKind::PermissionDenied), "`x`");
            let owner = if own() == 0 { "root may".to_owned() } else { format!("root may, and uid {}", own()) };
            assert!(text.contains(words) && text.contains(&owner), "{text}");
            assert!(text.contains(&path.display().to_string()), "{text}");
        }
        // What lies in a directory that is closed cannot be looked at either.
        let text = denied(&directory.path().join("no/s.sock"), 7);
        let closed = format!("uid 7 may not open a directory above it ({}", directory.path().display());
        assert!(text.starts_with(&closed), "{text}");
    }

    #[test]
    fn a_socket_that_nobody_serves_is_told_from_one_that_is_not_there() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s.sock");
        let error = UnixStream::connect(&path).unwrap_err();
        assert!(explain(&path, &error, "`x serve`").starts_with("there is no socket; is `x serve` running"));
        drop(UnixListener::bind(&path).unwrap());
        let error = UnixStream::connect(&path).unwrap_err();
        assert!(explain(&path, &error, "`x serve`").starts_with("nobody serves the socket any more"));
    }
}
