//! What the README tells people to paste.

use std::process::Command;
use std::time::Duration;

use signet_tests::failure::{Outcome, ensure};
use signet_tests::tools;

const WITHIN: Duration = Duration::from_secs(300);

#[test]
fn what_is_to_be_tried_by_hand_works_when_it_is_pasted_as_a_whole() -> Outcome {
    let page = include_str!("../../../README.md");
    let (_, after) = page.split_once("## By hand").unwrap();
    let block = after.split("```").nth(1).unwrap().strip_prefix("sh\n").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let programs = tools::own("signet-ca")?;
    let programs = programs.parent().unwrap().display();
    // The programs are built already, the usual ports may be taken, and a test has not the time of people.
    let script = block
        .replace("make quick && PATH=\"$PWD/target/quick:$PATH\"", &format!("PATH=\"{programs}:$PATH\""))
        .replace("/tmp/signet", &directory.path().join("s").display().to_string())
        .replace("--svid-ttl 1m", "--svid-ttl 20s --free-ports");
    let named =
        [&programs.to_string(), "--free-ports", "status --wait", "inspect --wait", "rotate --wait", "kill %1 %2"];
    assert!(named.iter().all(|part| script.contains(*part)), "{script}");
    // Whatever ends the script, nothing that it started stays behind.
    let script = format!("trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n{script}wait");
    let output = tools::output_within(Command::new("bash").args(["-e", "-c", &script]), WITHIN)?;
    let (said, log) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let told = ["ready", "spiffe://cluster.local/ns/default/sa/client", "issued", "done: "];
    let missing: Vec<_> = told.into_iter().filter(|word| !said.contains(word)).collect();
    ensure(output.status.success() && missing.is_empty(), || format!("{}: {missing:?}\n{said}\n{log}", output.status))?;
    ensure(log.contains(" INFO ") && !log.contains("{\"timestamp\""), || format!("logs are for people here:\n{log}"))
}
