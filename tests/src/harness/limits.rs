//! Commands with less power or less room than the tests themselves.

use std::path::Path;
use std::process::Command;

use crate::failure::Outcome;
use crate::tools;

/// A command that file permissions bind even when the tests run as root: root without capabilities.
///
/// # Errors
/// [`Failure`](crate::failure::Failure) when `setpriv` is missing.
pub fn bound_by_permissions(command: &Command) -> Outcome<Command> {
    if !rustix::process::geteuid().is_root() {
        return Ok(wrapped(Command::new("env"), command));
    }
    let mut setpriv = Command::new(tools::system("setpriv", "--version", "util-linux")?);
    setpriv.args(["--bounding-set=-all", "--inh-caps=-all"]);
    Ok(wrapped(setpriv, command))
}

/// A command that can write no file beyond so many KiB; writing more fails instead of killing the process. The limit
/// can be lifted by [`lift_file_size`].
#[must_use]
pub fn with_file_size(command: &Command, kib: u32) -> Command {
    let mut shell = Command::new("sh");
    // The shell counts in blocks of 512 bytes. A signal ignored here stays ignored in the program.
    shell.args(["-c", &format!("trap '' XFSZ; ulimit -S -f {}; exec \"$0\" \"$@\"", kib * 2)]);
    wrapped(shell, command)
}

/// A command that may open so many files, and raise that to so many.
#[must_use]
pub fn with_open_files(command: &Command, soft: u32, hard: u32) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("ulimit -S -n {soft}; ulimit -H -n {hard}; exec \"$0\" \"$@\"")]);
    wrapped(shell, command)
}

/// Lifts the limit of a running process.
///
/// # Errors
/// [`Failure`](crate::failure::Failure) when `prlimit` is missing or refuses.
pub fn lift_file_size(process: u32) -> Outcome {
    let prlimit = tools::system("prlimit", "--version", "util-linux")?;
    tools::run(Command::new(prlimit).args(["--pid", &process.to_string(), "--fsize=unlimited"])).map(drop)
}

/// Whether a file system of its own can be mounted for a test.
#[must_use]
pub fn may_mount() -> bool {
    rustix::process::geteuid().is_root()
}

/// A small file system in memory; unmounted when dropped.
pub struct SmallDisk<'d>(&'d Path);

impl<'d> SmallDisk<'d> {
    /// Mounts one of so many KiB on an existing directory.
    ///
    /// # Errors
    /// [`Failure`](crate::failure::Failure) when the system refuses.
    pub fn mount(directory: &'d Path, kib: u32) -> Outcome<Self> {
        let size = format!("size={kib}k,mode=0700");
        tools::run(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(directory))?;
        Ok(Self(directory))
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        if let Err(failure) = tools::run(Command::new("umount").arg("--lazy").arg(self.0)) {
            tools::complain(&failure.to_string());
        }
    }
}

fn wrapped(mut wrapper: Command, command: &Command) -> Command {
    wrapper.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            wrapper.env(name, value);
        }
    }
    wrapper
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_bound_command_cannot_write_into_a_read_only_directory() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o555)).unwrap();
        let mut touch = Command::new("touch");
        touch.arg(directory.path().join("file"));
        assert!(!bound_by_permissions(&touch).unwrap().output().unwrap().status.success());
    }

    #[test]
    fn a_limited_command_cannot_write_a_large_file() {
        let directory = tempfile::tempdir().unwrap();
        let mut dd = Command::new("dd");
        dd.args(["if=/dev/zero", "bs=1024", "count=100"]).arg(format!("of={}", directory.path().join("f").display()));
        assert!(!with_file_size(&dd, 10).output().unwrap().status.success());
        assert!(with_file_size(&dd, 200).output().unwrap().status.success());
    }
}
