//! A node for a cluster that is an API server alone. It does what controllers and kubelets do: a pod is made of the template that is
//! there, so that the API server's own admission has its say, and runs with what its volumes name, as the objects are. So a CA is
//! really run by what the chart has installed.
//!
//! A container is a process in the root of its image. What differs from a real one: it is in no network of its own, so that `[::]` and
//! `0.0.0.0` in files of ConfigMaps stand for the pod's address, one of the loopback device; and whoever mounts the claim of another
//! pod shares its root and its address, since nothing is mounted.
#![allow(clippy::indexing_slicing, reason = "objects in JSON, in which what is missing is null")]

mod controllers;
pub mod objects;
mod pod;
mod root;
pub mod sample;
pub mod shell;
mod volumes;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use signet_test_servers::kubernetes::{Cluster, Kubernetes};
use tempfile::TempDir;

use self::objects::Objects;
use self::pod::Place;
pub use self::pod::Pod;
use self::root::Owner;
use crate::failure::{Failure, Outcome};
use crate::harness::Process;
use crate::harness::volume::{File, Volume};

/// How long a pod that is to end may take.
const END: Duration = Duration::from_secs(120);

/// The node. Pods must be dropped before it.
pub struct Node<'k> {
    /// The objects of the cluster.
    pub objects: Objects,
    /// The same for what a test asks of a cluster.
    pub cluster: Cluster,
    /// Its name.
    pub name: String,
    kubernetes: &'k Kubernetes,
    directory: TempDir,
    /// The roots of those that have a claim, with their address, by the claim.
    claims: Mutex<BTreeMap<String, (PathBuf, Ipv4Addr)>>,
    /// The names of Services that a pod is behind.
    hosts: Mutex<BTreeMap<String, Ipv4Addr>>,
}

impl<'k> Node<'k> {
    /// Joins a cluster.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn join(kubernetes: &'k Kubernetes, name: &str) -> Outcome<Self> {
        let cluster = kubernetes.cluster().await.map_err(Failure::while_doing("reach the API server"))?;
        cluster.node(name).await.map_err(Failure::while_doing("make a node"))?;
        let directory = tempfile::Builder::new().prefix("signet-node-").tempdir_in("/tmp");
        let directory = directory.map_err(Failure::io("make a directory"))?;
        std::fs::create_dir(directory.path().join("images")).map_err(Failure::io("make a directory"))?;
        let objects = Objects::of(&cluster);
        let (claims, hosts) = (Mutex::default(), Mutex::default());
        Ok(Self { objects, cluster, name: name.to_owned(), kubernetes, directory, claims, hosts })
    }

    /// Where logs and whatever else belongs to it lie.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The pod of a workload, such as `statefulset/mesh-signet-ca`, made and started.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn start(&self, namespace: &str, workload: &str) -> Outcome<Pod> {
        let owner = self.objects.get(&controllers::path(namespace, workload)?).await?;
        let pod = controllers::pod_of(&self.objects, &owner, &self.name).await?;
        self.run(pod).await
    }

    /// The pod of a workload that ends by itself, such as `job/mesh-signet-ca-init`: how it ended, and what it printed.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn complete(&self, namespace: &str, workload: &str) -> Outcome<(ExitStatus, String)> {
        let owner = self.objects.get(&controllers::path(namespace, workload)?).await?;
        self.to_its_end(controllers::pod_of(&self.objects, &owner, &self.name).await?).await
    }

    /// The same of a pod that is there.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn to_its_end(&self, pod: Value) -> Outcome<(ExitStatus, String)> {
        let mut pod = self.run(pod).await?;
        let status = pod.process.wait(END).await?;
        self.phase(&pod, if status.success() { "Succeeded" } else { "Failed" }).await?;
        Ok((status, pod.process.log()))
    }

    /// Runs a pod that is there: the container of it whose program is ours.
    ///
    /// # Errors
    /// [`Failure`], also when something is missing that it mounts.
    pub async fn run(&self, object: Value) -> Outcome<Pod> {
        let (container, program) = ours(&object)?;
        let owner = Owner::of(&object, &container);
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
        let ca = std::fs::read_to_string(self.kubernetes.ca_file()).map_err(Failure::io("read the CA of a cluster"))?;
        let trust = json!({"metadata": {"name": "kube-root-ca.crt"}, "data": {"ca.crt": ca}});
        self.objects.make_if_absent(&format!("/api/v1/namespaces/{namespace}/configmaps"), trust).await?;
        let (root, address) = self.root_of(&object, &program)?;
        let volumes = self.mount(&object, &container, &root, owner)?;
        let mut place = Place { object, container, address, program, root, owner, volumes };
        self.look(&mut place).await?;
        self.open_services(&namespace, &place).await?;
        let pod = Pod { process: self.begin(&place)?, place };
        self.phase(&pod, "Running").await?;
        Ok(pod)
    }

    /// Starts the container again, as kubelet does after its end; what it mounts is as the objects are now.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn restart(&self, pod: &mut Pod) -> Outcome {
        pod.process.stop().await?;
        self.refresh(pod).await?;
        pod.process = self.begin(&pod.place)?;
        Ok(())
    }

    fn begin(&self, pod: &Place) -> Outcome<Process> {
        let hosts: Vec<(String, Ipv4Addr)> = {
            let hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
            hosts.iter().map(|(name, address)| (name.clone(), *address)).collect()
        };
        root::write_hosts(&pod.root, &hosts)?;
        let texts = |key: &str| pod.container.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
        let arguments: Vec<String> = texts("args").iter().filter_map(|one| one.as_str().map(str::to_owned)).collect();
        let mut command = root::command(&pod.root, pod.owner, &pod.program, &arguments);
        let url = self.kubernetes.url();
        let (host, port) = url.trim_start_matches("https://").split_once(':').unwrap_or_default();
        let name = pod.object["metadata"]["name"].as_str().unwrap_or_default();
        command.envs([("HOSTNAME", name), ("KUBERNETES_SERVICE_HOST", host), ("KUBERNETES_SERVICE_PORT", port)]);
        for variable in texts("env") {
            if let (Some(name), Some(value)) = (variable["name"].as_str(), variable["value"].as_str()) {
                command.env(name, value);
            }
        }
        Process::start_command(name, command, self.directory())
    }

    /// Looks at the objects that a pod mounts, as kubelet does once a minute.
    ///
    /// # Errors
    /// [`Failure`], also when one is missing.
    pub async fn refresh(&self, pod: &mut Pod) -> Outcome {
        self.look(&mut pod.place).await
    }

    async fn look(&self, pod: &mut Place) -> Outcome {
        let wanted = pod.object["spec"]["volumes"].as_array().cloned().unwrap_or_default();
        for (name, volume) in &mut pod.volumes {
            let Some(source) = wanted.iter().find(|one| one["name"] == name.as_str()) else { continue };
            if let Some(files) = volumes::files(&self.objects, &pod.object, source).await? {
                let files: Vec<File> = files.into_iter().map(|file| as_here(file, pod.address)).collect();
                volume.write(&files)?;
            }
        }
        Ok(())
    }

    /// Ends a pod and removes it.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn remove(&self, mut pod: Pod) -> Outcome {
        let made = pod.made();
        self.cluster.delete_pod(&made).await.map_err(Failure::while_doing("delete a pod"))?;
        pod.process.stop().await.map(drop)
    }

    /// Loses the volume of a claim: whoever mounts it next finds an empty one.
    pub fn lose(&self, namespace: &str, claim: &str) {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner).remove(&format!("{namespace}/{claim}"));
    }

    async fn phase(&self, pod: &Pod, phase: &str) -> Outcome {
        let said = self.cluster.phase(&pod.made(), phase).await;
        said.map_err(Failure::while_doing("tell the phase of a pod"))
    }

    /// A root with the image of the program, and an address; or those of whoever has the same claim.
    fn root_of(&self, pod: &Value, program: &str) -> Outcome<(PathBuf, Ipv4Addr)> {
        let image = root::image(self.directory(), program)?;
        let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
        let claim = volumes.filter_map(|volume| volume.pointer("/persistentVolumeClaim/claimName")?.as_str()).next();
        let made = || Ok((root::made(self.directory(), &image)?, next_address()));
        let Some(claim) = claim else { return made() };
        let claim = format!("{}/{claim}", pod["metadata"]["namespace"].as_str().unwrap_or_default());
        let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(there) = claims.get(&claim) {
            return Ok(there.clone());
        }
        let made = made()?;
        claims.insert(claim, made.clone());
        Ok(made)
    }

    /// Makes the places of all volumes that the container mounts.
    fn mount(&self, pod: &Value, container: &Value, root: &Path, owner: Owner) -> Outcome<Vec<(String, Volume)>> {
        let volumes = pod["spec"]["volumes"].as_array().cloned().unwrap_or_default();
        let mut mounted = Vec::new();
        let mut mounts = container["volumeMounts"].as_array().cloned().unwrap_or_default();
        // Those within others come later.
        mounts.sort_by_key(|mount| mount["mountPath"].as_str().unwrap_or_default().len());
        for mount in mounts {
            let (name, path) = (mount["name"].as_str().unwrap_or_default(), mount["mountPath"].as_str());
            let volume = volumes.iter().find(|volume| volume["name"] == name);
            let (volume, path) =
                volume.zip(path).ok_or_else(|| Failure::unexpected(format!("no volume for {mount}")))?;
            let own = ["emptyDir", "persistentVolumeClaim"].iter().any(|kind| volume.get(kind).is_some());
            let place = root::mount_point(root, path, owner.volumes, own)?;
            if volume.get("hostPath").is_some() {
                root::make_hosts_own(&place)?;
            }
            mounted.push((name.to_owned(), Volume::at(place).of_group(owner.volumes)));
        }
        Ok(mounted)
    }

    /// Puts the pod behind the Services that select it.
    async fn open_services(&self, namespace: &str, pod: &Place) -> Outcome {
        let labels = pod.object["metadata"]["labels"].as_object().cloned().unwrap_or_default();
        for service in self.objects.list(&format!("/api/v1/namespaces/{namespace}/services")).await? {
            let selector = service["spec"]["selector"].as_object().cloned().unwrap_or_default();
            let selected = !selector.is_empty() && selector.iter().all(|(key, value)| labels.get(key) == Some(value));
            if selected {
                let name = service["metadata"]["name"].as_str().unwrap_or_default();
                let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
                hosts.insert(format!("{name}.{namespace}.svc"), pod.address);
                hosts.insert(format!("{name}.{namespace}.svc.cluster.local"), pod.address);
            }
        }
        Ok(())
    }
}

/// The container whose image is one of ours, and its program.
fn ours(pod: &Value) -> Outcome<(Value, String)> {
    let all = ["initContainers", "containers"].into_iter().filter_map(|key| pod["spec"][key].as_array()).flatten();
    for container in all {
        let image = container["image"].as_str().unwrap_or_default();
        let name = image.rsplit('/').next().unwrap_or_default();
        let name = name.split(['@', ':']).next().unwrap_or_default();
        if ["signet-ca", "signet-agent"].contains(&name) {
            return Ok((container.clone(), name.to_owned()));
        }
    }
    Err(Failure::unexpected(format!("no container of ours in {pod}")))
}

/// The file as it can be here: all addresses of the container are the one of the pod, and what is only for a group that nobody can give
/// it is for the owner alone, who is then also who runs.
fn as_here(file: File, address: Ipv4Addr) -> File {
    let mode = if root::is_root() || file.mode & 0o004 != 0 { file.mode } else { file.mode & 0o700 };
    let Ok(text) = std::str::from_utf8(&file.content) else { return File { mode, ..file } };
    let text = text.replace("[::]:", &format!("{address}:")).replace("0.0.0.0:", &format!("{address}:"));
    File { content: text.into_bytes(), mode, ..file }
}

/// An address of the loopback device that no other pod has: half of 127.0.0.0/8, by process and number.
fn next_address() -> Ipv4Addr {
    static LAST: AtomicU32 = AtomicU32::new(1);
    let number = LAST.fetch_add(1, Ordering::Relaxed) & 0x3ff;
    Ipv4Addr::from(0x7f80_0000 | (std::process::id() & 0x1fff) << 10 | number)
}
