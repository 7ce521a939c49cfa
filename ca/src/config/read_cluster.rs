//! Reads what is said about a cluster: how its workloads prove themselves.

use std::time::Duration;

use serde_json::json;
use signet_runtime::config::{Section, Variant, kind};

use super::read::trust_domain_kind;
use super::read_authority::DAY;
use super::read_pod_certificates::{check_pod_certificates, read_pod_certificates};
use super::read_publish::read_publish;
use super::{ApiAccess, ClientCertificates, Cluster, KeySource, Publish, ReviewLimits, Tokens};
use signet_core::identity::{TrustDomain, WorkloadId};

/// What a program is told that has nothing to speak to API servers with.
#[cfg(not(feature = "kubernetes"))]
const WITHOUT_KUBERNETES: &str = "asks an API server, which this program was built without; use one that was built with the \
    feature `kubernetes`, as by default, or `tokens.kind: jwks` with a file";

pub(super) fn read_cluster(s: &mut Section<'_>) -> Option<Cluster> {
    let id = s.required("id", name_kind(), "the value of the clusterid header; Istio's clients send `Kubernetes`");
    let aliases = s.defaulted("aliases", json!([]), kind::list_of(name_kind()), "other values for the same cluster");
    let trust_domain = s.required("trust_domain", trust_domain_kind(), "the trust domain of the cluster's workloads");
    let audiences = s.defaulted(
        "audiences",
        json!(["istio-ca"]),
        kind::list_of(kind::text()),
        "audiences of which a token needs one",
    );
    let api_server = s.optional(
        "api_server",
        kind::parsed("`in-cluster` or the path of a kubeconfig", api_access),
        "the cluster's API server: `in-cluster` for the one of the pod that this CA runs in, or a kubeconfig file, whose current context counts; files are read again when they change",
    );
    let trusted_node_accounts = s.defaulted(
        "trusted_node_accounts",
        json!([]),
        kind::list_of(kind::parsed("namespace/service account", node_account)),
        "service accounts of node agents such as ztunnel, as namespace/name: they get certificates for the service accounts that have a pod on their node. Pods and nodes are watched for that",
    );
    let tokens = s.section("tokens", "how tokens are verified", read_tokens);
    let client_certificates = s.optional_section(
        "client_certificates",
        "whether a certificate of this CA, shown in the TLS handshake, stands in for a token when a request has none; `{}` turns it on",
        read_client_certificates,
    );
    let pod_certificates = s.optional_section(
        "pod_certificates",
        "whether this CA signs the certificates of pods that kubelets ask for with PodCertificateRequests, at `api_server`",
        read_pod_certificates,
    );
    let publish = s.optional_section(
        "publish",
        "where the trust bundle is published in the cluster, at `api_server`; nowhere when absent. docs/kubernetes.md tells what that means for rotations",
        read_publish,
    );
    if audiences.as_ref().is_some_and(Vec::is_empty) {
        s.problem("audiences", "is empty: a token for anybody else would be accepted; name at least one");
    }
    if let (Some(None), Some(tokens)) = (&api_server, &tokens)
        && tokens.ask_the_api_server()
        && !s.is_described()
    {
        s.problem("api_server", "is missing: it is what `tokens` asks");
    }
    if let (Some(None), Some(accounts)) = (&api_server, &trusted_node_accounts)
        && !accounts.is_empty()
    {
        s.problem("api_server", "is missing: it is what tells the pods beside those of `trusted_node_accounts`");
    }
    let live = matches!(client_certificates, Some(Some(ClientCertificates { live_objects: true, .. })));
    if live && matches!(api_server, Some(None)) && !s.is_described() {
        s.problem("api_server", "is missing: it is what tells the pods for `client_certificates.live_objects`");
    }
    check_pod_certificates(s, pod_certificates.as_ref().and_then(Option::as_ref), api_server.as_ref());
    #[cfg(not(feature = "kubernetes"))]
    if matches!(pod_certificates, Some(Some(_))) {
        s.problem("pod_certificates", WITHOUT_KUBERNETES);
    }
    let publishes = matches!(&publish, Some(Some(publish)) if *publish != Publish::default());
    if publishes && matches!(api_server, Some(None)) && !s.is_described() {
        s.problem("api_server", "is missing: it is where `publish` publishes");
    }
    #[cfg(not(feature = "kubernetes"))]
    if publishes {
        s.problem("publish", WITHOUT_KUBERNETES);
    }
    #[cfg(not(feature = "kubernetes"))]
    if live {
        s.problem("client_certificates", WITHOUT_KUBERNETES);
    }
    #[cfg(not(feature = "kubernetes"))]
    if trusted_node_accounts.as_ref().is_some_and(|accounts| !accounts.is_empty()) {
        s.problem("trusted_node_accounts", WITHOUT_KUBERNETES);
    }
    #[cfg(not(feature = "kubernetes"))]
    if tokens.as_ref().is_some_and(|tokens| tokens.ask_the_api_server() || tokens.ask_the_issuer()) {
        s.problem("tokens", WITHOUT_KUBERNETES);
    }
    Some(Cluster {
        id: id?,
        aliases: aliases?,
        trust_domain: trust_domain?,
        audiences: audiences?,
        api_server: api_server?,
        trusted_node_accounts: trusted_node_accounts?,
        tokens: tokens?,
        client_certificates: client_certificates?,
        pod_certificates: pod_certificates?,
        publish: publish?.unwrap_or_default(),
    })
}

fn read_client_certificates(s: &mut Section<'_>) -> Option<ClientCertificates> {
    let last_token_within = s.defaulted(
        "last_token_within",
        "7d",
        kind::duration_within(Duration::from_secs(60)..=365 * DAY),
        "how long ago the holder may have shown a token for the last time; what is issued to a certificate has the same time, so that no chain of certificates lasts longer",
    );
    let live_objects = s.defaulted(
        "live_objects",
        false,
        kind::boolean(),
        "whether the holder's service account and pod have to be there, and the pod must not have ended: both are followed at `api_server` for that",
    );
    Some(ClientCertificates { last_token_within: last_token_within?, live_objects: live_objects? })
}

/// Rules over all clusters.
pub(super) fn check_clusters(s: &mut Section<'_>, clusters: &[Cluster], trust_domain: Option<&TrustDomain>) {
    if clusters.is_empty() && !s.is_described() {
        s.problem("clusters", "is empty: nobody could get a certificate; name at least one cluster");
    }
    let mut seen = std::collections::BTreeSet::new();
    for (index, cluster) in clusters.iter().enumerate() {
        for name in std::iter::once(&cluster.id).chain(&cluster.aliases) {
            if !seen.insert(name.as_str()) {
                s.problem(&format!("clusters[{index}].id"), format!("the id or alias {name:?} is used twice"));
            }
        }
        let same = clusters.iter().take(index).find(|other| write_alike(cluster, other));
        if let Some(other) = same {
            s.problem(
                &format!("clusters[{index}].publish"),
                format!(
                    "writes what {:?} writes at the same `api_server`: choose other names in one of them",
                    other.id
                ),
            );
        }
        if let Some(trust_domain) = trust_domain
            && cluster.trust_domain != *trust_domain
        {
            s.problem(
                &format!("clusters[{index}].trust_domain"),
                format!("is {}, but this CA certifies {trust_domain} only", cluster.trust_domain),
            );
        }
    }
}

/// Whether two clusters are one API server, in which both would write an object of one name.
fn write_alike(one: &Cluster, other: &Cluster) -> bool {
    let objects = |cluster: &Cluster| {
        let maps = cluster.publish.config_maps.as_ref();
        let bundle = cluster.publish.cluster_trust_bundle.as_ref();
        let lists = maps.filter(|maps| maps.revocation_lists).map(|maps| maps.revocation_name.clone());
        let maps = maps.map(|maps| maps.name.clone()).into_iter().chain(lists).map(|name| ("ConfigMap", name));
        maps.chain(bundle.map(|bundle| ("ClusterTrustBundle", format!("{bundle:?}")))).collect::<Vec<_>>()
    };
    one.api_server == other.api_server && objects(one).iter().any(|object| objects(other).contains(object))
}

/// `namespace/name` of a service account.
fn node_account(text: &str) -> Result<(String, String), &'static str> {
    let names = text.split_once('/').filter(|(namespace, name)| {
        let domain = TrustDomain::parse("x").ok();
        domain.is_some_and(|domain| WorkloadId::new(domain, namespace, name).is_ok())
    });
    let (namespace, name) = names.ok_or("write namespace/name, as istio-system/ztunnel")?;
    Ok((namespace.to_owned(), name.to_owned()))
}

pub(super) fn api_access(text: &str) -> Result<ApiAccess, &'static str> {
    match text {
        "in-cluster" => Ok(ApiAccess::InCluster),
        path if path.contains('/') => Ok(ApiAccess::Kubeconfig(path.into())),
        _ => Err("is neither `in-cluster` nor a path; write ./NAME for a file of this directory"),
    }
}

fn read_tokens(s: &mut Section<'_>) -> Option<Tokens> {
    let jwks = Variant::new("jwks", "with the cluster's published keys, without asking about each token", read_jwks);
    let review = Variant::new(
        "token-review",
        "by the cluster's API server, which is asked about each token (TokenReview)",
        read_review,
    );
    s.one_of("kind", None, &[jwks, review], "the way of verification; docs/kubernetes.md tells what each can know")
}

fn read_jwks(s: &mut Section<'_>) -> Option<Tokens> {
    let issuers = s.required(
        "issuer",
        kind::one_or_several(kind::text().check(not_legacy)),
        "the exact `iss` claim of the cluster's tokens; several while the cluster changes it",
    );
    let file = s.optional(
        "file",
        kind::path(),
        "JSON Web Key Set; reloaded when its content changes. Keys that cannot be used are left out with a warning",
    );
    let from = s.optional(
        "from",
        kind::choice(&[("api-server", From::ApiServer), ("issuer", From::Issuer)]),
        "where the keys are read instead of from `file`: `api-server`, at `api_server`, or `issuer`, by the discovery document of the first `issuer`. Read every minute, and at once for a token with an unknown key; kept while nobody answers",
    );
    let ca_file = s.optional(
        "issuer_ca_file",
        kind::path(),
        "PEM file of the roots that the issuer's server certificate chains to; those of the system when absent",
    );
    let leeway = read_leeway(s);
    let max_age = s.defaulted(
        "max_age",
        "24h",
        kind::duration_within(Duration::from_secs(60)..=365 * DAY),
        "a token is believed until `exp`, or `kubernetes.io.warnafter` if it has one, but no longer than this, and two minutes for its renewal, after `iat`; no less than four fifths of the `expirationSeconds` of projected tokens, when kubelet renews them, or 24h",
    );
    let live_objects = s.defaulted(
        "live_objects",
        false,
        kind::boolean(),
        "whether a token is believed only while its service account and pod are there, and the pod has not ended: pods and service accounts are followed at `api_server` for that, and while they are not known, callers are told to retry",
    );
    let keys = match (file?, from?, ca_file?) {
        (Some(file), None, None) => Some(KeySource::File(file)),
        (None, Some(From::ApiServer), None) => Some(KeySource::ApiServer),
        (None, Some(From::Issuer), ca_file) => Some(KeySource::Issuer { ca_file }),
        (None, None, _) if s.is_described() => None,
        (None, None, _) => {
            s.problem("file", "is missing, and so is `from`: say where the keys are");
            None
        }
        (Some(_), Some(_), _) => {
            s.problem("from", "and `file` name two places for the keys; leave one of them out");
            None
        }
        (_, _, Some(_)) => {
            s.problem("issuer_ca_file", "is for `from: issuer` only");
            None
        }
    };
    let issuers = issuers?;
    let keys = keys?;
    if let (KeySource::Issuer { .. }, Some(first)) = (&keys, issuers.first())
        && !first.starts_with("https://")
    {
        s.problem("issuer", format!("{first:?} is no https URL, which `from: issuer` needs"));
    }
    Some(Tokens::Jwks { issuers, keys, leeway: leeway?, max_age: max_age?, live_objects: live_objects? })
}

#[derive(Clone, Copy)]
enum From {
    ApiServer,
    Issuer,
}

fn read_review(s: &mut Section<'_>) -> Option<Tokens> {
    let issuers = s.optional(
        "issuer",
        kind::one_or_several(kind::text().check(not_legacy)),
        "the exact `iss` claim of the cluster's tokens; several while the cluster changes it. Tokens of others are refused without asking; all are asked about when absent",
    );
    let leeway = read_leeway(s);
    let remember = s.defaulted(
        "remember",
        "60s",
        kind::duration_or_zero().check(|time| {
            if *time <= Duration::from_secs(600) { Ok(()) } else { Err("is more than 10m") }
        }),
        "how long a yes of the API server is remembered, but never beyond the end of the token: so much longer than its own 10s is a token believed whose pod is gone; 0s asks each time",
    );
    let deadline = s.defaulted(
        "deadline",
        "3s",
        kind::duration_within(Duration::from_millis(100)..=Duration::from_secs(9)),
        "how long one review may take; the caller is told to retry then",
    );
    let at_once = s.defaulted(
        "at_once",
        64,
        kind::integer(1..=1000),
        "reviews on the way at a time; a caller for one more is told to retry at once",
    );
    let limits = ReviewLimits { remember: remember?, deadline: deadline?, at_once: at_once? };
    Some(Tokens::Review { issuers: issuers?.unwrap_or_default(), leeway: leeway?, limits })
}

fn read_leeway(s: &mut Section<'_>) -> Option<Duration> {
    s.defaulted(
        "leeway",
        "60s",
        kind::duration_within(Duration::ZERO..=Duration::from_secs(600)),
        "how far the cluster's clock may be off: a token counts so much longer and sooner. Kubernetes itself allows 60s",
    )
}

fn not_legacy(issuer: &String) -> Result<(), &'static str> {
    if issuer == "kubernetes/serviceaccount" {
        return Err("is the issuer of legacy tokens, which are never accepted; see /.well-known/openid-configuration");
    }
    Ok(())
}

fn name_kind() -> kind::Kind<String> {
    kind::text().check(|name| {
        let plain = name.len() <= 253 && name.bytes().all(|byte| byte.is_ascii_graphic());
        if plain { Ok(()) } else { Err("may hold at most 253 printable ASCII characters and no space") }
    })
}
