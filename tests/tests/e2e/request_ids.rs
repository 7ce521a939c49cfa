//! Whoever gets no certificate is told a request id, and by that the record is asked why.

use serde_json::Value;
use signet_tests::client::ask::Ask;
use signet_tests::client::certify::Client;
use signet_tests::client::csr;
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::Dev;
use signet_tests::stage::SERVER_ID;
use tonic::Code;

#[tokio::test]
async fn the_id_of_an_error_finds_the_event_or_the_one_that_counts_it_and_there_is_none_where_nothing_is_on_record()
-> Outcome {
    let dev = Dev::plain()?;
    dev.set_ca("limits.per_identity.per_second", 1)?;
    dev.set_ca("limits.per_identity.burst", 40)?;
    let mut ca = dev.start_ca().await?;
    let client = Client::connect(&dev).await?;
    let (good, token) = (csr::like_ztunnel(None)?.csr, dev.token("client")?);
    let others = csr::like_ztunnel(Some(SERVER_ID))?.csr;
    let ask = || Ask::new(&good, &token);
    let cases = [
        ("token_missing", Ask { authorization: Vec::new(), ..ask() }),
        ("token_malformed", Ask::new(&good, "abc")),
        ("signature_invalid", Ask::new(&good, &format!("{}AAAA", token.trim_end_matches(|c| c != '.')))),
        ("cluster_unknown", Ask { cluster: vec!["nowhere".to_owned()], ..ask() }),
        ("csr_not_pem", Ask::new("hello", &token)),
        ("csr_names_not_allowed", Ask::new(&others, &token)),
        ("ttl_zero", ask().for_seconds(0)),
        ("ttl_too_long", ask().for_seconds(i64::MAX)),
        ("impersonation_not_configured", Ask::like_ztunnel(&good, &token, SERVER_ID)),
    ];
    let mut told = Vec::new();
    // The first of a kind has an event of its own, and the others of the next minute have one together.
    for (reason, ask) in cases.iter().chain(&cases).chain(&cases) {
        let Err(status) = client.call(ask).await else { return Err(Failure::unexpected(format!("{reason}: issued"))) };
        let id = status.metadata().get("x-request-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
        told.push((*reason, id.ok_or_else(|| Failure::unexpected(format!("{reason}: no id: {status}")))?));
    }
    // Over a limit nothing is on record, and nothing to be found.
    let limited = loop {
        match client.call(&ask()).await {
            Err(status) if status.code() == Code::ResourceExhausted => break status,
            _ => {}
        }
    };
    ensure(limited.metadata().get("x-request-id").is_none(), || format!("{limited:?}"))?;
    ca.process.stop().await?;
    for (reason, id) in &told {
        let shown = ca.ask(&["audit", "show", id])?;
        let events = shown["events"].as_array().cloned().unwrap_or_default();
        let is_right = |event: &Value| event["reason"] == *reason && event["request_id"] == *id;
        ensure(!events.is_empty() && events.iter().all(is_right), || format!("{reason} {id}: {events:?}"))?;
    }
    let ids = |wanted: &str| told.iter().filter(|(reason, _)| *reason == wanted).map(|(_, id)| id).collect::<Vec<_>>();
    let [first, second, third] = ids("ttl_zero")[..] else { return Err(Failure::unexpected("three were refused")) };
    ensure(first != second && second == third, || format!("{told:?}"))
}
