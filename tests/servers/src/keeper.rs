//! The shell that keeps a server: its child, so that it ends with this process whatever happens to that.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use crate::error::ServerError;

const SCRIPT: &str = include_str!("keeper.sh");
/// How long one request may take; an orderly shutdown under load on a busy machine is the longest.
const PATIENCE: Duration = Duration::from_secs(120);

/// The shell, with the pipe whose end ends it.
pub(crate) struct Keeper {
    shell: Child,
    /// `None` once it was told to end.
    requests: Option<ChildStdin>,
    replies: Receiver<String>,
    directory: PathBuf,
}

impl Keeper {
    /// Starts it with a directory of its own in `below`, for the programs in `programs`, as `user` (empty: as we are).
    pub(crate) fn start(programs: &Path, below: &Path, user: &str) -> Result<Self, ServerError> {
        let mut command = Command::new("sh");
        command.args(["-c", SCRIPT, "keeper"]).arg(programs).arg(below).arg(user);
        // Settings for other servers are not for this one; Ctrl-C is for us, and ends this one through us.
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("LC_ALL", "C");
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut shell = command.spawn().map_err(ServerError::io("run sh"))?;
        let (sender, replies) = channel();
        if let Some(stdout) = shell.stdout.take() {
            std::thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    if sender.send(line).is_err() {
                        break;
                    }
                }
            });
        }
        let requests = shell.stdin.take();
        let mut keeper = Self { shell, requests, replies, directory: PathBuf::new() };
        keeper.directory = PathBuf::from(keeper.reply("directory ", "make a directory for a server")?);
        Ok(keeper)
    }

    /// What belongs to the server: `data`, `log`, its socket.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Makes the data directory.
    pub(crate) fn init(&mut self) -> Result<(), ServerError> {
        self.ask("init", "done", "make a data directory").map(|_| ())
    }

    /// Makes the data directory of a standby that follows the server with this socket directory and port.
    pub(crate) fn copy(&mut self, of: &Path, port: u16) -> Result<(), ServerError> {
        self.ask(&format!("copy {} {port}", of.display()), "done", "copy a server").map(|_| ())
    }

    /// Starts the server process and gives its id. It is not ready then.
    pub(crate) fn start_server(&mut self) -> Result<u32, ServerError> {
        let id = self.ask("start", "server ", "start the server")?;
        id.parse().map_err(|_| ServerError::refused("start the server", format!("its process id is {id:?}")))
    }

    /// Ends the server and waits until it has: `fast` or `immediate`.
    pub(crate) fn stop_server(&mut self, how: &str) -> Result<(), ServerError> {
        self.ask(how, "done", "stop the server").map(|_| ())
    }

    /// The end of what the server has printed.
    pub(crate) fn log(&self) -> String {
        const SHOWN: usize = 4_000;
        let log = std::fs::read(self.directory.join("log")).unwrap_or_default();
        String::from_utf8_lossy(log.get(log.len().saturating_sub(SHOWN)..).unwrap_or(&log)).into_owned()
    }

    fn ask(&mut self, request: &str, expected: &str, doing: &str) -> Result<String, ServerError> {
        if let Some(requests) = &mut self.requests {
            writeln!(requests, "{request}").map_err(ServerError::io(doing))?;
        }
        self.reply(expected, doing)
    }

    fn reply(&mut self, expected: &str, doing: &str) -> Result<String, ServerError> {
        let Ok(line) = self.replies.recv_timeout(PATIENCE) else {
            return Err(ServerError::refused(doing, format!("no answer; its log ends with\n{}", self.log())));
        };
        match line.strip_prefix(expected) {
            Some(rest) => Ok(rest.to_owned()),
            None => Err(ServerError::refused(doing, format!("{line}; its log ends with\n{}", self.log()))),
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.requests.take());
        // It removes everything before it ends. Nothing can be done about one that is gone already.
        let _ended = self.shell.wait();
    }
}
