//! What this replica's backend brings, and whether that is what counts: files may be wrong, late, or put back.

use std::sync::{Mutex, MutexGuard, PoisonError};

use signet_core::certificate::Facts;
use signet_core::moment;
use signet_core::rotation::{
    self, Authorities, AuthorityId, Fingerprint, Follower, LIST_MARGIN, RevocationList, RootAuthority, Standing,
};
use signet_core::seams::authority::{Offer, SignError};
use time::OffsetDateTime;

/// What the backend of this replica brings, whether or not it counts.
#[derive(Debug, Clone)]
pub struct Backend {
    /// The CA, if it brings one.
    pub brings: Option<Offer>,
    fingerprint: Option<Fingerprint>,
    standing: Standing,
}

impl Backend {
    /// The same as the rules of rotation want it.
    #[must_use]
    pub fn seen(&self) -> rotation::Backend<'_> {
        rotation::Backend {
            brings: self.brings.as_ref(),
            fingerprint: self.fingerprint.as_ref(),
            standing: self.standing,
        }
    }
}

/// What this process remembers of its backend.
#[derive(Default)]
pub(super) struct Following(Mutex<State>);

#[derive(Default)]
struct State {
    /// What the backend brought last: a set of files that is wrong now stops nothing that goes on without it.
    brought: Option<Offer>,
    follower: Follower,
    standing: Standing,
    /// Whether others have something newer than what the backend brings.
    late: bool,
}

impl Following {
    /// The CA that counts now, when it is somebody else's, and what the backend is like.
    ///
    /// A set of files that is wrong now, or does not go with what is in use, changes nothing: what was brought last goes
    /// on, also when it comes to who has the newest; or, since the start of the process, what the journal holds. What is
    /// wrong is told by readiness.
    ///
    /// # Errors
    /// [`SignError`]: there is nothing to go on with.
    pub(super) fn look(
        &self,
        brought: Result<Option<Offer>, SignError>,
        authorities: &Authorities,
        now: OffsetDateTime,
    ) -> Result<(Option<Offer>, Backend), SignError> {
        let brought = brought.and_then(|offer| match offer.as_ref().and_then(|offer| clash(offer, authorities)) {
            Some(text) => Err(SignError::Unusable(text)),
            None => Ok(offer),
        });
        let mut state = self.state();
        match brought {
            Ok(offer) => state.brought = offer,
            Err(error) if state.brought.is_some() => tracing::debug!(%error, "the CA files are not used"),
            Err(error) => {
                // Nothing that could be noted: this one only goes on with what others have noted. While a root signs that
                // these files did not bring, that is to leave all steps to others.
                let held = held(authorities);
                if authorities.active().is_none() {
                    return Err(error);
                }
                state.late = false;
                state.standing = if held.is_some() { Standing::Newest } else { Standing::Superseded };
                let backend = Backend { brings: held.clone(), fingerprint: None, standing: state.standing };
                return Ok((held.map(|held| without_ending_lists(held, authorities, now)), backend));
            }
        }
        let brings = state.brought.clone().map(|offer| without_ending_lists(offer, authorities, now));
        let fingerprint = state.brought.as_ref().map_or_else(Fingerprint::own, |offer| offer.fingerprint.clone());
        let standing = state.follower.standing(authorities, &fingerprint);
        if standing == Standing::Superseded && state.standing != standing {
            tracing::warn!("{SUPERSEDED}");
        }
        state.late = standing == Standing::Superseded;
        state.standing = standing;
        let mut offer = if standing == Standing::Superseded { held(authorities) } else { brings.clone() };
        if let Some(offer) = offer.as_mut().filter(|_| standing == Standing::Newest && fingerprint.has_unusable_lists())
        {
            // Those of the very same CA.
            offer.revocation_lists = held(authorities).map(|held| held.revocation_lists).unwrap_or_default();
        }
        let offer = offer.map(|offer| without_ending_lists(offer, authorities, now));
        Ok((offer, Backend { brings, fingerprint: Some(fingerprint), standing }))
    }

    /// Tells that the journal is about to be changed to follow this.
    pub(super) fn notes(&self, backend: &Backend) {
        if let Some(fingerprint) = &backend.fingerprint {
            self.state().follower.notes(fingerprint);
        }
    }

    /// Whether others had something newer at the last look.
    pub(super) fn is_late(&self) -> bool {
        self.state().late
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an operator should know and do about a replica that others have left behind.
pub(super) const SUPERSEDED: &str = "others follow newer CA files, or another authority.backend, than this replica has: \
it issues with those and leaves all steps to them; wait for its files, or correct its configuration and restart it; \
if what this one has is to be followed, send it `authority rotate`";

/// What the journal holds of a backend that brings its own CA.
fn held(authorities: &Authorities) -> Option<Offer> {
    let active = authorities.active().filter(|root| root.pinned)?;
    let roots: Vec<RootAuthority> = authorities.roots.iter().filter(|root| root.pinned).cloned().collect();
    let issuing = active.issuing.last()?.clone();
    let between = issuing.intermediates.iter().filter_map(|der| Facts::read(der).ok());
    let mut chain: Vec<AuthorityId> = between.map(|facts| AuthorityId::from_spki(&facts.spki_der)).collect();
    chain.push(issuing.id.clone());
    chain.extend(roots.iter().filter(|root| root.key.is_none()).map(|root| root.id.clone()));
    let of_chain = |list: &&RevocationList| chain.contains(&list.issuer);
    let revocation_lists = authorities.revocations.lists.iter().filter(of_chain).cloned().collect();
    // That of what is followed; but nobody asks for it.
    let fingerprint = authorities.followed.last().cloned().unwrap_or_else(Fingerprint::own);
    Some(Offer { roots, signer: active.id.clone(), issuing, revocation_lists, fingerprint })
}

/// Nobody renews these here, and a list that has ended makes proxies refuse everything: they are taken out of use some
/// time before. Put in use they are only if that is not just before then, since clocks of replicas differ.
fn without_ending_lists(mut offer: Offer, authorities: &Authorities, now: OffsetDateTime) -> Offer {
    let margin = if authorities.revocations.lists.is_empty() { 2 * LIST_MARGIN } else { LIST_MARGIN };
    let soon = moment::after(now, margin).unix_timestamp();
    if offer.revocation_lists.iter().any(|list| list.next_update <= soon) {
        offer.revocation_lists.clear();
    }
    offer
}

/// Why an offer does not go with what is in use: a root with the key of a known one but another name breaks every
/// chain to it, so it is none that was renewed.
fn clash(offer: &Offer, authorities: &Authorities) -> Option<String> {
    let name = |root: &RootAuthority| {
        let facts = Facts::read(&root.certificate).ok()?;
        Some((facts.subject_der, facts.subject_key_id))
    };
    let clashes = |root: &&RootAuthority| {
        let known = authorities.root(&root.id);
        known.is_some_and(|known| known.certificate != root.certificate && name(known) != name(root))
    };
    let root = offer.roots.iter().find(clashes)?;
    let text =
        "in the CA files has the key of a root in use, but another name or key identifier; make it with a new key";
    Some(format!("root {} {text}", root.id))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair};
    use signet_core::rotation::{Activation, AuthorityState, IssuingCa};
    use signet_core::seams::custody::KeyId;

    const START: OffsetDateTime = time::macros::datetime!(2026-03-01 12:00 UTC);

    fn root(name: &str, key: &KeyPair, days: i64) -> RootAuthority {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_after = START + time::Duration::days(days);
        let certificate = params.self_signed(key).unwrap().der().clone();
        let issuing = IssuingCa {
            id: AuthorityId::from_spki(b"signer"),
            key: KeyId::parse("signer").unwrap(),
            certificate: certificate.clone(),
            not_before: START,
            not_after: START,
            intermediates: Vec::new(),
            after_sequence: 0,
        };
        RootAuthority {
            id: AuthorityId::from_spki(&Facts::read(&certificate).unwrap().spki_der),
            generation: 1,
            state: AuthorityState::Active,
            key: None,
            certificate,
            not_before: START,
            not_after: START,
            issuing: vec![issuing],
            published: 1,
            since: START,
            activation: Activation::WhenCovered,
            tainted_at: None,
            leaving_since: None,
            pinned: true,
        }
    }

    fn journal(root: RootAuthority) -> Authorities {
        Authorities { bundle_sequence: 1, roots: vec![root], ..Authorities::default() }
    }

    #[test]
    fn a_root_may_be_renewed_with_its_key_but_not_renamed() {
        let key = KeyPair::generate().unwrap();
        let known = journal(root("a", &key, 10));
        for (offered, clashes) in [
            (root("a", &key, 10), false),
            (root("a", &key, 20), false),
            (root("b", &key, 10), true),
            (root("b", &KeyPair::generate().unwrap(), 10), false),
        ] {
            let offer = held(&journal(offered)).unwrap();
            assert_eq!(clash(&offer, &known).is_some(), clashes);
        }
    }

    #[test]
    fn without_files_the_journal_says_what_they_were_and_nothing_is_made_up() {
        let known = journal(root("a", &KeyPair::generate().unwrap(), 10));
        let offer = held(&known).unwrap();
        assert_eq!((&offer.signer, &offer.issuing), (&known.roots[0].id, &known.roots[0].issuing[0]));
        assert_eq!(held(&Authorities::default()), None);
        let ours = journal(RootAuthority { pinned: false, ..root("a", &KeyPair::generate().unwrap(), 10) });
        assert_eq!(held(&ours), None, "a root of our own is nothing that files brought");
    }

    fn list(issuer: &AuthorityId, end: OffsetDateTime) -> RevocationList {
        RevocationList { issuer: issuer.clone(), der: vec![1].into(), next_update: end.unix_timestamp() }
    }

    /// The journal that follows nothing but a CA of this name, and what its files bring.
    fn followed(name: &str) -> (Authorities, Offer) {
        let mut known = journal(root(name, &KeyPair::generate().unwrap(), 10));
        known.followed = vec![Fingerprint::of_set(&known.roots[0].certificate, [], [])];
        let offer = held(&known).unwrap();
        (known, offer)
    }

    #[test]
    fn what_the_journal_holds_has_the_lists_of_its_own_chain_and_no_others() {
        let mut root = root("a", &KeyPair::generate().unwrap(), 10);
        let middle = self::root("middle", &KeyPair::generate().unwrap(), 10);
        root.issuing[0].intermediates = vec![middle.certificate.clone()];
        let chain = [root.issuing[0].id.clone(), middle.id, root.id.clone()];
        let mut known = journal(root);
        let stranger = AuthorityId::from_spki(b"left long ago");
        known.revocations.lists = chain.iter().chain([&stranger]).map(|id| list(id, START)).collect();
        let lists = held(&known).unwrap().revocation_lists;
        assert_eq!(lists.iter().map(|list| list.issuer.clone()).collect::<Vec<_>>(), chain);
    }

    #[test]
    fn lists_go_before_they_end_and_come_only_if_that_is_not_soon() {
        let (mut known, mut offer) = followed("a");
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
    fn a_replica_that_was_left_behind_goes_on_with_the_journal_also_while_its_files_are_wrong() {
        let ((mut known, theirs), (_, mine)) = (followed("theirs"), followed("mine"));
        known.followed.insert(0, mine.fingerprint.clone());
        let following = Following::default();
        for brought in [Ok(Some(mine.clone())), Err(SignError::Failed("incomplete".to_owned()))] {
            let (offer, backend) = following.look(brought, &known, START).unwrap();
            assert_eq!(offer.as_ref(), Some(&theirs));
            let seen = backend.seen();
            assert_eq!((seen.brings, seen.fingerprint), (Some(&mine), Some(&mine.fingerprint)));
            assert_eq!((seen.standing, following.is_late()), (Standing::Superseded, true));
        }
    }

    #[test]
    fn files_that_are_of_no_use_at_the_start_note_nothing_and_the_journal_goes_on() {
        let key = KeyPair::generate().unwrap();
        let known = journal(root("a", &key, 10));
        let renamed = held(&journal(root("b", &key, 10))).unwrap();
        for brought in [Ok(Some(renamed)), Err(SignError::Failed("incomplete".to_owned()))] {
            let (offer, backend) = Following::default().look(brought, &known, START).unwrap();
            assert_eq!((offer, backend.seen().fingerprint), (held(&known), None));
        }
    }
}
