//! What an operator should look at: why nothing can be issued, and what is not in order although certificates are issued.

use signet_core::authority::AuthorityId;
use signet_core::clock::rfc3339;
use signet_core::policy::IssuerLimits;
use signet_core::renewal::half_life;
use signet_core::rotation::{Activation, Authorities, Unsettled};
use signet_core::time_math;
use time::OffsetDateTime;

/// What is told when nothing in the journal can sign and nobody has failed to change that.
pub(crate) const UNUSABLE: &str = "no issuing CA in this storage can sign now; see `authority list`";

/// What an operator should know and do about a replica that others have left behind.
pub(crate) const SUPERSEDED: &str = "newer CA files, or another authority.backend, than this replica has were adopted: \
it issues with those and leaves all steps to others; wait for its files, or correct its configuration and restart it; \
if what this one has is to count, send it `authority adopt`";

/// Why nobody who is configured can sign, and the ways out.
pub(crate) fn lacks_signer(issuing: &AuthorityId, is_superseded: bool) -> String {
    let what = format!(
        "nothing can be issued here: issuing CA {issuing} signs, whose key is kept by a backend that signs leaves itself"
    );
    if is_superseded {
        return format!(
            "{what}, and this replica has another authority.backend than was adopted last: correct its configuration and restart it"
        );
    }
    format!(
        "{what}, and `authority` does not say how to ask it: name it in `authority.former`, and it goes on signing until what \
         is configured now is known everywhere; or put `authority` back as it was. If that backend is gone for good, send \
         this replica `authority adopt`"
    )
}

/// What signs now.
pub(crate) fn in_use(limits: &IssuerLimits) -> String {
    format!("issuing CA {} until {}", limits.authority, rfc3339(limits.not_after))
}

/// Why nothing that is signed now would be accepted, by this clock.
pub(crate) fn outage(authorities: &Authorities, limits: &IssuerLimits, now: OffsetDateTime) -> Option<String> {
    let replace = "or replace the root: `authority rotate`, then `authority activate ID --force --reason ...`";
    if let Some(root) = authorities.active() {
        if now < root.not_before {
            let (id, start) = (&root.id, rfc3339(root.not_before));
            return Some(format!(
                "the root {id} starts only at {start} by this clock, and nothing under it is accepted before: if the \
                 clock is wrong now, correct it; if it was ahead when the root was made, wait, {replace}"
            ));
        }
        if root.not_after <= now {
            let (id, end) = (&root.id, rfc3339(root.not_after));
            return Some(format!("the root {id} ended at {end}: correct the clock if it is wrong, {replace}"));
        }
    }
    if limits.not_after <= now {
        return Some(format!("the issuing CA ended at {}", rfc3339(limits.not_after)));
    }
    let start = rfc3339(limits.not_before);
    (now < limits.not_before).then(|| format!("the clock is before the issuing CA's start {start}; was it set back?"))
}

/// What is not in order although certificates are issued.
pub(crate) fn alerts(
    authorities: &Authorities,
    is_superseded: bool,
    not_revoked: Option<&str>,
    now: OffsetDateTime,
) -> Vec<String> {
    let mut alerts: Vec<String> = authorities.may_change().err().iter().map(ToString::to_string).collect();
    let Some(active) = authorities.active() else { return alerts };
    if is_superseded {
        alerts.push(SUPERSEDED.to_owned());
        // Whoever is to renew it may be gone.
        let ending = authorities.active_issuer(now).filter(|issuing| {
            let half = half_life(issuing.not_before, issuing.not_after);
            now > half_life(half, issuing.not_after)
        });
        alerts.extend(ending.map(|issuing| {
            format!(
                "nobody has renewed the issuing CA, which ends at {}: no certificates after that",
                rfc3339(issuing.not_after)
            )
        }));
    }
    if active.tainted_at.is_some() {
        alerts.push(format!("the root {} is compromised and still signs; see `authority list`", active.id));
    }
    alerts.extend(authorities.revocations.alert(&authorities.lists_of(now), now));
    alerts.extend(authorities.revocations.elsewhere_alert(not_revoked));
    if let Some(next) = authorities.prepared().filter(|root| now < root.not_before) {
        let (id, start) = (&next.id, rfc3339(next.not_before));
        alerts.push(format!(
            "the prepared root {id} starts only at {start} by this clock: wait, or `authority rollback` and rotate again"
        ));
    }
    let life = time_math::until(active.not_before, active.not_after);
    if now > time_math::before(active.not_after, life / 10) {
        let waits = authorities.prepared().is_some_and(|root| root.activation() != Some(Activation::OnCommand));
        let hint = if waits { "its successor waits, see `holders list --behind`" } else { "use `authority rotate`" };
        alerts.push(format!("the root ends at {}: {hint}", rfc3339(active.not_after)));
    }
    alerts
}

/// What is not over although certificates are issued: who is accepted by nobody, who refuses, what is compromised.
pub(crate) fn unsettled(authorities: &Authorities, unsettled: &Unsettled) -> Vec<String> {
    let Unsettled { cut_off, refusing, tainted_roots, tainted_issuing, unrevoked, unpublished, superseded: _ } =
        *unsettled;
    // The one that signs has an alert of its own.
    let signing = authorities.active().filter(|root| root.tainted_at.is_some());
    let tainted_roots = tainted_roots.saturating_sub(u64::from(signing.is_some()));
    let lines = [
        (cut_off, "cut off until renewed, `holders list --cut-off` names them: holders"),
        (refusing, "bundles refused, `holders list --behind` says why: holders"),
        (tainted_roots, "compromised and still in the trust bundle, see `authority list`: roots"),
        (unpublished, "not published everywhere, PUBLISHER in `status` says why: publishers"),
        (
            tainted_issuing,
            "compromised and still accepted, `authority revoke` ends that, or Vault when it has been told: issuing CAs",
        ),
        (unrevoked, "revoked here and not yet by the backend that has signed them, so on no list: leaves"),
    ];
    lines.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{what}: {count}")).collect()
}
