//! The metadata of a request: unknown keys pass, known keys of the wrong type are told, garbage harms nobody.

use prost_types::value::Kind;
use prost_types::{ListValue, Struct};
use signet_tests::client::ask::{Ask, struct_of, text_struct};
use signet_tests::client::certify::Client;
use signet_tests::client::{csr, raw, tls};
use signet_tests::failure::{Outcome, ensure};
use signet_tests::harness::Dev;
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
        ca.refused_for("impersonation_denied").await?;
    }
    assert_eq!(ca.refusals_add_up().await?.get("impersonation_denied"), Some(&7));
    Ok(())
}

#[tokio::test]
async fn bytes_that_are_no_message_harm_nobody() -> Outcome {
    let dev = Dev::plain()?;
    let _ca = dev.start_ca().await?;
    let config = tls::config(&dev.text("root-cert.pem")?, &[&rustls::version::TLS13], &["h2"])?;
    let mut connection = raw::Raw::connect(dev.listen, config).await?;
    let authorization = format!("Bearer {}", dev.token("client")?);
    let head = || raw::head(&[("authorization", &authorization)]);
    let bodies = [
        raw::framed(&[0xff; 100]),
        raw::framed(&raw::field(0x0a, &[0xff, 0xfe])),
        bytes::Bytes::from_static(&[0, 0, 0, 0, 200, 1, 2]),
        bytes::Bytes::from_static(&[1, 0, 0, 0, 1, 0]),
        bytes::Bytes::from_static(&[0, 0xff, 0xff, 0xff, 0xff, 0]),
        bytes::Bytes::new(),
    ];
    for body in bodies {
        let answer = connection.call(head()?, body.clone()).await?;
        let status = answer.grpc_status();
        ensure(status.is_some_and(|code| code != 0), || format!("{body:?} was answered {answer:?}"))?;
    }
    // A deeply nested Struct is the classic way to exhaust a parser's stack.
    let mut deep = Vec::new();
    for _ in 0..5_000 {
        deep = raw::field(0x2a, &raw::field(0x0a, &raw::field(0x12, &deep)));
    }
    let answer = connection.call(head()?, raw::framed(&raw::field(0x22, &raw::field(0x0a, &deep)))).await?;
    ensure(answer.grpc_status().is_some_and(|code| code != 0), || format!("{answer:?}"))?;
    Client::connect(&dev).await?.certificate(&dev, "client").await.map(drop)
}
