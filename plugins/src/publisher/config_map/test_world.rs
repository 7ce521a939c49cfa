//! A cluster of a scripted API server that keeps what it is given, and a publisher at work in it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use rustls_pki_types::CertificateDer;
use serde_json::Value;
use signet_test_servers::objects::{Objects, config_map};
use signet_test_servers::scripted::{Answer, Asked, ScriptedApi};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::content::tests::settings;
use super::*;
use crate::publisher::test_trust::{Told, root, server, validation};

pub(super) const LONG: Duration = Duration::from_secs(30);
pub(super) const ROOTS: &str = "istio-ca-root-cert";
pub(super) const LISTS: &str = "istio-ca-crl";

pub(super) type Instead = Box<dyn Fn(&Asked) -> Option<Answer> + Send + Sync>;

/// A cluster, and what is to be published in it.
pub(super) struct World {
    pub(super) api: ScriptedApi,
    pub(super) objects: Objects,
    pub(super) told: Arc<Told>,
    pub(super) roots: Vec<CertificateDer<'static>>,
}

/// A publisher at work, until it is dropped.
pub(super) struct Working {
    pub(super) publisher: Arc<ConfigMapPublisher>,
    pub(super) found: watch::Receiver<Found>,
    tasks: JoinSet<()>,
}

impl Working {
    pub(super) async fn until(&mut self, reached: impl Fn(&Found) -> bool) -> Found {
        let found = tokio::time::timeout(LONG, self.found.wait_for(|found| reached(found))).await;
        found.map(|found| found.unwrap().clone()).unwrap_or_else(|_| panic!("never; last {:?}", self.found.borrow()))
    }

    /// Ends, and gives the publisher, which nobody keeps at work any more.
    pub(super) async fn stop(mut self) -> Arc<ConfigMapPublisher> {
        self.tasks.shutdown().await;
        self.publisher
    }

    /// Waits until this bundle is in so many places.
    pub(super) async fn published(&mut self, sequence: u64, places: u64) {
        self.until(|found| found.sequence == Some(sequence) && found.in_place == places).await;
    }
}

impl World {
    pub(super) async fn new(namespaces: &[&str]) -> Self {
        Self::with(namespaces, Box::new(|_| None)).await
    }

    pub(super) async fn with(namespaces: &[&str], instead: Instead) -> Self {
        let objects = Objects::default();
        for name in namespaces {
            objects.namespace(name);
        }
        let kept = objects.clone();
        let answer = move |asked: Asked| std::future::ready(instead(&asked).unwrap_or_else(|| kept.answer(&asked)));
        let api = ScriptedApi::start(answer).await.unwrap();
        let roots = vec![root(), root(), root()];
        let told = Arc::new(Told::new(validation(1, &roots[..1], &[])));
        Self { api, objects, told, roots }
    }

    pub(super) async fn publisher(&self, istiod: Istiod) -> Arc<ConfigMapPublisher> {
        let server = server(&self.api).await;
        Arc::new(ConfigMapPublisher::new("a", server, Arc::new(|_| {}), settings(istiod)))
    }

    pub(super) async fn work(&self, istiod: Istiod) -> Working {
        Self::start(self.publisher(istiod).await, Arc::clone(&self.told))
    }

    pub(super) fn start(publisher: Arc<ConfigMapPublisher>, told: Arc<Told>) -> Working {
        let (sender, found) = watch::channel(Found::default());
        let mut tasks = JoinSet::new();
        let at_work = Arc::clone(&publisher);
        tasks.spawn(async move {
            let looking = async {
                loop {
                    let found = at_work.look(told.as_ref()).await;
                    let again = found.again_in.unwrap_or(Duration::from_secs(1)).min(Duration::from_secs(1));
                    sender.send_replace(found);
                    let _either = tokio::time::timeout(again, at_work.changed()).await;
                }
            };
            tokio::select! {
                biased;
                () = at_work.follow() => {}
                () = looking => {}
            }
        });
        Working { publisher, found, tasks }
    }

    pub(super) fn tell(&self, sequence: u64, roots: &[usize], lists: &[&[u8]]) {
        let roots: Vec<_> = roots.iter().map(|index| self.roots[*index].clone()).collect();
        self.told.set(Ok(Some(validation(sequence, &roots, lists))));
    }

    pub(super) fn text(&self, namespace: &str) -> String {
        let map = self.objects.get(&config_map(namespace, ROOTS));
        map.map(|map| map["data"]["root-cert.pem"].as_str().unwrap_or_default().to_owned()).unwrap_or_default()
    }

    pub(super) fn pem(&self, roots: &[usize]) -> String {
        let roots: Vec<_> = roots.iter().map(|index| self.roots[*index].clone()).collect();
        validation(1, &roots, &[]).bundle.pem().to_owned()
    }

    /// How often objects were asked for like this since so many requests.
    pub(super) fn asked(&self, since: usize, method: &str, part: &str) -> usize {
        let asked = self.api.asked();
        asked[since..].iter().filter(|asked| asked.method == method && asked.path.contains(part)).count()
    }

    pub(super) fn change(&self, namespace: &str, change: impl FnOnce(&mut Value)) {
        let path = config_map(namespace, ROOTS);
        let mut map = self.objects.get(&path).unwrap();
        change(&mut map);
        self.objects.put(&path, map);
    }
}
