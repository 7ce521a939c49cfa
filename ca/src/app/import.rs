//! Takes over the CA of an istiod: reads its files where they are, looks at them as `backend: files` does, and puts them
//! where that reads them.

mod place;
mod source;

use std::path::PathBuf;

use signet_core::certificate::{Facts, subject};
use signet_core::clock::{Clock, SystemClock};
use signet_core::identity::TrustDomain;
use signet_plugins::authority::{Examined, Unfit};
use x509_parser::prelude::{FromDer, X509Certificate};

pub use source::Source;

use crate::config::Config;
use crate::rotator::oddities;

/// A CA that ends sooner than in so many days is worth a word.
const SOON: i64 = 30;

/// What is to be taken over.
#[derive(Debug)]
pub struct Import {
    /// Where the files are.
    pub source: Source,
    /// The directory where they go.
    pub directory: PathBuf,
    /// The trust domain of the CA that is to go on with them, if it is known.
    pub trust_domain: Option<TrustDomain>,
    /// Whether nothing is to be written.
    pub dry_run: bool,
}

/// A CA that was taken over, or could be.
#[derive(Debug)]
pub struct Imported {
    /// Where it was found, for people.
    pub from: String,
    /// What it is.
    pub found: Examined,
    /// Files that istiod leaves empty of a CA that it has made itself, and what stands in them now.
    pub completed: Vec<&'static str>,
    /// Files that were written, or would be.
    pub written: Vec<&'static str>,
    /// Files that were there already with the same content.
    pub kept: Vec<&'static str>,
    /// What people should know of it.
    pub notes: Vec<String>,
}

/// Takes over the CA. Several times is as once.
///
/// # Errors
/// [`Unfit`]: everything that keeps it from being taken over. Nothing was written then, unless writing itself has failed.
pub async fn import(import: &Import, config: Option<&Config>) -> Result<Imported, Unfit> {
    let (from, mut files) = source::read(&import.source, config).await.map_err(Unfit)?;
    let completed = files.complete();
    // Before it is known whether they are any good: whoever has to choose another directory is told at once.
    let (plan, mut problems) = match place::plan(&files, &import.directory).await {
        Ok(plan) => (Some(plan), Vec::new()),
        Err(problems) => (None, problems),
    };
    let (found, plan) = match (files.examine(&from, SystemClock.now()), plan) {
        (Ok(found), Some(plan)) => (found, plan),
        (examined, _) => {
            problems.splice(0..0, examined.err().map(|unfit| unfit.0).unwrap_or_default());
            return Err(Unfit(problems));
        }
    };
    let (written, kept, open) = (plan.new_files(), plan.kept.clone(), plan.open_key.clone());
    if !import.dry_run {
        place::write(plan).await.map_err(|problem| Unfit(vec![problem]))?;
    }
    let mut notes = notes(&found, import.trust_domain.as_ref());
    notes.extend(open.map(|key| format!("{} may be read by others than its owner; run: chmod 600 {0}", key.display())));
    Ok(Imported { from, found, completed, written, kept, notes })
}

/// What people should know of a CA before they use it.
fn notes(found: &Examined, trust_domain: Option<&TrustDomain>) -> Vec<String> {
    let (issuing, mut notes) = (&found.issuing, Vec::new());
    let name = subject(&issuing.certificate);
    if found.self_signed {
        notes.push(format!(
            "`{name}` is a root, and signs certificates of workloads itself, as istiod's own CA does: whoever has its key can \
             make others that the whole mesh believes. `authority.backend: native`, later on, replaces it by a rotation"
        ));
    }
    if !found.may_sign_lists {
        notes.push(format!(
            "`{name}` has no key usage cRLSign, so it may sign no revocation lists: as long as it is in the trust bundle, no \
             certificate can be revoked"
        ));
    }
    let left = issuing.not_after.unix_timestamp().saturating_sub(SystemClock.now().unix_timestamp()) / 86_400;
    if left < SOON {
        notes.push(format!("it ends in {left} days, and nothing that it signs lives longer: replace it soon"));
    }
    notes.extend(found.ended.iter().map(|root| format!("the root `{root}` has ended and is left out")));
    let path = || std::iter::once(&issuing.certificate).chain(&issuing.intermediates);
    notes.extend(
        path()
            .chain(found.offer.roots.iter().map(|root| &root.certificate))
            .flat_map(|der| oddities(der))
            .map(|oddity| format!("{oddity}; whether clients refuse what it signs is tried out before it is used")),
    );
    if let Some(trust_domain) = trust_domain {
        notes.extend(other_domain(&issuing.certificate, trust_domain));
    }
    notes
}

/// What speaks for another trust domain: the organisation that istiod writes into a CA that it makes, or a SPIFFE ID.
fn other_domain(der: &[u8], trust_domain: &TrustDomain) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let facts = Facts::read(der).ok()?;
    let of_uri = facts.uris.iter().find_map(|uri| uri.strip_prefix("spiffe://")?.split('/').next().map(str::to_owned));
    let own = facts.subject_der == facts.issuer_der && certificate.subject().iter_common_name().next().is_none();
    let of_name =
        certificate.subject().iter_organization().next().and_then(|name| name.as_str().ok().map(str::to_owned));
    let named = of_uri.or_else(|| of_name.filter(|_| own))?;
    (named != trust_domain.as_str()).then(|| {
        format!(
            "it is named after the trust domain `{}`, and this CA certifies {trust_domain}: compare `trust_domain` with \
             meshConfig.trustDomain, since every name in the mesh begins with it",
            named.escape_debug()
        )
    })
}
