//! Where the CA of an istiod is: a directory, a Secret in a file, or a Secret of a cluster. Nothing that was read is ever told.

use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};
use signet_plugins::authority::CaFiles;
use signet_runtime::config::fields;
use signet_runtime::files::{self, FileError};
use signet_runtime::output::error_chain;
use zeroize::Zeroizing;

use super::super::kubernetes::Server;
use crate::config::Config;

/// A Secret has at most 1 MiB, in base64 and with its text around it.
const SECRET: usize = 2 << 20;

/// How long a cluster may take to answer.
const DEADLINE: Duration = Duration::from_secs(15);

/// Where the files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A directory with them.
    Directory(PathBuf),
    /// A file with a Secret, as YAML or JSON.
    File(PathBuf),
    /// A Secret of a cluster.
    Secret {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// The id of the cluster; without, the first one whose API server is asked.
        cluster: Option<String>,
    },
}

impl Source {
    /// What is meant: something that is there, or else a Secret as `NAMESPACE/NAME`.
    ///
    /// # Errors
    /// It is neither.
    pub fn parse(text: &str, cluster: Option<&str>) -> Result<Self, String> {
        let path = Path::new(text);
        if cluster.is_none() && path.is_dir() {
            return Ok(Self::Directory(path.to_owned()));
        }
        if cluster.is_none() && path.exists() {
            return Ok(Self::File(path.to_owned()));
        }
        match text.split_once('/') {
            Some((namespace, name)) if is_name(namespace) && is_name(name) => {
                let (namespace, name) = (namespace.to_owned(), name.to_owned());
                Ok(Self::Secret { namespace, name, cluster: cluster.map(str::to_owned) })
            }
            _ => Err(format!(
                "there is no directory and no file {text}, and it does not name a Secret either, which would be \
                 NAMESPACE/NAME"
            )),
        }
    }
}

/// Whether Kubernetes may call something so.
fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    !text.is_empty() && text.len() <= 253 && text.bytes().all(plain) && !text.starts_with('.')
}

/// The files, and where they were found, for people.
pub(super) async fn read(source: &Source, config: Option<&Config>) -> Result<(String, CaFiles), Vec<String>> {
    match source {
        Source::Directory(directory) => Ok((directory.display().to_string(), of_directory(directory).await?)),
        Source::File(file) => {
            let shown = file.display().to_string();
            let content = files::read_in_time(file, SECRET as u64).await.map_err(|error| vec![error_chain(&error)])?;
            let found = of_text(&shown, &Zeroizing::new(content)).map_err(|problem| vec![problem])?;
            Ok((shown, found))
        }
        Source::Secret { namespace, name, cluster } => {
            let shown = format!("Secret {namespace}/{name}");
            let content = ask(config, cluster.as_deref(), namespace, name).await.map_err(|problem| vec![problem])?;
            let found = of_text(&shown, &content).map_err(|problem| vec![problem])?;
            Ok((shown, found))
        }
    }
}

async fn of_directory(directory: &Path) -> Result<CaFiles, Vec<String>> {
    let (mut found, mut problems) = (CaFiles::default(), Vec::new());
    for file in CaFiles::known() {
        match files::read_in_time(&directory.join(file.name), file.limit).await {
            Ok(content) => found.put(file.name, content),
            Err(FileError::Read { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => problems.push(error_chain(&error)),
        }
    }
    if problems.is_empty() { Ok(found) } else { Err(problems) }
}

/// The files in a Secret, as `kubectl get secret -o yaml` or `-o json` shows it.
fn of_text(shown: &str, content: &[u8]) -> Result<CaFiles, String> {
    let text = std::str::from_utf8(content).map_err(|_| format!("{shown} is no text"))?;
    if text.contains("-----BEGIN ") && !text.contains("kind") {
        return Err(format!("{shown} is a PEM file; name the directory that it is in, or a file with a Secret"));
    }
    let object = fields(text).map_err(|(line, column)| {
        format!("{shown} is neither YAML nor JSON with an object of Kubernetes: line {line}, column {column}")
    })?;
    if object.get("kind").and_then(Value::as_str) != Some("Secret") {
        return Err(format!(
            "{shown} holds no Secret; write one with: kubectl -n istio-system get secret NAME -o yaml"
        ));
    }
    let mut found = CaFiles::default();
    let part = |name: &str| object.get(name).and_then(Value::as_object).into_iter().flat_map(Map::iter);
    for (name, value) in part("data") {
        let bytes =
            value.as_str().map_or_else(|| value.is_null().then(Vec::new), |text| STANDARD.decode(text.trim()).ok());
        let name = name.escape_debug().to_string();
        found.put(&name, bytes.ok_or_else(|| format!("{shown}: data.{name} is not base64"))?);
    }
    for (name, value) in part("stringData") {
        found.put(name, value.as_str().unwrap_or_default().as_bytes().to_vec());
    }
    Ok(found)
}

/// The Secret, by the API server of a cluster of the configuration.
async fn ask(
    config: Option<&Config>,
    id: Option<&str>,
    namespace: &str,
    name: &str,
) -> Result<Zeroizing<Vec<u8>>, String> {
    let secret = format!("{namespace}/{name}");
    let otherwise = format!(
        "otherwise write it to a file that nobody else reads, and name that: kubectl -n {namespace} get secret {name} -o yaml"
    );
    let config = config.ok_or_else(|| {
        format!(
            "there is no {secret} in the file system, and to ask a cluster for the Secret takes --config; {otherwise}"
        )
    })?;
    let is_meant = |cluster: &&crate::config::Cluster| match id {
        Some(id) => cluster.id == id,
        None => cluster.api_server.is_some(),
    };
    let cluster = config.clusters.iter().find(is_meant).ok_or_else(|| match id {
        Some(id) => format!("--cluster: there is no cluster {:?} under `clusters`", id),
        None => format!(
            "there is no {secret} in the file system, and no cluster under `clusters` has an `api_server` that could be \
             asked for the Secret; {otherwise}"
        ),
    })?;
    let server =
        Server::open(cluster).await.map_err(|error| format!("cluster {}: {}", cluster.id, error_chain(&error)))?;
    let server = server.ok_or_else(|| {
        format!("cluster {} has no `api_server` that could be asked for the Secret {secret}; {otherwise}", cluster.id)
    })?;
    let path = format!("/api/v1/namespaces/{namespace}/secrets/{name}");
    let answer = tokio::time::timeout(DEADLINE, server.get(&path, SECRET)).await;
    let answer = answer.unwrap_or_else(|_| Err(format!("no answer within {} s", DEADLINE.as_secs())));
    answer.map(Zeroizing::new).map_err(|problem| {
        let hint = if problem.contains("404") {
            "; istiod has `cacerts` where a CA was plugged in, and `istio-ca-secret` where it has made one itself"
                .to_owned()
        } else if problem.contains("403") {
            format!("; whoever asks needs the verb get on secrets of that name; {otherwise}")
        } else {
            String::new()
        };
        format!("the Secret {secret} of cluster {} cannot be read by {}: {problem}{hint}", cluster.id, server.shown())
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn what_is_there_counts_before_a_secret_and_a_cluster_that_is_named_before_both() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("secret.yaml");
        std::fs::write(&file, "").unwrap();
        let (dir, named) = (directory.path().to_str().unwrap(), file.to_str().unwrap());
        assert_eq!(Source::parse(dir, None), Ok(Source::Directory(directory.path().to_owned())));
        assert_eq!(Source::parse(named, None), Ok(Source::File(file.clone())));
        let secret = |cluster: Option<&str>| Source::Secret {
            namespace: "istio-system".to_owned(),
            name: "cacerts".to_owned(),
            cluster: cluster.map(str::to_owned),
        };
        for cluster in [None, Some("east")] {
            assert_eq!(Source::parse("istio-system/cacerts", cluster), Ok(secret(cluster)));
        }
        for wrong in ["cacerts", "/etc/cacerts-which-is-not-there", "a/b/c", "A/b", "a/", "../x", "a/..%2f"] {
            assert!(Source::parse(wrong, None).unwrap_err().contains("NAMESPACE/NAME"), "{wrong}");
        }
    }

    #[test]
    fn a_secret_is_read_as_yaml_and_json_and_what_is_none_is_told_without_its_content() {
        let key = STANDARD.encode("-----BEGIN PRIVATE KEY-----\nabc\n");
        let yaml =
            format!("apiVersion: v1\nkind: Secret\ndata:\n  ca-key.pem: {key}\n  key.pem: \"\"\n  root-cert.pem:\n");
        let json = format!(r#"{{"kind":"Secret","data":{{"ca-key.pem":"{key}","root-cert.pem":""}}}}"#);
        for text in [yaml.clone(), json] {
            let found = of_text("x", text.as_bytes()).unwrap();
            let names: Vec<_> = found.each().map(|(name, content)| (name, content.expose().len())).collect();
            assert_eq!(names, [("ca-key.pem", 32), ("root-cert.pem", 0)], "{text}");
        }
        for (text, words) in [
            ("-----BEGIN PRIVATE KEY-----\nabc".to_owned(), "is a PEM file"),
            ("kind: ConfigMap\ndata: {a: abc}".to_owned(), "holds no Secret"),
            ("kind: Secret\ndata:\n  ca-key.pem: abc%\n".to_owned(), "data.ca-key.pem is not base64"),
            ("kind: Secret\n  data: abc: [".to_owned(), "line 2"),
            ("- kind: Secret abc".to_owned(), "neither YAML nor JSON"),
        ] {
            let told = of_text("x", text.as_bytes()).unwrap_err();
            assert!(told.contains(words) && !told.contains("abc"), "{text}: {told}");
        }
        assert!(of_text("x", &[0xff]).unwrap_err().contains("no text"));
    }
}
