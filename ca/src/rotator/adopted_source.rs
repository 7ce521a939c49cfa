//! What this replica's backend brings, and whether that is what counts: files may be wrong, late, or put back.

use signet_core::authority::{AuthorityId, Root};
use signet_core::certificate::Facts;
use signet_core::revocation::{LIST_MARGIN, RevocationList};
use signet_core::rotation::Authorities;
use signet_core::seams::certificate_authority::SignError;
use signet_core::source::{Offer, OfferedCa, ReplicaSource, RevokedBy, SourceFingerprint, SourceStanding};
use signet_core::time_math;
use time::OffsetDateTime;

/// What the backend brings, with the ids that the journal knows, if that goes with what is in use.
///
/// # Errors
/// [`SignError`]: what the backend says, or that it does not go with it.
pub(super) fn checked(
    brought: Result<Option<Offer>, SignError>,
    authorities: &Authorities,
) -> Result<Option<Offer>, SignError> {
    let brought = brought?.map(|offer| as_known(offer, authorities));
    match brought.as_ref().and_then(|offer| clash(offer, authorities)) {
        Some(text) => Err(SignError::Unusable(text)),
        None => Ok(brought),
    }
}

/// The CA that counts now, when it is somebody else's, and what the source is like. It follows from the journal and from
/// what the backend brings now, as it was [`checked`]: what it brought before, and what this process has seen, make no
/// difference.
///
/// A set of files that is wrong now, or would break what is in use, is neither new nor late: what the journal holds goes
/// on. What is wrong is told by readiness.
///
/// # Errors
/// [`SignError`]: there is nothing to go on with.
pub(super) fn observe(
    brought: Result<Option<Offer>, SignError>,
    revoked_by: RevokedBy,
    authorities: &Authorities,
    now: OffsetDateTime,
) -> Result<(Option<Offer>, ReplicaSource), SignError> {
    let timely = |offer: Option<Offer>| {
        offer.map(|offer| without_ending_lists(with_newest_lists(offer, authorities), authorities, now))
    };
    let brought = match brought {
        Ok(offer) => offer,
        Err(error) if authorities.active().is_none() => return Err(error),
        Err(error) => {
            tracing::debug!(%error, "the CA files are not used");
            // While a root signs that no files have brought, that leaves all steps to others.
            let held = held(authorities);
            let standing = if held.is_some() { SourceStanding::Newest } else { SourceStanding::Superseded };
            return Ok((
                timely(held.clone()),
                ReplicaSource { offer: held, fingerprint: None, standing, revoked_by, ..ReplicaSource::default() },
            ));
        }
    };
    let fingerprint = brought.as_ref().map_or_else(SourceFingerprint::own, |offer| offer.fingerprint.clone());
    let standing = authorities.adopted.standing(&fingerprint);
    let own = timely(brought);
    let mut counts = if standing == SourceStanding::Superseded { held(authorities) } else { own.clone() };
    if let Some(offer) =
        counts.as_mut().filter(|_| standing == SourceStanding::Newest && fingerprint.has_unusable_lists())
    {
        // Those of the very same CA.
        offer.revocation_lists = held(authorities).map(|held| held.revocation_lists).unwrap_or_default();
    }
    Ok((
        timely(counts),
        ReplicaSource { offer: own, fingerprint: Some(fingerprint), standing, revoked_by, ..ReplicaSource::default() },
    ))
}

/// The same with the ids that the journal has for its authorities since before ids covered names.
fn as_known(mut offer: Offer, authorities: &Authorities) -> Offer {
    let former = authorities.former_ids();
    let given = match &mut offer.issuing {
        OfferedCa::Given(issuing) => Some(&mut issuing.id),
        OfferedCa::Certified { .. } => None,
    };
    let ids = offer.roots.iter_mut().map(|root| &mut root.id).chain([&mut offer.signer]).chain(given);
    for id in ids.chain(offer.revocation_lists.iter_mut().map(|list| &mut list.issuer)) {
        *id = former.known(id.clone());
    }
    offer
}

/// What the journal holds of a backend that brings its own CA.
fn held(authorities: &Authorities) -> Option<Offer> {
    let active = authorities.active().filter(|root| root.pinned)?;
    let roots: Vec<Root> = authorities.roots.iter().filter(|root| root.pinned).map(|root| root.ca.clone()).collect();
    let issuing = active.issuing.last()?.ca.clone();
    let between = issuing.intermediates.iter().filter_map(|der| Facts::read(der).ok());
    let former = authorities.former_ids();
    let mut chain: Vec<AuthorityId> = between.map(|facts| former.known(AuthorityId::of(&facts))).collect();
    // The list of an issuing CA of ours is made here.
    let lists_on_demand = !issuing.is_imported();
    chain.extend((!issuing.is_ours()).then(|| issuing.id.clone()));
    chain.extend(roots.iter().filter(|root| root.key.is_none()).map(|root| root.id.clone()));
    let of_chain = |list: &&RevocationList| chain.contains(&list.issuer);
    let revocation_lists = authorities.revocations.lists.iter().filter(of_chain).cloned().collect();
    // That of the adopted source; but nobody asks for it.
    let fingerprint = authorities.adopted.newest().cloned().unwrap_or_else(SourceFingerprint::own);
    let issuing = OfferedCa::Given(issuing);
    Some(Offer { roots, signer: active.id.clone(), issuing, revocation_lists, lists_on_demand, fingerprint })
}

/// Lists that their issuer publishes are read by each replica at another time: the newest that any of them has read counts.
fn with_newest_lists(mut offer: Offer, authorities: &Authorities) -> Offer {
    if offer.lists_on_demand {
        offer.revocation_lists = newest(offer.revocation_lists, authorities);
    }
    offer
}

fn newest(mut lists: Vec<RevocationList>, authorities: &Authorities) -> Vec<RevocationList> {
    for list in &mut lists {
        let known = authorities.revocations.list_of(&list.issuer);
        if let Some(newer) = known.filter(|known| known.is_newer_than(list)) {
            list.clone_from(newer);
        }
    }
    lists
}

/// Lists of a backend that was left, as far as they count: of each the newest that any replica has read, until just before its end.
pub(super) fn timely(
    lists: Vec<RevocationList>,
    authorities: &Authorities,
    now: OffsetDateTime,
) -> Vec<RevocationList> {
    let mut lists = newest(lists, authorities);
    let soon = ending_at(authorities, now);
    lists.retain(|list| list.next_update > soon);
    lists
}

/// When a list ends that is not used any more, or not put in use.
fn ending_at(authorities: &Authorities, now: OffsetDateTime) -> i64 {
    let margin = if authorities.revocations.lists.is_empty() { 2 * LIST_MARGIN } else { LIST_MARGIN };
    time_math::after(now, margin).unix_timestamp()
}

/// Nobody renews these here, and a list that has ended makes proxies refuse everything: they are taken out of use some
/// time before. Put in use they are only if that is not just before then, since clocks of replicas differ.
fn without_ending_lists(mut offer: Offer, authorities: &Authorities, now: OffsetDateTime) -> Offer {
    let soon = ending_at(authorities, now);
    let ends = |list: &RevocationList| list.next_update <= soon;
    if offer.lists_on_demand {
        offer.revocation_lists.retain(|list| !ends(list));
    } else if offer.revocation_lists.iter().any(ends) {
        offer.revocation_lists.clear();
    }
    offer
}

/// Why an offer does not go with what is in use. A root with the name and key of a known one is that one, renewed; but
/// with another key identifier, verifiers that compare identifiers find no way to it from what is signed already.
fn clash(offer: &Offer, authorities: &Authorities) -> Option<String> {
    let key_id = |root: &Root| Facts::read(&root.certificate).map(|facts| facts.key_id()).ok();
    let clashes = |root: &&Root| {
        let known = authorities.root(&root.id);
        known.is_some_and(|known| known.certificate != root.certificate && key_id(known) != key_id(root))
    };
    let id = &offer.roots.iter().find(clashes)?.id;
    Some(format!(
        "root {id} of the backend has the name and key of a root in use, but another key identifier, so that chains to it \
         would break: make it again with the same identifier, or with another name or key"
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair};
    use signet_core::authority::{IssuingCa, KeyId};
    use signet_core::rotation::{AuthorityState, RootAuthority};
    use signet_core::unknown_fields::Unknown;

    const START: OffsetDateTime = time::macros::datetime!(2026-03-01 12:00 UTC);
    const MADE: OffsetDateTime = time::macros::datetime!(2026-11-29 06:19:47 UTC);

    fn looked(
        brought: Result<Option<Offer>, SignError>,
        authorities: &Authorities,
        now: OffsetDateTime,
    ) -> Result<(Option<Offer>, ReplicaSource), SignError> {
        observe(checked(brought, authorities), RevokedBy::Owner, authorities, now)
    }

    fn root(name: &str, key: &KeyPair, days: i64) -> RootAuthority {
        root_with(name, key, days, |_| {})
    }

    fn root_with(name: &str, key: &KeyPair, days: i64, change: impl FnOnce(&mut CertificateParams)) -> RootAuthority {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_after = START + time::Duration::days(days);
        change(&mut params);
        let certificate = params.self_signed(key).unwrap().der().clone();
        let issuing = IssuingCa {
            id: AuthorityId::new(b"", b"signer"),
            key: KeyId::parse("files-signer"),
            certificate: certificate.clone(),
            not_before: START,
            not_after: START,
            intermediates: Vec::new(),
        };
        let id = AuthorityId::of(&Facts::read(&certificate).unwrap());
        RootAuthority {
            ca: Root { id, key: None, certificate, not_before: START, not_after: START },
            generation: 1,
            state: AuthorityState::Active,
            since: START,
            issuing: vec![issuing.into()],
            published: 1,
            tainted_at: None,
            pinned: true,
            unknown: Unknown::default(),
        }
    }

    fn journal(root: RootAuthority) -> Authorities {
        Authorities { bundle_sequence: 1, roots: vec![root], ..Authorities::default() }
    }

    #[test]
    fn a_root_may_be_renewed_with_its_name_and_key_unless_chains_to_it_would_break() {
        let key = KeyPair::generate().unwrap();
        let known = journal(root("a", &key, 10));
        let other_identifier = |params: &mut CertificateParams| {
            params.key_identifier_method = rcgen::KeyIdMethod::PreSpecified(vec![7; 20]);
        };
        for (offered, clashes) in [
            (root("a", &key, 10), false),
            (root("a", &key, 20), false),
            (root_with("a", &key, 10, other_identifier), true),
            // Another name, or another key, makes another authority.
            (root("b", &key, 10), false),
            (root_with("b", &key, 10, other_identifier), false),
            (root("b", &KeyPair::generate().unwrap(), 10), false),
        ] {
            let offer = held(&journal(offered)).unwrap();
            assert_eq!(clash(&offer, &known).is_some(), clashes);
        }
    }

    /// Written by the last program whose ids covered the key alone.
    const FORMAT_1: &str = include_str!("../../../core/src/rotation/testdata/journal_of_format_1.json");

    #[test]
    fn files_that_were_in_use_before_ids_covered_names_go_on_with_the_ids_that_they_had() {
        let known = Authorities::decode(FORMAT_1).unwrap();
        let mut offer = held(&known).unwrap();
        assert_eq!(offer.revocation_lists.len(), 3, "of the issuing CA, the one above it, and the root");
        // As files are read now.
        let id = |der: &rustls_pki_types::CertificateDer<'static>| AuthorityId::of(&Facts::read(der).unwrap());
        let (root, issuing) = (id(&offer.roots[0].certificate), id(&offer.given().unwrap().certificate));
        let (signer, given) = (offer.signer.clone(), offer.given().unwrap().id.clone());
        for list in &mut offer.revocation_lists {
            let names = [(&signer, &root), (&given, &issuing)];
            let new = names.iter().find(|(former, _)| **former == list.issuer);
            list.issuer = new.map_or(list.issuer.clone(), |(_, new)| (*new).clone());
        }
        offer.roots[0].id = root.clone();
        let mut given = offer.given().unwrap().clone();
        given.id = issuing;
        (offer.signer, offer.issuing) = (root, OfferedCa::Given(given));
        let (counts, source) = looked(Ok(Some(offer.clone())), &known, MADE).unwrap();
        assert_eq!((counts, source.standing), (held(&known), SourceStanding::Newest));
        // The same root with another name is another one.
        let renamed = AuthorityId::new(b"renamed", &Facts::read(&offer.roots[0].certificate).unwrap().spki_der);
        offer.roots[0].id = renamed.clone();
        assert_eq!(as_known(offer, &known).roots[0].id, renamed);
    }

    #[test]
    fn without_files_the_journal_says_what_they_were_and_nothing_is_made_up() {
        let known = journal(root("a", &KeyPair::generate().unwrap(), 10));
        let offer = held(&known).unwrap();
        assert_eq!((&offer.signer, offer.given()), (&known.roots[0].id, Some(&known.roots[0].issuing[0].ca)));
        assert_eq!(held(&Authorities::default()), None);
        let ours = journal(RootAuthority { pinned: false, ..root("a", &KeyPair::generate().unwrap(), 10) });
        assert_eq!(held(&ours), None, "a root of our own is nothing that files brought");
    }

    fn list(issuer: &AuthorityId, end: OffsetDateTime) -> RevocationList {
        RevocationList {
            issuer: issuer.clone(),
            der: vec![1].into(),
            next_update: end.unix_timestamp(),
            unknown: Unknown::default(),
        }
    }

    /// The journal that has adopted nothing but a CA of this name, and what its files bring.
    fn adopted(name: &str) -> (Authorities, Offer) {
        let mut known = journal(root(name, &KeyPair::generate().unwrap(), 10));
        known.adopted = vec![SourceFingerprint::of_set(&known.roots[0].certificate, [], [])].into();
        let offer = held(&known).unwrap();
        (known, offer)
    }

    #[test]
    fn what_the_journal_holds_has_the_lists_of_its_own_chain_and_no_others() {
        let mut root = root("a", &KeyPair::generate().unwrap(), 10);
        let middle = self::root("middle", &KeyPair::generate().unwrap(), 10);
        root.issuing[0].ca.intermediates = vec![middle.certificate.clone()];
        let chain = [root.issuing[0].id.clone(), middle.ca.id, root.id.clone()];
        let mut known = journal(root);
        let stranger = AuthorityId::new(b"", b"left long ago");
        known.revocations.lists = chain.iter().chain([&stranger]).map(|id| list(id, START)).collect();
        let lists = held(&known).unwrap().revocation_lists;
        assert_eq!(lists.iter().map(|list| list.issuer.clone()).collect::<Vec<_>>(), chain);
    }

    #[test]
    fn lists_go_before_they_end_and_come_only_if_that_is_not_soon() {
        let (mut known, mut offer) = adopted("a");
        let second = std::time::Duration::from_secs(1);
        let stays = |offer: &Offer, known: &Authorities, left| {
            let now = START - left;
            !without_ending_lists(offer.clone(), known, now).revocation_lists.is_empty()
        };
        offer.revocation_lists = vec![list(&offer.signer, START)];
        for (in_use, margin) in [(false, 2 * LIST_MARGIN), (true, LIST_MARGIN)] {
            known.revocations.lists = if in_use { offer.revocation_lists.clone() } else { Vec::new() };
            assert!(!stays(&offer, &known, margin) && stays(&offer, &known, margin + second), "{in_use}");
        }
    }

    #[test]
    fn a_replica_that_was_left_behind_goes_on_with_the_journal() {
        let ((mut known, theirs), (_, mine)) = (adopted("theirs"), adopted("mine"));
        known.adopted = vec![mine.fingerprint.clone(), theirs.fingerprint.clone()].into();
        let (offer, source) = looked(Ok(Some(mine.clone())), &known, START).unwrap();
        assert_eq!(offer.as_ref(), Some(&theirs));
        assert_eq!((&source.offer, &source.fingerprint), (&Some(mine.clone()), &Some(mine.fingerprint)));
        assert_eq!((source.standing, source.is_superseded()), (SourceStanding::Superseded, true));
    }

    #[test]
    fn files_that_are_of_no_use_are_neither_new_nor_late_and_the_journal_goes_on() {
        let key = KeyPair::generate().unwrap();
        let known = journal(root("a", &key, 10));
        let other = |params: &mut CertificateParams| {
            params.key_identifier_method = rcgen::KeyIdMethod::PreSpecified(vec![7; 20]);
        };
        let breaks = held(&journal(root_with("a", &key, 10, other))).unwrap();
        let ours = journal(RootAuthority { pinned: false, ..known.roots[0].clone() });
        for brought in [Ok(Some(breaks)), Err(SignError::Failed("incomplete".to_owned()))] {
            for (journal, standing) in [(&known, SourceStanding::Newest), (&ours, SourceStanding::Superseded)] {
                let (offer, source) = looked(brought.clone(), journal, START).unwrap();
                assert_eq!((offer, source.fingerprint.clone()), (held(journal), None));
                assert_eq!((source.standing, source.is_superseded()), (standing, false));
            }
            // With nothing to go on with, only what clashes with nothing yet is of use.
            assert_eq!(looked(brought.clone(), &Authorities::default(), START).is_err(), brought.is_err());
        }
    }
}
