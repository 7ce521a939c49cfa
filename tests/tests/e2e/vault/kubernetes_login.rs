//! A login with the token of a service account, which a real OpenBao has a real API server review.

use serde_json::json;
use signet_test_servers::ServerError;
use signet_test_servers::kubernetes::{ISSUER, Kubernetes};
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::Bao;

use super::{installation, issued, told};

/// Who the tokens are for.
const VAULT: &str = "vault.example";

#[tokio::test]
#[ignore = "needs a real API server; run it with: make test-kubernetes"]
async fn the_token_of_a_service_account_logs_in_and_its_successor_and_no_other() -> Outcome {
    let made = Failure::while_doing::<ServerError>;
    let kubernetes = Kubernetes::shared().map_err(|error| Failure::unexpected(error.to_string()))?;
    let cluster = kubernetes.cluster().await.map_err(made("reach the API server"))?;
    let namespace = cluster.namespace().await.map_err(made("make a namespace"))?;
    for account in ["signet-ca", "openbao", "stranger"] {
        cluster.account(&namespace, account).await.map_err(made("make an account"))?;
    }
    let rights = json!([{"apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"]}]);
    cluster.allow(&namespace, "openbao", rights).await.map_err(made("let OpenBao review tokens"))?;
    let reviewer = cluster.token(&namespace, "openbao", ISSUER).await.map_err(made("request a token"))?;

    let dev = installation("1h")?;
    let bao = Bao::with_pki(dev.directory(), 3600).await?;
    bao.backs(&dev).await?;
    let ca = std::fs::read_to_string(kubernetes.ca_file()).map_err(Failure::io("read the CA of the API server"))?;
    bao.put("sys/auth/kubernetes", json!({ "type": "kubernetes" })).await?;
    let config = json!({
        "kubernetes_host": kubernetes.url(), "kubernetes_ca_cert": ca, "token_reviewer_jwt": reviewer,
    });
    bao.put("auth/kubernetes/config", config).await?;
    let role = json!({
        "bound_service_account_names": "signet-ca", "bound_service_account_namespaces": namespace, "audience": VAULT,
        "token_policies": "signet-intermediate", "token_period": 6,
    });
    bao.put("auth/kubernetes/role/signet", role).await?;
    let file = dev.path("vault-token");
    let give = async |account: &str, audience: &str| {
        let token = cluster.token(&namespace, account, audience).await.map_err(made("request a token"))?;
        std::fs::write(&file, token).map_err(Failure::io("write a token"))
    };
    // Every token that OpenBao has given through this method.
    let revoke = async || bao.put("sys/leases/revoke-prefix/auth/kubernetes", json!({})).await.map(drop);
    give("signet-ca", VAULT).await?;
    dev.set_ca("authority.vault.auth", json!({ "method": "kubernetes", "role": "signet", "token_file": file }))?;
    let mut ca = dev.start_ca().await?;
    issued(&dev).await?;
    told(&mut ca, &dev, "its token holds until").await?;

    // A token for somebody else, and a token of somebody else.
    for (account, audience) in [("signet-ca", "somebody-else"), ("stranger", VAULT)] {
        give(account, audience).await?;
        revoke().await?;
        told(&mut ca, &dev, "bound service accounts, audience").await?;
        issued(&dev).await?;
        give("signet-ca", VAULT).await?;
        told(&mut ca, &dev, "its token holds until").await?;
    }
    ca.operator().done(&["authority", "rotate", "--issuing"])?;
    issued(&dev).await?;
    let token = dev.text("vault-token")?;
    ensure(!ca.process.log().contains(token.trim()), || "a token is in the log".to_owned())
}
