//! The chart with backends that certify elsewhere: what it makes of its values is a configuration that the CA takes, the pods have the
//! files that it names, and the account has the rights that the page about cert-manager documents, and no more.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::Dev;
use signet_tests::harness::helm::{chart, helm};
use signet_tests::harness::plugged::OwnCa;
use signet_tests::tools;

use super::cert_manager::documented;
use super::chart::{rendered_as, the};

/// Values of each backend that certifies elsewhere, by a name.
pub(super) fn backends() -> Vec<(&'static str, Value)> {
    let vault = json!({"mount": "pki_mesh", "issuer": "mesh"});
    vec![
        (
            "Vault by the account",
            json!({
                "backend": "vault", "vault": {"address": "https://vault.example:8200", "caConfigMap": "vault-ca"},
                "config": {"authority": {"vault": vault}},
            }),
        ),
        (
            "Vault by an AppRole",
            json!({
                "backend": "vault",
                "vault": {
                    "address": "https://vault.example:8200", "caSecret": "vault-ca", "caKey": "ca.pem",
                    "auth": {"method": "app-role", "mount": "mesh", "roleId": "an-id", "secretIdSecret": "app-role"},
                },
            }),
        ),
        (
            "a root of its own after leaves of Vault",
            json!({
                "backend": "native", "formerBackend": "vault",
                "vault": {"address": "https://vault.example:8200", "caConfigMap": "vault-ca"},
                "config": {"authority": {"former": {"vault": {"mode": "leaf", "role": "signet-mesh"}}}},
            }),
        ),
        ("cert-manager after leaves of another issuer there", after_cert_manager(cert_manager(false))),
        ("cert-manager", cert_manager(false)),
        ("cert-manager that is approved here", cert_manager(true)),
        (
            "a ClusterIssuer and roots elsewhere",
            json!({
                "backend": "cert-manager",
                "config": {"authority": {"cert_manager": {
                    "namespace": "pki", "issuer": {"name": "mesh-ca", "kind": "ClusterIssuer"}, "approve": true,
                    "roots": {"from": "secret", "namespace": "trust", "name": "roots"},
                }}},
            }),
        ),
    ]
}

/// The same after an issuer of cert-manager that has signed leaves.
fn after_cert_manager(mut values: Value) -> Value {
    values["formerBackend"] = json!("cert-manager");
    values["config"]["authority"]["former"] = json!({"cert_manager": {
        "namespace": "before", "issuer": {"name": "leaves"}, "roots": {"from": "config-map", "name": "their-roots"},
        "mode": "leaf",
    }});
    values
}

/// Those of an issuer of cert-manager.
fn cert_manager(approve: bool) -> Value {
    json!({
        "backend": "cert-manager",
        "config": {"authority": {"cert_manager": {
            "namespace": "signet-system", "issuer": {"name": "mesh-ca"}, "approve": approve,
            "roots": {"from": "config-map", "name": "mesh-roots"},
        }}},
    })
}

fn objects(values: &Value) -> Outcome<Vec<Value>> {
    rendered_as("mesh", "signet-system", values)
}

/// The files that a pod has, by what is mounted where and what is in it.
fn files(pod: &Value) -> Vec<String> {
    let all = |at: &str| pod.pointer(at).and_then(Value::as_array).cloned().unwrap_or_default();
    let volumes = all("/spec/volumes");
    let mut found = Vec::new();
    for mount in all("/spec/containers/0/volumeMounts") {
        let volume = volumes.iter().find(|volume| volume["name"] == mount["name"]).cloned().unwrap_or_default();
        let path = mount["mountPath"].as_str().unwrap_or_default();
        let items =
            ["/secret/items", "/configMap/items"].map(|at| volume.pointer(at).and_then(Value::as_array).cloned());
        let items = items.into_iter().flatten().flatten();
        let token = volume.pointer("/projected/sources/0/serviceAccountToken").cloned();
        let paths = items.chain(token).filter_map(|item| item["path"].as_str().map(str::to_owned));
        found.extend(paths.map(|file| format!("{path}/{file}")));
    }
    found
}

#[test]
#[ignore = "needs Helm; run it with: make test-kubernetes"]
fn the_ca_takes_the_configuration_of_each_backend_and_its_pods_have_the_files_in_it() -> Outcome {
    for (name, values) in backends() {
        let objects = objects(&values)?;
        let text = the(&objects, "ConfigMap", "mesh-signet-ca")?["data"]["signet-ca.yaml"].as_str().unwrap_or_default();
        let config: Value = serde_saphyr::from_str(text).map_err(Failure::while_doing("read a configuration"))?;
        let mut authority = config["authority"].clone();
        // The chart says nothing of what the CA does without a word.
        assert_eq!(authority["backend"].as_str().unwrap_or("native"), values["backend"], "{name}");
        let dev = Dev::plain()?;
        let own = OwnCa::root("of vault")?;
        let named: Vec<(&str, &str)> = vec![
            ("/vault/ca_file", &own.certificate),
            ("/vault/auth/token_file", "a"),
            ("/vault/auth/secret_id_file", "a"),
            ("/former/vault/ca_file", &own.certificate),
            ("/former/vault/auth/token_file", "a"),
        ];
        let mut pods = vec![the(&objects, "StatefulSet", "mesh-signet-ca")?["spec"]["template"].clone()];
        pods.push(the(&objects, "Job", "mesh-signet-ca-init")?["spec"]["template"].clone());
        pods.push(the(&objects, "Pod", "mesh-signet-ca-check")?.clone());
        for (index, (at, content)) in named.into_iter().enumerate() {
            let Some(slot) = authority.pointer_mut(at) else { continue };
            let path = slot.as_str().unwrap_or_default().to_owned();
            for pod in &pods {
                ensure(files(pod).contains(&path), || format!("{name}: no {path} in {pod:#}"))?;
            }
            let file = dev.path(&format!("file-{index}"));
            std::fs::write(&file, content).map_err(Failure::io("write a file"))?;
            *slot = json!(file);
        }
        dev.set_ca("authority", authority)?;
        let output = tools::output(&mut dev.ca_command(&["check"])?)?;
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        // An account is in pods only.
        let outside = ["authority.cert_manager", "authority.former.cert_manager"]
            .iter()
            .any(|it| said.contains(&format!("{it}.api_server: in-cluster credentials: KUBERNETES_SERVICE_HOST")));
        ensure(output.status.success() || outside, || format!("{name}: {said}"))?;
        // What asks cert-manager needs a token of the account, and nothing else does but the CA itself.
        let job = &pods[1]["spec"]["automountServiceAccountToken"];
        let asks = ["backend", "formerBackend"].iter().any(|key| values[*key] == "cert-manager");
        assert_eq!(*job, json!(asks), "{name}");
    }
    Ok(())
}

/// The rights in the rules of these kinds, one a line: `namespace verb group/resource [name]`.
fn rights(objects: &[Value], namespace: Option<&str>) -> BTreeSet<String> {
    let kind = if namespace.is_some() { "Role" } else { "ClusterRole" };
    let here = |object: &&Value| object["metadata"]["namespace"].as_str() == namespace;
    let roles = objects.iter().filter(|object| object["kind"] == kind).filter(here);
    let texts = |rule: &Value, key: &str| -> Vec<String> {
        let all = rule[key].as_array().into_iter().flatten();
        all.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let mut all = BTreeSet::new();
    for rule in roles.flat_map(|role| role["rules"].as_array().cloned().unwrap_or_default()) {
        for verb in texts(&rule, "verbs") {
            for resource in texts(&rule, "resources") {
                let group = texts(&rule, "apiGroups").concat();
                all.insert(format!("{verb} {group}/{resource} {}", texts(&rule, "resourceNames").join(" ")));
            }
        }
    }
    all
}

/// The same of rules in a file of `deploy/cert-manager`.
fn documented_rights(names: &[&str]) -> Outcome<BTreeSet<String>> {
    let mut all = BTreeSet::new();
    for name in names {
        let rules = documented(name)?;
        let role = json!({"kind": "Role", "metadata": {"namespace": "x"}, "rules": rules});
        all.extend(rights(&[role], Some("x")));
    }
    // That of one issuer is enough, and the chart knows its name.
    Ok(all
        .into_iter()
        .map(|right| right.replace("get cert-manager.io/issuers ", "get cert-manager.io/issuers mesh-ca"))
        .collect())
}

#[test]
#[ignore = "needs Helm; run it with: make test-kubernetes"]
fn the_account_has_the_rights_that_the_page_about_cert_manager_documents_and_no_more() -> Outcome {
    let system = Some("signet-system");
    for approve in [false, true] {
        let objects = objects(&cert_manager(approve))?;
        let mut found = rights(&objects, system);
        let cluster = rights(&objects, None);
        found.extend(cluster.iter().filter(|right| right.contains("cert-manager.io")).cloned());
        let files: &[&str] = if approve { &["rbac.yaml", "approve.yaml"] } else { &["rbac.yaml"] };
        assert_eq!(found, documented_rights(files)?, "{approve}");
        let name = "signet-system-mesh-signet-ca-cert-manager";
        let bound = the(&objects, "RoleBinding", name)?;
        assert_eq!(bound["subjects"][0]["name"], "mesh-signet-ca");
        assert_eq!(bound["roleRef"]["name"], name);
    }
    // What has signed leaves before is asked with rights of its own, beside those of now.
    let both = objects(&after_cert_manager(cert_manager(false)))?;
    let now = rights(&objects(&cert_manager(false))?, system);
    assert_eq!(rights(&both, system), now);
    let before = rights(&both, Some("before"));
    let renamed = now.iter().map(|right| right.replace("mesh-ca", "leaves").replace("mesh-roots", "their-roots"));
    assert_eq!(before, renamed.collect());
    let others = backends();
    let (_, elsewhere) = others.last().ok_or_else(|| Failure::unexpected("no values"))?;
    let elsewhere = objects(elsewhere)?;
    assert_eq!(rights(&elsewhere, Some("trust")), BTreeSet::from(["get /secrets roots".to_owned()]));
    let cluster = rights(&elsewhere, None);
    for right in [
        "get cert-manager.io/clusterissuers mesh-ca",
        "approve cert-manager.io/signers clusterissuers.cert-manager.io/mesh-ca",
    ] {
        ensure(cluster.contains(right), || format!("{right} is not in {cluster:#?}"))?;
    }
    ensure(rights(&elsewhere, Some("pki")).iter().all(|right| !right.contains("issuers")), || {
        "one right too many".to_owned()
    })?;
    // With another cluster's cert-manager, or another backend, there are none.
    let mut remote = cert_manager(true);
    remote["config"]["authority"]["cert_manager"]["api_server"] = json!("/etc/signet/more/kubeconfig");
    for values in [remote, json!({})] {
        let objects = objects(&values)?;
        ensure(objects.iter().all(|object| object["kind"] != "Role"), || format!("rights with {values}"))?;
    }
    Ok(())
}

#[test]
#[ignore = "needs Helm; run it with: make test-kubernetes"]
fn what_a_backend_lacks_is_named_by_its_path() -> Outcome {
    let chart = chart().display().to_string();
    let app_role = json!({"backend": "vault", "vault": {"address": "https://v:8200", "auth": {"method": "app-role"}}});
    for (values, words) in [
        (json!({"backend": "files"}), "at '/backend': value must be one of 'native', 'vault', 'cert-manager'"),
        (json!({"backend": "vault"}), "at '/vault/address'"),
        (app_role, "at '/vault/auth/secretIdSecret'"),
        (json!({"backend": "cert-manager"}), "at '/config': missing property 'authority'"),
        (json!({"formerBackend": "native"}), "at '/formerBackend'"),
        (json!({"formerBackend": "cert-manager", "config": {"authority": {}}}), "missing property 'former'"),
        (
            json!({"formerBackend": "vault", "config": {"authority": {"former": {"vault": {"mode": "leaf", "role": "a"}}}}}),
            "at '/vault/address'",
        ),
        (
            json!({"backend": "vault", "vault": {"address": "https://v:8200"}, "caFiles": {"secret": "cacerts"}}),
            "at '/caFiles/secret'",
        ),
        (
            json!({"config": {"authority": {"vault": {"address": "https://v:8200"}}}}),
            "at '/config/authority/vault': additional properties 'address' not allowed",
        ),
    ] {
        let (good, text) = helm(&["template", "mesh", &chart], std::slice::from_ref(&values))?;
        ensure(!good && text.contains(words), || format!("{values}: {text}"))?;
    }
    Ok(())
}
