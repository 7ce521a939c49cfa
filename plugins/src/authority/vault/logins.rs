//! What came of logging in to a Vault, for whoever keeps a record of it. No token and no secret is in it.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::error::VaultError;
use super::session::Token;
use super::settings::{Login, VaultSettings};

/// What came of a login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoggedIn {
    /// Vault has given a token, or accepts the one of the file.
    Accepted {
        /// What Vault calls that token in its own log; with it nobody can use it.
        accessor: Option<String>,
        /// For how long it holds; nothing for one without an end.
        lease: Option<Duration>,
        /// Whether it can be made to last longer.
        renewable: bool,
    },
    /// Vault does not accept what was shown, and why.
    Refused(String),
    /// It could not be asked, or nothing could be shown to it, and why.
    Failed(String),
}

/// A login, or the attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultLogin {
    /// As whom, and where, in words.
    pub way: String,
    /// What came of it.
    pub result: LoggedIn,
}

impl fmt::Display for VaultLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.way)?;
        match &self.result {
            LoggedIn::Accepted { accessor, lease, renewable } => {
                f.write_str("logged in")?;
                if let Some(accessor) = accessor {
                    write!(f, ", token accessor {accessor}")?;
                }
                match lease {
                    Some(lease) => write!(f, ", lease {}s", lease.as_secs())?,
                    None => f.write_str(", without an end")?,
                }
                f.write_str(if *renewable { ", renewable" } else { ", not renewable" })
            }
            LoggedIn::Refused(why) | LoggedIn::Failed(why) => f.write_str(why),
        }
    }
}

/// Who is told of each login.
pub type LoginTeller = Arc<dyn Fn(VaultLogin) + Send + Sync>;

/// Tells of logins, once there is somebody to tell.
#[derive(Default)]
pub(super) struct Logins(OnceLock<LoginTeller>);

impl Logins {
    /// Tells this one, and nobody who comes later.
    pub(super) fn tell(&self, teller: LoginTeller) {
        drop(self.0.set(teller));
    }

    /// Tells what came of a login.
    pub(super) fn told(&self, settings: &VaultSettings, result: Result<&Token, &VaultError>) {
        let Some(teller) = self.0.get() else { return };
        let result = match result {
            Ok(token) => {
                LoggedIn::Accepted { accessor: token.accessor.clone(), lease: token.lease, renewable: token.renewable }
            }
            Err(error @ (VaultError::Denied { .. } | VaultError::Refused { .. })) => {
                LoggedIn::Refused(error.to_string())
            }
            // Why, and not until when: that changes all the time.
            Err(VaultError::Paused { last, .. }) => LoggedIn::Failed(last.clone()),
            Err(error) => LoggedIn::Failed(error.to_string()),
        };
        teller(VaultLogin { way: way(settings), result });
    }
}

/// As whom it is logged in, and where. The id of an AppRole is half of a credential, and not there.
fn way(settings: &VaultSettings) -> String {
    let how = match &settings.login {
        Login::Kubernetes { mount, role, .. } => format!("auth/{mount} as role {role}"),
        Login::AppRole { mount, .. } => format!("auth/{mount} as an AppRole"),
        Login::Certificate { mount, role: Some(role), .. } => format!("auth/{mount} by certificate as role {role}"),
        Login::Certificate { mount, role: None, .. } => format!("auth/{mount} by certificate"),
        Login::TokenFile(file) => format!("the token in {}", file.display()),
    };
    match &settings.namespace {
        Some(namespace) => format!("Vault at {}, namespace {namespace}, {how}", settings.address),
        None => format!("Vault at {}, {how}", settings.address),
    }
}

#[cfg(test)]
#[path = "login_tests.rs"]
mod tests;
