//! Steps: what they are about to make, and what they do.

use signet_core::authority::AuthorityId;
use signet_core::clock::rfc3339;
use signet_core::revocation::named;
use signet_core::rotation::{Activation, Authorities, Made, Needs, Step};
use signet_core::source::Offer;

/// What is about to be made, outside of the journal; `None` when that is nothing.
pub(crate) fn needs(needs: &Needs, authorities: &Authorities) -> Option<String> {
    let generation = authorities.next_generation();
    match needs {
        Needs::Nothing => None,
        Needs::Root => Some(format!("a root of generation {generation} is about to be made")),
        Needs::RootAndIssuing => {
            Some(format!("a root of generation {generation}, and an issuing CA under it, are about to be made"))
        }
        Needs::IssuingUnder(root) => Some(format!("an issuing CA under root {} is about to be made", root.id)),
        Needs::Issuing(root) => Some(format!("an issuing CA under root {root} is about to be made")),
    }
}

/// What is to be revoked elsewhere that was not before a change.
pub(crate) fn asked_elsewhere(before: &Authorities, after: &Authorities) -> Option<String> {
    let is_new = |serial: &str, issuer: &AuthorityId| !before.revocations.is_elsewhere(serial, issuer);
    let awaited = after.revocations.awaited().filter(|one| is_new(&one.serial, &one.issuer));
    let new: Vec<_> = awaited.collect();
    (!new.is_empty()).then(|| format!("about to be revoked by whoever has certified them: {}", named(&new)))
}

/// What a step does.
pub(crate) fn step(step: &Step, authorities: &Authorities, made: &Made, offer: Option<&Offer>) -> String {
    let root = made.root.as_ref().map(|root| &root.id).or(offer.map(|offer| &offer.signer));
    let issuing = made.issuing.as_ref().or(offer.and_then(Offer::given)).map(|issuing| &issuing.id);
    let name = |id: Option<&AuthorityId>| id.map_or_else(|| "-".to_owned(), ToString::to_string);
    let generation = authorities.next_generation();
    match step {
        Step::CreateRoot => {
            format!("root {} of generation {generation} made, issuing CA {} under it", name(root), name(issuing))
        }
        Step::PrepareRoot(activation) => {
            let waits = match activation {
                Activation::OnCommand => "waits for an operator".to_owned(),
                Activation::WhenCovered | Activation::Unknown(_) => "signs once it is covered".to_owned(),
                Activation::NotBefore(at) => format!("signs once it is covered, from {} on", time(*at)),
            };
            format!("root {} of generation {generation} prepared and published; it {waits}", name(root))
        }
        Step::AdoptRoots => match offer {
            Some(offer) => {
                let what = if offer.given().is_some() { "the CA files are" } else { "the CAs of the backend are" };
                format!("{what} adopted: {} published", roots(offer.roots.len()))
            }
            None => "no CA files count any more: roots are made here".to_owned(),
        },
        Step::CertifyIssuing(root) => format!("issuing CA {} made under root {root}", name(issuing)),
        Step::UseIssuing(id) => format!("issuing CA {id} may sign: its revocation list has been published"),
        Step::Activate(id) => format!("root {id} activated: new certificates chain to it"),
        Step::Await(id, _) => format!("root {id} signs once it is covered"),
        Step::DropPrepared(id, _) => format!("prepared root {id} dropped; it has signed nothing"),
        Step::Reinstate(id) => format!("rolled back: root {id} signs again, automatic rotation is paused"),
        Step::Taint(id) => format!("root {id} declared compromised"),
        Step::TaintIssuing(id) => format!("certificates of issuing CA {id} are to be renewed"),
        Step::Leave(id) => format!("root {id} is left: no certificate chains to it any more, nor will the CA's own"),
        Step::Retire(id) => format!("root {id} retired: no certificate chains to it any more"),
        Step::Revoke(id) => format!("root {id} revoked: it is in no bundle any more"),
        Step::RevokeIssuing(id) => format!("issuing CA {id} revoked"),
        Step::NoteRevoked { serial, issuer } => {
            let root = authorities.root_of(issuer).map_or(issuer, |root| &root.id);
            format!("certificate {serial} is revoked by whoever has certified it, under root {root}")
        }
        Step::RefreshLists(_) => "revocation lists brought up to date".to_owned(),
        Step::Resume(shown) => format!("the storage came from a backup: bundles go on above sequence {shown}"),
        Step::WaitUntil(_) => "nothing".to_owned(),
    }
}

fn roots(count: usize) -> String {
    if count == 1 { "their root".to_owned() } else { format!("their {count} roots") }
}

fn time(seconds: i64) -> String {
    time::OffsetDateTime::from_unix_timestamp(seconds).map_or_else(|_| seconds.to_string(), rfc3339)
}
