//! Who may use the admin service: the CA's own user on its socket, configured SPIFFE IDs over TLS, and nobody else.

use std::os::unix::fs::PermissionsExt as _;

use signet_proto::admin::v1alpha1::{
    AdoptAuthorityRequest, ChangeAuthorityRequest, ExplainRequest, GetBundleRequest, GetRotationRequest,
    ListHoldersRequest, PrepareAuthorityRequest, ResumeAuthorityRequest, RetireAuthorityRequest, RevocationReason,
    RevokeCertificateRequest, RollbackAuthorityRequest, RotateAuthorityRequest, StatusRequest, explain_request,
};
use signet_tests::client::admin::{Admin, root_ids};
use signet_tests::client::bundle_stream::with_identity;
use signet_tests::client::certify::Client;
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::Dev;
use signet_tests::harness::process::eventually;
use signet_tests::harness::rotation::keys as config;
use signet_tests::stage::{CLIENT_ID, SERVER_ID};
use tonic::{Code, Request, Status};

use super::{SOON, installation, now_at, prepared, settled, streaming_holder};

const TWO: [&str; 2] = ["client=default/client", "server=default/server"];

/// Every call of the service, with an authorization header if one is given; its name and how it ended.
async fn every_call(admin: &Admin, authorization: Option<&str>) -> Vec<(&'static str, Result<(), Status>)> {
    fn with<T>(message: T, authorization: Option<&str>) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(value) = authorization {
            request.metadata_mut().insert("authorization", value.parse().unwrap());
        }
        request
    }
    let mut client = admin.0.clone();
    let change = || ChangeAuthorityRequest { id: "00".repeat(20), force: true, reason: "test".into() };
    let revoke = RevokeCertificateRequest {
        serial: "0".repeat(32),
        reason: Some(RevocationReason::Superseded.into()),
        clear: false,
    };
    let caller = Some(explain_request::Caller::Account("istio-system/ztunnel".into()));
    let explain = ExplainRequest { caller, ..ExplainRequest::default() };
    let rotate = RotateAuthorityRequest { reason: "test".into(), issuing: true };
    vec![
        ("Status", client.status(with(StatusRequest {}, authorization)).await.map(drop)),
        ("GetRotation", client.get_rotation(with(GetRotationRequest {}, authorization)).await.map(drop)),
        ("Prepare", client.prepare_authority(with(PrepareAuthorityRequest::default(), authorization)).await.map(drop)),
        ("Rotate", client.rotate_authority(with(rotate, authorization)).await.map(drop)),
        ("Adopt", client.adopt_authority(with(AdoptAuthorityRequest::default(), authorization)).await.map(drop)),
        ("Activate", client.activate_authority(with(change(), authorization)).await.map(drop)),
        (
            "Rollback",
            client.rollback_authority(with(RollbackAuthorityRequest::default(), authorization)).await.map(drop),
        ),
        ("Taint", client.taint_authority(with(change(), authorization)).await.map(drop)),
        ("Revoke", client.revoke_authority(with(change(), authorization)).await.map(drop)),
        ("Retire", client.retire_authority(with(RetireAuthorityRequest::default(), authorization)).await.map(drop)),
        ("Resume", client.resume_authority(with(ResumeAuthorityRequest::default(), authorization)).await.map(drop)),
        ("RevokeCertificate", client.revoke_certificate(with(revoke, authorization)).await.map(drop)),
        ("ListHolders", client.list_holders(with(ListHoldersRequest::default(), authorization)).await.map(drop)),
        ("Explain", client.explain(with(explain, authorization)).await.map(drop)),
        ("GetBundle", client.get_bundle(with(GetBundleRequest {}, authorization)).await.map(drop)),
    ]
}

async fn over_tls(dev: &Dev, workload: &str) -> Outcome<Admin> {
    let (chain, key) = streaming_holder(dev, workload).await?;
    Ok(Admin::over(with_identity(dev, &chain, &key).await?))
}

#[tokio::test]
async fn every_other_caller_gets_permission_denied_for_every_call() -> Outcome {
    let dev = installation("1h", &TWO)?;
    dev.set_ca(config::ADMINS, serde_json::json!([CLIENT_ID]))?;
    let ca = dev.start_ca().await?;
    let admin = ca.admin()?;
    settled(&admin, 0).await?;
    let before = now_at(&admin).await?;
    let nobody = Admin::over(Client::connect(&dev).await?.channel);
    let bearer = format!("Bearer {}", dev.token("client")?);
    let server = over_tls(&dev, "server").await?;
    for (who, caller, authorization) in [
        ("nobody", &nobody, None),
        ("a token, even that of an administrator", &nobody, Some(bearer.as_str())),
        ("a certificate of somebody else", &server, None),
        ("a certificate of somebody else with the token of an administrator", &server, Some(bearer.as_str())),
    ] {
        for (call, result) in every_call(caller, authorization).await {
            let code = result.as_ref().err().map(Status::code);
            ensure(code == Some(Code::PermissionDenied), || format!("{call} by {who}: {result:?}"))?;
        }
    }
    let after = now_at(&admin).await?;
    assert_eq!((after.bundle_sequence, root_ids(&after)), (before.bundle_sequence, root_ids(&before)));
    assert_eq!(after.authorities.len(), before.authorities.len(), "no issuing CA was made either");
    // Each is counted, and on record once a minute for each caller and call: who it was, from where, and what it asked.
    let metrics = ca.metrics().await?;
    // Two callers of each kind, and every call.
    let each = 2 * include_str!("../../../../proto/signet/admin/v1alpha1/admin.proto").matches("  rpc ").count();
    for (reason, count) in [("no_certificate", each as f64), ("not_listed", each as f64), ("other_user", 0.0)] {
        let counted = metrics.sum("signet_ca_admin_denied_total", &[&format!("reason=\"{reason}\"")]);
        ensure((counted - count).abs() < 0.5, || format!("{counted} denied for {reason}"))?;
    }
    let denied = async || {
        let events = ca.audit(&["--outcome", "refused"]).ok()?;
        let mut who: Vec<String> = events
            .iter()
            .filter(|event| event["kind"] == "admin")
            .map(|event| event["detail"].as_str().unwrap_or_default().to_owned())
            .collect();
        // On a machine where the calls take longer than the quiet minute, one is there again, with how often it was.
        let once = |text: &String| text.split(", ").filter(|part| !part.contains(" times since ")).collect::<String>();
        who.sort();
        who.dedup_by_key(|text| once(text));
        (who.len() >= each).then_some(who)
    };
    let denied = eventually("the denied calls on record", SOON, denied).await?;
    ensure(denied.len() == each, || format!("{denied:#?}"))?;
    for text in ["127.0.0.1: denied TaintAuthority: no client", &format!("{SERVER_ID}: denied TaintAuthority: none of")]
    {
        ensure(denied.iter().any(|one| one.starts_with(text)), || format!("{text}: {denied:#?}"))?;
    }
    Ok(())
}

#[tokio::test]
async fn an_administrators_certificate_may_do_everything_and_is_on_record() -> Outcome {
    let dev = installation("1h", &TWO)?;
    dev.set_ca(config::ADMINS, serde_json::json!([CLIENT_ID]))?;
    let ca = dev.start_ca().await?;
    let remote = over_tls(&dev, "client").await?;
    for (call, result) in every_call(&remote, None).await {
        let code = result.as_ref().err().map(Status::code);
        ensure(code != Some(Code::PermissionDenied) && code != Some(Code::Unimplemented), || {
            format!("{call}: {code:?}")
        })?;
    }
    // The socket sees what was done over TLS, and the record says by whom.
    let admin = ca.admin()?;
    let remote_prepare = remote.0.clone().prepare_authority(PrepareAuthorityRequest { reason: "by TLS".into() }).await;
    remote_prepare.map_err(Failure::while_doing("prepare over TLS"))?;
    prepared(&admin).await?;
    let events = ca.audit(&[])?;
    let event = events.iter().find(|event| event["kind"] == "admin" && event.to_string().contains("by TLS"));
    let event = event.ok_or_else(|| Failure::unexpected(format!("not on record: {events:#?}")))?;
    assert_eq!(event["who"]["spiffe_id"], CLIENT_ID);
    // The command line works over TLS too.
    let (chain, key) = streaming_holder(&dev, "client").await?;
    let (chain_file, key_file) = (dev.path("admin.pem"), dev.path("admin.key"));
    std::fs::write(&chain_file, chain).unwrap();
    std::fs::write(&key_file, key).unwrap();
    std::fs::set_permissions(&key_file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let address = format!("https://localhost:{}", dev.listen.port());
    let roots = dev.path("root-cert.pem");
    let paths = [&chain_file, &key_file, &roots].map(|path| path.to_string_lossy().into_owned());
    let args = ["authority", "list", "--address", &address, "--cert", &paths[0], "--key", &paths[1], "--ca", &paths[2]];
    let answer = ca.operator().done(&args)?;
    ensure(answer.to_string().contains("prepared"), || answer.to_string())
}

#[tokio::test]
async fn without_configured_administrators_nobody_is_one_over_tls() -> Outcome {
    let dev = installation("1h", &TWO)?;
    let _ca = dev.start_ca().await?;
    let remote = over_tls(&dev, "client").await?;
    for (call, result) in every_call(&remote, None).await {
        let refused = result.as_ref().err().map(Status::code);
        ensure(refused == Some(Code::PermissionDenied), || format!("{call}: {result:?}"))?;
    }
    Ok(())
}
