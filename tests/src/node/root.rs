//! The root of a container: what an image holds, in a directory that a process takes for all there is. No file system is mounted for
//! that, which not every machine allows.

use std::net::Ipv4Addr;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use crate::failure::{Failure, Outcome};
use crate::tools;

/// Whose the process is: what the pod says, or else the user of our images.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owner {
    pub(super) user: u32,
    pub(super) group: u32,
    /// The group of the volumes.
    pub(super) volumes: Option<u32>,
}

/// `USER` of deploy/docker.
const OF_IMAGE: u32 = 65532;

impl Owner {
    pub(super) fn of(pod: &Value, container: &Value) -> Self {
        let id = |name: &str| {
            let places = [container.pointer("/securityContext"), pod.pointer("/spec/securityContext")];
            let found = places.into_iter().flatten().find_map(|place| place.get(name)?.as_u64());
            found.and_then(|id| u32::try_from(id).ok())
        };
        let user = id("runAsUser");
        // A group comes with the user, of the image or of the pod.
        let group = id("runAsGroup").unwrap_or(if user.is_some() { 0 } else { OF_IMAGE });
        Self { user: user.unwrap_or(OF_IMAGE), group, volumes: id("fsGroup").filter(|_| is_root()) }
    }
}

/// Whether files can be given to others, and processes be theirs.
pub(super) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Makes the root of an image for a program of ours, once for each.
pub(super) fn image(directory: &Path, program: &str) -> Outcome<PathBuf> {
    let image = directory.join("images").join(program);
    if !image.exists() {
        let make = tools::source_root().join("deploy/docker/rootfs");
        tools::run(Command::new(make).arg(tools::own(program)?).arg(&image))?;
    }
    Ok(image)
}

/// A root of its own with the content of an image.
pub(super) fn made(directory: &Path, image: &Path) -> Outcome<PathBuf> {
    static LAST: AtomicU32 = AtomicU32::new(0);
    let root = directory.join(format!("p{}", LAST.fetch_add(1, Ordering::Relaxed)));
    tools::run(Command::new("cp").arg("--archive").arg("--link").arg(image).arg(&root))?;
    Ok(root)
}

/// Where a path of a container is.
pub(super) fn within(root: &Path, inside: &str) -> PathBuf {
    root.join(inside.trim_start_matches('/'))
}

/// A directory at which something is mounted, for whom the volume is.
pub(super) fn mount_point(root: &Path, inside: &str, group: Option<u32>, writable: bool) -> Outcome<PathBuf> {
    let path = within(root, inside);
    let io = || Failure::io(format!("make {}", path.display()));
    std::fs::create_dir_all(&path).map_err(io())?;
    if writable {
        // As kubelet has it for an emptyDir, and for a volume with a group.
        let mode = match group {
            Some(_) => 0o2775,
            None if is_root() => 0o777,
            // It is our own, and so is the process.
            None => 0o755,
        };
        if is_root() {
            chown(&path, Some(0), Some(group.unwrap_or(0))).map_err(io())?;
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).map_err(io())?;
    }
    Ok(path)
}

/// A directory of the node, as kubelet makes one that is not there: root's, whatever the image has at that place.
pub(super) fn make_hosts_own(path: &Path) -> Outcome {
    let io = || Failure::io(format!("make {}", path.display()));
    if is_root() {
        chown(path, Some(0), Some(0)).map_err(io())?;
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).map_err(io())
}

/// Names and addresses that the container knows; there is no DNS here.
pub(super) fn write_hosts(root: &Path, hosts: &[(String, Ipv4Addr)]) -> Outcome {
    let lines: String = hosts.iter().map(|(name, address)| format!("{address} {name}\n")).collect();
    let write = |name: &str, text: &str| {
        std::fs::write(root.join("etc").join(name), text).map_err(Failure::io(format!("write {name}")))
    };
    write("hosts", &lines)?;
    write("nsswitch.conf", "hosts: files\n")
}

/// A program in that root: root may do that, and anybody else in a user namespace of their own.
pub(super) fn command(root: &Path, owner: Owner, program: &str, arguments: &[String]) -> Command {
    let mut command = Command::new("unshare");
    command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    command.arg("--root").arg(root);
    if is_root() {
        command.args(["--setgid", &owner.group.to_string(), "--setuid", &owner.user.to_string()]);
    } else {
        command.args(["--user", "--map-root-user"]);
    }
    command.arg(format!("/usr/bin/{program}")).args(arguments);
    command
}
