//! cert-manager's own controllers and webhook beside an API server of a test: one program, which `make cert-manager` builds.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use super::{Kubernetes, Process, tail};
use crate::error::ServerError;

/// How long it may take to be ready; on a busy machine it takes ten times as long as on an idle one.
const START: Duration = Duration::from_secs(120);

/// cert-manager, until it is dropped or this process ends in any way.
pub struct CertManager {
    _running: Process,
    /// Where its log is, and the webhook's certificate.
    _directory: tempfile::TempDir,
}

impl CertManager {
    /// Brings its kinds and its webhook into a cluster, and runs its controllers until this is dropped. Once for each API server.
    ///
    /// # Errors
    /// [`ServerError::Missing`] when it was not built, otherwise why it did not start.
    pub fn start(kubernetes: &Kubernetes, approves: bool) -> Result<Self, ServerError> {
        let home = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap_or(Path::new("."));
        let (program, kinds) = (home.join("target/cert-manager/cert-manager"), home.join("target/cert-manager/crds"));
        if !program.is_file() {
            let what = format!("the cert-manager of tests is missing ({})", program.display());
            return Err(ServerError::Missing { what, install: "make cert-manager".to_owned() });
        }
        let directory = tempfile::Builder::new().prefix("signet-cert-manager-").tempdir();
        let directory = directory.map_err(ServerError::io("make a directory"))?;
        let log = directory.path().join("log");
        let output = File::create(&log).map_err(ServerError::io("write the log of cert-manager"))?;
        let mut command = Command::new(&program);
        // Ctrl-C is for us, and ends it through us.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command.arg("--kubeconfig").arg(kubernetes.admin_file()).arg("--crds").arg(&kinds);
        command.arg("--dir").arg(directory.path()).arg(format!("--approver={approves}")).env_clear();
        // It looks for the files that the kubeconfig names from where it runs, and not from there.
        command.current_dir(kubernetes.directory.path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(output);
        let child = command.spawn().map_err(ServerError::io(format!("run {}", program.display())))?;
        let mut running = Process(child);
        if is_ready(&mut running.0) {
            return Ok(Self { _running: running, _directory: directory });
        }
        let said = format!("it is not ready; its log ends with\n{}", tail(&log));
        Err(ServerError::refused("start cert-manager", said))
    }
}

/// Whether it says so in time.
fn is_ready(child: &mut Child) -> bool {
    let Some(output) = child.stdout.take() else { return false };
    let (sender, said) = mpsc::channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        let read = BufReader::new(output).read_line(&mut line);
        let _nobody_waits = sender.send(read.is_ok() && line.trim() == "ready");
    });
    said.recv_timeout(START).unwrap_or(false)
}
