//! The way to a running CA: over its admin socket, or over TLS with an administrator's certificate. Each call has a
//! deadline, and each failure says what to do.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{AlertDescription, ClientConfig, RootCertStore};
use signet_core::pem::read_certificates;
use signet_proto::admin::v1alpha1::admin_client::AdminClient;
use signet_proto::admin::v1alpha1::{GetRotationRequest, Rotation};
use signet_runtime::files;
use signet_runtime::output::error_chain;
use signet_runtime::unix_socket;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Response, Status};

use super::tls_way::{Calls, TlsWay};
use super::{ConfigFile, Failure, printable};

/// How long the CA may take to tell something.
pub(super) const ANSWER: Duration = Duration::from_secs(5);

/// How long it may take to change something: keys are made and storage is written.
pub(super) const CHANGE: Duration = Duration::from_secs(30);

/// The largest certificate or key file that is read, in bytes.
const MAX_FILE: u64 = 1 << 20;

const OVER_TLS: &str = "Options for a CA elsewhere";

/// Where the CA is. Without a socket and an address, the configuration file names its socket.
#[derive(Debug, Clone, Args)]
pub(super) struct AdminArgs {
    #[command(flatten)]
    pub(super) file: ConfigFile,
    /// The admin socket of the running CA, when the configuration file cannot be read or names another one by now
    #[arg(long, value_name = "PATH", conflicts_with = "address", value_parser = socket)]
    pub(super) socket: Option<PathBuf>,
    /// Ask over TLS at this address, like https://ca.example:15012, instead of the admin socket
    #[arg(long, help_heading = OVER_TLS, value_name = "URL", requires_all = ["cert", "key", "ca"])]
    pub(super) address: Option<String>,
    /// Your certificate chain (PEM), of a SPIFFE ID that the CA lists as an administrator or, to read, as an auditor
    #[arg(long, help_heading = OVER_TLS, value_name = "FILE", requires = "address")]
    pub(super) cert: Option<PathBuf>,
    /// Its private key (PEM)
    #[arg(long, help_heading = OVER_TLS, value_name = "FILE", requires = "address")]
    pub(super) key: Option<PathBuf>,
    /// The roots that the CA's serving certificate is verified with (PEM)
    #[arg(long, help_heading = OVER_TLS, value_name = "FILE", requires = "address")]
    pub(super) ca: Option<PathBuf>,
    /// The name in the CA's serving certificate, when it is not the host of the address
    #[arg(long, help_heading = OVER_TLS, value_name = "NAME", requires = "address")]
    pub(super) server_name: Option<String>,
}

/// A connection to a CA. After a break, the next call makes a new one.
#[derive(Debug, Clone)]
pub(super) struct Client {
    pub(super) service: AdminClient<Calls>,
}

impl AdminArgs {
    /// Connects.
    pub(super) async fn connect(&self) -> Result<Client, Failure> {
        Ok(Client { service: AdminClient::new(self.calls().await?) })
    }

    /// Connects, for whichever service.
    pub(super) async fn calls(&self) -> Result<Calls, Failure> {
        match (&self.address, &self.socket) {
            (Some(address), _) => self.over_tls(address).await,
            (None, Some(socket)) => Ok(on_socket(socket.clone(), "").await?.into()),
            (None, None) => {
                let named = "; if `admin` was changed since the CA was started, give its socket with --socket";
                Ok(on_socket(self.file.admin()?, named).await?.into())
            }
        }
    }

    /// Whether the command line itself says where the CA is.
    pub(super) fn is_named(&self) -> bool {
        self.address.is_some() || self.socket.is_some()
    }

    /// Where rotation stands, asked on `client`. Over TLS, when the CA refuses or the connection is broken, it is asked
    /// again on a new one with the files as they are now: whoever waits for days outlives certificates and roots.
    pub(super) async fn rotation(&self, client: &mut Client) -> Result<Rotation, Setback> {
        let status = match client.rotation().await {
            Ok(rotation) => return Ok(rotation),
            Err(status) if self.address.is_some() && is_about_the_connection(&status) => status,
            Err(status) => return Err(Setback::of(&status)),
        };
        let mut anew = match tokio::time::timeout(ANSWER, self.connect()).await {
            Ok(Ok(anew)) => anew,
            // The judgement may come before the connection counts as made, too.
            Ok(Err(Failure::Failed(text))) if is_about_the_certificate(&text) => return Err(Setback::ended(&text)),
            // Files that are just being written, or a CA that is just being started.
            Ok(Err(failure)) => return Err(Setback::Passing(failure.text().to_owned())),
            Err(_) => return Err(Setback::Passing(explanation(&status))),
        };
        match anew.rotation().await {
            Ok(rotation) => {
                *client = anew;
                Ok(rotation)
            }
            Err(status) if is_refused(&status) => Err(Setback::ended(&explanation(&status))),
            Err(status) => Err(Setback::of(&status)),
        }
    }

    async fn over_tls(&self, address: &str) -> Result<Calls, Failure> {
        if !address.starts_with("https://") {
            return Err(Failure::Usage(format!("--address: {address:?} does not begin with https://")));
        }
        let (cert, key, ca) = (given("--cert", &self.cert)?, given("--key", &self.key)?, given("--ca", &self.ca)?);
        let unreadable = |error| Failure::Usage(error_chain(&error));
        let chain = files::read(cert, MAX_FILE).map_err(unreadable)?;
        let private = files::read_private(key, MAX_FILE).map_err(unreadable)?;
        let roots = files::read(ca, MAX_FILE).map_err(unreadable)?;
        let certificates = |option: &str, path: &Path, content: &[u8]| match read_certificates(content) {
            Ok(read) if read.is_empty() => Err(Failure::Usage(format!("{option}: {} is empty", path.display()))),
            Ok(read) => Ok(read.into_iter().map(|(_, der)| der).collect::<Vec<_>>()),
            Err(error) => Err(Failure::Usage(format!("{option}: {}: {error}", path.display()))),
        };
        let wrong = |option: &str, path: &Path, error: &dyn std::error::Error| {
            Failure::Usage(format!("{option}: {}: {}", path.display(), error_chain(error)))
        };
        let chain = certificates("--cert", cert, &chain)?;
        let private = PrivateKeyDer::from_pem_slice(&private).map_err(|error| wrong("--key", key, &error))?;
        let mut trusted = RootCertStore::empty();
        for root in certificates("--ca", ca, &roots)? {
            trusted.add(root).map_err(|error| wrong("--ca", ca, &error))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = versions.map_err(Failure::failed)?.with_root_certificates(trusted);
        let config = config.with_client_auth_cert(chain, private);
        let mut config = config.map_err(|error| wrong("--cert, --key", key, &error))?;
        config.alpn_protocols = vec![b"h2".to_vec()];

        let unusable = |why: String| Failure::Usage(format!("--address {address}: {why}"));
        let uri: Uri = address.parse().map_err(|error| unusable(format!("{error}")))?;
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        let name = self.server_name.as_deref().unwrap_or(host).to_owned();
        let name = ServerName::try_from(name).map_err(|error| unusable(format!("{error}")))?;
        let way = TlsWay::new(config, name);
        let calls = way.clone();
        let connector = tower::service_fn(move |uri: Uri| {
            let way = way.clone();
            async move { way.connect(uri).await.map(TokioIo::new) }
        });
        // The library's own TLS is not used.
        let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
        let endpoint = Endpoint::from_shared(format!("http://{authority}"));
        let endpoint = endpoint.map_err(|error| unusable(error_chain(&error)))?.origin(uri).connect_timeout(ANSWER);
        let channel = endpoint.connect_with_connector(connector).await.map_err(|error| {
            let cause = error_chain(&error);
            let hint = hint(&cause, ca);
            Failure::Failed(format!("cannot connect to the CA at {address}: {cause}{hint}"))
        })?;
        Ok(Calls::by(&calls, channel))
    }
}

/// clap has seen to it that there is one.
fn given<'a>(option: &str, path: &'a Option<PathBuf>) -> Result<&'a Path, Failure> {
    path.as_deref().ok_or_else(|| Failure::Usage(format!("{option} is missing")))
}

/// A socket as configuration files name it, or just its path.
pub(super) fn socket(text: &str) -> Result<PathBuf, &'static str> {
    let path = Path::new(text.strip_prefix("unix:").unwrap_or(text));
    if path.is_absolute() { Ok(path.components().collect()) } else { Err("not an absolute path") }
}

/// Connects; `hint` is what else may be wrong when there is no socket.
async fn on_socket(socket: PathBuf, hint: &str) -> Result<Channel, Failure> {
    let shown = socket.display().to_string();
    // By itself: below, what the system says is hidden in what libraries say.
    if let Err(error) = UnixStream::connect(&socket).await {
        let why = unix_socket::explain(&socket, &error, "`signet-ca serve`");
        let hint = if error.kind() == std::io::ErrorKind::PermissionDenied { "" } else { hint };
        return Err(Failure::Failed(format!("no CA answers at {shown}: {why}{hint}")));
    }
    let connector = tower::service_fn(move |_: Uri| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    // The address is not used: the connector knows the socket.
    let endpoint = Endpoint::from_static("http://admin").connect_timeout(ANSWER);
    let connected = endpoint.connect_with_connector(connector).await;
    connected.map_err(|error| Failure::Failed(format!("no CA answers at {shown}: {}", error_chain(&error))))
}

impl Client {
    /// Where rotation stands.
    pub(super) async fn rotation(&mut self) -> Result<Rotation, Status> {
        within(ANSWER, self.service.get_rotation(GetRotationRequest {})).await
    }
}

/// The answer to a call, which must come within `deadline`.
pub(super) async fn within<T>(
    deadline: Duration,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, Status> {
    let late = || Status::deadline_exceeded(format!("the CA did not answer within {} s", deadline.as_secs()));
    tokio::time::timeout(deadline, call).await.map_err(|_| late())?.map(Response::into_inner)
}

/// Why somebody who waits gets no answer.
#[derive(Debug)]
pub(super) enum Setback {
    /// There may be one in a moment.
    Passing(String),
    /// There will be none.
    Lasting(Failure),
}

impl Setback {
    fn of(status: &Status) -> Self {
        if is_passing(status) { Self::Passing(explanation(status)) } else { Self::Lasting(failure(status)) }
    }

    /// The CA does not accept the certificate, as it is in the files now.
    fn ended(why: &str) -> Self {
        Self::Lasting(Failure::Failed(format!(
            "{why}; the certificate of --cert may have ended, or chain to a retired or compromised root; the rotation \
             goes on"
        )))
    }
}

/// Whether another connection may change the answer.
fn is_about_the_connection(status: &Status) -> bool {
    status.code() == Code::PermissionDenied || std::error::Error::source(status).is_some()
}

/// Whether the CA does not accept who asks.
fn is_refused(status: &Status) -> bool {
    status.code() == Code::PermissionDenied || explanation(status).starts_with(NOT_ACCEPTED)
}

/// Whether the same call may succeed in a moment: the CA restarts, or its storage does.
fn is_passing(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded | Code::Aborted | Code::Unknown)
}

const NOT_ACCEPTED: &str = "it does not accept the certificate of --cert";

/// The alerts by which a server judges its client's certificate (RFC 8446 section 6.2); others, like a protocol that it
/// does not speak, are about something else.
const JUDGEMENTS: [AlertDescription; 9] = [
    AlertDescription::BadCertificate,
    AlertDescription::UnsupportedCertificate,
    AlertDescription::CertificateRevoked,
    AlertDescription::CertificateExpired,
    AlertDescription::CertificateUnknown,
    AlertDescription::UnknownCA,
    AlertDescription::AccessDenied,
    AlertDescription::DecryptError,
    AlertDescription::CertificateRequired,
];

/// Whether by this alert a server judges its client's certificate.
pub(super) fn is_judgement(alert: AlertDescription) -> bool {
    JUDGEMENTS.contains(&alert)
}

/// The HTTP/2 library keeps nothing of the TLS error but its text.
fn judgement(cause: &str) -> Option<AlertDescription> {
    JUDGEMENTS.into_iter().find(|alert| cause.contains(&rustls::Error::AlertReceived(*alert).to_string()))
}

fn is_about_the_certificate(cause: &str) -> bool {
    judgement(cause).is_some()
}

/// What the alert says of the certificate of --cert. More a server does not tell; the CA's log does.
fn judged(cause: &str) -> &'static str {
    match judgement(cause) {
        Some(AlertDescription::CertificateExpired) => ", which has expired",
        Some(AlertDescription::CertificateRevoked) => ", which has been revoked",
        Some(AlertDescription::UnknownCA) => ", which chains to no root of this CA that is sound",
        Some(AlertDescription::CertificateUnknown) => ", which is of another trust domain or is no X.509-SVID",
        _ => "",
    }
}

/// What a failed handshake means that the CA's certificate, or ours, is the reason of; nothing for others.
fn hint(cause: &str, roots: &Path) -> String {
    let unknown = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer).to_string();
    if cause.contains(&unknown) {
        return format!(
            "; its certificate chains to none of the roots in {} (--ca): is that the root file of this CA, and as new as \
             its trust bundle?",
            roots.display()
        );
    }
    if is_about_the_certificate(cause) { format!("; {NOT_ACCEPTED}{}", judged(cause)) } else { String::new() }
}

/// What a failed call that asked for something means to the person who made it.
pub(super) fn failure(status: &Status) -> Failure {
    let text = explanation(status);
    if is_broken(status) {
        return Failure::Failed(format!("the connection broke before the CA had answered: {text}"));
    }
    match status.code() {
        // The library's own words, which say neither what is too long nor what to do.
        Code::OutOfRange if text.contains("too large") => {
            Failure::Usage("the arguments are longer than the CA reads, 16 KiB for all of them together".to_owned())
        }
        Code::InvalidArgument => Failure::Usage(text),
        Code::Unavailable | Code::DeadlineExceeded | Code::Aborted => {
            Failure::Failed(format!("the CA cannot do that now: {text}"))
        }
        _ => Failure::Failed(format!("the CA refused: {text}")),
    }
}

/// The same of a call that was to change something.
pub(super) fn failed_change(status: &Status) -> Failure {
    if !is_broken(status) {
        return failure(status);
    }
    let text = explanation(status);
    // Whether it had done its work before the connection broke, nobody knows.
    Failure::Failed(format!(
        "the connection broke before the CA had answered, so it may have done it all the same; `authority list` and `audit \
         list` show what is: {text}"
    ))
}

/// Whether the status was made here, not by the CA, because a connection broke that the CA had not refused.
fn is_broken(status: &Status) -> bool {
    std::error::Error::source(status).is_some() && !explanation(status).starts_with(NOT_ACCEPTED)
}

/// The status in words, safe to print.
pub(super) fn explanation(status: &Status) -> String {
    let cause = std::error::Error::source(status).map(error_chain);
    let text = match cause {
        // TLS 1.3 servers judge the client's certificate after the client thinks that the handshake is over.
        Some(cause) if is_about_the_certificate(&cause) => format!("{NOT_ACCEPTED}{} ({cause})", judged(&cause)),
        Some(cause) if cause.contains(status.message()) => cause,
        Some(cause) => format!("{}: {cause}", status.message()),
        None => status.message().to_owned(),
    };
    text.lines().map(printable).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
#[path = "admin_client_tests.rs"]
mod tests;
