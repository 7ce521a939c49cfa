//! Where the trust bundle is published: the defaults, and that each wrong name is told with its rule, all at once.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use signet_runtime::config::{ConfigError, parse};

use super::super::read::read;
use super::*;

/// What is read of a cluster with this section.
fn published(section: &str) -> Result<Publish, Vec<String>> {
    let text = format!("{}    api_server: in-cluster\n    publish: {section}\n", super::super::tests::SMALLEST);
    match parse("f", &text, read) {
        Ok(loaded) => Ok(loaded.config.clusters.into_iter().next().unwrap().publish),
        Err(ConfigError::Problems(problems)) => Err(problems.to_string().lines().map(str::to_owned).collect()),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn nothing_is_published_unless_a_section_says_so_and_an_empty_one_does_with_defaults() {
    let none = parse("f", super::super::tests::SMALLEST, read).unwrap().config;
    assert_eq!(none.clusters.first().unwrap().publish, Publish::default());
    let nothing = published("{}").unwrap_err();
    assert!(nothing.len() == 1 && nothing[0].contains("nothing is published"), "{nothing:?}");
    let all = published("{ config_maps: {}, cluster_trust_bundle: {} }").unwrap();
    let maps = all.config_maps.clone().unwrap();
    assert_eq!([maps.name, maps.key], ["istio-ca-root-cert", "root-cert.pem"]);
    assert_eq!([maps.revocation_name, maps.revocation_key], ["istio-ca-crl", "ca-crl.pem"]);
    assert_eq!(maps.except, ["kube-system", "kube-public", "kube-node-lease"]);
    assert_eq!((maps.istiod, maps.revocation_lists, maps.namespaces.as_str()), (Istiod::Leave, true, ""));
    let bundle = all.cluster_trust_bundle.clone().unwrap();
    assert_eq!((bundle.signer.as_str(), bundle.name.as_str()), ("signet.internal/workload", "root-cert"));
    let names = all.publishers("a");
    assert!(names[0].starts_with("config-map/a/istio-ca-root-cert."), "{names:?}");
    assert_eq!(names[1], "cluster-trust-bundle/a/signet.internal:workload:root-cert");
    // What was in place says nothing of other places.
    let another = |change: fn(&mut ConfigMaps)| {
        let mut maps = all.config_maps.clone().unwrap();
        change(&mut maps);
        Publish { config_maps: Some(maps), cluster_trust_bundle: None }.publishers("a")
    };
    let same = another(|maps| maps.labels.clear());
    assert_eq!(same, [names[0].clone()]);
    for change in [
        (|maps| maps.name.push('x')) as fn(&mut ConfigMaps),
        |maps| maps.key.push('x'),
        |maps| maps.namespaces.push('x'),
        |maps| maps.except.clear(),
        |maps| maps.revocation_lists = !maps.revocation_lists,
    ] {
        assert_ne!(another(change), same);
    }
}

#[test]
fn every_wrong_name_is_told_with_its_rule_at_once() {
    let problems = published(
        "{ config_maps: { name: Roots, key: ../x, revocation_name: a..b, revocation_key: 'a b', labels: [x, 'a/b/c=d', 'a=-'], \
         namespaces: 'a in b', except: [kube_system], istiod: fight }, cluster_trust_bundle: { signer: workload, name: a/b } }",
    )
    .unwrap_err();
    for (field, rule) in [
        ("config_maps.name", "is no name of an object"),
        ("config_maps.key", "is no key of a ConfigMap"),
        ("config_maps.revocation_name", "is no name of an object"),
        ("config_maps.revocation_key", "is no key of a ConfigMap"),
        ("config_maps.labels[0]", "write key=value"),
        ("config_maps.labels[1]", "is no key of a label"),
        ("config_maps.labels[2]", "is no value of a label"),
        ("config_maps.namespaces", "is no requirement"),
        ("config_maps.except[0]", "is no name of a namespace"),
        ("config_maps.istiod", "is not one of"),
        ("cluster_trust_bundle.signer", "is no name of a signer"),
        ("cluster_trust_bundle.name", "is no name of an object"),
    ] {
        let field = format!("publish.{field}: ");
        assert!(
            problems.iter().any(|line| line.contains(&field) && line.contains(rule)),
            "{field}{rule}: {problems:#?}"
        );
    }
    assert_eq!(problems.len(), 12, "{problems:#?}");
}

#[test]
fn what_only_together_is_wrong_is_told_too() {
    for (section, words) in [
        ("{ config_maps: { name: one, revocation_name: one } }", "roots and lists need a ConfigMap each"),
        ("{ config_maps: { name: kube-root-ca.crt } }", "the roots of the API server"),
        (
            "{ cluster_trust_bundle: { signer: kubernetes.io/kube-apiserver-serving } }",
            "reserved for Kubernetes itself",
        ),
        ("{ config_maps: { labels: [app.kubernetes.io/managed-by=me] } }", "by which this CA knows what it has made"),
        ("{ config_maps: { labels: [x=y, a=b, x=z] } }", "\"x\" is there twice"),
        (&format!("{{ cluster_trust_bundle: {{ name: {} }} }}", "a".repeat(240)), "265 characters"),
    ] {
        let problems = published(section).unwrap_err();
        assert!(problems.len() == 1 && problems.iter().all(|line| line.contains(words)), "{section}: {problems:#?}");
    }
    let two = |names: &str| {
        let cluster = |id: &str, more: &str| {
            format!(
                "  - {{ id: {id}, trust_domain: cluster.local, api_server: in-cluster, tokens: {{ kind: token-review }}, \
             publish: {{ config_maps: {{ {more} }} }} }}\n"
            )
        };
        let (head, _) = super::super::tests::SMALLEST.split_once("clusters:\n").unwrap();
        parse("f", &format!("{head}clusters:\n{}{}", cluster("a", ""), cluster("b", names)), read).map(drop)
    };
    let problem = two("labels: [a=b]").unwrap_err().to_string();
    assert!(problem.contains("clusters[1].publish") && problem.contains("writes what \"a\" writes"), "{problem}");
    two("name: others, revocation_lists: false").unwrap();
    assert!(published("{ config_maps: { name: one, revocation_name: one, revocation_lists: false } }").is_ok());
    let text = format!("{}    publish: {{ config_maps: {{}} }}\n", super::super::tests::SMALLEST);
    let problem = parse("f", &text, read).unwrap_err();
    let ConfigError::Problems(problems) = problem else { panic!("{problem}") };
    assert!(problems.to_string().contains("api_server: is missing"), "{problems}");
}

#[test]
fn selectors_are_those_of_kubectl() {
    for good in ["a", "!a", "a=b", "a==b", "a!=b", "x.io/a=", "a in (b, c),d notin (e)", "a , b=c", "istio.io/rev=blue"]
    {
        assert!(selector(good).is_ok(), "{good}: {:?}", selector(good));
    }
    for bad in ["", "a,", "a b", "a in", "a in b", "a within (b)", "a=b c", "=b", "a=b=c", "!", "a in (b))"] {
        assert!(selector(bad).is_err(), "{bad}");
    }
}
