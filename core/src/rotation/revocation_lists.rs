//! Revocation lists of the authorities in the journal: whose they are, and the step that makes them anew.

use std::collections::BTreeMap;
use std::time::Duration;

use time::OffsetDateTime;

use super::command::Refused;
use super::rules::{Observed, Rules};
use super::state::{Authorities, RootAuthority};
use super::step::{Plan, Step};
use crate::authority::{AuthorityId, IssuingCa};
use crate::certificate::Facts;
use crate::revocation::{GivenLists, ListIssuers, ListKey, Revoked};
use crate::source::Offer;
use crate::time_math;

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
        let of = |root: &RootAuthority| if root.key.is_some() { ListKey::Own } else { ListKey::Foreign };
        let mut keys = BTreeMap::new();
        for root in &self.roots {
            for issuing in root.issuing.iter().filter(|issuing| !signs_no_lists(&issuing.certificate)) {
                keys.entry(issuing.id.clone()).or_insert(of(root));
            }
        }
        for root in &self.roots {
            // The key of an operator's root is in custody only where that root signs leaves itself.
            if !signs_no_lists(&root.certificate) && (root.key.is_some() || keys.contains_key(&root.id)) {
                keys.insert(root.id.clone(), of(root));
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

/// Whether the certificate of an issuing CA is on the list of its root.
#[must_use]
pub fn is_revoked(authorities: &Authorities, issuing: &IssuingCa) -> bool {
    authorities.revocation_of(issuing).is_some()
}

/// Whether the certificate of a CA says that it signs no lists, as that of a CA does which istiod has made: its key helps nothing.
fn signs_no_lists(certificate: &[u8]) -> bool {
    Facts::read(certificate).is_ok_and(|facts| !facts.may_sign_lists())
}

/// Whether something can be revoked: each authority's list can be signed here.
///
/// # Errors
/// [`Refused::ListsImpossible`] names the first authority for which that is not so.
pub fn lists_possible(authorities: &Authorities, seen: &Observed<'_>) -> Result<(), Refused> {
    if seen.offer.is_some() {
        let signer = authorities.active().ok_or(Refused::NoAuthority)?;
        return Err(Refused::ListsImpossible(signer.id.clone()));
    }
    match authorities.roots.iter().find(|root| root.key.is_none()) {
        Some(root) => Err(Refused::ListsImpossible(root.id.clone())),
        None => Ok(()),
    }
}

impl Plan {
    /// The revocation lists are made anew when it is time.
    pub(super) fn refresh_lists(
        &mut self,
        authorities: &Authorities,
        seen: &Observed<'_>,
        rules: &Rules,
    ) -> Option<Step> {
        let given = seen.offer.map_or(GivenLists::Unknown, Offer::given_lists);
        let (issuers, steady) = (authorities.lists_of(self.now), seen.clock_is_steady);
        let at = authorities.revocations.refresh_at(&issuers, given, rules.list_ttl, self.now, steady)?;
        self.is_due(at).then_some(Step::RefreshLists(steady))
    }

    /// Lists that have ended make proxies refuse everything. That must not happen because all replicas wait for others.
    pub(super) fn replace_ending_lists(&mut self, authorities: &Authorities) -> Option<Step> {
        let end = authorities.revocations.first_end()?;
        self.is_due(time_math::before(end, NOBODY_ELSE)).then_some(Step::RefreshLists(false))
    }
}
