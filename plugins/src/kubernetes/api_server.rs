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
        let fingerprint = fingerprint(&credentials).await?;
        let current = ArcSwap::from_pointee(Current { client: client(&credentials).await?, fingerprint });
        Ok(Self { credentials, current })
    }

    /// Reads the credentials anew when one of their files has changed; tells whether that was so. Tokens in files need no
    /// such look.
    ///
    /// # Errors
    /// [`ApiServerError`]; those in use stay.
    pub async fn renew(&self) -> Result<bool, ApiServerError> {
        let fingerprint = fingerprint(&self.credentials).await?;
        if fingerprint == self.current.load().fingerprint {
            return Ok(false);
        }
        self.current.store(Arc::new(Current { client: client(&self.credentials).await?, fingerprint }));
        Ok(true)
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

/// Reads what the credentials are made of, before they are: a change in between is seen at the next look.
async fn fingerprint(credentials: &Credentials) -> Result<[u8; 32], ApiServerError> {
    let failed = |problem: String| ApiServerError { credentials: credentials.to_string(), problem };
    let mut context = Context::new(&SHA256);
    match credentials {
        Credentials::Kubeconfig(file) => {
            let read = Kubeconfig::read_from(file).map_err(|error| failed(chain(&error)))?;
            for file in std::iter::once(file.as_path()).chain(files(&read)) {
                digest(&mut context, file).await.map_err(failed)?;
            }
        }
        Credentials::InCluster => digest(&mut context, Path::new(IN_CLUSTER_CA)).await.map_err(failed)?,
        Credentials::Anonymous { ca_file, .. } => {
            if let Some(file) = ca_file {
                digest(&mut context, file).await.map_err(failed)?;
            }
        }
    }
    let mut fingerprint = [0; 32];
    fingerprint.copy_from_slice(context.finish().as_ref());
    Ok(fingerprint)
}

async fn client(credentials: &Credentials) -> Result<Client, ApiServerError> {
    let failed = |problem: String| ApiServerError { credentials: credentials.to_string(), problem };
    let mut config = match credentials {
        Credentials::Kubeconfig(file) => {
            let read = Kubeconfig::read_from(file).map_err(|error| failed(chain(&error)))?;
            let config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await;
            config.map_err(|error| failed(chain(&error)))?
        }
        Credentials::InCluster => Config::incluster().map_err(|error| failed(chain(&error)))?,
        Credentials::Anonymous { url, ca_file } => {
            let origin = format!(
                "{}://{}",
                url.scheme_str().unwrap_or("https"),
                url.authority().map_or("", |authority| authority.as_str())
            );
            let origin = origin.parse().map_err(|error| failed(format!("{origin}: {error}")))?;
            let mut config = Config::new(origin);
            if let Some(file) = ca_file {
                config.root_cert = Some(roots(file).await.map_err(failed)?);
            }
            config
        }
    };
    // With no root at all every server would be a stranger.
    if config.root_cert.as_ref().is_some_and(Vec::is_empty) {
        return Err(failed(
            "there is no certificate in the file of the API server's CA (certificate-authority)".to_owned(),
        ));
    }
    config.connect_timeout = Some(CONNECT_WITHIN);
    // Whoever asks decides about a second attempt.
    config.default_retry = false;
    Client::try_from(config).map_err(|error| failed(chain(&error)))
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[tokio::test]
    async fn credentials_are_renewed_when_a_file_of_theirs_changes_and_kept_while_they_are_no_good() {
        let directory = tempfile::tempdir().unwrap();
        let (kubeconfig, ca) = (directory.path().join("kubeconfig"), directory.path().join("ca.crt"));
        let root = |name: &str| {
            let key = rcgen::KeyPair::generate().unwrap();
            rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap().self_signed(&key).unwrap().pem()
        };
        std::fs::write(&ca, root("one")).unwrap();
        let text = "apiVersion: v1\nkind: Config\ncurrent-context: a\n\
            clusters: [{name: a, cluster: {server: \"https://127.0.0.1:1\", certificate-authority: ca.crt}}]\n\
            users: [{name: a, user: {token: t}}]\ncontexts: [{name: a, context: {cluster: a, user: a}}]\n";
        std::fs::write(&kubeconfig, text).unwrap();
        let server = ApiServer::open(Credentials::Kubeconfig(kubeconfig.clone())).await.unwrap();
        assert!(!server.renew().await.unwrap(), "nothing has changed");
        std::fs::write(&ca, root("two")).unwrap();
        assert!(server.renew().await.unwrap() && !server.renew().await.unwrap());
        for (what, file, content) in [("no PEM", &ca, "x"), ("no kubeconfig", &kubeconfig, "[")] {
            let before = std::fs::read(file).unwrap();
            std::fs::write(file, content).unwrap();
            let error = server.renew().await.unwrap_err().to_string();
            assert!(error.contains("kubeconfig"), "{what}: {error}");
            std::fs::write(file, before).unwrap();
            assert!(!server.renew().await.unwrap(), "{what}: as it was");
        }
        std::fs::remove_file(&ca).unwrap();
        assert!(server.renew().await.unwrap_err().to_string().contains("ca.crt"));
        let missing = ApiServer::open(Credentials::Kubeconfig(directory.path().join("none"))).await.unwrap_err();
        assert!(missing.to_string().contains("none"), "{missing}");
    }
}
