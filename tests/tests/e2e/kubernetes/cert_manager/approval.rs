//! Where nobody approves by himself: that is said, a denial is final, and this CA may approve its own requests.

use serde_json::json;
use signet_test_servers::kubernetes::{ApiServer, CertManager, Kubernetes};
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::Dev;
use signet_tests::harness::plugged::OwnCa;
use signet_tests::tools;

use super::{Stage, and, documented, issued};
use crate::rotation::installation;

const TWO: [&str; 2] = ["client=default/client", "server=default/server"];

/// What `init` says, which ends with this code.
fn init(dev: &Dev) -> Outcome<(Option<i32>, String)> {
    let output = tools::output(&mut dev.ca_command(&["init"])?)?;
    Ok((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real API server; run it with: make test-kubernetes"]
async fn nobody_approves_somebody_denies_and_we_approve_ourselves() -> Outcome {
    let failed = |error: signet_test_servers::ServerError| Failure::unexpected(error.to_string());
    let kubernetes = Kubernetes::start(&ApiServer::default()).map_err(failed)?;
    let _cert_manager = CertManager::start(&kubernetes, false).map_err(failed)?;
    let root = OwnCa::root("mesh root")?;
    let dev = installation("1h", &TWO)?;
    let stage = Stage::new(&kubernetes, &dev, &root, &[&root]).await?;

    stage.configure(&dev, &json!({"deadline": "2s"}))?;
    let (code, text) = init(&dev)?;
    ensure(code == Some(1) && text.contains("nobody approves it"), || text.clone())?;
    stage.no_requests().await?;
    // Of a kind that nobody has installed, nobody says anything either.
    stage.configure(
        &dev,
        &json!({"deadline": "2s", "issuer": {"name": "ca", "kind": "Nobody", "group": "nobody.example"}}),
    )?;
    let (code, text) = init(&dev)?;
    ensure(code == Some(1) && text.contains("external issuer that is not installed"), || text.clone())?;

    stage.configure(&dev, &json!({"deadline": "60s"}))?;
    let denying = async {
        let request = stage.request().await?;
        let path = format!(
            "{}/{}/status",
            stage.path("certificaterequests"),
            request["metadata"]["name"].as_str().unwrap_or_default()
        );
        let mut denied = request.clone();
        let condition = json!({
            "type": "Denied", "status": "True", "reason": "policy", "message": "no CAs on Mondays",
            "lastTransitionTime": "2026-11-30T12:00:00Z",
        });
        denied["status"] = json!({"conditions": [condition]});
        stage.done("PUT", &path, denied).await.map(drop)
    };
    let command = dev.ca_command(&["init"])?;
    let asking = tokio::task::spawn_blocking(move || tools::output(&mut { command }));
    denying.await?;
    let output = asking.await.map_err(Failure::while_doing("wait for init"))??;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure(output.status.code() == Some(1) && text.contains("was denied: no CAs on Mondays"), || text.clone())?;
    stage.no_requests().await?;

    // Without the rights for it, and with them.
    stage.configure(&dev, &json!({"approve": true}))?;
    let (code, text) = init(&dev)?;
    ensure(code == Some(1) && text.contains("approving a CertificateRequest: the API server answered 403"), || {
        text.clone()
    })?;
    let mut more = documented("approve.yaml")?;
    for rule in more.as_array_mut().into_iter().flatten() {
        if rule["resources"] == json!(["signers"]) {
            rule["resourceNames"] = json!([format!("issuers.cert-manager.io/{}.mesh-ca", stage.own.namespace)]);
        }
    }
    stage.allow(and(documented("rbac.yaml")?, more)).await?;
    let _ca = dev.start_ca().await?;
    issued(&dev).await?;
    stage.no_requests().await?;
    Ok(())
}
