//! What operators ask for: each command is judged by the rules, taken as a step like any other, and on record with its
//! operator. Commands act on the journal, hence on all replicas.

mod done;
mod init;
mod next;
mod progress;
mod revocation;

use std::collections::BTreeMap;
use std::sync::Arc;

use signet_core::audit::{Attributed, AuditEvent, EventKind, Outcome};
use signet_core::authority::AuthorityId;
use signet_core::holder::{Coverage, Holder, HolderQuery};
use signet_core::rotation::{Activation, Authorities, Command, Phase, Refused, Step, Unsettled, judge, next_step};
use signet_core::seams::signed_leaves::SignedLeafStore;
use signet_core::seams::store::{AuditStore, StoreError};
use time::OffsetDateTime;
use tokio::sync::Notify;

pub use done::Done;
pub use next::{Awaited, Next};
pub use revocation::RevokedCertificate;
use revocation::room;

use crate::describe;
use crate::rotator::{Executor, Observation, Order, StepError};

/// How many holders that lag are named.
const NAMED: u32 = 20;

/// How often a command is judged again because somebody else was faster.
const RACES: usize = 5;

/// A command was not carried out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OperationError {
    /// The rules forbid it now.
    #[error("{0}")]
    Refused(String),
    /// There is no such thing.
    #[error("{0}")]
    Unknown(String),
    /// The request makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// Storage failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The step failed.
    #[error(transparent)]
    Step(#[from] StepError),
    /// Others changed the authorities all the time.
    #[error("the authorities were changed by somebody else at the same time; look, and try again")]
    Conflict,
}

impl From<Refused> for OperationError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Unknown(_) => Self::Unknown(refused.to_string()),
            _ => Self::Refused(refused.to_string()),
        }
    }
}

/// Who gives a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    /// A user id on this host or a SPIFFE ID.
    pub name: String,
    /// The network address, for one who comes over TLS.
    pub peer: Option<String>,
}

impl Operator {
    /// Who has started this process, for commands that open the storage themselves.
    #[must_use]
    pub fn of_this_process() -> Self {
        Self { name: format!("uid {}", rustix::process::getuid().as_raw()), peer: None }
    }
}

/// Where rotation stands.
#[derive(Debug, Clone)]
pub struct View {
    /// The journal.
    pub authorities: Authorities,
    /// Who knows which bundle.
    pub coverage: Coverage,
    /// When the last certificate of each issuing CA ends.
    pub last_ends: BTreeMap<AuthorityId, OffsetDateTime>,
    /// Former roots that nothing chains to any more and that an operator is to let go.
    pub held: Vec<AuthorityId>,
    /// The first of the holders that lag.
    pub laggards: Vec<Holder>,
    /// How many holders must have received a root before it signs, in percent.
    pub threshold_percent: u8,
    /// Where a rotation stands, in view of what else is not over.
    pub phase: Phase,
    /// The publishers that lack the bundle that is waited for, those included of which nothing was heard yet.
    pub lacking: Vec<String>,
    /// What is not over although no root may be under way.
    pub unsettled: Unsettled,
    /// What happens next.
    pub next: Next,
    /// Whether a former root leaves the trust bundle in the end.
    pub has_former: bool,
    /// When that is over at the latest, if time alone brings it about.
    pub expected_at: Option<OffsetDateTime>,
    /// The bundle sequence that holders are waited for.
    pub awaited_sequence: u64,
}

/// Carries out commands.
pub struct Operations {
    /// Carries steps out.
    pub executor: Arc<Executor>,
    /// The record.
    pub store: Arc<dyn AuditStore>,
    /// Leaves of a backend that can revoke them.
    pub leaves: Arc<dyn SignedLeafStore>,
    /// Notified after each change, so that it is published at once.
    pub wake_up: Arc<Notify>,
}

impl Operations {
    /// Where rotation stands, from storage.
    ///
    /// # Errors
    /// [`OperationError`].
    pub async fn view(&self) -> Result<View, OperationError> {
        let observation = self.executor.observe().await?;
        self.view_of(observation).await
    }

    async fn view_of(&self, observation: Observation) -> Result<View, OperationError> {
        let awaited_sequence = observation.authorities.awaited_sequence();
        let behind = HolderQuery {
            now: observation.now,
            behind: Some(awaited_sequence),
            authorities: Vec::new(),
            after: None,
            limit: NAMED,
        };
        let laggards = self.executor.holders.holders(&behind).await?;
        let (next, expected_at) = progress::what_next(&observation, &self.executor.rules);
        let unsettled = observation.unsettled();
        let phase = Phase::of(&observation.authorities).with(&unsettled);
        let threshold_percent = self.executor.rules.coverage;
        let held = progress::held(&observation, &self.executor.rules);
        let has_former = progress::has_former(&observation.authorities);
        let lacking = observation.lacking();
        let Observation { authorities, coverage, last_ends, .. } = observation;
        Ok(View {
            authorities,
            coverage,
            last_ends,
            held,
            laggards,
            threshold_percent,
            phase,
            lacking,
            unsettled,
            next,
            has_former,
            expected_at,
            awaited_sequence,
        })
    }

    /// Carries out `command` for `reason`. What was done, and where rotation stands then. Doing what is done
    /// already is fine.
    ///
    /// # Errors
    /// [`OperationError`]; a refusal is on record too.
    pub async fn command(
        &self,
        operator: &Operator,
        command: Command,
        reason: &str,
    ) -> Result<(Done, View), OperationError> {
        if command.is_forced() && reason.trim().is_empty() {
            return Err(OperationError::Invalid("force leaves holders behind: give the reason for the record".into()));
        }
        for _ in 0..RACES {
            let observation = self.executor.observe().await?;
            let judged =
                judge(observation.now, &observation.authorities, &observation.seen(), &self.executor.rules, &command);
            let step = match judged {
                Ok(step) => step,
                Err(refused) => {
                    self.record(operator, &command, reason, Outcome::Refused, &refused.to_string()).await?;
                    return Err(self.with_laggards(refused, &observation).await);
                }
            };
            let at_once = matches!(command, Command::Taint { force: true, .. });
            let Some(step) = step else {
                let mut done = Done::nothing_of(&command);
                if at_once {
                    done = self.replace_at_once(operator).await?.unwrap_or(done);
                    self.wake_up.notify_one();
                }
                self.record(operator, &command, reason, Outcome::Done, &done.to_string()).await?;
                return Ok((done, self.view().await?));
            };
            let mut done = progress::done(&step, &observation);
            if matches!(step, Step::RevokeIssuing(_)) {
                room(&observation.authorities)?;
            }
            let order = Order {
                forced: command.is_forced(),
                events: vec![self.event(operator, &command, reason, Outcome::Done, &done.to_string())],
                ..ordered_by(operator)
            };
            if self.executor.take(&observation, &step, order).await?.is_none() {
                continue;
            }
            self.wake_up.notify_one();
            if at_once && matches!(step, Step::Taint(_)) {
                done = self.replace_at_once(operator).await?.unwrap_or(done);
                self.wake_up.notify_one();
            }
            if step == Step::AdoptRoots {
                self.begin_with_adopted(operator).await;
                self.wake_up.notify_one();
            }
            return Ok((done, self.view().await?));
        }
        Err(OperationError::Conflict)
    }

    /// Takes the first steps after a source was adopted, so that the answer shows what is on its way and no more
    /// what others had prepared. Whatever is not done here, the next turn does.
    async fn begin_with_adopted(&self, operator: &Operator) {
        for _ in 0..RACES {
            let taken = async {
                let observation = self.executor.observe().await?;
                let step =
                    next_step(observation.now, &observation.authorities, &observation.seen(), &self.executor.rules);
                if !matches!(step, Step::DropPrepared(..) | Step::PrepareRoot(_) | Step::RefreshLists(_)) {
                    return Ok(false);
                }
                self.executor.take(&observation, &step, ordered_by(operator)).await.map(|_| true)
            };
            match taken.await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    tracing::debug!(%error, "what the adopted source asks for is left to the next turn");
                    return;
                }
            }
        }
    }

    /// Lets another root sign although holders may not know it: the operator has said so. Says what was done, if anything.
    async fn replace_at_once(&self, operator: &Operator) -> Result<Option<Done>, OperationError> {
        let mut compromised = None;
        for _ in 0..RACES {
            let observation = self.executor.observe().await?;
            let Some(active) = observation.authorities.active() else { return Err(Refused::NoAuthority.into()) };
            if active.tainted_at.is_none() {
                let behind = observation.coverage.live().saturating_sub(observation.coverage.covered(active.published));
                return Ok(compromised.map(|of| Done::Replaced { of, by: active.id.clone(), behind }));
            }
            compromised = Some(active.id.clone());
            let fallback =
                next_step(observation.now, &observation.authorities, &observation.seen(), &self.executor.rules);
            let step = match (observation.authorities.prepared(), fallback) {
                (_, step @ Step::Activate(_)) => step,
                (Some(root), _) => Step::Activate(root.id.clone()),
                (None, _) if observation.offer.is_some() => return Err(Refused::Foreign.into()),
                (None, _) => Step::PrepareRoot(Activation::WhenCovered),
            };
            // The operator has said so: no holder is waited for.
            self.executor.take(&observation, &step, Order { forced: true, ..ordered_by(operator) }).await?;
        }
        Err(OperationError::Conflict)
    }

    /// Holders.
    ///
    /// # Errors
    /// [`OperationError`].
    pub async fn holders(&self, query: &HolderQuery) -> Result<Vec<Holder>, OperationError> {
        Ok(self.executor.holders.holders(query).await?)
    }

    /// The time, for queries.
    #[must_use]
    pub fn now(&self) -> OffsetDateTime {
        self.executor.clock.now()
    }

    async fn with_laggards(&self, refused: Refused, observation: &Observation) -> OperationError {
        let query = match &refused {
            Refused::NotCovered { sequence, .. } => (Some(*sequence), Vec::new()),
            Refused::Needed { id, .. } | Refused::StillChained { id, .. } => {
                let root = observation.authorities.root(id).map(|root| &root.issuing);
                let ids = root.map(|issuing| issuing.iter().map(|one| one.id.clone()).collect());
                (None, ids.unwrap_or_else(|| vec![id.clone()]))
            }
            _ => return refused.into(),
        };
        let (behind, authorities) = query;
        let query = HolderQuery { now: observation.now, behind, authorities, after: None, limit: NAMED };
        let named = self.executor.holders.holders(&query).await.unwrap_or_default();
        let mut text = refused.to_string();
        for holder in &named {
            text += &format!("\n  {}", describe::holder(holder));
        }
        if named.len() >= NAMED as usize {
            text += "\n  and possibly more: see `holders list`";
        }
        OperationError::Refused(text)
    }

    async fn record(
        &self,
        operator: &Operator,
        command: &Command,
        reason: &str,
        outcome: Outcome,
        text: &str,
    ) -> Result<(), OperationError> {
        let event = self.event(operator, command, reason, outcome, text);
        self.executor.audit.record(event).await.map_err(StepError::from)?;
        Ok(())
    }

    fn event(&self, operator: &Operator, command: &Command, reason: &str, outcome: Outcome, text: &str) -> AuditEvent {
        let force = if command.is_forced() { " --force" } else { "" };
        let why = if reason.is_empty() { String::new() } else { format!(" ({reason})") };
        let text = format!("{}{force}{why}: {text}", command.as_str());
        self.admin_event(operator, command.as_str(), &text, outcome, attributed(operator))
    }

    fn admin_event(
        &self,
        operator: &Operator,
        command: &str,
        text: &str,
        outcome: Outcome,
        who: Attributed,
    ) -> AuditEvent {
        AuditEvent {
            at_micros: AuditEvent::micros(self.now()),
            request_id: String::new(),
            kind: EventKind::Admin,
            outcome,
            reason: Some(command.to_owned()),
            detail: Some(format!("{}: {text}", operator.name).chars().take(1000).collect()),
            who,
            what: None,
            repeated: None,
        }
    }
}

fn ordered_by(operator: &Operator) -> Order {
    Order { who: attributed(operator), ..Order::default() }
}

/// Whom an event of an operator's or auditor's call is about.
pub(crate) fn attributed(operator: &Operator) -> Attributed {
    let spiffe_id = operator.name.starts_with("spiffe://").then(|| operator.name.clone());
    let peer = operator.peer.clone().or_else(|| Some(operator.name.clone()));
    Attributed { spiffe_id, peer, ..Attributed::default() }
}
