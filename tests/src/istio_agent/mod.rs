//! A workload that reaches the CA only through Istio's `CreateCertificate`, as istio-agent and ztunnel do: a new key for
//! every request, renewal at half-life, roots learned from nothing but the last element of a reply.

mod files;
mod renewal;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

pub use files::SecretFiles;

use crate::failure::{Failure, Outcome};
use crate::harness::Dev;

/// How long the first certificate may take.
const FIRST: Duration = Duration::from_secs(60);

/// What the workload holds at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    /// Serial number of its certificate, 32 hexadecimal digits; empty before the first one.
    pub serial: String,
    /// Key id of the issuing CA, hexadecimal.
    pub authority: String,
    /// Key ids of the roots in its newest reply, hexadecimal; before that, of the root file.
    pub roots: Vec<String>,
    /// The leaf and the certificates above it as the newest reply had them, PEM.
    pub reply: Vec<String>,
    /// End of the certificate, seconds since 1970.
    pub not_after: i64,
    /// The header `signet-bundle-sequence` of the newest reply, if there was one.
    pub bundle_sequence: Option<u64>,
    /// Certificates received.
    pub received: u64,
    /// Requests that did not bring one.
    pub failures: u64,
    /// Failures since the last certificate.
    pub failures_in_a_row: u64,
    /// The newest failure.
    pub last_error: String,
}

/// What the workload is and whom it asks.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The CA.
    pub ca: SocketAddr,
    /// The identity that the token proves.
    pub identity: String,
    /// The token's file, read again for every request.
    pub token_file: PathBuf,
    /// PEM roots for the first connection.
    pub root_file: PathBuf,
    /// Lifetime to ask for.
    pub ttl: Duration,
    /// Where the proxy finds its secrets.
    pub secrets: PathBuf,
}

/// The running workload; it stops when this is dropped.
pub struct IstioAgent {
    view: watch::Receiver<View>,
    secrets: SecretFiles,
    _task: JoinSet<()>,
}

impl Settings {
    /// A workload of an installation.
    #[must_use]
    pub fn of(dev: &Dev, workload: &str, identity: &str, ttl: Duration) -> Self {
        Self {
            ca: dev.listen,
            identity: identity.to_owned(),
            token_file: dev.path(&format!("tokens/{workload}.jwt")),
            root_file: dev.path("root-cert.pem"),
            ttl,
            secrets: dev.path(&format!("secrets-{workload}")),
        }
    }
}

impl IstioAgent {
    /// Starts asking.
    ///
    /// # Errors
    /// [`Failure`] when the root file or the directory of secrets cannot be used.
    pub fn start(settings: Settings) -> Outcome<Self> {
        let secrets = SecretFiles::in_directory(&settings.secrets)?;
        let (output, view) = watch::channel(View::default());
        let renewal = renewal::Renewal::new(settings, secrets.clone(), output)?;
        let mut task = JoinSet::new();
        task.spawn(renewal.run());
        Ok(Self { view, secrets, _task: task })
    }

    /// Starts asking and waits for the first certificate.
    ///
    /// # Errors
    /// [`Failure`] with the newest reason why there is none.
    pub async fn started(settings: Settings) -> Outcome<Self> {
        let agent = Self::start(settings)?;
        agent.until("the first certificate", FIRST, |view| view.received >= 1).await?;
        Ok(agent)
    }

    /// What it holds now.
    #[must_use]
    pub fn view(&self) -> View {
        self.view.borrow().clone()
    }

    /// Waits for a state.
    ///
    /// # Errors
    /// [`Failure::Deadline`] with the state that it is in instead.
    pub async fn until(&self, what: &str, within: Duration, mut wanted: impl FnMut(&View) -> bool) -> Outcome<View> {
        let mut view = self.view.clone();
        let awaited = tokio::time::timeout(within, view.wait_for(|view| wanted(view))).await;
        match awaited {
            Ok(Ok(view)) => Ok(view.clone()),
            Ok(Err(_ended)) => Err(Failure::unexpected("the workload has stopped")),
            Err(_late) => {
                let View { received, failures, last_error, roots, authority, .. } = self.view();
                let context = format!(
                    "; it has {received} certificates, the newest by {authority}, roots {roots:?}, and {failures} \
                     failures: {last_error}"
                );
                Err(Failure::Deadline { what: what.to_owned(), within, context })
            }
        }
    }

    /// Where its proxy finds its secrets.
    #[must_use]
    pub fn secrets(&self) -> &SecretFiles {
        &self.secrets
    }
}
