//! Tests of the configuration reader.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use super::read::*;
use super::read_authority::DAY;
use super::*;
use signet_core::key_type::KeyType;
use signet_runtime::config::{ConfigError, parse};

pub(super) const SMALLEST: &str = "
trust_domain: cluster.local
storage: sqlite:///tmp/signet.db
keys: { encryption_key_file: /tmp/key }
clusters:
  - id: Kubernetes
    trust_domain: cluster.local
    tokens: { kind: jwks, issuer: https://kubernetes.default.svc, file: /tmp/jwks.json }
";

fn problems(text: &str) -> Vec<String> {
    match parse("signet-ca.yaml", text, read) {
        Ok(_) => vec![],
        Err(ConfigError::Problems(problems)) => problems.to_string().lines().map(str::to_owned).collect(),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn the_smallest_file_has_the_documented_defaults() {
    let config = parse("f", SMALLEST, read).unwrap().config;
    assert_eq!(config.listen.to_string(), "127.0.0.1:15012");
    assert_eq!(config.svid.default_ttl, DAY);
    assert_eq!(config.svid.max_ttl, 90 * DAY);
    assert_eq!(config.authority.key_type, KeyType::EcP256);
    assert_eq!(config.svid.csr_names, CsrNames::Strict);
}

#[test]
fn ten_mistakes_are_reported_at_once_each_with_its_path() {
    let text = "
trust_domain: Cluster.Local
listen: nowhere
admin: /run/x.sock
ops: 127.0.0.1
storage: mysql://x
authority: { key_type: rsa-1024, root_ttl: 10 }
svid: { default_ttl: 24x, csr_names: maybe }
clusters:
  - id: a
    trust_domain: cluster.local
    tokens: { kind: oracle }
limits: { concurent_requests: 5 }
";
    let found = problems(text);
    for path in [
        "trust_domain",
        "listen",
        "admin",
        "ops",
        "storage",
        "keys.encryption_key_file",
        "authority.key_type",
        "authority.root_ttl",
        "svid.default_ttl",
        "svid.csr_names",
        "clusters[0].tokens.kind",
        "limits.concurent_requests",
    ] {
        assert!(found.iter().any(|line| line.contains(&format!("{path}:"))), "{path} is missing in {found:#?}");
    }
    assert_eq!(found.len(), 12, "{found:#?}");
}

#[test]
fn two_surfaces_on_one_address_are_refused_and_so_are_administrators_of_elsewhere() {
    for (lines, field) in [
        ("ops: 127.0.0.1:15012", Some("ops")),
        ("ops: 0.0.0.0:15012", Some("ops")),
        ("listen: '[::]:7'\nops: 127.0.0.1:7", Some("ops")),
        ("listen: 0.0.0.0:7\nops: '[::1]:7'", None),
        ("listen: 127.0.0.1:7\nops: 127.0.0.2:7", None),
        ("listen: 127.0.0.1:0\nops: 127.0.0.1:0", None),
        ("admins: [spiffe://cluster.local/ns/a/sa/b]", None),
        ("admins: [spiffe://elsewhere/ns/a/sa/b]", Some("admins")),
        ("auditors: [spiffe://cluster.local/ns/a/sa/b]", None),
        ("auditors: [spiffe://elsewhere/ns/a/sa/b]", Some("auditors")),
    ] {
        let found = problems(&format!("{SMALLEST}\n{lines}\n"));
        let fits = field.is_none_or(|field| found.iter().any(|line| line.contains(&format!(": {field}: "))));
        assert!(fits && found.is_empty() == field.is_none(), "{lines}: {found:?}");
    }
}

#[test]
fn with_a_vault_the_life_of_issuing_cas_is_judged_and_that_of_roots_is_not_ours() {
    let vault = "vault: { address: 'http://localhost:8200', auth: { method: token-file, token_file: /t } }";
    let with = |fields: &str| problems(&format!("{SMALLEST}\nauthority: {{ backend: vault, {vault}, {fields} }}\n"));
    assert_eq!(with("root_ttl: 1m, issuing_ttl: 30d"), Vec::<String>::new());
    let found = with("issuing_ttl: 30h");
    assert!(found.len() == 1 && found.concat().contains("svid.default_ttl"), "{found:?}");
    let found = problems(&format!("{SMALLEST}\nauthority: {{ backend: vault, files: /etc/cacerts }}\n")).concat();
    for path in ["authority.vault.address", "authority.vault.auth.method", "authority.files"] {
        assert!(found.contains(path), "{path}: {found}");
    }
}

#[test]
fn lifetimes_that_cannot_be_honoured_are_refused() {
    let table = [
        ("svid: { default_ttl: 48h, max_ttl: 24h }", "svid.default_ttl"),
        ("svid: { default_ttl: 20d }", "svid.default_ttl"),
        ("authority: { root_ttl: 10d, issuing_ttl: 30d }", "authority.issuing_ttl"),
    ];
    for (line, path) in table {
        let found = problems(&format!("{SMALLEST}\n{line}\n"));
        assert!(matches!(found.as_slice(), [one] if one.contains(path)), "{line}: {found:?}");
    }
}

#[test]
fn clusters_must_be_there_unambiguous_and_of_our_trust_domain() {
    let cluster = |id: &str, domain: &str| {
        format!("  - {{ id: {id}, trust_domain: {domain}, tokens: {{ kind: jwks, issuer: i, file: /f }} }}\n")
    };
    let head = "trust_domain: td\nkeys: { encryption_key_file: /k }\n";
    let table = [
        (format!("{head}clusters: []\n"), "clusters:"),
        (format!("{head}clusters:\n{}{}", cluster("a", "td"), cluster("a", "td")), "used twice"),
        (format!("{head}clusters:\n{}", cluster("a", "other")), "clusters[0].trust_domain"),
    ];
    for (text, expected) in table {
        let found = problems(&text);
        assert!(matches!(found.as_slice(), [one] if one.contains(expected)), "{text}: {found:?}");
    }
}

#[test]
fn tokens_have_one_issuer_or_several_and_bounds_on_clocks_and_age() {
    let with = |tokens: &str| SMALLEST.replace("issuer: https://kubernetes.default.svc", tokens);
    let read_tokens = |tokens: &str| {
        let read = parse("f", &with(tokens), read).unwrap().config.clusters.remove(0).tokens;
        let Tokens::Jwks { issuers, leeway, max_age, .. } = read else { panic!("{read:?}") };
        (issuers, leeway, max_age)
    };
    let minute = Duration::from_secs(60);
    assert_eq!(read_tokens("issuer: https://a"), (vec!["https://a".to_owned()], minute, DAY));
    assert_eq!(
        read_tokens("issuer: [https://b, https://a], leeway: 0s, max_age: 12h"),
        (vec!["https://b".to_owned(), "https://a".to_owned()], Duration::ZERO, DAY / 2)
    );
    let table = [
        ("issuer: []", &["clusters[0].tokens.issuer: is an empty list"][..]),
        ("issuer: 7", &["clusters[0].tokens.issuer: 7 is not text"]),
        ("issuer: kubernetes/serviceaccount", &["clusters[0].tokens.issuer: is the issuer of legacy tokens"]),
        (
            "issuer: [a, \"\", a], leeway: 1h, max_age: 1s",
            &[
                "clusters[0].tokens.issuer[1]: is empty",
                "clusters[0].tokens.leeway: 1h is out of range",
                "clusters[0].tokens.max_age: 1s is out of range",
            ],
        ),
        ("issuer: [a, b, a]", &["clusters[0].tokens.issuer[2]: is given twice"]),
    ];
    for (tokens, expected) in table {
        let found = problems(&with(tokens));
        let told = |part: &&str| found.iter().any(|line| line.contains(*part));
        assert!(found.len() == expected.len() && expected.iter().all(told), "{tokens}: {found:#?}");
    }
}

#[test]
fn keys_come_from_one_place_and_who_is_asked_is_named() {
    let with = |tokens: &str, more: &str| {
        let old = "tokens: { kind: jwks, issuer: https://kubernetes.default.svc, file: /tmp/jwks.json }";
        SMALLEST.replace(old, &format!("tokens: {{ {tokens} }}\n    {more}"))
    };
    let cluster = |tokens: &str, more: &str| {
        parse("f", &with(tokens, more), read).map(|loaded| loaded.config.clusters.into_iter().next())
    };
    let read = cluster("kind: token-review", "api_server: in-cluster").unwrap().unwrap();
    let Tokens::Review { issuers, leeway, limits } = read.tokens else { panic!("{read:?}") };
    assert_eq!((issuers, leeway, read.api_server), (vec![], DAY / 1440, Some(ApiAccess::InCluster)));
    assert_eq!((limits.remember, limits.deadline, limits.at_once), (DAY / 1440, Duration::from_secs(3), 64));
    let read = cluster("kind: jwks, issuer: https://a, from: api-server", "api_server: ./kubeconfig").unwrap().unwrap();
    assert_eq!(read.api_server, Some(ApiAccess::Kubeconfig("./kubeconfig".into())));
    assert!(matches!(read.tokens, Tokens::Jwks { keys: KeySource::ApiServer, .. }));
    let read = cluster("kind: jwks, issuer: https://a, from: issuer, issuer_ca_file: /ca", "").unwrap().unwrap();
    assert!(matches!(read.tokens, Tokens::Jwks { keys: KeySource::Issuer { ca_file: Some(_) }, .. }));

    for (tokens, more, expected) in [
        ("kind: token-review", "", "clusters[0].api_server: is missing"),
        ("kind: jwks, issuer: a, from: api-server", "", "clusters[0].api_server: is missing"),
        ("kind: jwks, issuer: a, file: /f, live_objects: true", "", "clusters[0].api_server: is missing"),
        ("kind: jwks, issuer: a, file: /f", "trusted_node_accounts: [a/b]", "clusters[0].api_server: is missing"),
        ("kind: token-review", "api_server: in-cluster\n    trusted_node_accounts: [ztunnel]", "write namespace/name"),
        ("kind: token-review", "api_server: in-cluster\n    trusted_node_accounts: [a/B]", "write namespace/name"),
        ("kind: token-review", "api_server: kubeconfig", "clusters[0].api_server: "),
        ("kind: jwks, issuer: a", "", "clusters[0].tokens.file: is missing"),
        ("kind: jwks, issuer: a, file: /f, from: issuer", "", "clusters[0].tokens.from: and `file` name two places"),
        ("kind: jwks, issuer: a, file: /f, issuer_ca_file: /g", "", "clusters[0].tokens.issuer_ca_file: is for"),
        ("kind: jwks, issuer: a, from: issuer", "", "clusters[0].tokens.issuer: \"a\" is no https URL"),
        ("kind: token-review, remember: 11m", "api_server: in-cluster", "clusters[0].tokens.remember: "),
        ("kind: token-review, deadline: 10s", "api_server: in-cluster", "clusters[0].tokens.deadline: "),
        ("kind: token-review, at_once: 0", "api_server: in-cluster", "clusters[0].tokens.at_once: "),
        ("kind: token-review, issuer: kubernetes/serviceaccount", "api_server: in-cluster", "legacy tokens"),
        ("kind: token-review, file: /f", "api_server: in-cluster", "clusters[0].tokens.file"),
    ] {
        let found = problems(&with(tokens, more));
        assert!(found.len() == 1 && found.iter().all(|line| line.contains(expected)), "{tokens}: {found:#?}");
    }
}

#[test]
fn client_certificates_count_where_the_section_is_and_live_objects_need_an_api_server() {
    let with = |more: &str| format!("{SMALLEST}    {more}\n");
    let read = |more: &str| {
        let config = parse("f", &with(more), read).unwrap().config;
        let cluster = config.clusters.first().unwrap();
        (cluster.client_certificates, cluster.needs_live_objects())
    };
    let week = ClientCertificates { last_token_within: 7 * DAY, live_objects: false };
    assert_eq!(read(""), (None, false));
    assert_eq!(read("client_certificates: {}"), (Some(week), false));
    let live = "api_server: in-cluster\n    client_certificates: { last_token_within: 1h, live_objects: true }";
    let expected = ClientCertificates { last_token_within: DAY / 24, live_objects: true };
    assert_eq!(read(live), (Some(expected), true));
    for (more, expected) in [
        ("client_certificates: { live_objects: true }", "clusters[0].api_server: is missing"),
        ("client_certificates: { last_token_within: 59s }", "clusters[0].client_certificates.last_token_within"),
        ("client_certificates: { last_token_within: 366d }", "clusters[0].client_certificates.last_token_within"),
        ("client_certificates: true", "clusters[0].client_certificates"),
    ] {
        let found = problems(&with(more));
        assert!(matches!(found.as_slice(), [one] if one.contains(expected)), "{more}: {found:?}");
    }
}

#[test]
fn pods_certificates_need_an_api_server_a_name_of_ones_own_and_an_hour() {
    let with = |more: &str| format!("{SMALLEST}    {more}\n");
    let section = "pod_certificates: { signer: signet.internal/workload }";
    let config = parse("f", &with(&format!("api_server: in-cluster\n    {section}")), read).unwrap().config;
    let expected = PodCertificates {
        signer: "signet.internal/workload".into(),
        at_once: 16,
        kubelet_refresh: Duration::from_secs(120),
    };
    assert_eq!(config.clusters.first().unwrap().pod_certificates, Some(expected));
    // Which roots such pods have is known where a ClusterTrustBundle of that signer is published.
    for (more, known) in [
        ("", false),
        ("publish: { cluster_trust_bundle: { signer: other.internal/workload } }", false),
        ("publish: { config_maps: {} }", false),
        ("publish: { cluster_trust_bundle: {} }", true),
    ] {
        let text = with(&format!("api_server: in-cluster\n    {section}\n    {more}"));
        let config = parse("f", &text, read).unwrap().config;
        let told = config.clusters.first().unwrap().pods_without_roots();
        assert_eq!(told.is_none(), known, "{more}: {told:?}");
    }
    let short = format!("api_server: in-cluster\n    {section}\nsvid: {{ default_ttl: 10m, max_ttl: 59m }}");
    let own = "api_server: in-cluster\n    pod_certificates: { signer: kubernetes.io/x }";
    for (more, expected) in [
        (section, "clusters[0].api_server: is missing"),
        (short.as_str(), "svid.max_ttl: is below 1h"),
        (own, "clusters[0].pod_certificates.signer: "),
        ("api_server: in-cluster\n    pod_certificates: {}", "clusters[0].pod_certificates.signer: "),
    ] {
        let found = problems(&with(more));
        assert!(matches!(found.as_slice(), [one] if one.contains(expected)), "{more}: {found:?}");
    }
}

#[test]
fn the_documentation_holds_the_reference_of_every_field() {
    let page = include_str!("../../../docs/configuration.md");
    let markdown = reference().unwrap().to_markdown();
    for path in ["trust_domain", "clusters[].tokens.file", "limits.per_identity.burst", "keys.encryption_key_file"] {
        assert!(markdown.contains(path), "{path}");
    }
    assert!(page.contains(&markdown), "docs/configuration.md is out of date: make docs");
}

#[test]
fn the_former_backend_is_one_that_signs_leaves_and_all_its_mistakes_are_told_at_once() {
    let authority = |section: &str| format!("{SMALLEST}authority:\n  backend: native\n  former: {section}\n");
    let vault = "address: 'http://127.0.0.1:8200', auth: { method: token-file, token_file: /t }";
    let leaf = format!("{{ backend: vault, vault: {{ {vault}, mode: leaf, role: mesh, at_once: 40 }} }}");
    let config = parse("f", &authority(&leaf), read).unwrap().config;
    assert!(matches!(config.authority.backend, Backend::Native));
    assert!(matches!(config.authority.former, Some(Backend::Vault(_))));
    assert_eq!(config.authority.leaves_at_once(), 40);
    assert!(parse("f", SMALLEST, read).unwrap().config.authority.former.is_none());
    let asked = "namespace: mesh, issuer: { name: ca }, roots: { from: file, file: /r }";
    let leaf = format!("{{ backend: cert-manager, cert_manager: {{ {asked}, mode: leaf }} }}");
    let config = parse("f", &authority(&leaf), read).unwrap().config;
    assert_eq!(config.authority.former.and_then(|former| former.signs_leaves()), Some(16));
    for (section, expected) in [
        (format!("{{ backend: vault, vault: {{ {vault} }} }}"), "authority.former.vault.mode: is not leaf"),
        (
            format!("{{ backend: cert-manager, cert_manager: {{ {asked} }} }}"),
            "authority.former.cert_manager.mode: is not leaf",
        ),
        ("{ backend: native }".to_owned(), "authority.former.backend"),
        ("{}".to_owned(), "authority.former.backend"),
    ] {
        let found = problems(&authority(&section));
        assert!(found.iter().any(|line| line.contains(expected)), "{expected} in {found:#?}");
    }
    let several =
        "{ backend: vault, color: red, vault: { address: nowhere, mode: leaf, auth: { method: token-file } } }";
    let found = problems(&authority(several));
    for path in ["color", "vault.address", "vault.role", "vault.auth.token_file"] {
        let path = format!("authority.former.{path}: ");
        assert!(found.iter().any(|line| line.contains(&path)), "{path} in {found:#?}");
    }
}
