//! What was issued and refused is on record, and can be found.

use serde_json::Value;
use signet_core::clock::rfc3339;
use signet_tests::client::ask::Ask;
use signet_tests::client::certify::Client;
use signet_tests::failure::{Outcome, ensure};
use signet_tests::harness::{Ca, Dev};
use signet_tests::stage::{CLIENT_ID, SERVER_ID};
use signet_tests::tools;

use super::facts;

/// Three certificates of the client, two of the server, one refusal. Gives the client's replies.
async fn history(dev: &Dev, ca: &Ca) -> Outcome<Vec<Vec<String>>> {
    let client = Client::connect(dev).await?;
    let mut replies = Vec::new();
    for _ in 0..3 {
        replies.push(client.certificate(dev, "client").await?);
    }
    for _ in 0..2 {
        client.certificate(dev, "server").await?;
    }
    client.call(&Ask::new("no csr", &dev.token("client")?)).await.expect_err("refused");
    ca.refused_for("csr_not_pem").await?;
    Ok(replies)
}

fn workloads(ca: &Ca, filters: &[&str]) -> Outcome<Vec<Value>> {
    Ok(ca.audit(filters)?.into_iter().filter(|event| event["kind"] == "certificate").collect())
}

#[tokio::test]
async fn issued_and_refused_requests_are_on_record_with_who_what_and_why() -> Outcome {
    let dev = Dev::plain()?;
    let ca = dev.start_ca().await?;
    let replies = history(&dev, &ca).await?;
    let event = ca.newest(&["--serial", &facts::serial(&replies[0][0])?])?;
    let leaf = facts::of(&replies[0][0])?;
    assert_eq!(event["outcome"], "issued");
    assert_eq!(event["who"]["spiffe_id"], CLIENT_ID);
    assert_eq!(event["who"]["namespace"], "default");
    assert_eq!(event["who"]["service_account"], "client");
    assert_eq!(event["who"]["cluster"], "Kubernetes");
    assert_eq!(event["who"]["auth_method"], "jwks");
    for key in ["service_account_uid", "pod", "pod_uid", "node", "peer"] {
        ensure(event["who"][key].as_str().is_some_and(|text| !text.is_empty()), || format!("no {key} in {event}"))?;
    }
    assert_eq!(event["what"]["not_before"], rfc3339(leaf.not_before));
    assert_eq!(event["what"]["not_after"], rfc3339(leaf.not_after));
    let hash: String = signet_core::digest::key_hash(&leaf.spki_der).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(event["what"]["key_hash"], hash);
    ensure(event["request_id"].as_str().is_some_and(|id| id.len() >= 16), || format!("no request id in {event}"))?;
    ensure(ca.process.log().contains(event["request_id"].as_str().unwrap()) || event["outcome"] == "issued", || {
        "the request id is not in the log".to_owned()
    })?;
    let refusal = ca.newest(&["--outcome", "refused"])?;
    assert_eq!(refusal["who"]["spiffe_id"], CLIENT_ID);
    let id = refusal["request_id"].as_str().unwrap();
    ensure(ca.process.log().contains(id), || format!("the refusal {id} is not in the log"))
}

#[tokio::test]
async fn each_filter_finds_exactly_what_it_says() -> Outcome {
    let dev = Dev::plain()?;
    let ca = dev.start_ca().await?;
    let replies = history(&dev, &ca).await?;
    let serial = facts::serial(&replies[1][0])?;
    let cases: [(&[&str], usize); 9] = [
        (&[], 6),
        (&["--identity", CLIENT_ID], 4),
        (&["--identity", CLIENT_ID, "--outcome", "issued"], 3),
        (&["--identity", SERVER_ID], 2),
        (&["--identity", "spiffe://cluster.local/ns/default/sa/nobody"], 0),
        (&["--outcome", "refused"], 1),
        (&["--serial", &serial], 1),
        (&["--since", "10m"], 6),
        (&["--since", "2099-01-01T00:00:00Z"], 0),
    ];
    for (filters, expected) in cases {
        let found = workloads(&ca, filters)?;
        ensure(found.len() == expected, || format!("{filters:?} finds {} and not {expected}: {found:?}", found.len()))?;
    }
    Ok(())
}

#[tokio::test]
async fn pages_join_without_gap_or_repetition_while_events_are_added() -> Outcome {
    let dev = Dev::plain()?;
    let ca = dev.start_ca().await?;
    history(&dev, &ca).await?;
    let mut paged = Vec::new();
    let mut next: Option<String> = None;
    loop {
        let mut args = vec!["audit", "list", "--limit", "2"];
        args.extend(next.iter().flat_map(|next| ["--page", next]));
        let page = ca.ask(&args)?;
        paged.extend(page["events"].as_array().unwrap().iter().filter_map(|event| event["sequence"].as_u64()));
        Client::connect(&dev).await?.certificate(&dev, "server").await?;
        match page["next_page"].as_str() {
            Some(more) => next = Some(more.to_owned()),
            None => break,
        }
    }
    // What was added since the first page is not in the pages after it.
    let all = ca.audit(&[])?;
    let sequences = all.iter().filter_map(|event| event["sequence"].as_u64());
    let all: Vec<u64> = sequences.filter(|sequence| paged.first().is_some_and(|newest| sequence <= newest)).collect();
    assert_eq!(paged, all);
    ensure(all.windows(2).all(|pair| pair[0] == pair[1] + 1), || format!("sequence numbers have gaps: {all:?}"))
}

#[tokio::test]
async fn the_table_is_for_people_and_wrong_filters_are_usage_errors() -> Outcome {
    let dev = Dev::plain()?;
    let ca = dev.start_ca().await?;
    history(&dev, &ca).await?;
    let table = tools::run(dev.ca_command(&["audit", "list"])?.arg("--output=table"))?;
    ensure(table.contains(CLIENT_ID) && table.contains("csr_not_pem"), || table.clone())?;
    drop(ca);
    // The record is readable while the CA is down.
    let table_again = tools::run(&mut dev.ca_command(&["audit", "list"])?)?;
    ensure(table_again.contains(SERVER_ID), || table_again.clone())?;
    for wrong in
        [["--outcome", "maybe"], ["--since", "yesterday"], ["--serial", "xyz"], ["--limit", "0"], ["--page", "-1"]]
    {
        let output = tools::output(dev.ca_command(&["audit", "list"])?.args(wrong))?;
        ensure(output.status.code() == Some(2), || format!("{wrong:?} ended with {}", output.status))?;
        ensure(!output.stderr.is_empty(), || format!("{wrong:?} is not explained"))?;
    }
    Ok(())
}
