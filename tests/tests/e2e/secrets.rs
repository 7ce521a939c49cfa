//! No token and no private key is ever in a log, in metrics, in the record or what is made of it or, in clear, in the database.

use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::secret::Type;
use signet_tests::client::ask::Ask;
use signet_tests::client::certify::Client;
use signet_tests::client::{csr, sds};
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::database::Store;
use signet_tests::harness::process::eventually;
use signet_tests::harness::{Agent, Dev, probe, yaml};
use signet_tests::stage::CLIENT_ID;
use signet_tests::tools;

const SOON: std::time::Duration = std::time::Duration::from_secs(30);

/// The private key that the agent serves to its proxy.
async fn served_key(agent: &Agent) -> Outcome<String> {
    let response = sds::fetch(agent.channel().await?, sds::subscribe("test", &["default"])).await;
    let response = response.map_err(Failure::while_doing("fetch a secret"))?;
    for secret in sds::secrets(&response)? {
        if let Some(Type::TlsCertificate(certificate)) = secret.r#type {
            match certificate.private_key.and_then(|key| key.specifier) {
                Some(Specifier::InlineBytes(bytes)) => return Ok(String::from_utf8_lossy(&bytes).into_owned()),
                Some(Specifier::InlineString(text)) => return Ok(text),
                _ => {}
            }
        }
    }
    Err(Failure::unexpected("the agent serves no key"))
}

/// The lines of base64 in a PEM text or the parts of a token: what would betray it anywhere.
fn traces(secret: &str) -> Vec<String> {
    secret
        .split(|c: char| c.is_whitespace() || c == '.')
        .filter(|part| part.len() >= 30 && !part.contains('-'))
        .map(str::to_owned)
        .collect()
}

/// Whether it is there, as it is or as the dump of a column of bytes shows it.
fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    let digits: String = needle.iter().map(|byte| format!("{byte:02x}")).collect();
    [needle, digits.as_bytes()].iter().any(|form| haystack.windows(form.len()).any(|window| window == *form))
}

/// Everything in the storage.
fn storage(dev: &Dev) -> Outcome<Vec<(String, Vec<u8>)>> {
    if dev.store()? == Store::Postgres {
        dev.back_up()?;
    }
    let files = std::fs::read_dir(dev.directory()).unwrap().flatten().map(|entry| entry.path());
    let named = files.filter_map(|path| Some((path.file_name()?.to_str()?.to_owned(), path)));
    let kept = named.filter(|(name, _)| name.starts_with("signet.db") || name == "backup");
    Ok(kept.map(|(name, path)| (name, std::fs::read(path).unwrap())).collect())
}

#[tokio::test]
async fn logs_at_trace_level_metrics_the_record_and_the_database_hold_no_token_and_no_key() -> Outcome {
    let dev = Dev::plain()?;
    dev.set_ca("log.level", "trace")?;
    dev.set_ca("audit.sink_file", dev.path("sink.jsonl").display().to_string())?;
    dev.edit("agent-client.yaml", |config| yaml::set(config, "log.level", "trace"))?;
    let ca = dev.start_ca().await?;
    let agent = dev.start_agent("client").await?;
    let client = Client::connect(&dev).await?;
    let made = csr::like_ztunnel(None)?;
    client.issued(&Ask::new(&made.csr, &dev.token("server")?)).await?;
    let bent = format!("{}x", dev.token("server")?);
    client.call(&Ask::new(&made.csr, &bent)).await.expect_err("refused");
    // Keys of the cluster that are none: what is said of a file that is read again does not quote it.
    let private = dev.text("cluster-signing-key.pem")?;
    for keys in [private.clone(), format!("{{\"keys\": [{{\"kty\": \"EC\", \"d\": \"{bent}\"}}]}}")] {
        std::fs::write(dev.path("new.jwks"), keys)
            .and_then(|()| std::fs::rename(dev.path("new.jwks"), dev.path("jwks.json")))
            .map_err(Failure::io("replace the keys"))?;
        let seen = ca.audit(&["--reason", "token_keys_refused"])?.len();
        let told = async || (ca.audit(&["--reason", "token_keys_refused"]).ok()?.len() > seen).then_some(());
        eventually("the keys to be refused", SOON, told).await?;
    }
    // And a configuration that holds what it must not.
    let good = dev.text("signet-ca.yaml")?;
    let mut wrong = yaml::read(&dev.path("signet-ca.yaml"))?;
    wrong["svid"]["csr_names"] = serde_json::json!("maybe");
    std::fs::write(dev.path("signet-ca.yaml"), wrong.to_string()).map_err(Failure::io("write the configuration"))?;
    let told = async || (ca.audit(&["--reason", "configuration_refused"]).ok()?.len() == 1).then_some(());
    eventually("the configuration to be refused", SOON, told).await?;
    std::fs::write(dev.path("signet-ca.yaml"), good).map_err(Failure::io("write the configuration"))?;
    let mut secrets = vec![
        ("a token", dev.token("client")?),
        ("a token", dev.token("server")?),
        ("a refused token", bent),
        ("the agent's key", served_key(&agent).await?),
        ("the cluster's key", dev.text("cluster-signing-key.pem")?),
    ];
    secrets.push(("the encryption key", dev.text("key-encryption.key")?));
    let mut places = vec![("log of the CA".to_owned(), ca.process.log().into_bytes())];
    places.push(("log of the agent".to_owned(), agent.process.log().into_bytes()));
    // The record in all the ways that it leaves the CA.
    let last = ca.newest(&[])?["sequence"].as_u64().unwrap_or_default();
    let written = async || {
        let lines = std::fs::read_to_string(dev.path("sink.jsonl")).ok()?;
        let sequence = |line: &str| serde_json::from_str::<serde_json::Value>(line).ok()?["sequence"].as_u64();
        lines.lines().any(|line| sequence(line) == Some(last)).then_some(lines)
    };
    places.push((
        "file of the record".to_owned(),
        eventually("the file of the record", SOON, written).await?.into_bytes(),
    ));
    for form in ["jsonl", "csv"] {
        let export = tools::run(&mut ca.command(&["audit", "export", "-o", form], &[])?)?;
        ensure(export.contains("token_keys_refused") && export.contains(CLIENT_ID), || "nothing to search".to_owned())?;
        places.push((format!("export as {form}"), export.into_bytes()));
    }
    let (_, metrics) = probe::fetch(dev.ops, "/metrics").await?;
    ensure(metrics.contains("signet_ca_certificates_total"), || "nothing to search".to_owned())?;
    places.push(("metrics".to_owned(), metrics.into_bytes()));
    let kept = storage(&dev)?;
    // Whatever is in it is found: the identity of a record is.
    ensure(kept.iter().any(|(_, bytes)| contains(bytes, CLIENT_ID.as_bytes())), || "nothing to search".to_owned())?;
    places.extend(kept);
    let log = ca.process.log();
    ensure(log.to_lowercase().contains("trace") || log.to_lowercase().contains("debug"), || {
        "the log is not detailed".to_owned()
    })?;
    for (place, bytes) in &places {
        ensure(!contains(bytes, b"PRIVATE KEY"), || format!("a private key is in the {place}"))?;
        for (what, secret) in &secrets {
            for trace in traces(secret) {
                // A JOSE header is the same for every token and betrays nothing.
                let header = secret.split('.').next() == Some(trace.as_str()) && secret.contains('.');
                ensure(header || !contains(bytes, trace.as_bytes()), || format!("{what} is in the {place}: {trace}"))?;
            }
        }
    }
    Ok(())
}
