//! Every call of the operators' service by every class of caller, and what the calls make of their messages.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use signet_core::clock::ManualClock;
use signet_core::rotation::Revoked;
use signet_runtime::metrics::Metrics;
use tonic::Code;
use tonic_prost::prost::Message;

use super::*;
use crate::grpc::admin_stage::{ADMIN, Caller, NOW, OWN, Stage};
use crate::grpc::peer::PeerUser;
use crate::grpc::test_mesh::{TestRoot, authorities, nothing, publish};

/// Every call with a message that it accepts.
fn calls(stage: &Stage) -> Vec<(&'static str, Vec<u8>)> {
    let id = stage.roots[0].id().to_string();
    let change = wire::ChangeAuthorityRequest { id, force: false, reason: String::new() }.encode_to_vec();
    let revoke = wire::RevokeCertificateRequest { serial: "0".repeat(32), reason: "superseded".into(), clear: false };
    let all = vec![
        ("Status", Vec::new()),
        ("GetRotation", Vec::new()),
        ("PrepareAuthority", Vec::new()),
        ("RotateAuthority", Vec::new()),
        ("ActivateAuthority", change.clone()),
        ("RollbackAuthority", Vec::new()),
        ("TaintAuthority", change.clone()),
        ("RevokeAuthority", change),
        ("RevokeCertificate", revoke.encode_to_vec()),
        ("ListHolders", Vec::new()),
    ];
    let declared = include_str!("../../../proto/signet/admin/v1alpha1/admin.proto").matches("  rpc ").count();
    assert_eq!(all.len(), declared, "a call is missing in this table");
    all
}

#[tokio::test]
async fn every_call_is_for_operators_only_and_does_nothing_for_others() {
    let stage = Stage::new();
    let leaf = |id: &str| stage.roots[0].leaf(id, NOW, |_| {});
    let listed = leaf(ADMIN);
    let expired = stage.roots[0].leaf(ADMIN, NOW, |leaf| leaf.not_after = NOW - Duration::from_secs(1));
    let revoked = stage.roots[0].leaf(ADMIN, NOW, |leaf| leaf.serial_number = Some(vec![0x42; 16].into()));
    let entry: Revoked = revoked.revoked(0, stage.roots[0].issuing_id());
    publish(&stage.state, 2, &[&stage.roots[0], &stage.roots[1]], &[entry]);
    let removed = TestRoot::new("removed").leaf(ADMIN, NOW, |_| {});
    let mut both = Caller::tls(Some(&listed));
    both.connection.insert(PeerUser(Some(0)));

    let callers = [
        ("socket, root", Caller::user(Some(0)), true),
        ("socket, own user", Caller::user(Some(OWN)), true),
        ("socket, another user", Caller::user(Some(OWN + 1)), false),
        ("socket, unknown user", Caller::user(None), false),
        ("TLS, a listed administrator", Caller::tls(Some(&listed)), true),
        ("TLS, no certificate", Caller::tls(None), false),
        ("TLS, a workload that is not listed", Caller::tls(Some(&leaf("spiffe://cluster.local/ns/a/sa/b"))), false),
        ("TLS, a name below the listed one", Caller::tls(Some(&leaf(&format!("{ADMIN}/x")))), false),
        ("TLS, the CA itself", Caller::tls(Some(&leaf("spiffe://cluster.local/signet/ca"))), false),
        ("TLS, the same path elsewhere", Caller::tls(Some(&leaf("spiffe://elsewhere/ns/signet/sa/admin"))), false),
        ("TLS, listed but expired since", Caller::tls(Some(&expired)), false),
        ("TLS, listed but revoked since", Caller::tls(Some(&revoked)), false),
        ("TLS, listed but its root was removed since", Caller::tls(Some(&removed)), false),
        ("TLS, a token only", Caller { token: Some("Bearer token"), ..Caller::tls(None) }, false),
        ("a token and no known edge", Caller { token: Some("Bearer token"), ..Caller::default() }, false),
        ("both edges at once", both, false),
    ];
    for (method, message) in calls(&stage) {
        for (who, caller, allowed) in &callers {
            drop(stage.asked());
            let (code, _) = stage.call(method, &message, caller).await;
            let expected = if *allowed { Code::Ok } else { Code::PermissionDenied };
            assert_eq!(code, expected, "{method} by {who}");
            if !allowed {
                assert_eq!(stage.asked(), Vec::<String>::new(), "{method} by {who}");
                // Denied before the message is read: a broken one makes no difference.
                let (code, _) = stage.raw(method, vec![1, 0, 0, 0, 0], caller).await;
                assert_eq!(code, Code::PermissionDenied, "{method} by {who}");
            }
        }
    }
    assert_ne!(stage.raw("Status", vec![1, 0, 0, 0, 0], &Caller::user(Some(0))).await.0, Code::PermissionDenied);
}

#[tokio::test]
async fn the_service_does_nothing_without_its_guard() {
    let stage = Stage::new();
    let bare = AdminService {
        trust_domain: String::new(),
        started_at: 0,
        state: nothing().1,
        serving: tokio::sync::watch::channel(None).1,
        readiness: Readiness::new(),
        metrics: Arc::new(CaMetrics::new(&Metrics::new(), Arc::new(ManualClock::at(NOW))).unwrap()),
        operations: Arc::clone(&stage.fake) as _,
        clock: Arc::new(ManualClock::at(NOW)),
    };
    let status = bare.rotate_authority(Request::new(wire::RotateAuthorityRequest::default())).await.unwrap_err();
    assert_eq!((status.code(), stage.asked().len()), (Code::PermissionDenied, 0));
    // With the guard's note it does, within limits: what goes into the record is bounded.
    let noted = |length| {
        let mut request = Request::new(wire::RotateAuthorityRequest { reason: "x".repeat(length), issuing: false });
        request.extensions_mut().insert(Operator { name: "uid 0".into(), peer: None });
        request
    };
    assert!(bare.rotate_authority(noted(REASON)).await.is_ok());
    assert_eq!(bare.rotate_authority(noted(REASON + 1)).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn commands_carry_their_operator_authority_and_reason() {
    let stage = Stage::new();
    let id = stage.roots[0].id();
    let change =
        |id: &str, force, reason: &str| wire::ChangeAuthorityRequest { id: id.into(), force, reason: reason.into() };
    let short = change(&id.as_str()[..12].to_uppercase(), true, " because ");
    let answer: wire::Rotation = stage.answer("ActivateAuthority", &short).await.unwrap();
    assert_eq!(answer.done, "done");
    let expected = format!("uid 0 Activate {{ id: {id}, force: true }} \"because\"");
    assert!(stage.asked().contains(&expected), "{expected}");
    let renewal = wire::RotateAuthorityRequest { reason: String::new(), issuing: true };
    stage.answer::<wire::Rotation>("RotateAuthority", &renewal).await.unwrap();
    assert_eq!(stage.asked()[0], "uid 0 RenewIssuing \"\"");

    for (why, request, code) in [
        ("force without a reason", change(id.as_str(), true, " "), Code::InvalidArgument),
        ("no id", change("", false, ""), Code::InvalidArgument),
        ("an unknown id", change("zz", false, ""), Code::NotFound),
    ] {
        for method in ["ActivateAuthority", "TaintAuthority", "RevokeAuthority"] {
            let refused = stage.answer::<wire::Rotation>(method, &request).await.unwrap_err();
            assert_eq!(refused, code, "{why}");
            assert!(stage.asked().iter().all(|asked| asked == "view"), "{why}");
        }
    }
    // Only roots are activated; what an issuing CA needs instead is said.
    let issuing = change(stage.roots[0].issuing_id().as_str(), false, "");
    for (method, accepted) in [("ActivateAuthority", false), ("TaintAuthority", true), ("RevokeAuthority", true)] {
        let answer = stage.answer::<wire::Rotation>(method, &issuing).await;
        assert_eq!(answer.err(), (!accepted).then_some(Code::InvalidArgument), "{method}");
        assert_eq!(stage.asked().iter().all(|asked| asked == "view"), !accepted, "{method}");
    }
}

#[test]
fn a_beginning_that_several_authorities_share_is_refused_with_their_ids() {
    let roots = [TestRoot::new("a"), TestRoot::new("b")];
    let all = authorities(1, &[&roots[0], &roots[1]], &[]);
    let ids: Vec<AuthorityId> = roots.iter().flat_map(|root| [root.id(), root.issuing_id()]).collect();
    for id in &ids {
        assert_eq!(find(&all, id.as_str()).unwrap(), *id);
    }
    // Among 17 ids, two begin with the same digit.
    let many: Vec<TestRoot> = (0..9).map(|number| TestRoot::new(&number.to_string())).collect();
    let all = authorities(1, &many.iter().collect::<Vec<_>>(), &[]);
    let status = "0123456789abcdef".chars().find_map(|digit| find(&all, &digit.to_string()).err());
    let ambiguous = "0123456789abcdef"
        .chars()
        .filter_map(|digit| find(&all, &digit.to_string()).err())
        .find(|status| status.code() == Code::InvalidArgument);
    assert!(status.is_some() && ambiguous.unwrap().message().contains(", "));
}

#[tokio::test]
async fn certificates_are_revoked_for_a_reason_that_fits_a_leaf() {
    let stage = Stage::new();
    let serial = "0123456789abcdef0123456789abcdef";
    let request = |serial: &str, reason: &str, clear| wire::RevokeCertificateRequest {
        serial: serial.into(),
        reason: reason.into(),
        clear,
    };
    for (request, expected) in [
        (request(serial, "key_compromise", false), Some("KeyCompromise false")),
        (request(serial, "", true), Some("Unspecified true")),
        (request(serial, "", false), None),
        (request(serial, "ca_compromise", false), None),
        (request("12", "superseded", false), None),
    ] {
        let answer = stage.answer::<wire::RevokeCertificateResponse>("RevokeCertificate", &request).await;
        match expected {
            Some(text) => {
                assert_eq!(answer.unwrap().serial, serial);
                assert_eq!(stage.asked(), [format!("uid 0 revokes {serial} {text}")]);
            }
            None => assert_eq!((answer.unwrap_err(), stage.asked().len()), (Code::InvalidArgument, 0)),
        }
    }
}

#[tokio::test]
async fn holders_are_asked_for_by_bundle_and_authority_page_by_page() {
    let stage = Stage::new();
    let [one, _] = &stage.roots;
    let list = |behind, authority: &str, limit, page_token: &str| wire::ListHoldersRequest {
        behind,
        behind_sequence: 0,
        authority: authority.into(),
        limit,
        page_token: page_token.into(),
    };
    let page: wire::ListHoldersResponse = stage.answer("ListHolders", &list(false, "", 0, "")).await.unwrap();
    assert_eq!((stage.asked().pop().unwrap().as_str(), page.sequence), ("holders None [] 100", 0));
    assert_eq!((page.next_page_token.as_str(), page.holders[0].refused.as_str()), ("", "bundle 2: no"));

    let below = format!("holders Some(2) [{}, {}] 1", one.issuing_id(), one.id());
    let page: wire::ListHoldersResponse =
        stage.answer("ListHolders", &list(true, one.id().as_str(), 1, "")).await.unwrap();
    assert_eq!((stage.asked().pop().unwrap(), page.sequence), (below, 2));
    assert_eq!(messages::page_after(&page.next_page_token), Some(stage.fake.holders[0].key.clone()));

    let garbage = stage.answer::<wire::ListHoldersResponse>("ListHolders", &list(false, "", 1, "garbage")).await;
    assert_eq!(garbage.unwrap_err(), Code::InvalidArgument);
}

#[tokio::test]
async fn the_view_and_the_status_tell_the_same_authorities() {
    let stage = Stage::new();
    let rotation: wire::Rotation = stage.answer("GetRotation", &wire::GetRotationRequest {}).await.unwrap();
    let status: wire::StatusResponse = stage.answer("Status", &wire::StatusRequest {}).await.unwrap();
    let shape = |rows: &[wire::Authority]| {
        rows.iter().map(|row| format!("{} {} {}", row.id, row.kind, row.state)).collect::<Vec<_>>()
    };
    assert_eq!(shape(&rotation.authorities), shape(&status.authorities));
    let [old, new] = &stage.roots;
    let expected = [
        format!("{} root old", old.id()),
        format!("{} issuing old", old.issuing_id()),
        format!("{} root active", new.id()),
        format!("{} issuing active", new.issuing_id()),
    ];
    assert_eq!(shape(&rotation.authorities), expected);
    let coverage = rotation.coverage.unwrap();
    assert_eq!((rotation.phase.as_str(), coverage.threshold_percent, coverage.laggards.len()), ("drain", 100, 1));
    assert_eq!(rotation.expected_at, NOW.unix_timestamp());
}
