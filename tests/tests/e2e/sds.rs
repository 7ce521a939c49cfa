//! The agent's socket, spoken to by hand: what Envoy would not do on purpose.

use std::time::Duration;

use signet_tests::client::rules;
use signet_tests::client::sds::{self, SECRET, Stream, acknowledge, public_text, subscribe};
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::process::eventually;
use signet_tests::harness::{Agent, Ca, Dev, DevOptions};
use signet_tests::stage::CLIENT_ID;
use tokio::time::timeout;

use super::facts;

const WITHIN: Duration = Duration::from_secs(60);

async fn running(options: &DevOptions) -> Outcome<(Agent, Ca, Dev)> {
    let dev = Dev::init(options)?;
    let ca = dev.start_ca().await?;
    let agent = dev.start_agent("client").await?;
    Ok((agent, ca, dev))
}

async fn next(stream: &mut Stream) -> Outcome<envoy_types::pb::envoy::service::discovery::v3::DiscoveryResponse> {
    let answer = timeout(WITHIN, stream.next()).await;
    answer.map_err(|_| Failure::unexpected("no answer on the stream"))?.map_err(Failure::while_doing("read the stream"))
}

#[tokio::test]
async fn default_and_rootca_hold_the_workloads_chain_and_the_bundle() -> Outcome {
    let (agent, _ca, dev) = running(&DevOptions::default()).await?;
    let mut stream = Stream::open(&agent, subscribe("envoy", &["default", "ROOTCA"])).await?;
    let response = next(&mut stream).await?;
    assert_eq!(response.type_url, SECRET);
    let mut texts: Vec<_> = sds::secrets(&response)?.iter().map(public_text).collect();
    texts.sort();
    let [(root_name, root), (chain_name, chain)] = texts.as_slice() else {
        return Err(Failure::unexpected(format!("{} secrets", texts.len())));
    };
    assert_eq!((root_name.as_str(), chain_name.as_str()), ("ROOTCA", "default"));
    // Behind a line that makes the bytes other ones for each stream.
    let (mark, root) = root.split_once('\n').unwrap_or_default();
    ensure(mark.starts_with('#'), || format!("no mark: {mark}"))?;
    assert_eq!(root, dev.text("root-cert.pem")?);
    assert_eq!(facts::of(chain)?.uris, [CLIENT_ID]);
    ensure(!chain.contains(root.trim()), || "the chain holds the root".to_owned())?;
    assert_eq!(rules::certificates_in(chain), 2);
    // One per request is as good as both at once.
    for name in ["default", "ROOTCA"] {
        let response = sds::fetch(agent.channel().await?, subscribe("other", &[name])).await;
        let response = response.map_err(Failure::while_doing("fetch"))?;
        assert_eq!(sds::secrets(&response)?.iter().map(|secret| secret.name.clone()).collect::<Vec<_>>(), [name]);
    }
    Ok(())
}

#[tokio::test]
async fn a_request_of_the_wrong_type_is_refused_and_harms_no_other_stream() -> Outcome {
    let (agent, _ca, _dev) = running(&DevOptions::default()).await?;
    let mut good = Stream::open(&agent, subscribe("good", &["default"])).await?;
    next(&mut good).await?;
    let mut request = subscribe("bad", &["default"]);
    request.type_url = "type.googleapis.com/envoy.config.cluster.v3.Cluster".to_owned();
    let code = match Stream::open(&agent, request.clone()).await {
        Ok(mut stream) => timeout(WITHIN, stream.next()).await.map(|answer| answer.map_err(|status| status.code())),
        Err(failure) => return Err(failure),
    };
    ensure(matches!(code, Ok(Err(tonic::Code::InvalidArgument))), || format!("{code:?}"))?;
    let fetched = sds::fetch(agent.channel().await?, request).await.map_err(|status| status.code());
    ensure(matches!(fetched, Err(tonic::Code::InvalidArgument)), || format!("{fetched:?}"))?;
    good.send(subscribe("good", &["default", "ROOTCA"])).await?;
    Ok(())
}

#[tokio::test]
async fn an_unknown_name_never_harms_the_good_names_beside_it() -> Outcome {
    let (agent, _ca, _dev) = running(&DevOptions::default()).await?;
    let names = ["default", "nobody", "ROOTCA", "spiffe://evil/ns/a/sa/b", ""];
    let mut stream = Stream::open(&agent, subscribe("envoy", &names)).await?;
    let response = next(&mut stream).await?;
    let mut got: Vec<_> = sds::secrets(&response)?.into_iter().map(|secret| secret.name).collect();
    got.sort();
    assert_eq!(got, ["ROOTCA", "default"]);
    stream.send(acknowledge(&response, &names)).await?;
    // Silence: neither an answer to the acknowledgement nor the end of the stream.
    let more = timeout(Duration::from_millis(700), stream.next()).await;
    ensure(more.is_err(), || format!("after the acknowledgement came {more:?}"))?;
    let mut lonely = Stream::open(&agent, subscribe("lonely", &["nobody"])).await?;
    let more = timeout(Duration::from_millis(700), lonely.next()).await;
    ensure(more.is_err(), || format!("for an unknown name came {more:?}"))
}

#[tokio::test]
async fn a_nack_is_counted_and_shown_and_does_not_loop() -> Outcome {
    let (agent, _ca, _dev) = running(&DevOptions::default()).await?;
    let mut stream = Stream::open(&agent, subscribe("picky", &["default"])).await?;
    let response = next(&mut stream).await?;
    let mut nack = acknowledge(&response, &["default"]);
    nack.version_info = String::new();
    nack.error_detail = Some(envoy_types::pb::google::rpc::Status {
        code: 3,
        message: "I do not like this key".to_owned(),
        ..Default::default()
    });
    stream.send(nack).await?;
    let shown = async || {
        let streams = agent.inspect().await.ok()?.streams;
        let picky = streams.into_iter().find(|stream| stream.node_id == "picky")?;
        (picky.nacks == 1 && picky.last_nack.contains("do not like")).then_some(())
    };
    eventually("the rejection in inspect", WITHIN, shown).await?;
    let more = timeout(Duration::from_millis(700), stream.next()).await;
    ensure(more.is_err(), || format!("after the rejection came {more:?}"))?;
    let metrics = agent.metrics().await?;
    let nacks: f64 =
        metrics.names().iter().filter(|name| name.contains("nack")).map(|name| metrics.sum(name, &[])).sum();
    ensure(nacks >= 1.0, || format!("no metric counts it: {:?}", metrics.names()))
}

#[tokio::test]
async fn renewals_are_pushed_to_every_stream_and_only_the_certificate_moves() -> Outcome {
    let (agent, _ca, _dev) = running(&DevOptions { svid_ttl: Some("10s".into()), ..DevOptions::default() }).await?;
    let names = ["default", "ROOTCA"];
    let mut stream = Stream::open(&agent, subscribe("envoy", &names)).await?;
    let mut response = next(&mut stream).await?;
    let mut serials = std::collections::BTreeSet::new();
    let mut nonces = std::collections::BTreeSet::new();
    for round in 0..3 {
        ensure(nonces.insert(response.nonce.clone()), || "a nonce was used twice".to_owned())?;
        let secrets: Vec<_> = sds::secrets(&response)?.iter().map(public_text).collect();
        let expected = if round == 0 { 2 } else { 1 };
        assert_eq!(secrets.len(), expected, "round {round}: {:?}", secrets.iter().map(|s| &s.0).collect::<Vec<_>>());
        let chain = secrets.iter().find(|(name, _)| name == "default").map(|(_, text)| text.clone()).unwrap();
        ensure(serials.insert(facts::of(&chain)?.serial), || "the same certificate was pushed twice".to_owned())?;
        stream.send(acknowledge(&response, &names)).await?;
        if round < 2 {
            response = next(&mut stream).await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn clients_that_never_read_cost_the_agent_nothing_but_a_stream() -> Outcome {
    let (agent, _ca, _dev) = running(&DevOptions { svid_ttl: Some("10s".into()), ..DevOptions::default() }).await?;
    let mut silent = Vec::new();
    for index in 0..50 {
        let stream = Stream::open(&agent, subscribe(&format!("silent-{index}"), &["default", "ROOTCA"])).await?;
        // Ask again and again without ever reading an answer.
        for _ in 0..20 {
            let _full = timeout(Duration::from_millis(5), stream.send(subscribe("silent", &["default"]))).await;
        }
        silent.push(stream);
    }
    let before = agent.identity().await?.renewals;
    let renewed = async || (agent.identity().await.ok()?.renewals > before).then_some(());
    eventually("a renewal beside clients that never read", WITHIN, renewed).await?;
    let mut reader = Stream::open(&agent, subscribe("reader", &["default"])).await?;
    next(&mut reader).await?;
    drop(silent);
    let gone = async || (agent.inspect().await.ok()?.streams.len() == 1).then_some(());
    eventually("the streams to be forgotten", WITHIN, gone).await
}

#[tokio::test]
async fn an_agent_without_a_ca_waits_and_serves_as_soon_as_there_is_one() -> Outcome {
    let dev = Dev::plain()?;
    let mut agent = Agent::start(&dev, "client")?;
    let socket = agent.socket().to_owned();
    agent.process.until("the socket", WITHIN, async || socket.exists().then_some(())).await?;
    // Subscribed before anything exists: answered when it does.
    let mut stream = Stream::open(&agent, subscribe("early", &["default", "ROOTCA"])).await?;
    ensure(agent.readiness().await?.0 == 503, || "ready without a certificate".to_owned())?;
    let _ca = dev.start_ca().await?;
    let mut names = std::collections::BTreeSet::new();
    while names.len() < 2 {
        names.extend(sds::secrets(&next(&mut stream).await?)?.into_iter().map(|secret| secret.name));
    }
    agent.ready().await
}
