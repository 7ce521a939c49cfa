//! Certificates in the place of tokens, as istio-agent shows them with `PROV_CERT`: a new key for each request, a new connection
//! with the newest certificate, and no `authorization` header. Who renews so, for how long, and who does not.

use std::net::SocketAddr;
use std::time::Duration;

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};
use serde_json::{Value, json};
use signet_core::clock::{Clock as _, SystemClock};
use signet_core::time_math;
use signet_tests::client::ask::Ask;
use signet_tests::client::certify::Client;
use signet_tests::client::token::{ClusterKey, Token, now};
use signet_tests::client::{csr, keys};
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::plugged::{Mount, OwnCa, istio_names};
use signet_tests::harness::process::eventually;
use signet_tests::harness::rotation::keys as config;
use signet_tests::harness::{Ca, Dev};
use signet_tests::stage::{CLIENT_ID, SERVER_ID};
use signet_tests::{judge, tools};
use tonic::transport::Identity;
use tonic::{Code, Status};

use super::clock::at;

const MINUTE: Duration = Duration::from_secs(60);
const OPAQUE: &str = "request authenticate failure";

/// An installation whose cluster takes certificates with these demands.
fn installation(demands: Value) -> Outcome<Dev> {
    let dev = Dev::plain()?;
    demand(&dev, demands)?;
    Ok(dev)
}

fn demand(dev: &Dev, demands: Value) -> Outcome {
    dev.edit("signet-ca.yaml", |config| {
        config["clusters"][0]["client_certificates"] = demands;
        Ok(())
    })
}

/// What a machine has in the directory of `PROV_CERT`.
pub(crate) struct Held {
    id: String,
    chain: String,
    key: String,
}

impl Held {
    /// The first one, for a token of the client.
    async fn first(dev: &Dev, token: &str) -> Outcome<Self> {
        Self::first_of(CLIENT_ID, dev, token).await
    }

    /// The same of another identity.
    pub(crate) async fn first_of(id: &str, dev: &Dev, token: &str) -> Outcome<Self> {
        let made = csr::like_istio_agent(id)?;
        let reply = Client::connect(dev).await?.issued(&Ask::new(&made.csr, token)).await?;
        Self::of(id, &reply, made.key)
    }

    fn of(id: &str, reply: &[String], key: String) -> Outcome<Self> {
        let [chain @ .., _roots] = reply else { return Err(Failure::unexpected("an empty reply")) };
        Ok(Self { id: id.to_owned(), chain: chain.concat(), key })
    }

    fn serial(&self) -> Outcome<String> {
        Ok(keys::serial(&keys::facts(&self.chain)?))
    }

    /// A connection of whoever holds this.
    async fn connected(&self, dev: &Dev, address: SocketAddr) -> Outcome<Client> {
        let identity = Identity::from_pem(&self.chain, &self.key);
        let tls = Client::trust(&dev.text("root-cert.pem")?).identity(identity);
        let channel = Client::endpoint_with(address, tls)?.connect().await;
        Ok(Client::over(channel.map_err(Failure::while_doing("connect with a client certificate"))?))
    }

    /// The next one, for this one.
    pub(crate) async fn renewed(&self, dev: &Dev) -> Outcome<Result<Self, Status>> {
        renewed_as(&self.id, &self.connected(dev, dev.listen).await?).await
    }
}

/// Asks as istio-agent does that finds no token in its file.
fn without_token(id: &str) -> Outcome<(Ask, String)> {
    let made = csr::like_istio_agent(id)?;
    Ok((Ask { authorization: Vec::new(), validity: None, ..Ask::like_istio_agent(&made.csr, "") }, made.key))
}

async fn renewed(client: &Client) -> Outcome<Result<Held, Status>> {
    renewed_as(CLIENT_ID, client).await
}

async fn renewed_as(id: &str, client: &Client) -> Outcome<Result<Held, Status>> {
    let (ask, key) = without_token(id)?;
    match client.call(&ask).await {
        Err(status) => Ok(Err(status)),
        Ok(reply) => {
            judge::workload(&reply, &ask.csr, id)?;
            Held::of(id, &reply, key).map(Ok)
        }
    }
}

/// That this is refused, for this reason and without telling it.
async fn refused(ca: &Ca, answer: Result<Held, Status>, reason: &str) -> Outcome {
    let status = answer.err().ok_or_else(|| Failure::unexpected(format!("issued, not refused for {reason}")))?;
    let told = (status.code(), status.message());
    ensure(told == (Code::Unauthenticated, OPAQUE), || format!("{status:?}, not refused for {reason}"))?;
    ca.refused_for(reason).await
}

#[tokio::test]
async fn a_machine_without_a_token_renews_with_its_certificate_and_the_record_says_by_which() -> Outcome {
    let dev = installation(json!({}))?;
    let ca = dev.start_ca().await?;
    let token = dev.token("client")?;
    let first = Held::first(&dev, &token).await?;
    let second = first.renewed(&dev).await?.map_err(Failure::while_doing("renew"))?;
    let third = second.renewed(&dev).await?.map_err(Failure::while_doing("renew"))?;
    let on_record = |held: &Held| ca.newest(&["--serial", &held.serial()?]);
    let [by_token, by_first, by_second] = [on_record(&first)?, on_record(&second)?, on_record(&third)?];
    for (event, shown) in [(&by_first, &first), (&by_second, &second)] {
        assert_eq!(event["who"]["auth_method"], "client-certificate");
        assert_eq!(event["who"]["certificate"], shown.serial()?.as_str());
        assert_eq!(event["who"]["last_token"], by_token["at"], "the time of the token travels");
        for field in ["spiffe_id", "service_account_uid", "pod", "pod_uid", "node", "cluster", "token_id"] {
            assert_eq!(event["who"][field], by_token["who"][field], "{field}");
        }
    }
    // What was got with each is found by it, and what is no serial number is refused.
    for (shown, expected) in [(&first, vec![&by_first]), (&second, vec![&by_second]), (&third, Vec::new())] {
        let found = ca.audit(&["--shown-certificate", &shown.serial()?])?;
        assert_eq!(found.iter().collect::<Vec<_>>(), expected);
    }
    assert_eq!(ca.audit(&["--shown-certificate", &first.serial()?, "--outcome", "refused"])?, Vec::<Value>::new());
    let wrong = tools::output(&mut ca.command(&["audit", "list", "--shown-certificate", "nobody"], &[])?)?;
    assert_eq!(wrong.status.code(), Some(2), "{}", String::from_utf8_lossy(&wrong.stderr));
    let claims = &Token::read(&token)?.claims;
    assert_eq!(by_token["who"]["token_id"], claims["jti"]);
    ensure(by_token["who"]["pod_uid"].is_string(), || by_token.to_string())?;
    assert_eq!((&by_token["who"]["auth_method"], &by_token["who"]["last_token"]), (&json!("jwks"), &Value::Null));
    // They are one holder, as all certificates of a pod are.
    let holders = ca.admin()?.holders(false).await.map_err(Failure::while_doing("list holders"))?;
    assert_eq!(holders.iter().filter(|holder| holder.spiffe_id == CLIENT_ID).count(), 1);
    // What is asked for beyond one's own identity takes a token.
    let client = third.connected(&dev, dev.listen).await?;
    let (ask, _) = without_token(CLIENT_ID)?;
    let foreign = Ask { csr: csr::like_ztunnel(Some(SERVER_ID))?.csr, ..ask };
    client.refused(&foreign, Code::InvalidArgument).await?;
    let like_ztunnel = Ask { authorization: Vec::new(), ..Ask::like_ztunnel(&foreign.csr, "", SERVER_ID) };
    client.refused(&like_ztunnel, Code::Unauthenticated).await?;
    ca.refused_for("impersonator_by_certificate").await
}

#[tokio::test]
async fn a_token_that_is_shown_decides_whatever_certificate_is_beside_it() -> Outcome {
    let dev = installation(json!({}))?;
    let ca = dev.start_ca().await?;
    let token = dev.token("client")?;
    let held = Held::first(&dev, &token).await?;
    let client = held.connected(&dev, dev.listen).await?;
    let (bare, _) = without_token(CLIENT_ID)?;
    let mut expired = Token::read(&token)?;
    expired.claims["exp"] = json!(now() - 3600);
    let expired = ClusterKey::of(&dev)?.sign(&expired)?;
    for (value, reason) in [
        (format!("Bearer {expired}"), "token_expired"),
        ("Bearer x".to_owned(), "token_malformed"),
        (format!("bearer {expired}"), "token_missing"),
        ("Basic x".to_owned(), "token_missing"),
    ] {
        let ask = Ask { authorization: vec![value], ..bare.clone() };
        assert_eq!(client.refused(&ask, Code::Unauthenticated).await?, OPAQUE);
        ca.refused_for(reason).await?;
    }
    let with_token = Ask { authorization: vec![format!("Bearer {token}")], ..bare.clone() };
    let reply = client.issued(&with_token).await?;
    let event = ca.newest(&["--serial", &keys::serial(&keys::facts(&reply[0])?)])?;
    assert_eq!((&event["who"]["auth_method"], &event["who"]["certificate"]), (&json!("jwks"), &Value::Null));
    client.issued(&bare).await.map(drop)
}

/// The clock is two hours back when the token is shown, and an hour back when its certificate is renewed.
#[tokio::test]
async fn a_chain_of_certificates_ends_when_the_token_is_too_long_ago_whoever_has_renewed_in_between() -> Outcome {
    let dev = installation(json!({"last_token_within": "90m"}))?;
    dev.forget_authority()?;
    dev.make_authority_with(at(dev.ca_command(&["init"])?, "-3h")?)?;
    let started = async |offset: &str| {
        let mut ca = Ca::start_command(&dev, at(dev.ca_command(&["serve"])?, offset)?)?;
        ca.ready().await?;
        Ok::<_, Failure>(ca)
    };
    let mut token = Token::read(&dev.token("client")?)?;
    for claim in ["iat", "nbf"] {
        token.claims[claim] = (now() - 4 * 3600).into();
    }
    let token = ClusterKey::of(&dev)?.sign(&token)?;
    let ca = started("-2h").await?;
    let first = Held::first(&dev, &token).await?;
    drop(ca);
    let ca = started("-1h").await?;
    let second = first.renewed(&dev).await?.map_err(Failure::while_doing("renew"))?;
    drop(ca);
    let ca = dev.start_ca().await?;
    for held in [&first, &second] {
        refused(&ca, held.renewed(&dev).await?, "token_too_long_ago").await?;
    }
    // A token begins anew.
    let again = Held::first(&dev, &token).await?;
    again.renewed(&dev).await?.map_err(Failure::while_doing("renew"))?;
    drop(ca);
    demand(&dev, json!({"last_token_within": "3h"}))?;
    let _ca = dev.start_ca().await?;
    second.renewed(&dev).await?.map_err(Failure::while_doing("renew within three hours")).map(drop)
}

#[tokio::test]
async fn a_revoked_certificate_gets_nothing_from_any_replica_from_the_moment_of_its_revocation() -> Outcome {
    let dev = installation(json!({}))?;
    let replica = dev.replica()?;
    let first = dev.start_ca().await?;
    let _second = replica.start(&dev).await?;
    let (revoked, other) =
        (Held::first(&dev, &dev.token("client")?).await?, Held::first(&dev, &dev.token("client")?).await?);
    // Connections from before, so that no handshake stands in the way.
    let at_first = revoked.connected(&dev, dev.listen).await?;
    let at_second = revoked.connected(&dev, replica.listen).await?;
    renewed(&at_second).await?.map_err(Failure::while_doing("renew at the second replica"))?;
    first.operator().revoke_certificate(&revoked.serial()?, "key_compromise")?;
    for client in [&at_second, &at_first] {
        refused(&first, renewed(client).await?, "certificate_revoked").await?;
    }
    let others = other.connected(&dev, replica.listen).await?;
    renewed(&others).await?.map_err(Failure::while_doing("renew what is not revoked")).map(drop)
}

#[tokio::test]
async fn what_chains_to_a_compromised_root_gets_nothing_by_that() -> Outcome {
    let dev = installation(json!({}))?;
    dev.set_ca(config::BUNDLE_FILE, dev.path("root-cert.pem").to_string_lossy())?;
    let ca = dev.start_ca().await?;
    let held = Held::first(&dev, &dev.token("client")?).await?;
    let before = held.connected(&dev, dev.listen).await?;
    renewed(&before).await?.map_err(Failure::while_doing("renew"))?;
    let admin = ca.admin()?;
    let rotation = admin.rotation().await.map_err(Failure::while_doing("ask where rotation stands"))?;
    ca.operator().taint(&signet_tests::client::admin::active_root(&rotation), "its key was copied")?;
    refused(&ca, renewed(&before).await?, "certificate_authority_tainted").await?;
    // It is let in still, to hear of the next bundle.
    refused(&ca, held.renewed(&dev).await?, "certificate_authority_tainted").await?;
    // A token helps as soon as another root signs.
    let issued = async || Held::first(&dev, &dev.token("client").ok()?).await.ok();
    let within = 2 * MINUTE;
    let new = async || {
        let held = issued().await?;
        held.renewed(&dev).await.ok()?.ok()
    };
    eventually("a renewal under the next root", within, new).await.map(drop)
}

/// A leaf that somebody makes with the key of an issuing CA.
fn forged(signer: &OwnCa, serial: &str, key: KeyPair) -> Outcome<Held> {
    let issuer = KeyPair::from_pem(&signer.key).and_then(|key| Issuer::from_ca_cert_pem(&signer.certificate, key));
    let issuer = issuer.map_err(Failure::while_doing("steal a key"))?;
    let mut params = CertificateParams::default();
    let bytes: Vec<u8> = (0..16).filter_map(|at| u8::from_str_radix(&serial[2 * at..2 * at + 2], 16).ok()).collect();
    params.serial_number = Some(bytes.into());
    params.subject_alt_names = vec![SanType::URI(CLIENT_ID.try_into().unwrap())];
    params.is_ca = IsCa::ExplicitNoCa;
    params.not_before = time_math::before(SystemClock.now(), MINUTE);
    params.not_after = time_math::after(SystemClock.now(), 60 * MINUTE);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    let leaf = params.signed_by(&key, &issuer).map_err(Failure::while_doing("forge a certificate"))?;
    Ok(Held {
        id: CLIENT_ID.to_owned(),
        chain: format!("{}{}", leaf.pem(), signer.certificate),
        key: key.serialize_pem(),
    })
}

#[tokio::test]
async fn a_certificate_that_a_stolen_key_has_signed_gets_nothing_since_it_is_not_on_record() -> Outcome {
    let root = OwnCa::root("own root")?;
    let signer = root.certify("own signer")?;
    let dev = installation(json!({}))?;
    dev.forget_authority()?;
    let mount = Mount::new(&dev.path("own-ca"), &istio_names(&signer, &root))?;
    dev.set_ca(config::BACKEND, config::FILES)?;
    dev.set_ca(config::FILES_DIRECTORY, mount.directory().to_string_lossy())?;
    dev.set_ca(config::BUNDLE_FILE, dev.path("root-cert.pem").to_string_lossy())?;
    let ca = dev.start_ca().await?;
    let good = Held::first(&dev, &dev.token("client")?).await?;
    let own_key = || KeyPair::from_pem(&good.key).map_err(Failure::while_doing("read a key"));
    let new_key = || KeyPair::generate().map_err(Failure::while_doing("make a key"));
    let unknown = "4a".repeat(16);
    for (what, held) in [
        ("a serial of its own", forged(&signer, &unknown, new_key()?)?),
        ("the serial of a good one", forged(&signer, &good.serial()?, new_key()?)?),
        ("serial and key of a good one, and another life", forged(&signer, &good.serial()?, own_key()?)?),
    ] {
        let answer = held.renewed(&dev).await?;
        let failed = |failure| Failure::unexpected(format!("{what}: {failure}"));
        refused(&ca, answer, "certificate_not_on_record").await.map_err(failed)?;
    }
    let count = ca.not_issued("certificate_not_on_record").await?;
    ensure((count - 3.0).abs() < 0.1, || format!("{count} counted"))?;
    let told = ca.audit(&["--outcome", "refused"])?;
    let named = told.iter().any(|event| event["who"]["certificate"] == unknown.as_str());
    ensure(named, || format!("the serial is not on record: {told:#?}"))?;
    let found = ca.audit(&["--shown-certificate", &unknown])?;
    ensure(found.len() == 1 && found[0]["reason"] == "certificate_not_on_record", || format!("{found:#?}"))?;
    // Somebody has the key of a CA: an alarm.
    let log = ca.process.log();
    let alarm = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap_or_default();
        line["level"] == "WARN"
            && line["reason"] == "certificate_not_on_record"
            && line["certificate"] == unknown.as_str()
    };
    ensure(log.lines().any(alarm), || format!("no alarm: {log}"))?;
    ensure(log.matches("CA files read").count() == 1, || format!("told twice, and read once: {log}"))?;
    good.renewed(&dev).await?.map_err(Failure::while_doing("renew the good one")).map(drop)
}

#[tokio::test]
async fn without_that_section_no_certificate_stands_in_for_a_token_and_a_wrong_section_is_told() -> Outcome {
    let dev = Dev::plain()?;
    let ca = dev.start_ca().await?;
    let held = Held::first(&dev, &dev.token("client")?).await?;
    refused(&ca, held.renewed(&dev).await?, "certificate_not_accepted").await?;
    drop(ca);
    for (wrong, words) in [
        (json!({"live_objects": true}), "clusters[0].api_server"),
        (json!({"last_token_within": "1s"}), "clusters[0].client_certificates.last_token_within"),
        (json!({"accepted": true}), "clusters[0].client_certificates.accepted"),
    ] {
        demand(&dev, wrong)?;
        let output = tools::output(&mut dev.ca_command(&["check"])?)?;
        let text = String::from_utf8_lossy(&output.stderr);
        ensure(output.status.code() == Some(2) && text.contains(words), || format!("{}: {text}", output.status))?;
    }
    Ok(())
}
