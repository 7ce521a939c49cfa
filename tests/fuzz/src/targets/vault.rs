//! Answers of a Vault. A line `== issuer`, `== signed`, `== leaf`, `== issuers`, `== login`, `== capabilities` or `== refusal` begins each; what is not JSON
//! in one of the first two is PEM, which is put into JSON here, so that changes reach the certificates.
//!
//! Promises: an issuer that is taken leads to a self-signed root that stands in the answer; an issuing CA that is taken is the one
//! that was asked for, link by link below that root; a leaf stands in the answer; the ids of issuers do, and lead to no other path; a token can be sent in a header and is never told; capabilities are those
//! that stand there; what a refusal says is short and on one line.

use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};
use signet_core::certificate::Facts;
use signet_core::secret::Secret;
use signet_plugins::authority::VaultAnswers;

use super::blocks::certificates;
use super::certified::{URI, check, key};
use super::signed::signed;
use super::{Verdict, files, promise, readable};
use crate::world::{NOW, upstream_root};

const LABEL: &str = "CERTIFICATE";

/// How long an issuing CA was asked for, as longer ones are refused.
const LIFE: std::time::Duration = std::time::Duration::from_secs(40_000 * 86_400);

/// The longest that an error may be that quotes Vault.
const LONGEST: usize = 2048;

pub(super) fn run(input: &[u8]) -> Verdict {
    let input = signed(input, LABEL);
    let parts = files::parts(&input);
    let part = |name: &str| parts.iter().find(|(found, _)| found == name).map(|(_, content)| content.as_slice());
    let issuer = part("issuer").map(answer);
    let mut words = Vec::new();
    if let Some(issuer) = &issuer {
        words.push(judge_issuer(issuer)?);
    }
    if let Some(content) = part("signed") {
        let own = json!({ "data": { "certificate": pem(&upstream_root()), "ca_chain": [pem(&upstream_root())] } });
        let issuer = issuer.unwrap_or_else(|| own.to_string().into_bytes());
        words.push(judge_signed(&issuer, &answer(content))?);
    }
    if let Some(content) = part("leaf") {
        words.push(judge_leaf(&answer(content))?);
    }
    if let Some(content) = part("issuers") {
        words.push(judge_issuers(content)?);
    }
    if let Some(content) = part("login") {
        words.push(judge_login(content)?);
    }
    if let Some(content) = part("capabilities") {
        words.push(judge_capabilities(content)?);
    }
    if let Some(content) = part("refusal") {
        words.push(judge_refusal(content)?);
    }
    Ok(words.join("; "))
}

fn pem(der: &CertificateDer<'static>) -> String {
    signet_core::pem::pem(der)
}

/// The answer in JSON: as it stands, or made of PEM.
fn answer(content: &[u8]) -> Vec<u8> {
    if content.trim_ascii_start().first().is_none_or(|byte| *byte == b'{') {
        return content.to_vec();
    }
    let text = String::from_utf8_lossy(content).into_owned();
    let mut blocks = text.split_inclusive("-----END CERTIFICATE-----\n");
    let certificate = blocks.next().unwrap_or_default();
    let chain: Vec<&str> = blocks.collect();
    let issuing_ca = chain.first().copied().unwrap_or_default();
    let data = json!({ "certificate": certificate, "ca_chain": chain, "issuing_ca": issuing_ca });
    json!({ "data": data }).to_string().into_bytes()
}

/// What an error says, without what differs from input to input.
fn told(error: &impl std::fmt::Display) -> Result<String, String> {
    let text = error.to_string();
    readable(&text)?;
    Ok(text.chars().filter(|c| !c.is_ascii_digit()).take(160).collect())
}

/// The certificates in the texts of an answer, by another reader.
fn known(body: &[u8]) -> Vec<Vec<u8>> {
    fn walk(value: &Value, found: &mut Vec<Vec<u8>>) {
        match value {
            Value::String(text) => found.extend(certificates(text.as_bytes())),
            Value::Array(all) => all.iter().for_each(|one| walk(one, found)),
            Value::Object(all) => all.values().for_each(|one| walk(one, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    walk(&written(body).unwrap_or_default(), &mut found);
    found
}

fn judge_issuer(body: &[u8]) -> Verdict {
    let offer = match VaultAnswers::issuer(body, NOW) {
        Err(error) => return told(&error),
        Ok(offer) => offer,
    };
    let [root] = offer.roots.as_slice() else { return Err(format!("{} roots", offer.roots.len())) };
    promise(root.id == offer.signer, || "the root that signs is not offered".to_owned())?;
    promise(known(body).iter().any(|der| der.as_slice() == root.certificate.as_ref()), || {
        "a root that is not in the answer".to_owned()
    })?;
    let facts = Facts::read(&root.certificate).map_err(|error| error.to_string())?;
    promise(facts.may_be_anchor() && facts.not_after > NOW, || "a root that is none".to_owned())?;
    promise(facts.subject_der == facts.issuer_der, || "a root that somebody else has signed".to_owned())?;
    Ok(format!("an issuer of {}", facts.subject_der.len().min(200)))
}

fn judge_signed(issuer: &[u8], body: &[u8]) -> Verdict {
    let key = key()?;
    let found = match VaultAnswers::certified(issuer, body, (&key, URI, LIFE), NOW) {
        Err(error) => return told(&error),
        Ok(found) => found,
    };
    let offer =
        VaultAnswers::issuer(issuer, NOW).map_err(|error| format!("taken below an issuer that is not: {error}"))?;
    let root = offer.roots.first().ok_or("no root")?;
    check(&found, &root.certificate)?;
    Ok(format!("certified with {} between", found.intermediates.len()))
}

fn judge_leaf(body: &[u8]) -> Verdict {
    let leaf = match VaultAnswers::leaf(body) {
        Err(error) => return told(&error),
        Ok(leaf) => leaf,
    };
    let stands_there = known(body).iter().any(|der| der.as_slice() == leaf.as_ref());
    promise(stands_there, || "a leaf that is not in the answer".to_owned())?;
    Ok(format!("a leaf that {}", if Facts::read(&leaf).is_ok() { "can be read" } else { "cannot be read" }))
}

fn judge_issuers(content: &[u8]) -> Verdict {
    let all = match VaultAnswers::issuers(content) {
        Err(error) => return told(&error),
        Ok(all) => all,
    };
    let written = written(content).unwrap_or_default();
    let keys = written.pointer("/data/keys").and_then(Value::as_array).cloned().unwrap_or_default();
    promise(all.len() <= 100, || format!("{} issuers are looked through", all.len()))?;
    for id in &all {
        let is_word = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        promise(is_word && id != "." && id != "..", || format!("{id:?} leads to another path"))?;
        promise(keys.iter().any(|key| key == id), || format!("{id:?} is not in the answer"))?;
    }
    Ok(format!("{} issuers", all.len().min(3)))
}

/// The answer as another reader has it; what nobody looks at may be no text.
fn written(body: &[u8]) -> Option<Value> {
    serde_json::from_str(&String::from_utf8_lossy(body)).ok()
}

fn judge_login(content: &[u8]) -> Verdict {
    let written = written(content).unwrap_or_default();
    let token = written.pointer("/auth/client_token").and_then(Value::as_str).unwrap_or_default();
    let is_told = |text: &str| token.len() >= 12 && text.contains(token);
    match VaultAnswers::token(&Secret::new(content.to_vec())) {
        Err(error) => {
            promise(!is_told(&format!("{error} {error:?}")), || "an error that tells the token".to_owned())?;
            told(&error)
        }
        Ok((secret, seconds)) => {
            let sent = secret.expose();
            promise(sent == token.as_bytes(), || "another token than stands there".to_owned())?;
            let fits = !sent.is_empty() && sent.iter().all(u8::is_ascii_graphic);
            promise(fits, || "a token that no header can hold".to_owned())?;
            promise(!is_told(&format!("{secret:?}")), || "a token that is told".to_owned())?;
            Ok(format!("a token, {}", if seconds == 0 { "without an end" } else { "with an end" }))
        }
    }
}

fn judge_capabilities(content: &[u8]) -> Verdict {
    let all = match VaultAnswers::capabilities(content) {
        Err(error) => return told(&error),
        Ok(all) => all,
    };
    let written = written(content).ok_or("taken, but not JSON")?;
    let data = written.get("data").and_then(Value::as_object).ok_or("taken, but without data")?;
    for (path, granted) in &all {
        let there = data.get(path).and_then(Value::as_array).ok_or_else(|| format!("{path:?} is not there"))?;
        let same = there.iter().map(Value::as_str).eq(granted.iter().map(|one| Some(one.as_str())));
        promise(same, || format!("{granted:?} in the place of {there:?}"))?;
    }
    Ok(format!("{} paths", all.len().min(5)))
}

/// The first line is the status.
fn judge_refusal(content: &[u8]) -> Verdict {
    let text = String::from_utf8_lossy(content);
    let (status, body) = text.split_once('\n').unwrap_or((&text, ""));
    let status = status.trim().parse().unwrap_or(500);
    let error = VaultAnswers::refusal(status, body.as_bytes());
    let said = error.to_string();
    readable(&said)?;
    promise(said.len() <= LONGEST && !said.contains(char::is_control), || format!("told as {said:?}"))?;
    Ok(format!("{error:?}").chars().take_while(|c| c.is_ascii_alphabetic()).collect())
}
