//! What publishing costs an API server and the CA with a thousand namespaces; prints what docs/kubernetes.md says.

use std::time::Instant;

use signet_tests::client::admin::{active_root, is_settled, root_ids};
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::Ca;
use signet_tests::harness::process::eventually;
use signet_tests::harness::rotation::ROTATION;
use signet_tests::harness::way::Way;

use super::{Stage, told};

const MANY: usize = 1000;

/// Calls by verb, bytes of bodies and on the way to the API server with TLS and watches, and memory of the process in KiB.
async fn counted(ca: &Ca, way: &Way) -> Outcome<Vec<(&'static str, f64)>> {
    let metrics = ca.metrics().await?;
    let verbs = ["list", "watch", "get", "create", "patch", "delete"];
    let calls = |verb| (verb, metrics.sum("signet_ca_publisher_calls_total", &[&format!("verb=\"{verb}\"")]));
    let mut all: Vec<_> = verbs.into_iter().map(calls).collect();
    for direction in ["sent", "received"] {
        let label = format!("direction=\"{direction}\"");
        all.push((direction, metrics.sum("signet_ca_publisher_bytes_total", &[&label])));
    }
    let (there, back) = way.bytes();
    let number = |bytes: u64| f64::from(u32::try_from(bytes).unwrap_or(u32::MAX));
    all.extend([("there", number(there)), ("back", number(back))]);
    all.push(("memory", metrics.sum("process_resident_memory_bytes", &[]) / 1024.0));
    Ok(all)
}

#[expect(clippy::print_stdout, reason = "what it measures is what it is for")]
fn print(what: &str, before: &[(&'static str, f64)], after: &[(&'static str, f64)], took: std::time::Duration) {
    let of = |counts: &[(&'static str, f64)]| {
        let sums = counts.iter().zip(before).map(|((name, after), (_, before))| format!("{name} {}", after - before));
        sums.collect::<Vec<_>>().join(", ")
    };
    println!("{what}: {took:?}: {}; memory {} KiB", of(after), after.last().map_or(0.0, |(_, memory)| *memory));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real API server; run it with: make test-kubernetes"]
async fn a_rotation_costs_one_write_for_each_namespace_and_step() -> Outcome {
    let stage = Stage::new().await?;
    let (kubeconfig, url) = (stage.dev.text("kubeconfig")?, stage.url.as_str());
    let server = url.trim_start_matches("https://").parse().map_err(Failure::while_doing("read an address"))?;
    let way = Way::to(server)?;
    let kubeconfig = kubeconfig.replace(url, &format!("https://{}", way.address));
    std::fs::write(stage.dev.path("kubeconfig"), kubeconfig).map_err(Failure::io("write a kubeconfig"))?;
    let mut ca = stage.dev.start_ca().await?;
    told(&mut ca, "config-map", "ready", "in 0 places").await?;
    let start = counted(&ca, &way).await?;
    stage.namespaces(MANY).await?;
    let begun = Instant::now();
    told(&mut ca, "config-map", "ready", &format!("in {MANY} places")).await?;
    let made = counted(&ca, &way).await?;
    print("a thousand new namespaces, after the last one was made", &start, &made, begun.elapsed());
    drop(ca);
    let mut ca = stage.dev.start_ca().await?;
    let begun = Instant::now();
    told(&mut ca, "config-map", "ready", &format!("in {MANY} places")).await?;
    let started = counted(&ca, &way).await?;
    // Its counters began anew; those of the way went on.
    let anew =
        |(name, count): &(&'static str, f64)| (*name, if matches!(*name, "there" | "back") { *count } else { 0.0 });
    print("a start", &made.iter().map(anew).collect::<Vec<_>>(), &started, begun.elapsed());

    let (admin, before, begun) = (ca.admin()?, counted(&ca, &way).await?, Instant::now());
    let failed = Failure::while_doing::<tonic::Status>;
    let old = active_root(&admin.rotation().await.map_err(failed("ask where rotation stands"))?);
    ca.operator().rotate()?;
    let settled = async || {
        let rotation = admin.rotation().await.ok()?;
        (is_settled(&rotation) && active_root(&rotation) != old && root_ids(&rotation).len() == 1).then_some(rotation)
    };
    let new = active_root(&eventually("the rotation to end", ROTATION, settled).await?);
    stage.all_have(MANY, &[&new]).await?;
    told(&mut ca, "config-map", "ready", &format!("in {MANY} places")).await?;
    let after = counted(&ca, &way).await?;
    print("a rotation", &before, &after, begun.elapsed());
    let patched = after.iter().zip(&before).find(|((name, _), _)| *name == "patch");
    let patched = patched.map_or(0.0, |((_, after), (_, before))| after - before);
    // Both roots, and then the new one alone.
    let expected = 2.0 * f64::from(u32::try_from(MANY).unwrap_or_default());
    ensure((patched - expected).abs() < 20.0, || format!("{patched} writes"))?;
    Ok(())
}
