//! The commands of our pages and of NOTES.txt, as somebody types them: Helm is real, and what `kubectl` is asked there is done by the node.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Value, json};

use super::objects::core;
use super::{Node, Pod, controllers};
use crate::failure::{Failure, Outcome, ensure};
use crate::harness::helm;
use crate::tools;

/// Who types, with the pods that were started, by namespace and workload.
pub struct Shell<'n, 'k> {
    node: &'n Node<'k>,
    pods: BTreeMap<(String, String), Pod>,
    /// Jobs that are done, by UID.
    done: BTreeSet<String>,
}

impl<'n, 'k> Shell<'n, 'k> {
    /// On this node.
    #[must_use]
    pub fn on(node: &'n Node<'k>) -> Self {
        Self { node, pods: BTreeMap::new(), done: BTreeSet::new() }
    }

    /// The pod of a workload, if it was started.
    #[must_use]
    pub fn pod(&mut self, namespace: &str, workload: &str) -> Option<&mut Pod> {
        self.pods.get_mut(&(namespace.to_owned(), workload.to_owned()))
    }

    /// Ends the pod of a workload, as a controller does with one of an old template.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn remove(&mut self, namespace: &str, workload: &str) -> Outcome {
        match self.pods.remove(&(namespace.to_owned(), workload.to_owned())) {
            Some(pod) => self.node.remove(pod).await,
            None => Err(Failure::unexpected(format!("{workload} does not run"))),
        }
    }

    /// Starts what the controllers of a namespace would: a pod of each workload that has none, and jobs, to their end.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn settle(&mut self, namespace: &str) -> Outcome {
        for (group, kind) in [("apps", "statefulset"), ("apps", "deployment"), ("batch", "job")] {
            for object in self.node.objects.list(&format!("/apis/{group}/v1/namespaces/{namespace}/{kind}s")).await? {
                let name = object["metadata"]["name"].as_str().unwrap_or_default();
                let workload = format!("{kind}/{name}");
                let key = (namespace.to_owned(), workload.clone());
                if kind == "job" {
                    if !self.done.insert(object["metadata"]["uid"].to_string()) {
                        continue;
                    }
                    let (status, said) = self.node.complete(namespace, &workload).await?;
                    ensure(status.success(), || format!("{workload} ended with {status}: {said}"))?;
                } else if !self.pods.contains_key(&key) {
                    let pod = self.node.start(namespace, &workload).await?;
                    self.pods.insert(key, pod);
                }
            }
        }
        Ok(())
    }

    /// Runs a command line; gives what it prints. Files that it names are looked for in `directory`.
    ///
    /// # Errors
    /// [`Failure`], also for a command that nobody here knows.
    pub async fn run(&mut self, line: &str, directory: &Path) -> Outcome<String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.split_first() {
            Some((&"helm", rest)) => self.helm(rest, directory).await,
            Some((&"kubectl", rest)) => self.kubectl(rest, directory).await,
            _ => Err(Failure::unexpected(format!("nobody here knows the command: {line}"))),
        }
    }

    async fn helm(&mut self, words: &[&str], directory: &Path) -> Outcome<String> {
        let admin = self.node.kubernetes.admin_file().display().to_string();
        let chart = helm::chart().display().to_string();
        let mut arguments = Vec::new();
        for (index, &word) in words.iter().enumerate() {
            let is_file = index.checked_sub(1).and_then(|before| words.get(before)) == Some(&"--values");
            arguments.push(match word {
                "deploy/helm/signet" => chart.clone(),
                word if is_file => directory.join(word).display().to_string(),
                word => word.to_owned(),
            });
        }
        arguments.extend(["--kubeconfig".to_owned(), admin]);
        let namespace = named(words, &["--namespace", "-n"]).unwrap_or("default").to_owned();
        let run = move || helm::done(&arguments.iter().map(String::as_str).collect::<Vec<_>>(), &[]);
        let running = tokio::task::spawn_blocking(run);
        if words.contains(&"test") {
            self.hook(&namespace).await?;
        }
        let said = running.await.map_err(Failure::while_doing("run helm"))??;
        if words.contains(&"install") || words.contains(&"upgrade") {
            self.settle(&namespace).await?;
        }
        Ok(said)
    }

    /// Runs the pod that `helm test` makes.
    async fn hook(&self, namespace: &str) -> Outcome {
        let path = format!("/api/v1/namespaces/{namespace}/pods?labelSelector=app.kubernetes.io/component%3Dcheck");
        let waiting = async || {
            let pods = self.node.objects.list(&path).await.ok()?;
            pods.into_iter().find(|pod| pod["status"]["phase"] == "Pending")
        };
        let pod = crate::harness::process::eventually("the pod of helm test", super::END, waiting).await?;
        self.node.to_its_end(pod).await.map(drop)
    }

    async fn kubectl(&mut self, words: &[&str], directory: &Path) -> Outcome<String> {
        let unknown = || Failure::unexpected(format!("nobody here knows the command: kubectl {}", words.join(" ")));
        let namespace = named(words, &["-n", "--namespace"]).unwrap_or("default").to_owned();
        let plain = without(words, &["-n", "--namespace"]);
        match plain.as_slice() {
            ["create", "namespace", name] => {
                let made = self.node.cluster.namespace_called(name).await;
                made.map(|()| String::new()).map_err(Failure::while_doing("make a namespace"))
            }
            ["apply", "-f", file] => {
                let path =
                    if Path::new(file).starts_with("deploy") { tools::source_root() } else { directory.to_owned() };
                let text = std::fs::read_to_string(path.join(file)).map_err(Failure::io(format!("read {file}")))?;
                for document in text.split("\n---\n") {
                    self.apply(&namespace, document).await?;
                }
                Ok(String::new())
            }
            ["rollout", "status", workload] => {
                self.settle(&namespace).await?;
                self.pod(&namespace, workload).ok_or_else(unknown)?.ready().await?;
                Ok(String::new())
            }
            ["exec", workload, "--", program, arguments @ ..] => {
                let pod = self.pod(&namespace, workload).ok_or_else(unknown)?;
                ensure(pod.program() == *program, || format!("{workload} has no {program}"))?;
                tools::run(&mut pod.exec(arguments))
            }
            ["get", kind, name, ..] => {
                let object = self.node.objects.get(&core(&namespace, &format!("{kind}s"), name)).await?;
                Ok(object.to_string())
            }
            _ => Err(unknown()),
        }
    }

    async fn apply(&self, namespace: &str, document: &str) -> Outcome {
        let object: Value = serde_saphyr::from_str(document).map_err(Failure::while_doing("read an object"))?;
        let kind = object["kind"].as_str().unwrap_or_default().to_lowercase();
        let path = match kind.as_str() {
            "configmap" | "serviceaccount" | "secret" | "pod" => format!("/api/v1/namespaces/{namespace}/{kind}s"),
            _ => {
                let path = controllers::path(namespace, &format!("{kind}/"))?;
                path.trim_end_matches('/').to_owned()
            }
        };
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let path_of_it = format!("{path}/{name}");
        if self.node.objects.find(&path_of_it).await?.is_some() {
            return self.node.objects.change(&path_of_it, object).await.map(drop);
        }
        self.node.objects.make(&path, json!(object)).await.map(drop)
    }
}

/// The value of an option.
fn named<'w>(words: &[&'w str], options: &[&str]) -> Option<&'w str> {
    words.windows(2).find_map(|pair| match pair {
        [option, value] if options.contains(option) => Some(*value),
        _ => None,
    })
}

/// The words without an option and its value.
fn without<'w>(words: &[&'w str], options: &[&str]) -> Vec<&'w str> {
    let mut left = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if options.contains(word) {
            words.next();
        } else {
            left.push(*word);
        }
    }
    left
}
