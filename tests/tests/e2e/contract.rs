//! The contract with istio-agent and ztunnel, byte by byte, and as both of them read it.

use signet_tests::client::ask::Ask;
use signet_tests::client::certify::Client;
use signet_tests::client::raw::{Answer, Raw, field, framed, head};
use signet_tests::client::{csr, rules, tls};
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::{Dev, DevOptions};
use signet_tests::judge;
use signet_tests::stage::CLIENT_ID;

use super::facts;

async fn connect(dev: &Dev) -> Outcome<Raw> {
    let config = tls::config(&dev.text("root-cert.pem")?, &[&rustls::version::TLS13], &["h2"])?;
    Raw::connect(dev.listen, config).await
}

/// The message of istio-agent, from the field numbers of the contract: 1 csr, 3 validity (86400), 4 a Struct with the
/// empty text `CertSigner`.
fn istio_agent_message(csr: &str) -> Vec<u8> {
    let entry = [b"\x0a\x0aCertSigner".as_slice(), b"\x12\x02\x1a\x00"].concat();
    [field(0x0a, csr.as_bytes()), vec![0x18, 0x80, 0xa3, 0x05], field(0x22, &field(0x0a, &entry))].concat()
}

/// The message of ztunnel in shared mode: the same with `ImpersonatedIdentity`.
fn ztunnel_message(csr: &str, identity: &str) -> Vec<u8> {
    let value = field(0x12, &field(0x1a, identity.as_bytes()));
    let entry = [b"\x0a\x14ImpersonatedIdentity".as_slice(), &value].concat();
    [field(0x0a, csr.as_bytes()), vec![0x18, 0x80, 0xa3, 0x05], field(0x22, &field(0x0a, &entry))].concat()
}

fn check_shape(answer: &Answer) -> Outcome<Vec<String>> {
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.headers.get("content-type").map(http::HeaderValue::as_bytes),
        Some(b"application/grpc".as_slice())
    );
    assert_eq!(answer.grpc_status(), Some(0), "{answer:?}");
    let elements = answer.certificates()?;
    ensure(elements.len() >= 2, || format!("{} elements", elements.len()))?;
    for element in &elements[..elements.len() - 1] {
        assert_eq!(rules::certificates_in(element), 1, "one certificate per element: {element}");
    }
    for element in &elements {
        let lines =
            element.starts_with("-----BEGIN CERTIFICATE-----\n") && element.ends_with("-----END CERTIFICATE-----\n");
        ensure(lines && !element.contains("\n\n") && !element.contains('\r'), || {
            format!("not plain PEM: {element:?}")
        })?;
    }
    let root = elements.last().unwrap();
    ensure(!elements[..elements.len() - 1].contains(root), || "the root is repeated in the chain".to_owned())?;
    Ok(elements)
}

#[tokio::test]
async fn a_golden_request_of_istio_agent_gets_a_reply_it_can_read() -> Outcome {
    let dev = Dev::plain()?;
    let _ca = dev.start_ca().await?;
    let made = csr::like_istio_agent(CLIENT_ID)?;
    let authorization = format!("Bearer {}", dev.token("client")?);
    let headers = [
        ("authorization", authorization.as_str()),
        ("clusterid", "Kubernetes"),
        ("user-agent", "grpc-go/1.76.0"),
        ("grpc-accept-encoding", "gzip"),
    ];
    let answer = connect(&dev).await?.call(head(&headers)?, framed(&istio_agent_message(&made.csr))).await?;
    let reply = check_shape(&answer)?;
    let view = rules::istio_agent(&reply).unwrap();
    assert_eq!(view.root, dev.text("root-cert.pem")?, "the last element is the whole root bundle");
    assert_eq!(rules::certificates_in(&view.certificate_chain), reply.len());
    assert_eq!(view.expires_at, facts::of(&reply[0])?.not_after.unix_timestamp());
    judge::workload(&reply, &made.csr, CLIENT_ID)
}

#[tokio::test]
async fn a_golden_request_of_ztunnel_gets_a_reply_it_can_read() -> Outcome {
    let dev = Dev::plain()?;
    let _ca = dev.start_ca().await?;
    let made = csr::like_ztunnel(Some(CLIENT_ID))?;
    let authorization = format!("Bearer {}", dev.token("client")?);
    let headers = [("authorization", authorization.as_str()), ("clusterid", "Kubernetes")];
    let answer = connect(&dev).await?.call(head(&headers)?, framed(&ztunnel_message(&made.csr, CLIENT_ID))).await?;
    let reply = check_shape(&answer)?;
    let view = rules::ztunnel(&reply, CLIENT_ID).unwrap();
    assert_eq!((view.intermediates.len(), view.roots.len()), (reply.len() - 2, 1));
    assert_eq!(facts::of(&reply[0])?.uris, [CLIENT_ID]);
    judge::workload(&reply, &made.csr, CLIENT_ID)
}

#[tokio::test]
async fn messages_written_by_hand_and_by_the_generated_code_are_the_same_bytes() -> Outcome {
    use prost::Message as _;
    let generated = |ask: &Ask| ask.request().map(|request| request.into_inner().encode_to_vec());
    let csr = csr::like_ztunnel(None)?.csr;
    assert_eq!(generated(&Ask::like_istio_agent(&csr, "t"))?, istio_agent_message(&csr));
    assert_eq!(generated(&Ask::like_ztunnel(&csr, "t", CLIENT_ID))?, ztunnel_message(&csr, CLIENT_ID));
    Ok(())
}

#[tokio::test]
async fn every_type_of_authority_key_gives_certificates_that_openssl_accepts() -> Outcome {
    for key_type in ["ec-p256", "ec-p384", "rsa-2048"] {
        let dev = Dev::plain()?;
        dev.forget_authority()?;
        dev.set_ca("authority.key_type", key_type)?;
        let _ca = dev.start_ca().await?;
        let roots = signet_tests::tools::run(&mut dev.ca_command(&["bundle", "show", "--output", "pem"])?)?;
        std::fs::write(dev.path("root-cert.pem"), roots).unwrap();
        let client = Client::connect(&dev).await?;
        for made in [csr::like_ztunnel(Some(CLIENT_ID))?, csr::like_istio_agent(CLIENT_ID)?] {
            let reply = client.issued(&Ask::like_istio_agent(&made.csr, &dev.token("client")?)).await?;
            judge::workload(&reply, &made.csr, CLIENT_ID)?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn another_trust_domain_is_in_every_certificate() -> Outcome {
    let options = DevOptions {
        trust_domain: Some("mesh.example.org".into()),
        workloads: vec!["web=shop/web".into()],
        ..DevOptions::default()
    };
    let dev = Dev::init(&options)?;
    let _ca = dev.start_ca().await?;
    let made = csr::like_ztunnel(None)?;
    let reply = Client::connect(&dev).await?.issued(&Ask::new(&made.csr, &dev.token("web")?)).await?;
    judge::workload(&reply, &made.csr, "spiffe://mesh.example.org/ns/shop/sa/web")
}

/// An istio-agent whose CA address contains `localhost` demands the name of istiod instead.
#[tokio::test]
async fn a_ca_of_dev_init_has_the_name_that_an_istio_agent_demands_of_localhost() -> Outcome {
    let dev = Dev::plain()?;
    let _ca = dev.start_ca().await?;
    let config = tls::config(&dev.text("root-cert.pem")?, &[&rustls::version::TLS13], &["h2"])?;
    for (name, has) in [("istiod.istio-system.svc", true), ("localhost", true), ("istiod.other.svc", false)] {
        let stream = tokio::net::TcpStream::connect(dev.listen).await.map_err(Failure::io("connect"))?;
        let result = tls::demanding(name, stream, config.clone()).await.map(drop);
        ensure(result.is_ok() == has, || format!("{name}: {result:?}"))?;
    }
    Ok(())
}
