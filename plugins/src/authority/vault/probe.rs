//! Whether a Vault answers and lets this CA do what it needs, as closely as can be seen without making a CA certificate; that is
//! made by `try_out`, once it is on record.

use std::collections::BTreeMap;
use std::time::Duration;

use signet_core::clock::rfc3339;
use signet_core::time_math;
use time::OffsetDateTime;

use super::calls::{self, Health, Mount};
use super::error::VaultError;
use super::leaf::SIGN_LEAF;
use super::session::Session;
use super::settings::{LeafRoles, VaultSettings};
use super::{SIGN, VaultAuthority};

/// By how much the two clocks may differ: as much as certificates from there are backdated, unless that is set otherwise.
const CLOCKS: Duration = Duration::from_secs(30);

const ASK: &str = "say what its token may do";
const LOOK_AT_MOUNT: &str = "say what its mount is set to";

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Probed {
    /// What is wrong.
    pub problems: Vec<String>,
    /// What could not be seen.
    pub unseen: Vec<String>,
    /// Whether a signature may be tried.
    pub may_sign: bool,
}

/// Whether the token may sign issuing CAs, or leaves with the issuer of this id, as Vault says.
pub(super) async fn may_sign(session: &Session, settings: &VaultSettings, issuer: &str) -> Result<(), VaultError> {
    match &settings.leaves {
        None => may_write(session, &settings.sign_path(), SIGN).await,
        Some(roles) => {
            may_write(session, &settings.leaf_path(issuer, &roles.workloads), SIGN_LEAF).await?;
            may_write(session, &settings.leaf_path(issuer, &roles.serving), SIGN_LEAF).await
        }
    }
}

async fn may_write(session: &Session, path: &str, what: &'static str) -> Result<(), VaultError> {
    may(session, what, path, "update").await
}

/// Whether the token has this right at a path, as Vault says.
pub(super) async fn may(session: &Session, what: &'static str, path: &str, right: &str) -> Result<(), VaultError> {
    let body = match session.call(ASK, || calls::capabilities(path)).await {
        Ok(body) => body,
        // Whoever is not told finds out when it is tried.
        Err(VaultError::Denied { .. }) => return Ok(()),
        Err(error) => return Err(error),
    };
    let all: BTreeMap<String, Vec<String>> = calls::data(ASK, body.expose())?;
    let granted = all.get(path).cloned().unwrap_or_default();
    match granted.iter().any(|one| one == right || one == "root") {
        true => Ok(()),
        false => {
            let denied = VaultError::Denied { what, said: granted.join(", "), hint: String::new() };
            Err(with_right(denied, path, right))
        }
    }
}

/// The same, with the line that the policy lacks when it is that.
pub(super) fn with_line(error: VaultError, path: &str) -> VaultError {
    with_right(error, path, "update")
}

/// The same for any right.
pub(super) fn with_right(error: VaultError, path: &str, right: &str) -> VaultError {
    match error {
        VaultError::Denied { what, said, .. } => {
            let hint = format!("its policy needs: path \"{path}\" {{ capabilities = [\"{right}\"] }}");
            VaultError::Denied { what, said, hint }
        }
        error => error,
    }
}

/// The same, with what a role lacks, too. The words are those of OpenBao and of Vault.
pub(super) fn with_role(error: VaultError, path: &str, role: &str) -> VaultError {
    let VaultError::Refused { what, status, said } = error else { return with_line(error, path) };
    let lacks = [
        ("unknown role", "there is no such role"),
        ("URI", "allowed_uri_sans must hold the URI"),
        ("IP Subject", "allow_ip_sans=true"),
        ("key type", "key_type=any"),
        ("keys of type", "key_type=any"),
        ("common name", "require_cn=false and allowed_domains"),
        ("common_name", "require_cn=false"),
        (
            "not allowed by this role",
            "allowed_domains with allow_bare_domains=true must hold the DNS names in `serving`",
        ),
    ];
    let lack = lacks.iter().find(|(part, _)| said.contains(part)).map_or("is it as documented?", |(_, lack)| lack);
    let said = format!("{said}; look at the role {role:?} of the mount: {lack}");
    VaultError::Refused { what, status, said }
}

impl VaultAuthority {
    /// Tries everything but the signature itself. Issuing CAs are to last for `ttl`.
    pub async fn probe(&self, ttl: Duration) -> Probed {
        let mut found = Probed::default();
        match self.session.transport.send_outside("say how it is", calls::health()).await {
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
        let source = self.source().await;
        let is_there = source.is_ok();
        found.problems.extend(source.as_ref().err().map(ToString::to_string));
        let issuer = source.map_or_else(|_| self.settings.issuer.clone(), |source| source.id);
        if let Err(error) = self.session.keep().await {
            found.problems.push(error.to_string());
            return found;
        }
        match may_sign(&self.session, &self.settings, &issuer).await {
            Err(error) => found.problems.push(error.to_string()),
            // Permission is judged before the request is: without a request, nothing is made.
            Ok(()) => match self.session.call(SIGN, || calls::sign_nothing(&self.path(&issuer))).await {
                Err(VaultError::Refused { .. }) => found.may_sign = is_there && self.settings.leaves.is_none(),
                Err(error) => found.problems.push(with_line(error, &self.path(&issuer)).to_string()),
                Ok(_) => found.problems.push("Vault signs without a request; is it one?".to_owned()),
            },
        }
        if self.settings.leaves.is_some() {
            let what = "whether the roles sign what is decided: leaves are signed on trial, on record, before the issuer is adopted";
            found.unseen.push(what.to_owned());
        } else {
            self.lifetime(ttl, &mut found).await;
        }
        found.problems.extend(self.lines_for_revocation().await);
        found
    }

    /// Whether the mount lets issuing CAs last as long as they are to. It cuts them without a word.
    async fn lifetime(&self, ttl: Duration, found: &mut Probed) {
        let mount = &self.settings.mount;
        let asked = self.session.call(LOOK_AT_MOUNT, || calls::mount(mount)).await;
        let read = asked.and_then(|body| calls::data::<Mount>(LOOK_AT_MOUNT, body.expose()));
        let (longest, wanted) = match read {
            Ok(Mount { config }) => (config.max_lease_ttl, ttl.as_secs()),
            Err(error) => {
                let what = format!("whether max_lease_ttl of the mount cuts authority.issuing_ttl: {error}");
                return found.unseen.push(what);
            }
        };
        if longest == 0 {
            let what = "whether the server's longest lease (32 days, unless it is set) cuts authority.issuing_ttl: the mount has no \
                max_lease_ttl of its own";
            found.unseen.push(what.to_owned());
        } else if longest < wanted {
            found.problems.push(format!(
                "max_lease_ttl of the mount {mount:?} is {longest} s, and cuts authority.issuing_ttl ({wanted} s): \
                 bao secrets tune -max-lease-ttl={wanted}s {mount}"
            ));
        }
    }

    /// Where it signs what this CA needs.
    fn path(&self, issuer: &str) -> String {
        let leaf = |roles: &LeafRoles| self.settings.leaf_path(issuer, &roles.workloads);
        self.settings.leaves.as_ref().map_or_else(|| self.settings.sign_path(), leaf)
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
