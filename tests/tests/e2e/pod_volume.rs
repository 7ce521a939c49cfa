//! The sample of a pod whose Envoy has its certificate and its roots from a volume that kubelet keeps: a real Envoy follows both.
//! The files are written as kubelet does, which replaces a link to the directory that holds them.

use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use serde_json::{Value, json};
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::envoy::{Bootstrap, Side};
use signet_tests::harness::process::eventually;
use signet_tests::harness::volume::{File, Volume};
use signet_tests::harness::{Envoy, yaml};
use signet_tests::tools;

const WITHIN: Duration = Duration::from_secs(60);
const ID: &str = "spiffe://cluster.local/ns/default/sa/web";

/// The documents of the sample.
pub(crate) fn documents() -> Outcome<Vec<Value>> {
    let file = tools::source_root().join("deploy/samples/pod-certificate.yaml");
    let text = std::fs::read_to_string(file).map_err(Failure::io("read the sample"))?;
    let directory = tempfile::tempdir().map_err(Failure::io("make a temporary directory"))?;
    let read = |(number, part): (usize, &str)| {
        let file = directory.path().join(format!("{number}.yaml"));
        std::fs::write(&file, part).map_err(Failure::io("write a part of the sample"))?;
        yaml::read(&file)
    };
    text.split("\n---\n").enumerate().map(read).collect()
}

fn files(named: Vec<(&str, String)>) -> Vec<File> {
    named.into_iter().map(|(name, content)| File::new(name, content)).collect()
}

/// A root, with what signs under it.
fn root(serial: u64) -> (Issuer<'static, KeyPair>, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    (params.is_ca, params.serial_number) = (IsCa::Ca(BasicConstraints::Unconstrained), Some(serial.into()));
    let certificate = params.self_signed(&key).unwrap();
    (Issuer::new(params, key), certificate.pem())
}

/// Key and chain in one file, the key first.
fn credentials(issuer: &Issuer<'_, KeyPair>, serial: u64) -> String {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.serial_number = Some(serial.into());
    params.subject_alt_names = vec![SanType::URI(ID.try_into().unwrap())];
    let certificate = params.signed_by(&key, issuer).unwrap();
    format!("{}{}", key.serialize_pem(), certificate.pem())
}

#[tokio::test]
async fn envoy_follows_the_certificate_and_the_roots_that_kubelet_writes() -> Outcome {
    let directory = tempfile::tempdir().map_err(Failure::io("make a temporary directory"))?;
    let (config, identity) = (directory.path().join("config"), directory.path().join("identity"));
    for path in [&config, &identity] {
        std::fs::create_dir(path).map_err(Failure::io("make a directory"))?;
    }
    let documents = documents()?;
    let map = documents.iter().find(|document| document["kind"] == "ConfigMap");
    let map = map
        .and_then(|map| map["data"].as_object())
        .ok_or_else(|| Failure::unexpected("the sample has no ConfigMap"))?;
    for (name, content) in map {
        let content = content.as_str().unwrap_or_default();
        let content = content.replace("/etc/envoy/", &format!("{}/", config.display()));
        let content = content.replace("/var/run/identity", &identity.display().to_string());
        std::fs::write(config.join(name), content).map_err(Failure::io("write a file of the sample"))?;
    }
    let mut volume = Volume::at(identity);
    let ((old, old_root), (new, new_root)) = (root(0x71), root(0x72));
    volume.write(&files(vec![("credentials.pem", credentials(&old, 0x11)), ("roots.pem", old_root.clone())]))?;
    let bootstrap = Bootstrap::of_file(&config.join("envoy.yaml"), Side::Server)?;
    let mut envoy = Envoy::started("envoy-pod", directory.path(), &bootstrap).await?;
    let id = envoy.process.id();
    for (written, serial, roots) in [
        (vec![], "11", vec!["71"]),
        (vec![("credentials.pem", credentials(&old, 0x12)), ("roots.pem", old_root.clone())], "12", vec!["71"]),
        (
            vec![("credentials.pem", credentials(&old, 0x12)), ("roots.pem", format!("{old_root}{new_root}"))],
            "12",
            vec!["71", "72"],
        ),
        (vec![("credentials.pem", credentials(&new, 0x13)), ("roots.pem", new_root.clone())], "13", vec!["72"]),
    ] {
        if !written.is_empty() {
            volume.write(&files(written))?;
        }
        let mut last = Vec::new();
        let holds = async || {
            let loaded = envoy.certificates().await.ok()?;
            let mut trusted = envoy.trusted_serials().await.ok()?;
            trusted.sort();
            last = vec![json!(loaded.iter().map(|one| one.serial.clone()).collect::<Vec<_>>()), json!(trusted)];
            let is_leaf = loaded.iter().any(|one| one.serial == serial && one.uris == [ID]);
            (is_leaf && trusted == roots).then_some(())
        };
        let held = eventually("the files of the volume", WITHIN, holds).await;
        held.map_err(|error| Failure::unexpected(format!("{serial} and {roots:?}: {error}; Envoy holds {last:?}")))?;
    }
    ensure(envoy.process.id() == id && envoy.process.ended()?.is_none(), || "Envoy was restarted".to_owned())
}

#[test]
fn the_pod_of_the_sample_names_the_signer_of_both_sources_and_mounts_what_envoy_reads() -> Outcome {
    let documents = documents()?;
    let pod = documents.iter().find(|document| document["kind"] == "Pod").cloned().unwrap_or_default();
    let volumes = pod["spec"]["volumes"].as_array().cloned().unwrap_or_default();
    let sources = volumes.iter().find_map(|volume| volume.pointer("/projected/sources")?.as_array().cloned());
    let sources = sources.unwrap_or_default();
    let signers: Vec<&str> = sources
        .iter()
        .filter_map(|source| {
            let signer =
                source.pointer("/podCertificate/signerName").or(source.pointer("/clusterTrustBundle/signerName"));
            signer?.as_str()
        })
        .collect();
    ensure(signers == ["signet.internal/workload"; 2], || format!("{signers:?}"))
}
