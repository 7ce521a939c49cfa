//! Waiting for what the kernel tells: the end of a process that is not our child, and changes in a directory.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::{Errno, read};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// What came first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum First {
    /// What was waited for.
    Held,
    /// The end of the process.
    Ended,
    /// The end of the time.
    Late,
}

/// Waits until a process has ended, be it still there for its parent to look at; `false` when it has not within that time.
///
/// # Errors
/// [`std::io::Error`] when the system does not tell.
pub fn ended(process: u32, within: Duration) -> std::io::Result<bool> {
    let Some(process) = open(process)? else { return Ok(true) };
    let mut sources = [PollFd::new(&process, PollFlags::IN)];
    Ok(poll(&mut sources, Some(&left(Instant::now(), within)))? > 0)
}

/// Waits until something holds that files in a directory tell, for as long as a process lives.
///
/// # Errors
/// [`std::io::Error`] when the system does not tell.
pub(crate) fn until(
    directory: &Path,
    process: u32,
    within: Duration,
    holds: impl Fn() -> bool,
) -> std::io::Result<First> {
    let begun = Instant::now();
    let changes = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    inotify::add_watch(&changes, directory, WatchFlags::CREATE | WatchFlags::MODIFY | WatchFlags::MOVED_TO)?;
    let Some(process) = open(process)? else { return Ok(First::Ended) };
    // What holds before the first change was there before the watch.
    while !holds() {
        let mut sources = [PollFd::new(&process, PollFlags::IN), PollFd::new(&changes, PollFlags::IN)];
        if poll(&mut sources, Some(&left(begun, within)))? == 0 {
            return Ok(First::Late);
        }
        let [of_process, _] = &sources;
        if !of_process.revents().is_empty() {
            return Ok(if holds() { First::Held } else { First::Ended });
        }
        // Which change it was does not matter.
        let mut taken = [0; 4096];
        match read(&changes, &mut taken) {
            Ok(_) | Err(Errno::AGAIN) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(First::Held)
}

/// A handle on a process; nothing when it is gone.
fn open(process: u32) -> std::io::Result<Option<OwnedFd>> {
    let Some(process) = i32::try_from(process).ok().and_then(Pid::from_raw) else { return Ok(None) };
    match pidfd_open(process, PidfdFlags::empty()) {
        Ok(handle) => Ok(Some(handle)),
        Err(Errno::SRCH) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// What is left of some time.
fn left(begun: Instant, within: Duration) -> Timespec {
    let left = within.saturating_sub(begun.elapsed());
    Timespec { tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX), tv_nsec: left.subsec_nanos().into() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::process::{Command, Stdio};

    use super::*;

    const SOON: Duration = Duration::from_secs(60);

    #[test]
    fn the_end_of_a_process_is_waited_for_and_known_when_it_is_past() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        assert!(!ended(child.id(), Duration::ZERO).unwrap());
        drop(child.stdin.take());
        assert!(ended(child.id(), SOON).unwrap());
        child.wait().unwrap();
        assert!(ended(child.id(), SOON).unwrap());
    }

    #[test]
    fn files_are_looked_at_when_they_change_and_not_beyond_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("state");
        let is_ready = || std::fs::read(&file).is_ok_and(|text| text == b"ready");
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        assert_eq!(until(directory.path(), child.id(), Duration::ZERO, is_ready).unwrap(), First::Late);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| until(directory.path(), std::process::id(), SOON, is_ready).unwrap());
            for text in ["begun", "ready"] {
                std::fs::write(&file, text).unwrap();
            }
            assert_eq!(waiting.join().unwrap(), First::Held);
        });
        drop(child.stdin.take());
        assert_eq!(until(directory.path(), child.id(), SOON, || false).unwrap(), First::Ended);
        child.wait().unwrap();
    }
}
