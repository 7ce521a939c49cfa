//! What `docs/istio.md` and `docs/moving-from-istiod.md` show: the chart and the programs take it, and a client that is what the values
//! of istiod and ztunnel make it gets its certificate.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use signet_test_servers::scripted::{Answer, ScriptedApi};
use signet_tests::client::ask::Ask;
use signet_tests::client::certify::Client;
use signet_tests::client::{csr, keys};
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::Dev;
use signet_tests::harness::rotation::keys as config;
use signet_tests::istio_agent::{IstioAgent, SecretFiles, Settings};
use signet_tests::istiod::{CaSet, Istiod};
use signet_tests::mutual::{Workload, request};
use signet_tests::stage::{CLIENT_ID, SERVER_ID};
use signet_tests::{judge, tools};
use tonic::transport::{Certificate, ClientTlsConfig};

use crate::kubernetes::chart;

const PAGES: [&str; 2] = ["docs/istio.md", "docs/moving-from-istiod.md"];

/// The blocks of a page that begin with the name of their file, by that.
fn blocks(page: &str, kind: &str) -> Outcome<Vec<(String, String)>> {
    let text = std::fs::read_to_string(tools::source_root().join(page)).map_err(Failure::io("read a page"))?;
    let fence = format!("```{kind}\n");
    let all = text.split(&fence).skip(1).filter_map(|rest| rest.split("```").next());
    all.map(|block| {
        let name = block.lines().next().and_then(|line| line.strip_prefix("# "));
        let name = name.ok_or_else(|| Failure::unexpected(format!("{page} has a block without a name:\n{block}")))?;
        Ok((name.to_owned(), block.to_owned()))
    })
    .collect()
}

fn yaml(text: &str) -> Outcome<Value> {
    serde_saphyr::from_str(text).map_err(Failure::while_doing("read a block of YAML"))
}

/// What the blocks of this name say, over all pages.
fn of_name(name: &str) -> Outcome<Vec<Value>> {
    let mut found = Vec::new();
    for page in PAGES {
        for (_, text) in blocks(page, "yaml")?.into_iter().filter(|(known, _)| known == name) {
            found.push(yaml(&text)?);
        }
    }
    ensure(!found.is_empty(), || format!("no {name} on {PAGES:?}")).map(|()| found)
}

/// The address that a value names, over all pages; everywhere the same.
fn address() -> Outcome<String> {
    let mut found: Vec<(String, Value)> = Vec::new();
    let mut add = |name: &str, pointers: &[&str]| -> Outcome {
        for document in of_name(name)? {
            found.extend(pointers.iter().filter_map(|at| Some((format!("{name}{at}"), document.pointer(at)?.clone()))));
        }
        Ok(())
    };
    add("istiod-values.yaml", &["/global/caAddress"])?;
    add("istio-operator.yaml", &["/spec/values/global/caAddress"])?;
    add("ztunnel-values.yaml", &["/caAddress"])?;
    for patch in of_name("patch.yaml")? {
        let inside = "/spec/template/metadata/annotations/proxy.istio.io~1config";
        let inside = yaml(patch.pointer(inside).and_then(Value::as_str).unwrap_or_default())?;
        found.push(("patch.yaml".to_owned(), inside["proxyMetadata"]["CA_ADDR"].clone()));
    }
    let first = found.first().and_then(|(_, value)| value.as_str()).unwrap_or_default().to_owned();
    ensure(found.len() >= 5 && found.iter().all(|(_, value)| *value == first.as_str()), || format!("{found:#?}"))?;
    // As ztunnel reads it, without a scheme.
    let uri: http::Uri = format!("https://{first}").parse().map_err(Failure::while_doing("read an address"))?;
    ensure(uri.port_u16() == Some(15012), || first.clone())?;
    Ok(uri.host().unwrap_or_default().to_owned())
}

/// Runs the script that makes the certificates, in a directory.
fn certificates(directory: &Path) -> Outcome {
    let scripts = blocks(PAGES[0], "sh")?;
    let [(name, script)] = scripts.as_slice() else { return Err(Failure::unexpected(format!("{scripts:?}"))) };
    assert_eq!(name, "certificates.sh");
    std::fs::create_dir_all(directory).map_err(Failure::io("make a directory"))?;
    tools::run(Command::new("bash").args(["-e", "-c", script]).current_dir(directory)).map(drop)
}

/// The CA of a directory.
fn set(directory: &Path) -> Outcome<CaSet> {
    let read = |name: &str| std::fs::read_to_string(directory.join(name)).map_err(Failure::io(format!("read {name}")));
    Ok(CaSet {
        certificate: read("ca-cert.pem")?,
        key: read("ca-key.pem")?,
        chain: read("cert-chain.pem")?,
        roots: read("root-cert.pem")?,
    })
}

#[test]
fn what_the_pages_name_is_named_the_same_everywhere_and_can_be_read() -> Outcome {
    let host = address()?;
    assert_eq!(host, "signet-ca.signet-system.svc");
    let known =
        ["signet-values.yaml", "istiod-values.yaml", "istio-operator.yaml", "ztunnel-values.yaml", "patch.yaml"];
    for page in PAGES {
        for (name, text) in blocks(page, "yaml")? {
            ensure(known.contains(&name.as_str()), || format!("{page} shows {name}, which nobody looks at"))?;
            ensure(yaml(&text)?.is_object(), || text)?;
        }
    }
    let mesh = |name: &str, at: &str| -> Outcome<Vec<Value>> {
        Ok(of_name(name)?.iter().filter_map(|document| document.pointer(at).cloned()).collect())
    };
    let domains = [
        mesh("istiod-values.yaml", "/meshConfig/trustDomain")?,
        mesh("istio-operator.yaml", "/spec/meshConfig/trustDomain")?,
        mesh("signet-values.yaml", "/config/trust_domain")?,
        mesh("signet-values.yaml", "/config/clusters/0/trust_domain")?,
    ];
    ensure(domains.iter().all(|all| !all.is_empty()), || format!("{domains:?}"))?;
    ensure(domains.concat().iter().all(|domain| domain == "cluster.local"), || format!("{domains:?}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_with_the_settings_of_the_pages_gets_its_certificate_and_both_cas_are_believed() -> Outcome {
    let (dev, host) = (Dev::on_file()?, address()?);
    certificates(&dev.path("made"))?;
    let own = dev.path("own-ca").display().to_string();
    let from = dev.path("made/signet").display().to_string();
    tools::run(&mut dev.ca_command(&["import", "istiod", "--from", &from, "--to", &own])?)?;
    dev.start_over()?;
    dev.set_ca(config::BACKEND, config::FILES)?;
    dev.set_ca(config::FILES_DIRECTORY, own)?;
    dev.set_ca("serving.dns_names", json!([host.as_str()]))?;
    // All of a cluster but what only a cluster has.
    let tokens = signet_tests::harness::yaml::read(&dev.path("signet-ca.yaml"))?["clusters"][0]["tokens"].clone();
    let mut cluster = of_name("signet-values.yaml")?.remove(0)["config"]["clusters"][0].take();
    for of_server in ["api_server", "trusted_node_accounts", "publish"] {
        cluster.as_object_mut().and_then(|fields| fields.remove(of_server));
    }
    cluster["tokens"] = tokens;
    dev.set_ca("clusters", json!([cluster]))?;
    let _ca = dev.start_ca().await?;
    let root = std::fs::read_to_string(dev.path("made/root-cert.pem")).map_err(Failure::io("read the root"))?;
    let trust = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&root)).domain_name(host);
    let channel = Client::endpoint_with(dev.listen, trust)?.connect().await;
    let client = Client::over(channel.map_err(Failure::while_doing("connect to the CA by its name"))?);
    let made = csr::like_istio_agent(CLIENT_ID)?;
    let reply = client.issued(&Ask::like_istio_agent(&made.csr, &dev.token("client")?)).await?;
    judge::workload(&reply, &made.csr, CLIENT_ID)?;
    assert_eq!(keys::ids(reply.last().map(String::as_str).unwrap_or_default())?, keys::ids(&root)?);
    // A workload of each of the two issuing CAs.
    let istiod = Istiod::start(&set(&dev.path("made/istiod"))?).await?;
    let root_file = dev.path("made/root-cert.pem");
    let of = Settings::of(&dev, "server", SERVER_ID, std::time::Duration::from_secs(3600));
    let other = IstioAgent::started(Settings { ca: istiod.address, root_file, ..of }).await?;
    let files = SecretFiles::in_directory(&dev.path("mine"))?;
    files.replace(1, &reply.concat(), &made.key, reply.last().map(String::as_str).unwrap_or_default())?;
    let (mine, other) = (Workload::of(CLIENT_ID, &files), Workload::of(SERVER_ID, other.secrets()));
    request(&mine, &other).await?;
    request(&other, &mine).await
}

/// A kubeconfig of a cluster that says yes to everything that is asked of it.
async fn kubeconfig(dev: &Dev) -> Outcome<ScriptedApi> {
    let api = ScriptedApi::start(|_| std::future::ready(Answer::json(200, &json!({"items": []})))).await;
    let api = api.map_err(Failure::while_doing("start an API server"))?;
    std::fs::write(dev.path("kubeconfig"), api.kubeconfig()).map_err(Failure::io("write a kubeconfig"))?;
    Ok(api)
}

/// Whether the CA takes this configuration of the chart, its files being those of `dev`.
fn is_taken(dev: &Dev, rendered: &Value) -> Outcome {
    let text = rendered.to_string().replace("in-cluster", &dev.path("kubeconfig").display().to_string());
    let clusters = yaml(&text)?["clusters"].clone();
    dev.set_ca("trust_domain", rendered["trust_domain"].clone())?;
    dev.set_ca("serving", rendered["serving"].clone())?;
    dev.set_ca("clusters", clusters)?;
    tools::run(&mut dev.ca_command(&["check"])?).map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ca_takes_what_the_pages_give_it() -> Outcome {
    let dev = Dev::on_file()?;
    let _api = kubeconfig(&dev).await?;
    for mut values in of_name("signet-values.yaml")? {
        assert_eq!(values["caFiles"]["secret"], "cacerts");
        values["config"]["serving"] = json!({"dns_names": [address()?]});
        is_taken(&dev, &values["config"])?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Helm; run it with: make test-kubernetes"]
async fn the_chart_takes_the_values_of_the_pages_and_serves_by_the_name_that_they_give_to_istio() -> Outcome {
    let dev = Dev::on_file()?;
    let (_api, host) = (kubeconfig(&dev).await?, address()?);
    for values in of_name("signet-values.yaml")? {
        let objects = chart::rendered_as("signet", "signet-system", &values)?;
        let (name, _) = host.split_once('.').unwrap_or_default();
        let service = chart::the(&objects, "Service", name)?;
        let ports = service["spec"]["ports"].to_string();
        ensure(ports.contains("15012"), || ports.clone())?;
        let map = chart::the(&objects, "ConfigMap", name)?;
        let made = yaml(map["data"]["signet-ca.yaml"].as_str().unwrap_or_default())?;
        let names = made["serving"]["dns_names"].as_array().cloned().unwrap_or_default();
        ensure(names.contains(&json!(host)), || format!("{names:?}"))?;
        assert_eq!(made["authority"]["backend"], "files");
        is_taken(&dev, &made)?;
        let role = chart::the(&objects, "ClusterRole", "signet-system-signet-ca")?.to_string();
        for right in ["tokenreviews", "pods", "configmaps"] {
            ensure(role.contains(right), || format!("no right for {right}: {role}"))?;
        }
    }
    Ok(())
}
