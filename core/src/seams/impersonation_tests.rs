//! What is decided before anybody's pods are looked at.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::caller::Credential;

const OWN: &str = "spiffe://cluster.local/ns/istio-system/sa/ztunnel";

/// Agrees to everything, or to nothing.
struct Agreed(bool);

impl ImpersonationAuthorizer for Agreed {
    fn authorize(&self, _: &Caller, _: &WorkloadId) -> Result<(), ImpersonationError> {
        let no = || ImpersonationError::denied(ImpersonationDenial::NotOnNode, "no");
        self.0.then_some(()).ok_or_else(no)
    }

    fn explain(&self, _: &Asker, _: &WorkloadId) -> Vec<Explained> {
        Vec::new()
    }
}

#[test]
fn the_own_identity_needs_nobody_and_another_one_somebody_who_agrees_and_the_one_spelling_of_ours() {
    let caller = Caller {
        identity: WorkloadId::parse(OWN).unwrap(),
        service_account_uid: "u".into(),
        pod: None,
        node: None,
        cluster: "Kubernetes".into(),
        method: AuthMethod::Jwks,
        credential: Credential::default(),
        made_at: None,
        until: None,
    };
    let ask = |asked: Option<&str>, authorizer: Option<&dyn ImpersonationAuthorizer>| {
        subject(&caller, asked, || authorizer).map(|id| id.to_string()).map_err(|error| error.label())
    };
    let (yes, no) = (Agreed(true), Agreed(false));
    for own in [None, Some(""), Some(OWN)] {
        for authorizer in [None, Some(&no as &dyn ImpersonationAuthorizer)] {
            assert_eq!(ask(own, authorizer), Ok(OWN.to_owned()));
        }
    }
    let web = "spiffe://cluster.local/ns/demo/sa/web";
    assert_eq!(ask(Some(web), None), Err("impersonation_not_configured"));
    assert_eq!(ask(Some(web), Some(&no)), Err("impersonated_not_on_node"));
    assert_eq!(ask(Some(web), Some(&yes)), Ok(web.to_owned()));
    for (asked, label) in [
        ("spiffe://other/ns/demo/sa/web", "impersonation_foreign_trust_domain"),
        ("spiffe://a,b/ns/demo/sa/web", "impersonation_malformed"),
        ("spiffe:///ns/demo/sa/web", "impersonation_malformed"),
        ("SPIFFE://cluster.local/ns/demo/sa/web", "impersonation_malformed"),
        ("spiffe://CLUSTER.LOCAL/ns/demo/sa/web", "impersonation_malformed"),
        ("spiffe://cluster.local/ns/demo/sa/web/", "impersonation_malformed"),
        ("spiffe://cluster.local/ns/demo/sa/web?x", "impersonation_malformed"),
        ("spiffe://cluster.local/ns/demo/sa/%77eb", "impersonation_malformed"),
        ("spiffe://cluster.local/ns/demo/sa/../web", "impersonation_malformed"),
        (" spiffe://cluster.local/ns/demo/sa/web", "impersonation_malformed"),
        ("spiffe://cluster.local/signet/ca", "impersonation_malformed"),
        ("web", "impersonation_malformed"),
    ] {
        assert_eq!(ask(Some(asked), Some(&yes)), Err(label), "{asked}");
    }
    // Who has shown a certificate gets the like of it, whoever would agree to more.
    let caller = Caller { method: AuthMethod::ClientCertificate, ..caller.clone() };
    let ask = |asked| subject(&caller, asked, || Some(&yes as &dyn ImpersonationAuthorizer));
    assert_eq!(ask(Some(OWN)).unwrap().to_string(), OWN);
    assert_eq!(ask(Some(web)).unwrap_err().label(), "impersonator_by_certificate");
}
