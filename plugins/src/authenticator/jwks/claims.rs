//! What a token says after its signature was verified, and whether that makes it a workload of this cluster now.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Number;
use signet_core::caller::{AuthMethod, BoundObject, Caller, Claimed};
use signet_core::identity::WorkloadId;
use signet_core::moment;
use signet_core::seams::authenticator::{AuthenticationError, Denial};
use time::OffsetDateTime;

use super::{JwksConfig, shorten};
use crate::authenticator::token_cache::Lifetime;

/// How far in the future `iat` may lie: it is the issuer's clock against ours, and nothing hangs on it.
const ISSUED_AHEAD: Duration = Duration::from_secs(60);
/// Longer than any UID that Kubernetes gives.
const MAX_UID: usize = 128;

/// The claims that matter. serde refuses a claim given twice, so no two readers can disagree about its value; claims
/// not named here are ignored (RFC 7519 section 4).
#[derive(Deserialize)]
struct Claims {
    iss: Option<String>,
    sub: Option<String>,
    aud: Option<Audience>,
    exp: Option<Number>,
    nbf: Option<Number>,
    iat: Option<Number>,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Option<Kubernetes>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

#[derive(Deserialize)]
struct Kubernetes {
    namespace: String,
    serviceaccount: Object,
    pod: Option<Object>,
    node: Option<Object>,
}

#[derive(Deserialize)]
struct Object {
    name: String,
    /// Absent for a node that was gone when the token was made.
    uid: Option<String>,
}

type Denied = AuthenticationError;

fn invalid(detail: impl Into<String>) -> Denied {
    AuthenticationError::denied(Denial::ClaimsInvalid, detail)
}

/// Judges the payload of a token whose signature was verified, at the time `now`: who it proves, and when that may be
/// believed without leeway.
///
/// # Errors
/// One [`Denial`] for each kind of fault, with what the payload says; issuer and audience are judged before times.
pub(super) fn judge(payload: &[u8], config: &JwksConfig, now: OffsetDateTime) -> Result<(Caller, Lifetime), Denied> {
    let claims = Claims::parse(payload).map_err(|error| error.claiming(nothing(config)))?;
    claims.judge(config, now).map_err(|error| error.claiming(claims.claimed(config)))
}

/// What a payload says that cannot be read.
fn nothing(config: &JwksConfig) -> Claimed {
    Claimed {
        cluster: config.cluster.clone(),
        identity: None,
        service_account_uid: None,
        pod: None,
        pod_uid: None,
        node: None,
        node_uid: None,
    }
}

impl Claims {
    /// Parses the payload.
    ///
    /// # Errors
    /// [`Denial::TokenMalformed`] when it is not JSON, [`Denial::ClaimsInvalid`] when a claim has the wrong type or
    /// occurs twice.
    fn parse(payload: &[u8]) -> Result<Self, Denied> {
        serde_json::from_slice(payload).map_err(|error| match error.classify() {
            serde_json::error::Category::Data => invalid(shorten(&format!("reading the claims: {error}"))),
            _ => AuthenticationError::denied(Denial::TokenMalformed, "the payload is not JSON"),
        })
    }

    fn judge(&self, config: &JwksConfig, now: OffsetDateTime) -> Result<(Caller, Lifetime), Denied> {
        self.check_issuer(config)?;
        self.check_audience(config)?;
        let life = self.check_times(config, now)?;
        // Beyond the calendar's end there is no time at which it would not hold.
        let until = time::Duration::try_from(config.leeway).ok().and_then(|leeway| life.until.checked_add(leeway));
        Ok((self.caller(config, until)?, life))
    }

    fn check_issuer(&self, config: &JwksConfig) -> Result<(), Denied> {
        match &self.iss {
            Some(issuer) if *issuer == config.issuer => Ok(()),
            other => {
                let found =
                    other.as_deref().map_or_else(|| "missing".to_owned(), |issuer| format!("{:?}", shorten(issuer)));
                let detail = format!("iss is {found}, expected {:?}", config.issuer);
                Err(AuthenticationError::denied(Denial::IssuerMismatch, detail))
            }
        }
    }

    fn check_audience(&self, config: &JwksConfig) -> Result<(), Denied> {
        let audiences = match &self.aud {
            None => &[][..],
            Some(Audience::One(one)) => std::slice::from_ref(one),
            Some(Audience::Several(several)) => several.as_slice(),
        };
        if audiences.iter().any(|audience| config.audiences.contains(audience)) {
            return Ok(());
        }
        let found = shorten(&audiences.join(", "));
        let detail = format!("aud is [{found}], expected one of [{}]", config.audiences.join(", "));
        Err(AuthenticationError::denied(Denial::AudienceMismatch, detail))
    }

    fn check_times(&self, config: &JwksConfig, now: OffsetDateTime) -> Result<Lifetime, Denied> {
        let leeway = time::Duration::try_from(config.leeway).map_err(|_| invalid("the configured leeway is absurd"))?;
        let ahead = leeway.max(time::Duration::try_from(ISSUED_AHEAD).unwrap_or(leeway));
        let exp = instant("exp", self.exp.as_ref())?.ok_or_else(|| invalid("exp is missing; a token must end"))?;
        let nbf = instant("nbf", self.nbf.as_ref())?;
        let iat = instant("iat", self.iat.as_ref())?;
        if moment::difference(exp, now) >= leeway {
            return Err(AuthenticationError::denied(Denial::TokenExpired, format!("exp was {exp}, now is {now}")));
        }
        for (name, at, allowed) in [("nbf", nbf, leeway), ("iat", iat, ahead)] {
            if let Some(at) = at.filter(|at| moment::difference(now, *at) > allowed) {
                let detail =
                    format!("{name} is {at}, now is {now}; compare the clocks of the cluster and of this host");
                return Err(AuthenticationError::denied(Denial::TokenNotYetValid, detail));
            }
        }
        Ok(Lifetime { from: nbf.max(iat).unwrap_or(now), until: exp })
    }

    /// What is said, as far as it is well-formed and does not contradict itself.
    fn claimed(&self, config: &JwksConfig) -> Claimed {
        let mut claimed = nothing(config);
        let identity = self.identity(config).ok();
        let Some(kubernetes) = &self.kubernetes else {
            claimed.identity = identity;
            return claimed;
        };
        // When `sub` and `kubernetes.io` name two accounts, it cannot be said whose the token is.
        claimed.identity = identity.filter(|identity| kubernetes.is_about(identity));
        let account = claimed.identity.as_ref().and(kubernetes.serviceaccount.uid.as_ref());
        claimed.service_account_uid = uid("serviceaccount", account).ok();
        let named =
            |object: &Option<Object>| object.as_ref().and_then(|object| name("bound object", &object.name).ok());
        let known =
            |object: &Option<Object>| object.as_ref().and_then(|object| uid("bound object", object.uid.as_ref()).ok());
        (claimed.pod, claimed.pod_uid) = (named(&kubernetes.pod), known(&kubernetes.pod));
        (claimed.node, claimed.node_uid) = (named(&kubernetes.node), known(&kubernetes.node));
        claimed
    }

    fn identity(&self, config: &JwksConfig) -> Result<WorkloadId, Denied> {
        let subject = self.sub.as_deref().ok_or_else(|| invalid("sub is missing"))?;
        let names = subject.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'));
        let (namespace, account) = names.ok_or_else(|| {
            let subject = shorten(subject);
            invalid(format!("sub is {subject:?}, expected system:serviceaccount:<namespace>:<service account>"))
        })?;
        // No ':' is left in the account's name: it would not be a Kubernetes name.
        WorkloadId::new(config.trust_domain.clone(), namespace, account)
            .map_err(|error| invalid(format!("sub: {error}")))
    }

    fn caller(&self, config: &JwksConfig, until: Option<OffsetDateTime>) -> Result<Caller, Denied> {
        let identity = self.identity(config)?;
        let claims = self.kubernetes.as_ref().ok_or_else(|| {
            invalid("the kubernetes.io claim is missing; use a projected service-account token, not a legacy secret")
        })?;
        if !claims.is_about(&identity) {
            let (namespace, account) = (shorten(&claims.namespace), shorten(&claims.serviceaccount.name));
            return Err(invalid(format!(
                "the kubernetes.io claim names {namespace:?}/{account:?}, but sub says otherwise"
            )));
        }
        let service_account_uid = uid("serviceaccount", claims.serviceaccount.uid.as_ref())?;
        let bound =
            |pod: &Object| Ok(BoundObject { name: name("pod", &pod.name)?, uid: uid("pod", pod.uid.as_ref())? });
        Ok(Caller {
            identity,
            service_account_uid,
            pod: claims.pod.as_ref().map(bound).transpose()?,
            node: claims.node.as_ref().map(|node| name("node", &node.name)).transpose()?,
            cluster: config.cluster.clone(),
            method: AuthMethod::Jwks,
            until,
        })
    }
}

impl Kubernetes {
    fn is_about(&self, identity: &WorkloadId) -> bool {
        self.namespace == identity.namespace() && self.serviceaccount.name == identity.service_account()
    }
}

/// A NumericDate (RFC 7519 section 2), which may have a fraction; it is cut off, to the past.
fn instant(claim: &str, number: Option<&Number>) -> Result<Option<OffsetDateTime>, Denied> {
    let Some(number) = number else { return Ok(None) };
    #[expect(clippy::cast_possible_truncation, reason = "a float outside of i64 saturates and is refused as a date")]
    let seconds = number.as_i64().or_else(|| number.as_f64().map(|seconds| seconds.floor() as i64));
    let at = seconds.and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    at.map(Some).ok_or_else(|| invalid(format!("{claim} is not a date before the year 10000")))
}

/// A Kubernetes object name: what RFC 1123 allows in a subdomain.
fn name(what: &str, name: &str) -> Result<String, Denied> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    if (1..=253).contains(&name.len()) && name.bytes().all(allowed) {
        return Ok(name.to_owned());
    }
    Err(invalid(format!("the {what} name {:?} is not a Kubernetes name", shorten(name))))
}

fn uid(what: &str, uid: Option<&String>) -> Result<String, Denied> {
    let fits = |uid: &&String| (1..=MAX_UID).contains(&uid.len()) && uid.bytes().all(|byte| byte.is_ascii_graphic());
    uid.filter(fits).cloned().ok_or_else(|| invalid(format!("the {what} uid is missing or is not one")))
}
