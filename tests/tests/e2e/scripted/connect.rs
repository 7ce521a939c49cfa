//! `check --connect` names what keeps a cluster from being served, of all clusters at once.

use serde_json::json;
use signet_test_servers::scripted::{Answer, Asked};
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::Dev;
use signet_tests::tools;

use super::{Cluster, no, put, trusting};

/// Runs `check`, while the API server of this test answers.
async fn checked(dev: &Dev, args: &[&str]) -> Outcome<(Option<i32>, String)> {
    let mut command = dev.ca_command(&[&["check"], args].concat())?;
    let checking = tokio::task::spawn_blocking(move || tools::output(&mut command));
    let output = checking.await.map_err(Failure::while_doing("run check"))??;
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    Ok((output.status.code(), text.into_owned()))
}

#[tokio::test]
async fn a_cluster_that_answers_and_lets_the_ca_do_its_work_is_in_order() -> Outcome {
    let dev = Dev::plain()?;
    let cluster = Cluster::start(&dev).await?;
    let trusting = trusting(&dev)?;
    put(&dev, |config| config["clusters"] = json!([trusting]))?;
    let (code, text) = checked(&dev, &[]).await?;
    ensure(code == Some(0) && text.contains("--connect asks") && cluster.api.asked().is_empty(), || text.clone())?;
    let (code, text) = checked(&dev, &["--connect"]).await?;
    ensure(code == Some(0) && text.contains("the clusters answer") && !text.contains("--connect asks"), || {
        text.clone()
    })?;
    let asked = cluster.api.asked();
    ensure(asked.iter().all(|asked| !asked.path.contains("tokenreviews")), || format!("{asked:?}"))
}

#[tokio::test]
async fn a_kubeconfig_that_is_missing_is_told_by_its_own_field_and_line() -> Outcome {
    let dev = Dev::plain()?;
    let mut one = trusting(&dev)?;
    one["api_server"] = json!(dev.path("none").display().to_string());
    put(&dev, |config| config["clusters"] = json!([one]))?;
    let pretty = signet_tests::harness::yaml::read(&dev.path("signet-ca.yaml"))?;
    signet_tests::harness::yaml::write(&dev.path("signet-ca.yaml"), &pretty)?;
    let text = dev.text("signet-ca.yaml")?;
    let line = 1 + text.lines().position(|line| line.contains("\"api_server\"")).unwrap_or_default();
    let (code, text) = checked(&dev, &[]).await?;
    let words = format!("signet-ca.yaml:{line}: clusters[0].api_server: ");
    ensure(code == Some(2) && text.contains(&words) && text.contains("none"), || format!("{words}: {text}"))?;
    let output = tools::output(&mut dev.ca_command(&["serve"])?)?;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure(output.status.code() == Some(1) && text.contains(&words), || format!("{words}: {text}"))
}

#[tokio::test]
async fn what_a_cluster_does_not_show_is_named_as_not_looked_at() -> Outcome {
    let dev = Dev::plain()?;
    let instead = |asked: &Asked| {
        let closed = ["/api/v1/namespaces/demo/", "/.well-known/"].iter().any(|path| asked.path.starts_with(path));
        closed.then(|| no(403, "Forbidden", "you may not see this"))
    };
    let _cluster = Cluster::start_with(&dev, Box::new(instead)).await?;
    let trusting = trusting(&dev)?;
    put(&dev, |config| config["clusters"] = json!([trusting]))?;
    let (code, text) = checked(&dev, &["--connect"]).await?;
    ensure(code == Some(0), || text.clone())?;
    for words in [
        "not looked at: clusters[0].trusted_node_accounts: demo/ztunnel: whether there is such a service account",
        "not looked at: clusters[0].tokens.issuer, audiences: whether they fit",
    ] {
        ensure(text.contains(words), || format!("{words}: {text}"))?;
    }
    Ok(())
}

#[tokio::test]
async fn the_rights_that_client_certificates_need_are_asked_for() -> Outcome {
    let dev = Dev::plain()?;
    let instead = |asked: &Asked| {
        let reviews = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        (asked.path.trim_end_matches('?') == reviews).then(|| {
            let mut answer = asked.body.clone();
            answer["status"] = json!({"allowed": false});
            Answer::json(201, &answer)
        })
    };
    let _cluster = Cluster::start_with(&dev, Box::new(instead)).await?;
    let mut one = trusting(&dev)?;
    one["trusted_node_accounts"] = json!([]);
    for (live_objects, expected) in [(false, Some(0)), (true, Some(1))] {
        one["client_certificates"] = json!({"live_objects": live_objects});
        put(&dev, |config| config["clusters"] = json!([one.clone()]))?;
        let (code, text) = checked(&dev, &["--connect"]).await?;
        ensure(code == expected, || text.clone())?;
        for what in ["list pods", "watch serviceaccounts"] {
            ensure(text.contains(&format!("its account may not {what}")) == live_objects, || text.clone())?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn every_problem_of_every_cluster_is_told_at_once_and_the_exit_code_is_1() -> Outcome {
    let dev = Dev::plain()?;
    let instead = |asked: &Asked| match asked.path.trim_end_matches('?') {
        "/openid/v1/jwks" => Some(no(403, "Forbidden", "you may not read keys")),
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews" => {
            let allowed = asked.body["spec"]["resourceAttributes"]["resource"] != "nodes";
            let mut answer = asked.body.clone();
            answer["status"] = json!({"allowed": allowed});
            Some(Answer::json(201, &answer))
        }
        _ => None,
    };
    let _cluster = Cluster::start_with(&dev, Box::new(instead)).await?;
    let mut one = trusting(&dev)?;
    one["trusted_node_accounts"] = json!(["demo/ztunnel", "istio-system/ztunnel"]);
    one["tokens"]["issuer"] = json!("https://kubernetes.default.svc");
    let unreachable = "apiVersion: v1\nkind: Config\ncurrent-context: a\nusers: [{name: a, user: {token: s3cr3t}}]\n\
        clusters: [{name: a, cluster: {server: \"http://127.0.0.1:1\"}}]\n\
        contexts: [{name: a, context: {cluster: a, user: a}}]\n";
    std::fs::write(dev.path("gone"), unreachable).map_err(Failure::io("write a kubeconfig"))?;
    let two = json!({
        "id": "two", "trust_domain": "cluster.local", "api_server": dev.path("gone").display().to_string(),
        "tokens": {"kind": "token-review"},
    });
    let three = json!({
        "id": "three", "trust_domain": "cluster.local",
        "tokens": {"kind": "jwks", "issuer": "https://127.0.0.1:1", "from": "issuer"},
    });
    put(&dev, |config| config["clusters"] = json!([one, two, three]))?;
    let (code, text) = checked(&dev, &["--connect"]).await?;
    ensure(code == Some(1) && !text.contains("s3cr3t"), || text.clone())?;
    for words in [
        "clusters[0].api_server: its account may not list nodes",
        "clusters[0].api_server: its account may not watch nodes",
        "clusters[0].tokens.issuer: is https://kubernetes.default.svc, but the API server issues tokens as",
        "clusters[0].trusted_node_accounts: istio-system/ztunnel: there is no such service account",
        "clusters[0].tokens.from: the keys cannot be read",
        "clusters[1].api_server: it cannot be reached",
        "clusters[2].tokens.from: the keys cannot be read",
    ] {
        ensure(text.contains(words), || format!("{words}: {text}"))?;
    }
    ensure(text.lines().count() == 7, || text.clone())
}
