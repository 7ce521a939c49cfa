//! The acts of the audit demo, on one storage.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::summary::Summary;
use crate::callers::{Callers, Received};
use crate::demo::narrator::Narrator;
use crate::failure::{Failure, Outcome, ensure};
use crate::harness::process::eventually;
use crate::harness::{Ca, Dev, probe};
use crate::tamper::tamper;
use crate::tools;

/// Callers that ask at once.
const CLIENTS: usize = 8;
/// Certificates that are received between two kills.
const BETWEEN: usize = 40;
/// How long that may take on a busy machine.
const ROUND: Duration = Duration::from_secs(180);
const SOON: Duration = Duration::from_secs(60);
/// Lines of an answer that are shown.
const SHOWN: usize = 6;

/// An installation whose record is asked, and who tells of it.
pub struct Acts<'d> {
    /// The installation.
    pub dev: &'d Dev,
    /// Who tells.
    pub narrator: &'d Narrator,
    /// What has been seen.
    pub summary: &'d mut Summary,
}

impl Acts<'_> {
    /// Issues certificates under load while the CA is killed; then compares what clients have with what is on record.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn kill(&mut self, times: usize) -> Outcome<Ca> {
        let mut ca = self.dev.start_ca().await?;
        let callers = Callers::start(self.dev, CLIENTS)?;
        let begun = Instant::now();
        for _ in 0..times {
            callers.receive(BETWEEN, ROUND).await?;
            ca.process.kill();
            ca = self.dev.start_ca().await?;
            self.summary.kills += 1;
        }
        callers.receive(BETWEEN, ROUND).await?;
        let received = callers.stop().await;
        self.compare(&received, &ca)?;
        self.narrator.tell(&format!(
            "{} certificates were received over {times} kills in {:.0} s; each of them is on record, no serial twice",
            received.serials.len(),
            begun.elapsed().as_secs_f64()
        ));
        Ok(ca)
    }

    fn compare(&mut self, received: &Received, ca: &Ca) -> Outcome {
        let events = ca.audit(&[])?;
        let serial = |event: &Value| Some(event.get("what")?.get("serial")?.as_str()?.to_owned());
        let recorded: Vec<String> = events.iter().filter_map(serial).collect();
        let unique: BTreeSet<&String> = recorded.iter().collect();
        let distinct: BTreeSet<&String> = received.serials.iter().collect();
        self.summary.received += received.serials.len();
        self.summary.missing += distinct.difference(&unique).count();
        self.summary.duplicate_serials += recorded.len() - unique.len() + received.serials.len() - distinct.len();
        received.is_on_record(ca)
    }

    /// A question of an auditor: what is wanted, the command, and the beginning of its answer.
    ///
    /// # Errors
    /// [`Failure`] with what the command said.
    pub fn ask(&self, question: &str, args: &[&str]) -> Outcome<String> {
        let printed = tools::run(&mut self.dev.ca_command(args)?)?;
        self.show(question, args, &printed);
        Ok(printed)
    }

    fn show(&self, question: &str, args: &[&str], printed: &str) {
        let quoted = |arg: &&str| if arg.contains([' ', '+']) { format!("'{arg}'") } else { (*arg).to_owned() };
        self.narrator.tell(question);
        self.narrator.row(&format!("$ signet-ca {}", args.iter().map(quoted).collect::<Vec<_>>().join(" ")));
        let lines: Vec<&str> = printed.lines().collect();
        for line in lines.iter().take(SHOWN) {
            self.narrator.row(line);
        }
        if lines.len() > SHOWN {
            self.narrator.row(&format!("… and {} lines more", lines.len() - SHOWN));
        }
    }

    /// The key of the record, once a checkpoint covers every event.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn covered(&self, ca: &Ca) -> Outcome<String> {
        let whole = async || {
            let verified = ca.ask(&["audit", "verify"]).ok()?;
            (verified.get("not_covered")? == 0).then_some(())
        };
        eventually("a checkpoint of all events", SOON, whole).await?;
        let keys = ca.ask(&["audit", "key"])?;
        keys.pointer("/keys/0")
            .and_then(Value::as_str)
            .map(str::to_owned)
            .ok_or_else(|| Failure::unexpected(keys.to_string()))
    }

    /// Changes one byte of an event in the database, which must be named, and puts it back.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn change_a_byte(&mut self, key: &str, at: u64) -> Outcome {
        tamper(self.dev, "save", at, at)?;
        tamper(self.dev, "byte", at, at)?;
        let args = ["audit", "verify", "--key", key];
        let output = tools::output(&mut self.dev.ca_command(&args)?)?;
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        self.show("Somebody changes one byte in the database. Is the record what was signed?", &args, &printed);
        let is_named = !output.status.success() && printed.contains(&format!("event {at} was "));
        self.summary.tamper_found += usize::from(is_named);
        tamper(self.dev, "restore", at, at)?;
        ensure(is_named, || format!("event {at} is not named: {printed}"))
    }

    /// Lets retention remove the words of what operators did, and verifies a proof of a certificate without the storage.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn forget(&mut self, key: &str, serial: &str) -> Outcome {
        self.dev.set_ca("audit.retention.operations", "1s")?;
        let ca = self.dev.start_ca().await?;
        let ops = self.dev.ops;
        let done = async || {
            let (_, body) = probe::fetch(ops, "/readyz?output=json").await.ok()?;
            body.contains("nothing is kept that is to be forgotten").then_some(())
        };
        eventually("retention", SOON, done).await?;
        self.covered(&ca).await?;
        let verified = ca.ask(&["audit", "verify", "--key", key])?;
        self.summary.forgotten += verified.get("forgotten").and_then(Value::as_u64).unwrap_or_default();
        let holds = verified.get("verified") == Some(&Value::Bool(true));
        let proof = self.dev.path("one.tlog-proof").display().to_string();
        tools::run(&mut ca.command(&["audit", "prove"], &["--serial", serial, "--out", &proof])?)?;
        let args = ["audit", "verify", "--proof", &proof, "--key", key];
        let printed = tools::run(std::process::Command::new(tools::own("signet-ca")?).args(args))?;
        self.show("Is this one certificate on record? (a file and the key; no database, no CA)", &args, &printed);
        self.summary.verified += usize::from(holds);
        ensure(holds, || verified.to_string())
    }
}
