//! The metadata of a request: unknown keys pass, known keys of the wrong type are told, garbage harms nobody.

use prost_types::value::Kind;
use prost_types::{ListValue, Struct};
use signet_tests::client::ask::{Ask, struct_of, text_struct};
use signet_tests::client::certify::Client;
use signet_tests::client::{csr, raw, tls};
use signet_tests::failure::{Outcome, ensure};
use signet_tests::harness::Dev;
use signet_tests::judge;
use signet_tests::stage::{CLIENT_ID, SERVER_ID};
use tonic::Code;

#[tokio::test]
async fn unknown_keys_pass_and_known_keys_must_be_text() -> Outcome {
    let dev = Dev::plain()?;
    let mut ca = dev.start_ca().await?;
    let client = Client::connect(&dev).await?;
    let plain = Ask::new(&csr::like_ztunnel(Some(CLIENT_ID))?.csr, &dev.token("client")?);
    let nested = Kind::StructValue(text_struct("deep", "value"));
    let accepted = [
        None,
        Some(Struct::default()),
        Some(text_struct("CertSigner", "")),
        Some(struct_of([("CertSigner", Kind::NullValue(0))])),
        Some(text_struct("ImpersonatedIdentity", CLIENT_ID)),
        Some(text_struct("ImpersonatedIdentity", "")),
        Some(struct_of([("WorkloadName", nested), ("Weight", Kind::NumberValue(f64::NAN))])),
        Some(text_struct("certsigner", "case matters")),
    ];
    for metadata in accepted {
        client.issued(&Ask { metadata, ..plain.clone() }).await?;
    }
    let list = Kind::ListValue(ListValue::default());
    let refused = [
        struct_of([("ImpersonatedIdentity", Kind::NumberValue(7.0))]),
        struct_of([("ImpersonatedIdentity", list)]),
        struct_of([("CertSigner", Kind::BoolValue(true))]),
        struct_of([("CertSigner", Kind::StructValue(Struct::default()))]),
    ];
    for metadata in refused {
        let key = metadata.fields.keys().next().cloned().unwrap_or_default();
        let told = client.refused(&Ask { metadata: Some(metadata), ..plain.clone() }, Code::InvalidArgument).await?;
        ensure(told.contains(&key), || format!("the answer does not name {key}: {told}"))?;
        ca.refused_for("request_malformed").await?;
    }
    assert_eq!(ca.refusals_add_up().await?.get("request_malformed"), Some(&4));
    Ok(())
}

/// istiod with one signer does the same; `ISTIO_META_CERT_SIGNER` of an istio-agent says it.
#[tokio::test]
async fn a_signer_that_is_named_is_ignored_and_counted() -> Outcome {
    let dev = Dev::plain()?;
    let ca = dev.start_ca().await?;
    let client = Client::connect(&dev).await?;
    let plain = Ask::new(&csr::like_ztunnel(Some(CLIENT_ID))?.csr, &dev.token("client")?);
    let named = async || -> Outcome<f64> { Ok(ca.metrics().await?.sum("signet_ca_cert_signer_ignored_total", &[])) };
    for (signer, counted) in [("", 0.0), ("clusterissuers.cert-manager.io/istio-system", 1.0), ("other", 2.0)] {
        let ask = Ask { metadata: Some(text_struct("CertSigner", signer)), ..plain.clone() };
        let reply = client.issued(&ask).await?;
        judge::workload(&reply, &ask.csr, CLIENT_ID)?;
        let found = named().await?;
        ensure((found - counted).abs() < 0.5, || format!("{found} are counted after {signer:?}, not {counted}"))?;
    }
    Ok(())
}

#[tokio::test]
async fn nobody_may_ask_for_another_identity() -> Outcome {
    let dev = Dev::plain()?;
    let mut ca = dev.start_ca().await?;
    let client = Client::connect(&dev).await?;
    let (csr, token) = (csr::like_ztunnel(None)?.csr, dev.token("client")?);
    let others = [
        SERVER_ID,
        "spiffe://evil/ns/default/sa/client",
        "spiffe:///ns/default/sa/client",
        "spiffe://cluster.local,evil/ns/default/sa/client",
        "spiffe://cluster.local/ns/default/sa/client/",
        "SPIFFE://cluster.local/ns/default/sa/client",
        "client",
    ];
    for other in others {
        let message = client.refused(&Ask::like_ztunnel(&csr, &token, other), Code::Unauthenticated).await?;
        assert_eq!(message, "request impersonation authentication failure", "{other}");
        ca.refused_for("impersonation_not_configured").await?;
    }
    assert_eq!(ca.refusals_add_up().await?.get("impersonation_not_configured"), Some(&7));
    Ok(())
}

/// `metadata` of a request with lists in lists, so many.
fn nested(times: usize) -> Vec<u8> {
    let list = (0..times).fold(Vec::new(), |inner, _| raw::field(0x32, &raw::field(0x0a, &inner)));
    raw::field(0x22, &raw::field(0x0a, &[raw::field(0x0a, b"key"), raw::field(0x12, &list)].concat()))
}

#[tokio::test]
async fn bytes_that_are_no_message_are_refused_as_such_and_harm_nobody() -> Outcome {
    const INVALID_ARGUMENT: i32 = Code::InvalidArgument as i32;
    const INTERNAL: i32 = Code::Internal as i32;
    const OUT_OF_RANGE: i32 = Code::OutOfRange as i32;
    let dev = Dev::plain()?;
    let ca = dev.start_ca().await?;
    let config = tls::config(&dev.text("root-cert.pem")?, &[&rustls::version::TLS13], &["h2"])?;
    let mut connection = raw::Raw::connect(dev.listen, config).await?;
    let authorization = format!("Bearer {}", dev.token("client")?);
    let text_key = |key: &[u8]| raw::field(0x22, &raw::field(0x0a, &raw::field(0x0a, key)));
    let messages = [
        ("no protobuf", vec![0xff; 100]),
        ("a CSR that is not UTF-8", raw::field(0x0a, &[0xff, 0xfe])),
        ("a metadata key that is not UTF-8", text_key(&[0xff])),
        (
            "a metadata value that is not UTF-8",
            raw::field(0x22, &raw::field(0x0a, &raw::field(0x12, &raw::field(0x1a, &[0xff])))),
        ),
        ("metadata nested a hundred times", nested(100)),
        // The classic way to exhaust a parser's stack.
        ("metadata nested five thousand times", nested(5_000)),
    ];
    for (what, message) in messages {
        // Whoever it is from: nothing else of such a message is looked at.
        for token in [authorization.as_str(), "Bearer nobody", ""] {
            let head = raw::head(&[("authorization", token)])?;
            let answer = connection.call(head, raw::framed(&message)).await?;
            let bounded = answer.trailers.get("grpc-message").is_some_and(|text| text.len() < 1_000);
            let is_right = answer.grpc_status() == Some(INVALID_ARGUMENT) && bounded;
            ensure(is_right && answer.trailers.contains_key("x-request-id"), || format!("{what}: {answer:?}"))?;
        }
        ca.refused_for("request_malformed").await?;
    }
    let counted = ca.metrics().await?.sum("signet_ca_certificates_total", &["reason=\"request_malformed\""]);
    ensure(counted > 17.5, || format!("{counted} are counted"))?;
    // What is wrong below the message is a matter of gRPC, and so are its codes.
    let frames = [
        (bytes::Bytes::from_static(&[0, 0, 0, 0, 200, 1, 2]), INTERNAL),
        (bytes::Bytes::from_static(&[1, 0, 0, 0, 1, 0]), INTERNAL),
        (bytes::Bytes::from_static(&[0, 0xff, 0xff, 0xff, 0xff, 0]), OUT_OF_RANGE),
        (bytes::Bytes::new(), INTERNAL),
    ];
    for (body, code) in frames {
        let answer = connection.call(raw::head(&[("authorization", &authorization)])?, body.clone()).await?;
        ensure(answer.grpc_status() == Some(code), || format!("{body:?} was answered {answer:?}"))?;
    }
    Client::connect(&dev).await?.certificate(&dev, "client").await.map(drop)
}

/// Tonic's own client cannot send such a header.
#[tokio::test]
async fn a_cluster_that_is_not_text_is_not_taken_for_the_primary_one() -> Outcome {
    let dev = Dev::plain()?;
    let ca = dev.start_ca().await?;
    let config = tls::config(&dev.text("root-cert.pem")?, &[&rustls::version::TLS13], &["h2"])?;
    let mut connection = raw::Raw::connect(dev.listen, config).await?;
    let authorization = format!("Bearer {}", dev.token("client")?);
    let mut head = raw::head(&[("authorization", &authorization)])?;
    head.headers_mut().insert("clusterid", http::HeaderValue::from_bytes(b"\xff").unwrap());
    let message = raw::field(0x0a, csr::like_ztunnel(None)?.csr.as_bytes());
    let answer = connection.call(head, raw::framed(&message)).await?;
    ensure(answer.grpc_status() == Some(Code::InvalidArgument as i32), || format!("{answer:?}"))?;
    ca.refused_for("request_malformed").await
}
