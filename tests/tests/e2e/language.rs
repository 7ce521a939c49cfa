//! What both programs print, in one language: tables that fit the terminal and cut nothing off, and JSON in which the same
//! thing has the same name and form everywhere.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use signet_tests::client::certify::Client;
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::dev::DevOptions;
use signet_tests::harness::process::eventually;
use signet_tests::harness::{Agent, Ca, Dev};
use signet_tests::tools;

const WITHIN: Duration = Duration::from_secs(60);

/// Commands of the CA that answer with a table.
const ANSWERS: [&[&str]; 5] =
    [&["status"], &["authority", "list"], &["holders", "list"], &["audit", "list"], &["bundle", "show"]];

/// Those that are lists, and what is listed in their JSON.
const LISTS: [(&[&str], &str); 4] = [
    (&["authority", "list"], "authorities"),
    (&["holders", "list"], "holders"),
    (&["audit", "list"], "events"),
    (&["bundle", "show"], "roots"),
];

/// An account as long as Kubernetes lets it be.
fn long_account() -> String {
    format!("{}-end", "a".repeat(249))
}

/// A CA and an agent, with certificates for an account of an ordinary name and one of a very long one.
async fn mesh() -> Outcome<(Dev, Ca, Agent)> {
    let workloads = vec!["client=default/client".to_owned(), format!("long=default/{}", long_account())];
    let dev = Dev::init(&DevOptions { workloads, ..DevOptions::default() })?;
    let ca = dev.start_ca().await?;
    let client = Client::connect(&dev).await?;
    for name in ["client", "long"] {
        client.certificate(&dev, name).await?;
    }
    let mut agent = dev.start_agent("long").await?;
    agent.ready().await?;
    let acknowledged = async || {
        let behind = ca.ask(&["holders", "list", "--behind"]).ok()?;
        behind["holders"].as_array().is_some_and(Vec::is_empty).then_some(())
    };
    eventually("the acknowledgement of the bundle", WITHIN, acknowledged).await?;
    Ok((dev, ca, agent))
}

fn widest(text: &str) -> usize {
    text.lines().map(|line| line.chars().count()).max().unwrap_or_default()
}

fn count_of(text: &str, letter: char) -> usize {
    text.chars().filter(|c| *c == letter).count()
}

#[tokio::test]
async fn tables_fit_the_terminal_and_cut_nothing_off_whatever_the_length_of_a_name() -> Outcome {
    let (dev, ca, _agent) = mesh().await?;
    let long = long_account();
    for form in ["table", "wide"] {
        for args in ANSWERS {
            let run = |columns: Option<&str>| -> Outcome<String> {
                let mut command = ca.command(args, &["-o", form])?;
                command.env_remove("COLUMNS").envs(columns.map(|columns| ("COLUMNS", columns)));
                tools::run(&mut command)
            };
            // On a pipe a row is a line, and only those with the long name are long.
            let piped = run(None)?;
            let named = piped.lines().filter(|line| line.contains(&long)).count();
            if form == "table" {
                let long_lines = piped.lines().filter(|line| line.chars().count() > 250).count();
                ensure(long_lines == named, || {
                    format!("{args:?}: {long_lines} long lines, {named} long rows\n{piped}")
                })?;
            }
            for columns in [60, 80, 200] {
                let text = run(Some(&columns.to_string()))?;
                ensure(widest(&text) <= columns, || format!("{args:?} -o {form} at {columns}:\n{text}"))?;
                // Each name is there as often as on a pipe, in pieces perhaps.
                let (found, expected) = (count_of(&text, 'a'), count_of(&piped, 'a'));
                ensure(named == 0 || found.abs_diff(expected) < 200, || {
                    format!("{args:?} -o {form} at {columns}: {found} letters of {expected}\n{text}")
                })?;
            }
        }
        let mut inspect = dev.agent_command("long", &["inspect", "-o", form])?;
        let text = tools::run(inspect.env("COLUMNS", "60"))?;
        ensure(widest(&text) <= 60 && count_of(&text, 'a') > 249, || text.clone())?;
    }
    Ok(())
}

#[tokio::test]
async fn a_terminal_tells_how_wide_it_is() -> Outcome {
    let (dev, ca, _agent) = mesh().await?;
    let list = ca.command(&["holders", "list"], &[])?;
    let line: Vec<_> =
        std::iter::once(list.get_program()).chain(list.get_args()).map(|part| part.to_string_lossy()).collect();
    let (seen, line) = (dev.path("terminal"), format!("stty cols 70; {}", line.join(" ")));
    let mut script = Command::new(tools::system("script", "--version", "bsdutils")?);
    tools::run(script.args(["--quiet", "--return", "--command", &line]).arg(&seen).env("COLUMNS", "200"))?;
    let text = std::fs::read_to_string(&seen).map_err(Failure::io("read what was shown"))?;
    let shown: Vec<&str> = text.lines().filter(|line| !line.starts_with("Script ")).collect();
    let widest = shown.iter().map(|line| line.trim_end().chars().count()).max().unwrap_or_default();
    ensure((50..=70).contains(&widest) && text.contains("spiffe://"), || format!("{widest} columns:\n{text}"))
}

/// Calls `seen` with each field of the document and its name.
fn each_field<'a>(document: &'a Value, seen: &mut impl FnMut(&'a str, &'a Value)) {
    match document {
        Value::Object(fields) => {
            for (name, value) in fields {
                seen(name, value);
                each_field(value, seen);
            }
        }
        Value::Array(entries) => entries.iter().for_each(|entry| each_field(entry, seen)),
        _ => {}
    }
}

/// What is wrong with the form of a field.
fn wrong_form(name: &str, value: &Value) -> Option<String> {
    let plain = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    let is_time = matches!(name, "at" | "since" | "not_before" | "not_after" | "needed_until" | "leaving_since")
        || name.ends_with("_at");
    let time = |text: &str| text.len() == 20 && text.ends_with('Z') && text.get(10..11) == Some("T");
    let is_id = matches!(name, "root" | "key_id" | "authority_key_id" | "authority");
    let id = |text: &str| text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    match value {
        _ if !plain => Some(format!("{name} is not in snake_case")),
        Value::Null => None,
        Value::String(text) if is_time => (!time(text)).then(|| format!("{name} is no time: {text}")),
        Value::String(text) if is_id => (!id(text)).then(|| format!("{name} is no whole id: {text}")),
        Value::String(text) if text.is_empty() && name != "request_id" && name != "detail" => {
            Some(format!("{name} is empty instead of null"))
        }
        _ if is_time => Some(format!("{name} is no time: {value}")),
        _ => None,
    }
}

#[tokio::test]
async fn json_says_the_same_thing_in_the_same_way_in_all_commands() -> Outcome {
    let (dev, ca, _agent) = mesh().await?;
    let mut documents: Vec<(String, Value)> = Vec::new();
    for args in ANSWERS {
        documents.push((args.join(" "), ca.ask(args)?));
    }
    let inspect = tools::run(&mut dev.agent_command("long", &["inspect", "-o", "json"])?)?;
    let read = |text: &str| serde_json::from_str::<Value>(text).map_err(Failure::while_doing("read JSON"));
    documents.push(("inspect".to_owned(), read(&inspect)?));
    let mut fetch = dev.agent_command("client", &["fetch", "-o", "json"])?;
    documents.push(("fetch".to_owned(), read(&tools::run(fetch.arg("--dir").arg(dev.path("files")))?)?));
    for (command, document) in &documents {
        let mut wrong = Vec::new();
        each_field(document, &mut |name, value| wrong.extend(wrong_form(name, value)));
        ensure(wrong.is_empty(), || format!("{command}: {wrong:?}"))?;
    }
    // The same certificate, told by the agent, by the list of holders and by the record.
    let [status, authorities, holders, events, bundle, inspect, _] = documents.as_slice() else {
        return Err(Failure::unexpected("another number of documents"));
    };
    let held = &inspect.1["identities"][0];
    let of = |list: &Value| list.as_array().into_iter().flatten().find(|one| one["serial"] == held["serial"]).cloned();
    let holder = of(&holders.1["holders"]).ok_or_else(|| Failure::unexpected("the agent is no holder"))?;
    let event = events.1["events"].as_array().into_iter().flatten().find(|one| one["what"]["serial"] == held["serial"]);
    let event = event.ok_or_else(|| Failure::unexpected("the certificate is not on record"))?;
    assert_eq!([&holder["spiffe_id"], &event["who"]["spiffe_id"]], [&held["spiffe_id"]; 2]);
    assert_eq!([&holder["not_after"], &event["what"]["not_after"]], [&held["not_after"]; 2]);
    assert_eq!(holder["authority"], event["what"]["authority"]);
    for told in [&status.1, &authorities.1, &bundle.1, &holder, &authorities.1["coverage"]] {
        assert_eq!(told["bundle_sequence"], held["bundle_sequence"], "{told}");
    }
    assert_eq!(bundle.1["roots"][0]["id"], status.1["serving"]["root"]);
    Ok(())
}

#[tokio::test]
async fn lists_are_printed_as_lines_and_in_pages_in_one_way() -> Outcome {
    let (_dev, ca, _agent) = mesh().await?;
    let lines = |args: &[&str], more: &[&str]| -> Outcome<(Vec<Value>, String)> {
        let output = tools::output(&mut ca.command(args, &[&["-o", "jsonl"], more].concat())?)?;
        let text = String::from_utf8_lossy(&output.stdout);
        let lines = text.lines().map(serde_json::from_str).collect::<Result<_, _>>();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        Ok((lines.map_err(Failure::while_doing("read JSON"))?, said))
    };
    for (args, name) in LISTS {
        let document = ca.ask(args)?;
        let (found, said) = lines(args, &[])?;
        assert_eq!(document[name].as_array(), Some(&found), "{args:?}");
        ensure(said.is_empty(), || said.clone())?;
    }
    for args in [&["holders", "list"][..], &["audit", "list"]] {
        let (mut seen, mut next) = (BTreeSet::new(), None::<String>);
        let all = lines(args, &[])?.0.len();
        loop {
            let page: Vec<&str> = next.iter().flat_map(|next| ["--page", next.as_str()]).collect();
            let (found, said) = lines(args, &[&["--limit", "1"], page.as_slice()].concat())?;
            ensure(found.len() == 1, || format!("{args:?} {page:?}: {found:?}"))?;
            seen.insert(found[0].to_string());
            match said.trim_end().strip_prefix("more: the same with --page ") {
                Some(more) => next = Some(more.to_owned()),
                None => break,
            }
        }
        assert_eq!(seen.len(), all, "{args:?}");
    }
    Ok(())
}
