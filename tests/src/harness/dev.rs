//! A throw-away installation made by `signet-ca dev init`: the state directory, its configurations and its tokens.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;
use tempfile::TempDir;

use super::database::{self, Store};
use super::{Agent, Ca, ports, yaml};
use crate::failure::{Failure, Outcome};
use crate::tools;

/// What to ask `dev init` for.
#[derive(Debug, Clone, Default)]
pub struct DevOptions {
    /// Lifetime of workload certificates, such as `60s`; the program's default when absent.
    pub svid_ttl: Option<String>,
    /// Trust domain; the program's default when absent.
    pub trust_domain: Option<String>,
    /// Workloads as `NAME=namespace/serviceaccount`; the program's two when empty.
    pub workloads: Vec<String>,
    /// Where it keeps its storage; what the environment asks for when absent.
    pub store: Option<Store>,
    /// Another program than the `signet-ca` that was built with this one.
    pub ca: Option<PathBuf>,
}

/// The installation. The directory vanishes when it is dropped, so processes in it must be dropped before.
pub struct Dev {
    state: PathBuf,
    _parent: TempDir,
    /// Whether the authority is still to be made, as the configuration says when the CA is started.
    lacks_authority: AtomicBool,
    ca: PathBuf,
    /// Where the CA serves gRPC.
    pub listen: SocketAddr,
    /// Where the CA serves operators.
    pub ops: SocketAddr,
}

impl Dev {
    /// Makes an installation with free ports in a new directory, whose path is short enough for Unix sockets.
    ///
    /// # Errors
    /// [`Failure`] with what the command printed.
    pub fn init(options: &DevOptions) -> Outcome<Self> {
        let parent = std::env::temp_dir();
        // A Unix socket's path has at most 108 bytes.
        let parent = if parent.as_os_str().len() > 60 { PathBuf::from("/tmp") } else { parent };
        let parent = tempfile::Builder::new()
            .prefix("signet-")
            .tempdir_in(parent)
            .map_err(Failure::io("make a temporary directory"))?;
        let state = parent.path().join("s");
        let (listen, ops) = (ports::free()?, ports::free()?);
        let ca = options.ca.clone().map_or_else(|| tools::own("signet-ca"), Ok)?;
        let mut command = Command::new(&ca);
        command.args(["dev", "init", "--dir"]).arg(&state);
        command.args(["--listen", &listen.to_string(), "--ops", &ops.to_string(), "--log-format", "json"]);
        if let Some(ttl) = &options.svid_ttl {
            command.args(["--svid-ttl", ttl]);
        }
        if let Some(trust_domain) = &options.trust_domain {
            command.args(["--trust-domain", trust_domain]);
        }
        for workload in &options.workloads {
            command.args(["--workload", workload]);
        }
        tools::run(&mut command)?;
        let dev = Self { state, _parent: parent, lacks_authority: AtomicBool::new(false), ca, listen, ops };
        for name in dev.workloads()? {
            let ops = ports::free()?.to_string();
            dev.edit(&format!("agent-{name}.yaml"), |config| yaml::set(config, "ops", ops))?;
        }
        if options.store.map_or_else(Store::wanted, Ok)? == Store::Postgres {
            dev.store_in(database::shared()?)?;
            dev.make_authority()?;
        }
        Ok(dev)
    }

    /// An installation with the defaults.
    ///
    /// # Errors
    /// See [`Self::init`].
    pub fn plain() -> Outcome<Self> {
        Self::init(&DevOptions::default())
    }

    /// The same with its storage in a file whatever the environment says, for what is about files.
    ///
    /// # Errors
    /// See [`Self::init`].
    pub fn on_file() -> Outcome<Self> {
        Self::init(&DevOptions { store: Some(Store::Sqlite), ..DevOptions::default() })
    }

    /// Forgets the authority, and whoever has heard of it. Another one is made when a CA is started next, as the
    /// configuration says then.
    ///
    /// # Errors
    /// [`Failure::Io`].
    pub fn forget_authority(&self) -> Outcome {
        match self.store()? {
            Store::Sqlite => self.forget_files(),
            Store::Postgres => self.store_in(database::shared()?),
        }
    }

    /// Forgets what files tell of the authority.
    pub(super) fn forget_files(&self) -> Outcome {
        let entries = std::fs::read_dir(&self.state).map_err(Failure::io("list the state directory"))?;
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with("signet.db") || name == "root-cert.pem" {
                std::fs::remove_file(entry.path()).map_err(Failure::io("remove the authority"))?;
            }
        }
        self.lacks_authority.store(true, Ordering::SeqCst);
        Ok(())
    }

    /// Makes the authority with this command, such as one with another clock, if it was forgotten.
    ///
    /// # Errors
    /// [`Failure`] with what the command printed.
    pub fn make_authority_with(&self, mut init: Command) -> Outcome {
        if self.lacks_authority.swap(false, Ordering::SeqCst) {
            tools::run(&mut init)?;
        }
        Ok(())
    }

    /// Makes the authority if it was forgotten.
    ///
    /// # Errors
    /// [`Failure`] with what the command printed.
    pub fn make_authority(&self) -> Outcome {
        self.make_authority_with(self.ca_command(&["init"])?)
    }

    /// The names of the workloads that have an agent configuration.
    ///
    /// # Errors
    /// [`Failure::Io`].
    pub fn workloads(&self) -> Outcome<Vec<String>> {
        let entries = std::fs::read_dir(&self.state).map_err(Failure::io("list the state directory"))?;
        let mut names: Vec<String> = entries
            .flatten()
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                Some(name.strip_prefix("agent-")?.strip_suffix(".yaml")?.to_owned())
            })
            .collect();
        names.sort();
        Ok(names)
    }

    /// The state directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.state
    }

    /// A file of the state directory.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.state.join(name)
    }

    /// The text of a file of the state directory.
    ///
    /// # Errors
    /// [`Failure::Io`].
    pub fn text(&self, name: &str) -> Outcome<String> {
        std::fs::read_to_string(self.path(name)).map_err(Failure::io(format!("read {name}")))
    }

    /// Changes a configuration file.
    ///
    /// # Errors
    /// [`Failure`] of reading, of the change, or of writing.
    pub fn edit(&self, name: &str, change: impl FnOnce(&mut Value) -> Outcome) -> Outcome {
        let path = self.path(name);
        let mut config = yaml::read(&path)?;
        change(&mut config)?;
        yaml::write(&path, &config)
    }

    /// Changes one key of the CA's configuration, such as `svid.csr_names`.
    ///
    /// # Errors
    /// See [`Self::edit`].
    pub fn set_ca(&self, key: &str, value: impl Into<Value>) -> Outcome {
        self.edit("signet-ca.yaml", |config| yaml::set(config, key, value))
    }

    /// Takes a field, such as `authority.vault`, out of the CA's configuration.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn unset_ca(&self, key: &str) -> Outcome {
        self.edit("signet-ca.yaml", |config| yaml::unset(config, key))
    }

    /// The bearer token of a workload.
    ///
    /// # Errors
    /// [`Failure::Io`].
    pub fn token(&self, workload: &str) -> Outcome<String> {
        Ok(self.text(&format!("tokens/{workload}.jwt"))?.trim().to_owned())
    }

    /// A command of `signet-ca` about this installation, ready to run: `args`, then `--config`.
    ///
    /// # Errors
    /// [`Failure::ToolMissing`].
    pub fn ca_command(&self, args: &[&str]) -> Outcome<Command> {
        let mut command = Command::new(&self.ca);
        command.args(args).arg("--config").arg(self.path("signet-ca.yaml"));
        Ok(command)
    }

    /// A command of `signet-agent` for a workload, ready to run: `args`, then `--config`.
    ///
    /// # Errors
    /// [`Failure::ToolMissing`].
    pub fn agent_command(&self, workload: &str, args: &[&str]) -> Outcome<Command> {
        let mut command = Command::new(tools::own("signet-agent")?);
        command.args(args).arg("--config").arg(self.path(&format!("agent-{workload}.yaml")));
        Ok(command)
    }

    /// Starts the CA and waits until it is ready.
    ///
    /// # Errors
    /// [`Failure`] with its log.
    pub async fn start_ca(&self) -> Outcome<Ca> {
        let mut ca = Ca::start(self)?;
        ca.ready().await?;
        Ok(ca)
    }

    /// Starts the agent of a workload and waits until it is ready.
    ///
    /// # Errors
    /// [`Failure`] with its log.
    pub async fn start_agent(&self, workload: &str) -> Outcome<Agent> {
        let mut agent = Agent::start(self, workload)?;
        agent.ready().await?;
        Ok(agent)
    }
}
