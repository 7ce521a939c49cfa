//! One step from look to record: load what is, decide, make what is needed, and change the journal by compare-and-set.
//! The rotator and the operators' commands both go this way, on any replica.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use signet_core::audit::{Attributed, AuditEvent, EventKind, Outcome};
use signet_core::certificate::Facts;
use signet_core::clock::SharedClock;
use signet_core::holder::Coverage;
use signet_core::rotation::{
    Authorities, AuthorityId, Observed, RevocationList, Revoked, RootAuthority, Rules, Step, apply, needs,
};
use signet_core::seams::authority::{Offer, SignError};
use signet_core::seams::store::{AuthorityJournal, HolderStore, JournalVersion};
use time::OffsetDateTime;

use super::make::Maker;
use super::steady::SteadyClock;
use super::{StepError, words};
use crate::audit_log::AuditLog;

/// Everything that steps are made with.
pub struct Steps {
    /// When roots change.
    pub rules: Rules,
    /// Makes keys, certificates and lists.
    pub maker: Maker,
    /// What exists.
    pub journal: Arc<dyn AuthorityJournal>,
    /// Who holds certificates and knows which bundle.
    pub holders: Arc<dyn HolderStore>,
    /// The record.
    pub audit: AuditLog,
    /// The time.
    pub clock: SharedClock,
    steady: Mutex<SteadyClock>,
    /// Time that is not set by anybody, since any fixed moment.
    monotonic: Box<dyn Fn() -> Duration + Send + Sync>,
    /// What the backend brought last: a set of files that is wrong now stops nothing that goes on without it.
    offered: Mutex<Option<Offer>>,
}

/// After how long without a record a start is doubtful.
const AWAY: Duration = Duration::from_secs(3600);

/// How long before its end a list that nobody renews is given up, in seconds: other hosts' clocks may be ahead.
const LIST_MARGIN: i64 = 300;

/// What the journal holds of a backend that brings its own CA, when that has nothing better.
fn held(authorities: &Authorities) -> Option<Offer> {
    let active = authorities.active().filter(|root| root.pinned)?;
    let roots = authorities.roots.iter().filter(|root| root.pinned).cloned().collect();
    let external = |list: &&RevocationList| authorities.root(&list.issuer).is_some_and(|root| root.key.is_none());
    let revocation_lists = authorities.revocations.lists.iter().filter(external).cloned().collect();
    Some(Offer { roots, signer: active.id.clone(), issuing: active.issuing.last()?.clone(), revocation_lists })
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

/// What was seen at one moment.
#[derive(Debug, Clone)]
pub struct Look {
    /// When.
    pub now: OffsetDateTime,
    /// The version of the journal.
    pub version: JournalVersion,
    /// The journal.
    pub authorities: Authorities,
    /// Who knows which bundle.
    pub coverage: Coverage,
    /// When the last certificate of each issuing CA ends.
    pub last_ends: BTreeMap<AuthorityId, OffsetDateTime>,
    /// The CA that the backend brings, if it does.
    pub offer: Option<Offer>,
    /// Whether the clock can be relied on.
    pub clock_is_steady: bool,
}

impl Look {
    /// The same as the rules of rotation want it.
    #[must_use]
    pub fn seen(&self) -> Observed<'_> {
        Observed {
            coverage: &self.coverage,
            last_ends: &self.last_ends,
            offer: self.offer.as_ref(),
            clock_is_steady: self.clock_is_steady,
        }
    }
}

/// A change of the revocation entries that goes with a step.
#[derive(Debug, Clone)]
pub enum Entry {
    /// None.
    Unchanged,
    /// This certificate is revoked.
    Add(Revoked),
    /// The certificate with this serial is not revoked any more.
    Clear(String),
}

impl Steps {
    /// Steps on these parts.
    #[must_use]
    pub fn new(
        rules: Rules,
        maker: Maker,
        journal: Arc<dyn AuthorityJournal>,
        holders: Arc<dyn HolderStore>,
        audit: AuditLog,
        clock: SharedClock,
    ) -> Self {
        let (steady, offered, started) = (Mutex::default(), Mutex::default(), Instant::now());
        let monotonic = Box::new(move || started.elapsed());
        Self { rules, maker, journal, holders, audit, clock, steady, monotonic, offered }
    }

    /// The same with another source of time that nobody sets, for tests that move the wall clock on purpose.
    #[cfg(test)]
    pub(crate) fn with_monotonic(self, monotonic: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Self { monotonic: Box::new(monotonic), ..self }
    }

    /// Tells when the newest record was made, at the start of the process: a clock that is before it, or far after it,
    /// may be wrong, or the CA was away for long; either way nothing is activated or removed at once.
    pub fn starts_after(&self, newest: Option<OffsetDateTime>) {
        let now = self.clock.now();
        let doubtful = newest.is_some_and(|at| now + AWAY / 60 < at || at + AWAY < now);
        if doubtful {
            tracing::info!(
                "this start is long after the newest record, or before it; no root is activated or removed for some minutes"
            );
            self.steady().doubt((self.monotonic)());
        }
    }

    /// Notes how the clocks run; `false` when the wall clock has jumped since the last time.
    pub fn watch_clock(&self) -> bool {
        self.is_steady(self.clock.now()).0
    }

    /// Whether the wall clock, which says `now`, has not jumped just now, and whether it can be relied on.
    fn is_steady(&self, now: OffsetDateTime) -> (bool, bool) {
        let mut steady = self.steady();
        let jumped = steady.look(now, (self.monotonic)());
        if let Some(seconds) = jumped {
            tracing::warn!(seconds, "the wall clock has jumped; no root is activated or removed for some minutes");
        }
        (jumped.is_none(), steady.is_steady((self.monotonic)()))
    }

    fn steady(&self) -> std::sync::MutexGuard<'_, SteadyClock> {
        self.steady.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Loads everything that decisions depend on.
    ///
    /// # Errors
    /// [`StepError`].
    pub async fn look(&self) -> Result<Look, StepError> {
        let (version, authorities) = self.journal.load().await?.unwrap_or_default();
        let offer = self.offer(&authorities).await?;
        let now = self.clock.now();
        let (_, clock_is_steady) = self.is_steady(now);
        // After the journal: a holder that the records do not show yet has got its certificate with a bundle that is
        // at least as new as the one seen here, or from a replica that lags less than the rules allow for.
        let coverage = self.holders.coverage(now).await?;
        let last_ends = self.holders.last_ends().await?;
        Ok(Look { now, version, authorities, coverage, last_ends, offer, clock_is_steady })
    }

    /// What the backend brings. A set of files that is wrong now, or does not go with what is in use, changes nothing:
    /// what it brought last goes on, or what the journal holds of it. What is wrong is told by readiness.
    async fn offer(&self, authorities: &Authorities) -> Result<Option<Offer>, StepError> {
        let brought = self.maker.upstream.offer().await;
        let brought = brought.and_then(|offer| match offer.as_ref().and_then(|offer| clash(offer, authorities)) {
            Some(text) => Err(SignError::Failed(text)),
            None => Ok(offer),
        });
        let soon = self.clock.now().unix_timestamp() + LIST_MARGIN;
        let mut last = self.offered.lock().unwrap_or_else(PoisonError::into_inner);
        let mut offer = match (brought, &*last) {
            (Ok(offer), _) => {
                last.clone_from(&offer);
                return Ok(offer);
            }
            (Err(error), Some(last)) => {
                tracing::debug!(%error, "the CA files are not used");
                last.clone()
            }
            (Err(error), None) => held(authorities).ok_or(error)?,
        };
        // Nobody renews these, and a list that has ended makes proxies refuse everything.
        if offer.revocation_lists.iter().any(|list| list.next_update <= soon) {
            offer.revocation_lists.clear();
        }
        Ok(Some(offer))
    }

    /// Takes a step for `who`. The new document, or `None` when somebody else has changed the journal meanwhile.
    ///
    /// It is on record before it happens, so that no step is ever missing from the log; and again when it has happened,
    /// because another replica may have been faster: then its journal is what counts.
    ///
    /// # Errors
    /// [`StepError`]; whatever was made is not used, and the same step can be taken again.
    pub async fn take(
        &self,
        look: &Look,
        step: &Step,
        entry: Entry,
        who: &Attributed,
    ) -> Result<Option<Authorities>, StepError> {
        let offer = look.offer.as_ref();
        let needs = needs(step, &look.authorities, &look.seen(), look.now);
        let made = self.maker.make(&needs, &look.authorities, look.now).await?;
        let said = words::of_step(step, &look.authorities, &made, offer);
        let mut next = apply(step, &look.authorities, made, &look.seen(), look.now);
        let said = match entry {
            Entry::Unchanged => said,
            Entry::Add(revoked) => {
                let said = format!("certificate {} revoked: {}", revoked.serial, revoked.reason.as_str());
                next.revoke(revoked);
                said
            }
            Entry::Clear(serial) => {
                next.clear_revocation(&serial);
                format!("certificate {serial} is not revoked any more")
            }
        };
        let refresh = matches!(step, Step::RefreshLists(_));
        self.maker.bring_lists_up_to_date(&mut next, &look.authorities, offer, &self.rules, refresh, look.now).await?;
        if next == look.authorities {
            return Ok(Some(next));
        }
        self.record(Outcome::Intended, &said, look.now, who).await?;
        if self.journal.replace(look.version, &next).await?.is_none() {
            return Ok(None);
        }
        tracing::info!(step = said.as_str(), bundle.sequence = next.bundle_sequence, "authorities changed");
        self.record(Outcome::Done, &said, look.now, who).await?;
        Ok(Some(next))
    }

    async fn record(
        &self,
        outcome: Outcome,
        step: &str,
        now: OffsetDateTime,
        who: &Attributed,
    ) -> Result<(), StepError> {
        let event = AuditEvent {
            at_micros: AuditEvent::micros(now),
            request_id: String::new(),
            kind: EventKind::Authority,
            outcome,
            reason: None,
            detail: Some(step.to_owned()),
            who: who.clone(),
            what: None,
        };
        self.audit.record(event).await?;
        Ok(())
    }
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
}
