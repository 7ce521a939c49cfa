//! Floods of refusals: few records that add up, a small log, and certificates for everybody else meanwhile.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use signet_tests::client::ask::Ask;
use signet_tests::client::bundle_stream::BundleStream;
use signet_tests::client::certify::Client;
use signet_tests::client::csr;
use signet_tests::client::token::{ClusterKey, Token, now};
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::ca::count;
use signet_tests::harness::process::eventually;
use signet_tests::harness::{Ca, Dev};
use signet_tests::stage::CLIENT_ID;
use signet_tests::tools;
use tokio::task::JoinSet;
use tonic::Code;

use super::facts;

/// Bad tokens that one address sends.
const FLOOD: usize = 3000;
/// Further addresses, more than have a row of their own, and the bad tokens of each.
const ADDRESSES: u8 = 80;
const EACH: usize = 20;
const SOON: Duration = Duration::from_secs(30);

/// A client with a source address of its own.
async fn from(dev: &Dev, source: IpAddr) -> Outcome<Client> {
    let endpoint = Client::endpoint(dev)?.local_address(Some(source));
    Ok(Client::over(endpoint.connect().await.map_err(Failure::while_doing("connect from another address"))?))
}

/// Sends bad tokens of three kinds, each of which must be refused.
async fn flood(client: &Client, csr: &str, tokens: &[String; 3], times: usize) -> Outcome {
    for token in tokens.iter().cycle().take(times) {
        client.refused(&Ask::new(csr, token), Code::Unauthenticated).await?;
    }
    Ok(())
}

/// Three tokens of which no signature is good.
fn unsigned(dev: &Dev) -> Outcome<[String; 3]> {
    let good = dev.token("client")?;
    let mut unknown = Token::read(&good)?;
    unknown.header["kid"] = json!("nobody");
    let (signed, _) = good.rsplit_once('.').ok_or_else(|| Failure::unexpected("no JWT"))?;
    Ok(["abc".to_owned(), ClusterKey::of(dev)?.sign(&unknown)?, format!("{signed}.AAAA")])
}

fn refusals(ca: &Ca, kind: &str) -> Outcome<Vec<Value>> {
    let events = ca.audit(&["--outcome", "refused"])?;
    Ok(events.into_iter().filter(|event| event["kind"] == kind).collect())
}

#[tokio::test]
async fn thousands_of_bad_tokens_leave_few_records_that_add_up_and_disturb_nobody() -> Outcome {
    let dev = Dev::plain()?;
    facts::without_limits(&dev)?;
    let mut ca = dev.start_ca().await?;
    let (csr, tokens) = (csr::like_ztunnel(None)?.csr, unsigned(&dev)?);
    let log_before = ca.process.log().len();

    // The well-behaved one asks from before the flood until after it.
    let over = Arc::new(AtomicBool::new(false));
    let (calm, ends) = (Client::connect(&dev).await?, Arc::clone(&over));
    let ask = Ask::new(&csr, &dev.token("client")?);
    let mut calm_task = JoinSet::new();
    calm_task.spawn(async move {
        let (mut asked, mut got) = (0_u32, 0_u32);
        while !ends.load(Ordering::SeqCst) {
            asked += 1;
            got += u32::from(calm.call(&ask).await.is_ok());
        }
        (asked, got)
    });
    let mut floods = JoinSet::new();
    for part in 0..4 {
        let (client, csr, tokens) = (Client::connect(&dev).await?, csr.clone(), tokens.clone());
        floods
            .spawn(async move { flood(&client, &csr, &tokens, FLOOD / 4).await.map_err(|no| format!("{part}: {no}")) });
    }
    for number in 1..=ADDRESSES {
        let source = IpAddr::V4(Ipv4Addr::new(127, 0, 1, number));
        let (client, csr, tokens) = (from(&dev, source).await?, csr.clone(), tokens.clone());
        floods.spawn(async move { flood(&client, &csr, &tokens, EACH).await.map_err(|no| format!("{source}: {no}")) });
    }
    while let Some(flooded) = floods.join_next().await {
        flooded.map_err(Failure::while_doing("flood"))?.map_err(Failure::unexpected)?;
    }
    over.store(true, Ordering::SeqCst);
    let (asked, got) = calm_task.join_next().await.unwrap().map_err(Failure::while_doing("ask calmly"))?;
    ensure(asked >= 10 && got * 10 >= asked * 9, || format!("{got} of {asked} certificates"))?;

    // Storage holds the first of each kind already; its numbers add up after a clean stop.
    let sent = FLOOD + usize::from(ADDRESSES) * EACH;
    let told = ca.refusals_add_up().await?;
    assert_eq!(told.values().sum::<u64>(), u64::try_from(sent).unwrap());
    assert_eq!(told.keys().collect::<Vec<_>>(), ["key_unknown", "signature_invalid", "token_malformed"]);
    let records = refusals(&ca, "certificate")?;
    // 64 rows of their own and one for all others of each reason, told at most twice here, or a few times when the
    // machine is slow.
    ensure(records.len() < 400, || format!("{} records of {sent} refusals", records.len()))?;
    let from_one = |event: &&Value| event["who"]["peer"] == "127.0.0.1" && event["reason"] == "key_unknown";
    let one: u64 = records.iter().filter(from_one).map(count).sum();
    ensure(one + 10 >= 1000, || format!("{one} of 1000 are told of the address that sent them"))?;
    let others =
        records.iter().filter(|event| event["who"].as_object().is_some_and(|who| who.values().all(Value::is_null)));
    ensure(others.map(count).sum::<u64>() > 0, || "nothing is told of all others".to_owned())?;
    let grown = ca.process.log().len() - log_before;
    ensure(grown < 200 * 1024, || format!("the log grew by {grown} bytes"))?;
    // The table for people says how often, also while the CA is down.
    let table = tools::run(
        dev.ca_command(&["audit", "list", "--outcome", "refused", "--limit", "1000"])?.arg("--output=table"),
    )?;
    ensure(table.contains(" since 20") && table.contains('×'), || table.clone())
}

#[tokio::test]
async fn what_a_good_signature_vouches_for_is_on_record_although_the_token_is_refused() -> Outcome {
    let dev = Dev::plain()?;
    let mut ca = dev.start_ca().await?;
    let client = Client::connect(&dev).await?;
    let (csr, key) = (csr::like_ztunnel(None)?.csr, ClusterKey::of(&dev)?);
    let token = Token::read(&dev.token("client")?)?;
    for (claim, value, reason) in [
        ("exp", json!(now() - 3600), "token_expired"),
        ("nbf", json!(now() + 3600), "token_not_yet_valid"),
        ("aud", json!(["vault"]), "audience_mismatch"),
        ("iss", json!("https://other.example"), "issuer_mismatch"),
    ] {
        let mut bent = token.clone();
        bent.claims[claim] = value;
        let ask = Ask::new(&csr, &key.sign(&bent)?);
        for _ in 0..3 {
            assert_eq!(client.refused(&ask, Code::Unauthenticated).await?, "request authenticate failure");
        }
        ca.refused_for(reason).await?;
        let events = ca.audit(&["--identity", CLIENT_ID, "--outcome", "refused"])?;
        let event = events.iter().find(|event| event["reason"] == reason);
        let who = &event.ok_or_else(|| Failure::unexpected(format!("{reason}: {events:?}")))?["who"];
        let kubernetes = &token.claims["kubernetes.io"];
        for (name, claim) in [
            ("namespace", "/namespace"),
            ("service_account", "/serviceaccount/name"),
            ("service_account_uid", "/serviceaccount/uid"),
            ("pod", "/pod/name"),
            ("pod_uid", "/pod/uid"),
            ("node", "/node/name"),
            ("node_uid", "/node/uid"),
        ] {
            let claimed = kubernetes.pointer(claim);
            ensure(claimed.is_some() && who.get(name) == claimed, || format!("{reason}: {name} is not in {who}"))?;
        }
        assert_eq!(who.get("auth_method"), Some(&Value::Null), "it proved nothing");
    }
    let told = ca.refusals_add_up().await?;
    ensure(told.len() == 4 && told.values().all(|times| *times == 3), || format!("{told:?}"))?;
    // Nothing of a token is in the log.
    let log = ca.process.log();
    let signed = key.sign(&token)?;
    ensure(signed.split('.').all(|part| !log.contains(part)), || "a part of a token is in the log".to_owned())
}

#[tokio::test]
async fn refused_bundle_streams_are_counted_and_recorded_in_the_same_way() -> Outcome {
    let dev = Dev::plain()?;
    let mut ca = dev.start_ca().await?;
    let mut bent = Token::read(&dev.token("client")?)?;
    bent.claims["exp"] = json!(now() - 3600);
    let expired = ClusterKey::of(&dev)?.sign(&bent)?;
    for _ in 0..20 {
        for token in ["abc", &expired] {
            let status = BundleStream::with_token(&dev, token).await.err().map(|status| status.code());
            assert_eq!(status, Some(Code::Unauthenticated));
        }
    }
    let both = async || (refusals(&ca, "bundle_stream").ok()?.len() >= 2).then_some(());
    eventually("the first of each kind on record", SOON, both).await?;
    let metrics = ca.metrics().await?;
    for reason in ["token_malformed", "token_expired"] {
        let counted = metrics.sum("signet_ca_bundle_streams_refused_total", &[&format!("reason=\"{reason}\"")]);
        assert!((counted - 20.0).abs() < 0.5, "{reason}: {counted}");
    }
    assert!(ca.process.stop().await?.success());
    let events = refusals(&ca, "bundle_stream")?;
    ensure(events.len() <= 6, || format!("{events:#?}"))?;
    for (reason, identity) in [("token_malformed", Value::Null), ("token_expired", json!(CLIENT_ID))] {
        let of: Vec<&Value> = events.iter().filter(|event| event["reason"] == reason).collect();
        assert_eq!(of.iter().copied().map(count).sum::<u64>(), 20, "{reason}: {of:#?}");
        ensure(of.iter().all(|event| event["who"]["spiffe_id"] == identity), || format!("{of:#?}"))?;
    }
    Ok(())
}
