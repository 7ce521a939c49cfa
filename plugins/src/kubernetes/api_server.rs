//! How the API server of a cluster is reached, as whom, and what it means when it does not do what it was asked.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http_body_util::{BodyExt, Limited};
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use ring::digest::{Context, SHA256};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use signet_core::seams::authenticator::{AuthenticationError, Outage};

/// How long the connection to an API server may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(4);
/// Where Kubernetes mounts what a pod needs to speak to its API server.
const IN_CLUSTER_CA: &str = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt";

/// As whom an API server is spoken to, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    /// As a kubeconfig file says: its current context.
    Kubeconfig(PathBuf),
    /// As the pod that this process runs in.
    InCluster,
    /// As nobody, for what anybody may read.
    Anonymous {
        /// Scheme, host and port; the rest does not matter.
        url: http::Uri,
        /// The roots that its certificate chains to; those of the system when there is none.
        ca_file: Option<PathBuf>,
    },
}

impl fmt::Display for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kubeconfig(file) => write!(f, "{}", file.display()),
            Self::InCluster => f.write_str("in-cluster credentials"),
            Self::Anonymous { url, .. } => write!(f, "{}", url.authority().map_or("", |authority| authority.as_str())),
        }
    }
}

/// The credentials for an API server cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{credentials}: {problem}")]
pub struct ApiServerError {
    /// Which.
    pub credentials: String,
    /// What is wrong with them.
    pub problem: String,
}

/// The API server of a cluster. Requests are sent at once and once: no queue, no limiter and no second attempt that nobody
/// sees.
pub struct ApiServer {
    credentials: Credentials,
    current: ArcSwap<Current>,
}

struct Current {
    client: Client,
    /// What the credentials were made of.
    fingerprint: [u8; 32],
}

impl ApiServer {
    /// Reads the credentials; nothing is sent.
    ///
    /// # Errors
    /// [`ApiServerError`].
    pub async fn open(credentials: Credentials) -> Result<Self, ApiServerError> {
        let current = ArcSwap::from_pointee(current(&credentials).await?);
        Ok(Self { credentials, current })
    }

    /// Reads the credentials anew when one of their files has changed; tells whether that was so. Tokens in files need no
    /// such look.
    ///
    /// # Errors
    /// [`ApiServerError`]; those in use stay.
    pub async fn renew(&self) -> Result<bool, ApiServerError> {
        let newer = current(&self.credentials).await?;
        let changed = newer.fingerprint != self.current.load().fingerprint;
        if changed {
            self.current.store(Arc::new(newer));
        }
        Ok(changed)
    }

    /// As whom it is spoken to.
    #[must_use]
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// A client with the credentials as they are now.
    #[must_use]
    pub fn client(&self) -> Client {
        self.current.load().client.clone()
    }

    /// What is at `path`, at most `most` bytes of the kinds in `accept`.
    ///
    /// # Errors
    /// [`AuthenticationError::Unavailable`].
    pub async fn get(&self, path: &str, accept: &str, most: usize) -> Result<Vec<u8>, AuthenticationError> {
        let failed = |detail: String| AuthenticationError::unavailable(Outage::ApiFailed, detail);
        let request = http::Request::get(path).header(http::header::ACCEPT, accept).body(Body::empty());
        let request = request.map_err(|error| failed(error.to_string()))?;
        let response = self.client().send(request).await.map_err(|error| outage(&error))?;
        let status = response.status();
        if !status.is_success() {
            let problem = format!("GET {path} was answered {status}");
            return Err(AuthenticationError::unavailable(of_status(status.as_u16()), problem));
        }
        let body = Limited::new(response.into_body(), most).collect().await;
        let body = body.map_err(|error| failed(format!("GET {path}: the answer cannot be read: {error}")))?;
        Ok(body.to_bytes().to_vec())
    }
}

impl fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiServer").field("credentials", &self.credentials).finish_non_exhaustive()
    }
}

async fn current(credentials: &Credentials) -> Result<Current, ApiServerError> {
    let failed = |problem: String| ApiServerError { credentials: credentials.to_string(), problem };
    let mut context = Context::new(&SHA256);
    let mut config = match credentials {
        Credentials::Kubeconfig(file) => {
            let read = Kubeconfig::read_from(file).map_err(|error| failed(chain(&error)))?;
            for file in std::iter::once(file.as_path()).chain(files(&read)) {
                digest(&mut context, file).await.map_err(failed)?;
            }
            let config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await;
            config.map_err(|error| failed(chain(&error)))?
        }
        Credentials::InCluster => {
            digest(&mut context, Path::new(IN_CLUSTER_CA)).await.map_err(failed)?;
            Config::incluster().map_err(|error| failed(chain(&error)))?
        }
        Credentials::Anonymous { url, ca_file } => {
            let origin = format!(
                "{}://{}",
                url.scheme_str().unwrap_or("https"),
                url.authority().map_or("", |authority| authority.as_str())
            );
            let origin = origin.parse().map_err(|error| failed(format!("{origin}: {error}")))?;
            let mut config = Config::new(origin);
            if let Some(file) = ca_file {
                digest(&mut context, file).await.map_err(failed)?;
                config.root_cert = Some(roots(file).await.map_err(failed)?);
            }
            config
        }
    };
    config.connect_timeout = Some(CONNECT_WITHIN);
    // Whoever asks decides about a second attempt.
    config.default_retry = false;
    let client = Client::try_from(config).map_err(|error| failed(chain(&error)))?;
    let mut fingerprint = [0; 32];
    fingerprint.copy_from_slice(context.finish().as_ref());
    Ok(Current { client, fingerprint })
}

/// The files that a kubeconfig names and the client reads only once.
fn files(read: &Kubeconfig) -> impl Iterator<Item = &Path> {
    let clusters = read.clusters.iter().filter_map(|named| named.cluster.as_ref()?.certificate_authority.as_ref());
    let users = read.auth_infos.iter().filter_map(|named| named.auth_info.as_ref());
    let users = users.flat_map(|user| [&user.client_certificate, &user.client_key].into_iter().flatten());
    clusters.chain(users).map(Path::new)
}

/// The certificates of a PEM file.
async fn roots(file: &Path) -> Result<Vec<Vec<u8>>, String> {
    let content = tokio::fs::read(file).await.map_err(|error| format!("{}: {error}", file.display()))?;
    let blocks = CertificateDer::pem_slice_iter(&content).collect::<Result<Vec<_>, _>>();
    let blocks = blocks.map_err(|error| format!("{}: {error}", file.display()))?;
    if blocks.is_empty() {
        return Err(format!("{}: there is no certificate in it", file.display()));
    }
    Ok(blocks.into_iter().map(|block| block.to_vec()).collect())
}

async fn digest(context: &mut Context, file: &Path) -> Result<(), String> {
    let content = tokio::fs::read(file).await.map_err(|error| format!("{}: {error}", file.display()))?;
    context.update(&u64::try_from(content.len()).unwrap_or(u64::MAX).to_be_bytes());
    context.update(&content);
    Ok(())
}

/// What it means for those who wait that a request to an API server has failed. 401 and 403 are about us, never about them.
pub(crate) fn outage(error: &kube::Error) -> AuthenticationError {
    let reason = match error {
        kube::Error::Api(status) => of_status(status.code),
        kube::Error::HyperError(_) | kube::Error::Service(_) | kube::Error::ReadEvents(_) => Outage::ApiUnreachable,
        kube::Error::Auth(_) => Outage::ApiUnauthorized,
        _ => Outage::ApiFailed,
    };
    let detail = match error {
        kube::Error::Api(status) => format!("the API server answered {}: {}", status.code, shorten(&status.message)),
        error => shorten(&chain(error)),
    };
    AuthenticationError::unavailable(reason, detail)
}

fn of_status(code: u16) -> Outage {
    match code {
        401 => Outage::ApiUnauthorized,
        403 => Outage::ApiForbidden,
        429 => Outage::ApiThrottled,
        408 | 504 => Outage::ApiTimedOut,
        _ => Outage::ApiFailed,
    }
}

fn shorten(text: &str) -> String {
    text.chars().take(300).collect()
}

/// An error with its causes; those that repeat what was said before say it once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}
