//! Where a command reads the record: from a running CA, or from the storage itself. What is read is the same, and so is what
//! is made of it.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use signet_core::seams::record_tree::RecordTree;
use signet_core::seams::store::AuditStore;
use signet_proto::admin::v1alpha1::{GetBundleRequest, GetBundleResponse};

use super::admin_client::{ANSWER, AdminArgs, failure, within};
use super::record_remote::Remote;
use super::{ConfigFile, Failure};
use crate::app::{self, Store};

const OVER_TLS: &str = "Options for a CA elsewhere";

/// Whom the record is asked of. Where neither a CA nor the storage is named, it is the CA at the socket of the configuration
/// file, and the storage when none answers there.
#[derive(Debug, Args)]
pub(super) struct SourceArgs {
    #[command(flatten)]
    pub(super) admin: AdminArgs,
    /// Read the storage itself, as the configuration file names it, also when a CA is running on it
    #[arg(long, conflicts_with_all = ["socket", "address"])]
    pub(super) storage: bool,
}

/// The same where `--key` is the key of the record.
#[derive(Debug, Args)]
pub(super) struct SourceBesideKeyArgs {
    #[command(flatten)]
    file: ConfigFile,
    /// Read the storage itself, as the configuration file names it, also when a CA is running on it
    #[arg(long, conflicts_with_all = ["socket", "address"])]
    storage: bool,
    /// The admin socket of the running CA, when the configuration file cannot be read or names another one by now
    #[arg(long, value_name = "PATH", conflicts_with = "address", value_parser = super::admin_client::socket)]
    socket: Option<PathBuf>,
    /// Ask over TLS at this address, like https://ca.example:15012, instead of the admin socket
    #[arg(long, help_heading = OVER_TLS, value_name = "URL", requires_all = ["cert", "tls_key", "ca"])]
    address: Option<String>,
    /// Your certificate chain (PEM), of a SPIFFE ID that the CA lists as an auditor or administrator
    #[arg(long, help_heading = OVER_TLS, value_name = "FILE", requires = "address")]
    cert: Option<PathBuf>,
    /// Its private key (PEM); other commands call it --key
    #[arg(long, help_heading = OVER_TLS, value_name = "FILE", requires = "address")]
    tls_key: Option<PathBuf>,
    /// The roots that the CA's serving certificate is verified with (PEM)
    #[arg(long, help_heading = OVER_TLS, value_name = "FILE", requires = "address")]
    ca: Option<PathBuf>,
    /// The name in the CA's serving certificate, when it is not the host of the address
    #[arg(long, help_heading = OVER_TLS, value_name = "NAME", requires = "address")]
    server_name: Option<String>,
}

impl SourceBesideKeyArgs {
    /// As the others have it.
    pub(super) fn source(&self) -> SourceArgs {
        let Self { file, storage, socket, address, cert, tls_key, ca, server_name } = self;
        let admin = AdminArgs {
            file: file.clone(),
            socket: socket.clone(),
            address: address.clone(),
            cert: cert.clone(),
            key: tls_key.clone(),
            ca: ca.clone(),
            server_name: server_name.clone(),
        };
        SourceArgs { admin, storage: *storage }
    }
}

/// Where the record is read.
#[derive(Clone)]
pub(super) struct Source {
    pub(super) events: Arc<dyn AuditStore>,
    pub(super) tree: Arc<dyn RecordTree>,
    /// The storage, if it is not a CA.
    pub(super) store: Option<Arc<dyn Store>>,
    /// The CA, if it is not the storage.
    pub(super) remote: Option<Arc<Remote>>,
    /// The name of the log.
    pub(super) origin: String,
}

impl SourceArgs {
    /// Opens it.
    pub(super) async fn open(&self) -> Result<Source, Failure> {
        if self.admin.is_named() {
            return Source::of_ca(Remote::connect(&self.admin).await?).await;
        }
        if !self.storage
            && let Some(remote) = self.running().await
            && let Ok(source) = Source::of_ca(remote).await
        {
            return Ok(source);
        }
        let config = self.admin.file.load()?.config;
        let store = app::open_for_reading(&config).await.map_err(Failure::failed)?;
        let (events, tree) = (Arc::clone(&store) as _, Arc::clone(&store) as _);
        Ok(Source { events, tree, store: Some(store), remote: None, origin: config.audit.origin })
    }

    /// The trust bundle of the CA that is named; else of one that answers, if any does and the storage is not named.
    pub(super) async fn bundle(&self) -> Result<Option<GetBundleResponse>, Failure> {
        if self.storage {
            return Ok(None);
        }
        let asked = async {
            let mut client = self.admin.connect().await?;
            let answer = within(ANSWER, client.service.get_bundle(GetBundleRequest {})).await;
            answer.map(Some).map_err(|status| failure(&status))
        };
        let answer = asked.await;
        if self.admin.is_named() { answer } else { Ok(answer.unwrap_or_default()) }
    }

    /// The CA at the socket of the configuration file, if one answers there.
    async fn running(&self) -> Option<Remote> {
        // A file that cannot be read is told of when the storage is opened.
        Remote::connect(&self.admin).await.ok()
    }

    /// The CA alone: what only a running one can do.
    pub(super) async fn ca(&self) -> Result<Source, Failure> {
        Source::of_ca(Remote::connect(&self.admin).await?).await
    }
}

/// A certificate that is revoked.
#[derive(Debug, Clone)]
pub(super) struct Revoked {
    pub(super) serial: String,
    /// The id of the issuing CA.
    pub(super) issuer: String,
    /// Seconds since 1970.
    pub(super) at: i64,
    pub(super) reason: String,
    /// Whether a backend has yet to do it.
    pub(super) awaited: bool,
}

impl Source {
    /// The certificates that are revoked now.
    pub(super) async fn revoked(&self) -> Result<Vec<Revoked>, Failure> {
        if let Some(remote) = &self.remote {
            return remote.revoked().await;
        }
        let Some(store) = &self.store else { return Ok(Vec::new()) };
        let journal = store.load().await.map_err(Failure::failed)?;
        let revocations = journal.map(|(_, journal)| journal.revocations).unwrap_or_default();
        let revoked = revocations.entries.iter().map(|entry| Revoked {
            serial: entry.serial.clone(),
            issuer: entry.issuer.to_string(),
            at: entry.at,
            reason: entry.reason.as_str().to_owned(),
            awaited: revocations.awaits(entry),
        });
        Ok(revoked.collect())
    }

    /// One that answers: a CA that cannot is found out here, before anything is printed.
    async fn of_ca(remote: Remote) -> Result<Self, Failure> {
        let origin = remote.origin().await?;
        let remote = Arc::new(remote);
        Ok(Self {
            events: Arc::clone(&remote) as _,
            tree: Arc::clone(&remote) as _,
            store: None,
            remote: Some(remote),
            origin,
        })
    }
}
