//! What is asked of a Vault, and how its answers are read. What vaultrs says rightly is taken from there; the rest is said here
//! with the same pieces: vaultrs names the role of a TLS certificate by a field that Vault does not know, begins the path that
//! renews a token with a tab, cannot say since when a CA of the default issuer is to count, demands fields of answers that
//! OpenBao leaves out, and has no call for capabilities or for the revocation list of an issuer.

use std::time::Duration;

use rustify::Endpoint;
use rustify::enums::{RequestMethod, RequestType, ResponseType};
use rustify::errors::ClientError;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use signet_core::secret::Secret;

use super::error::VaultError;

/// A call that vaultrs does not have, or not rightly.
pub(super) struct Call {
    path: String,
    method: RequestMethod,
    body: Option<Value>,
}

impl Endpoint for Call {
    type Response = ();
    const REQUEST_BODY_TYPE: RequestType = RequestType::JSON;
    const RESPONSE_BODY_TYPE: ResponseType = ResponseType::JSON;

    fn path(&self) -> String {
        self.path.clone()
    }

    fn method(&self) -> RequestMethod {
        self.method.clone()
    }

    fn body(&self) -> Result<Option<Vec<u8>>, ClientError> {
        Ok(self.body.as_ref().map(|body| body.to_string().into_bytes()))
    }
}

fn post(path: String, body: Value) -> Call {
    Call { path, method: RequestMethod::POST, body: Some(body) }
}

/// Logs in with the client certificate of the connection.
pub(super) fn certificate_login(mount: &str, role: Option<&str>) -> Call {
    let body = role.map_or_else(|| json!({}), |role| json!({ "name": role }));
    post(format!("auth/{mount}/login"), body)
}

/// Makes the token that asks last longer.
pub(super) fn renew_self() -> Call {
    post("auth/token/renew-self".to_owned(), json!({}))
}

/// What the token that asks may do there.
pub(super) fn capabilities(path: &str) -> Call {
    post("sys/capabilities-self".to_owned(), json!({ "paths": [path] }))
}

/// Asks for an issuing CA: name and SPIFFE ID are those of the request, and no CA may follow below it.
pub(super) fn sign_intermediate(path: &str, csr: &str, lifetime: Duration, backdate: Duration) -> Call {
    let seconds = |of: Duration| format!("{}s", of.as_secs());
    let body = json!({
        "csr": csr, "use_csr_values": true, "max_path_length": 0, "format": "pem",
        "ttl": seconds(lifetime), "not_before_duration": seconds(backdate),
    });
    post(path.to_owned(), body)
}

/// Asks for a leaf with these names: of the request, the key alone is to be used, which the role says. The end is a time of
/// day, so that it does not depend on when the call is answered.
pub(super) fn sign_leaf(path: &str, csr: &str, names: &LeafNames, not_after: &str) -> Call {
    let body = json!({
        "csr": csr, "format": "pem", "exclude_cn_from_sans": true, "not_after": not_after,
        "uri_sans": names.uri, "alt_names": names.dns, "ip_sans": names.ips,
    });
    post(path.to_owned(), body)
}

/// The names of a leaf, several with commas between.
pub(super) struct LeafNames {
    pub(super) uri: String,
    pub(super) dns: String,
    pub(super) ips: String,
}

/// The ids of the issuers of a mount; anybody may ask.
pub(super) fn list_issuers(mount: &str) -> Call {
    Call { path: format!("{mount}/issuers"), method: RequestMethod::LIST, body: None }
}

/// The ids in the answer to that.
#[derive(Deserialize)]
pub(super) struct Issuers {
    #[serde(default)]
    pub(super) keys: Vec<String>,
}

/// An issuer; anybody may ask.
pub(super) fn issuer(mount: &str, id: &str) -> Call {
    Call { path: format!("{mount}/issuer/{id}/json"), method: RequestMethod::GET, body: None }
}

/// The revocation list of an issuer; anybody may ask.
pub(super) fn list(mount: &str, id: &str) -> Call {
    Call { path: format!("{mount}/issuer/{id}/crl"), method: RequestMethod::GET, body: None }
}

/// Revokes a certificate, given in PEM; one that is revoked stays so.
pub(super) fn revoke(path: &str, certificate: &str) -> Call {
    post(path.to_owned(), json!({ "certificate": certificate }))
}

/// What is at a path.
pub(super) fn read(path: &str) -> Call {
    Call { path: path.to_owned(), method: RequestMethod::GET, body: None }
}

/// Whether that is an id, and no path.
pub(super) fn is_word(id: &str) -> bool {
    !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Asks for a signature without saying of what.
pub(super) fn sign_nothing(path: &str) -> Call {
    post(path.to_owned(), json!({ "csr": "" }))
}

/// How the server is; anybody may ask, outside of namespaces. A standby that serves answers 200, too.
pub(super) fn health() -> Call {
    Call { path: "sys/health".to_owned(), method: RequestMethod::GET, body: None }
}

/// What the mount is like that is there. Who may do anything in it may ask.
pub(super) fn mount(mount: &str) -> Call {
    Call { path: format!("sys/internal/ui/mounts/{mount}"), method: RequestMethod::GET, body: None }
}

/// What a login, or the renewal of a token, brings.
#[derive(Deserialize)]
pub(super) struct Auth {
    pub(super) client_token: String,
    /// What Vault calls the token where that must not be shown.
    #[serde(default)]
    pub(super) accessor: String,
    #[serde(default)]
    pub(super) lease_duration: u64,
    #[serde(default)]
    pub(super) renewable: bool,
}

#[derive(Deserialize)]
struct Authenticated {
    auth: Option<Auth>,
}

/// The token in the answer to a login.
pub(super) fn auth(what: &'static str, body: &Secret) -> Result<Auth, VaultError> {
    // Without the text of the parser, which may quote what stands there.
    let wrong = |cause: &str| VaultError::Answer { what, cause: cause.to_owned() };
    let answer: Authenticated = serde_json::from_slice(body.expose()).map_err(|_| wrong("it is no login"))?;
    let auth = answer.auth.ok_or_else(|| wrong("it holds no token; does the auth method want a second factor?"))?;
    if auth.client_token.is_empty() || !auth.client_token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(wrong("its token is none"));
    }
    Ok(auth)
}

/// What a token that was given is like.
#[derive(Deserialize)]
pub(super) struct Lookup {
    #[serde(default)]
    pub(super) accessor: String,
    #[serde(default)]
    pub(super) ttl: u64,
    #[serde(default)]
    pub(super) renewable: bool,
}

/// An issuer.
#[derive(Deserialize)]
pub(super) struct Issuer {
    pub(super) certificate: String,
    /// Its id, which stays its own when another one is called `default`.
    #[serde(default)]
    pub(super) issuer_id: String,
    #[serde(default)]
    pub(super) ca_chain: Vec<String>,
}

/// A revocation list.
#[derive(Deserialize)]
pub(super) struct List {
    #[serde(default)]
    pub(super) crl: String,
}

/// A signed certificate.
#[derive(Deserialize)]
pub(super) struct Signed {
    pub(super) certificate: String,
    #[serde(default)]
    pub(super) issuing_ca: String,
    #[serde(default)]
    pub(super) ca_chain: Vec<String>,
}

/// How the server is.
#[derive(Deserialize)]
pub(super) struct Health {
    pub(super) server_time_utc: i64,
    #[serde(default)]
    pub(super) version: String,
}

/// A mount.
#[derive(Deserialize)]
pub(super) struct Mount {
    pub(super) config: MountConfig,
}

/// What it is set to.
#[derive(Deserialize)]
pub(super) struct MountConfig {
    /// The longest that anything from it lasts, in seconds; 0 for the server's default.
    pub(super) max_lease_ttl: u64,
}

#[derive(Deserialize)]
struct Data<T> {
    data: Option<T>,
}

/// The `data` of an answer.
pub(super) fn data<T: DeserializeOwned>(what: &'static str, body: &[u8]) -> Result<T, VaultError> {
    let answer: Data<T> = plain(what, body)?;
    answer.data.ok_or_else(|| VaultError::Answer { what, cause: "it has no data".to_owned() })
}

/// An answer that is not wrapped.
pub(super) fn plain<T: DeserializeOwned>(what: &'static str, body: &[u8]) -> Result<T, VaultError> {
    serde_json::from_slice(body).map_err(|error| {
        let cause = format!("it is not the JSON that was expected (line {}, column {})", error.line(), error.column());
        VaultError::Answer { what, cause }
    })
}
