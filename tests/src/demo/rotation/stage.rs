//! The stage of the rotation demo: that of `make demo`, a third Envoy that is reached only through Istio's
//! `CreateCertificate`, and a bystander that can be stopped without harm to any request.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::failure::Outcome;
use crate::harness::database::Store;
use crate::harness::entrance::Entrance;
use crate::harness::envoy::{Bootstrap, Side};
use crate::harness::rotation::Pace;
use crate::harness::{Agent, Ca, Dev, DevOptions, Envoy, yaml};
use crate::istio_agent::{IstioAgent, Settings};
use crate::stage::{SERVER_ID, Stage};
use crate::traffic::{Tally, Traffic};

/// The identity of the workload that speaks Istio's protocol only.
pub const ISTIO_ID: &str = "spiffe://cluster.local/ns/istio/sa/web";
/// The identity of the workload that serves nobody.
pub const BYSTANDER_ID: &str = "spiffe://cluster.local/ns/default/sa/bystander";
/// The workload that can be stopped.
pub const BYSTANDER: &str = "bystander";

/// Lifetime of the certificates of agents.
pub const SVID_TTL: &str = "30s";
/// Lifetime of the certificates of the Istio client, in seconds: it learns roots by renewing only.
pub const ISTIO_TTL: u64 = 20;
/// Lifetime of the bystander's certificates: what is left of it after a renewal is longer than the Istio client needs
/// to learn a root.
pub const BYSTANDER_TTL: &str = "40s";

/// Clients of each path, and the pause of each between two requests: more than 200 a second together.
const WORKERS: usize = 5;
const PAUSE: Duration = Duration::from_millis(25);

/// Everything that takes part. Fields are stopped from top to bottom.
pub struct Cast {
    /// The proxy of the Istio client.
    pub istio_proxy: Envoy,
    /// The Istio client.
    pub istio: IstioAgent,
    /// The agent without a proxy.
    pub bystander: Agent,
    /// The second CA process, where there are two.
    replica: Mutex<Option<Ca>>,
    _entrance: Option<Entrance>,
    /// Caller, service and CA.
    pub stage: Stage,
}

/// Requests on both paths.
pub struct Requests {
    /// Through the agents' proxies.
    agents: Traffic,
    /// From the Istio client's proxy.
    istio: Traffic,
}

impl Cast {
    /// Starts everything and waits until each part is ready.
    ///
    /// # Errors
    /// [`Failure`](crate::failure::Failure) of the first part that does not start.
    pub async fn enter(mut tell: impl FnMut(&str)) -> Outcome<Self> {
        let workloads = ["client=default/client", "server=default/server", "istio=istio/web"];
        let bystander = format!("{BYSTANDER}=default/{BYSTANDER}");
        let dev = Dev::init(&DevOptions {
            svid_ttl: Some(SVID_TTL.into()),
            workloads: workloads.iter().map(|&text| text.to_owned()).chain([bystander]).collect(),
            ..DevOptions::default()
        })?;
        dev.set_pace(&Pace { propagation: "3s", renewal_window: "8s", issuing_ttl: "3m", serving_ttl: "40s" })?;
        dev.edit(&format!("agent-{BYSTANDER}.yaml"), |config| yaml::set(config, "svid.ttl", BYSTANDER_TTL))?;
        let pair = if Store::wanted()? == Store::Postgres { Some(dev.pair().await?) } else { None };
        let stage = Stage::set_for(dev, 3, &[ISTIO_ID], &mut tell).await?;
        let (mut replica, mut entrance) = (None, None);
        if let Some((second, door)) = pair {
            let ca = second.start(&stage.dev).await?;
            tell(&format!("a second signet-ca on the same database shares the address (pid {})", ca.process.id()));
            (replica, entrance) = (Some(ca), Some(door));
        }
        let settings = Settings::of(&stage.dev, "istio", ISTIO_ID, Duration::from_secs(ISTIO_TTL));
        let istio = IstioAgent::started(settings).await?;
        let bootstrap = Bootstrap::fed_by_files(Side::Client, istio.secrets(), stage.server.listen, SERVER_ID)?;
        let istio_proxy = Envoy::started("envoy-istio", stage.dev.directory(), &bootstrap.reconnect_every(3)?).await?;
        tell(&format!(
            "Envoy of {ISTIO_ID} reads its secrets from files; its client knows only CreateCertificate and renews \
             every {} s or so",
            ISTIO_TTL / 2
        ));
        let bystander = stage.dev.start_agent(BYSTANDER).await?;
        tell(&format!(
            "signet-agent of {BYSTANDER_ID} has a certificate and no proxy (pid {})",
            bystander.process.id()
        ));
        Ok(Self { istio_proxy, istio, bystander, replica: Mutex::new(replica), _entrance: entrance, stage })
    }

    /// Starts requests on both paths.
    #[must_use]
    pub fn requests(&self) -> Requests {
        Requests {
            agents: Traffic::start(self.stage.entrance(), WORKERS, PAUSE),
            istio: Traffic::start(self.istio_proxy.listen, WORKERS, PAUSE),
        }
    }

    /// Kills the second CA process for good, if there is one: gives its process id.
    #[must_use]
    pub fn kill_replica(&self) -> Option<u32> {
        let mut replica = self.replica.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        replica.process.kill();
        Some(replica.process.id())
    }

    /// The three proxies with their names.
    #[must_use]
    pub fn proxies(&self) -> [(&'static str, &Envoy); 3] {
        [("client", &self.stage.client), ("server", &self.stage.server), ("istio", &self.istio_proxy)]
    }
}

impl Requests {
    /// What has happened on both paths so far.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.agents.tally().plus(self.istio.tally())
    }

    /// Ends the requests and gives the final count.
    pub async fn stop(self) -> Tally {
        self.agents.stop().await.plus(self.istio.stop().await)
    }
}
