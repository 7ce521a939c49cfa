//! The command line: what can be asked, and how answers and failures leave the process.

mod admin_client;
mod audit;
mod authority;
mod backup;
mod bundle;
mod certificate;
mod certificate_list;
mod check;
mod cluster_view;
mod copy_progress;
mod describe;
mod dev;
mod dev_tokens;
mod event_view;
mod explain;
mod goal;
mod holders;
mod import;
mod init;
#[cfg(feature = "postgres")]
mod migrate;
mod progress;
mod questions;
mod record;
mod record_batches;
mod record_checkpoint;
mod record_csv;
mod record_export;
mod record_remote;
mod record_source;
mod record_stats;
mod record_tail;
mod rekey;
mod rotation_view;
mod status;
mod tls_way;
mod view;
mod wait;
mod whole_event;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};
use signet_core::clock::rfc3339;
use signet_runtime::command::{self, Failure};
use signet_runtime::config::{self, Loaded};
use signet_runtime::ending;
use signet_runtime::manual::ManualCommand;
use signet_runtime::output::OutputArg;

use crate::app;
use crate::config::{Config, read, read_admin};

/// Signet's certificate authority: issues SPIFFE X.509 certificates to workloads of a mesh.
#[derive(Debug, Parser)]
#[command(name = "signet-ca", version, max_term_width = 100, after_help = command::EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make the first authority of a new installation; refused where there is one, or where bundle_file names others
    Init(init::InitArgs),
    /// Take over the CA of another program
    #[command(subcommand)]
    Import(import::ImportCommand),
    /// Run the CA until it is told to stop
    Serve(ConfigFile),
    /// Check the configuration and the files it names, without starting; reports every mistake at once
    Check(check::CheckArgs),
    /// Show what a running CA is doing
    Status(status::StatusArgs),
    /// Tell whether a node agent gets the certificate of a workload, check by check; nothing is issued
    Explain(explain::ExplainArgs),
    /// See, rotate and revoke authorities
    #[command(subcommand)]
    Authority(authority::AuthorityCommand),
    /// See who holds which certificates, and revoke them
    #[command(subcommand)]
    Certificate(certificate::CertificateCommand),
    /// See who holds certificates and which trust bundle has reached whom
    #[command(subcommand)]
    Holders(holders::HoldersCommand),
    /// Look at the trust bundle
    #[command(subcommand)]
    Bundle(bundle::BundleCommand),
    /// Query the record of what was issued and refused
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Copy the storage into a new file, also while a CA is running on it
    Backup(backup::BackupArgs),
    /// Move the storage from its SQLite file into an empty PostgreSQL database, with every CA stopped
    #[cfg(feature = "postgres")]
    Migrate(migrate::MigrateArgs),
    /// Seal the private keys in the storage with a new key, also while CAs are running on it
    Rekey(rekey::RekeyArgs),
    /// Set up a throw-away state and tokens for trying things out; not for production
    #[command(subcommand)]
    Dev(dev::DevCommand),
    #[command(flatten)]
    Manual(ManualCommand),
}

/// Where the configuration is when nobody names another file.
const DEFAULT_CONFIG: &str = "/etc/signet/signet-ca.yaml";

/// Names the configuration file.
#[derive(Debug, Clone, Args)]
struct ConfigFile {
    /// The configuration file
    #[arg(long, short, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
}

impl ConfigFile {
    fn load(&self) -> Result<Loaded<Config>, Failure> {
        let named = |mistakes: Vec<String>| command::each_named(PROGRAM, mistakes.iter().map(String::as_str));
        self.read().map_err(|mistakes| Failure::Usage(named(mistakes)))
    }

    /// The same with the mistakes one by one.
    fn read(&self) -> Result<Loaded<Config>, Vec<String>> {
        config::load(&self.config, read).map_err(|error| error.mistakes(AGENT))
    }

    /// The operators' socket, also in a file that is wrong elsewhere: a CA that has not taken it over tells so there.
    fn admin(&self) -> Result<PathBuf, Failure> {
        config::load_part(&self.config, read_admin).map_err(|error| {
            let mut mistakes = error.mistakes(AGENT);
            mistakes.push(
                "a running CA is reached all the same by its socket: --socket PATH (`admin` in its file)".to_owned(),
            );
            Failure::Usage(command::each_named(PROGRAM, mistakes.iter().map(String::as_str)))
        })
    }
}

/// Whose configuration may be given by mistake.
const AGENT: config::Sibling =
    config::Sibling { program: "signet-agent", keys: &["ca", "token_file", "sds", "renewal"] };

/// The name that errors begin with.
const PROGRAM: &str = "signet-ca";

/// Parses the command line and runs the command. Exit codes: 0 done, 1 refused or failed, 2 wrong usage or configuration,
/// 3 not over in time, 130 interrupted.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match command::parse::<Cli>() {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() => return command::misused(PROGRAM, &error),
        Err(help) => help.exit(),
    };
    let result = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => ending::run(runtime, run(cli.command)),
        Err(error) => Err(Failure::failed(error)),
    };
    command::end(PROGRAM, result)
}

async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Serve(file) => app::serve(file.load()?, file.config).await.map_err(Failure::failed),
        Command::Init(args) => init::run(&args).await,
        Command::Import(command) => import::run(&command).await,
        Command::Check(args) => check::run(&args).await,
        Command::Status(args) => status::run(&args).await,
        Command::Explain(args) => explain::run(&args).await,
        Command::Authority(command) => authority::run(&command).await,
        Command::Certificate(command) => certificate::run(&command).await,
        Command::Holders(command) => holders::run(&command).await,
        Command::Bundle(command) => bundle::run(&command).await,
        Command::Audit(command) => audit::run(&command).await,
        Command::Backup(args) => backup::run(&args).await,
        #[cfg(feature = "postgres")]
        Command::Migrate(args) => migrate::run(&args).await,
        Command::Rekey(args) => rekey::run(&args).await,
        Command::Dev(command) => dev::run(command).await,
        Command::Manual(command) => command.run(Cli::command()),
    }
}

/// A time for tables.
fn time_text(seconds: i64) -> String {
    time::OffsetDateTime::from_unix_timestamp(seconds).map_or_else(|_| "-".to_owned(), rfc3339)
}

/// Text from elsewhere, as it may be printed: a name must not steer the terminal, and each character must take one
/// column where columns count.
fn printable(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            ' '..='~' => safe.push(c),
            _ => safe.extend(c.escape_default()),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_explains_exit_codes_and_every_state_that_a_table_shows() {
        let help = Cli::command().render_help().to_string();
        for code in ["1", "2", "3", "130"] {
            assert!(help.contains(&format!("  {code} ")), "{code}: {help}");
        }
        let mut cli = Cli::command();
        let list = cli.find_subcommand_mut("authority").unwrap().find_subcommand_mut("list").unwrap();
        let help = list.render_help().to_string();
        use signet_proto::admin::v1alpha1::AuthorityState::{Active, Old, Prepared, Revoked, Tainted, Unspecified};
        for state in [Unspecified, Prepared, Active, Old, Tainted, Revoked] {
            let name = describe::state(state.into());
            assert!(help.contains(&format!("\n  {name} ")), "{name}: {help}");
        }
    }

    #[test]
    fn what_needs_more_is_wrong_usage_without_it() {
        let tls = "--address https://ca:1 --cert c --key k --ca r";
        for (line, right) in [
            ("authority list".to_owned(), true),
            (format!("authority list {tls} --server-name ca"), true),
            (format!("status {tls} --output json"), true),
            ("status --socket /run/a.sock --config gone".to_owned(), true),
            ("status --socket unix:///run/a.sock".to_owned(), true),
            ("status --socket a.sock".to_owned(), false),
            (format!("status {tls} --socket /run/a.sock"), false),
            ("authority rotate --wait --timeout 10m --reason x".to_owned(), true),
            ("authority adopt --wait --timeout 10m --reason x".to_owned(), true),
            ("authority activate 1a2b --force --reason x --wait".to_owned(), true),
            ("authority taint 1a2b --wait".to_owned(), true),
            ("certificate revoke --serial 0123456789abcdef0123456789abcdef --reason superseded".to_owned(), true),
            ("certificate revoke --serial 0123456789abcdef0123456789abcdef --clear".to_owned(), true),
            ("holders list --behind --sequence 3 --authority 1a --limit 1000 --page x".to_owned(), true),
            ("import istiod --from istio-system/cacerts --cluster a --to b --dry-run -o json".to_owned(), true),
            ("import istiod --to b".to_owned(), false),
            ("migrate --to postgres://a@b/c --password-file p --tls off".to_owned(), cfg!(feature = "postgres")),
            ("migrate".to_owned(), false),
            ("authority activate 1a2b --force".to_owned(), false),
            ("authority taint 1a2b --force".to_owned(), false),
            ("authority revoke 1a2b --force".to_owned(), false),
            ("authority adopt 1a2b".to_owned(), false),
            ("authority activate".to_owned(), false),
            ("authority rotate --timeout 10m".to_owned(), false),
            ("authority rotate --wait --timeout soon".to_owned(), false),
            ("authority list --address https://ca:1 --cert c --key k".to_owned(), false),
            ("authority list --cert c".to_owned(), false),
            ("certificate revoke --serial 0123456789abcdef0123456789abcdef".to_owned(), false),
            ("certificate revoke --serial 0123456789abcdef0123456789abcdef --reason ca_compromise".to_owned(), false),
            ("certificate revoke --serial 12 --clear".to_owned(), false),
            ("holders list --sequence 3".to_owned(), false),
            ("holders list --limit 1001".to_owned(), false),
        ] {
            let parsed = Cli::try_parse_from(std::iter::once("signet-ca").chain(line.split_whitespace()));
            match parsed {
                Ok(_) => assert!(right, "{line}"),
                Err(error) => assert!(!right && error.exit_code() == 2, "{line}: {error}"),
            }
        }
    }

    #[test]
    fn foreign_text_cannot_steer_the_terminal() {
        assert_eq!(printable("plain ~ text"), "plain ~ text");
        assert_eq!(printable("a\u{1b}[2J\n\u{202e}\u{4e16}"), r"a\u{1b}[2J\n\u{202e}\u{4e16}");
    }
}
