//! Authorities for the tests of rotation: certificates are stand-ins, since the rules never look inside.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeMap;
use std::time::Duration;

use time::OffsetDateTime;

use super::*;
use crate::authority::{AuthorityId, IssuingCa, KeyId, Root};
use crate::holder::{Count, Coverage, Lag};
use crate::revocation::RevocationList;
use crate::source::{Offer, OfferedCa, ReplicaSource, SourceFingerprint, SourceStanding};
use crate::unknown_fields::Unknown;

pub(super) const DAY: Duration = Duration::from_secs(86_400);
pub(crate) const START: OffsetDateTime = time::macros::datetime!(2026-03-01 12:00 UTC);

pub(super) fn rules() -> Rules {
    Rules {
        automatic: true,
        prepare_at: 70,
        activate_at: 80,
        coverage: 100,
        propagation: Duration::from_secs(60),
        list_ttl: DAY,
        retirement: Retirement::Automatic,
        leaf_ttl: 2 * DAY,
    }
}

pub(super) fn issuing_ca(name: &str, at: OffsetDateTime, ttl: Duration) -> IssuingCa {
    IssuingCa {
        id: AuthorityId::new(b"", name.as_bytes()),
        key: KeyId::parse("key"),
        certificate: name.as_bytes().to_vec().into(),
        not_before: at,
        not_after: at + ttl,
        intermediates: vec![],
    }
}

pub(super) fn issuing(name: &str, at: OffsetDateTime, ttl: Duration) -> IssuingAuthority {
    issuing_ca(name, at, ttl).into()
}

pub(super) fn root_ca(name: &str, at: OffsetDateTime, ttl: Duration) -> Root {
    Root {
        id: AuthorityId::new(b"", name.as_bytes()),
        key: KeyId::parse("root"),
        certificate: name.as_bytes().to_vec().into(),
        not_before: at,
        not_after: at + ttl,
    }
}

pub(super) fn root(name: &str, at: OffsetDateTime, ttl: Duration) -> RootAuthority {
    RootAuthority {
        ca: root_ca(name, at, ttl),
        generation: 0,
        state: AuthorityState::Prepared(Activation::OnCommand),
        since: at,
        issuing: vec![],
        published: 0,
        tainted_at: None,
        pinned: false,
        unknown: Unknown::default(),
    }
}

/// A CA of somebody else's: a root, and a signer below it.
pub(super) fn offer(root_name: &str, signer: &str) -> Offer {
    offer_with(vec![root_ca(root_name, START, 100 * DAY)], signer, vec![])
}

/// The same with these roots, of which the first one is the signer's, and with these lists.
pub(super) fn offer_with(roots: Vec<Root>, signer: &str, lists: Vec<RevocationList>) -> Offer {
    let mut issuing = issuing_ca(signer, START, 50 * DAY);
    issuing.key = KeyId::parse("files-key");
    let fingerprint = SourceFingerprint::of_set(&issuing.certificate, [], roots.iter().map(|root| &root.certificate));
    let fingerprint = fingerprint.with_lists(&lists);
    let issuing = OfferedCa::Given(issuing);
    Offer { signer: roots[0].id.clone(), roots, issuing, revocation_lists: lists, lists_on_demand: false, fingerprint }
}

pub(crate) fn id(name: &str) -> AuthorityId {
    AuthorityId::new(b"", name.as_bytes())
}

/// The records and the source of a test.
pub(super) struct Seen {
    pub(super) coverage: Coverage,
    pub(super) lag: Lag,
    pub(super) ends: BTreeMap<AuthorityId, OffsetDateTime>,
    pub(super) offer: Option<Offer>,
    pub(super) steady: bool,
    /// What the replica has itself.
    pub(super) source: ReplicaSource,
    /// Where the replica publishes the bundle.
    pub(super) publishers: Vec<String>,
}

impl Seen {
    pub(super) fn nobody() -> Self {
        let source = ReplicaSource { fingerprint: Some(SourceFingerprint::own()), ..ReplicaSource::default() };
        Self {
            coverage: Coverage::default(),
            lag: Lag::default(),
            ends: BTreeMap::new(),
            offer: None,
            steady: true,
            source,
            publishers: Vec::new(),
        }
    }

    /// So many holders with these newest sequences; all of them acknowledge.
    pub(super) fn holders(counts: &[(u64, u64)]) -> Self {
        let count =
            |(sequence, holders): &(u64, u64)| (*sequence, Count { holders: *holders, acknowledging: *holders });
        let coverage = Coverage { by_sequence: counts.iter().map(count).collect(), ..Coverage::default() };
        Self { coverage, ..Self::nobody() }
    }

    /// As a replica sees it whose source is the adopted one and brings this, which counts.
    pub(super) fn offered(self, offer: Offer) -> Self {
        let source = ReplicaSource {
            fingerprint: Some(offer.fingerprint.clone()),
            offer: Some(offer.clone()),
            standing: SourceStanding::Newest,
            ..self.source
        };
        Self { offer: Some(offer), source, ..self }
    }

    /// As a replica sees it that has `offer`, and that stands as the journal says.
    pub(super) fn has(self, offer: Option<Offer>, authorities: &Authorities) -> Self {
        let print = offer.as_ref().map_or_else(SourceFingerprint::own, |offer| offer.fingerprint.clone());
        let standing = authorities.adopted.standing(&print);
        let counts = if standing == SourceStanding::Superseded { None } else { offer.clone() };
        let source = ReplicaSource { offer, fingerprint: Some(print), standing, ..self.source };
        Self { offer: counts, source, ..self }
    }

    pub(super) fn view(&self) -> Observed<'_> {
        Observed {
            coverage: &self.coverage,
            lag: self.lag,
            last_ends: &self.ends,
            offer: self.offer.as_ref(),
            source: &self.source,
            publishers: &self.publishers,
            clock_is_steady: self.steady,
        }
    }
}

/// Takes a step with made-up keys, as a CA would.
pub(super) fn take(
    step: &Step,
    authorities: &Authorities,
    seen: &Seen,
    now: OffsetDateTime,
    name: &str,
) -> Authorities {
    let mut made = Made::default();
    let need = needs(step, authorities, &seen.view(), now);
    if matches!(need, Needs::Root | Needs::RootAndIssuing) {
        made.root = Some(root_ca(name, now, 100 * DAY));
    }
    if matches!(need, Needs::Issuing(_) | Needs::IssuingUnder(_) | Needs::RootAndIssuing) {
        let under = match &need {
            Needs::IssuingUnder(root) => root.not_after,
            Needs::Issuing(id) => authorities.root(id).unwrap().not_after,
            _ => now + 100 * DAY,
        };
        let mut one = issuing_ca(&format!("{name}-issuing"), now, 30 * DAY);
        one.not_after = one.not_after.min(under);
        made.issuing = Some(one);
    }
    apply(step, authorities, made, &seen.view(), now)
}

/// The first root "r1" with an issuing CA, made at [`START`].
pub(crate) fn first() -> Authorities {
    let seen = Seen::nobody();
    let empty = Authorities::default();
    take(&Step::CreateRoot, &empty, &seen, START, "r1")
}

/// r1 signs, r2 is prepared since [`START`] and waits for coverage of bundle 2.
pub(super) fn prepared(activation: Activation) -> Authorities {
    take(&Step::PrepareRoot(activation), &first(), &Seen::nobody(), START, "r2")
}

/// r2 signs, r1 drains.
pub(super) fn draining() -> Authorities {
    take(&Step::Activate(id("r2")), &prepared(Activation::WhenCovered), &Seen::nobody(), START, "r2")
}
