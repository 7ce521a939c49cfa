//! Certificates in the place of tokens, while their holders live.

use serde_json::json;
use signet_test_servers::ServerError;
use signet_test_servers::kubernetes::{ISSUER, Kubernetes};
use signet_tests::failure::{Failure, Outcome};
use signet_tests::harness::Dev;
use tonic::Code;

use super::{SOON, Workload, cluster_of, credentials, may_review, may_watch};
use crate::client_certificates::Held;

/// Renews until that is answered with this code.
async fn until(held: &Held, dev: &Dev, code: Code) -> Outcome {
    let refused = async || (held.renewed(dev).await.ok()?.err()?.code() == code).then_some(());
    signet_tests::harness::process::eventually(&format!("an answer {code:?}"), SOON, refused).await
}

#[tokio::test]
#[ignore = "needs a real API server; run it with: make test-kubernetes"]
async fn a_certificate_brings_the_next_one_while_its_pod_and_account_are_there() -> Outcome {
    let made = Failure::while_doing::<ServerError>;
    let kubernetes = Kubernetes::shared().map_err(|error| Failure::unexpected(error.to_string()))?;
    let (dev, web) = (Dev::plain()?, Workload::of(kubernetes).await?);
    let both: Vec<_> =
        [may_review(), may_watch()].iter().flat_map(|rights| rights.as_array().cloned().unwrap()).collect();
    credentials(&dev, kubernetes, both.into()).await?;
    cluster_of(&dev, json!({"kind": "token-review", "issuer": ISSUER}))?;
    dev.edit("signet-ca.yaml", |config| {
        config["clusters"][0]["client_certificates"] = json!({"live_objects": true});
        Ok(())
    })?;
    let ca = dev.start_ca().await?;
    let of_account = web.cluster.token(&web.namespace, "web", "istio-ca").await.map_err(made("request a token"))?;
    let of_pod = Held::first_of(&web.identity(), &dev, &web.token().await?).await?;
    let of_account = Held::first_of(&web.identity(), &dev, &of_account).await?;
    // Until pods and accounts are known, everybody is told to retry.
    for held in [&of_pod, &of_account] {
        let renewed = async || held.renewed(&dev).await.ok()?.ok();
        signet_tests::harness::process::eventually("a renewal", SOON, renewed).await?;
    }
    web.cluster.phase(&web.pod, "Failed").await.map_err(made("end a pod"))?;
    until(&of_pod, &dev, Code::Unauthenticated).await?;
    ca.refused_for("pod_gone").await?;
    of_account.renewed(&dev).await?.map_err(Failure::while_doing("renew without a pod"))?;
    web.cluster.delete_account(&web.namespace, "web").await.map_err(made("delete an account"))?;
    until(&of_account, &dev, Code::Unauthenticated).await?;
    ca.refused_for("account_gone").await
}
