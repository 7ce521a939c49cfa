//! Which authorities the operators mean: by the beginning of an id or of the key identifier that is in certificates, or by
//! who holds certificates of them.

use signet_core::authority::{AuthorityId, subject_key_id};
use signet_core::holder::Coverage;
use signet_core::rotation::Authorities;
use tonic::Status;

/// The one authority, root or issuing CA, whose id, or whose key identifier, begins like this.
///
/// # Errors
/// `INVALID_ARGUMENT` when there are several, or no id was given; `NOT_FOUND` when there is none.
pub(super) fn find(authorities: &Authorities, beginning: &str) -> Result<AuthorityId, Status> {
    let unknown = |id: &str| Status::not_found(format!("there is no authority {id}; `authority list` shows them"));
    only(known(authorities), beginning)?.ok_or_else(|| unknown(beginning))
}

/// The issuing CAs that certificates below the authority of this id name: those of a root, or itself. An issuing CA that
/// is gone is known as long as somebody holds a certificate of it; a root that is gone has left nothing to know it by.
///
/// # Errors
/// As [`find`].
pub(super) fn issuers(
    authorities: &Authorities,
    coverage: &Coverage,
    beginning: &str,
) -> Result<Vec<AuthorityId>, Status> {
    let unknown = |id: &str| {
        Status::not_found(format!(
            "there is no authority {id}, and nobody holds a certificate of such an issuing CA; if that root was taken \
             out of the bundle, `holders list --cut-off` shows who still has a certificate that chains to no root in it"
        ))
    };
    let id = only(known(authorities).chain(coverage.by_authority.keys().map(|id| (id, String::new()))), beginning)?;
    let id = id.ok_or_else(|| unknown(beginning))?;
    Ok(match authorities.root(&id) {
        // A root may sign leaves itself.
        Some(root) => root.issuing.iter().map(|issuing| issuing.id.clone()).chain([id]).collect(),
        None => vec![id],
    })
}

/// All authorities, with the key identifiers that certificates below them name.
fn known(authorities: &Authorities) -> impl Iterator<Item = (&AuthorityId, String)> {
    let issuing = authorities.roots.iter().flat_map(|root| &root.issuing);
    let issuing = issuing.map(|issuing| (&issuing.id, subject_key_id(&issuing.certificate)));
    authorities.roots.iter().map(|root| (&root.id, subject_key_id(&root.certificate))).chain(issuing)
}

/// As many digits of an id as tables show.
const SHORTEST: usize = 8;

fn only<'a>(
    ids: impl Iterator<Item = (&'a AuthorityId, String)>,
    beginning: &str,
) -> Result<Option<AuthorityId>, Status> {
    let beginning = beginning.to_ascii_lowercase();
    if beginning.is_empty() {
        return Err(Status::invalid_argument("which authority? give its id; `authority list` shows them"));
    }
    // A slip of the finger must not name an authority: what is done to one may be for good.
    if beginning.len() < SHORTEST {
        let text = format!(
            "{beginning} is too short to name an authority; give at least the first {SHORTEST} digits of its id"
        );
        return Err(Status::invalid_argument(text));
    }
    let begins =
        |(id, key_id): &(&AuthorityId, String)| id.as_str().starts_with(&beginning) || key_id.starts_with(&beginning);
    let mut found: Vec<&AuthorityId> = ids.filter(begins).map(|(id, _)| id).collect();
    // An issuing CA that was certified again under another root keeps its id.
    found.sort();
    found.dedup();
    match found.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some((*one).clone())),
        several => {
            let ids: Vec<&str> = several.iter().map(|id| id.as_str()).collect();
            let text = format!("{beginning} is the beginning of several authorities: {}", ids.join(", "));
            Err(Status::invalid_argument(text))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
    use super::*;
    use crate::client_identity::test_mesh::{TestRoot, authorities};
    use signet_core::certificate::Facts;
    use signet_core::revocation::{RevocationReason, Revoked};
    use signet_core::unknown_fields::Unknown;
    use tonic::Code;

    #[test]
    fn a_beginning_that_several_authorities_share_is_refused_with_their_ids() {
        let roots = [TestRoot::new("a"), TestRoot::new("b")];
        let all = authorities(1, &[&roots[0], &roots[1]], &[]);
        for id in roots.iter().flat_map(|root| [root.id(), root.issuing_id()]) {
            assert_eq!(find(&all, id.as_str()).unwrap(), id);
        }
        // Certificates name them by their key identifiers.
        for (certificate, id) in [(&roots[0].certificate, roots[0].id()), (&roots[1].issuing, roots[1].issuing_id())] {
            let key_id = subject_key_id(certificate);
            assert!(key_id.len() == 40 && key_id != id.as_str());
            assert_eq!(find(&all, &key_id[..16]).unwrap(), id);
        }
        let short = find(&all, &roots[0].id().as_str()[..7]).unwrap_err();
        assert!(short.code() == Code::InvalidArgument && short.message().contains("first 8 digits"), "{short}");
        assert_eq!(find(&all, &roots[0].id().as_str()[..8]).unwrap(), roots[0].id());
        let id = |text: &str| serde_json::from_value::<AuthorityId>(text.into()).unwrap();
        let alike = [id(&"ab".repeat(8)), id(&format!("{}cd", "ab".repeat(7)))];
        let ambiguous = only(alike.iter().map(|id| (id, String::new())), "ABABABAB").unwrap_err();
        assert!(ambiguous.code() == Code::InvalidArgument && ambiguous.message().contains(", "), "{ambiguous}");
        // The same one twice is one.
        let twice = authorities(1, &[&roots[0], &roots[0]], &[]);
        assert_eq!(find(&twice, roots[0].issuing_id().as_str()).unwrap(), roots[0].issuing_id());
        let none = find(&Authorities::default(), "").unwrap_err();
        assert!(none.code() == Code::InvalidArgument && none.message().contains("which authority?"), "{none}");
    }

    #[test]
    fn holders_are_found_by_issuing_cas_that_are_gone_and_by_having_been_cut_off() {
        let (gone, old, new) = (TestRoot::new("gone"), TestRoot::new("old"), TestRoot::new("new"));
        let facts = Facts::read(&old.issuing).unwrap();
        let entry = Revoked {
            serial: facts.serial_text(),
            issuer: old.id(),
            reason: RevocationReason::CaCompromise,
            at: 0,
            not_after: i64::MAX,
            unknown: Unknown::default(),
        };
        let mut coverage = Coverage::default();
        for issuer in [&gone, &old, &new] {
            coverage.by_authority.insert(issuer.issuing_id(), 1);
        }
        let all = authorities(3, &[&old, &new], &[]);
        assert_eq!(issuers(&all, &coverage, new.id().as_str()).unwrap(), [new.issuing_id(), new.id()]);
        assert_eq!(issuers(&all, &coverage, gone.issuing_id().as_str()).unwrap(), [gone.issuing_id()]);
        assert_eq!(find(&all, gone.issuing_id().as_str()).unwrap_err().code(), Code::NotFound, "nothing to change");
        let unknown = issuers(&all, &coverage, gone.id().as_str()).unwrap_err();
        assert!(unknown.code() == Code::NotFound && unknown.message().contains("--cut-off"), "{unknown}");
        assert_eq!(all.cut_off(&coverage), [gone.issuing_id()]);
        let mut both = vec![gone.issuing_id(), old.issuing_id()];
        both.sort();
        assert_eq!(authorities(3, &[&old, &new], &[entry]).cut_off(&coverage), both);
        // A root that signs leaves itself is accepted as long as it is there.
        coverage.by_authority.insert(new.id(), 1);
        assert_eq!(all.cut_off(&coverage), [gone.issuing_id()]);
    }
}
