//! Follows the configuration file while the process runs: clusters change with it, and all else is told to wait for a restart.
//! A file that is no good changes nothing, and is told of in the log, in metrics, in readiness and in `status`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use signet_core::audit::{Attributed, AuditEvent, EventKind, Outcome};
use signet_core::clock::SharedClock;
use signet_core::identity::TrustDomain;
use signet_runtime::config::{self, Loaded, MAX_FILE_SIZE};
use signet_runtime::files::{self, FileError};
use signet_runtime::metrics::{IntGauge, MetricError, Metrics};
use signet_runtime::output::error_chain;
use signet_runtime::readiness::Condition;
use signet_runtime::signal::Hangups;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::cluster_set::{ClusterSet, Running};
use crate::audit_log::AuditLog;
use crate::cluster_status::ConfigurationStatus;
use crate::config::{Config, read};
use crate::notices::{Notice, Notices};

/// Why a configuration is on record that is not the one of a start.
const CLUSTERS_CHANGED: &str = "clusters_changed";

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(2);

/// The part that changes while the process runs.
pub(super) const CLUSTERS: &str = "clusters";

/// What tells of the file.
pub(super) struct Told {
    refused: IntGauge,
    awaits_restart: IntGauge,
    applied: IntGauge,
    pub(super) condition: Condition,
    status: watch::Sender<ConfigurationStatus>,
}

impl Told {
    /// Registers the metrics.
    pub(super) fn new(metrics: &Metrics, condition: Condition) -> Result<Self, MetricError> {
        Ok(Self {
            refused: metrics.gauge(
                "signet_ca_configuration_refused",
                "1 while the configuration file as it is now is not in use, because it cannot be read or is wrong.",
            )?,
            awaits_restart: metrics.gauge(
                "signet_ca_configuration_awaits_restart",
                "1 while the configuration file differs from what is in use in fields that take effect after a restart.",
            )?,
            applied: metrics.gauge(
                "signet_ca_configuration_applied_timestamp_seconds",
                "When the configuration in use was read.",
            )?,
            condition,
            status: watch::Sender::default(),
        })
    }

    /// What operators are told.
    pub(super) fn status(&self) -> watch::Receiver<ConfigurationStatus> {
        self.status.subscribe()
    }
}

/// Follows the file.
pub(super) struct Follower {
    pub(super) file: PathBuf,
    pub(super) clusters: Arc<ClusterSet>,
    /// Who is certified until a restart.
    pub(super) trust_domain: TrustDomain,
    /// What the process was started with, and the clusters that are served now.
    pub(super) effective: Value,
    pub(super) told: Told,
    pub(super) audit: AuditLog,
    pub(super) notices: Notices,
    pub(super) clock: SharedClock,
}

impl Follower {
    /// Looks at the file again and again, and at once when asked to.
    ///
    /// # Errors
    /// None.
    pub(super) async fn run(
        mut self,
        mut asked: Hangups,
        stop: CancellationToken,
    ) -> Result<(), std::convert::Infallible> {
        let following = async {
            self.in_use(Vec::new());
            // What was looked at last: a file that was good or told of needs no second look.
            let mut seen = None;
            loop {
                self.look(&mut seen).await;
                let asked = async {
                    asked.next().await;
                    tracing::info!("asked by SIGHUP to read the configuration");
                    true
                };
                if tokio::time::timeout(LOOK, asked).await == Ok(true) {
                    seen = None;
                }
            }
        };
        let _stopped = stop.run_until_cancelled(following).await;
        Ok(())
    }

    /// Takes over what has changed. What could not be used is tried again: files that it names may come later.
    async fn look(&mut self, seen: &mut Option<Vec<u8>>) {
        let applied = match files::read_in_time(&self.file, MAX_FILE_SIZE).await {
            Ok(content) if seen.as_ref() == Some(&content) => return,
            Ok(content) => self.apply(&content).await.map(|()| content),
            // For how long it hangs is no news.
            Err(FileError::Hangs { path, .. }) => Err(vec![format!("{} does not answer", path.display())]),
            Err(error) => Err(vec![error_chain(&error)]),
        };
        *seen = applied.map_err(|problems| self.refuse(&problems)).ok();
    }

    /// Serves the clusters that the file says.
    ///
    /// # Errors
    /// All that is wrong with it.
    async fn apply(&mut self, content: &[u8]) -> Result<(), Vec<String>> {
        let file = self.file.display().to_string();
        let text = std::str::from_utf8(content).map_err(|_| vec![format!("{file}: is not UTF-8 text")])?;
        let loaded: Loaded<Config> = config::parse(&file, text, read)
            .map_err(|error| error_chain(&error).lines().map(str::to_owned).collect::<Vec<_>>())?;
        let Loaded { config, effective, places } = loaded;
        let mut problems: Vec<String> = Vec::new();
        for (index, cluster) in config.clusters.iter().enumerate() {
            if cluster.trust_domain != self.trust_domain {
                let (wanted, ours) = (&cluster.trust_domain, &self.trust_domain);
                problems.push(places.named(&format!(
                    "clusters[{index}].trust_domain: is {wanted}, but this CA certifies {ours} until it is restarted"
                )));
            }
        }
        let later = changed(&self.effective, &effective);
        if self.effective.get(CLUSTERS) != effective.get(CLUSTERS) || !problems.is_empty() {
            match self.clusters.open(&config.clusters).await {
                Ok(opened) if problems.is_empty() => {
                    let before = self.clusters.running();
                    self.clusters.replace(opened);
                    if let (Some(now), Some(new)) = (self.effective.get_mut(CLUSTERS), effective.get(CLUSTERS)) {
                        *now = new.clone();
                    }
                    let now = self.clusters.running();
                    let changes = Changes::between(&before, &now);
                    let Changes { added, changed, removed } = &changes;
                    let clusters: Vec<&str> = now.iter().map(|one| one.cluster.id.as_str()).collect();
                    tracing::info!(?clusters, ?added, ?changed, ?removed, "other clusters are served now");
                    self.record(&changes).await;
                }
                Ok(_) => {}
                Err(wrong) => {
                    problems.extend(wrong.iter().map(|(index, error)| places.named(&error.of_cluster(*index))));
                }
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        self.in_use(later);
        Ok(())
    }

    /// Says that the file is in use, but for fields that wait for a restart.
    fn in_use(&self, awaits_restart: Vec<String>) {
        let now = self.clock.now();
        let before = self.told.status.borrow().clone();
        if before.problem.is_some() {
            tracing::info!(file = %self.file.display(), "the configuration file can be used again");
            let text = format!("{} can be used again", self.file.display());
            self.notice(Outcome::Done, "configuration_used", text);
        }
        if awaits_restart != before.awaits_restart && !awaits_restart.is_empty() {
            let fields = awaits_restart.join(", ");
            tracing::warn!(fields, "changed fields take effect after a restart");
            self.notice(
                Outcome::Done,
                "awaits_restart",
                format!("changed in the file, after a restart in use: {fields}"),
            );
        }
        self.told.refused.set(0);
        self.told.awaits_restart.set(i64::from(!awaits_restart.is_empty()));
        self.told.applied.set(now.unix_timestamp());
        self.told.condition.ready(match awaits_restart.as_slice() {
            [] => "in use as it is".to_owned(),
            fields => format!("takes effect after a restart: {}", fields.join(", ")),
        });
        self.told.status.send_replace(ConfigurationStatus { applied_at: Some(now), problem: None, awaits_restart });
    }

    /// Says that the file is not in use, once for each thing that is wrong.
    fn refuse(&self, problems: &[String]) {
        let problem = problems.join("; ");
        let news = self.told.status.borrow().problem.as_ref() != Some(&problem);
        if news {
            tracing::error!(
                problems = problems.len(),
                error = problems.join("\n"),
                "the configuration file is not used; the CA goes on with what it had"
            );
            self.told.status.send_modify(|status| status.problem = Some(problem.clone()));
            let text = format!("the file is not used, the CA goes on with what it had: {problem}");
            self.notice(Outcome::Refused, "configuration_refused", text);
        }
        self.told.refused.set(1);
        self.told.condition.degraded(format!("the file is not used, the CA goes on with what it had: {problem}"));
    }

    /// What happens to the file is on record.
    fn notice(&self, outcome: Outcome, reason: &'static str, detail: String) {
        let (kind, subject) = (EventKind::Configuration, "file".to_owned());
        self.notices.tell(Notice { kind, subject, cluster: None, outcome, reason, detail });
    }

    /// Who may get certificates has changed: that is on record.
    async fn record(&self, Changes { added, changed, removed }: &Changes<'_>) {
        let detail = json!({
            "added": added, "changed": changed, "removed": removed, "configuration": self.effective,
        });
        let changed = AuditEvent {
            at_micros: AuditEvent::micros(self.clock.now()),
            request_id: String::new(),
            kind: EventKind::Configuration,
            outcome: Outcome::Done,
            reason: Some(CLUSTERS_CHANGED.to_owned()),
            detail: Some(detail.to_string()),
            who: Attributed::default(),
            what: None,
            repeated: None,
        };
        if let Err(error) = self.audit.record(changed).await {
            tracing::warn!(%error, "the change of clusters could not be recorded");
        }
    }
}

/// How the clusters that are served differ from those before, by their ids.
#[derive(Debug, Default, PartialEq, Eq)]
struct Changes<'a> {
    added: Vec<&'a str>,
    changed: Vec<&'a str>,
    removed: Vec<&'a str>,
}

impl<'a> Changes<'a> {
    fn between(before: &'a [Arc<Running>], now: &'a [Arc<Running>]) -> Self {
        let find = |all: &'a [Arc<Running>], id: &str| all.iter().find(|one| one.cluster.id == id);
        let mut changes = Self::default();
        for one in now {
            let id = one.cluster.id.as_str();
            match find(before, id) {
                None => changes.added.push(id),
                Some(was) if was.cluster != one.cluster => changes.changed.push(id),
                Some(_) => {}
            }
        }
        let gone = before.iter().map(|one| one.cluster.id.as_str()).filter(|id| find(now, id).is_none());
        changes.removed.extend(gone);
        changes
    }
}

/// The fields that differ, but for the clusters: by their path, lists as a whole.
pub(super) fn changed(one: &Value, other: &Value) -> Vec<String> {
    fn walk(path: &str, one: &Value, other: &Value, found: &mut Vec<String>) {
        let (Value::Object(fields), Value::Object(others)) = (one, other) else {
            if one != other {
                found.push(path.to_owned());
            }
            return;
        };
        let names: std::collections::BTreeSet<&String> = fields.keys().chain(others.keys()).collect();
        for name in names {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            let of = |fields: &serde_json::Map<String, Value>| fields.get(name).cloned().unwrap_or(Value::Null);
            if path != CLUSTERS {
                walk(&path, &of(fields), &of(others), found);
            }
        }
    }
    let mut found = Vec::new();
    walk("", one, other, &mut found);
    found
}

#[cfg(test)]
#[path = "configuration_tests.rs"]
mod tests;
