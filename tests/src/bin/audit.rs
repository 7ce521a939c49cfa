//! `make demo-audit`: a CA is killed again and again while it issues; what clients received is on record all the same, and
//! whoever changes the record is found out. On SQLite and on PostgreSQL. `--short` kills it less often.
#![allow(clippy::arithmetic_side_effects, reason = "times here are near, and a panic is a failed test")]

use std::process::ExitCode;

use serde_json::Value;
use signet_tests::demo::audit::acts::Acts;
use signet_tests::demo::audit::summary::Summary;
use signet_tests::demo::narrator::Narrator;
use signet_tests::demo::until_interrupted;
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::database::Store;
use signet_tests::harness::{Dev, DevOptions};

/// How often the CA is killed on each storage.
const KILLS: usize = 20;
const FEWER: usize = 5;

#[tokio::main]
async fn main() -> ExitCode {
    until_interrupted("demo-audit", demo()).await
}

async fn demo() -> Outcome {
    let kills = match std::env::args().nth(1).as_deref() {
        None => KILLS,
        Some("--short") => FEWER,
        Some(other) => return Err(Failure::unexpected(format!("{other}: the only option is --short"))),
    };
    let narrator = Narrator::default();
    let mut summary = Summary::default();
    let mut result = Ok(());
    for (store, name) in [(Store::Sqlite, "SQLite"), (Store::Postgres, "PostgreSQL")] {
        summary.storages += 1;
        narrator.chapter(&format!("{name}: the CA is killed {kills} times while it issues"));
        result = play(store, kills, &narrator, &mut summary).await;
        if result.is_err() {
            break;
        }
    }
    let path = summary.write()?;
    narrator.chapter("The outcome");
    summary.tell(&narrator);
    narrator.tell(&format!("every process is stopped; the same for programs is in {}", path.display()));
    result?;
    summary.judge()
}

async fn play(store: Store, kills: usize, narrator: &Narrator, summary: &mut Summary) -> Outcome {
    let dev = Dev::init(&DevOptions { store: Some(store), ..DevOptions::default() })?;
    for key in ["limits.per_identity.per_second", "limits.per_identity.burst"] {
        dev.set_ca(key, 1_000_000)?;
    }
    for key in ["limits.per_peer.per_second", "limits.per_peer.burst"] {
        dev.set_ca(key, 1_000_000)?;
    }
    let mut acts = Acts { dev: &dev, narrator, summary };
    let mut ca = acts.kill(kills).await?;
    let key = acts.covered(&ca).await?;

    narrator.chapter("An auditor asks");
    acts.ask("What verifies the signatures of the record?", &["audit", "key"])?;
    acts.ask("What was issued last?", &["audit", "list", "--outcome", "issued", "--limit", "3"])?;
    acts.ask("What changed in trust, and who did it?", &["audit", "list", "--outcome", "done", "--limit", "3"])?;
    acts.ask("Is the record what was signed?", &["audit", "verify", "--key", &key])?;
    let newest = ca.newest(&["--outcome", "issued"])?;
    ensure(ca.process.stop().await?.success(), || ca.process.log())?;
    let sequence = newest.get("sequence").and_then(Value::as_u64);
    let sequence = sequence.ok_or_else(|| Failure::unexpected(newest.to_string()))?;
    acts.change_a_byte(&key, sequence)?;

    narrator.chapter("Retention removes the words of what operators did");
    acts.forget(&key, newest.pointer("/what/serial").and_then(Value::as_str).unwrap_or_default()).await
}
