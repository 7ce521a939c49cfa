//! The acts of the Vault demo.

use std::time::{Duration, Instant};

use serde_json::Value;
use signet_proto::admin::v1alpha1::Rotation;

use super::crowd::{self, Served};
use super::stage::Vault;
use super::summary::Summary;
use crate::client::admin::{active_issuers, active_root, coverage, is_root, is_settled, root_ids};
use crate::client::keys;
use crate::demo::narrator::{Narrator, short};
use crate::demo::rotation::watch::in_words;
use crate::failure::{Failure, Outcome, ensure};
use crate::harness::probe;
use crate::stage::Stage;
use crate::tools;
use crate::traffic::Traffic;

/// What follows at once, on a busy machine.
pub(super) const SOON: Duration = Duration::from_secs(60);
/// Renewals, and what hangs on them.
pub(super) const RENEWALS: Duration = Duration::from_secs(180);
/// Until nothing chains to an old root any more.
const DRAIN: Duration = Duration::from_secs(300);
const GLANCE: Duration = Duration::from_millis(100);
/// How many workloads ask at once.
const CROWD: usize = 200;

/// What the acts share.
pub struct Acts<'d> {
    /// Everything between the caller and the service.
    pub stage: Stage,
    /// The server.
    pub vault: Vault,
    /// Who tells.
    pub narrator: &'d Narrator,
    /// The requests that go on all the time.
    pub traffic: &'d Traffic,
    /// What has been seen.
    pub summary: Summary,
    /// What was told of the rotation.
    pub told: String,
    /// What the CA process had issued when OpenBao's root began to sign.
    pub before: u64,
}

impl Acts<'_> {
    pub(super) fn tell(&self, text: &str) {
        self.narrator.tell(text);
    }

    /// Looks until something is so. A request that has failed ends it.
    pub(super) async fn until<T>(
        &mut self,
        what: &str,
        within: Duration,
        mut so: impl AsyncFnMut(&Stage, &Rotation) -> Outcome<Option<T>>,
    ) -> Outcome<T> {
        let (start, admin) = (Instant::now(), self.stage.ca.admin()?);
        loop {
            let rotation = admin.rotation().await.map_err(Failure::while_doing("ask where rotation stands"))?;
            let line = in_words(&rotation);
            if line != self.told {
                self.tell(&line);
                self.told.clone_from(&line);
            }
            if let Some(value) = so(&self.stage, &rotation).await? {
                return Ok(value);
            }
            let tally = self.traffic.tally();
            ensure(tally.failed == 0, || format!("requests have failed: {:#?}", tally.first_failures))?;
            if start.elapsed() > within {
                return Err(Failure::Deadline { what: what.to_owned(), within, context: format!("; {line}") });
            }
            tokio::time::sleep(GLANCE).await;
        }
    }

    /// Certificates that this CA process has issued.
    pub(super) async fn issued(&self) -> Outcome<u64> {
        let metrics = self.stage.ca.metrics().await?;
        Ok(metrics.sum("signet_ca_certificates_total", &["outcome=\"issued\""]) as u64)
    }

    /// How often both agents have replaced their certificate.
    pub(super) async fn renewals(stage: &Stage) -> Outcome<[u64; 2]> {
        Ok([stage.client_agent.identity().await?.renewals, stage.server_agent.identity().await?.renewals])
    }

    pub(super) async fn restart(&mut self) -> Outcome {
        self.stage.ca.process.stop().await?;
        self.stage.ca = self.stage.dev.start_ca().await?;
        Ok(())
    }

    /// Waits until the condition about Vault in the readiness holds this word; the CA is ready all the time.
    pub(super) async fn vault_is(&mut self, word: &str) -> Outcome<String> {
        let ops = self.stage.dev.ops;
        let said = async |_: &Stage, _: &Rotation| {
            let (status, body) = probe::fetch(ops, "/readyz?output=json").await?;
            ensure(status == 200, || format!("the CA is not ready: {body}"))?;
            let readiness: Value = serde_json::from_str(&body).map_err(Failure::while_doing("read /readyz"))?;
            let checks = readiness.get("checks").and_then(Value::as_array).cloned().unwrap_or_default();
            let vault = checks.iter().find(|check| check.get("name").is_some_and(|name| name == "Vault"));
            Ok(vault.map(Value::to_string).filter(|text| text.contains(word)))
        };
        self.until(&format!("{word:?} in what /readyz says of Vault"), SOON, said).await
    }

    /// Everybody has the root that is Signet's own; gives its id.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn settle(&mut self) -> Outcome<String> {
        let settled = async |_: &Stage, rotation: &Rotation| {
            let (covered, holders) = coverage(rotation);
            Ok((is_settled(rotation) && holders >= 2 && covered == holders).then(|| active_root(rotation)))
        };
        let root = self.until("a settled start", SOON, settled).await?;
        self.tell(&format!("backend: native; {} is a root that Signet has made, and signs", short(&root)));
        Ok(root)
    }

    /// From `native` to OpenBao: the configuration changes, and everybody moves. Gives OpenBao's root.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn switch(&mut self, old: &str) -> Outcome<String> {
        self.vault.certifies(&self.stage.dev)?;
        let said = tools::run(&mut self.stage.ca.command(&["check", "--connect"], &[])?)?;
        self.tell("signet-ca check --connect, with the new configuration, says:");
        for line in said.lines() {
            self.narrator.row(&format!("| {line}"));
        }
        let pem = self.vault.root().await?;
        let new = keys::ids(&pem)?.concat();
        ensure(new != old, || "it is the same root".to_owned())?;
        let start = Instant::now();
        self.restart().await?;
        self.tell(&format!("restarted with backend: vault; {} is OpenBao's root", short(&new)));
        let both = async |_: &Stage, rotation: &Rotation| Ok((root_ids(rotation).contains(&new)).then_some(()));
        self.until("OpenBao's root in the bundle", SOON, both).await?;
        let active = async |_: &Stage, rotation: &Rotation| Ok((active_root(rotation) == new).then_some(()));
        self.until("activation", SOON, active).await?;
        self.before = self.issued().await?;
        self.tell("every holder has said that it has OpenBao's root; OpenBao has certified an issuing CA of Signet's, which signs from now on");
        let moved = async |stage: &Stage, rotation: &Rotation| {
            let none = |id: &str| rotation.authorities.iter().all(|one| one.id != id || one.holders == 0);
            let mut all = none(old);
            for envoy in [&stage.client, &stage.server] {
                all = all && envoy.secrets().await?.chains_to(&[("OpenBao's root", &pem)]).is_ok();
            }
            Ok(all.then_some(()))
        };
        self.until("everybody to have moved", RENEWALS, moved).await?;
        self.summary.switch_seconds = start.elapsed().as_secs_f64();
        self.tell(&format!(
            "everybody has moved: no newest certificate is under {}, and OpenSSL finds the way from both Envoys' to {}",
            short(old),
            short(&new)
        ));
        Ok(new)
    }

    /// Many workloads ask while OpenBao has nothing to do with them.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn intermediate(&mut self) -> Outcome {
        let known = self.vault.certificates().await?;
        let served = self.crowd().await?;
        ensure(served.first.len() == 3, || format!("{} elements in a reply", served.first.len()))?;
        let after = self.vault.certificates().await?;
        ensure(after == known, || format!("OpenBao has {} certificates, and had {}", after.len(), known.len()))?;
        self.tell(&format!(
            "OpenBao knows {} certificates, its root and Signet's issuing CAs, and none of these: they are signed here",
            known.len()
        ));
        Ok(())
    }

    pub(super) async fn crowd(&mut self) -> Outcome<Served> {
        let served = crowd::served(&self.stage.dev, CROWD).await?;
        self.tell(&format!(
            "{CROWD} workloads had a certificate each after {:.1} s; OpenSSL has looked at one",
            served.took.as_secs_f64()
        ));
        Ok(served)
    }

    /// OpenBao is sealed for two renewals of each agent, and nobody notices.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn sealed(&mut self) -> Outcome {
        let (renewals, issued) = (Self::renewals(&self.stage).await?, self.issued().await?);
        self.vault.bao.seal().await?;
        let start = Instant::now();
        self.tell("OpenBao is sealed: it answers 503 to everything");
        self.vault_is("sealed").await?;
        self.tell("/readyz of the CA: still 200, with Vault degraded, since it is sealed");
        self.crowd().await?;
        let [client, server] = renewals;
        let twice = async |stage: &Stage, _: &Rotation| {
            let [now_client, now_server] = Self::renewals(stage).await?;
            Ok((now_client >= client + 2 && now_server >= server + 2).then_some(()))
        };
        self.until("two renewals of each agent", RENEWALS, twice).await?;
        let sealed = start.elapsed().as_secs_f64();
        let issued = self.issued().await?.saturating_sub(issued);
        self.vault.bao.unseal().await?;
        self.summary.sealed_seconds += sealed;
        self.tell(&format!(
            "both agents have renewed twice in the {sealed:.1} s; {issued} certificates were issued meanwhile"
        ));
        let start = Instant::now();
        self.vault_is("its token holds until").await?;
        self.tell(&format!(
            "OpenBao is unsealed, and {:.0} s later Signet is in touch with it by itself (it pauses between attempts)",
            start.elapsed().as_secs_f64()
        ));
        let active =
            async |_: &Stage, rotation: &Rotation| Ok(active_issuers(rotation).map(|one| one.id.clone()).next());
        let before = self.until("an issuing CA", SOON, active).await?;
        self.stage.ca.operator().done(&["authority", "rotate", "--issuing"])?;
        let another = async |_: &Stage, rotation: &Rotation| {
            Ok(active_issuers(rotation).map(|one| one.id.clone()).find(|id| *id != before))
        };
        let now = self.until("another issuing CA", SOON, another).await?;
        self.tell(&format!("signet-ca authority rotate --issuing: OpenBao has certified {}", short(&now)));
        self.summary.issued_intermediate_mode = self.issued().await?.saturating_sub(self.before);
        Ok(())
    }

    /// The old root leaves when nothing needs it any more.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn retired(&mut self, old: &str) -> Outcome {
        let gone = async |_: &Stage, rotation: &Rotation| {
            let roots = rotation.authorities.iter().filter(|one| is_root(one));
            Ok((is_settled(rotation) && roots.into_iter().all(|root| root.id != old)).then_some(()))
        };
        self.until("retirement of the old root", DRAIN, gone).await?;
        self.tell(&format!("the last certificate under {} has ended; it is in no bundle any more", short(old)));
        Ok(())
    }
}
