//! Secrets that nobody serves, by a typing error in a proxy's configuration: the proxy says nothing, so the agent and the CA do.

use std::time::Duration;

use signet_tests::client::certify::Client;
use signet_tests::client::sds::{self, Stream, acknowledge, subscribe};
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::process::{Process, eventually};
use signet_tests::harness::{Agent, Dev};
use signet_tests::tools;
use tonic::Code;

const WITHIN: Duration = Duration::from_secs(60);
const TOLD: &str = "asks for a secret that is not served here";

fn times_told(process: &Process, name: &str) -> usize {
    let secret = format!("\"secret\":\"{name}\"");
    process.log().lines().filter(|line| line.contains(TOLD) && line.contains(&secret)).count()
}

#[tokio::test]
async fn a_mistyped_name_is_told_once_counted_and_shown_and_the_good_one_is_served() -> Outcome {
    let dev = Dev::plain()?;
    // Before the CA is there: what is to come is no mistake.
    let mut agent = Agent::start(&dev, "client")?;
    let socket = agent.socket().to_owned();
    agent.process.until("the socket", WITHIN, async || socket.exists().then_some(())).await?;
    let names = ["default", "defualt", "ROOTCA", "\u{1b}[31m", &"x".repeat(2048)];
    let mut stream = Stream::open(&agent, subscribe("my-proxy", &names)).await?;
    let shown = async || {
        let streams = agent.inspect().await.ok()?.streams;
        let ours = streams.into_iter().find(|stream| stream.node_id == "my-proxy")?;
        (ours.unserved_names.len() == 3).then_some(ours)
    };
    eventually("the names in inspect", WITHIN, shown).await?;
    let fetch = async |names: &[&str]| {
        let fetched = sds::fetch(agent.channel().await?, subscribe("other", names)).await;
        Ok::<_, Failure>(fetched.map(drop).map_err(|status| (status.code(), status.message().to_owned())))
    };
    assert_eq!(fetch(&["default"]).await?.unwrap_err().0, Code::Unavailable);
    let (code, told) = fetch(&["defualt"]).await?.unwrap_err();
    assert_eq!(
        (code, told.as_str()),
        (Code::NotFound, "no secret is called \"defualt\" here; served are: ROOTCA, default")
    );
    let _ca = dev.start_ca().await?;
    agent.ready().await?;
    let mut got = std::collections::BTreeSet::new();
    while got.len() < 2 {
        let response = stream.next().await.map_err(Failure::while_doing("read the stream"))?;
        got.extend(sds::secrets(&response)?.into_iter().map(|secret| secret.name));
        stream.send(acknowledge(&response, &names)).await?;
    }
    let acked = async || agent.inspect().await.ok()?.streams.iter().any(|stream| stream.acks >= 1).then_some(());
    eventually("the acknowledgement in inspect", WITHIN, acked).await?;
    for (name, times) in [("defualt", 1), ("default", 0), ("ROOTCA", 0), (" [31m", 1), (&("x".repeat(128) + "..."), 1)]
    {
        assert_eq!(times_told(&agent.process, name), times, "{name}: {}", agent.process.log());
    }
    let line = agent.process.log().lines().find(|line| line.contains("defualt")).unwrap_or_default().to_owned();
    ensure(line.contains("WARN") && line.contains("ROOTCA, default") && line.contains("my-proxy"), || line.clone())?;
    assert!((agent.metrics().await?.sum("signet_agent_sds_names_not_served_total", &[]) - 4.0).abs() < 0.5);
    let table = tools::run(&mut dev.agent_command("client", &["inspect"])?)?;
    ensure(table.contains("defualt (not served)") && !table.contains("default (not"), || table.clone())?;
    let json = tools::run(dev.agent_command("client", &["inspect"])?.args(["--output", "json"]))?;
    let answer: serde_json::Value = serde_json::from_str(&json).map_err(Failure::while_doing("read inspect"))?;
    let unserved = answer["streams"][0]["unserved_names"].as_array().cloned().unwrap_or_default();
    ensure(unserved.iter().any(|name| name == "defualt") && unserved.len() == 3, || json.clone())
}

#[tokio::test]
async fn a_client_that_asks_for_ever_other_names_fills_no_log() -> Outcome {
    let dev = Dev::plain()?;
    let _ca = dev.start_ca().await?;
    let agent = dev.start_agent("client").await?;
    let asked = |round: usize| -> Vec<String> { (0..100).map(|one| format!("name-{round}-{one}")).collect() };
    let mut stream = Stream::open(&agent, subscribe("hostile", &["default"])).await?;
    let response = stream.next().await.map_err(Failure::while_doing("read the stream"))?;
    for round in 0..100 {
        let names = asked(round);
        stream.send(acknowledge(&response, &names.iter().map(String::as_str).collect::<Vec<_>>())).await?;
    }
    let counted = async || {
        let counted = agent.metrics().await.ok()?.sum("signet_agent_sds_names_not_served_total", &[]);
        (counted > 9_999.0).then_some(())
    };
    eventually("all names to be counted", WITHIN, counted).await?;
    let lines = agent.process.log().lines().filter(|line| line.contains("not served here")).count();
    ensure(lines == 17, || format!("{lines} lines tell of it"))
}

#[tokio::test]
async fn the_ca_tells_which_of_the_names_on_its_own_streams_are_not_served() -> Outcome {
    let dev = Dev::plain()?;
    let ca = dev.start_ca().await?;
    let channel = Client::connect(&dev).await?.channel;
    let bearer = format!("Bearer {}", dev.token("client")?);
    let headers = [("authorization", bearer.as_str())];
    let names = ["ROOTCA", "default"];
    let opened = Stream::over(channel, subscribe("my-proxy", &names), &headers).await;
    let mut stream = opened.map_err(Failure::while_doing("open a stream"))?;
    let response = stream.next().await.map_err(Failure::while_doing("read the stream"))?;
    assert_eq!(sds::secrets(&response)?.len(), 1);
    let counted = async || {
        let counted = ca.metrics().await.ok()?.sum("signet_ca_bundle_names_not_served_total", &[]);
        ((counted - 1.0).abs() < 0.5).then_some(())
    };
    eventually("the name to be counted", WITHIN, counted).await?;
    assert_eq!((times_told(&ca.process, "default"), times_told(&ca.process, "ROOTCA")), (1, 0));
    Ok(())
}
