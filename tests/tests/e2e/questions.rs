//! The questions that docs/audit.md has commands for: each is asked as it stands there, and its answer is the right one.

use std::collections::BTreeMap;

use serde_json::Value;
use signet_tests::client::ask::Ask;
use signet_tests::client::certify::Client;
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::{Ca, Dev};
use signet_tests::stage::{CLIENT_ID, SERVER_ID};
use signet_tests::tools;

use super::facts;

/// The commands of the table, by their questions.
fn documented() -> Vec<(&'static str, &'static str)> {
    let page = include_str!("../../../docs/audit.md");
    let section = page.split("\n## ").find(|section| section.starts_with("Questions\n")).unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| ") && line.contains("`signet-ca "));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        (cells[1], cells[2].trim_matches('`'))
    })
    .collect()
}

/// Asks a documented question, with names in the place of words in capitals.
fn ask(ca: &Ca, command: &str, names: &BTreeMap<&str, String>) -> Outcome<Value> {
    let mut words: Vec<String> = command.split_whitespace().skip(1).map(str::to_owned).collect();
    // Another form would win over that of programs.
    if let Some(at) = words.iter().position(|word| word == "-o") {
        words.drain(at..at + 2);
    }
    for word in &mut words {
        let capitals = word.split('/').find(|part| names.contains_key(part)).map(str::to_owned);
        if let Some(name) = capitals {
            *word = word.replace(&name, &names[name.as_str()]);
        }
    }
    ca.ask(&words.iter().map(String::as_str).collect::<Vec<_>>())
}

fn text(value: &Value, path: &str) -> String {
    value.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// Positions of events, whichever command has found them.
fn found(answer: &Value) -> Vec<u64> {
    let list = ["events", "certificates"].iter().find_map(|name| answer[*name].as_array());
    list.map(|all| all.iter().filter_map(|event| event["sequence"].as_u64()).collect()).unwrap_or_default()
}

#[tokio::test]
async fn each_documented_question_has_the_right_answer() -> Outcome {
    let dev = Dev::plain()?;
    let ca = dev.start_ca().await?;
    let client = Client::connect(&dev).await?;
    let mut replies = Vec::new();
    for _ in 0..3 {
        replies.push(client.certificate(&dev, "client").await?);
    }
    client.certificate(&dev, "server").await?;
    client.call(&Ask::new("no csr", &dev.token("client")?)).await.expect_err("refused");
    ca.refused_for("csr_not_pem").await?;

    // The whole record, as it is without a filter.
    let all = ca.audit(&[])?;
    let serial = facts::serial(&replies[1][0])?;
    let one = all.iter().find(|event| text(event, "/what/serial") == serial).unwrap();
    let der = facts::of(&replies[1][0])?;
    let key_hash: String =
        signet_core::digest::key_hash(&der.spki_der).iter().map(|byte| format!("{byte:02x}")).collect();
    let names = BTreeMap::from([
        ("SPIFFE_ID", CLIENT_ID.to_owned()),
        ("AUTHORITY", text(one, "/what/authority")[..8].to_owned()),
        ("NODE", text(one, "/who/node")),
        ("NAMESPACE", "default".to_owned()),
        ("POD", text(one, "/who/pod")),
        ("CLUSTER", text(one, "/who/cluster")),
        ("REASON", "csr_not_pem".to_owned()),
        ("KEY_HASH", key_hash),
        ("SERIAL", serial.clone()),
        ("SIX_DIGITS", serial[..6].to_owned()),
        ("FINGERPRINT", text(one, "/what/fingerprint")),
        ("REQUEST_ID", text(one, "/request_id")),
        ("SEQUENCE", one["sequence"].to_string()),
    ]);
    let (node, pod, cluster) = (names["NODE"].clone(), names["POD"].clone(), names["CLUSTER"].clone());
    let authority = text(one, "/what/authority");
    let issued = |event: &Value| event["outcome"] == "issued";
    type Holds<'a> = Box<dyn Fn(&Value) -> bool + 'a>;
    let answers: Vec<(&str, Holds<'_>)> = vec![
        ("who holds", Box::new(|event| issued(event) && text(event, "/who/spiffe_id") == CLIENT_ID)),
        ("everything issued", Box::new(|event| issued(event) && text(event, "/what/authority") == authority)),
        ("what node", Box::new(|event| text(event, "/who/node") == node)),
        ("what pod", Box::new(|event| text(event, "/who/pod") == pod)),
        ("what cluster", Box::new(|event| text(event, "/who/cluster") == cluster)),
        ("who was refused, and", Box::new(|event| event["outcome"] == "refused")),
        ("who was refused for", Box::new(|event| event["reason"] == "csr_not_pem")),
        ("what expires", Box::new(|_| false)),
        ("what changed", Box::new(|event| event["kind"] == "authority")),
        ("what was configured", Box::new(|event| event["kind"] == "configuration")),
        ("when the CA logged in", Box::new(|event| event["kind"] == "backend")),
        ("what operators", Box::new(|event| event["kind"] == "admin")),
        ("what was certified", Box::new(|event| event == one)),
        ("who still uses that", Box::new(|event| event == one)),
        ("who still uses a", Box::new(|event| issued(event) && text(event, "/what/authority") == authority)),
        ("what was got", Box::new(|_| false)),
        (
            "whose certificate this is, by its first",
            Box::new(|event| text(event, "/what/serial").starts_with(&serial[..6])),
        ),
        ("whose certificate this is, by its SHA", Box::new(|event| event == one)),
        ("one certificate", Box::new(|_| false)),
        ("everything in", Box::new(|event| [CLIENT_ID, SERVER_ID].contains(&text(event, "/who/spiffe_id").as_str()))),
        ("what became", Box::new(|event| event == one)),
        ("all that", Box::new(|event| event == one)),
    ];
    let documented = documented();
    assert_eq!(documented.len(), answers.len());
    for ((question, command), (begin, holds)) in documented.into_iter().zip(answers) {
        ensure(question.starts_with(begin), || format!("{question} is not {begin}"))?;
        let answer = ask(&ca, command, &names)?;
        match begin {
            "one certificate" => {
                assert_eq!(text(&answer, "/certificate/what/serial"), serial);
                let later = facts::serial(&replies[2][0])?;
                assert_eq!((text(&answer, "/renewal/what/serial"), &answer["revoked"]), (later, &Value::Null));
            }
            // Certificates of these CAs last for longer, but for those of some minutes.
            "what expires" => {
                let all = answer["certificates"].as_array().cloned().unwrap_or_default();
                ensure(all.iter().all(issued), || answer.to_string())?;
            }
            _ => {
                let expected: Vec<u64> =
                    all.iter().filter(|event| holds(event)).filter_map(|event| event["sequence"].as_u64()).collect();
                ensure(found(&answer) == expected, || format!("{command}: {:?}, not {expected:?}", found(&answer)))?;
            }
        }
    }
    Ok(())
}

/// As people see it, and where a revoked certificate is told of.
#[tokio::test]
async fn certificates_are_listed_and_shown_for_people_with_what_became_of_them() -> Outcome {
    let dev = Dev::plain()?;
    let ca = dev.start_ca().await?;
    let client = Client::connect(&dev).await?;
    let serial = facts::serial(&client.certificate(&dev, "client").await?[0])?;
    tools::run(&mut ca.command(&["certificate", "revoke", "--serial", &serial, "--reason", "superseded"], &[])?)?;
    let table = tools::run(&mut ca.command(&["certificate", "list", "--identity", CLIENT_ID], &[])?)?;
    ensure(table.contains("revoked") && table.contains(CLIENT_ID), || table.clone())?;
    let shown = tools::run(&mut ca.command(&["certificate", "show", &serial[..12]], &[])?)?;
    for words in ["who.pod", "not renewed", "(superseded)"] {
        ensure(shown.contains(words), || shown.clone())?;
    }
    let event = tools::run(&mut ca.command(&["audit", "show", "0"], &[])?)?;
    ensure(event.contains("outcome"), || event.clone())?;
    for (args, code) in [
        (["certificate", "show", "123456"], 1),
        (["certificate", "show", "12345"], 2),
        (["audit", "show", "99999999"], 1),
        (["audit", "show", "nobody"], 1),
    ] {
        let output = tools::output(&mut dev.ca_command(&args)?)?;
        ensure(output.status.code() == Some(code), || format!("{args:?} ended with {}", output.status))?;
    }
    let wrong = tools::output(dev.ca_command(&["certificate", "list"])?.args(["--authority", "00"]))?;
    ensure(wrong.status.code() == Some(2), || Failure::unexpected(wrong.status.to_string()).to_string())
}
