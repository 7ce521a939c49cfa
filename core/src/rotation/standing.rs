//! Whether what an issuing CA has signed still proves anything: asked of certificates that would have others issued to them.

use super::revocation_lists::is_revoked;
use super::state::{Authorities, AuthorityState};

/// Where an issuing CA stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nothing is known against it, nor against the root above it, whether they still sign or not.
    Sound,
    /// It, or the root above it, is compromised or revoked: whoever has its key makes any certificate.
    Compromised,
    /// Neither is in the journal any more, or it is in a state that only a newer program knows.
    Gone,
}

impl Authorities {
    /// Where the issuing CA of this id stands.
    #[must_use]
    pub fn standing(&self, issuing: &str) -> Standing {
        let below = self.roots.iter().flat_map(|root| root.issuing.iter().map(move |one| (root, one)));
        let Some((root, issuing)) = below.into_iter().find(|(_, one)| one.id.as_str() == issuing) else {
            return Standing::Gone;
        };
        let root_is_compromised = root.tainted_at.is_some() || root.state == AuthorityState::Tainted;
        if root_is_compromised || is_revoked(self, issuing) || self.issuing_tainted_at(issuing).is_some() {
            return Standing::Compromised;
        }
        if root.state == AuthorityState::Unknown { Standing::Gone } else { Standing::Sound }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
    use super::super::test_authorities::{START, draining, first, id};
    use super::super::{Authorities, AuthorityState};
    use super::Standing;
    use crate::certificate::Facts;
    use crate::revocation::{RevocationReason, Revoked};
    use crate::unknown_fields::Unknown;

    type Change = fn(&mut Authorities);

    #[test]
    fn an_issuing_ca_is_sound_until_something_is_known_against_it_or_its_root() {
        let cases: [(&str, Change, Standing); 7] = [
            ("as it was made", |_| {}, Standing::Sound),
            ("it has been replaced", |all| *all = draining(), Standing::Sound),
            (
                "its root is compromised and still signs",
                |all| all.roots[0].tainted_at = Some(START),
                Standing::Compromised,
            ),
            ("its root is compromised", |all| all.roots[0].state = AuthorityState::Tainted, Standing::Compromised),
            ("it is itself compromised", |all| all.taint_issuing(&id("r1-issuing"), START), Standing::Compromised),
            ("its root is in a newer state", |all| all.roots[0].state = AuthorityState::Unknown, Standing::Gone),
            ("its root is gone", |all| all.roots.clear(), Standing::Gone),
        ];
        for (what, change, expected) in cases {
            let mut authorities = first();
            change(&mut authorities);
            assert_eq!(authorities.standing(id("r1-issuing").as_str()), expected, "{what}");
        }
        // Its own certificate is on the list of its root.
        let mut authorities = first();
        let (key, params) = (rcgen::KeyPair::generate().unwrap(), rcgen::CertificateParams::default());
        let certificate = params.self_signed(&key).unwrap().der().clone();
        let serial = Facts::read(&certificate).unwrap().serial_text();
        authorities.roots[0].issuing[0].ca.certificate = certificate;
        authorities.revocations.entries = vec![Revoked {
            serial,
            issuer: id("r1"),
            reason: RevocationReason::CaCompromise,
            at: 0,
            not_after: i64::MAX,
            unknown: Unknown::default(),
        }];
        assert_eq!(authorities.standing(id("r1-issuing").as_str()), Standing::Compromised);
        // Nothing but issuing CAs is one.
        assert_eq!(first().standing(id("nobody").as_str()), Standing::Gone);
        assert_eq!(first().standing(id("r1").as_str()), Standing::Gone);
    }
}
