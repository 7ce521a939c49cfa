//! docs/kubernetes.md leads from nothing to a running mesh CA: its commands are followed line by line, with its values.

use signet_test_servers::kubernetes::{ApiServer, Kubernetes};
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::process::eventually;
use signet_tests::node::Node;
use signet_tests::node::objects::core;
use signet_tests::node::shell::Shell;
use signet_tests::tools;

use super::SOON;

/// The section of the page.
fn section() -> Outcome<String> {
    let page = tools::source_root().join("docs/kubernetes.md");
    let page = std::fs::read_to_string(page).map_err(Failure::io("read a page"))?;
    let (_, after) = page.split_once("## From nothing to a running mesh CA\n").expect("the page has the section");
    Ok(after.split_once("\n## ").map_or(after, |(section, _)| section).to_owned())
}

/// The commands of the section, in their order.
fn commands(section: &str) -> Vec<&str> {
    let blocks = section.split("```console").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.flat_map(str::lines).filter_map(|line| line.trim().strip_prefix("$ ")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real API server; run it with: make test-kubernetes"]
async fn the_page_leads_from_nothing_to_a_running_mesh_ca() -> Outcome {
    // In all namespaces of a cluster it publishes: it is alone here.
    let kubernetes =
        Kubernetes::start(&ApiServer::default()).map_err(|error| Failure::unexpected(error.to_string()))?;
    let node = Node::join(&kubernetes, "node-1").await?;
    let directory = tempfile::tempdir().map_err(Failure::io("make a directory"))?;
    let section = section()?;
    let values = section.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap_or_default();
    std::fs::write(directory.path().join("mesh.yaml"), values).map_err(Failure::io("write the values"))?;
    let (mut shell, commands) = (Shell::on(&node), commands(&section));
    ensure(commands.len() >= 10, || format!("{commands:?}"))?;
    let mut said = String::new();
    for command in commands {
        if command.contains(" apply ") {
            // What people read before they go on is there a moment later.
            let map = core("demo", "configmaps", "istio-ca-root-cert");
            let there = async || node.objects.find(&map).await.ok()?;
            eventually("the roots in the new namespace", SOON, there).await?;
        }
        let printed = match command.contains("get configmap") {
            // The same, for the command that reads them.
            true => eventually(command, SOON, async || shell.run(command, directory.path()).await.ok()).await,
            false => shell.run(command, directory.path()).await,
        };
        let printed = printed.map_err(|failure| Failure::unexpected(format!("$ {command}\n{failure}")))?;
        said += &format!("$ {command}\n{printed}\n");
    }
    let workload = "spiffe://cluster.local/ns/demo/sa/web";
    let words = ["Succeeded", "encryption-key", "root-cert.pem", workload, "issued", "Kubernetes"];
    let missing: Vec<_> = words.into_iter().filter(|word| !said.contains(word)).collect();
    ensure(missing.is_empty(), || format!("{missing:?}\n{said}"))?;
    let pod = shell.pod("demo", "deployment/web").map(|pod| pod.made());
    let pod = pod.ok_or_else(|| Failure::unexpected("the workload does not run"))?;
    let found = node.objects.get(&core("demo", "pods", &pod.name)).await?;
    ensure(found["status"]["phase"] == "Running", || found.to_string())
}
