//! How clusters and the configuration file look in `status`.

use serde_json::{Value, json};
use signet_proto::admin::v1alpha1::{Cluster, ClusterKeys, ClusterPods, ClusterReviews, ClusterSigner, Configuration};
use signet_runtime::output::Table;

use super::describe;
use super::printable;
use super::rotation_view::{moment, some};
use super::view::View;

/// One cluster.
pub(super) fn cluster_json(cluster: &Cluster) -> Value {
    json!({
        "id": cluster.id,
        "aliases": cluster.aliases,
        "trust_domain": cluster.trust_domain,
        "tokens": describe::tokens(cluster.tokens),
        "api_server": some(&cluster.api_server),
        "credentials_problem": some(&cluster.credentials_problem),
        "keys": cluster.keys.as_ref().map(|keys| json!({
            "usable": keys.usable, "left_out": keys.left_out,
            "read_at": moment(keys.read_at.as_ref()), "problem": some(&keys.problem),
        })),
        "reviews": cluster.reviews.as_ref().map(|reviews| json!({
            "at": moment(reviews.at.as_ref()), "result": some(&reviews.result), "problem": some(&reviews.problem),
        })),
        "pods": cluster.pods.as_ref().map(|pods| json!({
            "pods": pods.pods, "nodes": pods.nodes, "accounts": pods.accounts, "synced": pods.synced,
            "heard_at": moment(pods.heard_at.as_ref()), "problem": some(&pods.problem),
        })),
        "signer": cluster.signer.as_ref().map(|signer| json!({
            "name": signer.name, "version": some(&signer.version), "open": signer.open, "issued": signer.issued,
            "denied": signer.denied, "heard_at": moment(signer.heard_at.as_ref()), "problem": some(&signer.problem),
        })),
    })
}

/// The configuration file.
pub(super) fn configuration_json(configuration: &Configuration) -> Value {
    json!({
        "applied_at": moment(configuration.applied_at.as_ref()),
        "problem": some(&configuration.problem),
        "awaits_restart": configuration.awaits_restart,
    })
}

/// The configuration file in a line.
pub(super) fn configuration_text(configuration: &Configuration, view: &View) -> String {
    let read = format!("read {}", view.time(configuration.applied_at.as_ref()));
    let waits = match configuration.awaits_restart.as_slice() {
        [] => String::new(),
        fields => format!("; takes effect after a restart: {}", printable(&fields.join(", "))),
    };
    match configuration.problem.as_str() {
        "" => format!("{read}{waits}"),
        problem => format!("{read}{waits}; REFUSED as it is now: {}", printable(problem)),
    }
}

/// All clusters, each with what was heard of it last and what is wrong.
pub(super) fn clusters_table(clusters: &[Cluster], view: &View) -> Table {
    let mut table =
        Table::new(["cluster", "trust domain", "tokens", "keys", "last review", "pods", "signer", "problem"]);
    for cluster in clusters {
        table.row([
            printable(&cluster.id).as_str(),
            &printable(&cluster.trust_domain),
            &describe::tokens(cluster.tokens),
            &cluster.keys.as_ref().map_or_else(nothing, |keys| keys_text(keys, view)),
            &cluster.reviews.as_ref().map_or_else(nothing, |reviews| reviews_text(reviews, view)),
            &cluster.pods.as_ref().map_or_else(nothing, |pods| pods_text(pods, view)),
            &cluster.signer.as_ref().map_or_else(nothing, signer_text),
            &problems(cluster),
        ]);
    }
    table
}

fn nothing() -> String {
    "-".to_owned()
}

fn keys_text(keys: &ClusterKeys, view: &View) -> String {
    let count = keys.usable.map_or_else(|| "none".to_owned(), |count| count.to_string());
    let left_out = if keys.left_out > 0 { format!(", {} left out", keys.left_out) } else { String::new() };
    match &keys.read_at {
        Some(at) => format!("{count}{left_out}, read {}", view.time(Some(at))),
        None => format!("{count}{left_out}"),
    }
}

fn reviews_text(reviews: &ClusterReviews, view: &View) -> String {
    match &reviews.at {
        Some(at) => format!("{} {}", printable(&reviews.result), view.time(Some(at))),
        None => "none yet".to_owned(),
    }
}

fn pods_text(pods: &ClusterPods, view: &View) -> String {
    let state = if pods.synced { "" } else { "NOT KNOWN, " };
    let heard = match &pods.heard_at {
        Some(at) => format!("heard {}", view.time(Some(at))),
        None => "never heard".to_owned(),
    };
    format!("{state}{} pods, {} nodes, {heard}", pods.pods, pods.nodes)
}

fn signer_text(signer: &ClusterSigner) -> String {
    let version = if signer.version.is_empty() { "NOT SERVED" } else { &printable(&signer.version) };
    let ClusterSigner { open, issued, denied, .. } = signer;
    format!("{} ({version}): {open} open, {issued} issued, {denied} denied", printable(&signer.name))
}

/// All that is wrong with a cluster.
fn problems(cluster: &Cluster) -> String {
    let keys = cluster.keys.as_ref().map(|keys| keys.problem.as_str()).unwrap_or_default();
    let reviews = cluster.reviews.as_ref().map(|reviews| reviews.problem.as_str()).unwrap_or_default();
    let pods = cluster.pods.as_ref().map(|pods| pods.problem.as_str()).unwrap_or_default();
    let signer = cluster.signer.as_ref().map(|signer| signer.problem.as_str()).unwrap_or_default();
    let all = [
        ("credentials", cluster.credentials_problem.as_str()),
        ("keys", keys),
        ("reviews", reviews),
        ("pods", pods),
        ("signer", signer),
    ];
    let told: Vec<String> = all
        .into_iter()
        .filter(|(_, problem)| !problem.is_empty())
        .map(|(what, problem)| format!("{what}: {}", printable(problem)))
        .collect();
    if told.is_empty() { nothing() } else { told.join("; ") }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
    use super::*;
    use prost_types::Timestamp;
    use signet_proto::admin::v1alpha1::TokenKind;
    use time::OffsetDateTime;

    #[test]
    fn a_cluster_in_order_says_what_was_heard_and_one_that_is_not_says_why() {
        let at = Some(Timestamp { seconds: 60, nanos: 0 });
        let good = Cluster {
            id: "a".into(),
            trust_domain: "td".into(),
            tokens: TokenKind::Jwks.into(),
            keys: Some(ClusterKeys { usable: Some(2), left_out: 1, read_at: at, problem: String::new() }),
            ..Cluster::default()
        };
        let bad = Cluster {
            id: "b".into(),
            trust_domain: "td".into(),
            tokens: TokenKind::TokenReview.into(),
            keys: Some(ClusterKeys::default()),
            reviews: Some(ClusterReviews { at, result: "api_forbidden".into(), problem: "403".into() }),
            pods: Some(ClusterPods { problem: "pods_not_synced\u{1b}".into(), ..ClusterPods::default() }),
            ..Cluster::default()
        };
        let view = View::at(OffsetDateTime::from_unix_timestamp(120).unwrap());
        let text = clusters_table(&[good.clone(), bad.clone()], &view).render(view.width);
        for expected in [
            "2, 1 left out, read 1m ago",
            "api_forbidden 1m ago",
            "NOT KNOWN, 0 pods, 0 nodes, never heard",
            "reviews: 403; pods: pods_not_synced\\u{1b}",
        ] {
            assert!(text.contains(expected), "{expected}: {text}");
        }
        let json = cluster_json(&good);
        assert_eq!(
            (&json["reviews"], &json["keys"]["problem"], &json["tokens"]),
            (&Value::Null, &Value::Null, &json!("jwks"))
        );
        assert_eq!(cluster_json(&bad)["keys"]["usable"], Value::Null);
        assert_eq!(cluster_json(&bad)["tokens"], "token-review");
    }

    #[test]
    fn a_refused_file_and_fields_that_wait_are_told_of() {
        let view = View::at(OffsetDateTime::from_unix_timestamp(120).unwrap());
        let mut configuration =
            Configuration { applied_at: Some(Timestamp { seconds: 60, nanos: 0 }), ..Configuration::default() };
        assert_eq!(configuration_text(&configuration, &view), "read 1m ago");
        configuration.awaits_restart = vec!["log.level".into()];
        configuration.problem = "f:1: x".into();
        assert_eq!(
            configuration_text(&configuration, &view),
            "read 1m ago; takes effect after a restart: log.level; REFUSED as it is now: f:1: x"
        );
    }
}
