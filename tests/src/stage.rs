//! The stage of the demo and of the proxy tests: a CA, two agents, two Envoys and a service, all real.

use std::net::SocketAddr;

use crate::failure::Outcome;
use crate::harness::envoy::{Bootstrap, Side};
use crate::harness::{Agent, Ca, Dev, Envoy};
use crate::upstream::Upstream;

/// The identity of the caller in a default installation.
pub const CLIENT_ID: &str = "spiffe://cluster.local/ns/default/sa/client";
/// The identity of the service in a default installation.
pub const SERVER_ID: &str = "spiffe://cluster.local/ns/default/sa/server";

/// Everything between a caller and a service. Fields are stopped from top to bottom.
pub struct Stage {
    /// The proxy beside the caller.
    pub client: Envoy,
    /// The proxy in front of the service.
    pub server: Envoy,
    /// The caller's agent.
    pub client_agent: Agent,
    /// The service's agent.
    pub server_agent: Agent,
    /// The CA.
    pub ca: Ca,
    /// The service.
    pub upstream: Upstream,
    /// The bootstrap of the caller's proxy, to start it again.
    pub client_bootstrap: Bootstrap,
    /// The bootstrap of the service's proxy.
    pub server_bootstrap: Bootstrap,
    /// The installation.
    pub dev: Dev,
}

impl Stage {
    /// Starts everything in an installation and waits until each part is ready. The caller's proxy opens a new
    /// connection every `reconnect_every` requests. `tell` hears about each step.
    ///
    /// # Errors
    /// [`Failure`](crate::failure::Failure) of the first part that does not start.
    pub async fn set(dev: Dev, reconnect_every: u32, tell: impl FnMut(&str)) -> Outcome<Self> {
        Self::set_for(dev, reconnect_every, &[], tell).await
    }

    /// The same, with further callers that the service's proxy admits.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub async fn set_for(
        dev: Dev,
        reconnect_every: u32,
        callers: &[&str],
        mut tell: impl FnMut(&str),
    ) -> Outcome<Self> {
        let upstream = Upstream::start().await?;
        tell(&format!("a service answers on http://{}", upstream.address));
        let ca = dev.start_ca().await?;
        tell(&format!("signet-ca serves CreateCertificate over TLS on {} (pid {})", dev.listen, ca.process.id()));
        let client_agent = dev.start_agent("client").await?;
        let server_agent = dev.start_agent("server").await?;
        for (name, agent) in [("client", &client_agent), ("server", &server_agent)] {
            let (socket, pid) = (agent.socket().display(), agent.process.id());
            tell(&format!("signet-agent of {name} serves SDS on {socket} (pid {pid})"));
        }
        let server_bootstrap = Bootstrap::new(Side::Server, server_agent.socket(), upstream.address, CLIENT_ID)?;
        let server_bootstrap = callers.iter().try_fold(server_bootstrap, |made, caller| made.admit(caller))?;
        let server = Envoy::started("envoy-server", dev.directory(), &server_bootstrap).await?;
        let admitted: Vec<&str> = std::iter::once(&CLIENT_ID).chain(callers).copied().collect();
        tell(&format!("Envoy of server takes mutual TLS on {} and admits {}", server.listen, admitted.join(" and ")));
        let client_bootstrap = Bootstrap::new(Side::Client, client_agent.socket(), server.listen, SERVER_ID)?
            .reconnect_every(reconnect_every)?;
        let client = Envoy::started("envoy-client", dev.directory(), &client_bootstrap).await?;
        tell(&format!("Envoy of client takes HTTP on {} and insists on {SERVER_ID}", client.listen));
        Ok(Self { client, server, client_agent, server_agent, ca, upstream, client_bootstrap, server_bootstrap, dev })
    }

    /// Where the application sends its requests.
    #[must_use]
    pub fn entrance(&self) -> SocketAddr {
        self.client.listen
    }

    /// The processes of the stage.
    #[must_use]
    pub fn processes(&self) -> Vec<u32> {
        [
            &self.client.process,
            &self.server.process,
            &self.client_agent.process,
            &self.server_agent.process,
            &self.ca.process,
        ]
        .map(super::harness::Process::id)
        .to_vec()
    }
}
