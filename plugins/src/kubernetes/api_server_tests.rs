//! Credentials: what they are made of, that new ones are taken over, and that those in use stay while newer ones are no good.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};

use signet_test_servers::scripted::{Answer, ScriptedApi};

use super::*;
use crate::kubernetes::InCluster;

fn root(name: &str) -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap().self_signed(&key).unwrap().pem()
}

const KUBECONFIG: &str = "apiVersion: v1\nkind: Config\ncurrent-context: a\n\
    clusters: [{name: a, cluster: {server: \"https://127.0.0.1:1\", certificate-authority: ca.crt}}, \
               {name: b, cluster: {server: \"https://127.0.0.1:2\", certificate-authority: nowhere.crt}}]\n\
    users: [{name: a, user: {tokenFile: token}}, {name: b, user: {tokenFile: nowhere}}]\n\
    contexts: [{name: b, context: {cluster: b, user: b}}, {name: a, context: {cluster: a, user: a}}]\n";

#[tokio::test]
async fn credentials_are_renewed_when_a_file_of_theirs_changes_and_kept_while_they_are_no_good() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let (kubeconfig, ca, token) = (path("kubeconfig"), path("ca.crt"), path("token"));
    std::fs::write(&ca, root("one")).unwrap();
    std::fs::write(&token, "one\n").unwrap();
    std::fs::write(&kubeconfig, KUBECONFIG).unwrap();
    let open = |file: PathBuf| ApiServer::open(Credentials::Kubeconfig(file), Files::plain());
    let server = open(kubeconfig.clone()).await.unwrap();
    assert!(!server.renew().await.unwrap(), "nothing has changed");
    for (file, content) in [(&ca, root("two")), (&token, "two".to_owned())] {
        std::fs::write(file, content).unwrap();
        assert!(server.renew().await.unwrap() && !server.renew().await.unwrap());
    }
    for (what, file, content) in [("no PEM", &ca, "x"), ("no kubeconfig", &kubeconfig, "[")] {
        let before = std::fs::read(file).unwrap();
        std::fs::write(file, content).unwrap();
        let error = server.renew().await.unwrap_err().to_string();
        assert!(error.contains("kubeconfig"), "{what}: {error}");
        std::fs::write(file, before).unwrap();
        assert!(!server.renew().await.unwrap(), "{what}: as it was");
    }
    std::fs::remove_file(&ca).unwrap();
    assert!(server.renew().await.unwrap_err().to_string().contains("ca.crt"));
    let missing = open(path("none")).await.unwrap_err();
    assert!(missing.to_string().contains("none"), "{missing}");
}

#[tokio::test]
async fn a_kubeconfig_that_cannot_be_read_tells_no_secret() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("kubeconfig");
    for text in [
        "users: [{name: a, user: {token: s3cr3t}}",
        "users:\n- name: a\n  user:\n    token: s3cr3t\n   nonsense: [\n",
        "users: {token: s3cr3t}\n",
        "token: s3cr3t\nusers: 7\n",
        "users: [{name: a, user: {token: [s3cr3t]}}]\n",
        "users: [{name: a, user: {client-key-data: s3cr3t, client-certificate-data: s3cr3t}}]\ncurrent-context: a\n\
         clusters: [{name: a, cluster: {server: \"https://127.0.0.1:1\"}}]\n\
         contexts: [{name: a, context: {cluster: a, user: a}}]\n",
    ] {
        std::fs::write(&file, text).unwrap();
        let error = ApiServer::open(Credentials::Kubeconfig(file.clone()), Files::plain()).await.unwrap_err();
        assert!(!format!("{error} {error:?}").contains("s3cr3t"), "{error}");
    }
}

/// Without a token we would be a stranger, whom a server may let in all the same.
#[tokio::test]
async fn an_empty_token_file_is_no_credential() {
    let directory = tempfile::tempdir().unwrap();
    let (kubeconfig, token) = (directory.path().join("kubeconfig"), directory.path().join("token"));
    let text = "users: [{name: a, user: {tokenFile: token}}]\ncurrent-context: a\n\
        clusters: [{name: a, cluster: {server: \"https://127.0.0.1:1\"}}]\n\
        contexts: [{name: a, context: {cluster: a, user: a}}]\n";
    std::fs::write(&kubeconfig, text).unwrap();
    for content in ["", " \n"] {
        std::fs::write(&token, content).unwrap();
        let opened = ApiServer::open(Credentials::Kubeconfig(kubeconfig.clone()), Files::plain()).await;
        assert!(opened.unwrap_err().to_string().contains("token: holds no token"));
    }
    std::fs::write(&token, "t\n").unwrap();
    let server = ApiServer::open(Credentials::Kubeconfig(kubeconfig), Files::plain()).await.unwrap();
    std::fs::write(&token, "").unwrap();
    assert!(server.renew().await.is_err(), "those before stay");
}

fn pod(directory: &Path, port: Option<u16>) -> Credentials {
    let (host, port) = (Some("127.0.0.1".to_owned()), port.map(|port| port.to_string()));
    Credentials::InCluster(InCluster { host, port, directory: directory.to_owned() })
}

#[tokio::test]
async fn in_a_pod_its_own_token_and_the_clusters_ca_count_and_both_are_read_again() {
    let answer = |_| std::future::ready(Answer::text(200, "application/json", "{}"));
    let (api, ca) = ScriptedApi::start_tls(answer).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let put = |name: &str, content: &str| std::fs::write(directory.path().join(name), content).unwrap();
    put("ca.crt", &ca);
    put("token", "one\n");
    let port = Some(api.address().port());
    let server = ApiServer::open(pod(directory.path(), port), Files::plain()).await.unwrap();
    server.get("/x", "*/*", 10).await.unwrap();
    put("token", "two");
    assert!(server.renew().await.unwrap());
    server.get("/x", "*/*", 10).await.unwrap();
    let shown: Vec<Option<String>> = api.asked().into_iter().map(|asked| asked.authorization).collect();
    assert_eq!(shown, [Some("Bearer one".to_owned()), Some("Bearer two".to_owned())]);

    // A CA that is not that of the server, as another cluster would have it.
    put("ca.crt", &root("other"));
    assert!(server.renew().await.unwrap());
    let refused = server.get("/x", "*/*", 10).await.unwrap_err();
    assert_eq!(refused.label(), "api_unreachable");
    assert!(refused.to_string().contains("certificate"), "{refused}");
    std::fs::remove_file(directory.path().join("token")).unwrap();
    assert!(server.renew().await.unwrap_err().to_string().contains("token"));

    let outside = ApiServer::open(pod(directory.path(), None), Files::plain()).await.unwrap_err();
    assert!(outside.to_string().contains("KUBERNETES_SERVICE_PORT are not set"), "{outside}");
    let odd = InCluster { host: Some("h".into()), port: Some("x".into()), directory: directory.path().into() };
    let odd = ApiServer::open(Credentials::InCluster(odd), Files::plain()).await.unwrap_err();
    assert!(odd.to_string().contains("KUBERNETES_SERVICE_PORT is \"x\""), "{odd}");
}

#[tokio::test]
async fn files_are_read_as_the_process_says_and_by_nobody_else() {
    let files = Files::read_by(|file| Box::pin(async move { Err(format!("{} does not answer", file.display())) }));
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("kubeconfig"), KUBECONFIG).unwrap();
    let anonymous = Credentials::Anonymous {
        url: "https://127.0.0.1:1".parse().unwrap(),
        ca_file: Some(directory.path().join("ca.crt")),
    };
    for credentials in
        [Credentials::Kubeconfig(directory.path().join("kubeconfig")), pod(directory.path(), Some(1)), anonymous]
    {
        let error = ApiServer::open(credentials, files.clone()).await.unwrap_err();
        assert!(error.problem.ends_with("does not answer"), "{error}");
    }
    let read = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = Arc::clone(&read);
    let files = Files::read_by(move |file| {
        seen.lock().unwrap().push(file.file_name().unwrap().to_owned());
        Box::pin(async move {
            match file.extension() {
                Some(_) => Ok(root("one").into_bytes()),
                None if file.ends_with("token") => Ok(b"t".to_vec()),
                None => Ok(KUBECONFIG.as_bytes().to_vec()),
            }
        })
    });
    // Nothing of this is on a disk, and what another context names is not needed.
    let server = ApiServer::open(Credentials::Kubeconfig("/nowhere/kubeconfig".into()), files).await.unwrap();
    assert_eq!(*read.lock().unwrap(), ["kubeconfig", "ca.crt", "token"]);
    assert_eq!(server.get("/", "*/*", 1).await.unwrap_err().label(), "api_unreachable");
}

#[tokio::test]
#[ignore = "asks a real API server; run it with: make test-kubernetes"]
async fn a_real_server_knows_the_pod_that_its_mounted_files_are_of() {
    use signet_test_servers::kubernetes::{ISSUER, Kubernetes};
    let kubernetes = Kubernetes::shared().unwrap();
    let cluster = kubernetes.cluster().await.unwrap();
    let namespace = cluster.namespace().await.unwrap();
    cluster.account(&namespace, "ca").await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    std::fs::copy(kubernetes.ca_file(), directory.path().join("ca.crt")).unwrap();
    let put = |token: &str| std::fs::write(directory.path().join("token"), token).unwrap();
    put(&cluster.token(&namespace, "ca", ISSUER).await.unwrap());
    let port = kubernetes.url().rsplit(':').next().unwrap().parse().unwrap();
    let server = ApiServer::open(pod(directory.path(), Some(port)), Files::plain()).await.unwrap();
    server.get("/openid/v1/jwks", "*/*", 1024 * 1024).await.unwrap();
    // Rotated to one that is not known, and back to a good one.
    put("x.y.z");
    assert!(server.renew().await.unwrap());
    assert_eq!(server.get("/openid/v1/jwks", "*/*", 1024).await.unwrap_err().label(), "api_unauthorized");
    put(&cluster.token(&namespace, "ca", ISSUER).await.unwrap());
    assert!(server.renew().await.unwrap());
    server.get("/openid/v1/jwks", "*/*", 1024 * 1024).await.unwrap();
}
