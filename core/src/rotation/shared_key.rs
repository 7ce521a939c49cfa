//! Roots that share a key under several names: two authorities (RFC 5280 section 6.1.1 (d)), but whoever has stolen the
//! key of one has that of the other.

use time::OffsetDateTime;

use super::state::{Authorities, AuthorityState};
use crate::authority::{AuthorityId, Root};

impl Authorities {
    /// Notes that a root is compromised, and with it every other one that has its key.
    pub fn taint(&mut self, id: &AuthorityId, now: OffsetDateTime) {
        let Some(stolen) = self.root(id).map(|root| root.ca.clone()) else { return };
        for root in self.roots.iter_mut().filter(|root| root.tainted_at.is_none() && root.shares_key(&stolen)) {
            root.tainted_at = Some(now);
            if root.is_old() {
                root.enter(AuthorityState::Tainted, now);
            }
        }
    }

    /// Whether this root, which may be new, has the key of a compromised one.
    pub(super) fn is_stolen(&self, root: &Root) -> bool {
        self.roots.iter().any(|known| known.tainted_at.is_some() && known.shares_key(root))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;
    use crate::rotation::test_authorities::{DAY, START, Seen, offer_with, root_ca, rules, take};
    use crate::rotation::{Activation, Command, Phase, Refused, Step, judge, next_step};

    fn named(name: &str, key: &KeyPair) -> Root {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.self_signed(key).unwrap().der().clone();
        let id = Root::new(certificate.clone(), None).unwrap().id;
        Root { id, certificate, key: None, ..root_ca(name, START, 100 * DAY) }
    }

    /// What the files bring that hold these roots, the first of which signs.
    fn files(roots: &[&Root]) -> Seen {
        let offer = offer_with(roots.iter().map(|root| (*root).clone()).collect(), "signer", vec![]);
        Seen::nobody().offered(offer)
    }

    fn states(authorities: &Authorities) -> Vec<(AuthorityState, bool)> {
        authorities.roots.iter().map(|root| (root.state, root.tainted_at.is_some())).collect()
    }

    #[test]
    fn a_stolen_key_is_stolen_under_all_of_its_names() {
        let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let (one, two, sound) = (named("one", &key), named("two", &key), named("sound", &other));
        assert!(one.shares_key(&two) && !one.shares_key(&sound));
        let seen = files(&[&one, &two, &sound]);
        let authorities = take(&Step::CreateRoot, &Authorities::default(), &seen, START, "x");
        let taint = Command::Taint { id: two.id.clone(), force: false };
        let step = judge(START, &authorities, &seen.view(), &rules(), &taint).unwrap().unwrap();
        let tainted = take(&step, &authorities, &seen, START + DAY, "x");
        let expected = [(AuthorityState::Active, true), (AuthorityState::Tainted, true), (AuthorityState::OLD, false)];
        assert_eq!((states(&tainted), Phase::of(&tainted)), (expected.to_vec(), Phase::Emergency));
    }

    #[test]
    fn a_compromised_root_does_not_come_back_under_another_name() {
        let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let (one, two, sound) = (named("one", &key), named("two", &key), named("sound", &other));
        let seen = files(&[&one]);
        let authorities = take(&Step::CreateRoot, &Authorities::default(), &seen, START, "x");
        let mut tainted = take(&Step::Taint(one.id.clone()), &authorities, &seen, START, "x");
        for (signs, expected) in [
            (&two, (AuthorityState::Tainted, true)),
            (&sound, (AuthorityState::Prepared(Activation::WhenCovered), false)),
        ] {
            let renamed = files(&[signs, &one]);
            tainted = take(&Step::AdoptRoots, &tainted, &renamed, START + DAY, "x");
            assert_eq!(states(&tainted).last(), Some(&expected));
            let activate = Command::Activate { id: signs.id.clone(), force: true };
            let forced = judge(START + DAY, &tainted, &renamed.view(), &rules(), &activate);
            assert_eq!(matches!(forced, Err(Refused::State { .. })), expected.1, "{forced:?}");
            let step = next_step(START + DAY, &tainted, &renamed.view(), &rules());
            assert!(matches!(step, Step::WaitUntil(_)), "{step:?}");
        }
    }
}
