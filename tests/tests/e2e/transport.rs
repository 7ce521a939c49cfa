//! The port: TLS versions, ALPN, reflection, health, pings, and a serving certificate that changes under way.

use std::time::Duration;

use rustls::version::{TLS12, TLS13};
use signet_tests::client::ask::Ask;
use signet_tests::client::certify::Client;
use signet_tests::client::raw::{Raw, framed, head};
use signet_tests::client::{csr, tls};
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::Dev;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

#[tokio::test]
async fn tls_1_2_and_1_3_are_spoken_with_alpn_h2_only() -> Outcome {
    let dev = Dev::plain()?;
    let _ca = dev.start_ca().await?;
    let roots = dev.text("root-cert.pem")?;
    for version in [&TLS12, &TLS13] {
        let stream = tls::connect(dev.listen, tls::config(&roots, &[version], &["h2", "http/1.1"])?).await?;
        let (_, session) = stream.get_ref();
        assert_eq!(session.alpn_protocol(), Some(b"h2".as_slice()));
        assert_eq!(session.protocol_version(), Some(version.version));
        let refused = tls::connect(dev.listen, tls::config(&roots, &[version], &["http/1.1"])?).await;
        ensure(refused.is_err(), || "a client that does not speak HTTP/2 was let in".to_owned())?;
    }
    let mut connection = Raw::connect(dev.listen, tls::config(&roots, &[&TLS12], &["h2"])?).await?;
    let answer = connection.call(head(&[])?, framed(&[])).await?;
    ensure(answer.grpc_status() == Some(16), || format!("{answer:?}"))
}

#[tokio::test]
async fn plain_text_and_garbage_on_the_tls_port_harm_nobody() -> Outcome {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let dev = Dev::plain()?;
    let _ca = dev.start_ca().await?;
    for bytes in [
        b"GET / HTTP/1.1\r\n\r\n".as_slice(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        &[0x16, 3, 1, 0xff, 0xff],
        &[0; 4096],
    ] {
        let mut stream = tokio::net::TcpStream::connect(dev.listen).await.map_err(Failure::io("connect"))?;
        stream.write_all(bytes).await.map_err(Failure::io("write"))?;
        stream.shutdown().await.map_err(Failure::io("shut down"))?;
        let mut answer = Vec::new();
        // Closed or reset, after the deadline of a handshake at the latest.
        let _reset = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut answer))
            .await
            .map_err(|_| Failure::unexpected("the connection is left hanging"))?;
    }
    Client::connect(&dev).await?.certificate(&dev, "client").await.map(drop)
}

#[tokio::test]
async fn health_and_reflection_are_served() -> Outcome {
    let dev = Dev::plain()?;
    let _ca = dev.start_ca().await?;
    let channel = Client::connect(&dev).await?.channel;
    for service in ["", "istio.v1.auth.IstioCertificateService"] {
        let request = HealthCheckRequest { service: service.to_owned() };
        let answer = HealthClient::new(channel.clone()).check(request).await;
        let status = answer.map_err(Failure::while_doing("ask for health"))?.into_inner().status;
        ensure(status == 1, || format!("health of {service:?} is {status}"))?;
    }
    let ask = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let answer = ServerReflectionClient::new(channel).server_reflection_info(tokio_stream::once(ask)).await;
    let mut stream = answer.map_err(Failure::while_doing("reflect"))?.into_inner();
    let message = stream.message().await.map_err(Failure::while_doing("reflect"))?;
    let Some(MessageResponse::ListServicesResponse(list)) = message.and_then(|message| message.message_response) else {
        return Err(Failure::unexpected("reflection lists no services"));
    };
    let names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    for wanted in ["istio.v1.auth.IstioCertificateService", "grpc.health.v1.Health"] {
        ensure(names.iter().any(|name| name == wanted), || format!("{wanted} is not among {names:?}"))?;
    }
    Ok(())
}

/// Clients ping every 30 s on an idle connection. Far more frequent pings must not end it either.
#[tokio::test]
async fn pings_on_an_idle_connection_are_answered_and_tolerated() -> Outcome {
    let dev = Dev::plain()?;
    let _ca = dev.start_ca().await?;
    let config = tls::config(&dev.text("root-cert.pem")?, &[&TLS13], &["h2"])?;
    let mut connection = Raw::connect(dev.listen, config).await?;
    for _ in 0..100 {
        connection.ping().await?;
    }
    let ask = Ask::new(&csr::like_ztunnel(None)?.csr, "").request()?.into_inner();
    let authorization = format!("Bearer {}", dev.token("client")?);
    let body = framed(&prost::Message::encode_to_vec(&ask));
    let answer = connection.call(head(&[("authorization", &authorization)])?, body).await?;
    assert_eq!(answer.grpc_status(), Some(0), "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn the_serving_certificate_is_renewed_without_dropping_connections() -> Outcome {
    let dev = Dev::plain()?;
    super::facts::without_limits(&dev)?;
    // Renewed at half of it; what is left is for a busy machine.
    dev.set_ca("serving.ttl", "16s")?;
    let mut ca = dev.start_ca().await?;
    let config = tls::config(&dev.text("root-cert.pem")?, &[&TLS13], &["h2"])?;
    let mut old = Raw::connect(dev.listen, config.clone()).await?;
    let first = old.server_certificate().to_vec();
    let ask = Ask::new(&csr::like_ztunnel(None)?.csr, "").request()?.into_inner();
    let body = framed(&prost::Message::encode_to_vec(&ask));
    let authorization = format!("Bearer {}", dev.token("client")?);
    let mut seen = std::collections::BTreeSet::from([first]);
    ca.process
        .until("three serving certificates", Duration::from_secs(120), async || {
            let answer = old.call(head(&[("authorization", &authorization)]).unwrap(), body.clone()).await.unwrap();
            assert_eq!(answer.grpc_status(), Some(0), "{answer:?}");
            // Every new handshake verifies the chain, the name and the time.
            let new = Raw::connect(dev.listen, config.clone()).await.unwrap();
            seen.insert(new.server_certificate().to_vec());
            (seen.len() >= 3).then_some(())
        })
        .await?;
    let recorded = ca.audit(&[])?;
    let serving = recorded.iter().filter(|event| event["kind"] == "serving_certificate").count();
    ensure(serving >= seen.len(), || format!("{serving} serving certificates on record, {} were seen", seen.len()))
}

/// A client that finishes TLS and then says nothing would otherwise hold one of `limits.connections` for ever.
#[tokio::test]
async fn a_connection_that_stays_silent_loses_its_place() -> Outcome {
    let dev = Dev::plain()?;
    dev.set_ca("limits.connections", 1)?;
    let _ca = dev.start_ca().await?;
    let config = tls::config(&dev.text("root-cert.pem")?, &[&TLS13], &["h2"])?;
    let mut silent = tls::connect(dev.listen, config.clone()).await?;
    let ended = async {
        let mut bytes = [0; 1024];
        // The server's own preface may arrive; what counts is the end.
        while matches!(tokio::io::AsyncReadExt::read(&mut silent, &mut bytes).await, Ok(read) if read > 0) {}
    };
    tokio::time::timeout(Duration::from_secs(60), ended).await.expect("the silent connection is still open");
    // Its place is free again.
    let mut next = Raw::connect(dev.listen, config).await?;
    next.ping().await
}

/// Health and reflection take a name; nobody may make them hold more.
#[tokio::test]
async fn the_small_services_refuse_large_messages() -> Outcome {
    let dev = Dev::plain()?;
    let _ca = dev.start_ca().await?;
    let client = Client::connect(&dev).await?;
    let request = HealthCheckRequest { service: "x".repeat(1 << 20) };
    let refused = HealthClient::new(client.channel.clone()).check(request).await.expect_err("a name of one mebibyte");
    ensure(refused.code() == tonic::Code::OutOfRange, || refused.to_string())
}
