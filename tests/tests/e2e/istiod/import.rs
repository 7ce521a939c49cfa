//! `signet-ca import istiod`: from wherever the CA is, whole or not at all, and never in the place of others.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use signet_test_servers::kubernetes::{Kubernetes, Request};
use signet_test_servers::scripted::{Answer, ScriptedApi};
use signet_tests::client::certify::Client;
use signet_tests::client::keys;
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::Dev;
use signet_tests::harness::plugged::{OwnCa, Set};
use signet_tests::harness::process::eventually;
use signet_tests::harness::rotation::keys as config;
use signet_tests::istiod::CaSet;
use signet_tests::{judge, tools};

use super::write;
use crate::kubernetes::credentials;

/// How the command ends, and what it prints on both streams.
fn import(dev: &Dev, args: &[&str]) -> Outcome<(Option<i32>, String, String)> {
    let mut command = Command::new(tools::own("signet-ca")?);
    command.args(["import", "istiod"]).args(args).arg("--config").arg(dev.path("signet-ca.yaml"));
    let output = tools::output(&mut command)?;
    let [out, error] = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    for told in [&out, &error] {
        ensure(!told.contains("PRIVATE KEY") && !told.contains("panicked"), || told.clone())?;
    }
    Ok((output.status.code(), out, error))
}

fn done(dev: &Dev, args: &[&str]) -> Outcome<Value> {
    let (code, out, error) = import(dev, &[args, &["-o", "json"]].concat())?;
    ensure(code == Some(0), || format!("{code:?}: {out}{error}"))?;
    serde_json::from_str(&out).map_err(Failure::while_doing("read JSON"))
}

/// The Secret with these files, and what else istiod's own has.
fn secret(name: &str, files: &Set) -> Value {
    let data: serde_json::Map<String, Value> =
        files.iter().map(|(name, content)| ((*name).to_owned(), STANDARD.encode(content).into())).collect();
    let mut object = json!({"apiVersion": "v1", "kind": "Secret", "type": "istio.io/ca-root", "data": data});
    object["metadata"] = json!({"namespace": "istio-system", "name": name, "labels": {"a": "b"}});
    object["data"]["key.pem"] = "".into();
    object
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// A self-signed CA with the empty root file of older versions.
fn old_style() -> Outcome<CaSet> {
    Ok(CaSet::self_made("cluster.local")?.trusting(""))
}

#[tokio::test]
async fn the_ca_that_istiod_has_made_itself_is_completed_and_signs_here_under_the_same_root() -> Outcome {
    let dev = Dev::on_file()?;
    let set = old_style()?;
    std::fs::write(dev.path("secret.json"), secret("istio-ca-secret", &set.files()).to_string()).unwrap();
    let (from, to) = (shown(&dev.path("secret.json")), shown(&dev.path("own/ca")));
    let args = ["--from", &from, "--to", &to];

    let dry = done(&dev, &[&args[..], &["--dry-run"]].concat())?;
    assert_eq!((&dry["dry_run"], dev.path("own").exists()), (&json!(true), false));
    let first = done(&dev, &args)?;
    assert_eq!(first["completed"], json!(["root-cert.pem"]));
    assert_eq!(first["written"], json!(["ca-cert.pem", "root-cert.pem", "cert-chain.pem", "ca-key.pem"]));
    let issuing = &first["issuing"];
    assert_eq!((&issuing["subject"], &issuing["key"]), (&json!("O=cluster.local"), &json!("RSA 2048")));
    assert_eq!((&issuing["self_signed"], &issuing["id"]), (&json!(true), &issuing["root"]));
    let notes = first["notes"].to_string();
    ensure(notes.contains("is a root") && notes.contains("cRLSign") && !notes.contains("trust domain"), || {
        notes.clone()
    })?;
    for file in ["ca-cert.pem", "root-cert.pem", "cert-chain.pem", "ca-key.pem"] {
        let mode = std::fs::metadata(dev.path("own/ca").join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    let again = done(&dev, &args)?;
    assert_eq!((&again["written"], again["kept"].as_array().map(Vec::len)), (&json!([]), Some(4)));

    // As it says, the CA goes on with that: the root of the mesh signs here.
    let (_, text, _) = import(&dev, &args)?;
    for part in ["backend: files", &format!("files: {to}"), "RSA 2048", "SHA-256 fingerprint", "already"] {
        ensure(text.contains(part), || format!("no {part:?} in {text}"))?;
    }
    dev.start_over()?;
    dev.set_ca(config::BACKEND, config::FILES)?;
    dev.set_ca(config::FILES_DIRECTORY, to.as_str())?;
    let (_, text, _) = import(&dev, &args)?;
    ensure(text.contains("names this directory already") && text.contains("signet-ca init"), || text.clone())?;
    tools::run(&mut dev.ca_command(&["check"])?)?;
    let _ca = dev.start_ca().await?;
    let made = signet_tests::client::csr::like_istio_agent(signet_tests::stage::CLIENT_ID)?;
    let client = Client::trusting(dev.listen, &set.certificate).await?;
    let ask = signet_tests::client::ask::Ask::like_istio_agent(&made.csr, &dev.token("client")?);
    let reply = client.issued(&ask).await?;
    judge::workload(&reply, &made.csr, signet_tests::stage::CLIENT_ID)?;
    assert_eq!(keys::ids(&reply[1..].concat())?, keys::ids(&set.certificate)?);
    let (_, text, _) = import(&dev, &args)?;
    ensure(text.contains("follows by a rotation"), || text.clone())
}

#[test]
fn a_plugged_in_ca_is_read_from_a_directory_and_from_yaml_and_nothing_is_completed() -> Outcome {
    let dev = Dev::on_file()?;
    let root = OwnCa::root("mesh root")?;
    let set = CaSet::plugged(&root.certify("mesh signer")?, &root);
    write(&dev.path("cacerts"), &set.files())?;
    let yaml = set.files().iter().fold("kind: Secret\nstringData:\n".to_owned(), |text, (name, content)| {
        let indented: String = content.lines().map(|line| format!("    {line}\n")).collect();
        format!("{text}  {name}: |\n{indented}")
    });
    std::fs::write(dev.path("secret.yaml"), yaml).unwrap();
    for (index, from) in ["cacerts", "secret.yaml"].iter().enumerate() {
        let to = shown(&dev.path(&format!("to-{index}")));
        let told = done(&dev, &["--from", &shown(&dev.path(from)), "--to", &to])?;
        assert_eq!((&told["completed"], &told["issuing"]["self_signed"]), (&json!([]), &json!(false)));
        assert_eq!(told["issuing"]["subject"], "CN=mesh signer");
        assert_eq!(told["roots"][0]["subject"], "CN=mesh root");
        let key = std::fs::read_to_string(dev.path(&format!("to-{index}/ca-key.pem"))).unwrap();
        assert_eq!(key, set.key, "byte for byte");
    }
    Ok(())
}

#[test]
fn whatever_keeps_it_from_being_used_is_told_at_once_and_nothing_is_written() -> Outcome {
    let dev = Dev::on_file()?;
    let (root, other) = (OwnCa::root("mesh root")?, OwnCa::root("other")?);
    let mut set = CaSet::plugged(&root.certify("mesh signer")?, &root);
    set.key.clone_from(&other.key);
    set.roots.clone_from(&other.certificate);
    set.chain.clear();
    write(&dev.path("cacerts"), &set.files())?;
    write(&dev.path("theirs"), &vec![("ca-cert.pem", "theirs".to_owned()), ("tls.crt", "theirs".to_owned())])?;
    let (from, to) = (shown(&dev.path("cacerts")), shown(&dev.path("theirs")));
    let (code, out, error) = import(&dev, &["--from", &from, "--to", &to, "-o", "json"])?;
    let told: Value = serde_json::from_str(&out).map_err(Failure::while_doing("read JSON"))?;
    let problems: Vec<&str> = told["problems"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for part in
        ["ca-key.pem is not the key of", "the issuer of `CN=mesh signer`", "ca-cert.pem is there", "tls.crt is there"]
    {
        ensure(problems.iter().filter(|text| text.contains(part)).count() == 1, || format!("{part}: {problems:#?}"))?;
    }
    ensure(code == Some(1) && problems.len() == 4, || format!("{code:?}: {problems:#?}"))?;
    ensure(problems.iter().all(|text| error.contains(&format!("signet-ca: {text}"))), || error.clone())?;
    assert_eq!(std::fs::read_dir(dev.path("theirs")).unwrap().count(), 2);
    assert_eq!(std::fs::read_to_string(dev.path("theirs/ca-cert.pem")).unwrap(), "theirs");
    // A directory that is named nowhere is wrong usage, and so is what names nothing.
    for (args, words) in
        [(vec!["--from", from.as_str()], "--to"), (vec!["--from", "gone", "--to", "x"], "NAMESPACE/NAME")]
    {
        let (code, _, error) = import(&dev, &args)?;
        ensure(code == Some(2) && error.contains(words), || format!("{code:?}: {error}"))?;
    }
    Ok(())
}

#[test]
fn a_ca_of_another_trust_domain_is_remarked_and_without_a_configuration_that_is_left_open() -> Outcome {
    let dev = Dev::on_file()?;
    write(&dev.path("cacerts"), &CaSet::self_made("mesh.example")?.files())?;
    let (from, to) = (shown(&dev.path("cacerts")), shown(&dev.path("to")));
    let told = done(&dev, &["--from", &from, "--to", &to])?;
    let notes = told["notes"].to_string();
    ensure(notes.contains("mesh.example") && notes.contains("meshConfig.trustDomain"), || notes.clone())?;
    let mut command = Command::new(tools::own("signet-ca")?);
    let text = tools::run(command.args(["import", "istiod", "--from", &from, "--to", &to]))?;
    ensure(text.contains("not whether this CA is of your trust domain") && text.contains("caFiles.secret"), || {
        text.clone()
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_is_read_from_the_cluster_and_what_keeps_it_from_that_is_told() -> Outcome {
    let dev = Dev::on_file()?;
    let object = secret("istio-ca-secret", &old_style()?.files());
    let no = |status: u16| Answer::json(status, &json!({"kind": "Status", "status": "Failure", "code": status}));
    let api = ScriptedApi::start(move |asked| {
        std::future::ready(match asked.path.as_str() {
            "/api/v1/namespaces/istio-system/secrets/istio-ca-secret" => Answer::json(200, &object),
            "/api/v1/namespaces/istio-system/secrets/cacerts" => no(404),
            _ => no(403),
        })
    });
    let api = api.await.map_err(Failure::while_doing("start an API server"))?;
    let (from, to) = ("istio-system/istio-ca-secret", shown(&dev.path("to")));
    let (code, _, error) = import(&dev, &["--from", from, "--to", &to])?;
    ensure(code == Some(1) && error.contains("kubectl -n istio-system get secret"), || format!("{code:?} {error}"))?;
    std::fs::write(dev.path("kubeconfig"), api.kubeconfig()).map_err(Failure::io("write a kubeconfig"))?;
    dev.edit("signet-ca.yaml", |config| {
        config["clusters"][0]["api_server"] = shown(&dev.path("kubeconfig")).into();
        Ok(())
    })?;
    let told = done(&dev, &["--from", from, "--to", &to, "--cluster", "Kubernetes"])?;
    assert_eq!(
        (&told["from"], &told["completed"]),
        (&json!("Secret istio-system/istio-ca-secret"), &json!(["root-cert.pem"]))
    );
    for (from, more, words) in [
        ("istio-system/cacerts", &[][..], "`istio-ca-secret` where it has made one itself"),
        ("istio-system/other", &[], "needs the verb get on secrets"),
        (from, &["--cluster", "east"], "there is no cluster \"east\""),
    ] {
        let (code, _, error) = import(&dev, &[&["--from", from, "--to", &to][..], more].concat())?;
        ensure(code == Some(1) && error.contains(words), || format!("{words}: {code:?} {error}"))?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real API server; run it with: make test-kubernetes"]
async fn a_real_api_server_gives_the_secret_to_whoever_has_the_right_and_it_is_said_who_has_not() -> Outcome {
    let kubernetes = Kubernetes::shared().map_err(|error| Failure::unexpected(error.to_string()))?;
    let dev = Dev::on_file()?;
    let own = credentials(&dev, kubernetes, json!([])).await?;
    dev.edit("signet-ca.yaml", |config| {
        config["clusters"][0]["api_server"] = shown(&dev.path("kubeconfig")).into();
        Ok(())
    })?;
    let mut object = secret("istio-ca-secret", &old_style()?.files());
    object["metadata"]["namespace"] = own.namespace.as_str().into();
    let path = format!("/api/v1/namespaces/{}/secrets", own.namespace);
    let request = Request { method: "POST".to_owned(), path, accept: None, body: object };
    let made = own.cluster.send(&request).await.map_err(Failure::while_doing("make a Secret"))?;
    ensure(made.status == 201, || format!("{made:?}"))?;
    let (from, to) = (format!("{}/istio-ca-secret", own.namespace), shown(&dev.path("to")));
    let (code, _, error) = import(&dev, &["--from", &from, "--to", &to])?;
    ensure(code == Some(1) && error.contains("403") && error.contains("the verb get on secrets"), || error.clone())?;
    let right = json!([{
        "apiGroups": [""], "resources": ["secrets"], "verbs": ["get"], "resourceNames": ["istio-ca-secret", "cacerts"],
    }]);
    let allowed = own.cluster.allow(&own.namespace, "web", right).await;
    allowed.map_err(Failure::while_doing("give the CA a right"))?;
    let imported = async || done(&dev, &["--from", &from, "--to", &to]).ok();
    let told = eventually("the Secret", super::SOON, imported).await?;
    assert_eq!((&told["completed"], &told["issuing"]["self_signed"]), (&json!(["root-cert.pem"]), &json!(true)));
    let from = format!("{}/cacerts", own.namespace);
    let (_, _, error) = import(&dev, &["--from", &from, "--to", &to])?;
    ensure(error.contains("404") && error.contains("`istio-ca-secret` where"), || error.clone())
}
