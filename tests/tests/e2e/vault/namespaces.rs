//! A namespace of a real OpenBao: everything that is asked is asked there, and what is in another one is not found.

use serde_json::{Value, json};
use signet_tests::client::keys;
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::Bao;
use signet_tests::tools;

use super::{installation, issued};

/// The policy that the page documents.
const POLICY: &str = include_str!("../../../../deploy/vault/signet-intermediate.hcl");

fn text(answer: &Value, at: &str) -> Outcome<String> {
    let found = answer.pointer(at).and_then(Value::as_str).map(str::to_owned);
    found.ok_or_else(|| Failure::unexpected(format!("no {at} in {answer}")))
}

#[tokio::test]
async fn a_mount_a_login_and_a_policy_in_a_namespace_are_used_there_and_nowhere_else() -> Outcome {
    let dev = installation("1h")?;
    // With a mount of the same name outside, which must not be taken for it.
    let bao = Bao::with_pki(dev.directory(), 3600).await?;
    bao.backs(&dev).await?;
    bao.put("sys/namespaces/team", json!({})).await?;
    bao.put("sys/namespaces/empty", json!({})).await?;
    let pki = json!({ "type": "pki", "config": { "max_lease_ttl": "87600h" } });
    bao.put("team/sys/mounts/pki", pki).await?;
    let root = json!({ "common_name": "root of a team", "key_type": "ec", "ttl": "87600h" });
    let root = text(&bao.put("team/pki/root/generate/internal", root).await?, "/data/certificate")?;
    bao.put("team/sys/policies/acl/signet-intermediate", json!({ "policy": POLICY })).await?;
    bao.put("team/sys/auth/approle", json!({ "type": "approle" })).await?;
    bao.put("team/auth/approle/role/signet", json!({ "token_policies": "signet-intermediate" })).await?;
    let role_id = text(&bao.get("team/auth/approle/role/signet/role-id").await?, "/data/role_id")?;
    let secret = text(&bao.put("team/auth/approle/role/signet/secret-id", json!({})).await?, "/data/secret_id")?;
    std::fs::write(dev.path("secret-id"), secret).map_err(Failure::io("write a secret"))?;
    dev.set_ca("authority.vault.auth.role_id", role_id)?;

    let connect = |namespace: &str| {
        dev.set_ca("authority.vault.namespace", namespace)?;
        let output = tools::output(&mut dev.ca_command(&["check", "--connect", "--off-record"])?)?;
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        Ok::<_, Failure>((output.status.code(), text))
    };
    for (wrong, words) in [("empty", "and the namespace right?"), ("nobody", "namespace not found")] {
        let (code, text) = connect(wrong)?;
        ensure(code == Some(1) && text.contains(words), || format!("{wrong}: {code:?} {text}"))?;
    }
    let (code, text) = connect("team")?;
    ensure(code == Some(0) && text.contains("on trial was signed by Vault"), || text.clone())?;
    let _ca = dev.start_ca().await?;
    issued(&dev).await?;
    assert_eq!(keys::ids(&dev.text("root-cert.pem")?)?, keys::ids(&root)?, "the root is the one of the namespace");
    Ok(())
}
