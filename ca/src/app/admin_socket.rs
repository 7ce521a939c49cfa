//! The operators' Unix socket.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

use super::serve::ServeError;

/// Listens on the admin socket with mode 0600. A socket left over by a crash is replaced, one in use is not.
pub(super) fn bind_admin(path: &Path) -> Result<(UnixListener, SocketFile), ServeError> {
    let failed = |cause: String| ServeError::Admin { path: path.to_owned(), cause };
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(|error| failed(error.to_string()))?;
    }
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(failed("something that is not a socket is there; remove it".to_owned()));
        }
        Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
            return Err(failed("another process answers there; stop it or choose another path".to_owned()));
        }
        Ok(_) => std::fs::remove_file(path).map_err(|error| failed(error.to_string()))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error.to_string())),
    }
    let listener = UnixListener::bind(path).map_err(|error| failed(error.to_string()))?;
    let private = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(path, private).map_err(|error| failed(error.to_string()))?;
    let made = std::fs::symlink_metadata(path).map_err(|error| failed(error.to_string()))?;
    Ok((listener, SocketFile { path: path.to_owned(), identity: (made.dev(), made.ino()) }))
}

/// Removes the socket at the end, unless a successor has put its own in the place.
pub(super) struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let still_ours =
            std::fs::symlink_metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == self.identity);
        if still_ours {
            drop(std::fs::remove_file(&self.path));
        }
    }
}
