//! Files that would make a reader wait for ever are refused at once, and used again when they are back.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use rustls::version::TLS13;
use signet_tests::client::certify::Client;
use signet_tests::client::raw::{Raw, head};
use signet_tests::client::tls;
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::process::eventually;
use signet_tests::harness::{Ca, Dev, probe, yaml};
use signet_tests::tools;

const WITHIN: Duration = Duration::from_secs(60);

/// Puts a pipe in the place of a file; gives the file's content.
fn replaced_by_pipe(path: &Path) -> Outcome<Vec<u8>> {
    let content = std::fs::read(path).map_err(Failure::io("read a file"))?;
    std::fs::remove_file(path).map_err(Failure::io("remove a file"))?;
    tools::run(Command::new("mkfifo").args(["-m", "600"]).arg(path))?;
    Ok(content)
}

fn threads(process: u32) -> usize {
    std::fs::read_dir(format!("/proc/{process}/task")).map_or(0, Iterator::count)
}

#[tokio::test]
async fn keys_that_became_a_pipe_cost_no_thread_and_are_used_again_when_they_are_back() -> Outcome {
    let dev = Dev::plain()?;
    let mut ca = dev.start_ca().await?;
    let jwks = dev.path("jwks.json");
    let content = replaced_by_pipe(&jwks)?;
    let says = async |word: &str| {
        let (_, body) = probe::fetch(dev.ops, "/readyz?output=json").await.ok()?;
        body.contains(word).then_some(())
    };
    eventually("readiness to tell", WITHIN, async || says("is not a regular file").await).await?;
    let before = threads(ca.process.id());
    // Some looks later: it looks every two seconds.
    tokio::time::sleep(Duration::from_secs(7)).await;
    let after = threads(ca.process.id());
    ensure(after <= before + 1, || format!("{before} threads became {after}"))?;
    Client::connect(&dev).await?.certificate(&dev, "client").await?;
    std::fs::remove_file(&jwks).map_err(Failure::io("remove a pipe"))?;
    std::fs::write(&jwks, content).map_err(Failure::io("write the keys"))?;
    eventually("the keys to be back", WITHIN, async || says("key loaded").await).await?;
    // The log is written beside what is done.
    let log = ca.process.log_path().to_owned();
    let told = async || std::fs::read_to_string(&log).ok()?.contains("can be used again").then_some(());
    ca.process.until("the log to tell", WITHIN, told).await?;
    ca.process.stop().await.map(drop)
}

#[tokio::test]
async fn credentials_for_an_api_server_that_became_pipes_cost_no_thread_and_stop_nothing() -> Outcome {
    let dev = Dev::plain()?;
    let kubeconfig = "apiVersion: v1\nkind: Config\ncurrent-context: a\nusers: [{name: a, user: {tokenFile: token}}]\n\
        clusters: [{name: a, cluster: {server: \"http://127.0.0.1:1\"}}]\n\
        contexts: [{name: a, context: {cluster: a, user: a}}]\n";
    let path = dev.path("kubeconfig");
    std::fs::write(&path, kubeconfig)
        .and_then(|()| std::fs::write(dev.path("token"), "t"))
        .map_err(Failure::io("write credentials"))?;
    dev.edit("signet-ca.yaml", |config| {
        config["clusters"][0]["api_server"] = path.display().to_string().into();
        Ok(())
    })?;
    for file in ["token", "kubeconfig"] {
        let mut ca = dev.start_ca().await?;
        let content = replaced_by_pipe(&dev.path(file))?;
        let says = async |word: &str| {
            let (status, body) = probe::fetch(dev.ops, "/readyz?output=json").await.ok()?;
            (status == 200 && body.contains(word)).then_some(())
        };
        let before = threads(ca.process.id());
        eventually("readiness to tell", WITHIN, async || says("is not a regular file").await).await?;
        ensure(threads(ca.process.id()) <= before + 1, || format!("{file}: a thread is lost"))?;
        Client::connect(&dev).await?.certificate(&dev, "client").await?;
        ca.process.stop().await?;
        let mut refused = Ca::start(&dev)?;
        let status = refused.process.wait(WITHIN).await?;
        let log = refused.process.log();
        ensure(status.code() == Some(1) && log.contains("is not a regular file"), || format!("{file}: {log}"))?;
        std::fs::remove_file(dev.path(file)).map_err(Failure::io("remove a pipe"))?;
        std::fs::write(dev.path(file), content).map_err(Failure::io("write credentials"))?;
    }
    Ok(())
}

#[tokio::test]
async fn a_start_with_a_pipe_for_a_file_ends_at_once_and_names_it() -> Outcome {
    for (file, code) in [("kek", 1), ("jwks.json", 1), ("signet-ca.yaml", 2)] {
        let dev = Dev::plain()?;
        let path = match file {
            "kek" => yaml::text(&yaml::read(&dev.path("signet-ca.yaml"))?, "/keys/encryption_key_file")?.into(),
            name => dev.path(name),
        };
        replaced_by_pipe(&path)?;
        let start = Instant::now();
        let mut ca = Ca::start(&dev)?;
        let status = ca.process.wait(WITHIN).await?;
        let log = ca.process.log();
        let told = log.contains(&format!("{} is not a regular file", path.display()));
        ensure(status.code() == Some(code) && told, || format!("{file}: {status}\n{log}"))?;
        ensure(start.elapsed() < Duration::from_secs(10), || format!("{:?}", start.elapsed()))?;
    }
    Ok(())
}

#[tokio::test]
async fn a_second_signal_stops_at_once_what_the_first_would_let_finish() -> Outcome {
    let dev = Dev::plain()?;
    // Longer than the test waits.
    dev.set_ca("drain", "5m")?;
    let mut ca = dev.start_ca().await?;
    let config = tls::config(&dev.text("root-cert.pem")?, &[&TLS13], &["h2"])?;
    let mut connection = Raw::connect(dev.listen, config).await?;
    let mut call = connection.begin(head(&[])?).await?;
    call.send(bytes::Bytes::from_static(&[0]))?;
    connection.ping().await?;
    ca.process.terminate();
    let stopping = async || ca.process.log().contains("a second signal stops at once").then_some(());
    eventually("the first signal to arrive", WITHIN, stopping).await?;
    let start = Instant::now();
    ca.process.signal(Signal::INT);
    ca.process.wait(WITHIN).await?;
    ensure(start.elapsed() < Duration::from_secs(9), || format!("it took {:?} to stop", start.elapsed()))
}
