//! What somebody meets who uses the programs for the first time, with wrong input too: what is told is true, says what is
//! wrong, and is told at once.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::limits::may_mount;
use signet_tests::harness::process::eventually;
use signet_tests::harness::{Ca, Dev, yaml};
use signet_tests::stage::CLIENT_ID;
use signet_tests::tools;

const WITHIN: Duration = Duration::from_secs(30);

fn ended(command: &mut Command, code: i32, words: &[&str]) -> Outcome<Output> {
    let output = tools::output(command)?;
    let text = String::from_utf8_lossy(&output.stderr);
    let missing: Vec<_> = words.iter().filter(|word| !text.contains(**word)).collect();
    ensure(output.status.code() == Some(code) && missing.is_empty(), || {
        format!("{command:?} ended with {}, without {missing:?}:\n{text}", output.status)
    })?;
    Ok(output)
}

fn bare(program: &str) -> Outcome<Command> {
    Ok(Command::new(tools::own(program)?))
}

#[test]
fn a_program_without_a_command_says_what_is_missing_as_errors_do() -> Outcome {
    for (program, args) in [("signet-ca", &[][..]), ("signet-agent", &[]), ("signet-ca", &["authority"])] {
        let begin = format!("{program}: a command is missing");
        let output = ended(bare(program)?.args(args), 2, &[&begin, "Usage:"])?;
        ensure(output.stderr.starts_with(begin.as_bytes()) && output.stdout.is_empty(), || format!("{output:?}"))?;
    }
    Ok(())
}

/// The help of a program and of all of its commands, as far as they are not those of everybody.
fn helps(program: &str, path: &[String], found: &mut Vec<(String, String)>) -> Outcome {
    let text = tools::run(bare(program)?.args(path).arg("--help").env("COLUMNS", "60"))?;
    let commands = text.split("Commands:\n").nth(1).and_then(|rest| rest.split("\n\n").next()).unwrap_or_default();
    // Names stand two columns from the left, what is said of them further on.
    let names = commands.lines().filter_map(|line| line.strip_prefix("  ").filter(|rest| !rest.starts_with(' ')));
    for name in names.filter_map(|line| line.split(' ').next()).filter(|name| *name != "help") {
        helps(program, &[path, &[name.to_owned()]].concat(), found)?;
    }
    found.push((format!("{program} {}", path.join(" ")), text));
    Ok(())
}

#[test]
fn help_fits_sixty_columns() -> Outcome {
    let mut found = Vec::new();
    for program in ["signet-ca", "signet-agent"] {
        helps(program, &[], &mut found)?;
    }
    ensure(found.len() > 30, || format!("{} pages", found.len()))?;
    for (command, text) in found {
        let wide: Vec<&str> = text.lines().filter(|line| line.chars().count() > 60).collect();
        ensure(wide.is_empty(), || format!("{command}: {wide:#?}"))?;
    }
    Ok(())
}

#[test]
fn the_other_programs_file_is_told_from_a_wrong_one_and_each_mistake_by_its_line() -> Outcome {
    let dev = Dev::plain()?;
    for (program, file, other) in [
        ("signet-ca", "agent-client.yaml", "this looks like the configuration of signet-agent"),
        ("signet-agent", "signet-ca.yaml", "this looks like the configuration of signet-ca"),
    ] {
        let output = ended(bare(program)?.args(["check", "--config"]).arg(dev.path(file)), 2, &[other])?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure(text.lines().all(|line| line.starts_with(&format!("{program}: "))), || text.clone())?;
        let at = |line: &str| line.split(&format!("{file}:")).nth(1)?.split(':').next()?.parse::<u32>().ok();
        let lines: Vec<u32> = text.lines().filter_map(at).collect();
        ensure(lines.len() > 3 && lines.is_sorted(), || format!("{lines:?}\n{text}"))?;
        // The same for programs.
        let mut json = bare(program)?;
        let output = ended(json.args(["check", "-o", "json", "--config"]).arg(dev.path(file)), 2, &[])?;
        let answer: Value = serde_json::from_slice(&output.stdout).map_err(Failure::while_doing("read JSON"))?;
        assert_eq!(answer["problems"].as_array().map(Vec::len), Some(text.lines().count()));
    }
    let order = tools::run(dev.ca_command(&["check"])?.args(["-o", "json"]))?;
    let order: Value = serde_json::from_str(&order).map_err(Failure::while_doing("read JSON"))?;
    ensure(order["problems"] == serde_json::json!([]) && order["not_looked_at"][0].is_string(), || order.to_string())
}

#[tokio::test]
async fn a_page_that_nobody_has_told_of_is_none() -> Outcome {
    let dev = Dev::plain()?;
    let ca = dev.start_ca().await?;
    for token in ["99999", "0"] {
        ended(&mut ca.command(&["audit", "list", "--page", token], &[])?, 2, &["--page: there is no page"])?;
    }
    let first = ca.ask(&["audit", "list", "--limit", "1"])?;
    let next = first["next_page"].as_str().unwrap_or_default().to_owned();
    let second = ca.ask(&["audit", "list", "--limit", "1", "--page", &next])?;
    ensure(second["events"] != first["events"], || format!("{first} {second}"))?;
    // A start is a sentence for people, and everything for programs.
    let text = tools::run(&mut ca.command(&["audit", "list"], &[])?)?;
    ensure(text.contains("the CA started") && !text.contains("trust_domain"), || text.clone())?;
    let events = ca.audit(&[])?;
    let started = events.iter().find(|event| event["kind"] == "configuration");
    let whole = started.and_then(|event| event["detail"].as_str()).unwrap_or_default();
    ensure(whole.contains("\"trust_domain\""), || whole.to_owned())?;
    ensure(events.iter().all(|event| event.get("repeated").is_some()), || "a field is left out".to_owned())
}

#[tokio::test]
async fn what_waiting_does_not_mend_ends_a_fetch_at_once() -> Outcome {
    let dev = Dev::plain()?;
    let fetch = |dir: &str| -> Outcome<Command> {
        let mut command = dev.agent_command("client", &["fetch", "--timeout", "59s"])?;
        command.arg("--dir").arg(dev.path(dir));
        Ok(command)
    };
    // No CA answers: whoever asked first would say so after the whole time, with another code.
    std::fs::write(dev.path("occupied"), "").unwrap();
    ended(&mut fetch("occupied/files")?, 1, &["cannot be written", "occupied is not a directory"])?;
    let token = dev.path("tokens/client.jwt");
    std::fs::write(&token, "two words").unwrap();
    ended(&mut fetch("files")?, 1, &["holds something else than one token"])?;
    std::fs::remove_file(&token).unwrap();
    std::fs::create_dir(&token).unwrap();
    ended(&mut fetch("files")?, 1, &["is not a regular file"])?;
    ensure(!dev.path("files").exists(), || "a directory was made for nothing".to_owned())
}

async fn holders(ca: &Ca, count: usize) -> Outcome<Vec<Value>> {
    let found = async || {
        let list = ca.ask(&["holders", "list"]).ok()?;
        list["holders"].as_array().filter(|list| list.len() == count).cloned()
    };
    eventually("that many holders", WITHIN, found).await
}

#[tokio::test]
async fn files_that_were_fetched_in_a_pod_are_a_holder_beside_its_agent() -> Outcome {
    let dev = Dev::plain()?;
    let ca = dev.start_ca().await?;
    let _agent = dev.start_agent("client").await?;
    holders(&ca, 1).await?;
    let fetch = |dir: &str| -> Outcome<Value> {
        let mut command = dev.agent_command("client", &["fetch", "-o", "json"])?;
        let told = tools::run(command.arg("--dir").arg(dev.path(dir)))?;
        serde_json::from_str(&told).map_err(Failure::while_doing("read the answer"))
    };
    fetch("files")?;
    holders(&ca, 2).await?;
    // In the same place they take the place of those before, in another one they do not.
    let newest = fetch("files")?;
    let found = holders(&ca, 2).await?;
    let of = |serial: &Value| found.iter().any(|holder| holder["serial"] == *serial);
    ensure(of(&newest["serial"]), || format!("{newest} is not among {found:?}"))?;
    ensure(found.iter().all(|holder| holder["pod"].is_string() && holder["spiffe_id"] == CLIENT_ID), || {
        format!("the test wants a token that is bound to a pod: {found:?}")
    })?;
    fetch("other")?;
    holders(&ca, 3).await.map(drop)
}

#[tokio::test]
async fn whoever_shows_a_certificate_of_his_own_is_a_stranger_once_and_is_told_so() -> Outcome {
    let dev = Dev::plain()?;
    dev.set_ca("admins", serde_json::json!([CLIENT_ID]))?;
    let ca = dev.start_ca().await?;
    let [cert, key] = ["own.pem", "own.key"].map(|name| dev.path(name));
    let mut make = Command::new(tools::openssl()?);
    make.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=me"]);
    tools::run(make.arg("-keyout").arg(&key).arg("-out").arg(&cert))?;
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let address = format!("https://localhost:{}", dev.listen.port());
    let commands: [&[&str]; 4] = [&["status"], &["authority", "list"], &["holders", "list"], &["authority", "prepare"]];
    for (index, args) in commands.iter().enumerate() {
        let mut command = bare("signet-ca")?;
        command.args(*args).args(["--address", &address, "--cert"]).arg(&cert).arg("--key").arg(&key);
        command.arg("--ca").arg(dev.path("root-cert.pem"));
        let words = ["it does not accept the certificate of --cert, which chains to no root of this CA"];
        let output = ended(&mut command, 1, &words)?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure(!text.contains("may have done it"), || format!("{args:?}: {text}"))?;
        let metrics = ca.metrics().await?;
        let refused = |reason: &str| {
            metrics.sum("signet_ca_client_certificates_refused_total", &[&format!("reason=\"{reason}\"")]) as usize
        };
        assert_eq!((refused("unknown_issuer"), refused("invalid")), (index + 1, 0), "{args:?}");
    }
    let log = ca.process.log();
    ensure(log.contains("it chains to no root of the trust bundle") && !log.contains("OtherError"), || log.clone())
}

#[tokio::test]
async fn each_word_of_an_operator_about_a_certificate_is_on_record() -> Outcome {
    let dev = Dev::plain()?;
    let ca = dev.start_ca().await?;
    let agent = dev.start_agent("client").await?;
    let serial = agent.identity().await?.serial;
    let revoke = ["certificate", "revoke", "--serial", serial.as_str(), "--reason", "superseded"];
    for _ in 0..2 {
        tools::run(&mut ca.command(&revoke, &[])?)?;
    }
    let unknown = "0".repeat(32);
    ended(
        &mut ca.command(&["certificate", "revoke", "--serial", &unknown, "--reason", "superseded"], &[])?,
        1,
        &["no certificate with the serial"],
    )?;
    let said: Vec<String> = ca
        .audit(&[])?
        .iter()
        .filter(|event| event["kind"] == "admin")
        .map(|event| format!("{} {}", event["outcome"], event["detail"]))
        .collect();
    for words in ["superseded", "nothing to do: it is on the revocation list already", "is on record"] {
        ensure(said.iter().any(|text| text.contains(words)), || format!("{words}: {said:#?}"))?;
    }
    // Of the commands that find nothing to do, each says why.
    for (args, words) in [
        (["authority", "resume", "--reason", "x"], "no agent has shown a newer trust bundle"),
        (["authority", "adopt", "--reason", "x"], "are those that were adopted last"),
    ] {
        let text = tools::run(&mut ca.command(&args, &[])?)?;
        ensure(text.contains(words), || text.clone())?;
    }
    Ok(())
}

/// Nobody.
const STRANGER: &str = "65534";

#[test]
fn whoever_may_not_read_a_file_is_told_whose_it_is() -> Outcome {
    if !may_mount() {
        tools::complain("NOT RUN: only root can run a command as another user");
        return Ok(());
    }
    let dev = Dev::on_file()?;
    let open = tempfile::Builder::new().prefix("signet-").tempdir_in("/tmp").unwrap();
    let at = |name: &str| open.path().join(name);
    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(Failure::io("open a path"))
    };
    mode(open.path(), 0o755)?;
    for program in ["signet-ca", "signet-agent"] {
        std::fs::copy(tools::own(program)?, at(program)).map_err(Failure::io("copy a program"))?;
        mode(&at(program), 0o755)?;
    }
    let storage = at("signet.db");
    for name in ["signet.db", "token"] {
        std::fs::write(at(name), "").unwrap();
        mode(&at(name), 0o600)?;
    }
    let setpriv = tools::system("setpriv", "--version", "util-linux")?;
    let run = |program: &str, args: &[&str], config: &str| {
        let mut command = Command::new(&setpriv);
        command.args(["--reuid", STRANGER, "--regid", STRANGER, "--clear-groups"]).arg(at(program)).args(args);
        command.arg("--config").arg(at(config));
        command
    };
    let copied = |name: &str| -> Outcome { yaml::write(&at(name), &yaml::read(&dev.path(name))?) };
    // In a directory that is closed, and in one that is open.
    let whose = format!("uid {STRANGER} may not use {}", dev.directory().display());
    copied("signet-ca.yaml")?;
    for args in [&["check"][..], &["audit", "list"]] {
        let output = tools::output(&mut run("signet-ca", args, "signet-ca.yaml"))?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure(text.contains(&whose) && text.contains("mode 0700") && !text.contains("does not exist"), || {
            text.clone()
        })?;
    }
    dev.set_ca("storage", format!("sqlite://{}", storage.display()))?;
    copied("signet-ca.yaml")?;
    let whose = format!("it ({}) belongs to uid 0 and gid 0, mode 0600", storage.display());
    for args in [&["check"][..], &["audit", "list"]] {
        let output = tools::output(&mut run("signet-ca", args, "signet-ca.yaml"))?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure(text.contains(&whose) && !text.contains("storage: storage"), || text.clone())?;
    }
    dev.edit("agent-client.yaml", |config| yaml::set(config, "token_file", at("token").display().to_string()))?;
    copied("agent-client.yaml")?;
    let whose = format!("uid {STRANGER} may not");
    let words = [whose.as_str(), "it belongs to uid 0 and gid 0, mode 0600"];
    let dir = format!("/tmp/signet-nobody-{}", std::process::id());
    let output =
        ended(&mut run("signet-agent", &["fetch", "--timeout", "59s", "--dir", &dir], "agent-client.yaml"), 1, &words)?;
    ensure(output.stdout.is_empty() && !Path::new(&dir).exists(), || format!("{output:?}"))
}
