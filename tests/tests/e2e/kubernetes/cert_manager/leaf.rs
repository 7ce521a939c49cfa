//! Each leaf is a request that cert-manager's own controllers sign, as it stands; another CA behind the issuer is followed.

use serde_json::{Value, json};
use signet_tests::client::ask::Ask;
use signet_tests::client::certify::Client;
use signet_tests::client::csr;
use signet_tests::failure::{Outcome, ensure};
use signet_tests::harness::Dev;
use signet_tests::harness::plugged::OwnCa;
use signet_tests::harness::process::eventually;
use signet_tests::judge;
use signet_tests::stage::CLIENT_ID;
use tonic::Code;

use super::{SOON, Stage, shared, told};
use crate::rotation::installation;

/// A certificate for a CSR that asks for the name of its sender, judged with its whole chain.
async fn named(dev: &Dev) -> Outcome<Vec<String>> {
    let made = csr::like_ztunnel(Some(CLIENT_ID))?;
    let reply = Client::connect(dev).await?.issued(&Ask::new(&made.csr, &dev.token("client")?)).await?;
    judge::workload(&reply, &made.csr, CLIENT_ID)?;
    Ok(reply)
}

#[tokio::test]
#[ignore = "needs a real API server; run it with: make test-kubernetes"]
async fn each_leaf_is_a_request_of_its_own_that_is_signed_and_removed() -> Outcome {
    let (kubernetes, root) = (shared()?, OwnCa::root("mesh root")?);
    let middle = root.certify("mesh ca")?;
    let dev = installation("1h", &["client=default/client", "server=default/server"])?;
    let stage = Stage::new(kubernetes, &dev, &middle, &[&root]).await?;
    stage.configure(&dev, &json!({"mode": "leaf"}))?;
    let mut ca = dev.start_ca().await?;
    told(&mut ca, "ready", "").await?;
    let reply = named(&dev).await?;
    ensure(reply.len() == 3, || format!("{} certificates", reply.len()))?;
    ensure(reply[1].trim() == middle.certificate.trim(), || reply[1].clone())?;
    // An istio-agent brings an RSA key, and a subject of an organisation without a name, which stays.
    let made = csr::like_istio_agent(CLIENT_ID)?;
    let ask = Ask::new(&made.csr, &dev.token("client")?);
    let with_rsa = Client::connect(&dev).await?.issued(&ask).await?;
    ensure(with_rsa[1..] == reply[1..], || "another chain".to_owned())?;
    stage.no_requests().await?;
    // On record before and after, with the serial number of cert-manager.
    let record = ca.audit(&[])?;
    let of_workload = |event: &&Value| event["kind"] == "certificate" && event["who"]["spiffe_id"] == CLIENT_ID;
    let told: Vec<_> =
        record.iter().filter(of_workload).map(|event| (&event["outcome"], &event["what"]["serial"])).collect();
    let [(issued, serial), (intended, none), ..] = told.as_slice() else {
        return ensure(false, || format!("{told:?}"));
    };
    ensure(**issued == "issued" && serial.is_string(), || format!("{told:?}"))?;
    ensure(**intended == "intended" && none.is_null(), || format!("{told:?}"))?;
    // Names are those of the CSR: one without any would get a certificate without any.
    let made = csr::like_ztunnel(None)?;
    let ask = Ask::new(&made.csr, &dev.token("client")?);
    let said = Client::connect(&dev).await?.refused(&ask, Code::InvalidArgument).await?;
    ensure(said.contains("ask for the URI"), || said.clone())?;

    // Somebody gives the issuer another CA below the same root.
    let next = root.certify("mesh ca 2")?;
    stage.set_signer(&next).await?;
    let followed = async || {
        let reply = named(&dev).await.ok()?;
        (reply.get(1)?.trim() == next.certificate.trim()).then_some(())
    };
    eventually("a leaf of the other CA", SOON, followed).await?;
    stage.no_requests().await
}
