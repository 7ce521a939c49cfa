//! A clock set back: the CA says so and signs nothing that nobody could use.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use signet_tests::client::ask::Ask;
use signet_tests::client::certify::Client;
use signet_tests::client::csr;
use signet_tests::client::token::{ClusterKey, Token, now};
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::{Ca, Dev, probe};
use tonic::Code;

/// The library that gives one process another clock.
fn faketime() -> Outcome<&'static str> {
    ["/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1", "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1"]
        .into_iter()
        .find(|path| Path::new(path).exists())
        .ok_or_else(|| Failure::ToolMissing { tool: "libfaketime".into(), install: "apt-get install faketime".into() })
}

/// The command with its clock off by so much.
pub(crate) fn at(mut command: Command, offset: &str) -> Outcome<Command> {
    command.env("LD_PRELOAD", faketime()?).env("FAKETIME", offset).env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    Ok(command)
}

/// The command with its clock off by what the file says at any time.
pub(crate) fn follow(mut command: Command, file: &Path) -> Outcome<Command> {
    command.env("LD_PRELOAD", faketime()?).env("FAKETIME_TIMESTAMP_FILE", file).env("FAKETIME_NO_CACHE", "1");
    command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    Ok(command)
}

#[tokio::test]
async fn with_its_clock_an_hour_back_the_ca_signs_nothing_and_says_why() -> Outcome {
    let dev = Dev::plain()?;
    // Everything is in order once.
    let ca = dev.start_ca().await?;
    Client::connect(&dev).await?.certificate(&dev, "client").await?;
    drop(ca);
    let mut ca = Ca::start_command(&dev, at(dev.ca_command(&["serve"])?, "-1h")?)?;
    let said = async || {
        let (status, body) = probe::fetch(dev.ops, "/readyz").await.ok()?;
        (status == 503 && body.contains("clock")).then_some(())
    };
    ca.process.until("the clock in the readiness", Duration::from_secs(60), said).await?;
    // If it serves at all, it answers with a code that is retried.
    let mut token = Token::read(&dev.token("client")?)?;
    for claim in ["iat", "nbf"] {
        token.claims[claim] = (now() - 7200).into();
    }
    let ask = Ask::new(&csr::like_ztunnel(None)?.csr, &ClusterKey::of(&dev)?.sign(&token)?);
    if let Ok(client) = Client::connect(&dev).await {
        client.refused(&ask, Code::Unavailable).await?;
    }
    drop(ca);
    let ca = dev.start_ca().await?;
    Client::connect(&dev).await?.certificate(&dev, "client").await?;
    let events = ca.audit(&["--outcome", "issued"])?;
    let wrong =
        events.iter().filter(|event| event["at_micros"].as_i64().unwrap_or(0) < (now() - 1800) * 1_000_000).count();
    ensure(wrong == 0, || format!("{wrong} certificates were issued in the past"))
}
