//! `check --connect` names what is missing, before the first issuing CA depends on it.

use serde_json::json;
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::Dev;
use signet_tests::tools;

use super::backed;

fn connect(dev: &Dev, more: &[&str]) -> Outcome<(Option<i32>, String)> {
    let args = [&["check"], more].concat();
    let output = tools::output(&mut dev.ca_command(&args)?)?;
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    Ok((output.status.code(), text.into_owned()))
}

#[tokio::test]
async fn what_openbao_does_not_let_this_ca_do_is_named_with_the_line_of_the_policy() -> Outcome {
    let (bao, dev) = backed("1h", 3600).await?;
    let certificates = async || Ok::<_, Failure>(bao.get("pki/certs?list=true").await?["data"].to_string());
    let before = certificates().await?;
    let expect = |code: i32, words: &[&str], more: &[&str]| {
        let (found, text) = connect(&dev, more)?;
        ensure(found == Some(code) && words.iter().all(|word| text.contains(word)), || format!("{found:?} {text}"))
    };
    expect(0, &["a trial would leave a CA certificate"], &["--connect"])?;
    expect(0, &["whether Vault answers"], &[])?;
    assert_eq!(certificates().await?, before, "a check makes no certificate");

    bao.put("sys/policies/acl/signet-intermediate", json!({ "policy": "# nothing" })).await?;
    let line = "path \"pki/root/sign-intermediate\" { capabilities = [\"update\"] }";
    expect(1, &["does not let this CA sign the issuing CA", line], &["--connect"])?;
    // Without that, no first authority is made, and it is said why.
    let output = tools::output(&mut dev.ca_command(&["init"])?)?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure(output.status.code() == Some(1) && text.contains(line), || text.clone())?;

    dev.set_ca("authority.vault.mount", "nothing")?;
    expect(1, &["is there a PKI secrets engine at \"nothing\""], &["--connect"])?;
    dev.set_ca("authority.vault.mount", "pki")?;
    std::fs::write(dev.path("secret-id"), "no-secret").map_err(Failure::io("write a secret"))?;
    expect(1, &["invalid role or secret ID", "look at the AppRole"], &["--connect"])?;
    std::fs::remove_file(dev.path("secret-id")).map_err(Failure::io("remove a secret"))?;
    expect(2, &["authority.vault: cannot read", "secret-id"], &[])?;
    bao.secret(&dev.path("secret-id")).await?;
    dev.set_ca("authority.vault.address", "http://127.0.0.1:9")?;
    expect(1, &["cannot be reached"], &["--connect"])
}
