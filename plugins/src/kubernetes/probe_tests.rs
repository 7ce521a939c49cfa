//! Each usual misconfiguration has its sentence.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use serde_json::json;
use signet_test_servers::scripted::{Answer, Asked, ScriptedApi};

use super::*;
use crate::kubernetes::{Credentials, Files, InCluster};

const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

fn refused(status: u16) -> Answer {
    let reason = if status == 404 { "NotFound" } else { "Other" };
    Answer::json(
        status,
        &json!({"kind": "Status", "status": "Failure", "message": "no", "reason": reason, "code": status}),
    )
}

/// What a server answers that lets us do what is in `rights`, knows the account demo/ztunnel and lets us read accounts or not.
fn answer(asked: &Asked, rights: &[&str], reads_accounts: bool) -> Answer {
    match asked.path.trim_end_matches('?') {
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews" => {
            let attributes = &asked.body["spec"]["resourceAttributes"];
            let right = ["verb", "resource"].map(|name| attributes[name].as_str().unwrap()).join(" ");
            let mut answer = asked.body.clone();
            answer["status"] = json!({"allowed": rights.contains(&right.as_str())});
            Answer::json(201, &answer)
        }
        "/.well-known/openid-configuration" => Answer::json(200, &json!({"issuer": ISSUER, "jwks_uri": "x"})),
        path if path.contains("/serviceaccounts/") && !reads_accounts => refused(403),
        path if path.ends_with("/demo/serviceaccounts/ztunnel") => {
            Answer::json(200, &json!({"metadata": {"namespace": "demo", "name": "ztunnel"}}))
        }
        path if path.contains("/demo/pods") && path.contains("ztunnel") => {
            let pod = json!({"metadata": {"namespace": "demo", "name": "ztunnel-1"}});
            Answer::json(200, &json!({"metadata": {}, "items": [pod]}))
        }
        path if path.contains("/pods") => Answer::json(200, &json!({"metadata": {}, "items": []})),
        _ => refused(404),
    }
}

async fn server(kubeconfig: &str) -> ApiServer {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("kubeconfig");
    std::fs::write(&file, kubeconfig).unwrap();
    ApiServer::open(Credentials::Kubeconfig(file), Files::plain()).await.unwrap()
}

async fn found(api: &ScriptedApi, needs: &Needs) -> Vec<String> {
    seen(api, needs).await.problems
}

async fn seen(api: &ScriptedApi, needs: &Needs) -> Probed {
    probe(&server(&api.kubeconfig()).await, needs).await.unwrap()
}

fn needs() -> Needs {
    Needs {
        reviews: true,
        pods: true,
        nodes: true,
        accounts: true,
        is_issuer: true,
        issuers: vec!["other".into(), ISSUER.into()],
        audiences: vec!["istio-ca".into()],
        trusted: vec![("demo".into(), "ztunnel".into())],
        signer: None,
        more: Vec::new(),
    }
}

const RIGHTS: [&str; 7] = [
    "create tokenreviews",
    "list pods",
    "watch pods",
    "list nodes",
    "watch nodes",
    "list serviceaccounts",
    "watch serviceaccounts",
];

#[tokio::test]
async fn a_server_that_lets_us_do_all_that_is_needed_has_no_problem_and_each_missing_right_is_named() {
    let api = ScriptedApi::start(|asked| std::future::ready(answer(&asked, &RIGHTS, true))).await.unwrap();
    assert_eq!(found(&api, &needs()).await, Vec::<String>::new());
    for missing in RIGHTS {
        let api = ScriptedApi::start(move |asked| {
            let rights: Vec<&str> = RIGHTS.into_iter().filter(|right| *right != missing).collect();
            std::future::ready(answer(&asked, &rights, true))
        })
        .await
        .unwrap();
        let problems = found(&api, &needs()).await;
        assert!(problems.len() == 1 && problems[0].contains(&format!("may not {missing}")), "{problems:?}");
    }
    let api = ScriptedApi::start(|asked| std::future::ready(answer(&asked, &[], true))).await.unwrap();
    assert_eq!(found(&api, &needs()).await.len(), RIGHTS.len(), "all at once");
    assert_eq!(found(&api, &Needs::default()).await, Vec::<String>::new(), "what is not needed is not missing");
}

#[tokio::test]
async fn a_signer_needs_its_rights_a_server_with_such_requests_and_no_right_to_make_them() {
    let rights = [
        "get podcertificaterequests",
        "list podcertificaterequests",
        "watch podcertificaterequests",
        "update podcertificaterequests",
        "sign signers",
        "get pods",
        "get serviceaccounts",
        "get nodes",
    ];
    let needs = || Needs { signer: Some("signet.internal/workload".into()), ..Needs::default() };
    let api = async |rights: Vec<&'static str>, is_served: bool, name: &'static str| {
        let answer = move |asked: Asked| {
            let path = asked.path.trim_end_matches('?');
            let attributes = &asked.body["spec"]["resourceAttributes"];
            let resource = json!({"name": "podcertificaterequests", "singularName": "", "namespaced": true, "kind": "x", "verbs": []});
            if path == "/apis/certificates.k8s.io/v1" && is_served {
                Answer::json(200, &json!({"groupVersion": "certificates.k8s.io/v1", "resources": [resource]}))
            } else if attributes["resource"] == "signers" && attributes["name"] != name {
                answer(&asked, &[], true)
            } else {
                answer(&asked, &rights, true)
            }
        };
        ScriptedApi::start(move |asked| std::future::ready(answer(asked))).await.unwrap()
    };
    for name in ["signet.internal/workload", "signet.internal/*"] {
        let good = api(rights.to_vec(), true, name).await;
        assert_eq!(found(&good, &needs()).await, Vec::<String>::new(), "{name}");
    }
    let own = "signet.internal/workload";
    for missing in rights {
        let rights: Vec<&'static str> = rights.into_iter().filter(|right| *right != missing).collect();
        let problems = found(&api(rights, true, own).await, &needs()).await;
        assert!(problems.len() == 1 && problems[0].contains(&format!("may not {missing}")), "{problems:?}");
    }
    let too_many = [&rights[..], &["create podcertificaterequests"]].concat();
    for (rights, is_served, words) in [
        (too_many, true, "may itself create podcertificaterequests"),
        (rights.to_vec(), false, "has no PodCertificateRequests"),
    ] {
        let problems = found(&api(rights, is_served, own).await, &needs()).await;
        assert!(problems.len() == 1 && problems[0].contains(words), "{problems:?}");
    }
}

#[tokio::test]
async fn a_right_for_objects_of_one_name_is_asked_for_by_that_name() {
    let api = ScriptedApi::start(|asked| {
        let mut answer = asked.body.clone();
        answer["status"] = json!({"allowed": asked.body["spec"]["resourceAttributes"]["name"] == "mine"});
        std::future::ready(Answer::json(201, &answer))
    })
    .await
    .unwrap();
    let right = |name: &str| Right::new("attest", "certificates.k8s.io", "signers").called(name);
    let needs = Needs { more: vec![right("mine"), right("other")], ..Needs::default() };
    let problems = found(&api, &needs).await;
    assert!(problems.len() == 1, "{problems:?}");
    assert!(problems[0].contains("may not attest signers of certificates.k8s.io called other"), "{problems:?}");
}

#[tokio::test]
async fn issuers_audiences_and_accounts_are_compared_with_those_of_the_server() {
    let api = ScriptedApi::start(|asked| std::future::ready(answer(&asked, &RIGHTS, true))).await.unwrap();
    let shy = ScriptedApi::start(|asked| std::future::ready(answer(&asked, &RIGHTS, false))).await.unwrap();
    let none = || vec![("demo".to_owned(), "none".to_owned())];
    for (api, needs, words) in [
        (&api, Needs { issuers: vec![format!("{ISSUER}/")], ..needs() }, "tokens.issuer: is"),
        (&api, Needs { audiences: vec![ISSUER.into()], ..needs() }, "audiences: "),
        (&api, Needs { trusted: none(), ..needs() }, "there is no such service account"),
        (&shy, Needs { trusted: none(), ..needs() }, "no pod has this service account"),
    ] {
        let problems = found(api, &needs).await;
        assert!(problems.len() == 1 && problems[0].contains(words), "{words}: {problems:?}");
    }
    assert_eq!(found(&shy, &needs()).await, Vec::<String>::new(), "a pod of it is there");
    let foreign = Needs { issuers: vec!["https://oidc.example".into()], is_issuer: false, ..needs() };
    assert_eq!(found(&api, &foreign).await, Vec::<String>::new(), "somebody else publishes the keys");
    assert_eq!(found(&api, &Needs { issuers: Vec::new(), ..needs() }).await, Vec::<String>::new());
}

#[tokio::test]
async fn what_the_server_does_not_show_is_said_to_be_unseen() {
    let all = ScriptedApi::start(|asked| std::future::ready(answer(&asked, &RIGHTS, true))).await.unwrap();
    assert_eq!(seen(&all, &needs()).await, Probed::default());
    let closed = |asked: &Asked| asked.path.contains("/demo/pods") || asked.path.contains("openid");
    let closed = ScriptedApi::start(move |asked| {
        std::future::ready(if closed(&asked) { refused(403) } else { answer(&asked, &RIGHTS, false) })
    });
    let Probed { problems, unseen } = seen(&closed.await.unwrap(), &needs()).await;
    assert_eq!(problems, Vec::<String>::new());
    assert_eq!(unseen.len(), 2, "{unseen:?}");
    for (line, words) in
        unseen.iter().zip(["tokens.issuer, audiences: whether", "trusted_node_accounts: demo/ztunnel: wh"])
    {
        assert!(line.starts_with(words) && line.contains("403"), "{line}");
    }
}

#[tokio::test]
async fn whether_tokens_may_be_reviewed_is_told_apart_from_a_server_that_does_not_say() {
    for (rights, expected) in [(&RIGHTS[..], Ok(true)), (&[], Err(Outage::ApiForbidden))] {
        let api = ScriptedApi::start(move |asked| std::future::ready(answer(&asked, rights, true))).await.unwrap();
        let found = may_review(&server(&api.kubeconfig()).await).await;
        assert_eq!(found.map_err(reason), expected);
        assert!(api.asked().iter().all(|asked| !asked.path.contains("tokenreviews")), "no token is shown");
    }
    for (status, expected) in [(403, Ok(false)), (401, Err(Outage::ApiUnauthorized)), (500, Err(Outage::ApiFailed))] {
        let api = ScriptedApi::start(move |_| std::future::ready(refused(status))).await.unwrap();
        assert_eq!(may_review(&server(&api.kubeconfig()).await).await.map_err(reason), expected, "{status}");
    }
}

fn reason(error: AuthenticationError) -> Outage {
    match error {
        AuthenticationError::Unavailable { reason, .. } => reason,
        error => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_server_that_cannot_be_spoken_to_is_told_once_and_with_what_to_look_at() {
    for (status, words) in [(401, "(401): is the token"), (403, "(403)"), (429, "(429)"), (503, "it fails")] {
        let api = ScriptedApi::start(move |_| std::future::ready(refused(status))).await.unwrap();
        let problem = probe(&server(&api.kubeconfig()).await, &needs()).await.unwrap_err();
        assert!(problem.contains(words), "{status}: {problem}");
    }
    let gone = "apiVersion: v1\nkind: Config\ncurrent-context: a\nusers: [{name: a, user: {token: t}}]\n\
        clusters: [{name: a, cluster: {server: \"http://127.0.0.1:1\"}}]\n\
        contexts: [{name: a, context: {cluster: a, user: a}}]\n";
    let problem = probe(&server(gone).await, &needs()).await.unwrap_err();
    assert!(problem.contains("cannot be reached"), "{problem}");

    let (api, _) = ScriptedApi::start_tls(|_| std::future::ready(refused(500))).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let other = rcgen::CertificateParams::new(vec!["other".to_owned()]).unwrap().self_signed(&key).unwrap();
    std::fs::write(directory.path().join("ca.crt"), other.pem()).unwrap();
    std::fs::write(directory.path().join("token"), "t").unwrap();
    let (host, port) = (Some("127.0.0.1".to_owned()), Some(api.address().port().to_string()));
    let pod = Credentials::InCluster(InCluster { host, port, directory: directory.path().into() });
    let problem = probe(&ApiServer::open(pod, Files::plain()).await.unwrap(), &needs()).await.unwrap_err();
    assert!(problem.contains("TLS fails"), "{problem}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_hangs_is_not_waited_for() {
    let api = ScriptedApi::start(|_| std::future::pending()).await.unwrap();
    let problem = probe(&server(&api.kubeconfig()).await, &needs()).await.unwrap_err();
    assert!(problem.contains("does not answer"), "{problem}");
}
