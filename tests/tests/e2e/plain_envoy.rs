//! The sample of two workloads without a mesh: its agents and its Envoys run as it has them, but for addresses and paths, and its values
//! fit the rest of it.

use std::net::SocketAddr;
use std::process::Command;

use serde_json::{Value, json};
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::dev::DevOptions;
use signet_tests::harness::envoy::{Bootstrap, Side};
use signet_tests::harness::{Agent, Ca, Dev, Envoy, yaml};
use signet_tests::upstream::Upstream;
use signet_tests::{tools, traffic};

const SERVICE: &str =
    "/static_resources/clusters/0/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address";
const AGENT: &str =
    "/static_resources/clusters/1/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/pipe/path";
const LISTEN: &str = "/static_resources/listeners/0/address/socket_address/address";

/// The documents of the sample.
pub(crate) fn documents() -> Outcome<Vec<Value>> {
    let file = tools::source_root().join("deploy/samples/plain-envoy.yaml");
    let text = std::fs::read_to_string(file).map_err(Failure::io("read the sample"))?;
    let read = |part: &str| serde_saphyr::from_str(part).map_err(Failure::while_doing("read a part of the sample"));
    text.split("\n---\n").map(read).collect()
}

/// The values of the chart that belong to it.
pub(crate) fn values() -> Outcome<Value> {
    yaml::read(&tools::source_root().join("deploy/samples/plain-envoy-values.yaml"))
}

/// A file in one of its ConfigMaps.
fn file_of(documents: &[Value], map: &str, name: &str) -> Outcome<Value> {
    let is = |document: &&Value| document["kind"] == "ConfigMap" && document["metadata"]["name"] == map;
    let text = documents.iter().find(is).and_then(|map| map["data"][name].as_str());
    let text = text.ok_or_else(|| Failure::unexpected(format!("the sample has no {name} in {map}")))?;
    serde_saphyr::from_str(text).map_err(Failure::while_doing("read a file of the sample"))
}

/// The agent of the sample, with the CA and the files of this installation.
async fn agent(dev: &Dev, documents: &[Value], name: &str) -> Outcome<Agent> {
    let given = yaml::read(&dev.path(&format!("agent-{name}.yaml")))?;
    let mut config = file_of(documents, "signet-agent", "signet-agent.yaml")?;
    for place in ["/ca/address", "/ca/root_file", "/token_file", "/sds/socket", "/ops"] {
        let here = given.pointer(place).cloned().unwrap_or_default();
        yaml::replace(&mut config, place, here)?;
    }
    let mut token = Command::new(tools::own("signet-ca")?);
    token.args(["dev", "token", "--namespace", "shop", "--audience", "signet", "--service-account", name, "--dir"]);
    let token = tools::run(token.arg(dev.directory()))?;
    std::fs::write(dev.path(&format!("tokens/{name}.jwt")), token).map_err(Failure::io("write a token"))?;
    yaml::write(&dev.path(&format!("agent-{name}.yaml")), &config)?;
    dev.start_agent(name).await
}

/// The Envoy of the sample before this service.
async fn envoy(dev: &Dev, documents: &[Value], agent: &Agent, name: &str, service: SocketAddr) -> Outcome<Envoy> {
    let file = dev.path(&format!("{name}-envoy.json"));
    yaml::write(&file, &file_of(documents, &format!("{name}-envoy"), "envoy.yaml")?)?;
    let mut bootstrap = Bootstrap::of_file(&file, if name == "frontend" { Side::Client } else { Side::Server })?;
    yaml::replace(&mut bootstrap.document, LISTEN, "127.0.0.1")?;
    yaml::replace(&mut bootstrap.document, SERVICE, json!({"address": "127.0.0.1", "port_value": service.port()}))?;
    yaml::replace(&mut bootstrap.document, AGENT, agent.socket().to_string_lossy())?;
    Envoy::started(&format!("envoy-{name}"), dev.directory(), &bootstrap).await
}

#[tokio::test]
async fn the_workloads_of_the_sample_speak_mutual_tls_with_each_other() -> Outcome {
    let workloads = ["frontend", "backend"].map(|name| format!("{name}=shop/{name}"));
    let dev = Dev::init(&DevOptions { workloads: workloads.to_vec(), ..DevOptions::default() })?;
    dev.edit("signet-ca.yaml", |config| {
        let audiences = values()?["config"]["clusters"][0]["audiences"].clone();
        config["clusters"][0]["audiences"] = audiences;
        Ok(())
    })?;
    let (documents, upstream) = (documents()?, Upstream::start().await?);
    let _ca: Ca = dev.start_ca().await?;
    let backend_agent = agent(&dev, &documents, "backend").await?;
    let backend = envoy(&dev, &documents, &backend_agent, "backend", upstream.address).await?;
    let frontend_agent = agent(&dev, &documents, "frontend").await?;
    let frontend = envoy(&dev, &documents, &frontend_agent, "frontend", backend.listen).await?;
    let said = traffic::once(frontend.listen).await.map_err(Failure::unexpected)?;
    ensure(said.contains("spiffe://cluster.local/ns/shop/sa/frontend"), || said.clone())
}

/// Its proxies are the ones of docs/proxies.md: what is said of those there holds of them.
#[test]
fn its_bootstraps_are_those_that_we_ship_with_other_names() -> Outcome {
    let documents = documents()?;
    for (name, shipped, renamed) in [("frontend", "client", "backend"), ("backend", "server", "frontend")] {
        let mut ours = yaml::read(&tools::source_root().join(format!("deploy/envoy/{shipped}.yaml")))?;
        let side = if name == "frontend" { Side::Client } else { Side::Server };
        let matcher = format!(
            "{}/common_tls_context/combined_validation_context/default_validation_context/match_typed_subject_alt_names/0/matcher/exact",
            side.tls()
        );
        yaml::replace(&mut ours, &matcher, format!("spiffe://cluster.local/ns/shop/sa/{renamed}"))?;
        yaml::replace(&mut ours, "/node", json!({"id": name, "cluster": name}))?;
        if side == Side::Client {
            yaml::replace(&mut ours, "/static_resources/clusters/0/type", "STRICT_DNS")?;
            let there = json!({"address": "backend.shop.svc.cluster.local", "port_value": 8443});
            yaml::replace(&mut ours, SERVICE, there)?;
        } else {
            yaml::replace(&mut ours, LISTEN, "0.0.0.0")?;
        }
        let sample = file_of(&documents, &format!("{name}-envoy"), "envoy.yaml")?;
        ensure(sample == ours, || format!("{name}: {sample:#}\nis not\n{ours:#}"))?;
    }
    Ok(())
}

#[test]
fn its_page_shows_the_values_as_they_are() -> Outcome {
    let read =
        |file: &str| std::fs::read_to_string(tools::source_root().join(file)).map_err(Failure::io("read a page"));
    let page = read("docs/envoy-in-kubernetes.md")?.replace("\n   ", "\n");
    let values = read("deploy/samples/plain-envoy-values.yaml")?;
    ensure(page.contains(&format!("```yaml\n{values}```")), || page.clone())
}
