//! What a node agent would be told is what it is told.
#![allow(clippy::unwrap_used, reason = "tests")]

use serde_json::{Value, json};
use signet_core::caller::{AuthMethod, BoundObject, Caller, Credential};
use signet_core::seams::impersonation::ImpersonationAuthorizer as _;

use super::*;
use crate::kubernetes::pods::tests::{hear, hear_nodes, pod};
use crate::kubernetes::{Followed, NodeAuthorizer, PodIndex};

fn agent(name: &str, node: Option<&str>, phase: &str) -> Value {
    pod(name, &format!("uid-{name}"), "ztunnel", node, phase)
}

fn authorizer(all: Option<Vec<Value>>) -> NodeAuthorizer {
    let index = PodIndex::new(Followed { nodes: true, accounts: false });
    if let Some(all) = all {
        hear(&index, all);
        hear_nodes(&index, &["node-a", "node-b"]);
    }
    NodeAuthorizer::new([("demo".to_owned(), "ztunnel".to_owned())], index)
}

fn asked(account: &str) -> WorkloadId {
    WorkloadId::parse(&format!("spiffe://cluster.local/ns/demo/sa/{account}")).unwrap()
}

fn one(name: &str) -> Asker {
    Asker::Pod { namespace: "demo".into(), name: name.into() }
}

fn account(name: &str) -> Asker {
    Asker::Account { namespace: "demo".into(), name: name.into() }
}

fn cluster() -> NodeAuthorizer {
    authorizer(Some(vec![
        agent("agent-a", Some("node-a"), "Running"),
        agent("agent-b", Some("node-b"), "Running"),
        agent("ended", Some("node-a"), "Failed"),
        agent("waiting", None, "Pending"),
        pod("web-1", "1", "web", Some("node-a"), "Running"),
        pod("far-1", "2", "far", Some("node-c"), "Running"),
        pod("over-1", "3", "over", Some("node-a"), "Succeeded"),
    ]))
}

/// The verdicts on account, pod, node and what runs there.
fn verdicts(authorizer: &NodeAuthorizer, asker: &Asker, asked: &WorkloadId) -> [Option<bool>; 4] {
    let all = authorizer.explain(asker, asked);
    assert_eq!(
        all.iter().map(|one| one.check).collect::<Vec<_>>(),
        [Check::TrustedAccount, Check::CallerPod, Check::CallerNode, Check::OnNode]
    );
    for one in &all {
        assert_eq!(one.advice.is_some(), one.passed == Some(false), "{one:?}");
    }
    [0, 1, 2, 3].map(|index| all.get(index).unwrap().passed)
}

const YES: Option<bool> = Some(true);
const NO: Option<bool> = Some(false);

#[test]
fn each_check_has_its_verdict() {
    let known = cluster();
    for (asker, workload, expected) in [
        (one("agent-a"), "web", [YES, YES, YES, YES]),
        (one("agent-b"), "web", [YES, YES, YES, NO]),
        (one("agent-a"), "over", [YES, YES, YES, NO]),
        (one("agent-a"), "nobody", [YES, YES, YES, NO]),
        (one("waiting"), "web", [YES, YES, NO, None]),
        (one("ended"), "web", [YES, NO, None, None]),
        (one("none"), "web", [None, NO, None, None]),
        (one("web-1"), "web", [NO, YES, YES, YES]),
        (account("ztunnel"), "web", [YES, YES, YES, YES]),
        (account("ztunnel"), "far", [YES, YES, YES, NO]),
        (account("other"), "web", [NO, NO, None, None]),
    ] {
        assert_eq!(verdicts(&known, &asker, &asked(workload)), expected, "{asker} asks for {workload}");
    }
    let far = known.explain(&account("ztunnel"), &asked("far"));
    assert!(far.iter().any(|one| one.detail.contains("run on node-c, and none beside it")), "{far:?}");
    let unknown = authorizer(None);
    assert_eq!(verdicts(&unknown, &account("ztunnel"), &asked("web")), [YES, None, None, None]);
    assert_eq!(verdicts(&unknown, &one("agent-a"), &asked("web")), [None; 4]);
}

#[test]
fn what_is_explained_is_what_is_decided() {
    let known = cluster();
    for (name, of) in
        [("agent-a", "ztunnel"), ("agent-b", "ztunnel"), ("ended", "ztunnel"), ("waiting", "ztunnel"), ("web-1", "web")]
    {
        for workload in ["web", "far", "over", "nobody"] {
            let caller = Caller {
                identity: asked(of),
                service_account_uid: "u".into(),
                pod: Some(BoundObject {
                    name: name.into(),
                    uid: if name == "web-1" { "1".into() } else { format!("uid-{name}") },
                }),
                node: None,
                cluster: "Kubernetes".into(),
                method: AuthMethod::Jwks,
                made_at: None,
                until: None,
                credential: Credential::default(),
            };
            let allowed = known.authorize(&caller, &asked(workload)).is_ok();
            let explained = verdicts(&known, &one(name), &asked(workload));
            assert_eq!(explained == [YES; 4], allowed, "{name} asks for {workload}: {explained:?}");
        }
    }
}

#[test]
fn a_long_list_of_nodes_is_cut_and_counted() {
    let mut all: Vec<Value> =
        (0..100).map(|index| agent(&format!("agent-{index}"), Some(&format!("node-{index:03}")), "Running")).collect();
    all.push(json!(pod("web-1", "1", "web", Some("node-007"), "Running")));
    let known = authorizer(Some(all));
    let told = known.explain(&account("ztunnel"), &asked("web"));
    assert!(told.iter().any(|one| one.detail.ends_with("node-004 and 95 more")), "{told:?}");
    assert!(told.iter().all(|one| one.detail.len() < 200), "{told:?}");
}
