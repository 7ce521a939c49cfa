//! A running `signet-agent run`.

use std::io::PipeReader;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use signet_proto::agent::v1alpha1::agent_inspection_client::AgentInspectionClient;
use signet_proto::agent::v1alpha1::{Identity, InspectRequest, InspectResponse};
use tonic::transport::{Channel, Endpoint};

use super::metrics::Metrics;
use super::{Dev, Process, probe, yaml};
use crate::failure::{Failure, Outcome};

const START: Duration = Duration::from_secs(60);

/// The agent's process and how to talk to it.
pub struct Agent {
    /// The process.
    pub process: Process,
    ops: SocketAddr,
    socket: PathBuf,
}

impl Agent {
    /// Starts the agent of a workload.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn start(dev: &Dev, workload: &str) -> Outcome<Self> {
        let command = dev.agent_command(workload, &["run"])?;
        Self::of(dev, workload, Process::start_command(&format!("agent-{workload}"), command, dev.directory())?)
    }

    /// Starts it with a log that nobody reads.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn start_unread(dev: &Dev, workload: &str) -> Outcome<(Self, PipeReader)> {
        let command = dev.agent_command(workload, &["run"])?;
        let (process, log) = Process::start_unread(&format!("agent-{workload}"), command, dev.directory())?;
        Ok((Self::of(dev, workload, process)?, log))
    }

    fn of(dev: &Dev, workload: &str, process: Process) -> Outcome<Self> {
        let config = yaml::read(&dev.path(&format!("agent-{workload}.yaml")))?;
        let ops = yaml::text(&config, "/ops")?.parse().map_err(Failure::while_doing("read the agent's ops address"))?;
        let socket = yaml::text(&config, "/sds/socket")?.trim_start_matches("unix://").into();
        Ok(Self { process, ops, socket })
    }

    /// The Unix socket that proxies connect to.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Waits until `/readyz` says so.
    ///
    /// # Errors
    /// [`Failure`] with the log.
    pub async fn ready(&mut self) -> Outcome {
        let ops = self.ops;
        self.process
            .until("readiness", START, async || {
                matches!(probe::fetch(ops, "/readyz").await, Ok((200, _))).then_some(())
            })
            .await
    }

    /// Status code and JSON of `/readyz`.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn readiness(&self) -> Outcome<(u16, Value)> {
        let (status, body) = probe::fetch(self.ops, "/readyz?output=json").await?;
        Ok((status, serde_json::from_str(&body).unwrap_or(Value::String(body))))
    }

    /// One scrape of `/metrics`.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn metrics(&self) -> Outcome<Metrics> {
        Ok(Metrics::parse(&probe::fetch(self.ops, "/metrics").await?.1))
    }

    /// A gRPC channel to the socket.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn channel(&self) -> Outcome<Channel> {
        Endpoint::from_shared(format!("unix://{}", self.socket.display()))
            .map_err(Failure::while_doing("name the agent's socket"))?
            .connect_timeout(Duration::from_secs(30))
            .connect()
            .await
            .map_err(Failure::while_doing("connect to the agent's socket"))
    }

    /// What the agent says about itself.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn inspect(&self) -> Outcome<InspectResponse> {
        let mut client = AgentInspectionClient::new(self.channel().await?);
        let answer = client.inspect(InspectRequest {}).await.map_err(Failure::while_doing("inspect the agent"))?;
        Ok(answer.into_inner())
    }

    /// The one identity of a sidecar agent.
    ///
    /// # Errors
    /// [`Failure`], also when there is none.
    pub async fn identity(&self) -> Outcome<Identity> {
        let identities = self.inspect().await?.identities;
        identities.into_iter().next().ok_or_else(|| Failure::unexpected("the agent keeps no identity"))
    }
}
