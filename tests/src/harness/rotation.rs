//! Everything about rotation that is a name of a configuration key or a word of a command line, in one place.

use std::path::PathBuf;
use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Ca, Dev, ports, yaml};
use crate::client::admin::Admin;
use crate::failure::{Failure, Outcome};
use crate::tools;

/// Configuration keys of the CA.
pub mod keys {
    /// Whether roots rotate by schedule.
    pub const AUTOMATIC: &str = "authority.rotation.automatic";
    /// Percent of a root's life after which the next one is prepared.
    pub const PREPARE_AT: &str = "authority.rotation.prepare_at";
    /// Percent of a root's life after which the next one is activated.
    pub const ACTIVATE_AT: &str = "authority.rotation.activate_at";
    /// Percent of holders that must have a bundle.
    pub const COVERAGE: &str = "authority.rotation.coverage";
    /// The least time between prepare and activate.
    pub const PROPAGATION: &str = "authority.rotation.propagation";
    /// How long renewals are spread over after a taint.
    pub const RENEWAL_WINDOW: &str = "authority.rotation.renewal_window";
    /// Who lets a former root go.
    pub const RETIRE: &str = "authority.rotation.retire";
    /// Lifetime of a root.
    pub const ROOT_TTL: &str = "authority.root_ttl";
    /// Lifetime of an issuing CA.
    pub const ISSUING_TTL: &str = "authority.issuing_ttl";
    /// Lifetime of the CA's own TLS certificate.
    pub const SERVING_TTL: &str = "serving.ttl";
    /// Who makes authorities.
    pub const BACKEND: &str = "authority.backend";
    /// The backend that reads the operator's own files.
    pub const FILES: &str = "files";
    /// The directory of those files.
    pub const FILES_DIRECTORY: &str = "authority.files";
    /// SPIFFE IDs of administrators.
    pub const ADMINS: &str = "admins";
    /// SPIFFE IDs of auditors.
    pub const AUDITORS: &str = "auditors";
    /// Where the CA writes the trust bundle.
    pub const BUNDLE_FILE: &str = "bundle_file";
}

/// How fast an installation goes through a rotation.
#[derive(Debug, Clone)]
pub struct Pace {
    /// The least time between prepare and activate.
    pub propagation: &'static str,
    /// How long renewals are spread over after a taint.
    pub renewal_window: &'static str,
    /// Lifetime of an issuing CA made from now on.
    pub issuing_ttl: &'static str,
    /// Lifetime of the CA's own TLS certificate.
    pub serving_ttl: &'static str,
}

impl Default for Pace {
    fn default() -> Self {
        Self { propagation: "2s", renewal_window: "4s", issuing_ttl: "3h", serving_ttl: "1m" }
    }
}

impl Dev {
    /// Sets the pace of rotations; roots rotate by command only.
    ///
    /// # Errors
    /// [`Failure`] of the configuration file.
    pub fn set_pace(&self, pace: &Pace) -> Outcome {
        self.set_ca(keys::AUTOMATIC, false)?;
        self.set_ca(keys::PROPAGATION, pace.propagation)?;
        self.set_ca(keys::RENEWAL_WINDOW, pace.renewal_window)?;
        self.set_ca(keys::ISSUING_TTL, pace.issuing_ttl)?;
        self.set_ca(keys::SERVING_TTL, pace.serving_ttl)
    }

    /// Forgets the authority that `dev init` made, so that another one is made as the configuration says when a CA is
    /// started next, and lets the CA write its trust bundle to the file that agents and clients trust.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn start_over(&self) -> Outcome {
        self.forget_authority()?;
        self.set_ca(keys::BUNDLE_FILE, self.path("root-cert.pem").to_string_lossy())
    }

    /// The operators' socket of the CA.
    ///
    /// # Errors
    /// [`Failure`] of the configuration file.
    pub fn admin_socket(&self) -> Outcome<PathBuf> {
        admin_socket(&self.path("signet-ca.yaml"))
    }

    /// A second CA process on the same storage, with ports and an operators' socket of its own.
    ///
    /// # Errors
    /// [`Failure`] of the configuration files.
    pub fn replica(&self) -> Outcome<Replica> {
        let mut config = yaml::read(&self.path("signet-ca.yaml"))?;
        let (listen, ops) = (ports::free()?, ports::free()?);
        yaml::set(&mut config, "listen", listen.to_string())?;
        yaml::set(&mut config, "ops", ops.to_string())?;
        yaml::set(&mut config, "admin", format!("unix://{}", self.path("ca-admin-2.sock").display()))?;
        let file = self.path("signet-ca-2.yaml");
        yaml::write(&file, &config)?;
        Ok(Replica { config: file, listen, ops })
    }
}

/// The configuration of a second CA process.
pub struct Replica {
    config: PathBuf,
    /// Where it serves gRPC.
    pub listen: std::net::SocketAddr,
    ops: std::net::SocketAddr,
}

impl Replica {
    /// Starts the process and waits until it is ready.
    ///
    /// # Errors
    /// [`Failure`] with its log.
    pub async fn start(&self, dev: &Dev) -> Outcome<Ca> {
        let mut ca = Ca::start_config("ca-2", dev, &self.config, self.ops)?;
        ca.ready().await?;
        Ok(ca)
    }

    /// Sends an agent of the installation to this process.
    ///
    /// # Errors
    /// [`Failure`] of the configuration file.
    pub fn serve_agent(&self, dev: &Dev, workload: &str) -> Outcome {
        let address = format!("https://localhost:{}", self.listen.port());
        dev.edit(&format!("agent-{workload}.yaml"), |config| yaml::set(config, "ca.address", address))
    }
}

fn admin_socket(config: &std::path::Path) -> Outcome<PathBuf> {
    let config = yaml::read(config)?;
    Ok(yaml::text(&config, "/admin")?.trim_start_matches("unix://").into())
}

/// The operators' commands about rotation. Each gives the answer's JSON, or what was said instead.
#[derive(Clone, Copy)]
pub struct Operator<'c>(&'c Ca);

/// A command that was not done.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// Its exit code.
    pub code: Option<i32>,
    /// What it printed on standard error.
    pub text: String,
}

impl Ca {
    /// The operators' commands about rotation.
    #[must_use]
    pub fn operator(&self) -> Operator<'_> {
        Operator(self)
    }

    /// A client of the operators' socket.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn admin(&self) -> Outcome<Admin> {
        Admin::on_socket(&admin_socket(self.config())?)
    }
}

impl Operator<'_> {
    /// Any command, with `--output json`.
    ///
    /// # Errors
    /// [`Failure`] when it cannot be run, or prints no JSON although it succeeds.
    pub fn run(&self, args: &[&str]) -> Outcome<Result<Value, Refusal>> {
        let Output { status, stdout, stderr } = tools::output(&mut self.0.command(args, &["--output", "json"])?)?;
        if !status.success() {
            return Ok(Err(Refusal { code: status.code(), text: String::from_utf8_lossy(&stderr).into_owned() }));
        }
        serde_json::from_slice(&stdout).map(Ok).map_err(Failure::while_doing("read the JSON of a command"))
    }

    /// A command that must succeed.
    ///
    /// # Errors
    /// [`Failure`] with what it printed.
    pub fn done(&self, args: &[&str]) -> Outcome<Value> {
        self.run(args)?.map_err(|refusal| {
            Failure::unexpected(format!("signet-ca {args:?} ended with {:?}: {}", refusal.code, refusal.text))
        })
    }

    /// A command that must be refused with exit code 1; gives what it says.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn refused(&self, args: &[&str]) -> Outcome<String> {
        match self.run(args)? {
            Err(refusal) if refusal.code == Some(1) => Ok(refusal.text),
            other => Err(Failure::unexpected(format!("signet-ca {args:?} was not refused: {other:?}"))),
        }
    }

    /// `authority list`.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn list(&self) -> Outcome<Value> {
        self.done(&["authority", "list"])
    }

    /// `authority prepare`.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn prepare(&self) -> Outcome<Value> {
        self.done(&["authority", "prepare"])
    }

    /// `authority rollback`.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn rollback(&self) -> Outcome<Value> {
        self.done(&["authority", "rollback"])
    }

    /// `authority activate`.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn activate(&self, id: &str) -> Outcome<Value> {
        self.done(&["authority", "activate", id])
    }

    /// `authority taint`.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn taint(&self, id: &str, reason: &str) -> Outcome<Value> {
        self.done(&["authority", "taint", id, "--reason", reason])
    }

    /// `authority revoke`, again and again as long as requests may be on their way that this authority has signed.
    ///
    /// # Errors
    /// [`Failure`] when it is refused for another reason, or for too long.
    pub async fn revoke(&self, id: &str, reason: &str) -> Outcome<Value> {
        let start = Instant::now();
        loop {
            match self.run(&["authority", "revoke", id, "--reason", reason])? {
                Ok(answer) => return Ok(answer),
                Err(refusal) if refusal.text.contains("on their way") && start.elapsed() < SETTLE => {}
                Err(refusal) => return Err(Failure::unexpected(format!("not revoked: {}", refusal.text))),
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// `authority rotate`, without waiting for its end.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn rotate(&self) -> Outcome<Value> {
        self.done(&["authority", "rotate"])
    }

    /// `authority adopt`, without waiting for its end.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn adopt(&self) -> Outcome<Value> {
        self.done(&["authority", "adopt"])
    }

    /// `certificate revoke`.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn revoke_certificate(&self, serial: &str, reason: &str) -> Outcome<Value> {
        self.done(&["certificate", "revoke", "--serial", serial, "--reason", reason])
    }

    /// `certificate revoke --clear`.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn clear_certificate(&self, serial: &str) -> Outcome<Value> {
        self.done(&["certificate", "revoke", "--serial", serial, "--clear"])
    }

    /// `holders list --behind`: the names of those that have not received the newest bundle.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn behind(&self) -> Outcome<Vec<String>> {
        let answer = self.done(&["holders", "list", "--behind"])?;
        let holders = answer.get("holders").and_then(Value::as_array);
        let holders = holders.ok_or_else(|| Failure::unexpected(format!("holders list printed no list: {answer}")))?;
        Ok(holders.iter().filter_map(|one| one.get("spiffe_id")?.as_str().map(str::to_owned)).collect())
    }
}

/// How long an authority that has just ceased to sign is protected, and a margin.
const SETTLE: Duration = Duration::from_secs(60);
/// How long an operator waits before the same command.
const AGAIN: Duration = Duration::from_millis(500);
/// How long a whole rotation may take on a busy machine, when certificates live half a minute.
pub const ROTATION: Duration = Duration::from_secs(300);
