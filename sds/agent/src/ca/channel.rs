//! How the CA is reached and who it takes us for: TLS, deadlines and headers, the same for every call.
//!
//! The CA is trusted by the root file together with the trust bundle that is held, so that a root which was rotated
//! while the agent runs does not cut it off. A root that the CA has removed from the bundle is not trusted by an old
//! root file either, until somebody writes that file anew.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ring::digest::{SHA256, digest};
use rustls_pki_types::CertificateDer;
use signet_core::certificate::{Flaw, check_encoding};
use signet_core::digest::hex;
use signet_core::holder::FILES;
use signet_core::pem::{PemError, pem, read_certificates};
use signet_core::secret::Secret;
use signet_runtime::files::{self, FileError};
use signet_runtime::output::error_chain;
use signet_sds::session::printable;
use tokio::sync::watch;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Status as GrpcStatus};
use tonic_types::StatusExt as _;

use crate::config::Ca;
use crate::identity::status::{RemovedRoots, Status};
use crate::random;

/// The header with the name of this process.
pub(crate) const INSTANCE_HEADER: &str = "signet-instance";

/// Digits of the name of the files that a process keeps: enough to tell apart those of one pod.
const FILES_DIGITS: usize = 16;

/// The largest root file that is read, in bytes.
const MAX_ROOT_BYTES: u64 = 1 << 20;

/// How often an open call checks that the connection lives, and how long it waits for the answer.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(10));

/// Why the CA could not be asked, or did not answer well.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum CaError {
    /// The root file cannot be read.
    #[error("cannot read the roots of the CA (ca.root_file)")]
    Roots(#[source] FileError),
    /// The root file is empty.
    #[error("{} holds no PEM certificates (ca.root_file)", .0.display())]
    NoRoots(PathBuf),
    /// Not all of the root file can be read: what is passed over would be a root that is not trusted.
    #[error("{}: {cause} (ca.root_file)", path.display())]
    RootsNotPem {
        /// The file.
        path: PathBuf,
        /// What stands in the way, and in which line.
        cause: PemError,
    },
    /// A root in it is not DER.
    #[error("{}: the certificate that begins in line {line} cannot be read: {cause} (ca.root_file)", path.display())]
    RootUnreadable {
        /// The file.
        path: PathBuf,
        /// Where its block begins, from 1.
        line: usize,
        /// What is wrong with it.
        cause: Flaw,
    },
    /// The settings do not make a client, which checking them should have told.
    #[error("cannot set up the connection to the CA at {address}: {cause}")]
    Settings {
        /// Where to.
        address: String,
        /// Why.
        cause: String,
    },
    /// No connection, or no TLS with whom we trust.
    #[error("cannot connect to the CA at {address}: {cause}")]
    Connect {
        /// Where to.
        address: String,
        /// Why, with everything that caused it.
        cause: String,
    },
    /// The deadline has passed.
    #[error("the CA at {address} did not answer within {}s (ca.timeout)", .timeout.as_secs_f32())]
    Deadline {
        /// Where to.
        address: String,
        /// How long was waited.
        timeout: Duration,
    },
    /// The CA said no, or could not.
    #[error("the CA at {address} answered {code:?}: {message}")]
    Refused {
        /// Who.
        address: String,
        /// The gRPC status code.
        code: Code,
        /// The text, bounded.
        message: String,
        /// How long to wait before asking again, where it says so (`RetryInfo` of google.rpc).
        retry_in: Option<Duration>,
    },
}

/// Opens connections to the CA; each is new, with the root file as it is then.
pub(crate) struct CaChannel {
    settings: Ca,
    statuses: watch::Receiver<Status>,
    instance: Option<String>,
    root_file_failed: AtomicBool,
    outdated: Mutex<Outdated>,
}

/// Which content of the root file is older than the newest removal of roots.
#[derive(Debug, Default)]
struct Outdated {
    /// The removals that were seen.
    times: u64,
    /// The file as it was when the newest of them was seen; `None` when it has changed since.
    file: Option<Vec<u8>>,
}

impl Outdated {
    /// Those of the file's certificates that are trusted.
    fn trusted(
        &mut self,
        pem: &[u8],
        certificates: Vec<CertificateDer<'static>>,
        removed: &RemovedRoots,
    ) -> Vec<CertificateDer<'static>> {
        if self.times != removed.times {
            (self.times, self.file) = (removed.times, Some(pem.to_vec()));
        } else if self.file.as_deref().is_some_and(|file| file != pem) {
            self.file = None;
        }
        let is_outdated = self.file.is_some();
        certificates.into_iter().filter(|it| !is_outdated || !removed.roots.contains(it)).collect()
    }
}

impl CaChannel {
    /// Reaches the CA of these settings; the trust bundle is taken from `statuses`. Nothing is opened or read yet.
    #[must_use]
    pub(crate) fn new(settings: Ca, statuses: watch::Receiver<Status>) -> Self {
        let (root_file_failed, outdated) = (AtomicBool::new(false), Mutex::default());
        Self { settings, statuses, instance: random::instance(), root_file_failed, outdated }
    }

    /// The same for whoever keeps certificate files, in this way and directory: in a pod they count beside what its proxy
    /// holds, not in its place.
    #[must_use]
    pub(crate) fn for_files(mut self, way: &str, directory: &Path) -> Self {
        let place = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
        let name = digest(&SHA256, &[way.as_bytes(), place.as_os_str().as_bytes()].concat());
        let name: String = hex(name.as_ref()).chars().take(FILES_DIGITS).collect();
        self.instance = self.instance.map(|instance| format!("{instance}{FILES}{name}"));
        self
    }

    /// Connects. The caller keeps the deadline, which covers its call too: see [`CaChannel::within`].
    ///
    /// # Errors
    /// [`CaError`]: every variant but the last two.
    pub(crate) async fn connect(&self) -> Result<Channel, CaError> {
        let settings = &self.settings;
        let tls =
            ClientTlsConfig::new().ca_certificates(self.roots().await?).domain_name(settings.server_name.as_str());
        let endpoint = Endpoint::from(settings.address.clone())
            .tls_config(tls)
            .map_err(|error| self.unusable(error_chain(&error)))?
            .connect_timeout(settings.timeout)
            .http2_keep_alive_interval(KEEP_ALIVE.0)
            .keep_alive_timeout(KEEP_ALIVE.1);
        let connected = endpoint.connect().await;
        connected.map_err(|error| {
            let cause = with_roots_named(error_chain(&error), &self.settings.root_file);
            CaError::Connect { address: self.address(), cause }
        })
    }

    /// Keeps the deadline of a call.
    ///
    /// # Errors
    /// [`CaError::Deadline`], and what the call says.
    pub(crate) async fn within<T>(&self, call: impl Future<Output = Result<T, CaError>>) -> Result<T, CaError> {
        let timeout = self.settings.timeout;
        let late = || Err(CaError::Deadline { address: self.address(), timeout });
        // Boxed: connecting and calling is a large future.
        tokio::time::timeout(timeout, Box::pin(call)).await.unwrap_or_else(|_elapsed| late())
    }

    /// Notes what the root file holds now, since roots may have been removed from the bundle. What is written to it
    /// later is trusted again, whatever it is.
    pub(crate) async fn look_at_root_file(&self) {
        // A file that cannot be read is the business of the next call.
        let _roots = self.root_file().await;
    }

    /// A request that says who we are: token, cluster and instance.
    ///
    /// # Errors
    /// [`CaError::Settings`] when one of them may not stand in a header.
    pub(crate) fn request<T>(&self, message: T, token: &Secret) -> Result<Request<T>, CaError> {
        let mut request = Request::new(message);
        let headers = request.metadata_mut();
        headers.insert("authorization", bearer(token).ok_or_else(|| self.unusable("token".to_owned()))?);
        let cluster = self.settings.cluster_id.parse();
        headers.insert("clusterid", cluster.map_err(|_invalid| self.unusable("ca.cluster_id".to_owned()))?);
        if let Some(instance) = self.instance.as_deref().and_then(|instance| instance.parse().ok()) {
            headers.insert(INSTANCE_HEADER, instance);
        }
        Ok(request)
    }

    /// What a status of the CA means.
    #[must_use]
    pub(crate) fn refused(&self, status: &GrpcStatus) -> CaError {
        let (message, retry_in) = (printable(status.message()), retry_in(status));
        CaError::Refused { address: self.address(), code: status.code(), message, retry_in }
    }

    fn address(&self) -> String {
        self.settings.address.to_string()
    }

    fn unusable(&self, cause: String) -> CaError {
        CaError::Settings { address: self.address(), cause }
    }

    /// The root file and the bundle held. The file alone is not needed once there is a bundle.
    async fn roots(&self) -> Result<Vec<Certificate>, CaError> {
        let held = self.statuses.borrow().validation.as_ref().map(|held| held.validation.bundle.pem().to_owned());
        let file = self.root_file().await;
        if let (Err(error), Some(_)) = (&file, &held)
            && !self.root_file_failed.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(error = error_chain(error), "the CA is trusted by the trust bundle held alone");
        }
        let file = match (file, &held) {
            (Err(error), None) => return Err(error),
            (Err(_), Some(_)) => None,
            (Ok(file), _) => {
                self.root_file_failed.store(false, Ordering::Relaxed);
                Some(file)
            }
        };
        // All of them may have been removed.
        let file =
            file.filter(|roots| !roots.is_empty()).map(|roots| roots.iter().map(|root| pem(root)).collect::<String>());
        Ok(file.into_iter().chain(held).map(Certificate::from_pem).collect())
    }

    /// What is trusted of the root file. It must hold certificates and only those: an empty trust store would fail in
    /// TLS with a message that leads nowhere.
    async fn root_file(&self) -> Result<Vec<CertificateDer<'static>>, CaError> {
        let path = &self.settings.root_file;
        let pem = files::read_in_time(path, MAX_ROOT_BYTES).await.map_err(CaError::Roots)?;
        let certificates = roots_in(path, &pem)?;
        let removed = self.statuses.borrow().removed.clone();
        let mut outdated = self.outdated.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(outdated.trusted(&pem, certificates, &removed))
    }
}

/// The roots in the file at `path`, all of them.
///
/// # Errors
/// [`CaError`] about the file.
pub(crate) async fn read_roots(path: &Path) -> Result<Vec<CertificateDer<'static>>, CaError> {
    let pem = files::read_in_time(path, MAX_ROOT_BYTES).await.map_err(CaError::Roots)?;
    roots_in(path, &pem)
}

/// The same, with the file of the roots that a CA's certificate chains to none of, when that is what it is about.
fn with_roots_named(cause: String, root_file: &Path) -> String {
    // The library keeps nothing of the TLS error but its text.
    let unknown = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer).to_string();
    if !cause.contains(&unknown) {
        return cause;
    }
    format!(
        "{cause}: its certificate chains to no root in {} (ca.root_file), nor in the trust bundle held; is that the root \
         file of this CA?",
        root_file.display()
    )
}

/// The roots in the content of the file at `path`, all of them.
fn roots_in(path: &Path, content: &[u8]) -> Result<Vec<CertificateDer<'static>>, CaError> {
    let path = || path.to_owned();
    let roots = read_certificates(content).map_err(|cause| CaError::RootsNotPem { path: path(), cause })?;
    if roots.is_empty() {
        return Err(CaError::NoRoots(path()));
    }
    let readable = |(line, root): (usize, CertificateDer<'static>)| match check_encoding(&root) {
        Ok(()) => Ok(root),
        Err(cause) => Err(CaError::RootUnreadable { path: path(), line, cause }),
    };
    roots.into_iter().map(readable).collect()
}

fn bearer(token: &Secret) -> Option<AsciiMetadataValue> {
    let header = Secret::new([b"Bearer ", token.expose()].concat());
    let mut value = AsciiMetadataValue::try_from(header.expose()).ok()?;
    // Keeps it out of debug output and of header compression tables.
    value.set_sensitive(true);
    Some(value)
}

/// How long the CA wants nobody to ask again, where it says so.
fn retry_in(status: &GrpcStatus) -> Option<Duration> {
    status.get_details_retry_info()?.retry_delay
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_removed_root_is_not_trusted_by_the_file_that_held_it_but_by_one_written_later() {
        let [a, b, c] = [1, 2, 3].map(|byte| CertificateDer::from(vec![byte]));
        let file = || vec![a.clone(), b.clone()];
        let mut outdated = Outdated::default();
        let removed = |times, roots: &[&CertificateDer<'static>]| RemovedRoots {
            roots: roots.iter().map(|root| (*root).clone()).collect(),
            times,
        };
        let mut trusted = |pem: &[u8], removed: &RemovedRoots| outdated.trusted(pem, file(), removed);
        assert_eq!(trusted(b"one", &removed(0, &[])), file());
        // The file was written before the removal was seen.
        assert_eq!(trusted(b"two", &removed(1, &[&a, &c])), std::slice::from_ref(&b));
        assert_eq!(trusted(b"two", &removed(1, &[&a, &c])), std::slice::from_ref(&b));
        assert_eq!(trusted(b"three", &removed(1, &[&a, &c])), file());
        assert_eq!(trusted(b"two", &removed(1, &[&a, &c])), file(), "written anew is written anew");
        assert_eq!(trusted(b"two", &removed(2, &[&a, &c, &b])), []);
    }

    #[test]
    fn a_ca_that_is_not_trusted_is_told_with_the_file_of_the_roots() {
        let file = Path::new("/etc/signet/root-cert.pem");
        for (error, named) in [
            (rustls::CertificateError::UnknownIssuer, true),
            (rustls::CertificateError::NotValidForName, false),
            (rustls::CertificateError::Expired, false),
        ] {
            let text = format!("transport error: {}", rustls::Error::InvalidCertificate(error));
            let told = with_roots_named(text.clone(), file);
            assert!(
                told.starts_with(&text) && told.contains("/etc/signet/root-cert.pem (ca.root_file)") == named,
                "{told}"
            );
        }
    }

    #[test]
    fn the_token_travels_as_a_sensitive_header() {
        let header = bearer(&Secret::new(b"hunter2".to_vec())).unwrap();
        assert_eq!(header.to_str().unwrap(), "Bearer hunter2");
        assert!(header.is_sensitive() && !format!("{header:?}").contains("hunter2"));
        assert!(bearer(&Secret::new(b"two\nlines".to_vec())).is_none());
    }

    #[test]
    fn a_ca_without_room_says_when_to_come_again() {
        let details = tonic_types::ErrorDetails::with_retry_info(Some(Duration::from_millis(1700)));
        let full = GrpcStatus::with_error_details(Code::ResourceExhausted, "full", details);
        assert_eq!(retry_in(&full), Some(Duration::from_millis(1700)));
        assert_eq!(retry_in(&GrpcStatus::resource_exhausted("full")), None);
        let garbage = GrpcStatus::with_details(Code::ResourceExhausted, "full", vec![0xff; 40].into());
        assert_eq!(retry_in(&garbage), None);
    }
}
