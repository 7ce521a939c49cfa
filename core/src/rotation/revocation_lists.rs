//! Revocation lists of the authorities in the journal: whose they are, and the step that makes them anew.

use std::collections::BTreeMap;
use std::time::Duration;

use time::OffsetDateTime;

use super::command::Refused;
use super::rules::{Observed, Rules, SETTLE};
use super::state::Authorities;
use super::step::{Plan, Step};
use crate::authority::{AuthorityId, IssuingCa};
use crate::certificate::Facts;
use crate::revocation::{ListIssuers, ListKey, RevocationReason, Revoked};
use crate::source::{Offer, ReplicaSource, RevokedBy};
use crate::time_math;
use crate::unknown_fields::Unknown;

/// How long before their end a replica looks after the lists that is to leave them to others: there seem to be none.
const NOBODY_ELSE: Duration = Duration::from_secs(60);

impl Authorities {
    /// The authorities whose lists make a complete set: those that may have signed something that is valid at `now`.
    #[must_use]
    pub fn list_issuers(&self, now: OffsetDateTime) -> Vec<AuthorityId> {
        let (mut all, mut former) = (Vec::new(), None);
        for root in &self.roots {
            all.push(root.id.clone());
            for issuing in root.issuing.iter().filter(|issuing| issuing.not_after > now && issuing.id != root.id) {
                all.push(issuing.id.clone());
                for facts in issuing.intermediates.iter().filter_map(|der| Facts::read(der).ok()) {
                    let former = former.get_or_insert_with(|| self.former_ids());
                    all.push(former.known(AuthorityId::of(&facts)));
                }
            }
        }
        all.sort();
        all.dedup();
        all
    }

    /// The same with where their keys are.
    #[must_use]
    pub fn lists_of(&self, now: OffsetDateTime) -> ListIssuers {
        let of = |is_ours: bool| if is_ours { ListKey::Own } else { ListKey::Foreign };
        let mut keys = BTreeMap::new();
        for root in &self.roots {
            for issuing in root.issuing.iter().filter(|one| one.key.is_some() && !signs_no_lists(&one.certificate)) {
                // Also below a root that somebody else has.
                let is_ours = root.key.is_some() || issuing.is_ours();
                keys.entry(issuing.id.clone()).or_insert(of(is_ours));
            }
        }
        for root in &self.roots {
            // The key of an operator's root is in custody only where that root signs leaves itself.
            if !signs_no_lists(&root.certificate) && (root.key.is_some() || keys.contains_key(&root.id)) {
                keys.insert(root.id.clone(), of(root.key.is_some()));
            }
        }
        ListIssuers::new(self.list_issuers(now), keys)
    }

    /// The entry that revokes the certificate of an issuing CA, on the list of its root.
    #[must_use]
    pub fn revocation_of(&self, issuing: &IssuingCa) -> Option<&Revoked> {
        if self.revocations.entries.is_empty() {
            return None;
        }
        let serial = Facts::read(&issuing.certificate).ok()?.serial_text();
        self.revocations.find(&serial, &self.root_of(&issuing.id)?.id)
    }
}

impl Authorities {
    /// Revokes an issuing CA: on the list of its root, which whoever has that makes when it is somebody else's.
    pub(super) fn revoke_issuing(&mut self, id: &AuthorityId, now: OffsetDateTime) {
        let Some(root) = self.root_of(id) else { return };
        let Some(issuing) = root.issuing.iter().find(|issuing| issuing.id == *id) else { return };
        let Ok(serial) = Facts::read(&issuing.certificate).map(|facts| facts.serial_text()) else { return };
        let (issuer, certificate) = (root.id.clone(), root.key.is_none().then(|| issuing.certificate.clone()));
        let not_after = issuing.not_after.unix_timestamp();
        if let Some(certificate) = certificate {
            self.revocations.ask_elsewhere(&serial, &issuer, certificate);
        }
        self.revocations.add(Revoked {
            serial,
            issuer,
            reason: RevocationReason::CaCompromise,
            at: now.unix_timestamp(),
            not_after,
            unknown: Unknown::default(),
        });
    }

    /// Whether whoever has certified this issuing CA of ours revokes it, as far as the configured backend is that one.
    pub(super) fn is_revoked_elsewhere(&self, id: &AuthorityId, source: &ReplicaSource) -> bool {
        let root = self.root_of(id).filter(|root| root.key.is_none() && source.revoked_by == RevokedBy::Upstream);
        root.is_some_and(|root| root.issuing.iter().any(|one| one.id == *id && one.is_ours()))
    }
}

/// Whether the certificate of an issuing CA is on the list of its root.
#[must_use]
pub fn is_revoked(authorities: &Authorities, issuing: &IssuingCa) -> bool {
    authorities.revocation_of(issuing).is_some()
}

/// Whether the certificate of a CA says that it signs no lists, as that of a CA does which istiod has made: its key helps nothing.
fn signs_no_lists(certificate: &[u8]) -> bool {
    Facts::read(certificate).is_ok_and(|facts| !facts.may_sign_lists())
}

/// Whether something can be revoked: each authority's list can be signed here, or whoever certifies our issuing CAs has one.
///
/// # Errors
/// [`Refused::ListsImpossible`] names the first authority for which that is not so.
pub fn lists_possible(authorities: &Authorities, seen: &Observed<'_>, now: OffsetDateTime) -> Result<(), Refused> {
    let impossible = |id: &AuthorityId| Err(Refused::ListsImpossible(id.clone()));
    let is_theirs = |offer: &Offer| !offer.lists_on_demand;
    if seen.offer.is_some_and(is_theirs) {
        let signer = authorities.active().ok_or(Refused::NoAuthority)?;
        return impossible(&signer.id);
    }
    let given = seen.source.given_lists(seen.offer);
    let issuers = authorities.lists_of(now);
    let kept = |id: &AuthorityId| authorities.revocations.kept(id, &issuers, given, now).is_some();
    for root in authorities.roots.iter().filter(|root| root.key.is_none()) {
        let certifies = !root.issuing.is_empty() && root.issuing.iter().all(|one| !one.is_imported());
        if given.list_of(&root.id).is_none() && !(certifies && kept(&root.id)) {
            return impossible(&root.id);
        }
    }
    let lacks = |id: &&AuthorityId| issuers.key(id) == ListKey::Elsewhere && given.list_of(id).is_none() && !kept(id);
    issuers.required().iter().find(lacks).map_or(Ok(()), impossible)
}

impl Plan {
    /// The revocation lists are made anew when it is time.
    pub(super) fn refresh_lists(
        &mut self,
        authorities: &Authorities,
        seen: &Observed<'_>,
        rules: &Rules,
    ) -> Option<Step> {
        let given = seen.source.given_lists(seen.offer);
        let (issuers, steady) = (authorities.lists_of(self.now), seen.clock_is_steady);
        let at = authorities.revocations.refresh_at(&issuers, given, rules.list_ttl, self.now, steady)?;
        self.is_due(at).then_some(Step::RefreshLists(steady))
    }

    /// An issuing CA that is declared compromised is revoked by whoever has certified it as soon as nobody uses it any more.
    pub(super) fn revoke_left(&mut self, authorities: &Authorities, seen: &Observed<'_>) -> Option<Step> {
        let signs = authorities.active_issuer(self.now).map(|issuing| issuing.id.clone());
        for issuing in authorities.tainted_issuing(self.now) {
            let is_used = seen.coverage.by_authority.get(&issuing.id).is_some_and(|holders| *holders > 0);
            let may = authorities.is_revoked_elsewhere(&issuing.id, seen.source) && seen.clock_is_steady;
            if is_used || !may || signs.as_ref() == Some(&issuing.id) {
                continue;
            }
            // What it has signed last may be on its way to a holder that is not counted yet.
            let since =
                authorities.issuing_tainted_at(issuing).and_then(|at| OffsetDateTime::from_unix_timestamp(at).ok());
            if self.is_due(time_math::after(since.unwrap_or(self.now), SETTLE)) {
                return Some(Step::RevokeIssuing(issuing.id.clone()));
            }
        }
        None
    }

    /// Lists that have ended make proxies refuse everything. That must not happen because all replicas wait for others.
    pub(super) fn replace_ending_lists(&mut self, authorities: &Authorities) -> Option<Step> {
        let end = authorities.revocations.first_end()?;
        self.is_due(time_math::before(end, NOBODY_ELSE)).then_some(Step::RefreshLists(false))
    }
}
