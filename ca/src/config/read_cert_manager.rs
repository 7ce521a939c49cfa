//! Reads what is said about cert-manager as the backend. Names are held to the rules of the API server, which would refuse them
//! only when something is asked of it.

use std::time::Duration;

use signet_runtime::config::{Section, Variant, kind};

use super::cert_manager::{CertManager, CertManagerRoots, ObjectKey};
use super::read_cluster::api_access;
use super::read_publish::{data_key, dns_label, object_name};

pub(super) fn read_cert_manager(s: &mut Section<'_>) -> Option<CertManager> {
    let api_server = s.defaulted(
        "api_server",
        "in-cluster",
        kind::parsed("`in-cluster` or the path of a kubeconfig", api_access),
        "the API server of the cluster that cert-manager runs in: `in-cluster`, or a kubeconfig file, whose current context counts; files are read again when they change",
    );
    let namespace = s.required(
        "namespace",
        kind::text().check(|name| dns_label(name)),
        "the namespace in which CertificateRequests are made: that of an `Issuer`",
    );
    let issuer = s.section("issuer", "the issuer that certifies issuing CAs", |s| {
        let name = s.required("name", object_name(), "its name");
        let kind = s.defaulted(
            "kind",
            "Issuer",
            kind::text().check(|kind| kind_name(kind)),
            "its kind: `Issuer`, `ClusterIssuer`, or that of an external issuer",
        );
        let group = s.defaulted("group", "cert-manager.io", object_name(), "the API group of that kind");
        Some((name?, kind?, group?))
    });
    let of_requests = namespace.clone().unwrap_or_default();
    let roots = s.section("roots", "the roots that the issuer's certificates lead to", |s| {
        let object = |s: &mut Section<'_>| read_object(s, &of_requests);
        s.one_of(
            "from",
            None,
            &[
                Variant::new("file", "a PEM file", |s: &mut Section<'_>| {
                    let meaning = "PEM file of the roots, of which the first is that of the issuer; read again when it changes";
                    s.required("file", kind::path(), meaning).map(CertManagerRoots::File)
                }),
                Variant::new("config-map", "a ConfigMap", |s: &mut Section<'_>| object(s).map(CertManagerRoots::ConfigMap)),
                Variant::new("secret", "a Secret", |s: &mut Section<'_>| object(s).map(CertManagerRoots::Secret)),
                Variant::new(
                    "status-ca",
                    "`status.ca` of a trial request each hour: whoever may write the status of CertificateRequests names the root of the mesh then, and many issuers leave it empty",
                    |_| Some(CertManagerRoots::StatusCa),
                ),
            ],
            "where they are; a change is followed like that of CA files",
        )
    });
    let deadline = s.defaulted(
        "deadline",
        "30s",
        kind::duration_within(Duration::from_secs(1)..=Duration::from_secs(600)),
        "how long one certificate may take, approval included",
    );
    let leaves = s.one_of(
        "mode",
        Some("intermediate"),
        &[
            Variant::new(
                "intermediate",
                "issuing CAs whose keys are kept here, which sign leaves at full speed",
                |_| Some(None),
            ),
            Variant::new("leaf", "every leaf, with a CertificateRequest of its own", |s: &mut Section<'_>| {
                let meaning = "how many leaves may be under way at the same time; further requests wait";
                s.defaulted("at_once", 16, kind::integer(1..=256), meaning).map(Some)
            }),
        ],
        "what it signs",
    );
    let approve = s.defaulted(
        "approve",
        false,
        kind::boolean(),
        "whether this CA approves its own requests, where nobody else does; that needs two more rights (deploy/cert-manager/approve.yaml)",
    );
    let (name, kind, group) = issuer?;
    Some(CertManager {
        api_server: api_server?,
        namespace: namespace?,
        name,
        kind,
        group,
        roots: roots?,
        deadline: deadline?,
        approve: approve?,
        leaves: leaves?,
    })
}

fn read_object(s: &mut Section<'_>, of_requests: &str) -> Option<ObjectKey> {
    let namespace = s.optional(
        "namespace",
        kind::text().check(|name| dns_label(name)),
        "its namespace; that of the requests when absent",
    );
    let name = s.required("name", object_name(), "its name");
    let key = s.defaulted(
        "key",
        "ca.crt",
        data_key(),
        "the key in it that holds the roots as PEM, of which the first is that of the issuer",
    );
    Some(ObjectKey { namespace: namespace?.unwrap_or_else(|| of_requests.to_owned()), name: name?, key: key? })
}

fn kind_name(kind: &str) -> Result<(), String> {
    let is_plain = kind.bytes().all(|byte| byte.is_ascii_alphanumeric()) && kind.len() <= 63;
    if is_plain && kind.bytes().next().is_some_and(|first| first.is_ascii_uppercase()) {
        return Ok(());
    }
    Err(format!("{kind:?} is no kind: letters and digits, beginning with a capital, as ClusterIssuer"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
    use signet_runtime::config::{ConfigError, parse};

    use super::super::tests::SMALLEST;
    use super::super::{ApiAccess, Backend, read};
    use super::*;

    fn parsed(section: &str) -> Result<CertManager, Vec<String>> {
        let text = format!("{SMALLEST}authority:\n  backend: cert-manager\n  cert_manager: {section}\n");
        match parse("f", &text, read) {
            Ok(loaded) => match loaded.config.authority.backend {
                Backend::CertManager(section) => Ok(*section),
                other => panic!("{other:?}"),
            },
            Err(ConfigError::Problems(problems)) => Err(problems.to_string().lines().map(str::to_owned).collect()),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn the_smallest_section_asks_an_issuer_of_its_own_namespace_in_its_own_cluster() {
        let read =
            parsed("{ namespace: mesh, issuer: { name: ca }, roots: { from: config-map, name: roots } }").unwrap();
        let roots = ObjectKey { namespace: "mesh".into(), name: "roots".into(), key: "ca.crt".into() };
        let expected = CertManager {
            api_server: ApiAccess::InCluster,
            namespace: "mesh".into(),
            name: "ca".into(),
            kind: "Issuer".into(),
            group: "cert-manager.io".into(),
            roots: CertManagerRoots::ConfigMap(roots),
            deadline: Duration::from_secs(30),
            approve: false,
            leaves: None,
        };
        assert_eq!(read, expected);
        for (roots, expected) in [
            ("{ from: file, file: /roots.pem }", CertManagerRoots::File("/roots.pem".into())),
            ("{ from: status-ca }", CertManagerRoots::StatusCa),
            (
                "{ from: secret, namespace: other, name: ca, key: tls.crt }",
                CertManagerRoots::Secret(ObjectKey {
                    namespace: "other".into(),
                    name: "ca".into(),
                    key: "tls.crt".into(),
                }),
            ),
        ] {
            let text = format!("{{ namespace: mesh, issuer: {{ name: ca }}, roots: {roots} }}");
            assert_eq!(parsed(&text).unwrap().roots, expected);
        }
    }

    #[test]
    fn all_mistakes_are_told_at_once_each_with_its_path() {
        let found = parsed(
            "{ api_server: kubeconfig, namespace: Mesh, issuer: { kind: issuer, group: a_b }, roots: { from: vault }, \
             deadline: 0s, approve: maybe, mode: both }",
        );
        let found = found.unwrap_err();
        for path in [
            "api_server",
            "namespace",
            "issuer.name",
            "issuer.kind",
            "issuer.group",
            "roots.from",
            "deadline",
            "approve",
            "mode",
        ] {
            let path = format!("authority.cert_manager.{path}: ");
            assert!(found.iter().any(|line| line.contains(&path)), "{path} in {found:#?}");
        }
        let missing = parsed("{}").unwrap_err();
        for path in ["namespace", "issuer.name", "roots.from"] {
            assert!(missing.iter().any(|line| line.contains(path)), "{path} in {missing:#?}");
        }
        let text = "{ namespace: mesh, issuer: { name: ca }, roots: { from: file, name: roots } }";
        assert!(parsed(text).unwrap_err().iter().any(|line| line.contains("roots.name")));
    }
}
