//! Whether a Vault answers and lets this CA do what it needs, as closely as can be seen without making a CA certificate.

use std::collections::BTreeMap;
use std::time::Duration;

use signet_core::clock::rfc3339;
use signet_core::time_math;
use time::OffsetDateTime;

use super::calls::{self, Health};
use super::error::VaultError;
use super::session::Session;
use super::settings::VaultSettings;
use super::{SIGN, VaultAuthority};

/// By how much the two clocks may differ: as much as certificates from there are backdated, unless that is set otherwise.
const CLOCKS: Duration = Duration::from_secs(30);

const ASK: &str = "say what its token may do";

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Probed {
    /// What is wrong.
    pub problems: Vec<String>,
    /// What could not be seen.
    pub unseen: Vec<String>,
}

/// Whether the token may sign issuing CAs, as Vault says.
pub(super) async fn may_sign(session: &Session, settings: &VaultSettings) -> Result<(), VaultError> {
    let path = settings.sign_path();
    let body = match session.call(ASK, || calls::capabilities(&path)).await {
        Ok(body) => body,
        // Whoever is not told finds out when it is tried.
        Err(VaultError::Denied { .. }) => return Ok(()),
        Err(error) => return Err(error),
    };
    let all: BTreeMap<String, Vec<String>> = calls::data(ASK, body.expose())?;
    let granted = all.get(&path).cloned().unwrap_or_default();
    match granted.iter().any(|one| one == "update" || one == "root") {
        true => Ok(()),
        false => {
            let denied = VaultError::Denied { what: SIGN, said: granted.join(", "), hint: String::new() };
            Err(with_policy(denied, settings))
        }
    }
}

/// The same, with the line that the policy lacks when it is that.
pub(super) fn with_policy(error: VaultError, settings: &VaultSettings) -> VaultError {
    match error {
        VaultError::Denied { what, said, .. } => {
            let path = settings.sign_path();
            let hint = format!("its policy needs: path \"{path}\" {{ capabilities = [\"update\"] }}");
            VaultError::Denied { what, said, hint }
        }
        error => error,
    }
}

impl VaultAuthority {
    /// Tries everything but the signature itself: that would make a CA certificate that nobody needs.
    pub async fn probe(&self) -> Probed {
        let mut found = Probed::default();
        match self.session.transport.send("say how it is", calls::health(), None).await {
            Ok(body) => match calls::plain::<Health>("say how it is", body.expose()) {
                Ok(health) => found.problems.extend(self.clocks(&health)),
                Err(error) => found.unseen.push(format!("whether the clocks agree: {error}")),
            },
            Err(error) => {
                found.problems.push(error.to_string());
                if error.is_outage() {
                    return found;
                }
            }
        }
        found.problems.extend(self.source().await.err().map(|error| error.to_string()));
        if let Err(error) = self.session.keep().await {
            found.problems.push(error.to_string());
            return found;
        }
        match may_sign(&self.session, &self.settings).await {
            Err(error) => found.problems.push(error.to_string()),
            // Permission is judged before the request is: without a request, nothing is made.
            Ok(()) => match self.session.call(SIGN, || self.nothing()).await {
                Err(VaultError::Refused { .. }) => {}
                Err(error) => found.problems.push(with_policy(error, &self.settings).to_string()),
                Ok(_) => found.problems.push("Vault signs without a request; is it one?".to_owned()),
            },
        }
        let what = "whether Vault signs an issuing CA and for how long (max_lease_ttl of the mount cuts authority.issuing_ttl): a \
            trial would leave a CA certificate in Vault";
        found.unseen.push(what.to_owned());
        found
    }

    /// A request for nothing.
    fn nothing(&self) -> calls::Call {
        calls::sign_nothing(&self.settings.sign_path())
    }

    fn clocks(&self, health: &Health) -> Option<String> {
        let theirs = OffsetDateTime::from_unix_timestamp(health.server_time_utc).ok()?;
        let ours = self.clock.now();
        let apart = time_math::until(ours, theirs).max(time_math::until(theirs, ours));
        (apart > CLOCKS).then(|| {
            format!(
                "the clocks are {} s apart: it is {} here and {} in Vault {}; certificates from there would start too late or end \
                 too early",
                apart.as_secs(),
                rfc3339(ours),
                rfc3339(theirs),
                super::error::shown(&health.version)
            )
        })
    }
}
