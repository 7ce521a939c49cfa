//! The API server that cert-manager is asked through: opened when it is first needed, with credentials that are read again.

use std::sync::Arc;
use std::time::Duration;

use signet_core::seams::certificate_authority::SignError;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::kubernetes::{ApiServer, Credentials, Files};

/// How often the files of credentials are looked at, when anything is asked.
const LOOK: Duration = Duration::from_secs(10);

pub(super) struct Connection {
    credentials: Credentials,
    pub(super) files: Files,
    open: Mutex<Option<(Arc<ApiServer>, Instant)>>,
}

impl Connection {
    pub(super) fn new(credentials: Credentials, files: Files) -> Self {
        Self { credentials, files, open: Mutex::default() }
    }

    /// The server, with the credentials as they are. New ones that are no good leave those before in use.
    pub(super) async fn server(&self) -> Result<Arc<ApiServer>, SignError> {
        let mut open = self.open.lock().await;
        let now = Instant::now();
        match open.as_mut() {
            Some((server, looked)) => {
                if now.duration_since(*looked) >= LOOK {
                    *looked = now;
                    if let Err(error) = server.renew().await {
                        tracing::warn!(%error, "credentials for cert-manager's API server cannot be used; those before stay");
                    }
                }
                Ok(Arc::clone(server))
            }
            None => {
                let server = ApiServer::open(self.credentials.clone(), self.files.clone()).await;
                let server = server
                    .map_err(|error| SignError::Unavailable(format!("authority.cert_manager.api_server: {error}")))?;
                Ok(Arc::clone(&open.insert((Arc::new(server), now)).0))
            }
        }
    }
}
