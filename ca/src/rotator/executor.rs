//! One step from observation to record: load what is, decide, make what is needed, and change the journal by compare-and-set.
//! The rotator and the operators' commands both go this way, on any replica.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use signet_core::audit::{Attributed, AuditEvent, EventKind, Outcome};
use signet_core::authority::{IssuingCa, KeyId};
use signet_core::clock::SharedClock;
use signet_core::revocation::Revoked;
use signet_core::rotation::{Authorities, Made, Needs, Rules, Step, apply, conditions, needs};
use signet_core::seams::certificate_authority::SignError;
use signet_core::seams::store::{AuthorityJournal, Change, Changed, HolderStore};
use signet_core::source::Offer;
use signet_core::time_math;
use time::OffsetDateTime;

use super::StepError;
use super::adopted_source;
use super::client_verification::Candidate;
use super::clock_jumps::ClockJumpDetector;
use super::observation::Observation;
use super::provisioner::Provisioner;
use crate::audit_log::AuditLog;
use crate::describe;
use crate::publishers::Publishers;

/// Everything that steps are made with.
pub struct Executor {
    /// When roots change.
    pub rules: Rules,
    /// Makes keys, certificates and lists.
    pub provisioner: Provisioner,
    /// What exists.
    pub journal: Arc<dyn AuthorityJournal>,
    /// Who holds certificates and knows which bundle.
    pub holders: Arc<dyn HolderStore>,
    /// The record.
    pub audit: AuditLog,
    /// The time.
    pub clock: SharedClock,
    /// Where this replica is to publish the bundle.
    pub publishers: Publishers,
    clock_jumps: Mutex<ClockJumpDetector>,
    /// Time that is not set by anybody, since any fixed moment.
    monotonic: Box<dyn Fn() -> Duration + Send + Sync>,
    /// Whether the last observation found that something was adopted after what this replica has; for readiness.
    superseded: AtomicBool,
    /// Why what the backend brings was not used then.
    trouble: Mutex<Option<String>>,
    /// Why what is to be revoked elsewhere was not when it was asked for last.
    pub(super) not_revoked: Mutex<Option<String>>,
    /// Why nobody who is configured can sign.
    pub(super) lacking: Mutex<Option<String>>,
}

/// After how long without a record a start is doubtful.
const AWAY: Duration = Duration::from_secs(3600);

/// On whose behalf a step is taken, and what goes with it. The default is nobody's: what the rules say by themselves.
#[derive(Debug, Clone, Default)]
pub struct Order {
    /// Who wants it.
    pub who: Attributed,
    /// Whether it is taken whatever holders have or need.
    pub forced: bool,
    /// A change of the revocation entries.
    pub entry: RevocationChange,
    /// What is put on record together with the step.
    pub events: Vec<AuditEvent>,
}

/// A change of the revocation entries that goes with a step.
#[derive(Debug, Clone, Default)]
pub enum RevocationChange {
    /// None.
    #[default]
    Unchanged,
    /// This certificate is revoked.
    Add(Revoked),
    /// This leaf is revoked, and the backend that has signed it is to revoke it.
    AddElsewhere(Revoked),
    /// The certificate with this serial is not revoked any more.
    Clear(String),
}

impl RevocationChange {
    /// Makes the change, and says so.
    fn enter(self, next: &mut Authorities) -> Option<String> {
        match self {
            Self::Unchanged => None,
            Self::Add(revoked) => {
                let said = format!("certificate {} revoked: {}", revoked.serial, revoked.reason.as_str());
                next.revocations.add(revoked);
                Some(said)
            }
            Self::AddElsewhere(revoked) => {
                next.revocations.ask_for_leaf(&revoked.serial, &revoked.issuer);
                Self::Add(revoked).enter(next)
            }
            Self::Clear(serial) => {
                next.revocations.clear(&serial);
                Some(format!("certificate {serial} is not revoked any more"))
            }
        }
    }
}

impl Executor {
    /// An executor on these parts.
    #[must_use]
    pub fn new(
        rules: Rules,
        provisioner: Provisioner,
        journal: Arc<dyn AuthorityJournal>,
        holders: Arc<dyn HolderStore>,
        audit: AuditLog,
        clock: SharedClock,
    ) -> Self {
        let (clock_jumps, superseded, started) = (Mutex::default(), AtomicBool::default(), Instant::now());
        let monotonic = Box::new(move || started.elapsed());
        let (trouble, not_revoked, lacking) = Default::default();
        let publishers = Publishers::default();
        Self {
            publishers,
            rules,
            provisioner,
            journal,
            holders,
            audit,
            clock,
            clock_jumps,
            monotonic,
            superseded,
            trouble,
            not_revoked,
            lacking,
        }
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
        let doubtful =
            newest.is_some_and(|at| time_math::after(now, AWAY / 60) < at || time_math::after(at, AWAY) < now);
        if doubtful {
            tracing::info!(
                "this start is long after the newest record, or before it; no root is activated or removed for some minutes"
            );
            self.clock_jumps().doubt((self.monotonic)());
        }
    }

    /// Puts on record that keys were removed which no authority names.
    pub async fn removed(&self, keys: &[KeyId], now: OffsetDateTime) {
        if keys.is_empty() {
            return;
        }
        let names: Vec<&str> = keys.iter().map(KeyId::as_str).collect();
        let text = format!("keys removed that were made for steps that were not taken: {}", names.join(", "));
        tracing::info!(keys = names.join(", "), "keys that no authority names were removed");
        if let Err(error) = self.audit.record(event(Outcome::Done, text, now, &Attributed::default())).await {
            tracing::warn!(%error, "the removal of keys could not be recorded");
        }
    }

    /// Tells that what is on record may not be all: nothing is activated or removed by itself for some minutes from now.
    pub fn doubt(&self) {
        self.clock_jumps().doubt((self.monotonic)());
    }

    /// Notes how the clocks run; `false` when the wall clock has jumped since the last time.
    pub fn watch_clock(&self) -> bool {
        self.is_steady(self.clock.now()).0
    }

    /// Whether the wall clock, which says `now`, has not jumped just now, and whether it can be relied on.
    fn is_steady(&self, now: OffsetDateTime) -> (bool, bool) {
        let mut detector = self.clock_jumps();
        let jumped = detector.check(now, (self.monotonic)());
        if let Some(seconds) = jumped {
            tracing::warn!(seconds, "the wall clock has jumped; no root is activated or removed for some minutes");
        }
        (jumped.is_none(), detector.is_steady((self.monotonic)()))
    }

    fn clock_jumps(&self) -> std::sync::MutexGuard<'_, ClockJumpDetector> {
        self.clock_jumps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Loads everything that decisions depend on.
    ///
    /// # Errors
    /// [`StepError`].
    pub async fn observe(&self) -> Result<Observation, StepError> {
        let (version, authorities) = self.journal.load().await?.unwrap_or_default();
        let brought = adopted_source::checked(self.provisioner.upstream.offer().await, &authorities);
        let now = self.clock.now();
        let brought = match brought {
            Ok(Some(offer)) => self.judged(offer, &authorities, now).await,
            other => other,
        };
        self.note(brought.as_ref().err());
        let (offer, mut source) =
            adopted_source::observe(brought, self.provisioner.upstream.revoked_by(), &authorities, now)?;
        if source.is_superseded() && !self.superseded.load(Ordering::Relaxed) {
            tracing::warn!("{}", describe::SUPERSEDED);
        }
        self.superseded.store(source.is_superseded(), Ordering::Relaxed);
        self.note_signer(&mut source, &authorities, now);
        let former_lists = self.provisioner.upstream.former_lists();
        source.former_lists = adopted_source::timely(former_lists, &authorities, now);
        let (_, clock_is_steady) = self.is_steady(now);
        // After the journal. A holder that comes later is counted when the step is taken.
        let coverage = self.holders.coverage(now).await?;
        let lag = self.holders.lag(now, authorities.awaited_sequence()).await?;
        let last_ends = self.holders.last_ends().await?;
        let publishers = self.publishers.names();
        Ok(Observation {
            now,
            version,
            authorities,
            coverage,
            lag,
            last_ends,
            offer,
            source,
            publishers,
            clock_is_steady,
        })
    }

    /// The offer, if clients accept what its issuing CA signs. The one in use is not judged any more.
    ///
    /// # Errors
    /// [`SignError`]: they would not, or it could not be tried out.
    async fn judged(
        &self,
        offer: Offer,
        authorities: &Authorities,
        now: OffsetDateTime,
    ) -> Result<Option<Offer>, SignError> {
        let Some(issuing) = offer.given() else { return Ok(Some(offer)) };
        let roots = offer.roots.iter().map(|root| root.certificate.clone());
        let is_known =
            |one: &IssuingCa| (&one.certificate, &one.intermediates) == (&issuing.certificate, &issuing.intermediates);
        let is_in_use = authorities.root(&offer.signer).is_some_and(|root| {
            let same_root = offer.roots.iter().any(|one| one.id == root.id && one.certificate == root.certificate);
            same_root && root.issuing.iter().any(|one| is_known(&one.ca))
        });
        if is_in_use {
            return Ok(Some(offer));
        }
        let candidate =
            Candidate { issuing, roots: &roots.collect::<Vec<_>>(), sequence: authorities.bundle_sequence, now };
        match self.provisioner.judge.judge(candidate, &*self.provisioner.custody, &self.audit).await {
            Ok(()) => Ok(Some(offer)),
            Err(StepError::Sign(error)) => Err(error),
            // Whatever keeps it from being judged keeps it from being used, and nothing else.
            Err(error) => Err(SignError::Unavailable(format!("the new issuing CA cannot be tried out: {error}"))),
        }
    }

    /// Judges an issuing CA that was made for a step, before it is in the journal.
    async fn judge_made(&self, needs: &Needs, made: &Made, observation: &Observation) -> Result<(), StepError> {
        let Some(issuing) = &made.issuing else { return Ok(()) };
        let known = match needs {
            Needs::Issuing(id) => observation.authorities.root(id).map(|root| &root.ca),
            Needs::IssuingUnder(root) => Some(root),
            _ => None,
        };
        let root = made.root.as_ref().or(known).map(|root| root.certificate.clone());
        // Later than the observation: what another system has certified meanwhile may begin after that.
        let (sequence, now) = (observation.authorities.bundle_sequence, self.clock.now());
        let candidate = Candidate { issuing, roots: &Vec::from_iter(root), sequence, now };
        self.provisioner.judge.judge(candidate, &*self.provisioner.custody, &self.audit).await
    }

    /// Notes whether what the backend brings can be used, and says so once for each reason.
    fn note(&self, trouble: Option<&SignError>) {
        let trouble = trouble.map(ToString::to_string);
        let before = std::mem::replace(&mut *self.trouble(), trouble.clone());
        match (before, trouble) {
            (before, Some(error)) if before.as_ref() != Some(&error) => {
                tracing::warn!(error, "the CA that the backend brings is not used; the one in use goes on");
            }
            (Some(_), None) => tracing::info!("the CA that the backend brings can be used again"),
            _ => {}
        }
    }

    fn trouble(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why what the backend brings was not used when this replica last looked.
    #[must_use]
    pub fn source_problem(&self) -> Option<String> {
        self.trouble().clone()
    }

    /// Whether others had newer CA files, or another backend, when this replica last looked.
    #[must_use]
    pub fn is_superseded(&self) -> bool {
        self.superseded.load(Ordering::Relaxed)
    }

    /// Takes a step as `order` says. The new document, or `None` when somebody else has changed the journal meanwhile, or
    /// what the step is conditional on: then there is something else to decide.
    ///
    /// The change, what it is conditional on and its record are one transaction: it happens with its record or not at
    /// all. Only keys and certificates are made before, which is on record as an intention.
    ///
    /// # Errors
    /// [`StepError`]; whatever was made is not used, and the same step can be taken again.
    pub async fn take(
        &self,
        observation: &Observation,
        step: &Step,
        order: Order,
    ) -> Result<Option<Authorities>, StepError> {
        observation.authorities.may_change()?;
        let offer = match step {
            // What the backend brings is to count from now on.
            Step::CreateRoot | Step::AdoptRoots => observation.source.offer.as_ref(),
            _ => observation.offer.as_ref(),
        };
        let needs = needs(step, &observation.authorities, &observation.seen(), observation.now);
        if let Some(text) = describe::needs(&needs, &observation.authorities) {
            self.audit.record(event(Outcome::Intended, text, observation.now, &order.who)).await?;
        }
        let made = self.provisioner.make(&needs, &observation.authorities, observation.now).await?;
        self.judge_made(&needs, &made, observation).await?;
        let said = describe::step(step, &observation.authorities, &made, offer);
        let mut next = apply(step, &observation.authorities, made, &observation.seen(), observation.now);
        let said = order.entry.enter(&mut next).unwrap_or(said);
        let given = observation.source.given_lists(offer);
        let refresh = matches!(step, Step::RefreshLists(_));
        self.provisioner
            .bring_lists_up_to_date(&mut next, &observation.authorities, given, &self.rules, refresh, observation.now)
            .await?;
        let mut events = order.events;
        if next == observation.authorities {
            for event in events {
                self.audit.record(event).await?;
            }
            return Ok(Some(next));
        }
        let conditions = match order.forced {
            true => Vec::new(),
            false => conditions(step, &observation.authorities, &observation.seen(), &self.rules, observation.now),
        };
        events.push(event(Outcome::Done, said.clone(), observation.now, &order.who));
        // On record in the same transaction, hence before anybody asks for it.
        let asked = describe::asked_elsewhere(&observation.authorities, &next);
        events.extend(asked.map(|text| event(Outcome::Intended, text, observation.now, &order.who)));
        let change = Change {
            expected: observation.version,
            next: &next,
            conditions: &conditions,
            now: self.clock.now(),
            events,
        };
        match self.journal.change(change).await? {
            Changed::Made(_) => {
                tracing::info!(step = said.as_str(), bundle.sequence = next.bundle_sequence, "authorities changed");
                Ok(Some(next))
            }
            Changed::Overtaken => Ok(None),
            Changed::Unmet => {
                tracing::info!(step = said.as_str(), "a step is not due any more: what it waits for has changed");
                Ok(None)
            }
        }
    }
}

fn event(outcome: Outcome, step: String, now: OffsetDateTime, who: &Attributed) -> AuditEvent {
    AuditEvent {
        at_micros: AuditEvent::micros(now),
        request_id: String::new(),
        kind: EventKind::Authority,
        outcome,
        reason: None,
        detail: Some(step),
        who: who.clone(),
        what: None,
        repeated: None,
    }
}
