//! Clusters come, change and go while the CA runs, by its configuration file; a file that is wrong changes nothing.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use signet_tests::client::ask::Ask;
use signet_tests::client::certify::Client;
use signet_tests::client::csr;
use signet_tests::client::token::{ClusterKey, Token};
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::process::eventually;
use signet_tests::harness::{Ca, Dev, probe, yaml};
use signet_tests::tools;
use tonic::Code;

/// The file is looked at every two seconds.
const WITHIN: Duration = Duration::from_secs(60);

/// Another cluster of this installation: the same keys by another file, tokens of another issuer.
fn second(dev: &Dev) -> Outcome<Value> {
    std::fs::copy(dev.path("jwks.json"), dev.path("second.json")).map_err(Failure::io("copy the keys"))?;
    let mut cluster = yaml::read(&dev.path("signet-ca.yaml"))?["clusters"][0].clone();
    cluster["id"] = json!("second");
    cluster["aliases"] = json!(["zwei"]);
    cluster["tokens"]["file"] = json!(dev.path("second.json").display().to_string());
    cluster["tokens"]["issuer"] = json!("https://second.example");
    Ok(cluster)
}

/// Puts a configuration in the place of the one before, as a whole.
fn put(dev: &Dev, text: &str) -> Outcome {
    let new = dev.path("new.yaml");
    std::fs::write(&new, text)
        .and_then(|()| std::fs::rename(&new, dev.path("signet-ca.yaml")))
        .map_err(Failure::io("replace the configuration"))
}

fn change(dev: &Dev, change: impl FnOnce(&mut Value) -> Outcome) -> Outcome {
    let mut config = yaml::read(&dev.path("signet-ca.yaml"))?;
    change(&mut config)?;
    put(dev, &config.to_string())
}

/// What became of a call: `None` for a certificate.
async fn answer(client: &Client, cluster: &str, token: &str) -> Outcome<Option<Code>> {
    let ask = Ask { cluster: vec![cluster.to_owned()], ..Ask::new(&csr::like_ztunnel(None)?.csr, token) };
    Ok(client.call(&ask).await.err().map(|status| status.code()))
}

async fn until(client: &Client, cluster: &str, token: &str, expected: Option<Code>) -> Outcome {
    let asked = async || (answer(client, cluster, token).await.ok()? == expected).then_some(());
    eventually(&format!("{cluster} to answer {expected:?}"), WITHIN, asked).await
}

/// Waits until the condition of the configuration says so; the CA must be ready all the time.
async fn told(dev: &Dev, state: &str, words: &[&str]) -> Outcome {
    let mut last = String::new();
    let says = async || {
        let (status, body) = probe::fetch(dev.ops, "/readyz?output=json").await.ok()?;
        let ready: Value = serde_json::from_str(&body).ok()?;
        let found = ready["checks"].as_array()?.iter().find(|check| check["name"] == "configuration")?.clone();
        last = format!("{status} {found}");
        let detail = found["detail"].as_str()?;
        (status == 200 && found["state"] == state && words.iter().all(|word| detail.contains(word))).then_some(())
    };
    let late = eventually("the configuration's condition", WITHIN, says).await;
    late.map_err(|late| Failure::unexpected(format!("{late}: {last}")))
}

/// Tokens of the first cluster and of the second.
fn tokens(dev: &Dev) -> Outcome<(String, String)> {
    let first = dev.token("client")?;
    let mut other = Token::read(&first)?;
    other.claims["iss"] = json!("https://second.example");
    Ok((first, ClusterKey::of(dev)?.sign(&other)?))
}

fn lines(ca: &Ca, words: &[&str]) -> usize {
    ca.process.log().lines().filter(|line| words.iter().all(|word| line.contains(word))).count()
}

#[tokio::test]
async fn clusters_come_change_and_go_without_a_restart() -> Outcome {
    let dev = Dev::plain()?;
    let (first, other) = tokens(&dev)?;
    let mut ca = dev.start_ca().await?;
    let client = Client::connect(&dev).await?;
    until(&client, "Kubernetes", &first, None).await?;
    ensure(answer(&client, "second", &other).await? == Some(Code::Unauthenticated), || "known before".to_owned())?;

    let cluster = second(&dev)?;
    change(&dev, |config| {
        config["clusters"].as_array_mut().into_iter().for_each(|all| all.push(cluster.clone()));
        Ok(())
    })?;
    until(&client, "second", &other, None).await?;
    until(&client, "zwei", &other, None).await?;
    let ids = |status: &Value| -> Vec<Value> {
        status["clusters"].as_array().into_iter().flatten().map(|cluster| cluster["id"].clone()).collect()
    };
    let status = ca.ask(&["status"])?;
    ensure(ids(&status) == ["Kubernetes", "second"], || format!("{status}"))?;
    ensure(status["clusters"][1]["keys"]["usable"] == 1 && status["configuration"]["problem"].is_null(), || {
        format!("{status}")
    })?;
    let names = |event: &Value| {
        let detail = event["detail"].as_str();
        let changed =
            detail.is_some_and(|detail| detail.contains(r#""added":["second"]"#) && detail.contains("second.example"));
        event["reason"] == "clusters_changed" && changed
    };
    let recorded = async || ca.audit(&[]).ok()?.iter().any(names).then_some(());
    eventually("the change to be on record", WITHIN, recorded).await?;

    // What is remembered of its tokens counts no longer, and what else has changed waits.
    change(&dev, |config| {
        config["clusters"][1]["audiences"] = json!(["somebody-else"]);
        config["drain"] = json!("11s");
        config["log"]["level"] = json!("debug");
        Ok(())
    })?;
    until(&client, "second", &other, Some(Code::Unauthenticated)).await?;
    told(&dev, "ready", &["after a restart: drain, log.level"]).await?;
    let status = ca.ask(&["status"])?;
    ensure(status["configuration"]["awaits_restart"] == json!(["drain", "log.level"]), || format!("{status}"))?;
    until(&client, "Kubernetes", &first, None).await?;
    ensure(ca.metrics().await?.sum("signet_ca_configuration_awaits_restart", &[]) == 1.0, || "no metric".to_owned())?;
    let waits = ca.audit(&["--kind", "configuration", "--reason", "awaits_restart"])?;
    let [one] = waits.as_slice() else { return Err(Failure::unexpected(format!("{waits:?}"))) };
    ensure(one["detail"].as_str().is_some_and(|text| text.contains("drain, log.level")), || format!("{one}"))?;
    // Keys that are replaced: by whom tokens are believed is on record, and a file that is none of keys as well.
    std::fs::write(dev.path("second.json"), "no keys").map_err(Failure::io("write keys"))?;
    let keys = |reason: &str| ca.audit(&["--cluster", "second", "--reason", reason]);
    eventually("the keys to be refused", WITHIN, async || (keys("token_keys_refused").ok()?.len() == 1).then_some(()))
        .await?;
    std::fs::copy(dev.path("jwks.json"), dev.path("second.json")).map_err(Failure::io("copy the keys"))?;
    eventually("the keys to be used", WITHIN, async || (keys("token_keys_used").ok()?.len() == 1).then_some(()))
        .await?;

    change(&dev, |config| {
        config["clusters"].as_array_mut().into_iter().for_each(|all| all.truncate(1));
        Ok(())
    })?;
    let unknown = async || (ca.not_issued("cluster_unknown").await.ok()? > 1.0).then_some(());
    until(&client, "second", &other, Some(Code::Unauthenticated)).await?;
    eventually("the cluster to be unknown", WITHIN, async || {
        answer(&client, "second", &other).await.ok()?;
        unknown().await
    })
    .await?;
    let forgotten = async || {
        let (_, ready) = probe::fetch(dev.ops, "/readyz?output=json").await.ok()?;
        (!ready.contains("of second") && ready.contains("of Kubernetes")).then_some(())
    };
    eventually("its conditions to go", WITHIN, forgotten).await?;
    let metrics = ca.metrics().await?;
    let gauges = ["signet_ca_clusters", "signet_ca_token_keys"].map(|name| metrics.sum(name, &[]) as i64);
    ensure(gauges == [1, 1], || format!("{gauges:?}"))?;

    // Before the next look, or after it: a signal ends nothing.
    ca.process.signal(Signal::HUP);
    let asked = async || (lines(&ca, &["asked by SIGHUP"]) == 1).then_some(());
    eventually("the signal to arrive", WITHIN, asked).await?;
    until(&client, "Kubernetes", &first, None).await?;
    ca.process.stop().await.map(drop)
}

#[tokio::test]
async fn a_wrong_file_changes_nothing_and_is_told_of_once_with_all_its_mistakes() -> Outcome {
    let dev = Dev::plain()?;
    let (first, other) = tokens(&dev)?;
    let cluster = second(&dev)?;
    change(&dev, |config| {
        config["clusters"].as_array_mut().into_iter().for_each(|all| all.push(cluster.clone()));
        Ok(())
    })?;
    let mut ca = dev.start_ca().await?;
    let client = Client::connect(&dev).await?;
    let good = dev.text("signet-ca.yaml")?;
    let applied = async || -> Outcome<f64> {
        Ok(ca.metrics().await?.sum("signet_ca_configuration_applied_timestamp_seconds", &[]))
    };
    let since = applied().await?;
    ensure(since > 1.7e9, || format!("{since}"))?;

    // Two fields are wrong, and one cluster is gone at the same time.
    change(&dev, |config| {
        config["clusters"].as_array_mut().into_iter().for_each(|all| all.truncate(1));
        config["clusters"][0]["audiences"] = json!([]);
        config["svid"]["csr_names"] = json!("maybe");
        Ok(())
    })?;
    let words = ["clusters[0].audiences", "svid.csr_names"];
    told(&dev, "degraded", &words).await?;
    let status = ca.ask(&["status"])?;
    let problem = status["configuration"]["problem"].as_str().unwrap_or_default().to_owned();
    ensure(words.iter().all(|word| problem.contains(word)), || format!("{status}"))?;
    let text = tools::run(&mut ca.command(&["status"], &[])?)?;
    ensure(text.contains("REFUSED as it is now") && text.contains("DEGRADED: configuration"), || text.clone())?;
    ensure(ca.metrics().await?.sum("signet_ca_configuration_refused", &[]) == 1.0, || "no metric".to_owned())?;
    for (cluster, token) in [("Kubernetes", &first), ("second", &other)] {
        ensure(answer(&client, cluster, token).await?.is_none(), || format!("{cluster} is not served"))?;
    }

    // Well-formed, but not to be opened: two clusters at once, and one that another trust domain is wanted for.
    put(&dev, &good)?;
    told(&dev, "ready", &[]).await?;
    change(&dev, |config| {
        for index in [0, 1] {
            config["clusters"][index]["tokens"]["file"] = json!(dev.path("none").display().to_string());
        }
        Ok(())
    })?;
    let words = ["signet-ca.yaml:1: clusters[0].tokens.file", "clusters[1].tokens.file", "none"];
    told(&dev, "degraded", &words).await?;
    ensure(answer(&client, "second", &other).await?.is_none(), || "second is not served".to_owned())?;
    // Looked at again and again, which is told no more: when the second signal has arrived, the look for the first is over.
    for signals in 1..=3 {
        ca.process.signal(Signal::HUP);
        let asked = async || (lines(&ca, &["asked by SIGHUP"]) == signals).then_some(());
        eventually("the signal to arrive", WITHIN, asked).await?;
    }
    // A file that comes later is used without another change of the configuration.
    // Whole at once: a look at half of it would be one more refusal.
    std::fs::copy(dev.path("jwks.json"), dev.path("whole")).map_err(Failure::io("copy the keys"))?;
    std::fs::rename(dev.path("whole"), dev.path("none")).map_err(Failure::io("put the keys there"))?;
    told(&dev, "ready", &["in use as it is"]).await?;

    change(&dev, |config| {
        config["trust_domain"] = json!("other.domain");
        for index in [0, 1] {
            config["clusters"][index]["trust_domain"] = json!("other.domain");
        }
        Ok(())
    })?;
    told(&dev, "degraded", &["signet-ca.yaml:1: clusters[1].trust_domain", "until it is restarted"]).await?;

    // As a ConfigMap is swapped: by a link.
    std::fs::write(dev.path("good.yaml"), &good).map_err(Failure::io("write the configuration"))?;
    std::os::unix::fs::symlink("good.yaml", dev.path("link")).map_err(Failure::io("make a link"))?;
    std::fs::rename(dev.path("link"), dev.path("signet-ca.yaml")).map_err(Failure::io("swap the configuration"))?;
    told(&dev, "ready", &["in use as it is"]).await?;
    std::fs::remove_file(dev.path("good.yaml")).map_err(Failure::io("remove the configuration"))?;
    told(&dev, "degraded", &["signet-ca.yaml"]).await?;
    put(&dev, &good)?;
    told(&dev, "ready", &["in use as it is"]).await?;
    ensure(ca.metrics().await?.sum("signet_ca_configuration_refused", &[]) == 0.0, || "still refused".to_owned())?;
    ensure(applied().await? >= since, || "no success".to_owned())?;
    ensure(answer(&client, "second", &other).await?.is_none(), || "second is not served".to_owned())?;
    let refused = lines(&ca, &["the configuration file is not used"]);
    ensure(refused == 4, || format!("told {refused} times:\n{}", ca.process.log()))?;

    // And so on record: each change once, however often it was looked.
    let on_record =
        |reason: &str| -> Outcome<Vec<Value>> { ca.audit(&["--kind", "configuration", "--reason", reason]) };
    let told = async || (on_record("configuration_refused").ok()?.len() == 4).then_some(());
    eventually("the refusals on record", WITHIN, told).await?;
    let refused = on_record("configuration_refused")?;
    let named =
        |word: &str| refused.iter().any(|event| event["detail"].as_str().is_some_and(|text| text.contains(word)));
    ensure(["svid.csr_names", "tokens.file", "until it is restarted"].into_iter().all(named), || {
        format!("{refused:?}")
    })?;
    ensure(refused.iter().all(|event| event["outcome"] == "refused"), || format!("{refused:?}"))?;
    ensure(on_record("configuration_used")?.len() == 4, || format!("{:?}", on_record("configuration_used")))?;

    // Whatever the file is now, the CA is asked by its socket, and who gives none is told of that.
    let mut elsewhere: Value = serde_json::from_str(&good).map_err(Failure::while_doing("read the configuration"))?;
    let socket = elsewhere["admin"].as_str().unwrap_or_default().to_owned();
    elsewhere["admin"] = json!(format!("unix://{}", dev.path("elsewhere.sock").display()));
    std::fs::remove_file(dev.path("signet-ca.yaml")).map_err(Failure::io("remove the configuration"))?;
    for (file, code) in [(None, 2), (Some("{ no".to_owned()), 2), (Some(elsewhere.to_string()), 1)] {
        if let Some(file) = &file {
            put(&dev, file)?;
        }
        let output = tools::output(&mut ca.command(&["status"], &[])?)?;
        let text = String::from_utf8_lossy(&output.stderr);
        ensure(output.status.code() == Some(code) && text.contains("--socket"), || format!("{file:?}: {text}"))?;
        let status = ca.ask(&["status", "--socket", &socket])?;
        ensure(status["ready"] == true, || format!("{status}"))?;
    }
    ca.process.stop().await.map(drop)
}
