//! Every call of the operators' service by every class of caller, and what the calls make of their messages.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use signet_core::clock::ManualClock;
use signet_core::revocation::Revoked;
use signet_core::seams::store::AuthorityJournal;
use signet_proto::admin::v1alpha1::RevocationReason as Reason;
use signet_runtime::metrics::Metrics;
use tonic::Code;
use tonic_prost::prost::Message;

use super::test_stage::{ADMIN, AUDITOR, Caller, NOW, OWN, Stage, catch_up};
use super::*;
use crate::client_identity::test_mesh::{TestRoot, authorities, nothing, publish};
use crate::transport::admin_socket::PeerUser;

/// Every call with a message that it accepts.
fn calls(stage: &Stage) -> Vec<(&'static str, Vec<u8>)> {
    let id = stage.roots[0].id().to_string();
    let retire = wire::RetireAuthorityRequest { id: id.clone(), reason: String::new() };
    let change = wire::ChangeAuthorityRequest { id, force: false, reason: String::new() }.encode_to_vec();
    let revoke = wire::RevokeCertificateRequest {
        serial: "0".repeat(32),
        reason: Some(Reason::Superseded.into()),
        clear: false,
    };
    let caller = Some(wire::explain_request::Caller::Account("ns/yes".into()));
    let explain = wire::ExplainRequest { caller, ..wire::ExplainRequest::default() };
    let all = vec![
        ("Status", Vec::new()),
        ("GetRotation", Vec::new()),
        ("PrepareAuthority", Vec::new()),
        ("RotateAuthority", Vec::new()),
        ("AdoptAuthority", Vec::new()),
        ("ActivateAuthority", change.clone()),
        ("RollbackAuthority", Vec::new()),
        ("TaintAuthority", change.clone()),
        ("RevokeAuthority", change),
        ("RetireAuthority", retire.encode_to_vec()),
        ("ResumeAuthority", Vec::new()),
        ("RevokeCertificate", revoke.encode_to_vec()),
        ("ListHolders", Vec::new()),
        ("Explain", explain.encode_to_vec()),
        ("GetBundle", Vec::new()),
    ];
    let declared = include_str!("../../../../proto/signet/admin/v1alpha1/admin.proto").matches("  rpc ").count();
    assert_eq!(all.len(), declared, "a call is missing in this table");
    assert_eq!(all.iter().map(|(name, _)| *name).collect::<Vec<_>>(), CALLS);
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
        ("TLS, an auditor", Caller::tls(Some(&leaf(AUDITOR))), false),
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
            let allowed = *allowed || (*who == "TLS, an auditor" && READS.contains(&method));
            let (code, _) = stage.call(method, &message, caller).await;
            let expected = if allowed { Code::Ok } else { Code::PermissionDenied };
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

#[tokio::test(start_paused = true)]
async fn a_change_is_answered_when_this_process_serves_it() {
    let stage = Stage::new();
    let [one, two] = &stage.roots;
    let revoke = wire::RevokeCertificateRequest {
        serial: "0".repeat(32),
        reason: Some(Reason::Superseded.into()),
        clear: false,
    };
    for (sequence, method, message) in
        [(3, "PrepareAuthority", Vec::new()), (4, "RevokeCertificate", revoke.encode_to_vec())]
    {
        let version = stage.journal.version().await.unwrap();
        let written = authorities(sequence, &[one, two], &[]);
        stage.journal.replace(version, &written).await.unwrap().unwrap();
        let caller = Caller::user(Some(0));
        let mut answer = Box::pin(stage.call(method, &message, &caller));
        let early = tokio::time::timeout(Duration::from_secs(1), &mut answer).await;
        assert!(early.is_err(), "{method} is answered before it is served");
        publish(&stage.state, sequence, &[one, two], &[]);
        let begun = tokio::time::Instant::now();
        assert_eq!((answer.await.0, begun.elapsed()), (Code::Ok, Duration::ZERO), "{method}");
    }
    // A refusal, and a question, wait for nothing.
    let version = stage.journal.version().await.unwrap();
    stage.journal.replace(version, &authorities(5, &[one, two], &[])).await.unwrap().unwrap();
    let begun = tokio::time::Instant::now();
    stage.answer::<wire::Rotation>("GetRotation", &wire::GetRotationRequest {}).await.unwrap();
    stage.answer::<wire::Rotation>("TaintAuthority", &wire::ChangeAuthorityRequest::default()).await.unwrap_err();
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

#[tokio::test]
async fn the_service_does_nothing_without_its_guard() {
    let stage = Stage::new();
    let bare = AdminService {
        trust_domain: String::new(),
        storage: String::new(),
        started_at: NOW,
        state: nothing().1,
        serving: tokio::sync::watch::channel(None).1,
        readiness: Readiness::new(),
        metrics: Arc::new(CaMetrics::new(&Metrics::new(), Arc::new(ManualClock::at(NOW))).unwrap()),
        operations: Arc::clone(&stage.fake) as _,
        clusters: Arc::new(crate::cluster_status::NoClusters),
        catch_up: catch_up(nothing().1, &Arc::default()),
        storage_age: crate::storage_age::test_age(),
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
    assert_eq!(answer.done.unwrap().step(), wire::done::Step::Prepared);
    let expected = format!("uid 0 Activate {{ id: {id}, force: true }} \"because\"");
    assert!(stage.asked().contains(&expected), "{expected}");
    let renewal = wire::RotateAuthorityRequest { reason: String::new(), issuing: true };
    stage.answer::<wire::Rotation>("RotateAuthority", &renewal).await.unwrap();
    assert_eq!(stage.asked()[0], "uid 0 RenewIssuing \"\"");

    for (why, request, code) in [
        ("force without a reason", change(id.as_str(), true, " "), Code::InvalidArgument),
        ("no id", change("", false, ""), Code::InvalidArgument),
        ("too few digits", change(&id.as_str()[..7], false, ""), Code::InvalidArgument),
        ("an unknown id", change("zzzzzzzz", false, ""), Code::NotFound),
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

#[tokio::test]
async fn certificates_are_revoked_for_a_reason_that_fits_a_leaf() {
    let stage = Stage::new();
    let serial = "0123456789abcdef0123456789abcdef";
    let request = |serial: &str, reason, clear| {
        let serial = serial.into();
        wire::RevokeCertificateRequest { serial, reason, clear }
    };
    for (request, expected) in [
        (request(serial, Some(Reason::KeyCompromise.into()), false), Some("KeyCompromise false")),
        (request(serial, Some(0), false), Some("Unspecified false")),
        (request(serial, None, true), Some("Unspecified true")),
        (request(serial, None, false), None),
        // RFC 5280 has it for CAs.
        (request(serial, Some(2), false), None),
        (request(serial, Some(99), false), None),
        (request("12", Some(Reason::Superseded.into()), false), None),
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
        authority: authority.into(),
        limit,
        page_token: page_token.into(),
        ..wire::ListHoldersRequest::default()
    };
    let refused = wire::RefusedBundle { sequence: 2, reason: "no".into() };
    let page: wire::ListHoldersResponse = stage.answer("ListHolders", &list(false, "", 0, "")).await.unwrap();
    assert_eq!((stage.asked().pop().unwrap().as_str(), page.sequence), ("holders None [] 100", 0));
    assert_eq!((page.next_page_token.as_str(), page.holders[0].refused.clone()), ("", Some(refused)));

    let below = format!("holders Some(2) [{}, {}] 1", one.issuing_id(), one.id());
    let page: wire::ListHoldersResponse =
        stage.answer("ListHolders", &list(true, one.id().as_str(), 1, "")).await.unwrap();
    assert_eq!((stage.asked().pop().unwrap(), page.sequence), (below, 2));

    let garbage = stage.answer::<wire::ListHoldersResponse>("ListHolders", &list(false, "", 1, "garbage")).await;
    assert_eq!(garbage.unwrap_err(), Code::InvalidArgument);
}

#[tokio::test]
async fn the_last_page_has_no_token_even_when_it_is_full() {
    let stage = Stage::new();
    let mut request = wire::ListHoldersRequest { limit: 1, ..wire::ListHoldersRequest::default() };
    let first: wire::ListHoldersResponse = stage.answer("ListHolders", &request).await.unwrap();
    assert_eq!(messages::page_after(&first.next_page_token), Some(stage.fake.holders[0].key.clone()));
    request.page_token = first.next_page_token;
    let second: wire::ListHoldersResponse = stage.answer("ListHolders", &request).await.unwrap();
    assert_eq!((second.holders.len(), second.next_page_token.as_str()), (1, ""));
    assert_ne!(second.holders[0].instance, first.holders[0].instance);
    let all = wire::ListHoldersRequest { limit: 2, ..wire::ListHoldersRequest::default() };
    let all: wire::ListHoldersResponse = stage.answer("ListHolders", &all).await.unwrap();
    assert_eq!((all.holders.len(), all.next_page_token.as_str()), (2, ""));
}

#[tokio::test]
async fn those_who_are_cut_off_are_asked_for_by_what_they_have_and_nobody_else_is_listed() {
    let stage = Stage::new();
    let request = wire::ListHoldersRequest { cut_off: true, ..wire::ListHoldersRequest::default() };
    let gone = TestRoot::new("gone").issuing_id();
    let page: wire::ListHoldersResponse = stage.answer("ListHolders", &request).await.unwrap();
    assert!(page.holders.is_empty() && stage.asked() == ["view"], "nobody is cut off, so storage is not asked");
    stage.fake.coverage.lock().unwrap().by_authority.extend([(gone.clone(), 1), (stage.roots[0].issuing_id(), 1)]);
    stage.answer::<wire::ListHoldersResponse>("ListHolders", &request).await.unwrap();
    assert_eq!(stage.asked().pop().unwrap(), format!("holders None [{gone}] 100"));
    let named = wire::ListHoldersRequest { authority: stage.roots[0].id().to_string(), ..request };
    let page: wire::ListHoldersResponse = stage.answer("ListHolders", &named).await.unwrap();
    assert!(page.holders.is_empty(), "{page:?}");
}

#[tokio::test]
async fn the_view_and_the_status_tell_the_same_authorities() {
    let stage = Stage::new();
    let rotation: wire::Rotation = stage.answer("GetRotation", &wire::GetRotationRequest {}).await.unwrap();
    let status: wire::StatusResponse = stage.answer("Status", &wire::StatusRequest {}).await.unwrap();
    let shape = |rows: &[wire::Authority]| {
        rows.iter()
            .map(|row| format!("{} {} {}", row.id, row.kind().as_str_name(), row.state().as_str_name()))
            .collect::<Vec<_>>()
    };
    assert_eq!(shape(&rotation.authorities), shape(&status.authorities));
    let [old, new] = &stage.roots;
    let expected = [
        format!("{} AUTHORITY_KIND_ROOT AUTHORITY_STATE_OLD", old.id()),
        format!("{} AUTHORITY_KIND_ISSUING AUTHORITY_STATE_OLD", old.issuing_id()),
        format!("{} AUTHORITY_KIND_ROOT AUTHORITY_STATE_ACTIVE", new.id()),
        format!("{} AUTHORITY_KIND_ISSUING AUTHORITY_STATE_ACTIVE", new.issuing_id()),
    ];
    assert_eq!(shape(&rotation.authorities), expected);
    assert_eq!(rotation.phase(), wire::Phase::Drain);
    let (coverage, next) = (rotation.coverage.unwrap(), rotation.next.unwrap());
    assert_eq!((coverage.threshold_percent, coverage.laggards.len()), (100, 2));
    assert_eq!((next.step(), next.static_files), (wire::next::Step::Retire, true));
    assert_eq!(rotation.expected_at, Some(values::time(NOW)));
}

#[tokio::test]
async fn a_message_that_cannot_be_read_is_an_invalid_argument() {
    let stage = Stage::new();
    let operator = Caller::user(Some(0));
    for (call, unreadable) in
        [("ListHolders", &[0x0a, 9, 1][..]), ("RevokeCertificate", &[0x0a, 9, 1]), ("Status", &[1])]
    {
        assert_eq!(stage.call(call, unreadable, &operator).await.0, Code::InvalidArgument, "{call}");
    }
    assert_eq!(stage.asked(), Vec::<String>::new());
}
