//! Answers of cert-manager. After a line `== status` stands a CertificateRequest in JSON, after `== chain` what its status may hold, as
//! PEM.
//!
//! Promises: a request is issued only if it is ready and holds a chain, and neither denied nor invalid; reasons are short and on
//! one line; an issuing CA that is taken is the one that was asked for, for no longer than a few minutes more, link by link below
//! the root.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use signet_core::authority::Root;
use signet_core::certificate::Facts;
use signet_core::time_math;
use signet_plugins::authority::{RequestStatus, judge_request};

use super::certified::{URI, check, key};
use super::signed::signed;
use super::{Verdict, files, promise, readable};
use crate::world::{NOW, upstream_root};

const LABEL: &str = "CERTIFICATE";

/// What is asked for: as long as the inputs of the corpus last.
const TTL: Duration = Duration::from_secs(40_000 * 86_400);
/// How much longer it may last.
const LONGER: Duration = Duration::from_secs(300);
/// The longest reason, in bytes.
const LONGEST: usize = 1200;

pub(super) fn run(input: &[u8]) -> Verdict {
    let input = signed(input, LABEL);
    let parts = files::parts(&input);
    let mut words = Vec::new();
    for (name, content) in &parts {
        match name.as_str() {
            "status" => words.push(judge_status(content)?),
            "chain" => words.push(judge_chain(content)?),
            _ => {}
        }
    }
    Ok(words.join("; "))
}

fn judge_status(content: &[u8]) -> Verdict {
    let Ok(object) = serde_json::from_slice::<Value>(content) else { return Ok("not JSON".to_owned()) };
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
    // By another way than the reader's: any condition counts here, and not the first one of its type.
    let is = |kind: &str| {
        let mut all = conditions.into_iter().flatten();
        all.any(|one| {
            one.get("type").is_some_and(|found| found == kind) && one.get("status").is_some_and(|found| found == "True")
        })
    };
    match RequestStatus::of(&object) {
        RequestStatus::Issued(chain) => {
            promise(is("Ready"), || "issued, but not ready".to_owned())?;
            let written = object.pointer("/status/certificate").and_then(Value::as_str).unwrap_or_default();
            let same = STANDARD.decode(written).is_ok_and(|decoded| decoded == chain);
            promise(same && !chain.is_empty(), || "a chain that is not there".to_owned())?;
            Ok(format!("issued: {}", judge_chain(&chain)?))
        }
        RequestStatus::Over(said) => {
            let denied =
                conditions.into_iter().flatten().any(|one| one.get("reason").is_some_and(|found| found == "Denied"));
            promise(is("Denied") || is("InvalidRequest") || denied, || "denied by nobody".to_owned())?;
            short(&said)?;
            Ok("over".to_owned())
        }
        RequestStatus::Failed(said) => {
            short(&said)?;
            Ok("failed".to_owned())
        }
        RequestStatus::Pending => Ok("pending".to_owned()),
    }
}

fn short(said: &str) -> Result<(), String> {
    promise(said.len() <= LONGEST && !said.contains(char::is_control), || format!("told as {said:?}"))
}

fn judge_chain(chain: &[u8]) -> Verdict {
    let key = key()?;
    let root = Root::new(upstream_root(), None).map_err(|error| error.to_string())?;
    let found = match judge_request(chain, (&key, URI), (&root, TTL), NOW) {
        Err(error) => {
            readable(&error)?;
            return Ok(error.chars().filter(|c| !c.is_ascii_digit()).take(160).collect());
        }
        Ok(found) => found,
    };
    check(&found, &root.certificate)?;
    let facts = Facts::read(&found.certificate).map_err(|error| error.to_string())?;
    promise(facts.may_sign_certificates() && facts.may_sign_lists(), || "a CA that may not sign".to_owned())?;
    promise(facts.unknown_critical == 0, || "a critical extension that nobody asked for".to_owned())?;
    promise(facts.not_after > facts.not_before, || "a certificate that was never of use".to_owned())?;
    promise(facts.not_after <= time_math::after(NOW, TTL + LONGER), || "a certificate that lasts too long".to_owned())?;
    Ok(format!("certified with {} between", found.intermediates.len()))
}
