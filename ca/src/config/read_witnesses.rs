//! Reads who cosigns the record, and how many of them are enough.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;

use http::Uri;
use signet_core::transparency::VerifierKey;
use signet_runtime::config::{Section, kind};

/// Witnesses at most: each is asked for each checkpoint.
const MOST: usize = 16;

/// Somebody else who cosigns the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WitnessConfig {
    /// What it is called in metrics and messages.
    pub name: String,
    /// What its cosignatures are verified with.
    pub key: VerifierKey,
    /// The prefix of its submissions.
    pub url: String,
    /// The roots of its server's certificate.
    pub ca_file: Option<PathBuf>,
}

/// Reads them, with how many are enough.
pub(super) fn read_witnesses(s: &mut Section<'_>) -> Option<(Vec<WitnessConfig>, usize)> {
    let witnesses =
        s.list("witnesses", "who cosigns each checkpoint (C2SP tlog-witness), see docs/audit.md", read_witness);
    let quorum = s.optional(
        "quorum",
        kind::integer(1..=MOST),
        "how many of the witnesses have to have cosigned a checkpoint for it to be served as cosigned. Nothing else depends on it. Without it, more than half of them",
    );
    let (witnesses, quorum) = (witnesses?, quorum?);
    if witnesses.len() > MOST {
        s.problem("witnesses", format!("are {}; at most {MOST} are asked", witnesses.len()));
    }
    let names: BTreeSet<&str> = witnesses.iter().map(|witness| witness.name.as_str()).collect();
    // Under two names, a key is that of one witness all the same.
    let public = |key: &VerifierKey| key.to_string().splitn(3, '+').nth(2).map(str::to_owned);
    let keys: BTreeSet<Option<String>> = witnesses.iter().map(|witness| public(&witness.key)).collect();
    if names.len().min(keys.len()) < witnesses.len() {
        s.problem("witnesses", "have a name or a key twice; each witness has its own");
    }
    if let Some(quorum) = quorum.filter(|quorum| *quorum > witnesses.len()) {
        s.problem("quorum", format!("is {quorum}, and there are {} witnesses", witnesses.len()));
    }
    let quorum = quorum.unwrap_or_else(|| (witnesses.len() / 2).saturating_add(1));
    Some((witnesses, quorum))
}

fn read_witness(s: &mut Section<'_>) -> Option<WitnessConfig> {
    let name = s.required("name", kind::parsed("name", name), "what it is called in metrics and messages");
    let key = s.required(
        "key",
        kind::parsed("key of a witness", key),
        "what its cosignatures are verified with, as it publishes it: NAME+ID+KEY, of Ed25519 with a time",
    );
    let url = s.required(
        "url",
        kind::parsed("URL of a witness", url),
        "its submission prefix, to which /add-checkpoint is added; http:// only to this host: a cosignature cannot be forged on the way, but whoever answers in the place of a witness can keep it from being asked",
    );
    let ca_file = s.optional(
        "ca_file",
        kind::path(),
        "PEM file with the certificates that its server's must chain to, read again when it changes; without it, those that are publicly trusted",
    );
    let ca_file = ca_file?;
    if ca_file.is_some() && url.as_ref().is_some_and(|url| url.starts_with("http:")) {
        s.problem("ca_file", "is of no use with http://; remove one of them");
    }
    Some(WitnessConfig { name: name?, key: key?, url: url?, ca_file })
}

fn name(text: &str) -> Result<String, &'static str> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let is_name = (1..=63).contains(&text.len()) && text.chars().all(allowed);
    if is_name { Ok(text.to_owned()) } else { Err("write 1 to 63 letters, digits, '-', '_' and '.'") }
}

fn key(text: &str) -> Result<VerifierKey, String> {
    let key = VerifierKey::parse(text).map_err(|error| error.to_string())?;
    if key.is_of_witness() {
        return Ok(key);
    }
    Err("it is a key of a log: one of a witness signs the time with it (type 0x04)".to_owned())
}

/// A URL of scheme, host and path.
fn url(text: &str) -> Result<String, String> {
    let uri: Uri = text.parse().map_err(|_| "it is no URL".to_owned())?;
    let (Some(scheme), Some(host)) = (uri.scheme_str(), uri.host().filter(|host| !host.is_empty())) else {
        return Err("write https:// and a host".to_owned());
    };
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err("a user or a password do not belong there".to_owned());
    }
    if uri.query().is_some() || text.contains('#') || text.len() > 512 {
        return Err("write scheme, host, port and path only".to_owned());
    }
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let is_here = bare.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    match scheme {
        "https" => {}
        "http" if is_here => {}
        "http" => return Err("http:// is for an address of this host only; write https://".to_owned()),
        _ => return Err("write https://".to_owned()),
    }
    Ok(text.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
    use signet_runtime::config::parse;

    use super::super::{read, tests::SMALLEST};
    use super::*;

    /// That of a witness in the tests of Go's library of formats, and of a log.
    const WITNESS: &str = "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2";
    const LOG: &str = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";

    fn witnesses(text: &str) -> Result<(Vec<WitnessConfig>, usize), String> {
        let loaded = parse("f", &format!("{SMALLEST}\naudit: {{ {text} }}\n"), read);
        loaded.map(|loaded| (loaded.config.audit.witnesses, loaded.config.audit.quorum)).map_err(|e| e.to_string())
    }

    #[test]
    fn witnesses_are_read_with_more_than_half_of_them_as_the_quorum() {
        assert_eq!(witnesses("").unwrap().0, []);
        let one = format!("{{ name: one, key: {WITNESS}, url: 'https://w.example/a/' }}");
        let (read, quorum) = witnesses(&format!("witnesses: [{one}]")).unwrap();
        assert_eq!((read[0].name.as_str(), read[0].url.as_str(), quorum), ("one", "https://w.example/a", 1));
        assert_eq!((read[0].key.to_string(), &read[0].ca_file), (WITNESS.to_owned(), &None));
        for url in ["http://127.0.0.1:1/w", "http://[::1]:1", "http://localhost", "https://10.0.0.1"] {
            assert!(witnesses(&format!("witnesses: [{{ name: one, key: {WITNESS}, url: '{url}' }}]")).is_ok(), "{url}");
        }
    }

    #[test]
    fn what_is_no_witness_is_refused_with_its_field() {
        for (text, words) in [
            (format!("{{ name: one, key: {LOG}, url: 'https://w' }}"), "witnesses[0].key"),
            ("{ name: one, key: x, url: 'https://w' }".to_owned(), "witnesses[0].key"),
            (format!("{{ name: 'a b', key: {WITNESS}, url: 'https://w' }}"), "witnesses[0].name"),
            (format!("{{ name: one, key: {WITNESS}, url: 'http://w.example' }}"), "https://"),
            (format!("{{ name: one, key: {WITNESS}, url: 'https://u:p@w' }}"), "witnesses[0].url"),
            (format!("{{ name: one, key: {WITNESS}, url: 'https://w?a=b' }}"), "witnesses[0].url"),
            (format!("{{ name: one, key: {WITNESS}, url: 'http://localhost', ca_file: /a }}"), "witnesses[0].ca_file"),
            (
                format!(
                    "{{ name: one, key: {WITNESS}, url: 'https://w' }}, {{ name: two, key: {WITNESS}, url: 'https://v' }}"
                ),
                "audit.witnesses",
            ),
        ] {
            let error = witnesses(&format!("witnesses: [{text}]")).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
        let error = witnesses("quorum: 1").unwrap_err();
        assert!(error.contains("audit.quorum"), "{error}");
    }
}
