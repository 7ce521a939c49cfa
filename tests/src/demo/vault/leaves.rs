//! The acts of the Vault demo in which OpenBao signs each leaf.

use std::time::{Duration, Instant};

use serde_json::Value;
use signet_proto::admin::v1alpha1::Rotation;
use signet_proto::agent::v1alpha1::Identity;
use tonic::Code;

use super::acts::{Acts, RENEWALS, SOON};
use crate::client::ask::Ask;
use crate::client::certify::Client;
use crate::client::{csr, keys};
use crate::demo::narrator::short;
use crate::failure::{Outcome, ensure};
use crate::harness::{probe, yaml};
use crate::stage::Stage;
use crate::tools;

/// How long certificates live that are to outlast an OpenBao that is sealed until they are due, and what follows: both
/// agents and the CA pause between attempts.
const LIFE: &str = "2m";
/// Until they are due, and have been asked for in vain.
const DUE: Duration = Duration::from_secs(100);

impl Acts<'_> {
    /// From issuing CAs to leaves, under the same root: a restart, and no rotation.
    ///
    /// # Errors
    /// [`Failure`](crate::failure::Failure).
    pub async fn leaf(&mut self, root: &str) -> Outcome {
        self.vault.signs_leaves(&self.stage.dev)?;
        self.tell("deploy/vault/setup-leaf.sh has made roles for leaves, and an AppRole that may sign by these and do nothing else");
        tools::run(&mut self.stage.ca.command(&["check", "--connect"], &[])?)?;
        self.tell("signet-ca check --connect finds nothing wrong with mode: leaf");
        let pem = self.vault.root().await?;
        self.restart().await?;
        self.tell("restarted with mode: leaf");
        let direct = async |stage: &Stage, _: &Rotation| {
            let mut all = true;
            for envoy in [&stage.client, &stage.server] {
                let secrets = envoy.secrets().await?;
                all = all && keys::split(&secrets.chain).len() == 1 && secrets.chains_to(&[("the root", &pem)]).is_ok();
            }
            Ok(all.then_some(()))
        };
        self.until("leaves of OpenBao's in both proxies", RENEWALS, direct).await?;
        self.tell(&format!(
            "both Envoys have leaves that OpenBao's root {} has signed itself, at their usual renewal",
            short(root)
        ));
        let served = self.crowd().await?;
        ensure(served.first.len() == 2, || format!("{} elements in a reply", served.first.len()))?;
        let intended = self.stage.ca.audit(&["--outcome", "intended"])?;
        let intended = intended.iter().filter(|event| event["kind"] == "certificate").count();
        ensure(intended >= served.serials.len(), || format!("{intended} intentions on record"))?;
        self.tell(&format!(
            "{intended} intentions are on record, one before each leaf, and what came of each behind it"
        ));
        self.summary.issued_leaf_mode = self.issued().await?;
        Ok(())
    }

    /// OpenBao is sealed until both agents have tried to renew in vain: they keep what they have.
    ///
    /// # Errors
    /// [`Failure`](crate::failure::Failure).
    pub async fn sealed_leaf(&mut self) -> Outcome {
        for name in ["client", "server"] {
            self.stage.dev.edit(&format!("agent-{name}.yaml"), |config| {
                yaml::set(config, "svid.ttl", LIFE)?;
                yaml::set(config, "renewal.retry_max", "2s")
            })?;
        }
        self.stage.client_agent.process.stop().await?;
        self.stage.client_agent = self.stage.dev.start_agent("client").await?;
        self.stage.server_agent.process.stop().await?;
        self.stage.server_agent = self.stage.dev.start_agent("server").await?;
        let before = identities(&self.stage).await?;
        self.tell(&format!(
            "both agents are restarted with svid.ttl: {LIFE}, so that there is something left when they are late"
        ));
        self.vault.bao.seal().await?;
        let start = Instant::now();
        self.tell("OpenBao is sealed");
        let ops = self.stage.dev.ops;
        let said = async |_: &Stage, _: &Rotation| {
            let (status, body) = probe::fetch(ops, "/readyz?output=json").await?;
            let readiness: Value = serde_json::from_str(&body).unwrap_or_default();
            Ok((status == 503 && readiness.to_string().contains("nothing can be issued")).then_some(()))
        };
        self.until("an unready CA", SOON, said).await?;
        self.tell("/readyz of the CA: 503, nothing can be issued");
        let ask = Ask::new(&csr::like_ztunnel(None)?.csr, &self.stage.dev.token("client")?);
        Client::connect(&self.stage.dev).await?.refused(&ask, Code::Unavailable).await?;
        self.tell("whoever asks now is told UNAVAILABLE, and asks again later");
        let late = async |stage: &Stage, _: &Rotation| {
            let now = identities(stage).await?;
            let same = now.iter().zip(&before).all(|(now, before)| now.serial == before.serial);
            ensure(same, || "a certificate was replaced while nothing could be issued".to_owned())?;
            Ok(now.iter().all(|one| one.failures_in_a_row >= 2).then_some(now))
        };
        let late = self.until("renewals in vain", DUE, late).await?;
        let sealed = start.elapsed().as_secs_f64();
        self.summary.sealed_seconds += sealed;
        self.vault.bao.unseal().await?;
        let failures: Vec<String> = late.iter().map(|one| one.failures_in_a_row.to_string()).collect();
        self.tell(&format!(
            "after {sealed:.1} s both agents were due and have asked in vain ({} times), and serve the certificates that they have",
            failures.join(" and ")
        ));
        let start = Instant::now();
        let renewed = async |stage: &Stage, _: &Rotation| {
            let now = identities(stage).await?;
            Ok(now.iter().zip(&before).all(|(now, before)| now.serial != before.serial).then_some(()))
        };
        self.until("renewals", SOON, renewed).await?;
        self.tell(&format!(
            "OpenBao is unsealed; {:.0} s later both had new certificates",
            start.elapsed().as_secs_f64()
        ));
        self.summary.issued_leaf_mode = self.issued().await?;
        Ok(())
    }
}

async fn identities(stage: &Stage) -> Outcome<[Identity; 2]> {
    Ok([stage.client_agent.identity().await?, stage.server_agent.identity().await?])
}
