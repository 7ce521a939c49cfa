//! Where a cluster publishes the keys of its tokens: its API server itself, or the issuer that its tokens name, by OpenID
//! Connect Discovery.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use http::Uri;
use serde::Deserialize;
use signet_core::seams::authenticator::{AuthenticationError, Outage};

use super::jwt::shorten;
use super::published_keys::KeyLookup;
use crate::kubernetes::{ApiServer, Credentials, Files};

/// Where an API server publishes its keys. It is asked at its configured address: the one that its discovery document names
/// may lead nowhere from here.
const KEYS: &str = "/openid/v1/jwks";
/// An API server that is asked for JSON alone answers 406.
const ACCEPT_KEYS: &str = "application/jwk-set+json, application/json;q=0.9";
/// The largest set of keys that is read, in bytes.
const MAX_KEYS: usize = 1024 * 1024;
/// Below an issuer, OpenID Connect Discovery section 4.
const DISCOVERY: &str = "/.well-known/openid-configuration";
/// The largest discovery document that is read, in bytes.
const MAX_DOCUMENT: usize = 64 * 1024;

/// The keys of an API server, which lets every service account read them.
pub struct ApiServerKeys(pub Arc<ApiServer>);

#[async_trait]
impl KeyLookup for ApiServerKeys {
    async fn look_up(&self) -> Result<Vec<u8>, AuthenticationError> {
        self.0.get(KEYS, ACCEPT_KEYS, MAX_KEYS).await
    }
}

/// The keys that an issuer's discovery document leads to.
#[derive(Debug, Clone)]
pub struct IssuerKeys {
    /// The issuer, an `https` URL.
    pub issuer: String,
    /// The roots that its server's certificate chains to; those of the system when there is none.
    pub ca_file: Option<PathBuf>,
    /// Reads that file.
    pub files: Files,
}

#[derive(Deserialize)]
struct Document {
    issuer: String,
    jwks_uri: String,
}

#[async_trait]
impl KeyLookup for IssuerKeys {
    async fn look_up(&self) -> Result<Vec<u8>, AuthenticationError> {
        let failed = |detail: String| AuthenticationError::unavailable(Outage::ApiFailed, detail);
        let document =
            self.get(&format!("{}{DISCOVERY}", self.issuer.trim_end_matches('/')), "*/*", MAX_DOCUMENT).await?;
        let document: Document = serde_json::from_slice(&document)
            .map_err(|error| failed(format!("the discovery document of {} cannot be read: {error}", self.issuer)))?;
        // Section 4.3: whoever speaks for another issuer is not believed.
        if document.issuer != self.issuer {
            let found = shorten(&document.issuer);
            return Err(failed(format!("the discovery document of {} is of the issuer {found:?}", self.issuer)));
        }
        self.get(&document.jwks_uri, ACCEPT_KEYS, MAX_KEYS).await
    }
}

impl IssuerKeys {
    async fn get(&self, url: &str, accept: &str, most: usize) -> Result<Vec<u8>, AuthenticationError> {
        let failed = |detail: String| AuthenticationError::unavailable(Outage::ApiFailed, detail);
        let uri: Uri = url.parse().map_err(|error| failed(format!("{:?} is no URL: {error}", shorten(url))))?;
        if uri.scheme_str() != Some("https") {
            return Err(failed(format!("keys are read over https only, not from {:?}", shorten(url))));
        }
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let credentials = Credentials::Anonymous { url: uri, ca_file: self.ca_file.clone() };
        let server = ApiServer::open(credentials, self.files.clone()).await;
        server.map_err(|error| failed(error.to_string()))?.get(&path, accept, most).await
    }
}
