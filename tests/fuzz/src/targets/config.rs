//! Configuration files. A first line `# signet-agent` makes it the agent's, anything else the CA's.
//!
//! Promises: what is in effect, written down, is accepted and means the same; what is refused is refused with words that
//! name the file and a line, in a number that follows from the text.

use signet_runtime::config::{ConfigError, Loaded, parse};

use super::{Verdict, promise};

pub(super) const WORDS: &[&str] = &[
    "trust_domain",
    "listen",
    "admin",
    "ops",
    "storage",
    "authority",
    "backend",
    "native",
    "files",
    "directory",
    "key_type",
    "ec-p256",
    "ec-p384",
    "rsa-2048",
    "root_ttl",
    "issuing_ttl",
    "rotation",
    "coverage",
    "propagation",
    "svid",
    "default_ttl",
    "max_ttl",
    "csr_names",
    "strict",
    "clusters",
    "id",
    "aliases",
    "audiences",
    "tokens",
    "kind",
    "jwks",
    "issuer",
    "file",
    "leeway",
    "limits",
    "per_identity",
    "per_peer",
    "per_second",
    "burst",
    "connections",
    "request_timeout",
    "log",
    "level",
    "format",
    "json",
    "text",
    "drain",
    "serving",
    "dns_names",
    "ip_addresses",
    "keys",
    "encryption_key_file",
    "bundle_file",
    "admins",
    "auditors",
    "spiffe://",
    "cluster.local",
    "127.0.0.1:0",
    "[::]:15012",
    "unix:///x",
    "sqlite:///x",
    "postgres://x",
    "postgres://u@h:5432/d",
    "postgres://u:p@h/d",
    "postgres://u@[::1]/d",
    "postgres://u@/d?host=/run",
    "postgres",
    "password_file",
    "ca_file",
    "client_certificate_file",
    "client_key_file",
    "tls",
    "verify",
    "off",
    "24h",
    "10s",
    "1d",
    "0s",
    "9999999999d",
    "1.5h",
    "ca",
    "address",
    "https://ca:15012",
    "root_file",
    "server_name",
    "cluster_id",
    "timeout",
    "token_file",
    "ttl",
    "sds",
    "socket",
    "mode",
    "user",
    "group",
    "certificate_name",
    "bundle_name",
    "max_streams",
    "proxy_grace",
    "renewal",
    "retry_initial",
    "retry_max",
    "identity",
    "true",
    "null",
    "~",
    "&a ",
    "*a",
    "<<: *a\n",
    "!!str ",
    "!x ",
    "|\n",
    ">-\n",
    "---\n",
    "...\n",
    "? ",
    "%YAML 1.1\n",
    "\n  - ",
    ": ",
    "{",
    "}",
    "[",
    "]",
    "0x1f",
    "1e400",
    ".inf",
    ".nan",
    "\\u0000",
];

pub(super) fn run(input: &[u8]) -> Verdict {
    let Ok(text) = std::str::from_utf8(input) else { return Ok("not text".to_owned()) };
    if text.starts_with("# signet-agent") {
        judge(text, |text| parse("c.yaml", text, signet_agent::config::read))
    } else {
        judge(text, |text| parse("c.yaml", text, signet_ca::config::read))
    }
}

fn judge<T: std::fmt::Debug>(text: &str, read: impl Fn(&str) -> Result<Loaded<T>, ConfigError>) -> Verdict {
    let loaded = match read(text) {
        Err(error) => {
            let words = error.to_string();
            promise(!words.trim().is_empty() && words.contains("c.yaml"), || {
                format!("an error without its file: {words}")
            })?;
            // Each field can be wrong in a few ways, each told in a line; a word of the text may be in each of them.
            let bound = 4096 + 64 * text.len();
            promise(words.len() <= bound, || format!("an error of {} bytes about {}", words.len(), text.len()))?;
            let places = words.lines().count().min(4);
            return Ok(format!("{places} problems: {}", words.lines().next().unwrap_or_default()));
        }
        Ok(loaded) => loaded,
    };
    let written = loaded.effective.to_string();
    let again = read(&written).map_err(|error| format!("what is in effect is refused: {error}\n{written}"))?;
    promise(again.effective == loaded.effective, || format!("{written} became {}", again.effective))?;
    let (before, after) = (format!("{:?}", loaded.config), format!("{:?}", again.config));
    promise(before == after, || format!("{before} became {after}"))?;
    Ok(format!("accepted: {} fields", loaded.effective.as_object().map_or(0, serde_json::Map::len)))
}
