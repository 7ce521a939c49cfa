//! The agent's configuration file: one reading function gives the values, the checks and the reference table.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::Uri;
use serde_json::Value;
use signet_core::identity::{SpiffeId, TrustDomain};
use signet_core::key_type::KeyType;
use signet_runtime::config::kind::{self, Kind};
use signet_runtime::config::{Problems, Reference, Section};
use signet_runtime::telemetry::{self, LogFormat};
use signet_sds::session::MAX_NAME_BYTES;
use signet_sds::snapshot::{DEFAULT_BUNDLE_NAME, DEFAULT_CERTIFICATE_NAME};

/// Where the file is looked for when the command line names none.
pub const DEFAULT_PATH: &str = "/etc/signet/signet-agent.yaml";

/// The whole configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// The trust domain of the identity.
    pub trust_domain: TrustDomain,
    /// The identity to ask for; `None` means the one in the token.
    pub identity: Option<SpiffeId>,
    /// The CA.
    pub ca: Ca,
    /// The projected service-account token.
    pub token_file: PathBuf,
    /// The certificate to ask for.
    pub svid: Svid,
    /// The socket for proxies.
    pub sds: Sds,
    /// The HTTP port for operators.
    pub ops: SocketAddr,
    /// Logs.
    pub log: Log,
    /// Waits between failed attempts.
    pub renewal: Renewal,
    /// How long open streams may take to end when the agent stops.
    pub drain: Duration,
}

/// Where and how the CA is reached.
#[derive(Debug, Clone)]
pub struct Ca {
    /// An `https` address without path.
    pub address: Uri,
    /// PEM roots that the CA's serving certificate must chain to.
    pub root_file: PathBuf,
    /// The name the serving certificate must hold.
    pub server_name: String,
    /// The value of the `clusterid` header.
    pub cluster_id: String,
    /// The deadline of one call, connecting included.
    pub timeout: Duration,
}

/// What is asked of the CA.
#[derive(Debug, Clone, Copy)]
pub struct Svid {
    /// Lifetime; the CA may give less.
    pub ttl: Duration,
    /// Kind of the private key: ECDSA only.
    pub key_type: KeyType,
}

/// The Unix socket and what is served on it.
#[derive(Debug, Clone)]
pub struct Sds {
    /// The socket's path.
    pub socket: PathBuf,
    /// Its permission bits.
    pub mode: u32,
    /// Its owner, a name or number.
    pub user: Option<String>,
    /// Its group, a name or number.
    pub group: Option<String>,
    /// The secret name of the certificate.
    pub certificate_name: String,
    /// The secret name of the trust bundle.
    pub bundle_name: String,
    /// The most streams at a time.
    pub max_streams: usize,
    /// How long proxies are waited for that may come, or come back.
    pub proxy_grace: Duration,
}

/// What is logged and how.
#[derive(Debug, Clone)]
pub struct Log {
    /// A level or filter.
    pub level: String,
    /// The form of a line.
    pub format: LogFormat,
}

/// Waits between failed attempts: they grow from the first to the second.
#[derive(Debug, Clone, Copy)]
pub struct Renewal {
    /// The first wait, also the least time between two certificates.
    pub retry_initial: Duration,
    /// The longest wait.
    pub retry_max: Duration,
}

/// Reads the file. All fields are read before the first `?`, so that every problem is found at once.
pub fn read(s: &mut Section<'_>) -> Option<Config> {
    let trust_domain = kind::parsed("trust domain", TrustDomain::parse);
    let trust_domain =
        s.required("trust_domain", trust_domain, "the trust domain of the mesh, for example cluster.local");
    let identity = s.optional(
        "identity",
        kind::parsed("SPIFFE ID", SpiffeId::parse),
        "the SPIFFE ID to ask for; without it, the service account named in the token",
    );
    if let (Some(trust_domain), Some(Some(identity))) = (&trust_domain, &identity)
        && (!identity.is_member_of(trust_domain) || identity.path().is_empty())
    {
        s.problem("identity", format!("is not the SPIFFE ID of a workload in the trust domain {trust_domain}"));
    }
    let ca = s.section("ca", "the certificate authority", read_ca);
    let token_file = s.defaulted(
        "token_file",
        "/var/run/secrets/tokens/istio-token",
        kind::path(),
        "the token that proves who the workload is; read again for every call",
    );
    let svid = s.section("svid", "the certificate to ask for", read_svid);
    let sds = s.section("sds", "the socket that proxies connect to", read_sds);
    let ops = s.defaulted("ops", "127.0.0.1:15020", kind::socket_address(), "serves /metrics, /livez and /readyz");
    let log = s.section("log", "logs, on standard error", read_log);
    let renewal = s.section("renewal", "waits between failed attempts", read_renewal);
    let drain = s.defaulted("drain", "5s", kind::duration(), "how long stopping may take");
    Some(Config {
        trust_domain: trust_domain?,
        identity: identity?,
        ca: ca?,
        token_file: token_file?,
        svid: svid?,
        sds: sds?,
        ops: ops?,
        log: log?,
        renewal: renewal?,
        drain: drain?,
    })
}

/// The reference table of the file.
///
/// # Errors
/// [`Problems`] when a default is not acceptable to its own field, which is a bug.
pub fn reference() -> Result<Reference, Problems> {
    Reference::of(read)
}

fn read_ca(s: &mut Section<'_>) -> Option<Ca> {
    let address =
        s.required("address", kind::parsed("https address", parse_address), "where it listens: https://host:port");
    let root_file =
        s.required("root_file", kind::path(), "PEM roots of its serving certificate; read again for every call");
    let server_name =
        s.optional("server_name", kind::text(), "the name in its serving certificate; without it, the host of address");
    let cluster_id =
        s.defaulted("cluster_id", "Kubernetes", header_text(), "the cluster that made the token, as the CA knows it");
    let timeout = s.defaulted("timeout", "10s", kind::duration(), "the deadline of one call, connecting included");
    let address: Uri = address?;
    let host = address.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    Some(Ca {
        server_name: server_name?.unwrap_or(host),
        address,
        root_file: root_file?,
        cluster_id: cluster_id?,
        timeout: timeout?,
    })
}

fn read_svid(s: &mut Section<'_>) -> Option<Svid> {
    const SHORTEST: Duration = Duration::from_secs(10);
    const LONGEST: Duration = Duration::from_secs(365 * 86_400);
    let ttl = s.defaulted("ttl", "24h", kind::duration_within(SHORTEST..=LONGEST), "lifetime; the CA may give less");
    let key_type = kind::parsed("ec-p256 or ec-p384", |text: &str| match text.parse::<KeyType>() {
        Ok(key_type @ (KeyType::EcP256 | KeyType::EcP384)) => Ok(key_type),
        Ok(_) => Err("the agent makes ECDSA keys only; use ec-p256 or ec-p384"),
        Err(_) => Err("not a key type; use ec-p256 or ec-p384"),
    });
    let key_type = s.defaulted("key_type", "ec-p256", key_type, "kind of the private key, made anew each time");
    Some(Svid { ttl: ttl?, key_type: key_type? })
}

fn read_sds(s: &mut Section<'_>) -> Option<Sds> {
    let socket =
        s.defaulted("socket", "unix:///run/signet/agent.sock", kind::unix_address(), "its path, created when missing");
    let mode = kind::parsed("octal mode", |text: &str| {
        let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777);
        mode.ok_or("not a file mode; write three octal digits after a zero, like \"0660\"")
    });
    let mode = s.defaulted("mode", "0660", mode, "its permissions: who may connect may read the private key");
    let user = s.optional("user", name_or_number(), "its owner; without it, the agent's own user");
    let group = s.optional("group", name_or_number(), "its group; without it, the agent's own group");
    let certificate_name =
        s.defaulted("certificate_name", DEFAULT_CERTIFICATE_NAME, secret_name(), "secret name of the certificate");
    let bundle_name = s.defaulted("bundle_name", DEFAULT_BUNDLE_NAME, secret_name(), "secret name of the trust bundle");
    if certificate_name.is_some() && certificate_name == bundle_name {
        s.problem("bundle_name", "is the same as certificate_name");
    }
    let max_streams = s.defaulted("max_streams", 1000, kind::integer(1..=100_000), "the most streams at a time");
    let proxy_grace = s.defaulted(
        "proxy_grace",
        "45s",
        kind::duration_or_zero(),
        "after its start, and after a proxy has left that lacked the newest bundle, how long the agent waits for proxies before it acknowledges a bundle without them",
    );
    Some(Sds {
        socket: socket?,
        mode: mode?,
        user: user?,
        group: group?,
        certificate_name: certificate_name?,
        bundle_name: bundle_name?,
        max_streams: max_streams?,
        proxy_grace: proxy_grace?,
    })
}

fn read_log(s: &mut Section<'_>) -> Option<Log> {
    let level = kind::text().check(|level: &String| telemetry::check_filter(level));
    let level = s.defaulted("level", "info", level, "error, warn, info, debug or trace, or a filter");
    let format = kind::choice(&[("json", LogFormat::Json), ("human", LogFormat::Human)]);
    let format = s.defaulted("format", "json", format, "json for programs, human for reading");
    Some(Log { level: level?, format: format? })
}

fn read_renewal(s: &mut Section<'_>) -> Option<Renewal> {
    // It is also the least time between two certificates, so it must not be next to nothing.
    let least = kind::duration_within(Duration::from_millis(10)..=Duration::from_secs(3600));
    let retry_initial =
        s.defaulted("retry_initial", "1s", least, "the first wait, and the least time between renewals");
    let retry_max = s.defaulted("retry_max", "60s", kind::duration(), "the longest wait; waits double up to it");
    if let (Some(initial), Some(max)) = (retry_initial, retry_max)
        && initial > max
    {
        s.problem("retry_initial", "is longer than retry_max");
    }
    Some(Renewal { retry_initial: retry_initial?, retry_max: retry_max? })
}

fn parse_address(text: &str) -> Result<Uri, &'static str> {
    const SHAPE: &str = "write https://host:port";
    let uri: Uri = text.parse().map_err(|_malformed| SHAPE)?;
    if uri.scheme_str() == Some("http") {
        return Err("the token and the certificate travel over TLS only; write https://host:port");
    }
    let bare = matches!(uri.path(), "" | "/") && uri.query().is_none();
    let whole = uri.scheme_str() == Some("https") && uri.port_u16().is_some() && !text.contains('@');
    if bare && whole && uri.host().is_some_and(|host| !host.is_empty()) { Ok(uri) } else { Err(SHAPE) }
}

fn header_text() -> Kind<String> {
    kind::text().check(|text: &String| {
        if text.len() <= 253 && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(())
        } else {
            Err("may hold visible ASCII characters only, at most 253")
        }
    })
}

fn secret_name() -> Kind<String> {
    kind::text().check(
        |name: &String| {
            if name.len() <= MAX_NAME_BYTES { Ok(()) } else { Err("is too long for a secret name") }
        },
    )
}

fn name_or_number() -> Kind<String> {
    Kind::new("name or number", |value| match value {
        Value::String(name) if !name.is_empty() && name.len() <= 64 && !name.contains([':', '\n']) => Ok(name.clone()),
        Value::Number(number) if number.as_u64().is_some_and(|id| u32::try_from(id).is_ok()) => Ok(number.to_string()),
        other => Err(format!("{other} is neither the name nor the number of a user or group")),
    })
    .with_schema(serde_json::json!({ "type": ["string", "integer"] }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
    use super::*;
    use signet_runtime::config::{ConfigError, parse};

    const MINIMAL: &str = "trust_domain: td\nca: {address: 'https://ca.example:15012', root_file: /roots.pem}\n";

    fn problems(text: &str) -> String {
        match parse("f", text, read).unwrap_err() {
            ConfigError::Problems(problems) => problems.to_string(),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn two_lines_are_enough_and_the_rest_has_defaults() {
        let config = parse("f", MINIMAL, read).unwrap().config;
        assert_eq!(config.ca.server_name, "ca.example");
        assert_eq!((config.sds.mode, config.sds.max_streams), (0o660, 1000));
        assert_eq!(config.sds.proxy_grace, Duration::from_secs(45));
        assert_eq!((config.sds.certificate_name.as_str(), config.sds.bundle_name.as_str()), ("default", "ROOTCA"));
        assert_eq!(config.svid.ttl, Duration::from_secs(86_400));
        assert_eq!(config.sds.socket, PathBuf::from("/run/signet/agent.sock"));
        let text = MINIMAL.replace("ca.example:15012", "[::1]:15012");
        assert_eq!(parse("f", &text, read).unwrap().config.ca.server_name, "::1");
        let text = format!("{MINIMAL}sds: {{user: 1000, group: envoy}}\n");
        let sds = parse("f", &text, read).unwrap().config.sds;
        assert_eq!((sds.user.as_deref(), sds.group.as_deref()), (Some("1000"), Some("envoy")));
    }

    #[test]
    fn every_wrong_field_is_told_at_once_with_what_to_write() {
        let text = "
identity: spiffe://other/ns/a/sa/b
trust_domain: td
ca: {address: 'http://ca:15012', cluster_id: 'a b'}
svid: {key_type: rsa-2048, ttl: 1s}
sds: {mode: 660, certificate_name: x, bundle_name: x, socket: agent.sock, max_streams: 0, usr: me}
log: {level: inof}
renewal: {retry_initial: 2m}
";
        let found = problems(text);
        for line in [
            "f:2: identity: is not the SPIFFE ID of a workload in the trust domain td",
            "f:4: ca.address: \"http://ca:15012\": the token and the certificate travel over TLS only",
            "f:4: ca.root_file: is missing",
            "f:4: ca.cluster_id: may hold visible ASCII",
            "f:5: svid.key_type: \"rsa-2048\": the agent makes ECDSA keys only; use ec-p256 or ec-p384",
            "f:5: svid.ttl: 1s is out of range",
            "f:6: sds.mode: 660 is not text; put it in quotes",
            "f:6: sds.bundle_name: is the same as certificate_name",
            "f:6: sds.socket: \"agent.sock\" is not a Unix socket",
            "f:6: sds.max_streams: 0 is not a whole number",
            "f:6: sds.usr: is not a known key; did you mean user?",
            "f:7: log.level: \"inof\" is not a log filter",
            "f:8: renewal.retry_initial: is longer than retry_max",
        ] {
            assert!(found.lines().any(|found| found.starts_with(line)), "{line}\nnot in\n{found}");
        }
        assert_eq!(found.lines().count(), 13, "{found}");
    }

    #[test]
    fn addresses_need_https_a_host_and_a_port_and_nothing_else() {
        for good in ["https://a:1", "https://a:1/", "https://127.0.0.1:15012"] {
            assert!(parse_address(good).is_ok(), "{good}");
        }
        for bad in
            ["a:1", "https://a", "https://a:1/x", "https://a:1?x", "unix:///a", "https://u@a:1", "", "https://:1"]
        {
            assert!(parse_address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_reference_describes_every_field() {
        let paths: Vec<String> = reference().unwrap().fields().iter().map(|field| field.path.clone()).collect();
        for path in ["trust_domain", "ca.address", "sds.socket", "renewal.retry_max", "log.format", "drain"] {
            assert!(paths.iter().any(|known| known == path), "{path}");
        }
    }
}
