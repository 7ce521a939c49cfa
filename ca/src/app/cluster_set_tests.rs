//! What is kept of a cluster when its configuration changes, and what ends.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use signet_core::identity::TrustDomain;
use signet_runtime::supervisor::Supervisor;

use super::*;
use crate::config::{KeySource, Tokens};
use crate::publishing::tests::surroundings;

/// The key of RFC 7517 appendix A.1.
const JWKS: &str = r#"{"keys": [{"kty": "EC", "crv": "P-256", "kid": "1",
    "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4", "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}"#;

struct World {
    set: ClusterSet,
    readiness: Readiness,
    metrics: Metrics,
    publishers: Publishers,
    directory: tempfile::TempDir,
    _supervisor: Supervisor,
}

fn cluster(id: &str, file: PathBuf) -> Cluster {
    Cluster {
        id: id.into(),
        aliases: Vec::new(),
        trust_domain: TrustDomain::parse("cluster.local").unwrap(),
        audiences: vec!["istio-ca".into()],
        api_server: None,
        trusted_node_accounts: Vec::new(),
        tokens: Tokens::Jwks {
            issuers: vec!["i".into()],
            keys: KeySource::File(file),
            leeway: Duration::from_secs(60),
            max_age: Duration::from_secs(3600),
            live_objects: false,
        },
        client_certificates: None,
        pod_certificates: None,
        publish: Publish::default(),
    }
}

impl World {
    fn new() -> Self {
        let (readiness, metrics, supervisor) = (Readiness::new(), Metrics::new(), Supervisor::new());
        let reviews = Reviews::new(&metrics).unwrap();
        let (_sender, answering) = tokio::sync::watch::channel(None);
        let signers = Signers::new(&metrics, Arc::new(signet_core::clock::SystemClock), answering).unwrap();
        let (publishers, calls) = (Publishers::default(), Calls::new(&metrics).unwrap());
        let around = Surroundings {
            readiness: readiness.clone(),
            spawner: supervisor.spawner(),
            reviews,
            signers,
            calls,
            publishing: surroundings(),
            publishers: publishers.clone(),
            others: vec!["file/host/roots.pem".to_owned()],
            notices: crate::notices::tests::unheard().0,
        };
        let set = ClusterSet::start(around, Vec::new());
        set.measure(&metrics).unwrap();
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("jwks.json"), JWKS).unwrap();
        Self { set, readiness, metrics, publishers, directory, _supervisor: supervisor }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn cluster(&self, id: &str) -> Cluster {
        cluster(id, self.path("jwks.json"))
    }

    async fn take(&self, clusters: &[Cluster]) -> Arc<Vec<Arc<Running>>> {
        self.set.replace(self.set.open(clusters).await.unwrap());
        self.set.running()
    }

    fn conditions(&self) -> Vec<String> {
        self.readiness.snapshot().checks.into_iter().map(|check| check.name).collect()
    }

    fn gauge(&self, name: &str) -> f64 {
        let text = self.metrics.render().unwrap();
        let line = text.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap().to_owned();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }
}

#[tokio::test]
async fn an_unchanged_cluster_goes_on_and_one_that_is_gone_takes_everything_with_it() {
    let world = World::new();
    let before = world.take(&[world.cluster("a"), world.cluster("b")]).await;
    assert_eq!(world.conditions(), ["tokens of a", "tokens of b"]);
    assert_eq!([world.gauge("signet_ca_clusters"), world.gauge("signet_ca_token_keys")], [2.0, 2.0]);
    let found = world.set.served().select(Some("b")).unwrap();
    let after = world.take(&[world.cluster("c"), world.cluster("a")]).await;
    assert!(Arc::ptr_eq(&before[0], &after[1]), "as it was");
    assert!(world.set.served().select(Some("b")).is_err());
    assert_eq!(world.set.served().select(None).unwrap().id, "c");
    assert!(!found.ended.is_cancelled(), "held by this test");
    drop(before);
    assert!(found.ended.is_cancelled() && !after[1].served.ended.is_cancelled());
    // Its task owns its condition.
    world.readiness.wait_for(|now| now.checks.iter().all(|check| check.name != "tokens of b")).await;
    assert_eq!(world.conditions(), ["tokens of a", "tokens of c"]);
    assert!(world.readiness.snapshot().ready);
    world.take(&[world.cluster("c")]).await;
    assert_eq!([world.gauge("signet_ca_clusters"), world.gauge("signet_ca_token_keys")], [1.0, 1.0]);
}

#[tokio::test]
async fn what_was_believed_is_forgotten_when_other_rules_count_and_kept_when_only_names_change() {
    let world = World::new();
    let first = world.take(&[world.cluster("a")]).await[0].clone();
    let named = Cluster { aliases: vec!["other".into()], ..world.cluster("a") };
    let second = world.take(std::slice::from_ref(&named)).await[0].clone();
    assert!(Arc::ptr_eq(&first.believer, &second.believer));
    assert!(world.set.served().select(Some("other")).is_ok());
    drop(first);
    assert!(!second.served.ended.is_cancelled());
    drop(second);
    for other in [
        Cluster { audiences: vec!["x".into()], ..named.clone() },
        Cluster { trust_domain: TrustDomain::parse("other").unwrap(), ..named.clone() },
        cluster("a", world.path("../").join(world.directory.path().file_name().unwrap()).join("jwks.json")),
    ] {
        let before = world.take(std::slice::from_ref(&named)).await[0].clone();
        let after = world.take(&[other]).await[0].clone();
        assert!(!Arc::ptr_eq(&before.believer, &after.believer));
        let ended = before.served.ended.clone();
        drop(before);
        assert!(ended.is_cancelled());
    }
}

#[tokio::test]
async fn clusters_that_cannot_be_opened_are_all_told_and_change_nothing() {
    let world = World::new();
    let before = world.take(&[world.cluster("a")]).await;
    let wrong = [world.cluster("a"), cluster("b", world.path("none")), cluster("c", Path::new("/").into())];
    let problems = world.set.open(&wrong).await.err().unwrap();
    assert_eq!(problems.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [1, 2]);
    assert!(Arc::ptr_eq(&before[0], &world.set.running()[0]));
    assert_eq!(world.conditions(), ["tokens of a"]);
}

#[cfg(feature = "kubernetes")]
#[tokio::test]
async fn pods_are_followed_on_while_the_api_server_and_what_is_followed_are_the_same() {
    use crate::config::ApiAccess;
    let world = World::new();
    let kubeconfig = |name: &str| {
        let text = "apiVersion: v1\nkind: Config\ncurrent-context: a\nusers: [{name: a, user: {token: t}}]\n\
            clusters: [{name: a, cluster: {server: \"http://127.0.0.1:1\"}}]\n\
            contexts: [{name: a, context: {cluster: a, user: a}}]\n";
        std::fs::write(world.path(name), text).unwrap();
        Some(ApiAccess::Kubeconfig(world.path(name)))
    };
    let trusting = |names: &[&str]| names.iter().map(|name| ("ns".to_owned(), (*name).to_owned())).collect();
    let first =
        Cluster { api_server: kubeconfig("one"), trusted_node_accounts: trusting(&["ztunnel"]), ..world.cluster("a") };
    let before = world.take(std::slice::from_ref(&first)).await[0].clone();
    let same = Cluster { trusted_node_accounts: trusting(&["other", "ztunnel"]), ..first.clone() };
    let after = world.take(&[same]).await[0].clone();
    let pods = |running: &Running| running.pods.clone().unwrap();
    assert!(Arc::ptr_eq(&pods(&before), &pods(&after)) && Arc::ptr_eq(&before.believer, &after.believer));
    assert!(!Arc::ptr_eq(&before.served, &after.served));
    let moved = Cluster { api_server: kubeconfig("two"), ..first.clone() };
    let elsewhere = world.take(&[moved]).await[0].clone();
    assert!(!Arc::ptr_eq(&pods(&before), &pods(&elsewhere)));
    let plain = Cluster { trusted_node_accounts: Vec::new(), ..first };
    assert!(world.take(&[plain]).await[0].pods.is_none());
    drop((before, after, elsewhere));
    world.readiness.wait_for(|now| now.checks.iter().all(|check| check.name != "pods of a")).await;
    assert_eq!(world.gauge("signet_ca_pods_unknown"), 0.0);
}

#[cfg(feature = "kubernetes")]
#[tokio::test]
async fn publishers_are_expected_from_the_configuration_on_and_go_with_their_cluster() {
    use crate::config::{ApiAccess, ConfigMaps, Istiod};
    let world = World::new();
    let names = || world.publishers.names().join(" ");
    assert_eq!(names(), "file/host/roots.pem");
    let text = "apiVersion: v1\nkind: Config\ncurrent-context: a\nusers: [{name: a, user: {token: t}}]\n\
        clusters: [{name: a, cluster: {server: \"http://127.0.0.1:1\"}}]\n\
        contexts: [{name: a, context: {cluster: a, user: a}}]\n";
    std::fs::write(world.path("kubeconfig"), text).unwrap();
    let maps = ConfigMaps {
        name: "roots".into(),
        key: "roots.pem".into(),
        labels: Default::default(),
        revocation_lists: false,
        revocation_name: "lists".into(),
        revocation_key: "lists.pem".into(),
        namespaces: String::new(),
        except: Vec::new(),
        istiod: Istiod::Leave,
    };
    let publishing = |maps: &ConfigMaps| Cluster {
        api_server: Some(ApiAccess::Kubeconfig(world.path("kubeconfig"))),
        publish: Publish { config_maps: Some(maps.clone()), cluster_trust_bundle: None },
        ..world.cluster("a")
    };
    let before = world.take(&[publishing(&maps), world.cluster("b")]).await[0].clone();
    let both = names();
    assert!(both.starts_with("config-map/a/") && both.ends_with(" file/host/roots.pem"), "{both}");
    let published = |running: &Running| running.publishing.clone().unwrap();
    let named = Cluster { aliases: vec!["other".into()], ..publishing(&maps) };
    let after = world.take(&[named]).await[0].clone();
    assert!(Arc::ptr_eq(&published(&before), &published(&after)), "goes on");
    let other = world.take(&[publishing(&ConfigMaps { key: "ca.pem".into(), ..maps })]).await[0].clone();
    assert_ne!(names(), both, "other places have nothing yet");
    assert!(!Arc::ptr_eq(&published(&after), &published(&other)) && Arc::ptr_eq(&after.believer, &other.believer));
    let about = "publisher config-map/a/";
    world.readiness.wait_for(|now| now.checks.iter().any(|check| check.name.starts_with(about))).await;
    drop((before, after, other));
    world.take(&[world.cluster("a")]).await;
    assert_eq!(names(), "file/host/roots.pem");
    world.readiness.wait_for(|now| now.checks.iter().all(|check| !check.name.starts_with(about))).await;
}
