//! Where the storage is: the field `storage` and the section `postgres`.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use rustls_pki_types::DnsName;
use signet_runtime::config::{Section, kind};

/// The port of a PostgreSQL server when the URL names none.
const PORT: u16 = 5432;

/// Connections to a PostgreSQL server when the file says nothing.
const CONNECTIONS: u32 = 8;

/// What is said of a storage that this program cannot use.
pub(crate) const WITHOUT_POSTGRES: &str = "is a database of a PostgreSQL server, which this program was built without; use one \
    with the feature `postgres`, which a build has unless it is told otherwise";

/// Where records, authorities and encrypted keys are kept. Shown as the URL, which holds no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Storage {
    /// A file.
    Sqlite(PathBuf),
    /// A database of a server.
    Postgres(Postgres),
}

/// A database of a PostgreSQL server, and how it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Postgres {
    /// Which one.
    pub database: Database,
    /// How.
    pub reach: Reach,
}

/// A database, and the role that uses it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    /// The role.
    pub user: String,
    /// The server.
    pub host: Host,
    /// Its port, which a Unix socket has in its name.
    pub port: u16,
    /// The database's name.
    pub name: String,
}

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// A DNS name.
    Name(String),
    /// An address.
    Address(IpAddr),
    /// The directory of its Unix socket.
    Socket(PathBuf),
}

/// How a server is reached: the section `postgres`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    /// The file with the role's password.
    pub password_file: Option<PathBuf>,
    /// The certificates of those who may certify the server, as PEM; without, those that are publicly trusted.
    pub ca_file: Option<PathBuf>,
    /// The files with the certificate chain and the key by which the role proves itself.
    pub client_files: Option<(PathBuf, PathBuf)>,
    /// What is asked of the connection.
    pub tls: Tls,
    /// Connections at most.
    pub connections: u32,
}

impl Default for Reach {
    fn default() -> Self {
        Self { password_file: None, ca_file: None, client_files: None, tls: Tls::Verify, connections: CONNECTIONS }
    }
}

/// What is asked of the connection to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    /// TLS to the server with the name of the URL, but for one on this host without `ca_file`.
    Verify,
    /// None.
    Off,
}

impl Postgres {
    /// Whether the connection is encrypted: never over a Unix socket, which leads to this host only.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        let asked = self.reach.ca_file.is_some() || self.reach.client_files.is_some();
        let host = &self.database.host;
        self.reach.tls == Tls::Verify && !matches!(host, Host::Socket(_)) && (asked || !host.is_local())
    }
}

impl Host {
    /// Whether what is sent there stays on this host.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::Name(name) => name.eq_ignore_ascii_case("localhost"),
            Self::Address(address) => address.is_loopback(),
            Self::Socket(_) => true,
        }
    }
}

impl fmt::Display for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite://{}", path.display()),
            Self::Postgres(postgres) => postgres.database.fmt(f),
        }
    }
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { user, host, port, name } = self;
        match host {
            Host::Name(host) => write!(f, "postgres://{user}@{host}:{port}/{name}"),
            Host::Address(IpAddr::V4(host)) => write!(f, "postgres://{user}@{host}:{port}/{name}"),
            Host::Address(IpAddr::V6(host)) => write!(f, "postgres://{user}@[{host}]:{port}/{name}"),
            Host::Socket(directory) => write!(f, "postgres://{user}@:{port}/{name}?host={}", directory.display()),
        }
    }
}

/// Reads where the storage is; every wrong field is noted in the section.
#[must_use]
pub fn read_storage(s: &mut Section<'_>) -> Option<Storage> {
    // Not with its value in the message, which may hold a password.
    let url = kind::Kind::new("storage URL", |value| Url::parse(value.as_str().unwrap_or_default()));
    let url = s.defaulted(
        "storage",
        "sqlite:///var/lib/signet/signet.db",
        url,
        "where records, authorities and encrypted keys are kept: sqlite:// and the path of a file, or postgres://user@host:5432/database, see docs/storage.md. What is missing in it is made, but no authority: that is for `signet-ca init`",
    );
    let meaning = "how the PostgreSQL server of `storage` is reached; its files are read for each new connection";
    let reach = s.optional_section("postgres", meaning, read_reach);
    if cfg!(not(feature = "postgres")) && matches!(url, Some(Url::Postgres(_))) {
        s.problem("storage", WITHOUT_POSTGRES);
    }
    if let (Some(Url::Sqlite(_)), Some(Some(_))) = (&url, &reach) {
        s.problem("postgres", "is only used with a storage of postgres://; remove it");
    }
    if let (Some(Url::Postgres(Database { host: Host::Socket(_), .. })), Some(Some(reach))) = (&url, &reach)
        && (reach.ca_file.is_some() || reach.client_files.is_some())
    {
        s.problem("postgres", "has files for TLS, which are of no use over a Unix socket; remove them");
    }
    Some(match (url?, reach?) {
        (Url::Sqlite(path), _) => Storage::Sqlite(path),
        (Url::Postgres(database), reach) => Storage::Postgres(Postgres { database, reach: reach.unwrap_or_default() }),
    })
}

fn read_reach(s: &mut Section<'_>) -> Option<Reach> {
    let password_file =
        s.optional("password_file", kind::path(), "file with the password of the user, for the CA to read alone");
    let ca_file = s.optional(
        "ca_file",
        kind::path(),
        "PEM file with the certificates that the server's must chain to; without, those that are publicly trusted count",
    );
    let certificate = s.optional(
        "client_certificate_file",
        kind::path(),
        "PEM file with the certificate by which the user proves itself, and its chain",
    );
    let key = s.optional(
        "client_key_file",
        kind::path(),
        "PEM file with the key of that certificate, for the CA to read alone",
    );
    let tls = s.defaulted(
        "tls",
        "verify",
        kind::choice(&[("verify", Tls::Verify), ("off", Tls::Off)]),
        "`verify`: over TLS, to a server that proves the name in the URL; one on this host (localhost, a loopback address) needs none, and has it with `ca_file` or a client certificate; over a Unix socket there is none. `off`: everything in clear, which the log warns of",
    );
    let connections = s.defaulted("connections", CONNECTIONS, kind::integer(2..=200), "connections of each CA at most");
    match (&certificate, &key) {
        (Some(Some(_)), Some(None)) => {
            s.problem("client_key_file", "is missing: client_certificate_file needs its key")
        }
        (Some(None), Some(Some(_))) => {
            s.problem("client_certificate_file", "is missing: client_key_file is of no use without it");
        }
        _ => {}
    }
    if tls == Some(Tls::Off) {
        let unused = [("ca_file", &ca_file), ("client_certificate_file", &certificate)];
        for (name, _) in unused.into_iter().filter(|(_, value)| matches!(value, Some(Some(_)))) {
            s.problem(name, "is of no use with tls: off; remove one of them");
        }
    }
    let client_files = certificate?.zip(key?);
    Some(Reach { password_file: password_file?, ca_file: ca_file?, client_files, tls: tls?, connections: connections? })
}

/// The URL of a storage.
#[derive(Debug, PartialEq, Eq)]
enum Url {
    Sqlite(PathBuf),
    Postgres(Database),
}

impl Url {
    fn parse(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("sqlite://") {
            let fits = path.starts_with('/') && path.len() > 1;
            let words = "names no file; write sqlite:// and an absolute path, like sqlite:///var/lib/signet/signet.db";
            return if fits { Ok(Self::Sqlite(PathBuf::from(path))) } else { Err(words.to_owned()) };
        }
        let Some(rest) = text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://")) else {
            return Err(
                "is not a storage URL; write sqlite:///absolute/path or postgres://user@host:5432/database".to_owned()
            );
        };
        rest.parse().map(Self::Postgres)
    }
}

impl FromStr for Database {
    type Err = String;

    /// Reads what follows `postgres://`.
    fn from_str(text: &str) -> Result<Self, String> {
        const FORM: &str = "write postgres://user@host:5432/database";
        let (text, query) = text.split_once('?').map_or((text, None), |(text, query)| (text, Some(query)));
        // A password may hold any character: it ends at the last @.
        let (user, rest) = text.rsplit_once('@').ok_or_else(|| format!("names no user; {FORM}"))?;
        if user.contains(':') {
            return Err(
                "holds a password, which whoever sees the configuration would know; remove it, and name a file \
                        that holds it in postgres.password_file"
                    .to_owned(),
            );
        }
        let (place, name) = rest.split_once('/').ok_or_else(|| format!("names no database; {FORM}"))?;
        for (what, name) in [("user", user), ("database", name)] {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
            if name.is_empty() {
                return Err(format!("names no {what}; {FORM}"));
            }
            if !name.bytes().all(plain) {
                return Err(format!("its {what} has characters other than letters, digits, dots, `-` and `_`"));
            }
        }
        let (host, port) = match place.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                let number = port.parse().ok().filter(|port| *port > 0);
                (host, number.ok_or("its port is not a number from 1 to 65535")?)
            }
            _ => (place, PORT),
        };
        let directory = query.map(socket_directory).transpose()?;
        let host = match (host, directory) {
            ("", Some(directory)) => Host::Socket(directory),
            ("", None) => return Err(format!("names no host; {FORM}")),
            (_, Some(_)) => {
                return Err("names a host and the directory of a Unix socket; remove one of them".to_owned());
            }
            (host, None) => host_of(host)?,
        };
        Ok(Self { user: user.to_owned(), host, port, name: name.to_owned() })
    }
}

/// The one parameter that a URL may have.
fn socket_directory(query: &str) -> Result<PathBuf, &'static str> {
    match query.strip_prefix("host=") {
        Some(directory) if directory.starts_with('/') && !directory.contains(['&', '%', '#']) => {
            Ok(PathBuf::from(directory))
        }
        _ => Err("has parameters; the only one is host, the directory of a Unix socket, as in \
                  postgres://user@/database?host=/run/postgresql; all else is set in the section postgres"),
    }
}

fn host_of(text: &str) -> Result<Host, &'static str> {
    const WRONG: &str = "its host is neither a DNS name nor an address; an IPv6 address stands in brackets";
    if let Some(address) = text.strip_prefix('[') {
        let address = address.strip_suffix(']').and_then(|address| address.parse().ok());
        return address.map(|address| Host::Address(IpAddr::V6(address))).ok_or(WRONG);
    }
    if let Ok(address) = text.parse() {
        return Ok(Host::Address(IpAddr::V4(address)));
    }
    DnsName::try_from(text).map(|_| Host::Name(text.to_owned())).map_err(|_| WRONG)
}
