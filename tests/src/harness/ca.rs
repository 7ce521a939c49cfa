//! A running `signet-ca serve`.

use std::collections::BTreeMap;
use std::io::PipeReader;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::metrics::Metrics;
use super::process::eventually;
use super::{Dev, Process, probe};
use crate::failure::{Failure, Outcome};
use crate::tools;

/// How long the CA may take to become ready, on a busy machine with an unoptimised build.
const START: Duration = Duration::from_secs(60);
/// How long a refusal may take to be on record.
const RECORD: Duration = Duration::from_secs(30);
/// The largest page of the audit log.
const PAGE: &str = "1000";

/// The CA's process and how to talk to it.
pub struct Ca {
    /// The process.
    pub process: Process,
    config: PathBuf,
    ops: SocketAddr,
}

impl Ca {
    /// Starts the CA of an installation.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn start(dev: &Dev) -> Outcome<Self> {
        Self::start_command(dev, dev.ca_command(&["serve"])?)
    }

    /// Starts it by a prepared command, such as one with limits.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn start_command(dev: &Dev, command: Command) -> Outcome<Self> {
        dev.make_authority()?;
        let process = Process::start_command("ca", command, dev.directory())?;
        Ok(Self { process, config: dev.path("signet-ca.yaml"), ops: dev.ops })
    }

    /// Starts it with a log that nobody reads.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn start_unread(dev: &Dev) -> Outcome<(Self, PipeReader)> {
        dev.make_authority()?;
        let (process, log) = Process::start_unread("ca", dev.ca_command(&["serve"])?, dev.directory())?;
        Ok((Self { process, config: dev.path("signet-ca.yaml"), ops: dev.ops }, log))
    }

    /// Starts one with a configuration file of its own, which names this address for operators.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn start_config(name: &str, dev: &Dev, config: &Path, ops: SocketAddr) -> Outcome<Self> {
        let mut command = Command::new(tools::own("signet-ca")?);
        command.args(["serve", "--config"]).arg(config);
        dev.make_authority()?;
        let process = Process::start_command(name, command, dev.directory())?;
        Ok(Self { process, config: config.to_owned(), ops })
    }

    /// Its configuration file.
    #[must_use]
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// Where operators look at it.
    #[must_use]
    pub fn ops(&self) -> SocketAddr {
        self.ops
    }

    /// An operator command about it, ready to run: `args`, then `more`, then `--config`.
    ///
    /// # Errors
    /// [`Failure::ToolMissing`].
    pub fn command(&self, args: &[&str], more: &[&str]) -> Outcome<Command> {
        let mut command = Command::new(tools::own("signet-ca")?);
        command.args(args).args(more).arg("--config").arg(&self.config);
        Ok(command)
    }

    /// Waits until `/readyz` says so.
    ///
    /// # Errors
    /// [`Failure`] with the log.
    pub async fn ready(&mut self) -> Outcome {
        self.ready_is(true, START).await.map(drop)
    }

    /// Waits until `/readyz` says ready or not ready; gives its JSON.
    ///
    /// # Errors
    /// [`Failure`] with the log.
    pub async fn ready_is(&mut self, wanted: bool, within: Duration) -> Outcome<Value> {
        let ops = self.ops;
        let what = if wanted { "readiness" } else { "unreadiness" };
        self.process
            .until(what, within, async || {
                let (status, body) = probe::fetch(ops, "/readyz?output=json").await.ok()?;
                ((status == 200) == wanted).then(|| serde_json::from_str(&body).unwrap_or_default())
            })
            .await
    }

    /// One scrape of `/metrics`.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn metrics(&self) -> Outcome<Metrics> {
        Ok(Metrics::parse(&probe::fetch(self.ops, "/metrics").await?.1))
    }

    /// Runs an operator command and reads its JSON.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn ask(&self, args: &[&str]) -> Outcome<Value> {
        let text = tools::run(&mut self.command(args, &["--output", "json"])?)?;
        serde_json::from_str(&text).map_err(Failure::while_doing("read the JSON of a command"))
    }

    /// All events of the audit log that match the filters, newest first, over all pages.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn audit(&self, filters: &[&str]) -> Outcome<Vec<Value>> {
        let mut all = Vec::new();
        let mut next: Option<String> = None;
        loop {
            let mut args = vec!["audit", "list", "--limit", PAGE];
            args.extend_from_slice(filters);
            if let Some(next) = &next {
                args.extend(["--page", next]);
            }
            let mut page = self.ask(&args)?;
            let Some(events) = page.get_mut("events").and_then(Value::as_array_mut) else {
                return Err(Failure::unexpected(format!("audit list printed no events: {page}")));
            };
            all.append(events);
            match page.get("next_page").and_then(Value::as_str) {
                Some(more) => next = Some(more.to_owned()),
                None => return Ok(all),
            }
        }
    }

    /// Waits until a refusal for this reason is on record. The CA answers before the record is made, and only the first
    /// of a kind has one at once: how many there were is for [`refusals_add_up`](Self::refusals_add_up) to say.
    ///
    /// # Errors
    /// [`Failure`] with the newest refusal.
    pub async fn refused_for(&self, reason: &str) -> Outcome {
        let refused = ["--outcome", "refused"];
        let recorded = async || {
            let events = self.audit(&refused).ok()?;
            events.iter().any(|event| event.get("reason").is_some_and(|found| found == reason)).then_some(())
        };
        eventually("a refusal on record", RECORD, recorded).await.map_err(|late| {
            let found = self.newest(&refused).map_or_else(|failure| failure.to_string(), |event| event.to_string());
            Failure::unexpected(format!("{late}: for {reason}; the newest is {found}"))
        })
    }

    /// How many certificates were not issued for this reason since the start.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn not_issued(&self, reason: &str) -> Outcome<f64> {
        Ok(self.metrics().await?.sum("signet_ca_certificates_total", &[&format!("reason=\"{reason}\"")]))
    }

    /// Stops the CA and checks, for each reason, that its records tell of as many certificates not issued as were counted
    /// since the start; those turned away at a limit are only counted. Gives the numbers by reason.
    ///
    /// # Errors
    /// [`Failure`] that names the reason.
    pub async fn refusals_add_up(&mut self) -> Outcome<BTreeMap<String, u64>> {
        let metrics = self.metrics().await?;
        let status = self.process.stop().await?;
        if !status.success() {
            return Err(Failure::unexpected(format!("the CA ended with {status}: {}", self.process.log())));
        }
        let mut told = BTreeMap::new();
        for outcome in ["refused", "failed"] {
            let events = self.audit(&["--outcome", outcome])?;
            for event in events.iter().filter(|event| event.get("kind").is_some_and(|kind| kind == "certificate")) {
                let reason = event.get("reason").and_then(Value::as_str).unwrap_or_default().to_owned();
                *told.entry(reason).or_insert(0) += count(event);
            }
        }
        let counted = |labels: &[&str]| metrics.sum("signet_ca_certificates_total", labels) as u64;
        for (reason, told) in &told {
            let counted = counted(&[&format!("reason=\"{reason}\"")]);
            if *told != counted {
                return Err(Failure::unexpected(format!("{reason}: {told} on record, {counted} counted")));
            }
        }
        let all = counted(&["outcome=\"refused\""]) + counted(&["outcome=\"failed\""]) - counted(&["reason=\"limit_"]);
        if told.values().sum::<u64>() != all {
            return Err(Failure::unexpected(format!("{told:?} on record, {all} counted")));
        }
        Ok(told)
    }

    /// The newest event that matches the filters.
    ///
    /// # Errors
    /// [`Failure`], also when there is none.
    pub fn newest(&self, filters: &[&str]) -> Outcome<Value> {
        let mut args = vec!["audit", "list", "--limit", "1"];
        args.extend_from_slice(filters);
        let page = self.ask(&args)?;
        page.pointer("/events/0")
            .cloned()
            .ok_or_else(|| Failure::unexpected(format!("no event matches {filters:?}: {page}")))
    }
}

/// How many decisions an event tells of.
#[must_use]
pub fn count(event: &Value) -> u64 {
    event.pointer("/repeated/count").and_then(Value::as_u64).unwrap_or(1)
}
