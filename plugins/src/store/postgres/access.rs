//! Where a PostgreSQL database is, and with which files one gets in. Files are read for each new connection, so that renewed
//! passwords and certificates need no restart.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use signet_core::pem::{pem, read_certificates};
use signet_core::seams::store::StoreError;
use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use zeroize::Zeroizing;

use super::PostgresSettings;

/// How large a password file may be, in bytes.
const MAX_PASSWORD: u64 = 4 << 10;

/// How large a file of certificates or with a key may be, in bytes.
const MAX_PEM: u64 = 1 << 20;

/// Where the server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Server {
    /// A host name or an address, without brackets.
    Host(String),
    /// The directory of a Unix socket.
    Directory(PathBuf),
}

/// How a connection is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    /// TLS, and the server shows a certificate for the name that was asked for.
    Verified,
    /// None: for Unix sockets, loopback, and networks that are protected by other means.
    Plain,
}

/// A database and how to get into it. It holds no secrets, only where they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresAccess {
    /// Where the server listens.
    pub server: Server,
    /// Its port; for a Unix socket, the number in its name.
    pub port: u16,
    /// The role.
    pub user: String,
    /// The database.
    pub database: String,
    /// A file with the password; a line break at its end does not count.
    pub password_file: Option<PathBuf>,
    /// A file with certificates in PEM of the CAs that the server's certificate may be of; without, those that are publicly
    /// trusted.
    pub ca_file: Option<PathBuf>,
    /// Files with a certificate of the client and its key, in PEM.
    pub client_files: Option<(PathBuf, PathBuf)>,
    /// How connections are protected. Over a Unix socket nothing is, whatever this says.
    pub protection: Protection,
}

impl PostgresAccess {
    /// The options of a new connection, with what is in the files now.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when a file cannot be read.
    pub(super) async fn options(
        &self,
        settings: PostgresSettings,
        writes: bool,
    ) -> Result<PgConnectOptions, StoreError> {
        let access = self.clone();
        // Reading may hang on a network file system; the deadline of the caller ends the waiting.
        let options = tokio::task::spawn_blocking(move || access.read_options());
        let options =
            options.await.map_err(|error| StoreError::Unavailable(format!("reading credentials: {error}")))??;
        Ok(options.application_name("signet-ca").options(settings.parameters(writes)).disable_statement_logging())
    }

    fn read_options(&self) -> Result<PgConnectOptions, StoreError> {
        // What it takes from the environment is overwritten wherever it can be.
        let options = PgConnectOptions::new_without_pgpass().username(&self.user).database(&self.database);
        let mut options = match &self.server {
            Server::Host(host) => options.host(host),
            Server::Directory(directory) => options.host("localhost").socket(directory),
        }
        .port(self.port);
        let password = self.password_file.as_deref().map(|path| read(path, MAX_PASSWORD)).transpose()?;
        options = match password {
            None => options.password(""),
            Some(bytes) => {
                let path = self.password_file.as_deref().unwrap_or(Path::new("")).display();
                let text = std::str::from_utf8(&bytes)
                    .map_err(|_| StoreError::Unavailable(format!("{path} holds a password that is not UTF-8")))?;
                options.password(text.strip_suffix('\n').map_or(text, |line| line.strip_suffix('\r').unwrap_or(line)))
            }
        };
        if self.protection == Protection::Plain {
            return Ok(options.ssl_mode(PgSslMode::Disable));
        }
        let roots = match &self.ca_file {
            Some(path) => certificates(path)?,
            None => PUBLIC_ROOTS.as_bytes().to_vec(),
        };
        options = options.ssl_mode(PgSslMode::VerifyFull).ssl_root_cert_from_pem(roots);
        if let Some((certificate, key)) = &self.client_files {
            let (certificate, key) = (certificates(certificate)?, read(key, MAX_PEM)?);
            options = options.ssl_client_cert_from_pem(certificate).ssl_client_key_from_pem(&*key);
        }
        Ok(options)
    }
}

/// The roots of Mozilla's program. sqlx has none of its own here, see the crate in `plugins/no-roots`.
static PUBLIC_ROOTS: LazyLock<String> =
    LazyLock::new(|| webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().map(|root| pem(root)).collect());

/// Without secrets, since there are none.
impl fmt::Display for PostgresAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { user, port, database, .. } = self;
        match &self.server {
            Server::Host(host) if host.contains(':') => write!(f, "postgres://{user}@[{host}]:{port}/{database}"),
            Server::Host(host) => write!(f, "postgres://{user}@{host}:{port}/{database}"),
            Server::Directory(directory) => {
                write!(f, "postgres://{user}@:{port}/{database}?host={}", directory.display())
            }
        }
    }
}

/// The certificates in a file, all of them, as PEM.
fn certificates(path: &Path) -> Result<Vec<u8>, StoreError> {
    let failed = |what: String| StoreError::Unavailable(format!("{}: {what}", path.display()));
    let certificates = read_certificates(&read(path, MAX_PEM)?).map_err(|error| failed(error.to_string()))?;
    if certificates.is_empty() {
        return Err(failed("it holds no certificate".to_owned()));
    }
    Ok(certificates.iter().map(|(_, certificate)| pem(certificate)).collect::<String>().into_bytes())
}

/// Reads a file of at most `limit` bytes.
fn read(path: &Path, limit: u64) -> Result<Zeroizing<Vec<u8>>, StoreError> {
    let failed = |error: std::io::Error| StoreError::Unavailable(format!("cannot read {}: {error}", path.display()));
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > limit {
        return Err(StoreError::Unavailable(format!("{} is larger than {limit} bytes", path.display())));
    }
    Ok(bytes)
}
