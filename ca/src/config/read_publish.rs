//! Reads where the trust bundle is published in a cluster. Names are held to the rules of the API server, which would refuse
//! them only when something is published first.

use std::collections::BTreeMap;

use serde_json::json;
use signet_runtime::config::{Section, kind};

use super::publish::{ClusterTrustBundle, ConfigMaps, Istiod, Publish};

/// The label of everything that is published; see `plugins/src/publisher`.
const OURS: &str = "app.kubernetes.io/managed-by";

pub(super) fn read_publish(s: &mut Section<'_>) -> Option<Publish> {
    let config_maps = s.optional_section(
        "config_maps",
        "a ConfigMap with the roots in each namespace, where istio-agent and ztunnel look for them; `{}` turns it on",
        read_config_maps,
    );
    let cluster_trust_bundle = s.optional_section(
        "cluster_trust_bundle",
        "a ClusterTrustBundle with the roots, for pods that mount one; `{}` turns it on",
        read_cluster_trust_bundle,
    );
    if matches!((&config_maps, &cluster_trust_bundle), (Some(None), Some(None))) && !s.is_described() {
        s.problem(
            "config_maps",
            "is missing, and so is cluster_trust_bundle: nothing is published; add one, or take `publish` out",
        );
    }
    Some(Publish { config_maps: config_maps?, cluster_trust_bundle: cluster_trust_bundle? })
}

fn read_config_maps(s: &mut Section<'_>) -> Option<ConfigMaps> {
    let name = s.defaulted("name", "istio-ca-root-cert", object_name(), "the name of the ConfigMap");
    let key = s.defaulted(
        "key",
        "root-cert.pem",
        data_key(),
        "the key in it that holds the roots as PEM; others stay as they are",
    );
    let labels = s.defaulted(
        "labels",
        json!([]),
        kind::list_of(kind::parsed("label as key=value", label)),
        "labels of both ConfigMaps, as key=value; others stay. All have `app.kubernetes.io/managed-by=signet-ca`",
    );
    let revocation_lists = s.defaulted(
        "revocation_lists",
        true,
        kind::boolean(),
        "whether revocation lists are published, when there are any, in a ConfigMap of their own",
    );
    let revocation_name = s.defaulted("revocation_name", "istio-ca-crl", object_name(), "the name of that one");
    let revocation_key =
        s.defaulted("revocation_key", "ca-crl.pem", data_key(), "the key in it that holds the lists as PEM");
    let namespaces = s.optional(
        "namespaces",
        kind::parsed("label selector", selector),
        "a label selector of the namespaces that get them, as `istio.io/rev=blue,env in (a, b)`; all when absent",
    );
    let except = s.defaulted(
        "except",
        json!(["kube-system", "kube-public", "kube-node-lease"]),
        kind::list_of(kind::text().check(|name| dns_label(name))),
        "namespaces that get none",
    );
    let istiod = s.defaulted(
        "istiod",
        "leave",
        kind::choice(&[("leave", Istiod::Leave), ("replace", Istiod::Replace)]),
        "what becomes of a ConfigMap that istiod writes: `leave` leaves it, and holds rotations as long as it lacks roots; `replace` writes it, for an istiod that has stopped",
    );
    for (field, name) in [("name", &name), ("revocation_name", &revocation_name)] {
        if name.as_deref() == Some(ROOTS_OF_API_SERVERS) {
            s.problem(
                field,
                format!("is {ROOTS_OF_API_SERVERS}, which holds the roots of the API server; choose another name"),
            );
        }
    }
    if let (Some(name), Some(other), Some(true)) = (&name, &revocation_name, &revocation_lists)
        && name == other
    {
        s.problem("revocation_name", format!("{other:?} is `name` already: roots and lists need a ConfigMap each"));
    }
    let mut distinct_labels: BTreeMap<String, String> = BTreeMap::new();
    for (label, value) in labels? {
        if distinct_labels.insert(label.clone(), value).is_some() {
            s.problem("labels", format!("{label:?} is there twice; an object has each label once"));
        }
    }
    if distinct_labels.contains_key(OURS) {
        s.problem("labels", format!("name {OURS:?}, by which this CA knows what it has made; leave it out"));
    }
    Some(ConfigMaps {
        name: name?,
        key: key?,
        labels: distinct_labels,
        revocation_lists: revocation_lists?,
        revocation_name: revocation_name?,
        revocation_key: revocation_key?,
        namespaces: namespaces?.unwrap_or_default(),
        except: except?,
        istiod: istiod?,
    })
}

fn read_cluster_trust_bundle(s: &mut Section<'_>) -> Option<ClusterTrustBundle> {
    let signer = s.defaulted(
        "signer",
        "signet.internal/workload",
        kind::text().check(|name| signer_name(name)),
        "the signer that it is of; the CA's account needs the verb `attest` on it",
    );
    let name = s.defaulted(
        "name",
        "root-cert",
        object_name(),
        "the end of its name, which begins with the signer's: `signet.internal:workload:root-cert`",
    );
    let (signer, name) = (signer?, name?);
    let whole = signer.len().saturating_add(name.len()).saturating_add(1);
    if whole > MOST {
        s.problem("name", format!("makes a name of {whole} characters with the signer's; {MOST} are possible"));
    }
    Some(ClusterTrustBundle { signer, name })
}

/// The longest name of an object.
const MOST: usize = 253;

pub(super) fn object_name() -> kind::Kind<String> {
    kind::text().check(|name| dns_subdomain(name))
}

pub(super) fn dns_label(name: &str) -> Result<(), String> {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let ends = !name.starts_with('-') && !name.ends_with('-');
    if (1..=63).contains(&name.len()) && name.bytes().all(inner) && ends {
        return Ok(());
    }
    Err(format!("{name:?} is no name of a namespace: a-z, 0-9 and - within, at most 63 characters"))
}

fn dns_subdomain(name: &str) -> Result<(), String> {
    let part = |part: &str| {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        !part.is_empty() && part.bytes().all(inner) && !part.starts_with('-') && !part.ends_with('-')
    };
    if name.len() <= MOST && name.split('.').all(part) {
        return Ok(());
    }
    Err(format!(
        "{name:?} is no name of an object: a-z, 0-9, - and . with a letter or digit at each end of each part, at most {MOST} characters"
    ))
}

pub(super) fn data_key() -> kind::Kind<String> {
    kind::text().check(|key| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if key.len() <= MOST && key.bytes().all(inner) && key != "." && !key.starts_with("..") {
            return Ok(());
        }
        Err(format!("{key:?} is no key of a ConfigMap: A-Z, a-z, 0-9, -, _ and ., not beginning with .., at most {MOST} characters"))
    })
}

fn is_label_word(word: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let end = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = word.as_bytes();
    bytes.len() <= 63 && word.bytes().all(inner) && end(bytes.first()) && end(bytes.last())
}

fn label_key(key: &str) -> Result<(), String> {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    if prefix.is_none_or(|prefix| dns_subdomain(prefix).is_ok()) && is_label_word(name) {
        return Ok(());
    }
    Err(format!(
        "{key:?} is no key of a label: [domain/]name, the name of A-Z, a-z, 0-9, -, _ and . with a letter or digit at both ends, at most 63 characters"
    ))
}

fn label_value(value: &str) -> Result<(), String> {
    if value.is_empty() || is_label_word(value) {
        return Ok(());
    }
    Err(format!(
        "{value:?} is no value of a label: A-Z, a-z, 0-9, -, _ and . with a letter or digit at both ends, at most 63 characters"
    ))
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write key=value")?;
    label_key(key)?;
    label_value(value)?;
    Ok((key.to_owned(), value.to_owned()))
}

/// The grammar of `kubectl -l`: requirements with commas between them.
fn selector(text: &str) -> Result<String, String> {
    let mut depth = 0_usize;
    let outside = |letter: char| {
        match letter {
            '(' => depth = depth.saturating_add(1),
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        letter == ',' && depth == 0
    };
    for requirement in text.split(outside) {
        required(requirement.trim())?;
    }
    Ok(text.to_owned())
}

fn required(text: &str) -> Result<(), String> {
    let wrong = || {
        format!(
            "{text:?} is no requirement: write key, !key, key=value, key!=value, key in (a, b) or key notin (a, b), with commas between several"
        )
    };
    if let Some((key, values)) = text.strip_suffix(')').and_then(|text| text.split_once('(')) {
        let key = key.trim_end();
        let key = key.strip_suffix(" notin").or_else(|| key.strip_suffix(" in")).ok_or_else(wrong)?;
        label_key(key.trim())?;
        return values.split(',').try_for_each(|value| label_value(value.trim()));
    }
    if let Some(key) = text.strip_prefix('!') {
        return label_key(key.trim());
    }
    let pair = ["!=", "==", "="].into_iter().find_map(|sign| text.split_once(sign));
    let Some((key, value)) = pair else { return label_key(text).map_err(|_| wrong()) };
    label_key(key.trim())?;
    label_value(value.trim())
}

/// ConfigMaps of this name hold the roots of API servers, for whoever speaks to one.
const ROOTS_OF_API_SERVERS: &str = "kube-root-ca.crt";

fn signer_name(name: &str) -> Result<(), String> {
    if name.split_once('/').is_some_and(|(domain, _)| domain == "kubernetes.io" || domain.ends_with(".kubernetes.io")) {
        return Err(format!(
            "{name:?} is of kubernetes.io, which is reserved for Kubernetes itself; take a domain of yours"
        ));
    }
    let is_domain = |domain: &str| domain.contains('.') && dns_subdomain(domain).is_ok();
    if name.split_once('/').is_some_and(|(domain, path)| is_domain(domain) && dns_subdomain(path).is_ok()) {
        return Ok(());
    }
    Err(format!("{name:?} is no name of a signer: write DOMAIN/NAME, as signet.internal/workload"))
}

#[cfg(test)]
#[path = "publish_tests.rs"]
mod tests;
