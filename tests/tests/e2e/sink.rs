//! The file that the record is followed into: each event once, whatever happens to the CA that writes it.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use signet_tests::callers::Callers;
use signet_tests::failure::{Outcome, ensure};
use signet_tests::harness::process::eventually;
use signet_tests::harness::{Dev, probe};
use signet_tests::tools;

use super::facts;

const WITHIN: Duration = Duration::from_secs(60);
const KILLS: usize = 6;

/// Holds each line of a file against a schema.
const VALIDATE: &str = "
import json, sys, jsonschema
schema = json.load(open(sys.argv[1]))
jsonschema.Draft202012Validator.check_schema(schema)
validator = jsonschema.Draft202012Validator(schema)
for line in open(sys.argv[2]):
    validator.validate(json.loads(line))
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_again_and_again_the_ca_writes_each_event_once_and_in_order() -> Outcome {
    let dev = Dev::plain()?;
    facts::without_limits(&dev)?;
    let file = dev.path("record.jsonl");
    dev.set_ca("audit.sink_file", file.display().to_string())?;
    let mut ca = dev.start_ca().await?;
    let callers = Callers::start(&dev, 8)?;
    for _ in 0..KILLS {
        callers.receive(60, Duration::from_secs(180)).await?;
        ca.process.kill();
        ca = dev.start_ca().await?;
    }
    callers.receive(60, Duration::from_secs(180)).await?;
    let received = callers.stop().await;
    let last = ca.newest(&[])?["sequence"].as_u64().unwrap();
    let written = async || {
        let lines = ca.metrics().await.ok()?.sum("signet_ca_record_sink_events", &[]);
        let (_, body) = probe::fetch(dev.ops, "/readyz").await.ok()?;
        (lines > last as f64 && body.contains("every event on record is written")).then_some(())
    };
    eventually("every event in the file", WITHIN, written).await?;
    let text = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let sequences = lines.iter().filter_map(|line| line["sequence"].as_u64());
    ensure(sequences.eq(0..lines.len() as u64) && lines.len() as u64 > last, || format!("{} lines", lines.len()))?;
    let serials: Vec<&str> = lines.iter().filter_map(|line| line["what"]["serial"].as_str()).collect();
    for serial in &received.serials {
        let count = serials.iter().filter(|one| *one == serial).count();
        ensure(count == 1, || format!("{serial} is there {count} times"))?;
    }
    let schema = tools::source_root().join("docs/audit-event.schema.json");
    tools::run(Command::new(tools::python("jsonschema")?).args(["-c", VALIDATE]).arg(schema).arg(&file))?;
    // As everybody else is shown them.
    let mut shown = ca.audit(&["--outcome", "issued"])?;
    shown.reverse();
    let issued: Vec<&Value> = lines.iter().filter(|line| line["outcome"] == "issued").collect();
    ensure(issued.iter().copied().zip(&shown).all(|(line, event)| line == event), || "other events".to_owned())
}
