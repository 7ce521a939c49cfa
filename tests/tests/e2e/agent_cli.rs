//! The agent's commands, and what it does with what it cannot use.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use serde_json::Value;
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::process::eventually;
use signet_tests::harness::{Agent, Dev, yaml};
use signet_tests::judge::Case;
use signet_tests::stage::CLIENT_ID;
use signet_tests::tools;

use super::facts;

const WITHIN: Duration = Duration::from_secs(60);

#[tokio::test]
async fn fetch_writes_a_matching_set_with_a_private_key_of_its_own() -> Outcome {
    let dev = Dev::plain()?;
    let _ca = dev.start_ca().await?;
    let out = dev.path("files");
    let fetch = || -> Outcome<Vec<(String, String)>> {
        tools::run(dev.agent_command("client", &["fetch"])?.arg("--dir").arg(&out))?;
        let mut files: Vec<_> = std::fs::read_dir(&out)
            .map_err(Failure::io("list the files"))?
            .flatten()
            // Generations of the set, and the link to the current one.
            .filter(|entry| !entry.file_name().to_string_lossy().starts_with(".."))
            .map(|entry| {
                let text = std::fs::read_to_string(entry.path()).unwrap();
                (entry.file_name().to_string_lossy().into_owned(), text)
            })
            .collect();
        files.sort();
        Ok(files)
    };
    let first = fetch()?;
    let names: Vec<_> = first.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["cert-chain.pem", "key.pem", "root-cert.pem"]);
    let [(_, chain), (_, key), (_, roots)] = first.clone().try_into().unwrap();
    assert_eq!(std::fs::metadata(out.join("key.pem")).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(roots, dev.text("root-cert.pem")?);
    assert_eq!(facts::of(&chain)?.uris, [CLIENT_ID]);
    let split = chain.find("-----END CERTIFICATE-----\n").unwrap() + "-----END CERTIFICATE-----\n".len();
    let (leaf, rest) = chain.split_at(split);
    let case = Case::new(&[leaf.to_owned(), rest.to_owned(), roots])?;
    case.verifies_for("sslclient")?;
    let key_file = dev.path("judged.key");
    std::fs::write(&key_file, key).unwrap();
    let public =
        tools::run(std::process::Command::new(tools::openssl()?).args(["pkey", "-pubout", "-in"]).arg(&key_file))?;
    assert_eq!(public, case.public_key()?, "key and certificate belong together");
    let second = fetch()?;
    ensure(first != second && second.len() == 3, || "a second fetch does not replace the set".to_owned())?;
    let generations = std::fs::read_dir(&out).unwrap().flatten();
    let old = generations.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).count();
    // The one before stays for readers that have just opened it.
    ensure(old <= 2, || format!("{old} sets are kept"))
}

#[tokio::test]
async fn the_page_about_fetch_shows_what_works_and_names_every_option() -> Outcome {
    let page = include_str!("../../../docs/fetch.md");
    let dev = Dev::plain()?;
    let _ca = dev.start_ca().await?;
    let example = page.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let programs = tools::own("signet-agent")?;
    let path = format!("{}:{}", programs.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let mut shell = std::process::Command::new("sh");
    shell.args(["-e", "-c", &example.replace("/tmp/signet", &dev.path("").display().to_string())]).env("PATH", path);
    let said = tools::run(&mut shell)?;
    ensure(said.contains(CLIENT_ID) && said.contains("cert-chain.pem: OK"), || said.clone())?;
    for (name, mode) in [("cert-chain.pem", 0o644), ("key.pem", 0o600), ("root-cert.pem", 0o644)] {
        let found = std::fs::metadata(dev.path("files").join(name)).unwrap().permissions().mode() & 0o777;
        let row = format!("| `{name}` | 0{found:o} |");
        ensure(found == mode && page.contains(&row), || format!("{row} is not in the page"))?;
    }
    let help = tools::run(std::process::Command::new(tools::own("signet-agent")?).args(["fetch", "--help"]))?;
    let options: Vec<&str> =
        help.split_whitespace().map(|word| word.trim_end_matches(':')).filter(|word| word.starts_with("--")).collect();
    let undocumented: Vec<&&str> =
        options.iter().filter(|option| **option != "--help" && !page.contains(**option)).collect();
    ensure(options.len() > 4 && undocumented.is_empty(), || format!("{undocumented:?} of {options:?}"))?;
    // The answer for programs, and the codes that the page tells of.
    let fetch = |more: &[&str]| -> Outcome<std::process::Output> {
        tools::output(dev.agent_command("client", &["fetch", "-o", "json", "--timeout", "5s"])?.args(more))
    };
    let out = dev.path("files").display().to_string();
    let written = fetch(&["--dir", &out])?;
    let told: Value = serde_json::from_slice(&written.stdout).map_err(Failure::while_doing("read the answer"))?;
    assert_eq!((&told["spiffe_id"], &told["files"][1]), (&CLIENT_ID.into(), &"key.pem".into()));
    std::fs::write(dev.path("occupied"), "").unwrap();
    let below = dev.path("occupied/files").display().to_string();
    assert_eq!(fetch(&["--dir", &below])?.status.code(), Some(1));
    assert_eq!(fetch(&[])?.status.code(), Some(2));
    Ok(())
}

#[tokio::test]
async fn inspect_tells_what_is_served_and_to_whom() -> Outcome {
    let dev = Dev::plain()?;
    let _ca = dev.start_ca().await?;
    let agent = dev.start_agent("client").await?;
    let mut stream = signet_tests::client::sds::Stream::open(
        &agent,
        signet_tests::client::sds::subscribe("my-proxy", &["default", "ROOTCA"]),
    )
    .await?;
    let response = stream.next().await.map_err(Failure::while_doing("read the stream"))?;
    stream.send(signet_tests::client::sds::acknowledge(&response, &["default", "ROOTCA"])).await?;
    let acked = async || agent.inspect().await.ok()?.streams.iter().any(|stream| stream.acks >= 1).then_some(());
    eventually("the acknowledgement in inspect", WITHIN, acked).await?;
    let text = tools::run(dev.agent_command("client", &["inspect"])?.args(["--output", "json"]))?;
    let answer: Value = serde_json::from_str(&text).map_err(Failure::while_doing("read inspect"))?;
    for wanted in [CLIENT_ID, "my-proxy", "default", "ROOTCA"] {
        ensure(text.contains(wanted), || format!("{wanted} is not in {text}"))?;
    }
    ensure(answer["identities"].as_array().is_some_and(|list| list.len() == 1), || text.clone())?;
    ensure(!text.contains("PRIVATE") && !text.contains("BEGIN"), || "inspect shows key material".to_owned())?;
    let table = tools::run(&mut dev.agent_command("client", &["inspect"])?)?;
    ensure(table.contains(CLIENT_ID) && table.contains("my-proxy"), || table.clone())?;
    drop(agent);
    let output = tools::output(&mut dev.agent_command("client", &["inspect"])?)?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure(output.status.code() == Some(1) && text.contains("agent-client.sock"), || text.clone())
}

#[tokio::test]
async fn the_socket_is_open_to_owner_and_group_only_and_a_dead_one_is_replaced() -> Outcome {
    let dev = Dev::plain()?;
    let _ca = dev.start_ca().await?;
    let mut agent = dev.start_agent("client").await?;
    let mode = |agent: &Agent| std::fs::metadata(agent.socket()).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&agent), 0o660);
    // A living agent keeps its socket.
    dev.edit("agent-client.yaml", |config| {
        yaml::set(config, "ops", signet_tests::harness::ports::free()?.to_string())
    })?;
    let mut second = Agent::start(&dev, "client")?;
    ensure(!second.process.wait(WITHIN).await?.success(), || "two agents serve one socket".to_owned())?;
    agent.identity().await?;
    agent.process.kill();
    ensure(agent.socket().exists(), || "kill -9 removed the socket?".to_owned())?;
    let agent = dev.start_agent("client").await?;
    assert_eq!(mode(&agent), 0o660);
    agent.identity().await.map(drop)
}

fn retry_soon(dev: &Dev) -> Outcome {
    dev.edit("agent-client.yaml", |config| {
        yaml::set(config, "renewal.retry_initial", "100ms")?;
        yaml::set(config, "renewal.retry_max", "500ms")
    })
}

#[tokio::test]
async fn a_missing_or_refused_token_is_retried_with_the_file_read_anew() -> Outcome {
    let dev = Dev::plain()?;
    let _ca = dev.start_ca().await?;
    retry_soon(&dev)?;
    let token = dev.path("tokens/client.jwt");
    let good = std::fs::read_to_string(&token).unwrap();
    std::fs::remove_file(&token).unwrap();
    let mut agent = Agent::start(&dev, "client")?;
    let says = async |words: &str| {
        let error = agent.identity().await.ok()?.last_error;
        error.contains(words).then_some(())
    };
    eventually("the missing token in inspect", WITHIN, async || says("client.jwt").await).await?;
    std::fs::write(&token, "bad").unwrap();
    eventually("the unusable token in inspect", WITHIN, async || says("not a JSON web token").await).await?;
    std::fs::write(&token, good.trim().trim_end_matches(|c: char| c != '.')).unwrap();
    eventually("the refusal in inspect", WITHIN, async || says("authenticate").await).await?;
    ensure(agent.readiness().await?.0 == 503, || "ready without a certificate".to_owned())?;
    std::fs::write(&token, format!("\n{good}\n\n")).unwrap();
    agent.ready().await
}

#[tokio::test]
async fn a_ca_that_the_root_file_does_not_vouch_for_gets_no_token() -> Outcome {
    let dev = Dev::plain()?;
    let _ca = dev.start_ca().await?;
    let foreign = Dev::on_file()?;
    let root = dev.path("root-cert.pem");
    let real = std::fs::read(&root).unwrap();
    std::fs::copy(foreign.path("root-cert.pem"), &root).unwrap();
    retry_soon(&dev)?;
    let mut agent = Agent::start(&dev, "client")?;
    let failing = async || (agent.identity().await.ok()?.failures_in_a_row >= 1).then_some(());
    eventually("a failure", WITHIN, failing).await?;
    let output =
        tools::output(dev.agent_command("client", &["fetch", "--timeout", "2s"])?.arg("--dir").arg(dev.path("none")))?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure(output.status.code() == Some(3) && !text.is_empty(), || format!("{}: {text}", output.status))?;
    ensure(!dev.path("none").join("key.pem").exists(), || "files were written".to_owned())?;
    // The root file is reloaded: nobody has to restart the agent.
    std::fs::write(&root, real).unwrap();
    agent.ready().await
}
