//! Reads the configuration file: every field, its default, its meaning, and the rules between fields.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde_json::json;
use signet_core::identity::{SpiffeId, TrustDomain};
use signet_core::policy::CsrNames;
use signet_runtime::config::{Problems, Reference, Section, kind};
use signet_runtime::telemetry::{self, LogFormat};

use super::read_audit::read_audit;
use super::read_authority::{DAY, check_lifetimes, read_authority};
use super::read_cluster::{check_clusters, read_cluster};
use super::read_pod_certificates::check_lifetime;
use super::storage::read_storage;
use super::{Config, Limits, Log, Rate, Serving, Svid, Unauthenticated};

/// The reference of all fields, from which `docs/configuration.md` is made.
///
/// # Errors
/// None unless the defaults themselves are wrong, which a test excludes.
pub fn reference() -> Result<Reference, Problems> {
    Reference::of(read)
}

/// Reads the configuration; every wrong field is noted in the section.
#[must_use]
pub fn read(s: &mut Section<'_>) -> Option<Config> {
    let trust_domain = s.required("trust_domain", trust_domain_kind(), "the trust domain that this CA certifies");
    let listen =
        s.defaulted("listen", "127.0.0.1:15012", kind::socket_address(), "where certificate requests arrive, over TLS");
    let admin = read_admin(s);
    let admins = s.defaulted(
        "admins",
        json!([]),
        kind::list_of(kind::parsed("SPIFFE ID", SpiffeId::parse)),
        "SPIFFE IDs that may use the operators' service over TLS, on the address of `listen`",
    );
    let auditors = s.defaulted(
        "auditors",
        json!([]),
        kind::list_of(kind::parsed("SPIFFE ID", SpiffeId::parse)),
        "SPIFFE IDs that may read over TLS, on the address of `listen`, whatever the operators' service and the record tell, and change nothing",
    );
    let bundle_file = s.optional(
        "bundle_file",
        kind::path(),
        "where the trust bundle is written as PEM, at the start and at each change; a root file for agents. While it names other roots, `signet-ca init` makes no first authority",
    );
    let ops = s.defaulted("ops", "127.0.0.1:15014", kind::socket_address(), "metrics and probes, over plain HTTP");
    let storage = read_storage(s);
    let audit = s.section("audit", "the signed record of what was issued and refused", read_audit);
    let serving = s.section("serving", "the CA's own TLS certificate, issued by its own authority", read_serving);
    let keys = s.section("keys", "protection of private keys at rest", |s| {
        s.required(
            "encryption_key_file",
            kind::path(),
            "file with the key that encrypts private keys: 32 bytes as base64, mode 0600; former keys may follow, one on each line, see docs/backup.md",
        )
    });
    let authority = s.section("authority", "the authorities that sign", read_authority);
    let svid = s.section("svid", "rules for the certificates of workloads", read_svid);
    let authority = authority.zip(svid).map(|(authority, svid)| authority.with_leaves(&svid));
    let clusters = s.list("clusters", "the clusters whose service-account tokens are accepted", read_cluster);
    let proxy_protocol_from = s.defaulted(
        "proxy_protocol_from",
        json!([]),
        kind::list_of(kind::parsed("network", network)),
        "networks of load balancers that begin each connection with a PROXY header (version 1 or 2), whose address then counts as the client's; such a header from anybody else is none",
    );
    let limits = s.section("limits", "limits on requests", read_limits);
    let log = s.section("log", "logging, to standard error", read_log);
    let drain = s.defaulted("drain", "10s", kind::duration(), "how long requests in flight may take at shutdown");

    if let (Some(listen), Some(ops)) = (listen, ops)
        && overlap(listen, ops)
    {
        s.problem("ops", format!("{ops} is an address of `listen` ({listen}) too: one of them could not be opened"));
    }
    for (field, listed) in [("admins", &admins), ("auditors", &auditors)] {
        let (Some(listed), Some(trust_domain)) = (listed, &trust_domain) else { continue };
        for id in listed.iter().filter(|id| !id.is_member_of(trust_domain)) {
            s.problem(field, format!("{id} is not in the trust domain {trust_domain}, so that it is never let in"));
        }
    }
    if let (Some(authority), Some(svid)) = (&authority, &svid) {
        check_lifetimes(s, authority, svid);
    }
    if let Some(clusters) = &clusters {
        check_clusters(s, clusters, trust_domain.as_ref());
    }
    if let (Some(clusters), Some(svid)) = (&clusters, &svid) {
        check_lifetime(s, clusters, svid.max_ttl);
    }
    let audit = audit.zip(trust_domain.as_ref()).map(|(read, domain)| read.of(domain));
    Some(Config {
        trust_domain: trust_domain?,
        listen: listen?,
        admin: admin?,
        admins: admins?,
        auditors: auditors?,
        bundle_file: bundle_file?,
        ops: ops?,
        storage: storage?,
        audit: audit?,
        serving: serving?,
        encryption_key_file: keys?,
        authority: authority?,
        svid: svid?,
        clusters: clusters?,
        proxy_protocol_from: proxy_protocol_from?,
        limits: limits?,
        log: log?,
        drain: drain?,
    })
}

/// Reads where operators ask.
#[must_use]
pub fn read_admin(s: &mut Section<'_>) -> Option<PathBuf> {
    s.defaulted(
        "admin",
        "unix:///run/signet/ca-admin.sock",
        kind::unix_address(),
        "the operators' socket; its callers must have the CA's user id or be root",
    )
}

/// Whether two listeners would want one address. Port 0 is a free one each time.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let (here, there) = (one.ip().to_canonical(), other.ip().to_canonical());
    let all = |address: IpAddr| address.is_unspecified();
    // On Linux, [::] is every IPv4 address, too.
    let meets = |wide: IpAddr, address: IpAddr| all(wide) && (wide.is_ipv6() || address.is_ipv4());
    one.port() == other.port() && one.port() != 0 && (here == there || meets(here, there) || meets(there, here))
}

pub(super) fn trust_domain_kind() -> kind::Kind<TrustDomain> {
    kind::parsed("trust domain", TrustDomain::parse)
}

fn read_serving(s: &mut Section<'_>) -> Option<Serving> {
    let dns_names = s.defaulted(
        "dns_names",
        json!(["localhost"]),
        kind::list_of(kind::parsed("DNS name", dns_name)),
        "DNS names that clients dial; an istio-agent that dials `localhost` demands `istiod.istio-system.svc`",
    );
    let ip_addresses = s.defaulted(
        "ip_addresses",
        json!(["127.0.0.1"]),
        kind::list_of(kind::parsed("IP address", |text| {
            text.parse::<IpAddr>().map_err(|_| "is not an IP address, like 10.0.0.1")
        })),
        "IP addresses that clients dial",
    );
    let ttl = s.defaulted(
        "ttl",
        "24h",
        kind::duration_within(Duration::from_secs(2)..=90 * DAY),
        "lifetime of the serving certificate; it is renewed at half of it",
    );
    if let (Some([]), Some([])) = (dns_names.as_deref(), ip_addresses.as_deref()) {
        s.problem("dns_names", "no names at all: clients could not verify the CA; give dns_names or ip_addresses");
    }
    Some(Serving { dns_names: dns_names?, ip_addresses: ip_addresses?, ttl: ttl? })
}

fn dns_name(text: &str) -> Result<String, &'static str> {
    rustls_pki_types::DnsName::try_from(text)
        .map(|_| text.to_owned())
        .map_err(|_| "is not a DNS name; leave out scheme, port and wildcards")
}

fn network(text: &str) -> Result<IpNet, &'static str> {
    let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    let network = network.map_err(|_| "is neither a network, like 10.0.0.0/8, nor an address")?;
    if network.trunc() == network { Ok(network) } else { Err("has bits set behind its prefix") }
}

fn read_svid(s: &mut Section<'_>) -> Option<Svid> {
    let lifetime = || kind::duration_within(Duration::from_secs(1)..=365 * DAY);
    let default_ttl = s.defaulted("default_ttl", "24h", lifetime(), "lifetime when a request asks for none");
    let max_ttl = s.defaulted("max_ttl", "90d", lifetime(), "the longest lifetime that may be asked for");
    let csr_names = s.defaulted(
        "csr_names",
        "strict",
        kind::choice(&[("strict", CsrNames::Strict), ("ignore", CsrNames::Ignore)]),
        "`strict` refuses a CSR that asks for names other than the caller's identity; `ignore` takes only its key, as istiod does",
    );
    if let (Some(default_ttl), Some(max_ttl)) = (default_ttl, max_ttl)
        && default_ttl > max_ttl
    {
        s.problem("default_ttl", "is longer than svid.max_ttl");
    }
    Some(Svid { default_ttl: default_ttl?, max_ttl: max_ttl?, csr_names: csr_names? })
}

fn read_limits(s: &mut Section<'_>) -> Option<Limits> {
    let concurrent_requests = s.defaulted(
        "concurrent_requests",
        256,
        kind::integer(1..=100_000),
        "requests worked on at the same time; more are answered RESOURCE_EXHAUSTED, which clients retry",
    );
    let connections = s.defaulted(
        "connections",
        20_000,
        kind::integer(1..=1_000_000),
        "connections open at the same time, fitted to the limit of open files; for one more, the oldest that has not authenticated is closed, and if there is none it waits to be accepted",
    );
    let bundle_streams = s.defaulted(
        "bundle_streams",
        10_000,
        kind::integer(1..=1_000_000),
        "streams of the trust bundle open at the same time, one for each agent; never more than four fifths of connections, so that certificates can be asked for",
    );
    let bundle_streams_per_identity = s.optional(
        "bundle_streams_per_identity",
        kind::integer(2..=1_000_000),
        "how many of these may be of one SPIFFE ID, over all of its tokens and certificates; a quarter when absent. An identity is a service account: allow the largest one a stream per pod, and a tenth more for pods that change over",
    );
    let request_timeout = s.defaulted(
        "request_timeout",
        "10s",
        // Rotation counts on it: a request that began before a change is over soon after it.
        kind::duration_within(Duration::from_millis(1)..=Duration::from_secs(10)),
        "how long one request may take",
    );
    let per_identity =
        s.section("per_identity", "certificates for one identity; more are answered RESOURCE_EXHAUSTED", |s| {
            read_rate(s, 20, 200)
        });
    let per_peer = s.section(
        "per_peer",
        "requests from one source (an IPv4 address or an IPv6 network of 64 bits), on connections that have not authenticated",
        |s| read_rate(s, 1000, 2000),
    );
    let connections_per_identity = s.defaulted(
        "connections_per_identity",
        5_000,
        kind::integer(1..=1_000_000),
        "connections that have authenticated as one SPIFFE ID; for one more, the oldest of them is closed",
    );
    let unauthenticated = s.section(
        "unauthenticated",
        "what one source may hold on connections that have not had an authenticated request",
        read_unauthenticated,
    );
    Some(Limits {
        concurrent_requests: concurrent_requests?,
        connections: connections?,
        bundle_streams: bundle_streams?,
        bundle_streams_per_identity: bundle_streams_per_identity?,
        request_timeout: request_timeout?,
        per_identity: per_identity?,
        per_peer: per_peer?,
        connections_per_identity: connections_per_identity?,
        unauthenticated: unauthenticated?,
    })
}

fn read_unauthenticated(s: &mut Section<'_>) -> Option<Unauthenticated> {
    let connections = s.defaulted(
        "connections",
        512,
        kind::integer(1..=1_000_000),
        "connections; for one more, the oldest of them is closed. Room for two of each pod of a node with 250",
    );
    let handshakes = s.section(
        "handshakes",
        "new connections that come to nothing: each that authenticates is given back; more are closed at once",
        |s| read_rate(s, 200, 1000),
    );
    let calls = s.defaulted(
        "calls",
        512,
        kind::integer(1..=1_000_000),
        "calls whose messages have not arrived; for one more, the oldest connection with such calls is closed",
    );
    let memory = s.defaulted(
        "memory",
        "8MiB",
        kind::size().check(|size| {
            if *size >= 256 * 1024 { Ok(()) } else { Err("is less than one large request takes; give at least 256KiB") }
        }),
        "memory of such calls; beyond it, the oldest connection with such calls is closed",
    );
    let total_memory = s.defaulted(
        "total_memory",
        "64MiB",
        kind::size().check(|size| {
            if *size >= 256 * 1024 { Ok(()) } else { Err("is less than one large request takes; give at least 256KiB") }
        }),
        "the same of all sources together; beyond it, the oldest such connection of the source with most is closed",
    );
    Some(Unauthenticated {
        connections: connections?,
        handshakes: handshakes?,
        calls: calls?,
        memory: usize::try_from(memory?).ok()?,
        total_memory: usize::try_from(total_memory?).ok()?,
    })
}

fn read_rate(s: &mut Section<'_>, per_second: u32, burst: u32) -> Option<Rate> {
    let per_second = s.defaulted("per_second", per_second, kind::integer(1..=1_000_000), "sustained, per second");
    let burst = s.defaulted("burst", burst, kind::integer(1..=1_000_000), "at once after a pause");
    Some(Rate { per_second: NonZeroU32::new(per_second?)?, burst: NonZeroU32::new(burst?)? })
}

fn read_log(s: &mut Section<'_>) -> Option<Log> {
    let format = s.defaulted(
        "format",
        "json",
        kind::choice(&[("json", LogFormat::Json), ("human", LogFormat::Human)]),
        "form of the log lines",
    );
    let level = s.defaulted(
        "level",
        "info",
        kind::text().check(|filter| telemetry::check_filter(filter)),
        "least level logged: error, warn, info, debug or trace; or a filter like info,signet_ca=debug",
    );
    Some(Log { format: format?, level: level? })
}
