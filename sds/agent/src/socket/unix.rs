//! The Unix socket: made with the right owner and mode before anybody can reach it, never stolen from a live server,
//! removed at the end.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use signet_runtime::files::{self, Directories, FileError, no_place};
use tokio::net::{UnixListener, UnixStream};

/// How long another server may take to accept before it counts as live.
const PROBE: Duration = Duration::from_secs(1);

/// The largest user database that is read, in bytes.
const MAX_DATABASE_BYTES: u64 = 1 << 20;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum SocketError {
    /// Something else lies at the path.
    #[error("{} exists and is not a socket; remove it or choose another path (sds.socket)", .0.display())]
    NotASocket(PathBuf),
    /// Somebody serves it.
    #[error("another process serves {}; stop it or choose another path (sds.socket)", .0.display())]
    InUse(PathBuf),
    /// The system refused.
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
    /// Its directory is not there and cannot be made, or is closed.
    #[error("no socket can be made at {}: {cause} (sds.socket)", path.display())]
    NoPlace {
        /// Where it is to be.
        path: PathBuf,
        /// What is in the way.
        cause: String,
    },
    /// The user database cannot be read.
    #[error("cannot look up the owner of the socket")]
    Database(#[source] FileError),
    /// No such user or group.
    #[error("there is no {kind} called {name:?}; use another name or its number (sds.{kind})")]
    Unknown {
        /// `user` or `group`.
        kind: &'static str,
        /// What was given.
        name: String,
    },
}

/// Who may connect.
#[derive(Debug, Clone, Default)]
pub(crate) struct Access {
    /// Permission bits.
    pub mode: u32,
    /// Owner, a name or number; `None` leaves it.
    pub user: Option<String>,
    /// Group, a name or number; `None` leaves it.
    pub group: Option<String>,
}

/// A socket that listens; its file goes away with it, unless it is somebody else's by then.
#[derive(Debug)]
pub(crate) struct Socket {
    listener: UnixListener,
    file: SocketFile,
}

#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == self.identity) {
            // Nothing is left to do about a failure at the end, and the next start clears a stale socket away.
            let _removed = fs::remove_file(&self.path).is_ok();
        }
    }
}

impl Socket {
    /// Accepts the next connection.
    ///
    /// # Errors
    /// What the system says, mostly that there are too many open files.
    pub(crate) async fn accept(&self) -> io::Result<UnixStream> {
        self.listener.accept().await.map(|(stream, _)| stream)
    }

    /// Where it is.
    #[must_use]
    pub(crate) fn path(&self) -> &Path {
        &self.file.path
    }
}

/// Listens at `path`. Its directory is made when missing; a socket that nobody serves any more is replaced.
///
/// # Errors
/// [`SocketError`].
pub(crate) async fn bind(path: &Path, access: &Access) -> Result<Socket, SocketError> {
    let system = |doing, at: &Path| {
        let at = at.to_owned();
        move |source| SocketError::System { doing, path: at, source }
    };
    let user = look_up("user", access.user.as_deref()).await?;
    let group = look_up("group", access.group.as_deref()).await?;
    let directory = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(directory).map_err(system("make the directory", directory))?;
    check_free(path).await?;
    // Made under another name and moved into place: nobody can connect before owner and mode are right, and a stale
    // socket is replaced without a moment in which there is none.
    let making = directory.join(format!(".s{}", std::process::id()));
    match fs::remove_file(&making) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(system("remove", &making)(error)),
        _ => {}
    }
    let listener = UnixListener::bind(&making).map_err(system("make the socket", &making))?;
    let placed = place(&making, path, access.mode, (user, group));
    if placed.is_err() {
        let _removed = fs::remove_file(&making).is_ok();
    }
    Ok(Socket { listener, file: placed? })
}

/// Finds out whether [`bind`] could do its work, as far as that can be told without doing it. A socket that is there is left
/// alone: an agent may serve it.
///
/// # Errors
/// [`SocketError`].
pub(crate) async fn check(path: &Path, access: &Access) -> Result<(), SocketError> {
    look_up("user", access.user.as_deref()).await?;
    look_up("group", access.group.as_deref()).await?;
    if fs::symlink_metadata(path).is_ok_and(|found| !found.file_type().is_socket()) {
        return Err(SocketError::NotASocket(path.to_owned()));
    }
    match no_place(path, Directories::AreMade) {
        Some(cause) => Err(SocketError::NoPlace { path: path.to_owned(), cause }),
        None => Ok(()),
    }
}

fn place(
    making: &Path,
    path: &Path,
    mode: u32,
    (user, group): (Option<u32>, Option<u32>),
) -> Result<SocketFile, SocketError> {
    let system = |doing| move |source| SocketError::System { doing, path: path.to_owned(), source };
    if user.is_some() || group.is_some() {
        chown(making, user, group).map_err(system("set the owner of"))?;
    }
    fs::set_permissions(making, fs::Permissions::from_mode(mode)).map_err(system("set the mode of"))?;
    let found = fs::symlink_metadata(making).map_err(system("look at"))?;
    fs::rename(making, path).map_err(system("put the socket at"))?;
    Ok(SocketFile { path: path.to_owned(), identity: (found.dev(), found.ino()) })
}

async fn check_free(path: &Path) -> Result<(), SocketError> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(SocketError::System { doing: "look at", path: path.to_owned(), source }),
        Ok(found) if !found.file_type().is_socket() => return Err(SocketError::NotASocket(path.to_owned())),
        Ok(_) => {}
    }
    match tokio::time::timeout(PROBE, UnixStream::connect(path)).await {
        // Nobody listens: what an agent leaves behind that was killed.
        Ok(Err(error)) if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) => Ok(()),
        // Somebody answers, or is too busy to.
        Ok(Ok(_)) | Err(_) => Err(SocketError::InUse(path.to_owned())),
        Ok(Err(source)) => Err(SocketError::System { doing: "find out who serves", path: path.to_owned(), source }),
    }
}

/// The number of a user or group: itself, or from `/etc/passwd` or `/etc/group`. Other sources of names, such as LDAP,
/// are not asked; numbers work for those.
async fn look_up(kind: &'static str, name: Option<&str>) -> Result<Option<u32>, SocketError> {
    let Some(name) = name else { return Ok(None) };
    if let Ok(id) = name.parse() {
        return Ok(Some(id));
    }
    let database = if kind == "user" { "/etc/passwd" } else { "/etc/group" };
    let text = files::read_in_time(Path::new(database), MAX_DATABASE_BYTES).await.map_err(SocketError::Database)?;
    let id = find(&String::from_utf8_lossy(&text), name);
    id.map(Some).ok_or_else(|| SocketError::Unknown { kind, name: name.to_owned() })
}

/// Both databases have the name first and the number third.
fn find(database: &str, name: &str) -> Option<u32> {
    let entry = |line: &str| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
    };
    database.lines().find_map(entry)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::os::unix::net::UnixListener as StdListener;

    fn access(mode: u32) -> Access {
        Access { mode, ..Access::default() }
    }

    #[tokio::test]
    async fn a_check_says_what_would_be_in_the_way_and_makes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let at = |path: &str| directory.path().join(path);
        fs::write(at("file"), "x").unwrap();
        let named = |user: &str| Access { user: Some(user.to_owned()), ..access(0o600) };
        for (path, access, expected) in [
            ("a/b/agent.sock", access(0o600), None),
            ("file", access(0o600), Some("is not a socket")),
            ("file/agent.sock", access(0o600), Some("is not a directory")),
            ("agent.sock", named("nobody-of-this-name"), Some("sds.user")),
            ("agent.sock", named("0"), None),
        ] {
            let told = check(&at(path), &access).await.map_err(|error| error.to_string());
            let fits = expected.is_none_or(|words| told.as_ref().is_err_and(|text| text.contains(words)));
            assert!(fits && told.is_err() == expected.is_some(), "{path}: {told:?}");
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn a_socket_has_its_directory_made_its_mode_set_and_its_file_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/b/agent.sock");
        for mode in [0o660, 0o600, 0o666] {
            let socket = bind(&path, &access(mode)).await.unwrap();
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode);
            let (connected, accepted) = tokio::join!(UnixStream::connect(&path), socket.accept());
            assert!(connected.is_ok() && accepted.is_ok());
            assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing else is left");
            drop(socket);
            assert!(!path.exists());
        }
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        drop(StdListener::bind(&path).unwrap());
        assert!(path.exists(), "as after a crash");
        let first = bind(&path, &access(0o600)).await.unwrap();
        let second = bind(&path, &access(0o600)).await.unwrap_err();
        assert!(matches!(second, SocketError::InUse(_)), "{second}");
        assert!(UnixStream::connect(first.path()).await.is_ok());
    }

    #[tokio::test]
    async fn what_is_no_socket_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        fs::write(&path, "precious").unwrap();
        let link = directory.path().join("l");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        for path in [&path, &link, &directory.path().to_owned()] {
            assert!(matches!(bind(path, &access(0o600)).await, Err(SocketError::NotASocket(_))));
        }
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }

    #[tokio::test]
    async fn the_socket_of_a_successor_is_not_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let first = bind(&path, &access(0o600)).await.unwrap();
        fs::remove_file(&path).unwrap();
        let second = bind(&path, &access(0o600)).await.unwrap();
        drop(first);
        assert!(path.exists());
        drop(second);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn unknown_owners_are_refused_by_name_and_leave_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let nobody = Access { mode: 0o600, user: Some("no-such-user".into()), group: None };
        let error = bind(&path, &nobody).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "there is no user called \"no-such-user\"; use another name or its number (sds.user)"
        );
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        let own = fs::metadata(directory.path()).unwrap();
        let me = Access { mode: 0o600, user: Some(own.uid().to_string()), group: Some(own.gid().to_string()) };
        assert!(bind(&path, &me).await.is_ok());
    }

    #[test]
    fn names_are_found_in_the_user_database() {
        let database = "root:x:0:0:root:/root:/bin/sh\nenvoy:x:101:102::/:/bin/false\nbroken\nodd:x:\n";
        assert_eq!(find(database, "envoy"), Some(101));
        for unknown in ["env", "x", "", "broken", "odd"] {
            assert_eq!(find(database, unknown), None, "{unknown}");
        }
    }
}
