//! A pod that runs: one process of ours in the root of its container.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use signet_test_servers::kubernetes::MadePod;

use super::root::{self, Owner};
use crate::client::admin::Admin;
use crate::failure::{Failure, Outcome};
use crate::harness::volume::Volume;
use crate::harness::{Process, probe};
use crate::tools;

/// How long a pod may take to be ready, on a busy machine with an unoptimised build.
const START: Duration = Duration::from_secs(60);
/// Where the chart has the operators' socket of a CA.
const ADMIN: &str = "/run/signet/ca-admin.sock";

/// The pod. Its process ends when this is dropped.
pub struct Pod {
    /// The process.
    pub process: Process,
    pub(super) place: Place,
}

/// All that a process is started with.
pub(super) struct Place {
    /// The object, as it was when the pod was started.
    pub(super) object: Value,
    /// The container that runs.
    pub(super) container: Value,
    pub(super) address: Ipv4Addr,
    pub(super) program: String,
    pub(super) root: PathBuf,
    pub(super) owner: Owner,
    pub(super) volumes: Vec<(String, Volume)>,
}

impl Pod {
    /// Namespace, name and UID.
    #[must_use]
    pub fn made(&self) -> MadePod {
        let text = |name: &str| self.place.object["metadata"][name].as_str().unwrap_or_default().to_owned();
        MadePod { namespace: text("namespace"), name: text("name"), uid: text("uid") }
    }

    /// The program that runs in it.
    #[must_use]
    pub fn program(&self) -> &str {
        &self.place.program
    }

    /// Where a path of the container is for everybody else.
    #[must_use]
    pub fn path(&self, inside: &str) -> PathBuf {
        root::within(&self.place.root, inside)
    }

    /// The address of a port, by its name.
    ///
    /// # Errors
    /// [`Failure`] when the container has none of that name.
    pub fn port(&self, name: &str) -> Outcome<SocketAddr> {
        let ports = self.place.container.get("ports").and_then(Value::as_array).into_iter().flatten();
        let number = ports.filter(|port| port["name"] == name).find_map(|port| port["containerPort"].as_u64());
        let number = number.and_then(|number| u16::try_from(number).ok());
        let number =
            number.ok_or_else(|| Failure::unexpected(format!("no port {name} in {}", self.place.container)))?;
        Ok((self.place.address, number).into())
    }

    /// What a probe of the container, such as `readinessProbe`, is answered.
    ///
    /// # Errors
    /// [`Failure`] when there is no such probe, or no answer.
    pub async fn probe(&self, kind: &str) -> Outcome<(u16, String)> {
        let get = &self.place.container[kind]["httpGet"];
        let (path, port) = (get["path"].as_str(), get["port"].as_str());
        let (path, port) =
            path.zip(port).ok_or_else(|| Failure::unexpected(format!("no {kind} in {}", self.place.container)))?;
        probe::fetch(self.port(port)?, path).await
    }

    /// Waits until it is ready, as its probe has it.
    ///
    /// # Errors
    /// [`Failure`] with the log.
    pub async fn ready(&mut self) -> Outcome {
        let kinds = ["readinessProbe", "startupProbe"];
        let kind = kinds.into_iter().find(|kind| self.place.container.get(kind).is_some()).unwrap_or_default();
        let (get, container) = (self.place.container[kind]["httpGet"].clone(), self.place.container.clone());
        let port = self.port(get["port"].as_str().unwrap_or_default())?;
        let path = get["path"].as_str().unwrap_or_default().to_owned();
        let answered = async || (probe::fetch(port, &path).await.ok()?.0 == 200).then_some(());
        let name = container["name"].as_str().unwrap_or_default();
        self.process.until(&format!("{kind} of {name}"), START, answered).await
    }

    /// The checks of `/readyz`, whatever they say.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn conditions(&self) -> Outcome<Vec<Value>> {
        let (_, body) = probe::fetch(self.port("ops")?, "/readyz?output=json").await?;
        let answer: Value = serde_json::from_str(&body).map_err(Failure::while_doing("read the answer of /readyz"))?;
        Ok(answer.get("checks").and_then(Value::as_array).cloned().unwrap_or_default())
    }

    /// A command in the container, as `kubectl exec` runs it.
    #[must_use]
    pub fn exec(&self, arguments: &[&str]) -> Command {
        let arguments: Vec<String> = arguments.iter().map(|&one| one.to_owned()).collect();
        root::command(&self.place.root, self.place.owner, &self.place.program, &arguments)
    }

    /// A command of the CA in it, with its configuration; the JSON that it prints.
    ///
    /// # Errors
    /// [`Failure`] with what it printed.
    pub fn ask(&self, arguments: &[&str]) -> Outcome<Value> {
        let more = ["--output", "json", "--config", "/etc/signet/config/signet-ca.yaml"];
        let text = tools::run(&mut self.exec(&[arguments, &more].concat()))?;
        serde_json::from_str(&text).map_err(Failure::while_doing("read the JSON of a command"))
    }

    /// A client of the operators' socket.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn admin(&self) -> Outcome<Admin> {
        Admin::on_socket(&self.path(ADMIN))
    }
}
