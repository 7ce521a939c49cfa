//! A clock set back: the CA says so and signs nothing that nobody could use; and what was made while it was ahead is made
//! again.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use signet_core::clock::{Clock as _, SystemClock, rfc3339};
use signet_core::time_math;
use signet_tests::client::admin::is_root;
use signet_tests::client::ask::Ask;
use signet_tests::client::certify::Client;
use signet_tests::client::csr;
use signet_tests::client::token::{ClusterKey, Token, now};
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::process::eventually;
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
    let start = rfc3339(time_math::before(SystemClock.now(), Duration::from_secs(1800)));
    let wrong = events.iter().filter(|event| event["at"].as_str().unwrap_or_default() < start.as_str()).count();
    ensure(wrong == 0, || format!("{wrong} certificates were issued in the past"))
}

#[tokio::test]
async fn a_clock_that_was_ahead_at_the_start_and_is_set_right_stops_nobody_for_longer_than_seconds() -> Outcome {
    // Of the latter an issuing CA is made that starts in the future too.
    for ahead in ["+2d", "+16d"] {
        let dev = Dev::plain()?;
        let offset = dev.path("clock");
        std::fs::write(&offset, ahead).map_err(Failure::io("set a clock"))?;
        let mut ca = Ca::start_command(&dev, follow(dev.ca_command(&["serve"])?, &offset)?)?;
        ca.ready().await?;
        ensure(Client::connect(&dev).await.is_err(), || "a certificate from the future is accepted".to_owned())?;
        let new = offset.with_extension("new");
        std::fs::write(&new, "+0").and_then(|()| std::fs::rename(&new, &offset)).map_err(Failure::io("set a clock"))?;
        let works = async || {
            let client = Client::connect(&dev).await.ok()?;
            client.certificate(&dev, "client").await.ok()
        };
        ca.process.until("a certificate", Duration::from_secs(30), works).await?;
        ca.ready().await?;
        drop(ca);
        // And what it has left behind stops no later start.
        let _ca = dev.start_ca().await?;
        Client::connect(&dev).await?.certificate(&dev, "client").await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_first_root_from_the_future_is_told_with_what_to_do() -> Outcome {
    let dev = Dev::plain()?;
    dev.forget_authority()?;
    dev.make_authority_with(at(dev.ca_command(&["init"])?, "+2d")?)?;
    let mut ca = Ca::start_command(&dev, at(dev.ca_command(&["serve"])?, "+2d")?)?;
    ca.ready().await?;
    drop(ca);
    let mut ca = Ca::start(&dev)?;
    let said = async || {
        let (status, body) = probe::fetch(dev.ops, "/readyz").await.ok()?;
        (status == 503 && body.contains("starts only at") && body.contains("authority rotate")).then_some(())
    };
    ca.process.until("the root in the readiness", Duration::from_secs(60), said).await?;
    ca.operator().rotate()?;
    let admin = ca.admin()?;
    let newest = async || {
        let rotation = admin.rotation().await.ok()?;
        let roots = rotation.authorities.iter().filter(|one| is_root(one));
        roots.max_by_key(|root| root.generation).filter(|root| root.generation > 1).map(|root| root.id.clone())
    };
    let id = eventually("a prepared root", Duration::from_secs(60), newest).await?;
    ca.operator().done(&["authority", "activate", &id, "--force", "--reason", "the clock was ahead"])?;
    ca.ready().await
}
