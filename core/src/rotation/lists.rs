//! Revocation lists: whether there should be any, and when they are made anew.

use std::time::Duration;

use time::OffsetDateTime;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use super::command::Refused;
use super::rules::{Observed, Rules};
use super::state::Authorities;
use super::step::{LAG, Plan, Step};
use crate::authority::AuthorityId;
use crate::clock::rfc3339;
use crate::moment;
use crate::revocation::RevocationList;
use crate::seams::authority::Offer;

/// How long after lists could not be made they are tried again, in seconds; and after that, since it is on record.
const RETRY_LISTS: i64 = 60;
const RETRY_LATER: i64 = 3600;

/// How long an entry stays on its list after the certificate's end.
pub(super) const KEEP_ENTRY: Duration = Duration::from_secs(3600);

/// How long before its end a list is given up that nobody renews here: clocks of other hosts may be ahead.
pub const LIST_MARGIN: Duration = Duration::from_secs(300);

/// How long before their end a replica looks after the lists that is to leave them to others: there seem to be none.
const NOBODY_ELSE: Duration = Duration::from_secs(60);

/// The operator's own list of this issuer.
pub(super) fn offered_list<'a>(
    offer: Option<&'a Offer>,
    issuer: &AuthorityId,
) -> Option<&'a rustls_pki_types::CertificateRevocationListDer<'static>> {
    offer?.revocation_lists.iter().find(|list| list.issuer == *issuer).map(|list| &list.der)
}

/// The list in use of this issuer, if it is to go on as its owner made it: it is good, nobody here could make it so, and
/// the files, which say what is revoked by having lists or none, do not say that nothing is.
#[must_use]
pub fn kept_list<'a>(
    authorities: &'a Authorities,
    offer: Option<&Offer>,
    issuer: &AuthorityId,
    now: OffsetDateTime,
) -> Option<&'a RevocationList> {
    let goes_on =
        offer.is_none_or(|offer| !offer.revocation_lists.is_empty() || offer.fingerprint.has_unusable_lists());
    let is_good = |list: &&RevocationList| list.next_update > moment::after(now, LIST_MARGIN).unix_timestamp();
    let list = authorities.revocations.lists.iter().find(|list| list.issuer == *issuer).filter(is_good)?;
    (goes_on && !is_ours_to_renew(authorities, issuer)).then_some(list)
}

/// Whether there should be revocation lists, and can be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lists {
    /// Nothing is revoked.
    Needless,
    /// Something is, and this authority can have no list, so that there can be none for the others either.
    Impossible(AuthorityId),
    /// Something is, and each authority's list can be made or is given.
    Wanted,
}

/// Whether there should be lists at `now`: something is revoked, by an entry here or by whoever gave lists; and each
/// authority's list can be made, is given, or is kept.
#[must_use]
pub fn lists_wanted(authorities: &Authorities, offer: Option<&Offer>, now: OffsetDateTime) -> Lists {
    let issuers = authorities.list_issuers(now);
    let kept = |id: &AuthorityId| kept_list(authorities, offer, id, now).is_some();
    let revoked = !authorities.revocations.entries.is_empty()
        || offer.is_some_and(|one| !one.revocation_lists.is_empty())
        || issuers.iter().any(kept);
    if !revoked {
        return Lists::Needless;
    }
    let can = |id: &AuthorityId| can_sign_list(authorities, id) || offered_list(offer, id).is_some() || kept(id);
    issuers.into_iter().find(|id| !can(id)).map_or(Lists::Wanted, Lists::Impossible)
}

/// Whether the key of this authority is held here: that of a root of our own, or of any issuing CA.
fn can_sign_list(authorities: &Authorities, issuer: &AuthorityId) -> bool {
    let root = authorities.root(issuer).is_some_and(|root| root.key.is_some());
    root || authorities.root_of(issuer).is_some()
}

/// When lists failed, for the journal: a failure that follows another one is tried again later, hence the later time.
#[must_use]
pub fn lists_failed(before: &Authorities, now: OffsetDateTime) -> i64 {
    let again = before.revocations.failed_at > 0 && before.revocations.lists.is_empty();
    now.unix_timestamp().saturating_add(if again { RETRY_LATER - RETRY_LISTS } else { 0 })
}

/// When this list begins to be valid, if it can be read.
fn begins(list: &RevocationList) -> Option<OffsetDateTime> {
    let (_, parsed) = CertificateRevocationList::from_der(&list.der).ok()?;
    Some(parsed.last_update().to_datetime())
}

/// What an operator should know about lists that are not valid, or missing: why none are served although something is
/// revoked.
#[must_use]
pub fn lists_worry(authorities: &Authorities, now: OffsetDateTime) -> Option<String> {
    let revocations = &authorities.revocations;
    for list in &revocations.lists {
        let issuer = &list.issuer;
        let refused = "by this clock, and proxies may refuse every certificate";
        if list.next_update <= now.unix_timestamp() {
            return Some(format!("the revocation list of {issuer} has ended {refused}"));
        }
        if let Some(at) = begins(list).filter(|at| *at > now) {
            return Some(format!("the revocation list of {issuer} starts only at {} {refused}", rfc3339(at)));
        }
    }
    if !revocations.lists.is_empty() || revocations.entries.is_empty() && revocations.failed_at == 0 {
        return None;
    }
    let issuers = authorities.list_issuers(now).into_iter();
    let others: Vec<String> = issuers.filter(|id| !can_sign_list(authorities, id)).map(|id| id.to_string()).collect();
    let why = match others.is_empty() {
        true => "they could not be made, see the log; this is tried again".to_owned(),
        false => format!(
            "each authority needs one, also {}, whose key is not held here, until nothing chains to it",
            others.join(", ")
        ),
    };
    let revoked = match revocations.entries.len() {
        0 => "revoked certificates are accepted".to_owned(),
        count => format!("{count} certificates are revoked"),
    };
    Some(format!("{revoked}, but no revocation lists are served: {why}"))
}

/// Whether the list of this authority is renewed here: that of another's CA would lose what its owner has put on it.
#[must_use]
pub fn is_ours_to_renew(authorities: &Authorities, issuer: &AuthorityId) -> bool {
    let root = authorities.root(issuer).or_else(|| authorities.root_of(issuer));
    root.is_some_and(|root| root.key.is_some())
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
    /// The revocation lists: one for every authority, or none (Envoy refuses chains with a part missing).
    pub(super) fn refresh_lists(
        &mut self,
        authorities: &Authorities,
        seen: &Observed<'_>,
        rules: &Rules,
    ) -> Option<Step> {
        let (revocations, forget) = (&authorities.revocations, seen.clock_is_steady);
        let wanted = lists_wanted(authorities, seen.offer, self.now) == Lists::Wanted;
        if wanted == revocations.lists.is_empty() {
            // That they could not be made is no reason to try again at once, unless by a clock that was ahead.
            let since = self.now.unix_timestamp().saturating_sub(revocations.failed_at);
            let failed = revocations.lists.is_empty() && (-RETRY_LATER..RETRY_LISTS).contains(&since);
            if !failed {
                return Some(Step::RefreshLists(forget));
            }
            let at = OffsetDateTime::from_unix_timestamp(revocations.failed_at.saturating_add(RETRY_LISTS))
                .unwrap_or(self.now);
            let _not_yet = self.is_due(at);
        }
        if revocations.lists.is_empty() {
            return None;
        }
        let now = self.now;
        let time = |seconds: i64| OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(now);
        let listed = |id: &AuthorityId| revocations.lists.iter().find(|list| list.issuer == *id);
        let offered = seen.offer.iter().flat_map(|offer| &offer.revocation_lists);
        if offered.clone().any(|list| listed(&list.issuer).is_none_or(|known| known.der != list.der))
            || authorities.list_issuers(self.now).iter().any(|id| listed(id).is_none())
        {
            return Some(Step::RefreshLists(forget));
        }
        for list in revocations.lists.iter().filter(|list| offered_list(seen.offer, &list.issuer).is_none()) {
            let end = time(list.next_update);
            if !is_ours_to_renew(authorities, &list.issuer) {
                // Nobody here could make it as its owner did: it stays for as long as it is good.
                if self.is_due(moment::before(end, LIST_MARGIN)) {
                    return Some(Step::RefreshLists(forget));
                }
                continue;
            }
            // With a clock that may be wrong only what has ended is replaced; and what was made while it was ahead is
            // replaced once it is back, since nobody accepts a list from the future.
            let due = if seen.clock_is_steady { moment::before(end, rules.list_ttl / 2) } else { end };
            let is_of_the_future = moment::before(end, rules.list_ttl) > moment::after(self.now, LAG)
                || begins(list).is_some_and(|at| at > now);
            if self.is_due(due) || is_of_the_future {
                return Some(Step::RefreshLists(forget));
            }
        }
        // An entry is kept for a while after its certificate's end: clocks differ.
        for entry in &revocations.entries {
            if self.is_due(moment::after(time(entry.not_after), KEEP_ENTRY)) && seen.clock_is_steady {
                return Some(Step::RefreshLists(true));
            }
        }
        None
    }

    /// Lists that have ended make proxies refuse everything. That must not happen because all replicas wait for others.
    pub(super) fn replace_ending_lists(&mut self, authorities: &Authorities) -> Option<Step> {
        let end = authorities.revocations.lists.iter().map(|list| list.next_update).min()?;
        let end = OffsetDateTime::from_unix_timestamp(end).unwrap_or(self.now);
        self.is_due(moment::before(end, NOBODY_ELSE)).then_some(Step::RefreshLists(false))
    }
}
