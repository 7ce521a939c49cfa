//! Every kind of bad token: one opaque answer on the wire, its own reason on record. And which headers count.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde_json::json;
use signet_tests::client::ask::Ask;
use signet_tests::client::certify::Client;
use signet_tests::client::csr;
use signet_tests::client::token::{ClusterKey, Token, now};
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::{Ca, Dev};
use signet_tests::tools;
use tonic::Code;

const OPAQUE: &str = "request authenticate failure";

/// A token that must not pass, and the reason that must be on record.
struct Bad {
    name: &'static str,
    authorization: Vec<String>,
    reason: &'static str,
}

fn bearer(token: &str) -> Vec<String> {
    vec![format!("Bearer {token}")]
}

fn bent(token: &Token, key: &ClusterKey, pointer: &str, value: serde_json::Value) -> Outcome<Vec<String>> {
    let mut token = token.clone();
    let (parent, name) = pointer.rsplit_once('/').ok_or_else(|| Failure::unexpected("no pointer"))?;
    let slot = token.claims.pointer_mut(parent).and_then(|value| value.as_object_mut());
    slot.ok_or_else(|| Failure::unexpected(format!("no {pointer}")))?.insert(name.to_owned(), value);
    Ok(bearer(&key.sign(&token)?))
}

fn with_header(token: &Token, name: &str, value: serde_json::Value) -> Token {
    let mut token = token.clone();
    token.header[name] = value;
    token
}

fn bad_tokens(dev: &Dev) -> Outcome<Vec<Bad>> {
    let good = dev.token("client")?;
    let token = Token::read(&good)?;
    let key = ClusterKey::of(dev)?;
    let foreign_pem = tools::run(std::process::Command::new(tools::openssl()?).args([
        "genpkey",
        "-quiet",
        "-algorithm",
        "RSA",
        "-pkeyopt",
        "rsa_keygen_bits:2048",
    ]))?;
    let foreign = ClusterKey::parse(&foreign_pem)?;
    let (input, signature) = good.rsplit_once('.').ok_or_else(|| Failure::unexpected("no JWT"))?;
    let mut claims_swapped: Vec<&str> = good.split('.').collect();
    let other = Token::read(&good)?.of("kube-system", "admin").signing_input();
    claims_swapped[1] = other.split('.').nth(1).unwrap();
    let none = format!("{}.", with_header(&token, "alg", json!("none")).signing_input());
    let hmac_token = with_header(&token, "alg", json!("HS256")).signing_input();
    let hmac_key = hmac::Key::new(hmac::HMAC_SHA256, key.public());
    let confused = format!("{hmac_token}.{}", URL_SAFE_NO_PAD.encode(hmac::sign(&hmac_key, hmac_token.as_bytes())));
    let not_json = URL_SAFE_NO_PAD.encode("{\"sub\":");
    let header = good.split('.').next().unwrap();
    let hour = 3600;
    let case = |name, authorization, reason| Bad { name, authorization, reason };
    Ok(vec![
        case("no authorization header", vec![], "token_missing"),
        case("nothing after Bearer", vec!["Bearer ".into()], "token_missing"),
        case("prefix in lower case", vec![format!("bearer {good}")], "token_missing"),
        case("prefix in upper case", vec![format!("BEARER {good}")], "token_missing"),
        case("another scheme", vec![format!("Basic {good}")], "token_missing"),
        case("expired", bent(&token, &key, "/exp", json!(now() - hour))?, "token_expired"),
        case("issued years ago", bent(&token, &key, "/iat", json!(1_600_000_000))?, "token_too_old"),
        case("of an unknown age", bent(&token, &key, "/iat", json!(null))?, "claims_invalid"),
        case("legacy", bent(&token, &key, "/iss", json!("kubernetes/serviceaccount"))?, "token_legacy"),
        case("not yet valid", bent(&token, &key, "/nbf", json!(now() + hour))?, "token_not_yet_valid"),
        case("for somebody else", bent(&token, &key, "/aud", json!(["vault"]))?, "audience_mismatch"),
        case("for nobody", bent(&token, &key, "/aud", json!([]))?, "audience_mismatch"),
        case("of another issuer", bent(&token, &key, "/iss", json!("https://evil.example"))?, "issuer_mismatch"),
        case("signed by another key", bearer(&foreign.sign(&token)?), "signature_invalid"),
        case("signature missing", bearer(&format!("{input}.")), "signature_invalid"),
        case("claims exchanged", bearer(&claims_swapped.join(".")), "signature_invalid"),
        case("alg none", bearer(&none), "algorithm_refused"),
        case("alg none, signature kept", bearer(&format!("{none}{signature}")), "algorithm_refused"),
        case("public key as HMAC secret", bearer(&confused), "algorithm_refused"),
        case("unknown key id", bearer(&key.sign(&with_header(&token, "kid", json!("nobody")))?), "key_unknown"),
        case("not a JWT", bearer("abc"), "token_malformed"),
        case("claims exchanged for garbage", bearer(&format!("{header}.{not_json}.{signature}")), "signature_invalid"),
        case("signed claims are not JSON", bearer(&key.sign_text(&format!("{header}.{not_json}"))?), "token_malformed"),
        case(
            "sub without a name",
            bent(&token, &key, "/sub", json!("system:serviceaccount:default"))?,
            "claims_invalid",
        ),
        case("sub of a user", bent(&token, &key, "/sub", json!("alice"))?, "claims_invalid"),
        case(
            "sub against its claims",
            bent(&token, &key, "/sub", json!("system:serviceaccount:kube-system:client"))?,
            "claims_invalid",
        ),
        case("kubernetes.io is text", bent(&token, &key, "/kubernetes.io", json!("x"))?, "claims_invalid"),
        case("upper-case namespace", bent(&token.of("Default", "client"), &key, "/jti", json!("x"))?, "claims_invalid"),
        case(
            "names with a path",
            bent(&token.of("default", "a/../../ns/b"), &key, "/jti", json!("x"))?,
            "claims_invalid",
        ),
        case("64 KiB of claims", bent(&token, &key, "/jti", json!("x".repeat(64 << 10)))?, "token_too_long"),
        case("64 KiB of dots", bearer(&".".repeat(64 << 10)), "token_too_long"),
    ])
}

#[tokio::test]
async fn each_bad_token_gets_the_same_answer_and_its_own_reason_on_record() -> Outcome {
    let dev = Dev::plain()?;
    let mut ca = dev.start_ca().await?;
    let client = Client::connect(&dev).await?;
    let csr = csr::like_ztunnel(None)?.csr;
    let mut wrong = Vec::new();
    for bad in bad_tokens(&dev)? {
        let before = ca.not_issued(bad.reason).await?;
        let ask = Ask { authorization: bad.authorization, ..Ask::new(&csr, "") };
        let answer = match client.call(&ask).await {
            Ok(_) => "a certificate".to_owned(),
            Err(status) => format!("{:?}: {}", status.code(), status.message()),
        };
        if answer != format!("{:?}: {OPAQUE}", Code::Unauthenticated) {
            wrong.push(format!("{}: answered {answer}", bad.name));
        }
        // Only the first for a reason has a record at once.
        if ca.not_issued(bad.reason).await? < before + 0.5 {
            wrong.push(format!("{}: not refused for {}", bad.name, bad.reason));
        }
        if let Err(failure) = ca.refused_for(bad.reason).await {
            wrong.push(format!("{}: {failure}", bad.name));
        }
    }
    ensure(wrong.is_empty(), || wrong.join("\n"))?;
    let issued = ca.audit(&["--outcome", "issued"])?;
    ensure(issued.iter().all(|event| event["kind"] != "certificate"), || format!("issued: {issued:?}"))?;
    client.certificate(&dev, "client").await?;
    ca.refusals_add_up().await.map(drop)
}

#[tokio::test]
async fn tokens_made_by_dev_token_pass_or_fail_as_they_say() -> Outcome {
    let dev = Dev::plain()?;
    let ca = dev.start_ca().await?;
    let client = Client::connect(&dev).await?;
    let csr = csr::like_ztunnel(None)?.csr;
    let cases: [(&[&str], Option<&str>); 5] = [
        (&[], None),
        (&["--no-pod"], None),
        (&["--expired"], Some("token_expired")),
        (&["--audience", "vault"], Some("audience_mismatch")),
        (&["--issuer", "https://other.example"], Some("issuer_mismatch")),
    ];
    for (extra, reason) in cases {
        let mut command = std::process::Command::new(tools::own("signet-ca")?);
        command.args(["dev", "token", "--dir"]).arg(dev.directory());
        command.args(["--namespace", "shop", "--service-account", "cart"]).args(extra);
        let token = tools::run(&mut command)?.trim().to_owned();
        let ask = Ask::new(&csr, &token);
        match reason {
            None => {
                let reply = client.issued(&ask).await?;
                assert_eq!(super::facts::of(&reply[0])?.uris, ["spiffe://cluster.local/ns/shop/sa/cart"]);
            }
            Some(reason) => {
                assert_eq!(client.refused(&ask, Code::Unauthenticated).await?, OPAQUE);
                ca.refused_for(reason).await?;
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn the_bearer_token_is_found_among_several_authorization_values() -> Outcome {
    let dev = Dev::plain()?;
    let _ca = dev.start_ca().await?;
    let client = Client::connect(&dev).await?;
    let (csr, token) = (csr::like_ztunnel(None)?.csr, dev.token("client")?);
    let authorization = vec!["Basic Zm9v".to_owned(), "bearer x".to_owned(), format!("Bearer {token}")];
    client.issued(&Ask { authorization, ..Ask::new(&csr, "") }).await.map(drop)
}

async fn cluster(ca: &Ca, client: &Client, ask: &Ask, cluster: &[&str]) -> Outcome<String> {
    let ask = Ask { cluster: cluster.iter().map(|id| (*id).to_owned()).collect(), ..ask.clone() };
    Ok(match client.call(&ask).await {
        Ok(_) => {
            let event = ca.newest(&["--outcome", "issued"])?;
            format!("issued for {}", event["who"]["cluster"].as_str().unwrap_or_default())
        }
        Err(status) => format!("{:?}: {}", status.code(), status.message()),
    })
}

#[tokio::test]
async fn a_cluster_is_named_once_or_not_at_all() -> Outcome {
    let dev = Dev::plain()?;
    dev.edit("signet-ca.yaml", |config| {
        config["clusters"][0]["aliases"] = json!(["east"]);
        Ok(())
    })?;
    let ca = dev.start_ca().await?;
    let client = Client::connect(&dev).await?;
    let ask = Ask::new(&csr::like_ztunnel(None)?.csr, &dev.token("client")?);
    let refused = format!("{:?}: {OPAQUE}", Code::Unauthenticated);
    let repeated = "the header clusterid was sent more than once; does a gateway or a CA_HEADER_ variable add one?";
    let repeated = format!("{:?}: {repeated}", Code::InvalidArgument);
    for (ids, expected) in [
        (&[][..], "issued for Kubernetes"),
        (&["Kubernetes"], "issued for Kubernetes"),
        (&["east"], "issued for Kubernetes"),
        (&[""], "issued for Kubernetes"),
        (&["Kubernetes", "Kubernetes"], repeated.as_str()),
        (&["mars", "venus"], repeated.as_str()),
        (&["mars"], refused.as_str()),
        (&["kubernetes"], refused.as_str()),
    ] {
        let found = cluster(&ca, &client, &ask, ids).await?;
        ensure(found == expected, || format!("clusterid {ids:?}: {found}, not {expected}"))?;
    }
    ca.refused_for("cluster_unknown").await?;
    cluster(&ca, &client, &ask, &["", "Kubernetes"]).await?;
    ca.refused_for("request_malformed").await
}

/// As istiod scans them.
#[tokio::test]
async fn of_several_authorization_headers_the_first_with_a_bearer_token_counts() -> Outcome {
    let dev = Dev::plain()?;
    let _ca = dev.start_ca().await?;
    let client = Client::connect(&dev).await?;
    let good = format!("Bearer {}", dev.token("client")?);
    let bad = || "Bearer x".to_owned();
    let plain = Ask::new(&csr::like_ztunnel(None)?.csr, "");
    for (values, issued) in [
        (vec![good.clone(), bad()], true),
        (vec!["Basic x".to_owned(), "bearer x".to_owned(), good.clone()], true),
        (vec![bad(), good], false),
    ] {
        let result = client.call(&Ask { authorization: values, ..plain.clone() }).await;
        ensure(result.is_ok() == issued, || format!("issued: {issued}, but {result:?}"))?;
    }
    Ok(())
}

#[tokio::test]
async fn a_changed_key_set_is_used_without_a_restart() -> Outcome {
    let dev = Dev::plain()?;
    let _ca = dev.start_ca().await?;
    let client = Client::connect(&dev).await?;
    let keys = dev.text("jwks.json")?;
    client.certificate(&dev, "client").await?;
    let ask = Ask::new(&csr::like_ztunnel(None)?.csr, &dev.token("client")?);
    let within = std::time::Duration::from_secs(60);
    let write = |text: &str| {
        // Replaced as a whole, as a mounted Secret is.
        let (new, old) = (dev.path("jwks.json.new"), dev.path("jwks.json"));
        std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, &old)).map_err(Failure::io("replace the keys"))
    };
    let mut other: serde_json::Value = serde_json::from_str(&keys).map_err(Failure::while_doing("read the keys"))?;
    other["keys"][0]["kid"] = json!("withdrawn");
    write(&other.to_string())?;
    let refused = async || client.call(&ask).await.is_err().then_some(());
    signet_tests::harness::process::eventually("refusal after the key was withdrawn", within, refused).await?;
    write(&keys)?;
    let issued = async || client.call(&ask).await.is_ok().then_some(());
    signet_tests::harness::process::eventually("a certificate after the key came back", within, issued).await
}
