//! What a token says after its signature was verified, and whether that makes it a workload of this cluster now.

use std::time::Duration;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Number, Value};
use signet_core::caller::{BoundNode, BoundObject, Caller, Claimed, Credential};
use signet_core::identity::WorkloadId;
use signet_core::seams::authenticator::{AuthenticationError, Denial};
use signet_core::time_math;
use time::OffsetDateTime;

use super::{TokenRules, shorten};
use crate::authenticator::token_cache::Lifetime;

/// How much later than it should a renewed token may reach its pod: kubelet asks for a new one at four fifths of the life
/// or after 24 h, but looks at the volumes of a pod only every 60 to 90 s.
const RENEWAL_DELAY: Duration = Duration::from_secs(120);
/// The `iss` of every legacy token.
const LEGACY_ISSUER: &str = "kubernetes/serviceaccount";
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
    /// For records only, so that one of any type is no reason to refuse.
    jti: Option<Value>,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Option<Kubernetes>,
    /// Only a legacy token names the Secret that it is kept in.
    #[serde(rename = "kubernetes.io/serviceaccount/secret.name")]
    legacy_secret: Option<IgnoredAny>,
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
    /// When the token should have been replaced, if its `exp` was put off by `--service-account-extend-token-expiration`.
    warnafter: Option<Number>,
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
/// One [`Denial`] for each kind of fault, with what the payload says. A legacy token is one before anything else, since it
/// has neither the issuer nor the audience of others; then issuer and audience are judged, then times.
pub(in crate::authenticator) fn judge(
    payload: &[u8],
    rules: &TokenRules,
    now: OffsetDateTime,
) -> Result<(Caller, Lifetime), Denied> {
    let claims = Claims::parse(payload).map_err(|error| error.claiming(nothing(rules)))?;
    claims.judge(rules, now).map_err(|error| error.claiming(claims.claimed(rules)))
}

/// What a payload says that cannot be read.
fn nothing(rules: &TokenRules) -> Claimed {
    Claimed { cluster: rules.cluster.clone(), ..Claimed::default() }
}

impl Claims {
    /// Parses the payload.
    ///
    /// # Errors
    /// [`Denial::TokenMalformed`] when it is not JSON, [`Denial::ClaimsInvalid`] when a claim has the wrong type or
    /// occurs twice.
    fn parse(payload: &[u8]) -> Result<Self, Denied> {
        if payload.trim_ascii_start().starts_with(b"[") {
            return Err(invalid("the claims are a list, not an object"));
        }
        serde_json::from_slice(payload).map_err(|error| match error.classify() {
            serde_json::error::Category::Data => invalid(shorten(&format!("reading the claims: {error}"))),
            _ => AuthenticationError::denied(Denial::TokenMalformed, "the payload is not JSON"),
        })
    }

    fn judge(&self, rules: &TokenRules, now: OffsetDateTime) -> Result<(Caller, Lifetime), Denied> {
        self.check_kind()?;
        self.check_issuer(rules)?;
        self.check_audience(rules)?;
        let life = self.check_times(rules, now)?;
        // Beyond the calendar's end there is no time at which it would not hold.
        let until = time::Duration::try_from(rules.leeway).ok().and_then(|leeway| life.until.checked_add(leeway));
        Ok((self.caller(rules, until)?, life))
    }

    fn check_kind(&self) -> Result<(), Denied> {
        if self.legacy_secret.is_none() && self.iss.as_deref() != Some(LEGACY_ISSUER) {
            return Ok(());
        }
        let detail = "the token is a legacy one, from a Secret; it never ends and is for everybody. Mount a projected \
            service-account token with the audience of this CA instead (volumes[].projected.sources[].serviceAccountToken)";
        Err(AuthenticationError::denied(Denial::TokenLegacy, detail))
    }

    fn check_issuer(&self, rules: &TokenRules) -> Result<(), Denied> {
        if rules.issuers.is_empty() || self.iss.as_ref().is_some_and(|issuer| rules.issuers.contains(issuer)) {
            return Ok(());
        }
        let found = self.iss.as_deref().map_or_else(|| "missing".to_owned(), |issuer| format!("{:?}", shorten(issuer)));
        let expected = rules.issuers.iter().map(|issuer| format!("{issuer:?}")).collect::<Vec<_>>().join(" or ");
        Err(AuthenticationError::denied(Denial::IssuerMismatch, format!("iss is {found}, expected {expected}")))
    }

    fn check_audience(&self, rules: &TokenRules) -> Result<(), Denied> {
        let audiences = match &self.aud {
            None => &[][..],
            Some(Audience::One(one)) => std::slice::from_ref(one),
            Some(Audience::Several(several)) => several.as_slice(),
        };
        if audiences.iter().any(|audience| rules.audiences.contains(audience)) {
            return Ok(());
        }
        let found = shorten(&audiences.join(", "));
        let detail = format!("aud is [{found}], expected one of [{}]", rules.audiences.join(", "));
        Err(AuthenticationError::denied(Denial::AudienceMismatch, detail))
    }

    /// A token is believed until `exp`. Where the cluster is not asked about it also until `warnafter` if it has one, but no
    /// longer than `max_age` after `iat`.
    fn check_times(&self, rules: &TokenRules, now: OffsetDateTime) -> Result<Lifetime, Denied> {
        let leeway = time::Duration::try_from(rules.leeway).map_err(|_| invalid("the configured leeway is absurd"))?;
        let exp = instant("exp", self.exp.as_ref())?.ok_or_else(|| invalid("exp is missing; a token must end"))?;
        let nbf = instant("nbf", self.nbf.as_ref())?;
        // Kubernetes always says it. Who left it out would be bound by no age.
        let iat = instant("iat", self.iat.as_ref())?
            .ok_or_else(|| invalid("iat is missing; without it nobody can tell how old the token is"))?;
        let warnafter = self.kubernetes.as_ref().and_then(|kubernetes| kubernetes.warnafter.as_ref());
        let warnafter = instant("warnafter", warnafter)?.filter(|_| rules.max_age.is_some());
        let oldest = rules.max_age.map(|age| (age, time_math::after(time_math::after(iat, age), RENEWAL_DELAY)));
        let has_passed = |end: OffsetDateTime| time_math::difference(end, now) >= leeway;
        let too_old = |detail: String| Err(AuthenticationError::denied(Denial::TokenTooOld, detail));
        if has_passed(exp) {
            return Err(AuthenticationError::denied(Denial::TokenExpired, format!("exp was {exp}, now is {now}")));
        }
        if let Some(end) = warnafter.filter(|end| has_passed(*end)) {
            return too_old(format!(
                "warnafter was {end}, now is {now}: kubelet has replaced this token by then; let the client read its file \
                 for each request"
            ));
        }
        if let Some((age, _)) = oldest.filter(|(_, end)| has_passed(*end)) {
            return too_old(format!(
                "iat was {iat}, now is {now}: that is longer ago than tokens.max_age ({age:?}) allows; mount a projected \
                 token, which kubelet renews, instead of one made for {:?}",
                time_math::until(iat, exp)
            ));
        }
        for (name, at) in [("nbf", nbf), ("iat", Some(iat))] {
            if let Some(at) = at.filter(|at| time_math::difference(now, *at) > leeway) {
                let detail =
                    format!("{name} is {at}, now is {now}; compare the clocks of the cluster and of this host");
                return Err(AuthenticationError::denied(Denial::TokenNotYetValid, detail));
            }
        }
        let until = [warnafter, oldest.map(|(_, end)| end)].into_iter().flatten().fold(exp, OffsetDateTime::min);
        Ok(Lifetime { from: nbf.map_or(iat, |nbf| nbf.max(iat)), until })
    }

    /// What is said, as far as it is well-formed and does not contradict itself.
    fn claimed(&self, rules: &TokenRules) -> Claimed {
        let mut claimed = nothing(rules);
        let identity = self.identity(rules).ok();
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

    fn identity(&self, rules: &TokenRules) -> Result<WorkloadId, Denied> {
        let subject = self.sub.as_deref().ok_or_else(|| invalid("sub is missing"))?;
        let names = subject.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'));
        let (namespace, account) = names.ok_or_else(|| {
            let subject = shorten(subject);
            invalid(format!("sub is {subject:?}, expected system:serviceaccount:<namespace>:<service account>"))
        })?;
        // No ':' is left in the account's name: it would not be a Kubernetes name.
        WorkloadId::new(rules.trust_domain.clone(), namespace, account)
            .map_err(|error| invalid(format!("sub: {error}")))
    }

    fn caller(&self, rules: &TokenRules, until: Option<OffsetDateTime>) -> Result<Caller, Denied> {
        let identity = self.identity(rules)?;
        let claims = self
            .kubernetes
            .as_ref()
            .ok_or_else(|| invalid("the kubernetes.io claim is missing; use a projected service-account token"))?;
        if !claims.is_about(&identity) {
            let (namespace, account) = (shorten(&claims.namespace), shorten(&claims.serviceaccount.name));
            return Err(invalid(format!(
                "the kubernetes.io claim names {namespace:?}/{account:?}, but sub says otherwise"
            )));
        }
        let service_account_uid = uid("serviceaccount", claims.serviceaccount.uid.as_ref())?;
        let node = |node: &Object| {
            let uid = node.uid.as_ref().map(|_| uid("node", node.uid.as_ref())).transpose()?;
            Ok(BoundNode { name: name("node", &node.name)?, uid })
        };
        let bound =
            |pod: &Object| Ok(BoundObject { name: name("pod", &pod.name)?, uid: uid("pod", pod.uid.as_ref())? });
        Ok(Caller {
            identity,
            service_account_uid,
            pod: claims.pod.as_ref().map(bound).transpose()?,
            node: claims.node.as_ref().map(node).transpose()?,
            cluster: rules.cluster.clone(),
            method: rules.method,
            credential: Credential { token_id: self.jti.as_ref().and_then(token_id), certificate: None },
            made_at: instant("iat", self.iat.as_ref())?,
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

/// What the cluster calls the token: a UUID in Kubernetes, and nothing that is longer or holds anything else than a UID does.
fn token_id(jti: &Value) -> Option<String> {
    jti.as_str().filter(|id| is_uid(id)).map(str::to_owned)
}

/// Whether a text may be a UID of Kubernetes.
pub(in crate::authenticator) fn is_uid(text: &str) -> bool {
    (1..=MAX_UID).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn uid(what: &str, uid: Option<&String>) -> Result<String, Denied> {
    uid.filter(|uid| is_uid(uid)).cloned().ok_or_else(|| invalid(format!("the {what} uid is missing or is not one")))
}
