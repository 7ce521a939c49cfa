//! What a cluster publishes and signs in practice: keys nobody can use beside good ones, two issuers for a day, tokens made
//! for a century.

use std::time::Duration;

use serde_json::{Value, json};
use signet_tests::client::ask::Ask;
use signet_tests::client::certify::Client;
use signet_tests::client::csr;
use signet_tests::client::token::{ClusterKey, Token, now};
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::process::eventually;
use signet_tests::harness::{Ca, Dev};
use signet_tests::tools;
use tonic::Code;

/// The file is looked at every two seconds.
const WITHIN: Duration = Duration::from_secs(60);

/// Replaces the key set as a whole, as a mounted ConfigMap is.
fn publish(dev: &Dev, set: &Value) -> Outcome {
    let (new, old) = (dev.path("jwks.json.new"), dev.path("jwks.json"));
    std::fs::write(&new, set.to_string())
        .and_then(|()| std::fs::rename(&new, &old))
        .map_err(Failure::io("replace the keys"))
}

fn weak(kid: &str) -> Value {
    use base64::Engine as _;
    let modulus = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode([0xff; 128]);
    json!({ "kty": "RSA", "kid": kid, "n": modulus, "e": "AQAB" })
}

async fn gauges(ca: &Ca) -> Outcome<[i64; 3]> {
    let metrics = ca.metrics().await?;
    let names = ["signet_ca_token_keys", "signet_ca_token_keys_left_out", "signet_ca_token_key_sets_refused"];
    Ok(names.map(|name| metrics.sum(name, &[]) as i64))
}

#[tokio::test]
async fn keys_that_cannot_be_used_are_told_once_each_and_cost_the_others_nothing() -> Outcome {
    let dev = Dev::plain()?;
    let good: Value = serde_json::from_str(&dev.text("jwks.json")?).map_err(Failure::while_doing("read the keys"))?;
    let good = good["keys"][0].clone();
    let future = json!({ "kty": "AKP", "kid": "later", "alg": "ML-DSA-44", "pub": "AAAA" });
    publish(&dev, &json!({ "keys": [weak("small"), good, good] }))?;
    let checked = tools::run(&mut dev.ca_command(&["check"])?)?;
    let told = "clusters[0].tokens.file: key 0 (kid \"small\") is RSA of 1024 bits; use 2048 to 8192, and is left out";
    ensure(checked.contains(told), || checked.clone())?;
    let mut ca = dev.start_ca().await?;
    let client = Client::connect(&dev).await?;
    let ready = async |what: &'static str| {
        let (status, body) = signet_tests::harness::probe::fetch(dev.ops, "/readyz?output=json").await.ok()?;
        (status == 200 && body.contains(what)).then_some(())
    };
    let left_out = "1 key loaded, 1 left out: key 0 (kid \\\"small\\\") is RSA of 1024 bits; use 2048 to 8192";
    eventually("readiness to tell of the weak key", WITHIN, async || ready(left_out).await).await?;
    client.certificate(&dev, "client").await?;
    assert_eq!(gauges(&ca).await?, [1, 1, 0]);

    publish(&dev, &json!({ "keys": [weak("small"), future, good] }))?;
    eventually("readiness to tell of both", WITHIN, async || ready("1 key loaded, 2 left out").await).await?;
    client.certificate(&dev, "client").await?;

    publish(&dev, &json!({ "keys": [weak("small")] }))?;
    let all = "no key for verifying RS, PS or ES tokens: key 0 (kid \\\"small\\\") is RSA of 1024 bits";
    eventually("readiness to tell why the set is refused", WITHIN, async || ready(all).await).await?;
    assert_eq!(gauges(&ca).await?, [1, 2, 1]);
    client.certificate(&dev, "client").await?;

    publish(&dev, &json!({ "keys": [good] }))?;
    eventually("the good keys", WITHIN, async || ready("1 key loaded\"").await).await?;
    assert_eq!(gauges(&ca).await?, [1, 0, 0]);
    ca.process.stop().await?;
    let log = ca.process.log();
    let told = |key: &str| log.lines().filter(|line| line.contains("is left out") && line.contains(key)).count();
    ensure((told("small"), told("later")) == (1, 1), || log.clone())
}

#[tokio::test]
async fn tokens_of_each_listed_issuer_pass_and_of_no_other() -> Outcome {
    let dev = Dev::plain()?;
    let token = Token::read(&dev.token("client")?)?;
    let before = token.claims["iss"].clone();
    dev.edit("signet-ca.yaml", |config| {
        config["clusters"][0]["tokens"]["issuer"] = json!(["https://new.example", before]);
        Ok(())
    })?;
    let ca = dev.start_ca().await?;
    let (client, key) = (Client::connect(&dev).await?, ClusterKey::of(&dev)?);
    let csr = csr::like_ztunnel(None)?.csr;
    for (issuer, accepted) in
        [(before.clone(), true), (json!("https://new.example"), true), (json!("https://new.example/"), false)]
    {
        let mut token = token.clone();
        token.claims["iss"] = issuer.clone();
        let result = client.call(&Ask::new(&csr, &key.sign(&token)?)).await;
        ensure(result.is_ok() == accepted, || format!("{issuer}: {result:?}"))?;
    }
    ca.refused_for("issuer_mismatch").await
}

/// The details of the refusals for a reason, as the operator reads them.
fn details(ca: &Ca, reason: &str) -> Outcome<Vec<String>> {
    let events = ca.audit(&["--outcome", "refused"])?;
    let of_reason = events.iter().filter(|event| event["reason"] == reason);
    Ok(of_reason.map(|event| event["detail"].as_str().unwrap_or_default().to_owned()).collect())
}

#[tokio::test]
async fn a_token_is_believed_no_longer_than_a_renewed_one_lives() -> Outcome {
    const HOUR: i64 = 3600;
    const CENTURY: i64 = 100 * 365 * 24 * HOUR;
    let dev = Dev::plain()?;
    let ca = dev.start_ca().await?;
    let (client, key) = (Client::connect(&dev).await?, ClusterKey::of(&dev)?);
    let csr = csr::like_ztunnel(None)?.csr;
    // How long ago it was issued, for how long, and when it should have been replaced.
    for (age, life, warnafter, accepted) in [
        (23 * HOUR, CENTURY, None, true),
        (25 * HOUR, CENTURY, None, false),
        (HOUR / 2, 365 * 24 * HOUR, Some(HOUR + 7), true),
        (2 * HOUR, 365 * 24 * HOUR, Some(HOUR + 7), false),
    ] {
        let mut token = Token::read(&dev.token("client")?)?;
        let issued = now() - age;
        for (claim, at) in [("iat", issued), ("nbf", issued), ("exp", issued + life)] {
            token.claims[claim] = json!(at);
        }
        token.claims["kubernetes.io"]["warnafter"] = json!(warnafter.map(|after| issued + after));
        let result = client.call(&Ask::new(&csr, &key.sign(&token)?)).await;
        ensure(result.is_ok() == accepted, || format!("{age} s of {life} s, {warnafter:?}: {result:?}"))?;
    }
    ca.refused_for("token_too_old").await?;
    let told = details(&ca, "token_too_old")?.concat();
    ensure(told.contains("tokens.max_age") && told.contains("kubelet renews"), || told.clone())
}

#[tokio::test]
async fn clocks_may_differ_by_the_leeway_that_is_configured() -> Outcome {
    let dev = Dev::plain()?;
    let key = ClusterKey::of(&dev)?;
    let csr = csr::like_ztunnel(None)?.csr;
    for (leeway, accepted) in [(None, true), (Some("5s"), false)] {
        if let Some(leeway) = leeway {
            dev.edit("signet-ca.yaml", |config| {
                config["clusters"][0]["tokens"]["leeway"] = json!(leeway);
                Ok(())
            })?;
        }
        let mut ca = dev.start_ca().await?;
        let client = Client::connect(&dev).await?;
        let mut token = Token::read(&dev.token("client")?)?;
        token.claims["exp"] = json!(now() - 20);
        let result = client.call(&Ask::new(&csr, &key.sign(&token)?)).await;
        ensure(result.is_ok() == accepted, || format!("leeway {leeway:?}: {result:?}"))?;
        ca.process.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn the_holder_of_a_legacy_token_can_read_on_record_what_to_use_instead() -> Outcome {
    let dev = Dev::plain()?;
    let ca = dev.start_ca().await?;
    let (client, key) = (Client::connect(&dev).await?, ClusterKey::of(&dev)?);
    let mut token = Token::read(&dev.token("client")?)?;
    token.claims = json!({
        "iss": "kubernetes/serviceaccount",
        "kubernetes.io/serviceaccount/namespace": "default",
        "kubernetes.io/serviceaccount/secret.name": "client-token-x2x4v",
        "kubernetes.io/serviceaccount/service-account.name": "client",
        "kubernetes.io/serviceaccount/service-account.uid": "0f1c2d",
        "sub": "system:serviceaccount:default:client",
    });
    let ask = Ask::new(&csr::like_ztunnel(None)?.csr, &key.sign(&token)?);
    let message = client.refused(&ask, Code::Unauthenticated).await?;
    assert_eq!(message, "request authenticate failure");
    ca.refused_for("token_legacy").await?;
    let told = details(&ca, "token_legacy")?.concat();
    ensure(told.contains("projected service-account token with the audience"), || told.clone())
}
