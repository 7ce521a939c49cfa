//! Reads how the certificates of pods are signed that kubelets ask for.

use std::time::Duration;

use signet_runtime::config::{Section, kind};

use super::{ApiAccess, Cluster, PodCertificates};

/// The shortest lifetime that an API server takes.
const SHORTEST: Duration = Duration::from_secs(3600);

pub(super) fn read_pod_certificates(s: &mut Section<'_>) -> Option<PodCertificates> {
    let signer = s.required(
        "signer",
        kind::text().check(|name| signer_name(name)),
        "the name that pods give as `signerName` of a `podCertificate` volume source: a domain of yours, a slash and a name, as signet.internal/workload",
    );
    let at_once = s.defaulted("at_once", 16, kind::integer(1..=256), "requests that are worked on at a time");
    let kubelet_refresh = s.defaulted(
        "kubelet_refresh",
        "2m",
        kind::duration_within(Duration::from_secs(10)..=Duration::from_secs(3600)),
        "how long kubelets take to write a new ClusterTrustBundle into the volumes of pods: so long after its publication their pods count as having it",
    );
    Some(PodCertificates { signer: signer?, at_once: at_once?, kubelet_refresh: kubelet_refresh? })
}

/// Rules over the section and its cluster.
pub(super) fn check_pod_certificates(
    s: &mut Section<'_>,
    section: Option<&PodCertificates>,
    api_server: Option<&Option<ApiAccess>>,
) {
    if section.is_some() && matches!(api_server, Some(None)) && !s.is_described() {
        s.problem("api_server", "is missing: it is what `pod_certificates` are asked for at");
    }
}

/// Rules over all clusters and the lifetimes of leaves.
pub(super) fn check_lifetime(s: &mut Section<'_>, clusters: &[Cluster], max_ttl: Duration) {
    if clusters.iter().any(|cluster| cluster.pod_certificates.is_some()) && max_ttl < SHORTEST {
        s.problem(
            "svid.max_ttl",
            "is below 1h, the shortest lifetime that API servers take for `pod_certificates`; raise it or leave those out",
        );
    }
}

/// As Kubernetes has them: a domain, a slash, and dotted labels.
fn signer_name(name: &str) -> Result<(), &'static str> {
    let label = |label: &str| {
        let inside = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(inside)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let (domain, path) = name.split_once('/').ok_or("has no slash; write a domain of yours, a slash and a name")?;
    if name.len() > 571 || !domain.contains('.') || !domain.split('.').all(label) || !path.split('.').all(label) {
        return Err("is no signer name; write a domain of yours, a slash and a name, in small letters");
    }
    if domain == "kubernetes.io" || domain.ends_with(".kubernetes.io") {
        return Err("is of kubernetes.io, which is reserved for Kubernetes itself; take a domain of yours");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signer_name_is_a_domain_and_a_path_and_none_of_kubernetes_own() {
        for (name, good) in [
            ("signet.internal/workload", true),
            ("a.b/c.d-e", true),
            ("signet.internal", false),
            ("internal/workload", false),
            ("signet.internal/", false),
            ("signet.internal/a/b", false),
            ("Signet.internal/workload", false),
            ("signet.internal/work load", false),
            ("-a.b/c", false),
            ("kubernetes.io/kubelet-serving", false),
            ("x.kubernetes.io/y", false),
        ] {
            assert_eq!(signer_name(name).is_ok(), good, "{name}");
        }
    }
}
