//! What a test may want of a server beyond its being there.

use std::path::PathBuf;

/// How a server is set up. The default is what the store asks for: every commit on disk, no passwords, no TLS.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub(crate) settings: Vec<(String, String)>,
    pub(crate) files: Vec<(String, Vec<u8>)>,
    pub(crate) host_rules: Option<String>,
    pub(crate) below: Option<PathBuf>,
}

impl Options {
    /// A setting of `postgresql.conf`, for example `fsync` and `off`. The last one of a name counts.
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A file in the data directory that only the server can read, for example a key. It is written at each start.
    #[must_use]
    pub fn file(mut self, name: &str, content: &[u8]) -> Self {
        self.files.push((name.to_owned(), content.to_vec()));
        self
    }

    /// The server speaks TLS with this certificate chain and key, in PEM. Clients that do not are served too unless
    /// [`host_rules`](Self::host_rules) say otherwise.
    #[must_use]
    pub fn tls(self, certificates: &str, key: &str) -> Self {
        self.file("server.crt", certificates.as_bytes())
            .file("server.key", key.as_bytes())
            .setting("ssl", "on")
            .setting("ssl_cert_file", "server.crt")
            .setting("ssl_key_file", "server.key")
    }

    /// Certificates of clients under these roots, in PEM, are asked for and verified.
    #[must_use]
    pub fn client_roots(self, roots: &str) -> Self {
        self.file("clients.crt", roots.as_bytes()).setting("ssl_ca_file", "clients.crt")
    }

    /// The lines of `pg_hba.conf` for connections over TCP, for example `host all all 127.0.0.1/32 scram-sha-256`. Over
    /// the Unix socket everybody on this machine is let in, which is how databases are made.
    #[must_use]
    pub fn host_rules(mut self, lines: &str) -> Self {
        self.host_rules = Some(lines.to_owned());
        self
    }

    /// Makes its directory in this one instead of that for temporary files, for example on the disk that is measured.
    /// The user `postgres` must be able to enter it.
    #[must_use]
    pub fn below(mut self, directory: impl Into<PathBuf>) -> Self {
        self.below = Some(directory.into());
        self
    }

    /// `postgresql.conf` for a server with this port and this directory for its socket.
    pub(crate) fn configuration(&self, port: u16, socket: &str) -> String {
        let port = port.to_string();
        let ours = [
            ("listen_addresses", "127.0.0.1"),
            ("port", &port),
            ("unix_socket_directories", socket),
            ("fsync", "on"),
            ("max_connections", "200"),
            // Neither is left behind by a server that was killed.
            ("shared_memory_type", "mmap"),
            ("dynamic_shared_memory_type", "mmap"),
            ("log_line_prefix", "%m [%p] %a "),
            ("timezone", "UTC"),
        ];
        let theirs = self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let line = |(name, value): (&str, &str)| format!("{name} = '{}'\n", value.replace('\'', "''"));
        ours.into_iter().chain(theirs).map(line).collect()
    }

    /// `pg_hba.conf`.
    pub(crate) fn access(&self) -> String {
        let hosts = self.host_rules.as_deref().unwrap_or("host all all 127.0.0.1/32 trust");
        format!("local all,replication all trust\n{hosts}\n")
    }
}
