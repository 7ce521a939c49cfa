//! How the API server of a cluster is reached, as whom, and what it means when it does not do what it was asked.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http_body_util::{BodyExt, Limited};
use kube::Client;
use kube::client::Body;
use signet_core::seams::authenticator::{AuthenticationError, Outage};

use super::credentials::{Credentials, load};
use crate::files::Files;

/// How long the connection to an API server may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(4);

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
    files: Files,
    current: ArcSwap<Current>,
}

struct Current {
    client: Client,
    /// What the credentials were made of.
    fingerprint: [u8; 32],
}

impl ApiServer {
    /// Reads the credentials, their files by `files`; nothing is sent.
    ///
    /// # Errors
    /// [`ApiServerError`].
    pub async fn open(credentials: Credentials, files: Files) -> Result<Self, ApiServerError> {
        let (config, fingerprint) = read(&credentials, &files).await?;
        let current = ArcSwap::from_pointee(Current { client: client(&credentials, config)?, fingerprint });
        Ok(Self { credentials, files, current })
    }

    /// Reads the credentials anew; tells whether they have changed.
    ///
    /// # Errors
    /// [`ApiServerError`]; those in use stay.
    pub async fn renew(&self) -> Result<bool, ApiServerError> {
        let (config, fingerprint) = read(&self.credentials, &self.files).await?;
        if fingerprint == self.current.load().fingerprint {
            return Ok(false);
        }
        self.current.store(Arc::new(Current { client: client(&self.credentials, config)?, fingerprint }));
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

async fn read(credentials: &Credentials, files: &Files) -> Result<(kube::Config, [u8; 32]), ApiServerError> {
    let failed = |problem| ApiServerError { credentials: credentials.to_string(), problem };
    load(credentials, files).await.map_err(failed)
}

fn client(credentials: &Credentials, mut config: kube::Config) -> Result<Client, ApiServerError> {
    let failed = |problem: String| ApiServerError { credentials: credentials.to_string(), problem };
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
pub(super) fn chain(error: &dyn std::error::Error) -> String {
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
#[path = "api_server_tests.rs"]
mod tests;
