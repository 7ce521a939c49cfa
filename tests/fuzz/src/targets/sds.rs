//! One SDS stream, told in lines: `snapshot NAME=NUMBER...`, `ask NAME...`, `held VERSION NAME...` (a first request after a
//! reconnect), `ack`, `nack WORDS`, `old N ack|nack` (an answer to an earlier response), `wait MILLISECONDS`, and
//! `raw BASE64`: a discovery request as it came.
//!
//! Promises, judged by a record of what was sent and nothing else: nothing is sent before the first request; an answer with
//! a nonce that was never sent, or is not the newest, is no answer to the newest and gets none; what is said of a secret is
//! about a content that was sent under that nonce or before; each response has a new nonce, names each secret once, only such as
//! exist and were asked for; only roots go back; what is remembered is bounded by what was asked for.

use std::collections::BTreeSet;
use std::sync::LazyLock;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::Secret as Packed;
use envoy_types::pb::envoy::service::discovery::v3::DiscoveryRequest;
use prost::Message as _;
use rustls_pki_types::CertificateDer;
use signet_core::bundle::{TrustBundle, Validation};
use signet_core::certificate::CertificateChain;
use signet_core::identity::TrustDomain;
use signet_core::secret::Secret;
use signet_sds::resources::{SECRET_TYPE_URL, packed};
use signet_sds::session::{Answer, Event, MAX_NAME_BYTES, MAX_NAMES, Request, Response, Sotw, WILDCARD};
use signet_sds::snapshot::{SecretContent, Snapshot, Version};

use super::{Verdict, promise, readable};
use crate::mutate::{Material, wire};
use crate::random::Random;
use crate::world;

pub(super) const WORDS: &[&str] = &[
    "snapshot ",
    "ask ",
    "ack\n",
    "nack no\n",
    "old ",
    "wait 1000\n",
    "raw ",
    "held ",
    "default",
    "ROOTCA",
    "ROOTX",
    "generic",
    "*",
    "default=1",
    "default=2",
    "ROOTCA=1",
    "ROOTCA=2",
    "ROOTCA=3",
    "ROOTX=1",
    "generic=1",
    "old 1 ack\n",
    "old 1 nack\n",
    "old 2 nack\n",
    "s-1",
    "s-2",
    "\nsnapshot default=1 ROOTCA=2\n",
    "\nack\n",
    "\nask default ROOTCA\n",
];

/// More lines than this tell nothing new.
const MAX_LINES: usize = 400;

/// Changes one raw request by its structure.
pub(super) fn change(random: &mut Random, input: &[u8], material: &Material<'_>) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(input).ok()?;
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let raw: Vec<usize> =
        (0..lines.len()).filter(|at| lines.get(*at).is_some_and(|line| line.starts_with("raw "))).collect();
    let line = lines.get_mut(*random.choose(&raw)?)?;
    let bytes = STANDARD.decode(line.get(4..)?).ok()?;
    *line = format!("raw {}", STANDARD.encode(wire::change(random, &bytes, material)?));
    Some(lines.join("\n").into_bytes())
}

fn content(name: &str, number: u8) -> Option<SecretContent> {
    static BUNDLES: LazyLock<Vec<TrustBundle>> = LazyLock::new(|| {
        let sets = [vec![world::root()], vec![world::other_root()], vec![world::root(), world::other_root()]];
        let domain = TrustDomain::parse("cluster.local").ok();
        sets.into_iter().filter_map(|roots| TrustBundle::new(domain.clone()?, 1, roots).ok()).collect()
    });
    Some(if name.starts_with("ROOT") {
        let bundle = BUNDLES.get(usize::from(number) % 3)?.clone();
        SecretContent::Validation(Validation { bundle, revocation_lists: Vec::new() })
    } else if name.starts_with("generic") {
        SecretContent::Generic([number].into())
    } else {
        let chain = CertificateChain::new(CertificateDer::from(vec![number]), Vec::new());
        SecretContent::Certificate { chain, key_pem: Secret::new(b"key".to_vec()).into() }
    })
}

/// A response as the record has it.
struct Sent {
    nonce: String,
    version: String,
    contents: Vec<(String, Version)>,
}

struct Stream {
    session: Sotw,
    snapshot: Snapshot,
    now: Duration,
    opened: bool,
    /// What the newest request named, as the client holds it.
    asked: Vec<String>,
    sent: Vec<Sent>,
    seen: Vec<&'static str>,
}

pub(super) fn run(input: &[u8]) -> Verdict {
    let text = String::from_utf8_lossy(input);
    let mut stream = Stream {
        session: Sotw::new("s"),
        snapshot: Snapshot::empty(),
        now: Duration::ZERO,
        opened: false,
        asked: Vec::new(),
        sent: Vec::new(),
        seen: Vec::new(),
    };
    for line in text.lines().take(MAX_LINES) {
        if let Some(refused) = stream.line(line)? {
            return Ok(format!("{refused} after {:?}", stream.seen));
        }
    }
    // The order of things tells more than their number, but not without end.
    stream.seen.dedup();
    stream.seen.truncate(24);
    Ok(format!("{:?}", stream.seen))
}

impl Stream {
    /// Does what a line says; gives why the stream has ended, if it has.
    fn line(&mut self, line: &str) -> Result<Option<String>, String> {
        let mut words = line.split_whitespace();
        let rest: Vec<String>;
        match words.next() {
            Some("snapshot") => {
                let secrets = words.filter_map(|word| {
                    let (name, number) = word.split_once('=')?;
                    Some((name.to_owned(), content(name, number.parse().ok()?)?))
                });
                self.snapshot = Snapshot::new(secrets);
                let response = self.session.on_snapshot(&self.snapshot);
                self.responded(response)?;
                Ok(None)
            }
            Some("wait") => {
                let wait = words.next().and_then(|word| word.parse().ok()).unwrap_or(1);
                self.now = self.now.saturating_add(Duration::from_millis(wait)).min(Duration::from_secs(1 << 40));
                let response = self.session.on_wake(&self.snapshot, self.now);
                self.responded(response)?;
                Ok(None)
            }
            Some("raw") => {
                let Ok(bytes) = STANDARD.decode(words.next().unwrap_or_default()) else { return Ok(None) };
                let Ok(message) = DiscoveryRequest::decode(bytes.as_slice()) else {
                    self.seen.push("undecodable");
                    return Ok(None);
                };
                self.request(&Request {
                    type_url: &message.type_url,
                    names: &message.resource_names,
                    nonce: &message.response_nonce,
                    version: &message.version_info,
                    error: message.error_detail.as_ref().map(|status| status.message.as_str()),
                })
            }
            Some("ask") => {
                rest = words.map(str::to_owned).collect();
                let (nonce, version) = self.newest();
                self.request(&Request { names: &rest, nonce: &nonce, version: &version, ..Request::default() })
            }
            Some("held") => {
                let version = words.next().unwrap_or_default().to_owned();
                rest = words.map(str::to_owned).collect();
                self.request(&Request { names: &rest, version: &version, ..Request::default() })
            }
            Some(word @ ("ack" | "nack")) => {
                let (nonce, version) = self.newest();
                let error: String = words.collect::<Vec<_>>().join(" ");
                self.answer(word == "ack", &nonce, &version, &error)
            }
            Some("old") => {
                let at: usize = words.next().and_then(|word| word.parse().ok()).unwrap_or(1);
                let found = self.sent.get(at.wrapping_sub(1));
                let (nonce, version) = found.map_or_else(
                    || ("unknown".to_owned(), String::new()),
                    |one| (one.nonce.clone(), one.version.clone()),
                );
                self.answer(words.next() == Some("ack"), &nonce, &version, "late")
            }
            _ => Ok(None),
        }
    }

    fn newest(&self) -> (String, String) {
        self.sent.last().map(|sent| (sent.nonce.clone(), sent.version.clone())).unwrap_or_default()
    }

    fn answer(&mut self, applied: bool, nonce: &str, version: &str, error: &str) -> Result<Option<String>, String> {
        let names = self.asked.clone();
        let error = (!applied).then_some(error);
        self.request(&Request { type_url: SECRET_TYPE_URL, names: &names, nonce, version, error })
    }

    fn request(&mut self, request: &Request<'_>) -> Result<Option<String>, String> {
        let newest = self.newest();
        let about = self.sent.iter().position(|sent| sent.nonce == request.nonce);
        let unfit = !matches!(request.type_url, "" | SECRET_TYPE_URL)
            || request.names.len() > MAX_NAMES
            || request.names.iter().any(|name| name.len() > MAX_NAME_BYTES);
        let outcome = match self.session.on_request(request, &self.snapshot, self.now) {
            Err(refusal) => {
                promise(unfit, || format!("a fit request is refused: {refusal}"))?;
                readable(&refusal.to_string())?;
                return Ok(Some(format!("{refusal:?}")));
            }
            Ok(outcome) => outcome,
        };
        promise(!unfit, || "an unfit request is taken".to_owned())?;
        let is_newest = request.nonce == newest.0;
        let kept = match &outcome.event {
            Event::Opened => !self.opened,
            Event::Answered(Answer::Ack) => {
                is_newest && about.is_some() && request.version == newest.1 && request.error.is_none()
            }
            Event::Answered(Answer::Nack(text)) => {
                is_newest && about.is_some() && request.error.map(kept).as_ref() == Some(text)
            }
            Event::Repeated => is_newest && about.is_some() && request.error.is_none(),
            Event::StaleNonce => self.opened && !is_newest,
            Event::Subscription => self.opened && is_newest && (request.error.is_none() || about.is_none()),
        };
        promise(kept, || format!("{:?} of {request:?} while {newest:?} was the newest", outcome.event))?;
        promise(is_newest || !self.opened || outcome.response.is_none(), || "a stale request is answered".to_owned())?;
        if is_newest || !self.opened {
            self.asked = request.names.to_vec();
        }
        self.opened = true;
        self.seen.push(match outcome.event {
            Event::Opened => "opened",
            Event::Answered(Answer::Ack) => "acknowledged",
            Event::Answered(Answer::Nack(_)) => "refused",
            Event::StaleNonce => "stale",
            Event::Repeated => "repeated",
            Event::Subscription => "subscription",
        });
        let said = self.session.take_acknowledgements();
        promise(said.is_empty() || about.is_some(), || format!("{said:?} by a nonce that was never sent"))?;
        for one in said {
            let upto = self.sent.iter().take(about.map_or(0, |at| at + 1));
            let known = upto
                .flat_map(|sent| &sent.contents)
                .any(|(name, version)| **name == *one.name && *version == one.version);
            promise(known, || format!("{one:?} about what was not sent"))?;
            let refused = one.answer != Answer::Ack;
            promise(refused == request.error.is_some(), || format!("{one:?} of {request:?}"))?;
            self.seen.push(if refused { "says no" } else { "says yes" });
        }
        self.responded(outcome.response)?;
        Ok(None)
    }

    fn responded(&mut self, response: Option<Response>) -> Result<(), String> {
        let names: BTreeSet<&str> = self.session.names().map(|name| &**name).collect();
        let all = self.session.wants_everything();
        promise(self.session.last_answers().keys().all(|name| all || names.contains(&**name)), || {
            "remembers names that nobody asks for".to_owned()
        })?;
        promise(names.len() <= MAX_NAMES, || format!("{} names", names.len()))?;
        let Some(response) = response else { return Ok(()) };
        promise(self.opened, || "a response before the first request".to_owned())?;
        promise(self.sent.iter().all(|sent| sent.nonce != response.nonce), || format!("{} again", response.nonce))?;
        let distinct: BTreeSet<&str> = response.names.iter().map(|name| &**name).collect();
        promise(!distinct.is_empty() && distinct.len() == response.names.len(), || format!("names {distinct:?}"))?;
        promise(all || distinct.is_subset(&names), || format!("{distinct:?} for {names:?}"))?;
        promise(response.older.keys().all(|name| distinct.contains(&**name)), || "older ones unasked".to_owned())?;
        promise(!distinct.contains(WILDCARD) || self.snapshot.secret(WILDCARD).is_some(), || {
            "the wildcard itself".to_owned()
        })?;
        let mut contents = Vec::new();
        for name in &response.names {
            let content = response.content(name, &self.snapshot).ok_or_else(|| format!("{name} does not exist"))?;
            if response.older.contains_key(name) {
                promise(matches!(content, SecretContent::Validation(_)), || format!("{name} goes back"))?;
                self.seen.push("goes back");
            }
            let any = packed(name, content);
            let read = Packed::decode(any.value.as_slice()).map_err(|error| format!("unreadable: {error}"))?;
            promise(*read.name == **name, || format!("{name} was packed as {}", read.name))?;
            contents.push((name.to_string(), content.version()));
        }
        self.seen.push("sent");
        self.sent.push(Sent { nonce: response.nonce, version: response.version.to_string(), contents });
        Ok(())
    }
}

/// What a session keeps of a client's text.
fn kept(text: &str) -> String {
    text.chars().take(512).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
