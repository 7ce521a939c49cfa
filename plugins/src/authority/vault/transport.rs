//! How a Vault is reached: over TLS to roots that are given and to no others, within a time, a few calls at once, and answers of
//! a bounded size. A connection is made anew when the files that it depends on have changed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::redirect::Policy;
use ring::digest::{Context, SHA256};
use rustify::Endpoint;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;
use signet_core::clock::SharedClock;
use signet_core::pem::read_certificates;
use signet_core::secret::Secret;
use signet_core::time_math;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use vaultrs::api::EndpointMiddleware;

use super::circuit::{Circuit, CircuitState};
use super::error::{VaultError, shown};
use super::settings::{Login, VaultSettings};
use crate::error_text::chain;
use crate::files::Files;

/// Calls at the same time, beside those for leaves.
const CALLS: usize = 4;

/// The largest answer that is read, in bytes.
const MAX_ANSWER: usize = 1024 * 1024;

/// How long a connection that is not used is kept.
const IDLE: Duration = Duration::from_secs(30);

/// How calls went since the start.
#[derive(Debug, Default)]
pub(super) struct Calls {
    pub(super) answered: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) failed: AtomicU64,
}

/// The way to a Vault.
pub(super) struct Transport {
    settings: Arc<VaultSettings>,
    files: Files,
    clock: SharedClock,
    client: Mutex<Option<Made>>,
    places: Semaphore,
    circuit: Mutex<Circuit>,
    pub(super) calls: Calls,
}

struct Made {
    client: reqwest::Client,
    /// Of the files that it was made of.
    fingerprint: [u8; 32],
}

impl Transport {
    pub(super) fn new(settings: Arc<VaultSettings>, files: Files, clock: SharedClock) -> Self {
        let (places, circuit) = (Semaphore::new(Self::calls_at_once(&settings)), Mutex::default());
        Self { settings, files, clock, client: Mutex::default(), places, circuit, calls: Calls::default() }
    }

    fn calls_at_once(settings: &VaultSettings) -> usize {
        settings.leaves.as_ref().map_or(CALLS, |leaves| leaves.at_once.saturating_add(CALLS))
    }

    /// Whether nobody should count on calls now, and why.
    pub(super) fn paused(&self) -> Option<String> {
        lock(&self.circuit).paused()
    }

    pub(super) fn circuit(&self) -> CircuitState {
        lock(&self.circuit).state(Instant::now())
    }

    /// Makes a call, once, and gives the body of a good answer.
    pub(super) async fn send<E: Endpoint>(
        &self,
        what: &'static str,
        endpoint: E,
        token: Option<&Secret>,
    ) -> Result<Secret, VaultError> {
        self.send_in(self.settings.namespace.clone(), what, endpoint, token).await
    }

    /// The same outside of every namespace: some things are only there.
    pub(super) async fn send_outside<E: Endpoint>(
        &self,
        what: &'static str,
        endpoint: E,
    ) -> Result<Secret, VaultError> {
        self.send_in(None, what, endpoint, None).await
    }

    async fn send_in<E: Endpoint>(
        &self,
        namespace: Option<String>,
        what: &'static str,
        endpoint: E,
        token: Option<&Secret>,
    ) -> Result<Secret, VaultError> {
        let request = self.request(namespace, what, endpoint, token)?;
        // Files have their own deadline, and are none of the server's.
        let client = self.client().await?;
        let attempt = self.attempt()?;
        let within = self.settings.timeout;
        let called = tokio::time::timeout(within, async {
            let _place = self.places.acquire().await.map_err(|_| VaultError::Crowded(what))?;
            self.exchange(what, &client, request).await
        });
        let late = || VaultError::Late { address: self.settings.address.clone(), what, within };
        let answer = called.await.unwrap_or_else(|_| Err(late()));
        attempt.end(&answer);
        answer
    }

    fn request<E: Endpoint>(
        &self,
        namespace: Option<String>,
        what: &'static str,
        endpoint: E,
        token: Option<&Secret>,
    ) -> Result<reqwest::Request, VaultError> {
        let wrong = |cause: String| VaultError::Request { what, cause };
        let middleware = EndpointMiddleware {
            token: token.and_then(Secret::expose_str).unwrap_or_default().to_owned(),
            version: "v1".to_owned(),
            wrap: None,
            namespace,
        };
        let request = endpoint.with_middleware(&middleware).request(&self.settings.address);
        let mut request = request.map_err(|error| wrong(chain(&error)))?;
        if let Some(token) = request.headers_mut().get_mut("x-vault-token") {
            token.set_sensitive(true);
        }
        reqwest::Request::try_from(request).map_err(|error| wrong(chain(&error)))
    }

    async fn exchange(
        &self,
        what: &'static str,
        client: &reqwest::Client,
        request: reqwest::Request,
    ) -> Result<Secret, VaultError> {
        let broken = |error: reqwest::Error| VaultError::Unreachable {
            address: self.settings.address.clone(),
            cause: shown(&chain(&error.without_url())),
        };
        let mut response = client.execute(request).await.map_err(broken)?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(broken)? {
            if body.len().saturating_add(chunk.len()) > MAX_ANSWER {
                return Err(VaultError::Answer { what, cause: format!("it has more than {MAX_ANSWER} bytes") });
            }
            body.extend_from_slice(&chunk);
        }
        match response.status().as_u16() {
            200..=299 => Ok(Secret::new(body)),
            status => Err(VaultError::of_status(what, status, &body)),
        }
    }

    fn attempt(&self) -> Result<Attempt<'_>, VaultError> {
        let asked = lock(&self.circuit).ask(Instant::now());
        asked.map_err(|pause| VaultError::Paused {
            until: time_math::after(self.clock.now(), pause.left),
            last: pause.last,
        })?;
        Ok(Attempt { of: self, is_over: false })
    }

    /// The client for the files as they are now.
    pub(super) async fn client(&self) -> Result<reqwest::Client, VaultError> {
        let read = async |file| self.files.read(file).await.map_err(VaultError::File);
        let roots = match &self.settings.ca_file {
            Some(file) => Some((file, read(file).await?)),
            None => None,
        };
        let proof = match &self.settings.login {
            Login::Certificate { certificate_file, key_file, .. } => {
                let key = Secret::new(read(key_file).await?);
                Some(((certificate_file, read(certificate_file).await?), (key_file, key)))
            }
            _ => None,
        };
        let mut seen = Context::new(&SHA256);
        let parts = roots.iter().map(|(_, content)| content.as_slice());
        let proofs = proof.iter().flat_map(|((_, chain), (_, key))| [chain.as_slice(), key.expose()]);
        for part in parts.chain(proofs) {
            seen.update(&part.len().to_be_bytes());
            seen.update(part);
        }
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(seen.finish().as_ref());
        if let Some(made) = lock(&self.client).as_ref().filter(|made| made.fingerprint == fingerprint) {
            return Ok(made.client.clone());
        }
        let mut store = RootCertStore::empty();
        if let Some((file, content)) = &roots {
            let wrong = |cause: String| VaultError::File(format!("{}: {cause}", file.display()));
            for (_, root) in read_certificates(content).map_err(|error| wrong(error.to_string()))? {
                store.add(root).map_err(|error| wrong(format!("a certificate cannot be a root: {error}")))?;
            }
            if store.is_empty() {
                return Err(wrong("there is no certificate in it".to_owned()));
            }
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| VaultError::File(format!("TLS: {error}")))?.with_root_certificates(store);
        let tls = match proof {
            None => builder.with_no_client_auth(),
            Some(((certificate_file, content), (key_file, key))) => {
                let of = |cause: String| VaultError::File(format!("{}: {cause}", certificate_file.display()));
                let chain = read_certificates(&content).map_err(|error| of(error.to_string()))?;
                let chain = chain.into_iter().map(|(_, certificate)| certificate).collect();
                // Without what the parser says, which might quote the key.
                let key = PrivateKeyDer::from_pem_slice(key.expose())
                    .map_err(|_| VaultError::File(format!("{}: it holds no private key", key_file.display())))?;
                let made = builder.with_client_auth_cert(chain, key);
                made.map_err(|error| of(format!("with {}: {error}", key_file.display())))?
            }
        };
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            // What Vault is reached by is in the settings, and in no environment.
            .no_proxy()
            // A token must not go where an answer says.
            .redirect(Policy::none())
            .connect_timeout(self.settings.timeout)
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(self.settings.leaves.as_ref().map_or(1, |leaves| leaves.at_once))
            .build()
            .map_err(|error| VaultError::File(format!("TLS: {}", chain(&error))))?;
        *lock(&self.client) = Some(Made { client: client.clone(), fingerprint });
        Ok(client)
    }
}

/// A call that the circuit has allowed.
struct Attempt<'a> {
    of: &'a Transport,
    is_over: bool,
}

impl Attempt<'_> {
    fn end(mut self, answer: &Result<Secret, VaultError>) {
        self.is_over = true;
        let mut circuit = lock(&self.of.circuit);
        let calls = &self.of.calls;
        let count = match answer {
            Err(error) if error.is_outage() => {
                circuit.failed(Instant::now(), error.to_string());
                &calls.failed
            }
            Err(_) => {
                circuit.succeeded();
                &calls.refused
            }
            Ok(_) => {
                circuit.succeeded();
                &calls.answered
            }
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            lock(&self.of.circuit).left();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
