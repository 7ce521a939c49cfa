//! The reader as a whole: a configuration the shape of a real one, ten mistakes at once, and its own reference.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use serde_json::json;

use super::{kind, *};

#[derive(Debug, PartialEq)]
enum Tokens {
    Jwks { issuer: String, file: PathBuf },
    Review { url: String },
}

#[derive(Debug, PartialEq)]
struct Cluster {
    id: String,
    aliases: Vec<String>,
    tokens: Tokens,
}

#[derive(Debug, PartialEq)]
struct Server {
    domain: String,
    listen: SocketAddr,
    ttl: Duration,
    max_ttl: Duration,
    workers: u32,
    verbose: bool,
    message: u64,
    backend: u8,
    tls: Option<PathBuf>,
    clusters: Vec<Cluster>,
}

fn read_cluster(s: &mut Section<'_>) -> Option<Cluster> {
    let id = s.required("id", kind::text(), "the value of the clusterid header");
    let aliases = s.defaulted("aliases", json!([]), kind::list_of(kind::text()), "further names");
    let tokens = s.section("tokens", "how tokens are checked", |s| {
        let jwks = Variant::new("jwks", "by published keys", |s| {
            let issuer = s.required("issuer", kind::text(), "who makes the tokens");
            let file = s.required("file", kind::path(), "the keys");
            Some(Tokens::Jwks { issuer: issuer?, file: file? })
        });
        let review = Variant::new("token-review", "by asking", |s| {
            let url = s.defaulted("url", "https://kubernetes.default.svc", kind::text(), "whom to ask");
            Some(Tokens::Review { url: url? })
        });
        s.one_of("kind", None, &[jwks, review], "the way")
    });
    Some(Cluster { id: id?, aliases: aliases?, tokens: tokens? })
}

fn read_server(s: &mut Section<'_>) -> Option<Server> {
    let domain = kind::parsed("trust domain", |text: &str| {
        if text.chars().all(|c| c.is_ascii_lowercase() || c == '.') {
            Ok(text.to_owned())
        } else {
            Err("lower case only")
        }
    });
    let domain = s.defaulted("trust_domain", "cluster.local", domain, "the trust domain");
    let listen = s.defaulted("listen", "127.0.0.1:15012", kind::socket_address(), "where callers connect");
    let lifetimes = s.section("svid", "certificates", |s| {
        let ttl = s.defaulted("default_ttl", "24h", kind::duration(), "lifetime");
        let max_ttl = s.defaulted("max_ttl", "90d", kind::duration(), "longest lifetime");
        if let (Some(ttl), Some(max_ttl)) = (ttl, max_ttl)
            && ttl > max_ttl
        {
            s.problem("default_ttl", "is longer than max_ttl");
        }
        Some((ttl?, max_ttl?))
    });
    let workers = s.defaulted("workers", 2, kind::integer(1..=64), "threads");
    let verbose = s.defaulted("verbose", false, kind::boolean(), "say more");
    let message = s.defaulted("max_message", "64KiB", kind::size(), "largest request");
    let backend = s.defaulted("backend", "native", kind::choice(&[("native", 1), ("files", 2)]), "who signs");
    let tls = s.optional_section("tls", "own certificate", |s| s.required("file", kind::path(), "PEM file"));
    let clusters = s.list("clusters", "whose tokens are taken", read_cluster);
    let (ttl, max_ttl) = lifetimes?;
    Some(Server {
        domain: domain?,
        listen: listen?,
        ttl,
        max_ttl,
        workers: workers?,
        verbose: verbose?,
        message: message?,
        backend: backend?,
        tls: tls?,
        clusters: clusters?,
    })
}

fn problems_of(text: &str) -> Vec<String> {
    match parse("f.yaml", text, read_server).unwrap_err() {
        ConfigError::Problems(problems) => problems.to_string().lines().map(str::to_owned).collect(),
        other => vec![other.to_string()],
    }
}

#[test]
fn an_empty_file_gives_the_defaults() {
    let loaded = parse("f.yaml", "", read_server).unwrap();
    assert_eq!(loaded.config.domain, "cluster.local");
    assert_eq!(loaded.config.tls, None);
    assert_eq!(loaded.config.clusters, []);
    assert_eq!(
        loaded.effective,
        json!({"trust_domain": "cluster.local", "listen": "127.0.0.1:15012",
            "svid": {"default_ttl": "24h", "max_ttl": "90d"}, "workers": 2, "verbose": false,
            "max_message": "64KiB", "backend": "native", "clusters": []})
    );
}

#[test]
fn a_full_file_gives_what_it_says() {
    let text = "
trust_domain: prod.example
svid: { default_ttl: 1h30m }
workers: 8
verbose: true
max_message: 1MiB
backend: files
tls: { file: /etc/tls.pem }
clusters:
  - id: Kubernetes
    aliases: [one, two]
    tokens: { kind: jwks, issuer: https://k, file: /etc/jwks.json }
  - id: second
    tokens:
      kind: token-review
";
    let Loaded { config, effective, .. } = parse("f.yaml", text, read_server).unwrap();
    assert_eq!((config.ttl, config.max_ttl), (Duration::from_secs(5400), Duration::from_secs(90 * 86_400)));
    assert_eq!((config.workers, config.verbose, config.message, config.backend), (8, true, 1 << 20, 2));
    assert_eq!(config.tls, Some("/etc/tls.pem".into()));
    assert_eq!(config.clusters[0].aliases, ["one", "two"]);
    assert_eq!(config.clusters[0].tokens, Tokens::Jwks { issuer: "https://k".into(), file: "/etc/jwks.json".into() });
    assert_eq!(config.clusters[1].tokens, Tokens::Review { url: "https://kubernetes.default.svc".into() });
    assert_eq!(
        effective["clusters"][1],
        json!({"id": "second", "aliases": [], "tokens": {"kind": "token-review", "url": "https://kubernetes.default.svc"}})
    );
}

#[test]
fn many_mistakes_are_all_reported_at_once_with_their_lines_and_paths() {
    let text = "
trust_domain: PROD
listen: localhost:15012
svid: { default_ttl: 24x, max_tll: 90d }
workers: 0
verbose: yes
max_message: 64
backend: vault
tls: {}
clusters:
  - id: 7
    aliases: [a, 1]
    tokens: { kind: jwt }
  - tokens: { kind: jwks, issuer: i, file: f, url: u }
  - just-a-name
colour: blue
";
    assert_eq!(
        problems_of(text),
        [
            r#"f.yaml:2: trust_domain: "PROD": lower case only"#,
            r#"f.yaml:3: listen: "localhost:15012" is not an address; write an IP address and a port, like 127.0.0.1:15012"#,
            r#"f.yaml:4: svid.default_ttl: "24x" is not a duration; write a number with a unit, like 24h"#,
            "f.yaml:4: svid.max_tll: is not a known key; did you mean max_ttl?",
            "f.yaml:5: workers: 0 is not a whole number from 1 to 64",
            r#"f.yaml:6: verbose: "yes" is not a boolean; write true or false"#,
            "f.yaml:7: max_message: 64 is not a size; write a number with a unit, like 64KiB",
            r#"f.yaml:8: backend: "vault" is not one of native, files"#,
            "f.yaml:9: tls.file: is missing: PEM file",
            "f.yaml:11: clusters[0].id: 7 is not text; put it in quotes",
            "f.yaml:12: clusters[0].aliases[1]: 1 is not text; put it in quotes",
            r#"f.yaml:13: clusters[0].tokens.kind: "jwt" is not one of jwks, token-review"#,
            "f.yaml:14: clusters[1].id: is missing: the value of the clusterid header",
            "f.yaml:14: clusters[1].tokens.url: only used with kind: token-review",
            r#"f.yaml:15: clusters[2]: "just-a-name" is not a section; write `key: value` lines below it"#,
            "f.yaml:16: colour: is not a known key",
        ]
    );
}

#[test]
fn wrong_shapes_and_rules_over_several_fields_are_reported() {
    for (text, wanted) in [
        ("svid: { default_ttl: 91d }", "f.yaml:1: svid.default_ttl: is longer than max_ttl"),
        ("svid: 24h", "f.yaml:1: svid: \"24h\" is not a section; write `key: value` lines below it"),
        ("clusters: { id: a }", "f.yaml:1: clusters: a section is not a list; start each entry with a dash"),
        ("- a\n- b", "f.yaml: the configuration must be made of `key: value` lines"),
        ("workers: 1\nworkers: 2\n", "f.yaml:2:1:"),
    ] {
        let found = problems_of(text);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with(wanted), "{found:?}");
    }
}

#[test]
fn a_key_without_a_value_counts_as_left_out() {
    let loaded = parse("f.yaml", "svid:\nworkers:\nclusters:\ntls:\n", read_server).unwrap();
    assert_eq!(loaded.config.workers, 2);
    assert_eq!(loaded.config.tls, None);
}

#[test]
fn a_reader_that_refuses_without_a_reason_is_not_accepted() {
    let error = parse("f.yaml", "", |_| None::<()>).unwrap_err();
    assert!(error.to_string().contains("bug"), "{error}");
}

#[test]
fn the_reference_lists_every_field_even_of_lists_and_variants() {
    let reference = Reference::of(read_server).unwrap();
    let paths: Vec<&str> = reference.fields().iter().map(|field| field.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "trust_domain",
            "listen",
            "svid",
            "svid.default_ttl",
            "svid.max_ttl",
            "workers",
            "verbose",
            "max_message",
            "backend",
            "tls",
            "tls.file",
            "clusters",
            "clusters[].id",
            "clusters[].aliases",
            "clusters[].tokens",
            "clusters[].tokens.kind",
            "clusters[].tokens.issuer",
            "clusters[].tokens.file",
            "clusters[].tokens.url",
        ]
    );
    let table = reference.to_markdown();
    for row in [
        "| `svid.default_ttl` | duration | `24h` | lifetime |",
        "| `tls.file` | path | required | PEM file |",
        "| `clusters[].tokens.kind` | one of jwks, token-review | required | the way. `jwks`: by published keys; `token-review`: by asking |",
        "| `clusters[].tokens.issuer` | text | required | With `kind: jwks`: who makes the tokens |",
    ] {
        assert!(table.contains(row), "{row}\n{table}");
    }
}

#[test]
fn the_schema_says_what_a_key_may_hold_and_which_keys_go_with_a_choice() {
    let schema = Reference::of(read_server).unwrap().to_json_schema("a server");
    let at = |pointer: &str| schema.pointer(pointer).cloned().unwrap_or_default();
    assert_eq!(at("/title"), "a server");
    assert_eq!((at("/additionalProperties"), at("/properties/tls/additionalProperties")), (json!(false), json!(false)));
    assert_eq!(at("/properties/svid/properties/default_ttl/default"), "24h");
    assert_eq!(at("/properties/tls/required"), json!(["file"]));
    let clusters = "/properties/clusters/items/properties/tokens";
    assert_eq!(at(&format!("{clusters}/required")), json!(["kind"]));
    assert_eq!(at(&format!("{clusters}/properties/kind/enum")), json!(["jwks", "token-review"]));
    let rules = at(&format!("{clusters}/allOf"));
    let jwks = rules.as_array().unwrap().iter().find(|rule| rule["if"]["properties"]["kind"]["const"] == "jwks");
    assert!(jwks.unwrap()["then"]["required"].as_array().unwrap().contains(&json!("issuer")), "{rules:#}");
}

#[test]
fn the_reference_refuses_a_default_its_own_field_would_refuse() {
    let problems = Reference::of(|s| s.defaulted("ttl", "24", kind::duration(), "")).unwrap_err();
    assert_eq!(problems.found()[0].path, "ttl");
}

#[test]
fn mistakes_are_told_in_the_order_of_the_file_and_the_other_programs_file_as_that() {
    let sibling = Sibling { program: "other", keys: &["sds", "token"] };
    let told = |text: &str| parse("f", text, read_server).map(drop).unwrap_err().mistakes(sibling);
    let lines = told("zzz: 1\nworkers: many\nsds: 1\nworkrs: 2\n");
    let at: Vec<&str> = lines.iter().filter_map(|line| line.split(": ").next()).collect();
    assert!(at.is_sorted() && at.contains(&"f:1") && at.contains(&"f:4"), "{lines:#?}");
    assert!(!lines.iter().any(|line| line.contains("other")), "one key may be a slip: {lines:#?}");
    let lines = told("sds: 1\ntoken: 2\n");
    assert_eq!(lines.first().unwrap(), "f: this looks like the configuration of other");
    assert_eq!(told("a: [").len(), 1);
}

#[test]
fn files_are_limited_in_size_and_must_be_text() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.yaml");
    assert!(matches!(load(&path, read_server), Err(ConfigError::Read(_))));
    std::fs::write(&path, b"workers: 3\n").unwrap();
    assert_eq!(load(&path, read_server).unwrap().config.workers, 3);
    std::fs::write(&path, vec![b'#'; (MAX_FILE_SIZE + 1) as usize]).unwrap();
    assert!(matches!(load(&path, read_server), Err(ConfigError::Read(FileError::TooLarge { .. }))));
    std::fs::write(&path, b"a: \xff\n").unwrap();
    assert!(matches!(load(&path, read_server), Err(ConfigError::NotText { .. })));
}

#[test]
fn a_part_is_read_of_a_file_that_is_wrong_elsewhere() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("f.yaml");
    let part = |text: &str| {
        std::fs::write(&path, text).unwrap();
        load_part(&path, |s| s.defaulted("listen", "127.0.0.1:1", kind::socket_address(), "where"))
    };
    assert_eq!(part("listen: 127.0.0.1:2\nworkers: many\nunknown: 1\n").unwrap().port(), 2);
    assert_eq!(part("workers: many\n").unwrap().port(), 1);
    let wrong = part("workers: many\nlisten: nowhere\n").unwrap_err().to_string();
    assert!(wrong.contains("f.yaml:2: listen:") && !wrong.contains("workers"), "{wrong}");
    assert!(matches!(part("[").unwrap_err(), ConfigError::Syntax { .. }));
}

#[test]
fn a_foreign_document_is_read_and_what_is_none_is_told_by_its_place_alone() {
    assert_eq!(fields("kind: Secret\ndata: {a: b}").unwrap()["data"], json!({"a": "b"}));
    assert_eq!(fields(r#"{"kind": "Secret"}"#).unwrap()["kind"], "Secret");
    assert_eq!(fields("- a").unwrap_err(), (1, 1));
    assert_eq!(fields("a: b\nc: hunter2: x\n").unwrap_err().0, 2);
}
