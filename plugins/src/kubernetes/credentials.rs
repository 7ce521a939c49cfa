//! As whom an API server is spoken to: the files that say so, read once and as a whole, so that what is used is what was
//! looked at. The client itself reads none, since a file that hangs would hold it for ever.

use std::fmt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube::Config;
use kube::config::{AuthInfo, Cluster, KubeConfigOptions, Kubeconfig, KubeconfigError};
use ring::digest::{Context, SHA256};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::api_server::chain;
use crate::files::Files;

/// As whom an API server is spoken to, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    /// As a kubeconfig file says: its current context.
    Kubeconfig(PathBuf),
    /// As the pod that this process runs in.
    InCluster(InCluster),
    /// As nobody, for what anybody may read.
    Anonymous {
        /// Scheme, host and port; the rest does not matter.
        url: http::Uri,
        /// The roots that its certificate chains to; those of the system when there is none.
        ca_file: Option<PathBuf>,
    },
}

/// What Kubernetes gives a pod to speak to its API server with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InCluster {
    /// `KUBERNETES_SERVICE_HOST` of its environment.
    pub host: Option<String>,
    /// `KUBERNETES_SERVICE_PORT` of its environment.
    pub port: Option<String>,
    /// Where `token` and `ca.crt` are mounted.
    pub directory: PathBuf,
}

impl fmt::Display for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kubeconfig(file) => write!(f, "{}", file.display()),
            Self::InCluster(_) => f.write_str("in-cluster credentials"),
            Self::Anonymous { url, .. } => write!(f, "{}", url.authority().map_or("", |authority| authority.as_str())),
        }
    }
}

/// The configuration of a client, and a fingerprint of the files that it was made of.
///
/// # Errors
/// What is wrong with them; secrets are not told.
pub(super) async fn load(credentials: &Credentials, files: &Files) -> Result<(Config, [u8; 32]), String> {
    let mut reader = Reader { files, seen: Context::new(&SHA256) };
    let config = match credentials {
        Credentials::Kubeconfig(file) => kubeconfig(file, &mut reader).await?,
        Credentials::InCluster(pod) => in_cluster(pod, &mut reader).await?,
        Credentials::Anonymous { url, ca_file } => {
            let authority = url.authority().map_or("", |authority| authority.as_str());
            let mut config = Config::new(uri(&format!("{}://{authority}", url.scheme_str().unwrap_or("https")))?);
            if let Some(file) = ca_file {
                config.root_cert = Some(reader.roots(file).await?);
            }
            config
        }
    };
    let mut fingerprint = [0; 32];
    fingerprint.copy_from_slice(reader.seen.finish().as_ref());
    Ok((config, fingerprint))
}

/// The current context of a kubeconfig, with the content of the files that it names in their place.
async fn kubeconfig(file: &Path, reader: &mut Reader<'_>) -> Result<Config, String> {
    let text = reader.text(file).await?;
    let mut read = Kubeconfig::from_yaml(&text).map_err(|error| unreadable(&error))?;
    let named = read.current_context.as_ref().and_then(|current| read.contexts.iter().find(|one| one.name == *current));
    let context = named.and_then(|named| named.context.clone());
    // Without one, the client says so.
    if let Some(context) = context {
        let directory = file.parent().unwrap_or(Path::new(""));
        let cluster = read.clusters.iter_mut().filter(|one| one.name == context.cluster);
        for cluster in cluster.filter_map(|one| one.cluster.as_mut()) {
            with_roots(cluster, directory, reader).await?;
        }
        let user = read.auth_infos.iter_mut().filter(|one| Some(&one.name) == context.user.as_ref());
        for user in user.filter_map(|one| one.auth_info.as_mut()) {
            with_proof(user, directory, reader).await?;
        }
    }
    Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await.map_err(|error| chain(&error))
}

/// That something is no kubeconfig. What a parser says may quote what stands there, such as a token: only the place is told.
fn unreadable(error: &KubeconfigError) -> String {
    let said = error.to_string();
    let number = |after: &str| -> Option<u64> {
        let (_, rest) = said.split_once(after)?;
        rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    };
    match (error, number("line "), number("column ")) {
        (KubeconfigError::Parse(_), Some(line), Some(column)) => {
            format!("is no kubeconfig: line {line}, column {column} cannot be read")
        }
        (KubeconfigError::Parse(_), _, _) => "is no kubeconfig".to_owned(),
        (error, _, _) => chain(error),
    }
}

async fn with_roots(cluster: &mut Cluster, directory: &Path, reader: &mut Reader<'_>) -> Result<(), String> {
    if let Some(file) = cluster.certificate_authority.take()
        && cluster.certificate_authority_data.is_none()
    {
        cluster.certificate_authority_data = Some(STANDARD.encode(reader.read(&directory.join(file)).await?));
    }
    Ok(())
}

async fn with_proof(user: &mut AuthInfo, directory: &Path, reader: &mut Reader<'_>) -> Result<(), String> {
    if let Some(file) = user.client_certificate.take()
        && user.client_certificate_data.is_none()
    {
        user.client_certificate_data = Some(STANDARD.encode(reader.read(&directory.join(file)).await?));
    }
    if let Some(file) = user.client_key.take()
        && user.client_key_data.is_none()
    {
        user.client_key_data = Some(STANDARD.encode(reader.read(&directory.join(file)).await?).into());
    }
    if let Some(file) = user.token_file.take()
        && user.token.is_none()
    {
        user.token = Some(reader.token(&directory.join(file)).await?.into());
    }
    // A command without a slash is looked for in PATH.
    if let Some(command) = user.exec.as_mut().and_then(|exec| exec.command.as_mut())
        && command.contains('/')
    {
        *command = directory.join(&*command).display().to_string();
    }
    Ok(())
}

async fn in_cluster(pod: &InCluster, reader: &mut Reader<'_>) -> Result<Config, String> {
    let missing = "KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set, as they are in every pod; outside of \
                   one, name a kubeconfig";
    let (host, port) = pod.host.as_ref().zip(pod.port.as_ref()).ok_or(missing)?;
    let port: u16 = port.parse().map_err(|error| format!("KUBERNETES_SERVICE_PORT is {port:?}: {error}"))?;
    let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    let mut config = Config::new(uri(&format!("https://{host}:{port}"))?);
    config.root_cert = Some(reader.roots(&pod.directory.join("ca.crt")).await?);
    config.auth_info.token = Some(reader.token(&pod.directory.join("token")).await?.into());
    Ok(config)
}

fn uri(text: &str) -> Result<http::Uri, String> {
    text.parse().map_err(|error| format!("{text}: {error}"))
}

/// Reads files, and keeps a fingerprint of all of them.
struct Reader<'a> {
    files: &'a Files,
    seen: Context,
}

impl Reader<'_> {
    async fn read(&mut self, file: &Path) -> Result<Vec<u8>, String> {
        let content = self.files.read(file).await?;
        self.seen.update(&u64::try_from(content.len()).unwrap_or(u64::MAX).to_be_bytes());
        self.seen.update(&content);
        Ok(content)
    }

    async fn text(&mut self, file: &Path) -> Result<String, String> {
        String::from_utf8(self.read(file).await?).map_err(|_| format!("{}: is not UTF-8 text", file.display()))
    }

    /// The token in a file. With an empty one nobody would be asked for credentials, and we would be a stranger.
    async fn token(&mut self, file: &Path) -> Result<String, String> {
        let text = self.text(file).await?;
        let token = text.trim();
        if token.is_empty() { Err(format!("{}: holds no token", file.display())) } else { Ok(token.to_owned()) }
    }

    /// The certificates of a PEM file, at least one.
    async fn roots(&mut self, file: &Path) -> Result<Vec<Vec<u8>>, String> {
        let content = self.read(file).await?;
        let blocks = CertificateDer::pem_slice_iter(&content).collect::<Result<Vec<_>, _>>();
        let blocks = blocks.map_err(|error| format!("{}: {error}", file.display()))?;
        if blocks.is_empty() {
            return Err(format!("{}: there is no certificate in it", file.display()));
        }
        Ok(blocks.into_iter().map(|block| block.to_vec()).collect())
    }
}
