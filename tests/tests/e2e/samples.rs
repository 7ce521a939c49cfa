//! The bootstraps that we ship and the pages that show them: every one is taken by Envoy, and speaks TLS 1.3 only, since below
//! it certificates travel in clear (RFC 8446 section 1.2).

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use serde_json::Value;
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::envoy::{Bootstrap, Side};
use signet_tests::harness::{Dev, Envoy, yaml};
use signet_tests::stage::{SERVER_ID, Stage};
use signet_tests::{tools, traffic};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio::time::timeout;

const WITHIN: Duration = Duration::from_secs(60);

fn samples() -> Vec<PathBuf> {
    let directory = tools::source_root().join("deploy/envoy");
    let files: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(files.len() >= 3, "{files:?}");
    files
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

/// The blocks of YAML in a page.
fn blocks(page: &str) -> impl Iterator<Item = &str> {
    page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next())
}

/// Calls `seen` with each object of the document.
fn each_object(document: &mut Value, seen: &mut impl FnMut(&mut serde_json::Map<String, Value>)) {
    match document {
        Value::Object(object) => {
            seen(object);
            object.values_mut().for_each(|value| each_object(value, seen));
        }
        Value::Array(list) => list.iter_mut().for_each(|value| each_object(value, seen)),
        _ => {}
    }
}

/// How many TLS contexts a document has; each must allow 1.3 and nothing else.
fn tls_contexts(mut document: Value, whose: &str) -> usize {
    let mut found = 0;
    each_object(&mut document, &mut |object| {
        let kind = object.get("@type").and_then(Value::as_str).unwrap_or_default();
        // The most that Envoy offers as a client is by default 1.2, so that it needs both bounds.
        let bounds = match kind.rsplit('.').next() {
            Some("UpstreamTlsContext") => &["tls_minimum_protocol_version", "tls_maximum_protocol_version"][..],
            Some("DownstreamTlsContext") => &["tls_minimum_protocol_version"],
            _ => return,
        };
        found += 1;
        for bound in bounds {
            assert_eq!(object["common_tls_context"]["tls_params"][bound], "TLSv1_3", "{bound} of a {kind} in {whose}");
        }
    });
    found
}

#[test]
fn every_tls_context_of_samples_and_pages_allows_1_3_only() -> Outcome {
    for sample in samples() {
        let found = tls_contexts(yaml::read(&sample)?, &sample.display().to_string());
        ensure(found >= 1, || format!("{} has no TLS", sample.display()))?;
    }
    let directory = tempfile::tempdir().unwrap();
    let (mut found, root) = (0, tools::source_root());
    let docs = std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    for page in docs.chain([root.join("README.md")]) {
        for block in blocks(&text(&page)).filter(|block| block.contains("TlsContext")) {
            let file = directory.path().join("block.yaml");
            std::fs::write(&file, block).unwrap();
            found += tls_contexts(yaml::read(&file)?, &page.display().to_string());
        }
    }
    ensure(found >= 3, || format!("only {found} TLS contexts are shown"))
}

#[test]
fn the_page_for_proxies_shows_every_sample_as_it_is() -> Outcome {
    let page = text(&tools::source_root().join("docs/proxies.md"));
    for sample in samples() {
        ensure(blocks(&page).any(|block| block == text(&sample)), || {
            format!("docs/proxies.md does not show {} as it is", sample.display())
        })?;
    }
    Ok(())
}

#[test]
fn envoy_takes_every_sample() -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["x".to_owned()]).unwrap().self_signed(&key).unwrap();
    for sample in samples() {
        let mut document = yaml::read(&sample)?;
        // Envoy reads the files of a bootstrap already when it judges it.
        each_object(&mut document, &mut |object| {
            let Some(name) = object.get("filename").and_then(Value::as_str) else { return };
            let content = if name.ends_with("key.pem") { key.serialize_pem() } else { certificate.pem() };
            let file = directory.path().join(name.replace('/', "-"));
            std::fs::write(&file, content).unwrap();
            object.insert("filename".to_owned(), file.to_string_lossy().into());
        });
        let file = directory.path().join("sample.json");
        yaml::write(&file, &document)?;
        tools::run(Command::new(tools::envoy()?).args(["--mode", "validate", "-c"]).arg(&file))?;
    }
    Ok(())
}

#[tokio::test]
async fn both_proxies_speak_1_3_with_each_other_and_nothing_older_with_anybody() -> Outcome {
    let stage = Stage::set(Dev::plain()?, 2, |_| {}).await?;
    traffic::once(stage.entrance()).await.map_err(Failure::unexpected)?;
    let port = stage.server.listen.port();
    for (envoy, whose) in
        [(&stage.client, "cluster.service".to_owned()), (&stage.server, format!("listener.127.0.0.1_{port}"))]
    {
        let new = envoy.stat(&format!("{whose}.ssl.versions.TLSv1.3")).await?;
        let old = envoy.stat(&format!("{whose}.ssl.versions.TLSv1.2")).await?;
        ensure(new >= 1 && old == 0, || format!("{whose}: {new} handshakes of 1.3, {old} of 1.2"))?;
    }
    // As a server: asked for 1.2 by OpenSSL it says that this is no version.
    for (version, words) in [("-tls1_2", "alert protocol version"), ("-tls1_3", "New, TLSv1.3, Cipher is TLS_")] {
        let mut command = Command::new(tools::openssl()?);
        let output = tools::output(command.args(["s_client", version, "-connect"]).arg(format!("127.0.0.1:{port}")))?;
        let told = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
        ensure(told.contains(words), || format!("{version}: {told}"))?;
    }
    // As a client: it offers 1.3 alone.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let behind = listener.local_addr().unwrap();
    let bootstrap = Bootstrap::new(Side::Client, stage.client_agent.socket(), behind, SERVER_ID)?;
    let envoy = Envoy::started("envoy-offers", stage.dev.directory(), &bootstrap).await?;
    let (refused, offered) = tokio::join!(traffic::once(envoy.listen), async {
        let (mut stream, _) = timeout(WITHIN, listener.accept()).await.unwrap().unwrap();
        let mut head = [0; 5];
        stream.read_exact(&mut head).await.unwrap();
        let mut hello = vec![0; usize::from(u16::from_be_bytes([head[3], head[4]]))];
        stream.read_exact(&mut hello).await.unwrap();
        hello
    });
    ensure(refused.is_err(), || format!("nobody answered: {refused:?}"))?;
    // RFC 8446 section 4.2.1: the extension, its length, the length of the list, and the list.
    let supported_versions = [0, 43, 0, 3, 2, 3, 4];
    let found = offered.windows(supported_versions.len()).any(|window| window == supported_versions);
    ensure(found, || format!("Envoy offers other versions: {offered:02x?}"))
}
