//! The command line: `run`, `check`, `fetch` and `inspect`. Exit codes: 0 done, 1 refused or
//! failed, 2 wrong usage or configuration, 3 not over in time, 130 interrupted.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand};
use serde_json::json;
use signet_core::clock::{Clock, SystemClock, rfc3339};
use signet_core::shown_time::ShownTimes;
use signet_runtime::command::{self, Failure, wait_for};
use signet_runtime::config::units::parse_duration;
use signet_runtime::config::{Loaded, Sibling, load};
use signet_runtime::ending;
use signet_runtime::manual::ManualCommand;
use signet_runtime::output::{Output, OutputArg, OutputFormat, Width, error_chain};
use signet_runtime::telemetry;

use crate::app;
use crate::check::{Checked, check};
use crate::config::{Config, DEFAULT_PATH, read, reference};
use crate::files::FILES;
use crate::inspection;
use crate::inspection_view::{View, as_json, as_tables};

/// Threads of the runtime. One identity and its streams need little; the second keeps probes answered while the first
/// is busy.
const THREADS: usize = 2;

/// Obtains and renews certificates from a mesh CA and serves them to local proxies over SDS.
#[derive(Debug, Parser)]
#[command(
    name = "signet-agent",
    version,
    disable_help_subcommand = true,
    max_term_width = 100,
    after_help = command::EXIT_CODES
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Renew and serve until stopped
    Run(ConfigArgs),
    /// Check the configuration and the files it names, without starting anything or asking the CA
    Check(CheckArgs),
    /// Write certificate, key and roots to files, once or with --watch at each renewal
    Fetch(FetchArgs),
    /// Show what a running agent serves, until when, and to whom
    Inspect(InspectArgs),
    #[command(flatten)]
    Manual(ManualCommand),
}

#[derive(Debug, Args)]
struct ConfigArgs {
    /// The configuration file
    #[arg(short, long, default_value = DEFAULT_PATH, value_name = "FILE")]
    config: PathBuf,
}

#[derive(Debug, Args)]
struct CheckArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Print the reference of all fields as Markdown instead
    #[arg(long, conflicts_with = "output")]
    reference: bool,
    /// Print the shape of the file as JSON Schema instead, for editors
    #[arg(long, conflicts_with_all = ["reference", "output"])]
    schema: bool,
    #[command(flatten)]
    output: OutputArg,
}

#[derive(Debug, Args)]
struct FetchArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The directory for cert-chain.pem, key.pem and root-cert.pem, which is made when missing
    #[arg(short, long, value_name = "DIR")]
    dir: PathBuf,
    /// Keep the files fresh until stopped, instead of writing them once
    #[arg(long)]
    watch: bool,
    /// How long to try, when the files are written once
    #[arg(long, default_value = "60s", value_parser = parse_duration, value_name = "DURATION", conflicts_with = "watch")]
    timeout: Duration,
    #[command(flatten)]
    output: OutputArg,
}

#[derive(Debug, Args)]
struct InspectArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The agent's socket, instead of the one in the configuration
    #[arg(short, long, value_name = "PATH")]
    socket: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArg,
    /// Wait until the agent is ready: until it serves a certificate and roots
    #[arg(long)]
    wait: bool,
    /// With --wait: for how long
    #[arg(long, requires = "wait", default_value = "1m", value_parser = parse_duration, value_name = "DURATION")]
    timeout: Duration,
}

/// Whose configuration may be given by mistake.
const CA: Sibling =
    Sibling { program: "signet-ca", keys: &["storage", "keys", "clusters", "listen", "serving", "authority"] };

/// The name that errors begin with.
const PROGRAM: &str = "signet-agent";

/// Runs the program with the process's arguments.
#[must_use]
pub fn main() -> ExitCode {
    match command::parse::<Cli>() {
        Ok(cli) => command::end(PROGRAM, dispatch(cli.command)),
        Err(error) if error.use_stderr() => command::misused(PROGRAM, &error),
        Err(help) => help.exit(),
    }
}

fn dispatch(command: Command) -> Result<(), Failure> {
    match command {
        Command::Run(args) => {
            let loaded = configured(&args.config)?;
            with_runtime(async { app::run(loaded.config, &loaded.effective).await.map_err(Failure::failed) })
        }
        Command::Check(args) => checked(&args),
        Command::Fetch(args) => fetch(&args),
        Command::Inspect(args) => {
            let socket = match args.socket {
                Some(socket) => socket,
                None => load_config(&args.config.config)?.config.sds.socket,
            };
            let ask = async || inspection::ask(&socket).await.map_err(Failure::failed);
            let ready = async || match ask().await? {
                answer if answer.ready => Ok(answer),
                answer => Err(Failure::Failed(inspection::unready(&answer))),
            };
            let answer =
                with_runtime(async { if args.wait { wait_for(args.timeout, ready).await } else { ask().await } })?;
            let format = args.output.output;
            let wide = format == OutputFormat::Wide;
            let times = if wide { ShownTimes::Absolute } else { ShownTimes::From(SystemClock.now()) };
            let view = View { width: Width::of_stdout(), times };
            let shown = Output::stdout(format).show(|| as_json(&answer), || as_tables(&answer, view));
            shown.map_err(Failure::failed)
        }
        Command::Manual(command) => command.run(Cli::command()),
    }
}

fn checked(args: &CheckArgs) -> Result<(), Failure> {
    let mut out = Output::stdout(args.output.output);
    if args.reference {
        let reference = reference().map_err(Failure::failed)?;
        return out.raw(&reference.to_markdown()).map_err(Failure::failed);
    }
    if args.schema {
        let reference = reference().map_err(Failure::failed)?;
        return out.json(&reference.to_json_schema("The configuration of signet-agent")).map_err(Failure::failed);
    }
    let file = args.config.config.display().to_string();
    let Checked { problems, unseen } = match load(&args.config.config, read) {
        Ok(loaded) => {
            let found = with_runtime(async { Ok(check(&loaded.config).await) })?;
            Checked { problems: found.problems.iter().map(|problem| format!("{file}: {problem}")).collect(), ..found }
        }
        Err(error) => Checked { problems: error.mistakes(CA), unseen: Vec::new() },
    };
    let told = || {
        let unseen: String = unseen.iter().map(|what| format!("not looked at: {what}\n")).collect();
        format!("{file} is in order\n{unseen}")
    };
    if problems.is_empty() || out.format().is_json() {
        let document = || json!({ "file": file, "problems": problems, "notes": [], "not_looked_at": unseen });
        out.show(document, told).map_err(Failure::failed)?;
    }
    if problems.is_empty() { Ok(()) } else { Err(Failure::Usage(named(&problems))) }
}

/// Mistakes as errors are told.
fn named(mistakes: &[String]) -> String {
    command::each_named(PROGRAM, mistakes.iter().map(String::as_str))
}

fn fetch(args: &FetchArgs) -> Result<(), Failure> {
    let config = configured(&args.config.config)?.config;
    let failed = |error| match error {
        app::AppError::NoCertificate { .. } => Failure::TimedOut(error_chain(&error)),
        other => Failure::failed(other),
    };
    if args.watch {
        return with_runtime(async { app::keep_files(config, &args.dir).await.map_err(failed) });
    }
    let written = with_runtime(async { app::fetch_once(&config, &args.dir, args.timeout).await.map_err(failed) })?;
    let (dir, until) = (args.dir.display(), rfc3339(written.not_after));
    let value = || {
        json!({
            "dir": dir.to_string(), "files": FILES, "spiffe_id": written.spiffe_id.to_string(),
            "serial": written.serial, "not_after": until,
        })
    };
    let text = || format!("{} is in {dir} ({}), until {until}\n", written.spiffe_id, FILES.join(", "));
    Output::stdout(args.output.output).show(value, text).map_err(Failure::failed)
}

fn load_config(path: &Path) -> Result<Loaded<Config>, Failure> {
    load(path, read).map_err(|error| Failure::Usage(named(&error.mistakes(CA))))
}

/// Loads the configuration and sets up logging as it says.
fn configured(path: &Path) -> Result<Loaded<Config>, Failure> {
    let loaded = load_config(path)?;
    telemetry::init(loaded.config.log.format, &loaded.config.log.level).map_err(Failure::failed)?;
    Ok(loaded)
}

fn with_runtime<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build();
    // Boxed: the whole program is one future, which would not sit well on the stack.
    ending::run(runtime.map_err(Failure::failed)?, Box::pin(work))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_reads_durations_and_formats() {
        Cli::command().debug_assert();
        let parse = |line: &str| Cli::try_parse_from(line.split(' '));
        let Command::Fetch(fetch) = parse("signet-agent fetch --dir /x --timeout 5s").unwrap().command else {
            unreachable!("fetch")
        };
        assert!(!fetch.watch && fetch.timeout.as_secs() == 5);
        for wrong in [
            "signet-agent",
            "signet-agent fetch",
            "signet-agent inspect -o yaml",
            "signet-agent fetch -d /x --timeout 5",
            "signet-agent fetch -d /x --timeout 5s --watch",
            "signet-agent fetch -o /x",
        ] {
            assert_eq!(parse(wrong).unwrap_err().exit_code(), 2, "{wrong}");
        }
    }

    fn checking(config: PathBuf) -> Command {
        let output = OutputArg { output: OutputFormat::Table };
        Command::Check(CheckArgs { config: ConfigArgs { config }, reference: false, schema: false, output })
    }

    #[test]
    fn the_documentation_holds_the_reference_of_every_field() {
        let page = include_str!("../../../docs/configuration.md");
        assert!(page.contains(&reference().unwrap().to_markdown()), "docs/configuration.md is out of date: make docs");
    }

    #[test]
    fn a_wrong_configuration_is_a_mistake_of_usage() {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("c.yaml");
        std::fs::write(&config, "trust_domain: TD\nextra: 1\n").unwrap();
        let refused = dispatch(checking(config.clone())).unwrap_err();
        assert!(matches!(&refused, Failure::Usage(text) if text.lines().count() == 4), "{refused:?}");
        let missing = dispatch(checking(directory.path().join("no.yaml")));
        assert!(matches!(missing, Err(Failure::Usage(_))));
    }
}
