//! A rotation beside a cluster that has told which pods it has.

use serde_json::json;
use signet_tests::client::ask::{Acknowledges, Ask};
use signet_tests::client::certify::Client;
use signet_tests::client::csr;
use signet_tests::failure::Outcome;
use signet_tests::harness::process::eventually;
use signet_tests::harness::{Ca, Dev};

use super::{Cluster, SOON, put, trusting};
use crate::clock::at;

#[tokio::test]
async fn a_rotation_does_not_wait_for_the_certificate_of_a_pod_that_the_cluster_does_not_have() -> Outcome {
    let dev = Dev::plain()?;
    let _cluster = Cluster::start(&dev).await?;
    let one = trusting(&dev)?;
    put(&dev, |config| config["clusters"] = json!([one]))?;
    let ca = dev.start_ca().await?;
    // It acknowledges bundles by itself, and never will.
    let ask = Ask::new(&csr::like_ztunnel(None)?.csr, &dev.token("client")?);
    let ask = ask.as_instance(&"0".repeat(32), Acknowledges::OnStream);
    Client::connect(&dev).await?.issued(&ask).await?;
    drop(ca);

    // It was silent for five minutes then.
    let mut ca = Ca::start_command(&dev, at(dev.ca_command(&["serve"])?, "+5m")?)?;
    ca.ready_is(true, SOON).await?;
    ca.operator().rotate()?;
    let admin = ca.admin()?;
    let left_out = async || {
        let coverage = admin.rotation().await.ok()?.coverage?;
        (coverage.gone == 1 && coverage.holders == 0).then_some(())
    };
    eventually("the holder that nobody waits for", SOON, left_out).await?;
    let gone = ca.metrics().await?.sum("signet_ca_holders_gone", &[]);
    assert!((gone - 1.0).abs() < 0.5, "{gone}");
    Ok(())
}
