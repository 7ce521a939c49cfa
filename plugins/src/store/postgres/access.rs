//! Where a PostgreSQL database is, and with which files one gets in. Files are read for each new connection, so that renewed
//! passwords and certificates need no restart.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use signet_core::seams::store::StoreError;
use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use zeroize::Zeroizing;

use super::PostgresSettings;

/// The port that PostgreSQL listens on unless it is told otherwise.
const PORT: u16 = 5432;

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
    /// A file with certificates in PEM of the CA that the server's certificate is of.
    pub ca_file: Option<PathBuf>,
    /// Files with a certificate of the client and its key, in PEM.
    pub client_files: Option<(PathBuf, PathBuf)>,
    /// What was asked for explicitly; see [`protection`](Self::protection).
    pub asked: Option<Protection>,
}

impl PostgresAccess {
    /// Reads `postgres://user@host:port/database`, or `postgres://user@/database?host=/directory` for a Unix socket. Special
    /// characters are percent-encoded.
    ///
    /// # Errors
    /// A sentence that says what is wrong, and never repeats a password.
    pub fn parse(url: &str) -> Result<Self, String> {
        const FORM: &str = "expected postgres://user@host:port/database or postgres://user@/database?host=/directory";
        let rest = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://")).ok_or(FORM)?;
        let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
        // The last one: a password may hold the character, and must not end up in a message about the host.
        let (user, rest) = rest.rsplit_once('@').ok_or_else(|| format!("it names no user; {FORM}"))?;
        if user.contains(':') {
            return Err("it holds a password, which would be shown in logs; put it into a file and name that in \
                        password_file"
                .to_owned());
        }
        let (authority, database) = rest.split_once('/').ok_or_else(|| format!("it names no database; {FORM}"))?;
        let mut directory = None;
        for parameter in query.into_iter().flat_map(|query| query.split('&')) {
            match parameter.split_once('=') {
                Some(("host", value)) if directory.is_none() => directory = Some(decoded(value)?),
                Some((name, _)) => return Err(format!("the parameter {name} is not known; only host is, once")),
                None => return Err(format!("{parameter} is no parameter; {FORM}")),
            }
        }
        let (host, port) = host_and_port(authority)?;
        let server = match (host, directory) {
            (Some(_), Some(_)) => return Err("it names both a host and a directory of a socket".to_owned()),
            (None, None) => return Err(format!("it names no host; {FORM}")),
            (Some(host), None) => Server::Host(host),
            (None, Some(directory)) if directory.starts_with('/') => Server::Directory(directory.into()),
            (None, Some(_)) => return Err("the directory of a socket is an absolute path".to_owned()),
        };
        let named = |value: &str, what: &str| match decoded(value)? {
            empty if empty.is_empty() => Err(format!("it names no {what}; {FORM}")),
            value if value.contains('\0') => Err(format!("the {what} holds a NUL")),
            value => Ok(value),
        };
        Ok(Self {
            server,
            port,
            user: named(user, "user")?,
            database: named(database, "database")?,
            password_file: None,
            ca_file: None,
            client_files: None,
            asked: None,
        })
    }

    /// How connections are protected: what was asked for, or else TLS unless the server is this machine. A Unix socket
    /// needs none, and a file with a CA asks for it.
    #[must_use]
    pub fn protection(&self) -> Protection {
        match (&self.server, self.asked) {
            (Server::Directory(_), _) => Protection::Plain,
            (Server::Host(_), Some(asked)) => asked,
            (Server::Host(host), None) if is_loopback(host) && self.ca_file.is_none() => Protection::Plain,
            (Server::Host(_), None) => Protection::Verified,
        }
    }

    /// Whether what goes over the connection can be read by others on its way.
    #[must_use]
    pub fn is_exposed(&self) -> bool {
        let is_remote = matches!(&self.server, Server::Host(host) if !is_loopback(host));
        is_remote && self.protection() == Protection::Plain
    }

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
        if self.protection() == Protection::Plain {
            return Ok(options.ssl_mode(PgSslMode::Disable));
        }
        let ca = self.ca_file.as_deref().map(|path| read(path, MAX_PEM)).transpose()?;
        options =
            options.ssl_mode(PgSslMode::VerifyFull).ssl_root_cert_from_pem(ca.map_or(Vec::new(), |pem| pem.to_vec()));
        if let Some((certificate, key)) = &self.client_files {
            let (certificate, key) = (read(certificate, MAX_PEM)?, read(key, MAX_PEM)?);
            options = options.ssl_client_cert_from_pem(&*certificate).ssl_client_key_from_pem(&*key);
        }
        Ok(options)
    }
}

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

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn host_and_port(authority: &str) -> Result<(Option<String>, u16), String> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or("the bracket before an IPv6 address is not closed")?;
            (host, rest.strip_prefix(':'))
        }
        None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
    };
    let port = match port {
        None | Some("") => PORT,
        Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or_else(|| format!("{port} is no port"))?,
    };
    let host = decoded(host)?;
    Ok((Some(host).filter(|host| !host.is_empty()), port))
}

/// Undoes percent-encoding (RFC 3986 section 2.1).
fn decoded(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes().iter();
    while let Some(byte) = rest.next() {
        let mut digit = || rest.next().and_then(|digit| char::from(*digit).to_digit(16));
        bytes.push(match byte {
            b'%' => match digit().zip(digit()) {
                Some((high, low)) => u8::try_from(high * 16 + low).unwrap_or_default(),
                None => return Err("a percent sign is followed by two hexadecimal digits".to_owned()),
            },
            byte => *byte,
        });
    }
    String::from_utf8(bytes).map_err(|_| "it is not UTF-8 once decoded".to_owned())
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
