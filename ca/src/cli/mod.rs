//! The command line: what can be asked, and how answers and failures leave the process.

mod audit;
mod bundle;
mod check;
mod dev;
mod dev_tokens;
mod status;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use signet_core::clock::rfc3339;
use signet_runtime::config::{self, Loaded};
use signet_runtime::output::{OutputFormat, error_chain};

use crate::app;
use crate::config::{Config, read};

/// Signet's certificate authority: issues SPIFFE X.509 certificates to workloads of a mesh.
#[derive(Debug, Parser)]
#[command(name = "signet-ca", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the CA until it is told to stop
    Serve(ConfigFile),
    /// Check the configuration and the files it names, without starting; reports every mistake at once
    Check(check::CheckArgs),
    /// Show what a running CA is doing
    Status(status::StatusArgs),
    /// Look at the trust bundle
    #[command(subcommand)]
    Bundle(bundle::BundleCommand),
    /// Query the record of what was issued and refused
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Set up a throw-away state and tokens for trying things out; not for production
    #[command(subcommand)]
    Dev(dev::DevCommand),
}

/// Names the configuration file.
#[derive(Debug, Clone, Args)]
struct ConfigFile {
    /// The configuration file
    #[arg(long, short, value_name = "FILE", default_value = "/etc/signet/signet-ca.yaml")]
    config: PathBuf,
}

/// Chooses the form of the answer.
#[derive(Debug, Clone, Copy, Args)]
struct OutputArg {
    /// `table` for people, `json` for programs
    #[arg(long, short, value_name = "FORMAT", default_value = "table")]
    output: OutputFormat,
}

/// Why a command did not succeed; decides the exit code.
#[derive(Debug)]
enum Failure {
    /// Wrong usage or configuration: exit code 2.
    Usage(String),
    /// Anything else: exit code 1.
    Failed(String),
}

impl Failure {
    fn failed(error: impl std::error::Error) -> Self {
        Self::Failed(error_chain(&error))
    }
}

impl ConfigFile {
    fn load(&self) -> Result<Loaded<Config>, Failure> {
        config::load(&self.config, read).map_err(|error| Failure::Usage(error_chain(&error)))
    }
}

/// Parses the command line and runs the command. Exit codes: 0 done, 1 failed, 2 wrong usage or configuration.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&Failure::failed(error)),
    };
    match runtime.block_on(run(cli.command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => complain(&failure),
    }
}

async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Serve(file) => app::serve(file.load()?).await.map_err(Failure::failed),
        Command::Check(args) => check::run(&args).await,
        Command::Status(args) => status::run(&args).await,
        Command::Bundle(command) => bundle::run(&command).await,
        Command::Audit(command) => audit::run(&command).await,
        Command::Dev(command) => dev::run(command).await,
    }
}

#[expect(clippy::print_stderr, reason = "this is where failures of the command line are told")]
fn complain(failure: &Failure) -> ExitCode {
    let (text, code) = match failure {
        Failure::Usage(text) => (text, 2),
        Failure::Failed(text) => (text, 1),
    };
    eprintln!("signet-ca: {text}");
    ExitCode::from(code)
}

/// A time for tables.
fn time_text(seconds: i64) -> String {
    time::OffsetDateTime::from_unix_timestamp(seconds).map_or_else(|_| "-".to_owned(), rfc3339)
}
