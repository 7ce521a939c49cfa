//! A real Envoy, configured by the bootstraps that we ship in `deploy/envoy`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::metrics::Metrics;
use super::{Process, ports, probe, yaml};
use crate::failure::{Failure, Outcome};
use crate::tools;

const START: Duration = Duration::from_secs(60);
const LISTENER_PORT: &str = "/static_resources/listeners/0/address/socket_address/port_value";
const ADMIN_PORT: &str = "/admin/address/socket_address/port_value";
const SERVICE_PORT: &str = "/static_resources/clusters/0/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address/port_value";
const AGENT_SOCKET: &str =
    "/static_resources/clusters/1/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/pipe/path";
const REQUESTS_PER_CONNECTION: &str = "/static_resources/clusters/0/typed_extension_protocol_options/envoy.extensions.upstreams.http.v3.HttpProtocolOptions/common_http_protocol_options/max_requests_per_connection";
const CONNECT_TIMEOUT: &str = "/static_resources/clusters/0/connect_timeout";
const AGENT_CONNECT_TIMEOUT: &str = "/static_resources/clusters/1/connect_timeout";
/// Within the one second that we ship, a busy machine may not get through a handshake, and a request would fail for that.
const PATIENT: &str = "14s";
const SERVER_TLS: &str = "/static_resources/listeners/0/filter_chains/0/transport_socket/typed_config";
const CLIENT_TLS: &str = "/static_resources/clusters/0/transport_socket/typed_config";
const PEER: &str = "/common_tls_context/combined_validation_context/default_validation_context/match_typed_subject_alt_names/0/matcher/exact";

/// Which of the two shipped bootstraps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The proxy beside the caller.
    Client,
    /// The proxy in front of the service.
    Server,
}

impl Side {
    fn file(self) -> &'static str {
        match self {
            Self::Client => "client.yaml",
            Self::Server => "server.yaml",
        }
    }

    /// The pointer to the transport socket that speaks mutual TLS.
    #[must_use]
    pub fn tls(self) -> &'static str {
        match self {
            Self::Client => CLIENT_TLS,
            Self::Server => SERVER_TLS,
        }
    }
}

/// A shipped bootstrap with its marked places filled in.
#[derive(Debug, Clone)]
pub struct Bootstrap {
    /// The whole document.
    pub document: Value,
    side: Side,
    /// Where the proxy listens.
    pub listen: SocketAddr,
    admin: SocketAddr,
}

impl Bootstrap {
    /// Fills in free ports, the agent's socket, the address behind the proxy, the identity the peer must have, and more
    /// patience.
    ///
    /// # Errors
    /// [`Failure`], also when a marked place is no longer where it was.
    pub fn new(side: Side, agent_socket: &Path, forward_to: SocketAddr, peer: &str) -> Outcome<Self> {
        let mut made = Self::of(side.file(), side, forward_to, peer)?;
        yaml::replace(&mut made.document, AGENT_SOCKET, agent_socket.to_string_lossy())?;
        yaml::replace(&mut made.document, AGENT_CONNECT_TIMEOUT, PATIENT)?;
        Ok(made)
    }

    /// A shipped bootstrap that has everything but its secrets where the one of this side has it, with free ports, what is
    /// behind the proxy, the identity the peer must have, and more patience.
    pub(super) fn of(file: &str, side: Side, forward_to: SocketAddr, peer: &str) -> Outcome<Self> {
        let mut document = yaml::read(&tools::source_root().join("deploy/envoy").join(file))?;
        let (listen, admin) = (ports::free()?, ports::free()?);
        yaml::replace(&mut document, LISTENER_PORT, listen.port())?;
        yaml::replace(&mut document, ADMIN_PORT, admin.port())?;
        yaml::replace(&mut document, SERVICE_PORT, forward_to.port())?;
        yaml::replace(&mut document, &format!("{}{PEER}", side.tls()), peer)?;
        yaml::replace(&mut document, CONNECT_TIMEOUT, PATIENT)?;
        Ok(Self { document, side, listen, admin })
    }

    /// A bootstrap of a file that needs nothing but free ports.
    ///
    /// # Errors
    /// [`Failure`], also when a place is no longer where it was.
    pub fn of_file(file: &Path, side: Side) -> Outcome<Self> {
        let mut document = yaml::read(file)?;
        let (listen, admin) = (ports::free()?, ports::free()?);
        yaml::replace(&mut document, LISTENER_PORT, listen.port())?;
        yaml::replace(&mut document, ADMIN_PORT, admin.port())?;
        Ok(Self { document, side, listen, admin })
    }

    /// Makes a client proxy open a new connection every so many requests, so that renewed certificates are used soon.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn reconnect_every(mut self, requests: u32) -> Outcome<Self> {
        yaml::replace(&mut self.document, REQUESTS_PER_CONNECTION, requests)?;
        Ok(self)
    }
}

/// An Envoy process.
pub struct Envoy {
    /// The process.
    pub process: Process,
    /// Where it listens for the application or for callers.
    pub listen: SocketAddr,
    admin: SocketAddr,
}

/// One certificate as Envoy's admin port shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Serial number, lower-case hexadecimal.
    pub serial: String,
    /// URI SANs.
    pub uris: Vec<String>,
}

impl Envoy {
    /// Starts Envoy; the bootstrap and the log lie in `directory`.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn start(name: &str, directory: &Path, bootstrap: &Bootstrap) -> Outcome<Self> {
        let program = tools::envoy()?;
        let file = directory.join(format!("{name}.json"));
        yaml::write(&file, &bootstrap.document)?;
        let file = file.to_string_lossy();
        let args = ["-c", &*file, "--disable-hot-restart", "--concurrency", "1", "--log-level", "warning"];
        let process = Process::start(name, &program, &args, directory)?;
        Ok(Self { process, listen: bootstrap.listen, admin: bootstrap.admin })
    }

    /// Starts Envoy and waits until it has its secrets and serves.
    ///
    /// # Errors
    /// [`Failure`] with the log.
    pub async fn started(name: &str, directory: &Path, bootstrap: &Bootstrap) -> Outcome<Self> {
        let mut envoy = Self::start(name, directory, bootstrap)?;
        envoy.ready().await?;
        Ok(envoy)
    }

    /// Waits until the admin port says live.
    ///
    /// # Errors
    /// [`Failure`] with the log.
    pub async fn ready(&mut self) -> Outcome {
        let admin = self.admin;
        self.process
            .until("readiness", START, async || {
                matches!(probe::fetch(admin, "/ready").await, Ok((200, _))).then_some(())
            })
            .await
    }

    /// Whether it is live at this moment.
    pub async fn is_ready(&self) -> bool {
        matches!(probe::fetch(self.admin, "/ready").await, Ok((200, _)))
    }

    /// Its counters, by their Prometheus names.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn stats(&self) -> Outcome<Metrics> {
        Ok(Metrics::parse(&probe::fetch(self.admin, "/stats/prometheus").await?.1))
    }

    /// One counter or gauge by Envoy's own name; zero when there is none.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn stat(&self, name: &str) -> Outcome<u64> {
        let (_, text) = probe::fetch(self.admin, "/stats").await?;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")?.trim().parse().ok());
        Ok(value.unwrap_or(0))
    }

    /// The answer of its admin port.
    pub(super) async fn dump(&self, path: &str) -> Outcome<String> {
        Ok(probe::fetch(self.admin, path).await?.1)
    }

    /// The secrets that it holds, with the version that it shows of each.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn versions(&self) -> Outcome<BTreeMap<String, String>> {
        let text = self.dump("/config_dump?resource=dynamic_active_secrets").await?;
        let answer: Value = serde_json::from_str(&text).map_err(Failure::while_doing("read Envoy's secrets"))?;
        let secrets = answer.get("configs").and_then(Value::as_array).cloned().unwrap_or_default();
        let text = |secret: &Value, key: &str| secret.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        Ok(secrets.iter().map(|secret| (text(secret, "name"), text(secret, "version_info"))).collect())
    }

    /// What its admin port says of certificates: one set for each place where some are used.
    async fn certificate_sets(&self) -> Outcome<Vec<Value>> {
        let (_, text) = probe::fetch(self.admin, "/certs").await?;
        let answer: Value = serde_json::from_str(&text).map_err(Failure::while_doing("read Envoy's certificates"))?;
        Ok(answer.get("certificates").and_then(Value::as_array).cloned().unwrap_or_default())
    }

    /// The certificates with which it identifies itself.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn certificates(&self) -> Outcome<Vec<Loaded>> {
        let sets = self.certificate_sets().await?;
        let chains = sets.iter().filter_map(|set| set.pointer("/cert_chain/0"));
        Ok(chains
            .map(|leaf| Loaded {
                serial: serial_of(leaf),
                uris: leaf
                    .get("subject_alt_names")
                    .and_then(Value::as_array)
                    .into_iter()
                    .flatten()
                    .filter_map(|name| name.get("uri")?.as_str().map(str::to_owned))
                    .collect(),
            })
            .collect())
    }

    /// The serial numbers of the roots that it trusts.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn trusted_serials(&self) -> Outcome<Vec<String>> {
        let sets = self.certificate_sets().await?;
        let roots = sets.iter().filter_map(|set| set.get("ca_cert")?.as_array()).flatten();
        Ok(roots.map(serial_of).collect())
    }
}

fn serial_of(certificate: &Value) -> String {
    certificate.get("serial_number").and_then(Value::as_str).unwrap_or_default().to_lowercase()
}

impl Bootstrap {
    /// Which of the two it is.
    #[must_use]
    pub fn side(&self) -> Side {
        self.side
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn every_marked_place_of_the_shipped_bootstraps_is_found() {
        let behind = SocketAddr::from(([127, 0, 0, 1], 7));
        for side in [Side::Client, Side::Server] {
            let made = Bootstrap::new(side, Path::new("/tmp/a.sock"), behind, "spiffe://td/ns/a/sa/b").unwrap();
            let text = made.document.to_string();
            assert!(text.contains("/tmp/a.sock") && text.contains("spiffe://td/ns/a/sa/b"), "{text}");
            assert!(!text.contains("/run/signet") && !text.contains("cluster.local"), "{text}");
        }
        let client = Bootstrap::new(Side::Client, Path::new("/tmp/a.sock"), behind, "x").unwrap();
        assert!(client.reconnect_every(3).is_ok());
    }
}
