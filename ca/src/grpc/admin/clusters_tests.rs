//! What operators are told of clusters, over the wire.
#![allow(clippy::unwrap_used, reason = "tests")]

use signet_core::seams::explanation::Check;
use tonic::Code;

use super::super::test_stage::Stage;
use super::*;

fn ask(cluster: &str, caller: Caller, asked: &str) -> wire::ExplainRequest {
    wire::ExplainRequest { cluster: cluster.into(), caller: Some(caller), asked: asked.into() }
}

#[tokio::test]
async fn status_tells_of_each_cluster_and_of_the_configuration() {
    let stage = Stage::new();
    let status: wire::StatusResponse = stage.answer("Status", &wire::StatusRequest {}).await.unwrap();
    let [cluster] = status.clusters.as_slice() else { unreachable!("{:?}", status.clusters) };
    assert_eq!((cluster.id.as_str(), cluster.tokens()), ("Kubernetes", wire::TokenKind::TokenReview));
    let pods = cluster.pods.as_ref().unwrap();
    assert_eq!((pods.pods, pods.synced, pods.problem.as_str()), (3, false, "pods_stale"));
    assert_eq!(cluster.reviews.as_ref().unwrap().result, "api_forbidden");
    assert_eq!(cluster.keys.as_ref().unwrap().usable, None);
    let configuration = status.configuration.unwrap();
    assert_eq!((configuration.problem.as_str(), configuration.awaits_restart.len()), ("f:1: x", 1));
}

#[tokio::test]
async fn a_question_is_answered_by_its_worst_check_and_one_that_is_none_is_refused() {
    let stage = Stage::new();
    let account = |name: &str| Caller::Account(name.into());
    let asked = "spiffe://cluster.local/ns/demo/sa/web";
    for (caller, verdict) in [
        (account("ns/yes"), wire::Verdict::Yes),
        (account("spiffe://cluster.local/ns/ns/sa/yes"), wire::Verdict::Yes),
        (account("ns/no"), wire::Verdict::No),
        (account("ns/unknown"), wire::Verdict::Unknown),
        (Caller::Pod("ns/yes".into()), wire::Verdict::No),
    ] {
        for cluster in ["", "Kubernetes"] {
            let message = ask(cluster, caller.clone(), asked);
            let answer: wire::ExplainResponse = stage.answer("Explain", &message).await.unwrap();
            assert_eq!((answer.verdict(), answer.cluster.as_str()), (verdict, "Kubernetes"), "{caller:?}");
            assert_eq!(answer.checks.first().unwrap().name, Check::Configured.label());
        }
    }
    for (message, code) in [
        (ask("other", account("ns/yes"), asked), Code::NotFound),
        (ask("", account("yes"), asked), Code::InvalidArgument),
        (ask("", account("a/b/c"), asked), Code::InvalidArgument),
        (ask("", account("/b"), asked), Code::InvalidArgument),
        (ask("", account("spiffe://cluster.local/x"), asked), Code::InvalidArgument),
        (ask("", account("spiffe://other/ns/ns/sa/yes"), asked), Code::InvalidArgument),
        (wire::ExplainRequest { caller: None, ..ask("", account(""), asked) }, Code::InvalidArgument),
    ] {
        let refused = stage.answer::<wire::ExplainResponse>("Explain", &message).await.unwrap_err();
        assert_eq!(refused, code, "{message:?}");
    }
}
