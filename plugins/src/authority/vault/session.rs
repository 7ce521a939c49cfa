//! As whom a Vault is spoken to: logs in with what the files say at that time, renews the token at two thirds of its lease, and
//! logs in anew when the token is not accepted any more.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustify::Endpoint;
use signet_core::clock::SharedClock;
use signet_core::secret::Secret;
use signet_core::time_math;
use time::OffsetDateTime;
use tokio::sync::Mutex;
use tokio::time::Instant;
use vaultrs::api::auth::approle::requests::LoginWithApproleRequest;
use vaultrs::api::auth::kubernetes::requests::LoginWithKubernetesRequest;
use vaultrs::api::token::requests::LookupTokenSelfRequest;

use super::calls::{self, Auth, Lookup};
use super::error::{VaultError, shown};
use super::logins::Logins;
use super::settings::{Login, VaultSettings};
use super::transport::Transport;
use crate::files::Files;

const LOG_IN: &str = "log in";
const RENEW: &str = "renew its token";

/// A token in use.
pub(super) struct Token {
    secret: Secret,
    /// Told apart from those before it.
    pub(super) number: u64,
    /// What Vault calls it where it must not be shown.
    pub(super) accessor: Option<String>,
    pub(super) renewable: bool,
    /// For how long it was given; nothing for one without an end.
    pub(super) lease: Option<Duration>,
    /// What the login granted; nothing for a token without an end.
    granted: Duration,
    renew_at: Option<Instant>,
    ends_at: Option<Instant>,
    /// The same by the wall clock, for people.
    pub(super) shown_end: Option<OffsetDateTime>,
}

/// What is to be done about a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    Nothing,
    Renew,
    LogIn,
}

impl Token {
    fn due(&self, now: Instant) -> Due {
        let is_over = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        match (is_over(self.ends_at), is_over(self.renew_at)) {
            (true, _) => Due::LogIn,
            (false, false) => Due::Nothing,
            (false, true) if self.renewable => Due::Renew,
            (false, true) => Due::LogIn,
        }
    }
}

/// Who has logged in.
pub(super) struct Session {
    settings: Arc<VaultSettings>,
    files: Files,
    clock: SharedClock,
    pub(super) transport: Transport,
    pub(super) logins: Logins,
    /// One at a time logs in, and the others use what that brings.
    current: Mutex<Current>,
}

#[derive(Default)]
struct Current {
    token: Option<Arc<Token>>,
    logins: u64,
}

impl Session {
    pub(super) fn new(settings: Arc<VaultSettings>, files: Files, clock: SharedClock) -> Self {
        let transport = Transport::new(Arc::clone(&settings), files.clone(), Arc::clone(&clock));
        Self { settings, files, clock, transport, logins: Logins::default(), current: Mutex::default() }
    }

    /// Makes sure that there is a token, and that it goes on.
    pub(super) async fn keep(&self) -> Result<Arc<Token>, VaultError> {
        let mut current = self.current.lock().await;
        let Some(token) = current.token.clone() else { return self.log_in(&mut current).await };
        match token.due(Instant::now()) {
            Due::Nothing => Ok(token),
            Due::LogIn => self.log_in(&mut current).await,
            Due::Renew => match self.renew(&mut current, &token).await {
                Ok(Some(renewed)) => Ok(renewed),
                // It comes to its end for good.
                Ok(None) | Err(VaultError::Denied { .. } | VaultError::Refused { .. }) => {
                    self.log_in(&mut current).await
                }
                Err(error) => Err(error),
            },
        }
    }

    /// Makes a call with the token; when that is not accepted, once more with a new one.
    pub(super) async fn call<E: Endpoint>(
        &self,
        what: &'static str,
        endpoint: impl Fn() -> E,
    ) -> Result<Secret, VaultError> {
        let token = self.keep().await?;
        let answer = self.transport.send(what, endpoint(), Some(&token.secret)).await;
        let Err(VaultError::Denied { .. }) = answer else { return answer };
        let token = {
            let mut current = self.current.lock().await;
            match current.token.clone().filter(|newer| newer.number != token.number) {
                Some(newer) => newer,
                None => self.log_in(&mut current).await?,
            }
        };
        self.transport.send(what, endpoint(), Some(&token.secret)).await
    }

    /// Until when the token holds that is in use; for people.
    pub(super) async fn token_ends(&self) -> Option<OffsetDateTime> {
        self.current.lock().await.token.as_ref().and_then(|token| token.shown_end)
    }

    /// Logs in, and tells what came of it.
    async fn log_in(&self, current: &mut Current) -> Result<Arc<Token>, VaultError> {
        let result = self.try_log_in(current).await;
        self.logins.told(&self.settings, result.as_deref());
        result
    }

    async fn try_log_in(&self, current: &mut Current) -> Result<Arc<Token>, VaultError> {
        current.token = None;
        let body = match &self.settings.login {
            Login::Kubernetes { mount, role, token_file } => {
                let jwt = self.text(token_file).await?;
                let (mount, role) = (mount.clone(), role.clone());
                self.transport.send(LOG_IN, LoginWithKubernetesRequest { mount, role, jwt }, None).await
            }
            Login::AppRole { mount, role_id, secret_id_file } => {
                let secret_id = self.text(secret_id_file).await?;
                let (mount, role_id) = (mount.clone(), role_id.clone());
                self.transport.send(LOG_IN, LoginWithApproleRequest { mount, role_id, secret_id }, None).await
            }
            Login::Certificate { mount, role, .. } => {
                self.transport.send(LOG_IN, calls::certificate_login(mount, role.as_deref()), None).await
            }
            Login::TokenFile(file) => return self.take(current, file).await,
        };
        let auth = calls::auth(LOG_IN, &body.map_err(|error| self.hinted(error))?)?;
        tracing::info!(vault = %self.settings.address, lease = auth.lease_duration, renewable = auth.renewable, "logged in to Vault");
        Ok(self.enter(current, auth))
    }

    /// Takes the token of a file.
    async fn take(&self, current: &mut Current, file: &Path) -> Result<Arc<Token>, VaultError> {
        let client_token = self.text(file).await?;
        if !client_token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(VaultError::File(format!("{}: what it holds is no token", file.display())));
        }
        let secret = Secret::new(client_token.clone().into_bytes());
        let looked =
            self.transport.send("look at the token of its file", LookupTokenSelfRequest {}, Some(&secret)).await;
        let looked = looked.map_err(|error| self.hinted(error))?;
        let Lookup { ttl, renewable, accessor } = calls::data(LOG_IN, looked.expose())?;
        Ok(self.enter(current, Auth { client_token, accessor, lease_duration: ttl, renewable }))
    }

    /// Makes the token last longer; nothing when it comes to an end all the same.
    async fn renew(&self, current: &mut Current, token: &Token) -> Result<Option<Arc<Token>>, VaultError> {
        let body = self.transport.send(RENEW, calls::renew_self(), Some(&token.secret)).await?;
        let auth = calls::auth(RENEW, &body)?;
        let lease = Duration::from_secs(auth.lease_duration);
        // Near the end of what it may ever last, each renewal grants less.
        let is_ending = lease < token.granted / 3;
        Ok((!is_ending).then(|| self.enter(current, auth)))
    }

    fn enter(&self, current: &mut Current, auth: Auth) -> Arc<Token> {
        let Auth { client_token, accessor, lease_duration, renewable } = auth;
        let granted = Duration::from_secs(lease_duration);
        let lasts = (!granted.is_zero()).then_some(granted);
        let now = Instant::now();
        current.logins = current.logins.saturating_add(1);
        let token = Arc::new(Token {
            secret: Secret::new(client_token.into_bytes()),
            number: current.logins,
            accessor: Some(shown(&accessor)).filter(|accessor| !accessor.is_empty()),
            renewable,
            lease: lasts,
            granted: current.token.as_ref().map_or(granted, |before| before.granted.max(granted)),
            renew_at: lasts.and_then(|lease| now.checked_add(lease / 3 * 2)),
            ends_at: lasts.and_then(|lease| now.checked_add(lease)),
            shown_end: lasts.map(|lease| time_math::after(self.clock.now(), lease)),
        });
        current.token = Some(Arc::clone(&token));
        token
    }

    /// Logs in anew next time.
    pub(super) async fn forget(&self) {
        self.current.lock().await.token = None;
    }

    /// Whether the file with the secret of a login can be used.
    pub(super) async fn files(&self) -> Result<(), VaultError> {
        match &self.settings.login {
            Login::Kubernetes { token_file: file, .. }
            | Login::AppRole { secret_id_file: file, .. }
            | Login::TokenFile(file) => self.text(file).await.map(drop),
            Login::Certificate { .. } => Ok(()),
        }
    }

    /// The text of a file with a secret.
    async fn text(&self, file: &Path) -> Result<String, VaultError> {
        let content = Secret::new(self.files.read(file).await.map_err(VaultError::File)?);
        let wrong = |cause: &str| VaultError::File(format!("{}: {cause}", file.display()));
        let text = content.expose_str().ok_or_else(|| wrong("it is not UTF-8 text"))?.trim();
        if text.is_empty() { Err(wrong("it is empty")) } else { Ok(text.to_owned()) }
    }

    /// The same with what to look at when a login is refused.
    fn hinted(&self, error: VaultError) -> VaultError {
        let hint = match &self.settings.login {
            Login::Kubernetes { mount, role, token_file } => format!(
                "look at auth/{mount}/role/{role} (bound service accounts, audience) and at the token in {}",
                token_file.display()
            ),
            Login::AppRole { mount, secret_id_file, .. } => format!(
                "look at the AppRole at auth/{mount} (role_id, CIDR limits) and at the secret_id in {}",
                secret_id_file.display()
            ),
            Login::TokenFile(file) => {
                format!("the token in {} has ended, was revoked, or may not look at itself", file.display())
            }
            Login::Certificate { mount, certificate_file, .. } => {
                format!("look at auth/{mount}/certs and at the certificate in {}", certificate_file.display())
            }
        };
        match error {
            VaultError::Denied { what, said, .. } => VaultError::Denied { what, said, hint },
            VaultError::Refused { what, status, said } => {
                VaultError::Refused { what, status, said: format!("{said}; {hint}") }
            }
            error => error,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::super::test_server::{Answer, TOKEN, Vault, World, auth, denied};
    use super::*;
    use crate::authority::test_pki::Ca;

    fn token(lease: Option<u64>, renewable: bool, start: Instant) -> Token {
        let lease = lease.map(Duration::from_secs);
        Token {
            secret: Secret::new(Vec::new()),
            number: 1,
            accessor: None,
            renewable,
            lease,
            granted: lease.unwrap_or_default(),
            renew_at: lease.map(|lease| start + lease / 3 * 2),
            ends_at: lease.map(|lease| start + lease),
            shown_end: None,
        }
    }

    #[test]
    fn a_token_is_renewed_at_two_thirds_of_its_lease_and_given_up_at_its_end() {
        let start = Instant::now();
        for (lease, renewable, at, expected) in [
            (Some(60), true, 39, Due::Nothing),
            (Some(60), true, 40, Due::Renew),
            (Some(60), true, 59, Due::Renew),
            (Some(60), true, 60, Due::LogIn),
            (Some(60), false, 39, Due::Nothing),
            (Some(60), false, 40, Due::LogIn),
            (None, true, 1_000_000, Due::Nothing),
        ] {
            let due = token(lease, renewable, start).due(start + Duration::from_secs(at));
            assert_eq!(due, expected, "{lease:?} {renewable} {at}");
        }
    }

    #[tokio::test]
    async fn what_a_renewal_brings_is_used_and_one_that_is_refused_or_grants_little_is_followed_by_a_login() {
        let root = Ca::root("root");
        for (answer, logins) in [(auth(TOKEN, 3600), 1), (auth(TOKEN, 1201), 1), (auth(TOKEN, 1100), 2), (denied(), 2)]
        {
            let vault = Vault::of(&root, &[]);
            let world = World::new(vault.clone()).await;
            let session = &world.vault.session;
            session.keep().await.unwrap();
            // As if two thirds of the lease were over.
            {
                let mut current = session.current.lock().await;
                let started = Instant::now().checked_sub(Duration::from_secs(2400)).unwrap();
                current.token =
                    Some(Arc::new(Token { secret: Secret::new(TOKEN.into()), ..token(Some(3600), true, started) }));
            }
            let said = answer.clone();
            world.server.says(move |asked| match asked.path.ends_with("renew-self") {
                true => said.clone(),
                false => vault.answer(asked),
            });
            let kept = session.keep().await.unwrap();
            assert_eq!((kept.number, kept.due(Instant::now())), (2, Due::Nothing), "{answer:?}");
            let paths = world.server.paths();
            assert_eq!(paths.iter().filter(|path| path.ends_with("/login")).count(), logins, "{answer:?}: {paths:?}");
            assert!(paths.contains(&"/v1/auth/token/renew-self".to_owned()), "{paths:?}");
        }
        // A server in trouble keeps the token: it may hold until that is over.
        let vault = Vault::of(&root, &[]);
        let world = World::new(vault).await;
        let first = world.vault.session.keep().await.unwrap();
        world.server.says(|_| Answer::Reset);
        assert_eq!(world.vault.session.keep().await.unwrap().number, first.number);
    }
}
