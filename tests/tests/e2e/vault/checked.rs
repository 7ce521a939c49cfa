//! `check --connect` names what is missing, before the first issuing CA depends on it.

use serde_json::{Value, json};
use signet_tests::client::keys;
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::Dev;
use signet_tests::tools;

use super::backed;

pub(super) fn connect(dev: &Dev, more: &[&str]) -> Outcome<(Option<i32>, String)> {
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
    expect(0, &["so that a trial would be on no record"], &["--connect"])?;
    expect(0, &["whether Vault answers"], &[])?;
    assert_eq!(certificates().await?, before, "nothing is signed that is on no record");

    bao.put("sys/policies/acl/signet-intermediate", json!({ "policy": "# nothing" })).await?;
    let line = "path \"pki/root/sign-intermediate\" { capabilities = [\"update\"] }";
    let off_record = ["--connect", "--off-record"];
    expect(1, &["does not let this CA sign the issuing CA", line], &off_record)?;
    assert_eq!(certificates().await?, before, "nothing is signed when something is wrong");
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

#[tokio::test]
async fn a_trial_signature_is_on_record_before_it_is_made_or_is_not_made() -> Outcome {
    let (bao, dev) = backed("1h", 3600).await?;
    let certificates = async || {
        let all = bao.get("pki/certs?list=true").await?;
        Ok::<_, Failure>(all.pointer("/data/keys").and_then(Value::as_array).map_or(0, Vec::len))
    };
    let (code, text) = connect(&dev, &["--connect", "--off-record"])?;
    let signed = "a CA certificate on trial was signed by Vault";
    ensure(code == Some(0) && text.contains(&format!("{signed} (on no record)")), || text.clone())?;
    let ca = dev.start_ca().await?;
    let before = certificates().await?;
    let (code, text) = connect(&dev, &["--connect"])?;
    ensure(code == Some(0) && text.contains(&format!("{signed} (which is on record)")), || text.clone())?;
    assert_eq!(certificates().await?, before + 1);

    // What was made is what is said: a CA that no workload has the name of, for a minute.
    let serial =
        text.split("serial number ").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap_or_default();
    let pairs: Vec<String> = serial.as_bytes().chunks(2).map(|two| String::from_utf8_lossy(two).into_owned()).collect();
    let made = bao.get(&format!("pki/cert/{}", pairs.join(":"))).await?;
    let pem = made.pointer("/data/certificate").and_then(Value::as_str).unwrap_or_default().to_owned();
    let facts = keys::facts(&pem)?;
    assert_eq!(facts.uris, ["spiffe://cluster.local/signet/trial"]);
    ensure(facts.is_ca && (facts.not_after - facts.not_before).whole_seconds() < 120, || format!("{facts:?}"))?;

    let record = ca.audit(&[])?;
    let said: Vec<_> = record.iter().filter(|event| event["kind"] == "admin" && event["reason"] == "check").collect();
    ensure(said.len() == 2, || format!("{record:#?}"))?;
    let text = |index: usize| said[index]["detail"].as_str().unwrap_or_default().to_owned();
    let (newest, first) = (text(0), text(1));
    assert_eq!((&said[0]["outcome"], &said[1]["outcome"]), (&json!("done"), &json!("intended")));
    ensure(newest.contains(serial) && first.contains("signet/trial") && first.contains("nobody gets"), || {
        first.clone()
    })?;

    // Lifetimes are cut without a word by Vault, and with one here.
    bao.put("sys/mounts/pki/tune", json!({ "max_lease_ttl": "1h" })).await?;
    let (code, text) = connect(&dev, &["--connect"])?;
    ensure(code == Some(1) && text.contains("max_lease_ttl of the mount \"pki\" is 3600 s"), || text.clone())
}
