//! Lifetimes: what is asked for, what is given, what is refused.

use signet_tests::client::ask::{A_DAY, Ask};
use signet_tests::client::certify::Client;
use signet_tests::client::csr;
use signet_tests::client::token::now;
use signet_tests::failure::{Outcome, ensure};
use signet_tests::harness::{Dev, DevOptions};
use tonic::Code;

use super::facts;

fn asked(dev: &Dev) -> Outcome<Ask> {
    Ok(Ask::new(&csr::like_ztunnel(None)?.csr, &dev.token("client")?))
}

#[tokio::test]
async fn lifetimes_are_given_as_asked_with_a_proportional_backdate() -> Outcome {
    let dev = Dev::plain()?;
    let _ca = dev.start_ca().await?;
    let client = Client::connect(&dev).await?;
    let ask = asked(&dev)?;
    for (wanted, seconds) in [(None, A_DAY), (Some(A_DAY), A_DAY), (Some(3600), 3600), (Some(60), 60), (Some(10), 10)] {
        let before = now();
        let reply = client.issued(&Ask { validity: wanted, ..ask.clone() }).await?;
        let after = now();
        let leaf = facts::of(&reply[0])?;
        let backdate = (seconds / 10).min(120);
        let end = leaf.not_after.unix_timestamp();
        let start = leaf.not_before.unix_timestamp();
        ensure((before + seconds - 1..=after + seconds + 1).contains(&end), || format!("{wanted:?}: ends at {end}"))?;
        let earliest = before - backdate - 1;
        ensure((earliest..=after - backdate + 1).contains(&start), || format!("{wanted:?}: starts at {start}"))?;
        let issued = end - seconds;
        ensure(start + (end - start) / 2 > issued, || format!("{wanted:?}: half-life is in the past"))?;
    }
    Ok(())
}

#[tokio::test]
async fn zero_negative_and_absurd_lifetimes_are_refused() -> Outcome {
    let dev = Dev::plain()?;
    dev.set_ca("svid.max_ttl", "90d")?;
    let mut ca = dev.start_ca().await?;
    let client = Client::connect(&dev).await?;
    let ask = asked(&dev)?;
    let max = 90 * A_DAY;
    for (seconds, reason) in [
        (0, "ttl_zero"),
        (-1, "ttl_negative"),
        (i64::MIN, "ttl_negative"),
        (max + 1, "ttl_too_long"),
        (i64::MAX / 1_000_000_000, "ttl_too_long"),
        (i64::MAX, "ttl_too_long"),
    ] {
        let told = client.refused(&ask.clone().for_seconds(seconds), Code::InvalidArgument).await?;
        ensure(told.contains("lifetime"), || format!("{seconds}: {told}"))?;
        ca.refused_for(reason).await?;
    }
    let told = ca.refusals_add_up().await?;
    let expected = [("ttl_negative", 2), ("ttl_too_long", 3), ("ttl_zero", 1)];
    assert_eq!(told, expected.into_iter().map(|(reason, times)| (reason.to_owned(), times)).collect());
    Ok(())
}

#[tokio::test]
async fn no_certificate_outlives_its_issuer() -> Outcome {
    let dev = Dev::plain()?;
    dev.set_ca("svid.max_ttl", "90d")?;
    let _ca = dev.start_ca().await?;
    let client = Client::connect(&dev).await?;
    // The maximum is longer than the life of the issuing CA.
    let reply = client.issued(&asked(&dev)?.for_seconds(90 * A_DAY)).await?;
    ensure(reply.len() >= 3, || format!("no issuing CA in a reply of {} elements", reply.len()))?;
    let ends: Vec<_> = reply.iter().map(|pem| facts::of(pem).map(|facts| facts.not_after)).collect::<Result<_, _>>()?;
    ensure(ends.is_sorted(), || format!("a certificate outlives its issuer: {ends:?}"))?;
    ensure(ends[0] == ends[1], || format!("the leaf is not cut at its issuer's end: {ends:?}"))
}

#[tokio::test]
async fn a_short_lived_issuing_ca_is_renewed_before_it_cuts_leaves_short() -> Outcome {
    let dev = Dev::init(&DevOptions { svid_ttl: Some("8s".into()), ..DevOptions::default() })?;
    // Another authority, with the short life set below.
    dev.forget_authority()?;
    facts::without_limits(&dev)?;
    // Replaced at half of its life: 16 s are left then for leaves of 8 s, since a busy machine may be late.
    dev.set_ca("authority.issuing_ttl", "32s")?;
    dev.set_ca("serving.ttl", "16s")?;
    let mut ca = dev.start_ca().await?;
    let roots = signet_tests::tools::run(&mut dev.ca_command(&["bundle", "show", "--output", "pem"])?)?;
    std::fs::write(dev.path("root-cert.pem"), &roots).unwrap();
    let client = Client::connect(&dev).await?;
    let ask = asked(&dev)?;
    let mut issuers = std::collections::BTreeSet::new();
    let within = std::time::Duration::from_secs(120);
    ca.process
        .until("three issuing CAs", within, async || {
            let reply = client.call(&ask).await.expect("a certificate at any time");
            let (leaf, issuer) = (facts::of(&reply[0]).unwrap(), facts::of(&reply[1]).unwrap());
            let life = (leaf.not_after - leaf.not_before).whole_seconds();
            assert!(life >= 8, "a leaf was cut to {life} s");
            assert_eq!(reply.last(), Some(&roots), "the bundle changed");
            issuers.insert(issuer.serial);
            (issuers.len() >= 3).then_some(())
        })
        .await
}
