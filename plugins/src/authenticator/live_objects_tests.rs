//! Whose tokens are believed by what was heard of pods and accounts.
#![allow(clippy::unwrap_used, reason = "tests")]

use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PartialObjectMeta;
use serde_json::json;
use signet_core::caller::{AuthMethod, BoundObject, Credential};
use signet_core::identity::WorkloadId;

use super::*;
use crate::kubernetes::Followed;
use crate::kubernetes::tests::{hear, pod};

const NOW: OffsetDateTime = time::macros::datetime!(2026-03-01 12:00 UTC);

/// Believes everybody.
struct Believed(Caller);

#[async_trait]
impl TokenAuthenticator for Believed {
    async fn authenticate(&self, _: &Secret, _: OffsetDateTime) -> Result<Caller, AuthenticationError> {
        Ok(self.0.clone())
    }
}

fn caller(account: (&str, &str), pod: Option<(&str, &str)>, age: i64) -> Caller {
    Caller {
        identity: WorkloadId::parse(&format!("spiffe://td/ns/demo/sa/{}", account.0)).unwrap(),
        service_account_uid: account.1.into(),
        pod: pod.map(|(name, uid)| BoundObject { name: name.into(), uid: uid.into() }),
        node: None,
        cluster: "Kubernetes".into(),
        method: AuthMethod::Jwks,
        credential: Credential::default(),
        made_at: Some(NOW - time::Duration::seconds(age)),
        until: None,
    }
}

fn account(name: &str, uid: &str) -> PartialObjectMeta<ServiceAccount> {
    serde_json::from_value(json!({"metadata": {"namespace": "demo", "name": name, "uid": uid}})).unwrap()
}

#[tokio::test]
async fn a_token_is_believed_while_its_account_and_pod_are_there_and_what_is_new_may_not_have_been_heard_of() {
    let index = PodIndex::new(Followed { nodes: false, accounts: true });
    let label = async |caller: Caller| {
        let live = LiveObjects::new(Arc::new(Believed(caller)), Arc::clone(&index));
        let outcome = live.authenticate(&Secret::new(b"token".to_vec()), NOW).await;
        outcome.map_or_else(|error| error.label(), |_| "believed")
    };
    let web = ("web", "uid-web");
    assert_eq!(label(caller(web, None, 600)).await, "objects_unknown", "nothing was listed yet");
    hear(
        &index,
        vec![
            pod("web-1", "uid-1", "web", Some("node-a"), "Running"),
            pod("done", "uid-done", "web", Some("node-a"), "Succeeded"),
        ],
    );
    assert_eq!(label(caller(web, None, 600)).await, "objects_unknown", "nor are accounts");
    crate::kubernetes::tests::hear_accounts(&index, vec![account("web", "uid-web")]);
    for (what, account, pod, expected, when_new) in [
        ("all there", web, Some(("web-1", "uid-1")), "believed", "believed"),
        ("no pod named", web, None, "believed", "believed"),
        ("a pod that is gone", web, Some(("web-2", "uid-2")), "pod_gone", "objects_unknown"),
        ("another pod of that name", web, Some(("web-1", "x")), "pod_gone", "objects_unknown"),
        ("a pod that has ended", web, Some(("done", "uid-done")), "pod_gone", "pod_gone"),
        ("an account that is gone", ("gone", "x"), None, "account_gone", "objects_unknown"),
        ("another account of that name", ("web", "x"), Some(("web-1", "uid-1")), "account_gone", "objects_unknown"),
    ] {
        for (age, expected) in [(60, expected), (600, expected), (59, when_new), (0, when_new)] {
            assert_eq!(label(caller(account, pod, age)).await, expected, "{what}, {age} s old");
        }
    }
}
