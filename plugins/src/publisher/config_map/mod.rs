//! The trust bundle in a ConfigMap of every selected namespace of a cluster, and the revocation lists in another one.

mod content;
mod followed;
mod places;
mod put;
#[cfg(test)]
mod test_world;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use signet_core::bundle::Validation;
use signet_core::seams::publisher::{BundlePublisher, Found, PublishedTrust};
use tokio::sync::Notify;
use tokio::time::Instant;

pub(super) use self::content::OURS;
use self::content::{Contents, Page};
use self::places::{Kind, Places};
use super::calls::{Api, Fault, OnCall, Verb};
use super::pace::Pace;
use crate::kubernetes::ApiServer;

/// How long one look takes up new work.
const LOOK: Duration = Duration::from_secs(10);
/// How many ConfigMaps a page of a list holds, and how much of one is read. Whatever does not fit is read one by one.
const PAGE: usize = 100;
const PAGE_BYTES: usize = 16 << 20;

/// Who writes a ConfigMap that istiod writes too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Istiod {
    /// istiod.
    Leave,
    /// We.
    Replace,
}

/// What is published where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigMapSettings {
    /// The name of the ConfigMap with the roots.
    pub name: String,
    /// The key in it.
    pub key: String,
    /// Labels that both have.
    pub labels: BTreeMap<String, String>,
    /// Whether revocation lists are published.
    pub revocation_lists: bool,
    /// The name of the ConfigMap with these.
    pub revocation_name: String,
    /// The key in it.
    pub revocation_key: String,
    /// Selects namespaces by their labels; empty for all.
    pub namespaces: String,
    /// Namespaces that are left out.
    pub except: Vec<String>,
    /// Who writes a ConfigMap that istiod writes too.
    pub istiod: Istiod,
}

impl ConfigMapSettings {
    fn name(&self, kind: Kind) -> &str {
        match kind {
            Kind::Roots => &self.name,
            Kind::Lists => &self.revocation_name,
        }
    }
}

/// Publishes in one cluster.
pub struct ConfigMapPublisher {
    name: String,
    api: Api,
    settings: ConfigMapSettings,
    places: Mutex<Places>,
    /// What was rendered last, and of what.
    rendered: Mutex<Option<(Arc<Validation>, Arc<Contents>)>>,
    pace: Mutex<Pace>,
    changed: Notify,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ConfigMapPublisher {
    /// The publisher of this name, which is one for this set of places; nothing is sent.
    #[must_use]
    pub fn new(name: &str, server: Arc<ApiServer>, on_call: Arc<OnCall>, settings: ConfigMapSettings) -> Self {
        let places = Mutex::new(Places::new(settings.revocation_lists));
        let (name, api) = (name.to_owned(), Api { server, on_call });
        let (rendered, pace, changed) = (Mutex::default(), Mutex::default(), Notify::new());
        Self { name, api, settings, places, rendered, pace, changed }
    }

    /// What is to be there, by storage; all namespaces are held against it from then on.
    async fn contents(&self, trust: &dyn PublishedTrust) -> Result<Arc<Contents>, String> {
        let validation = trust.now().await.map_err(|error| error.to_string())?;
        let validation = validation.ok_or("there is no authority yet, so that nothing is to be published")?;
        let mut rendered = lock(&self.rendered);
        if let Some((of, contents)) = rendered.as_ref()
            && Arc::ptr_eq(of, &validation)
        {
            return Ok(Arc::clone(contents));
        }
        let contents = Arc::new(Contents::of(&validation, &self.settings));
        lock(&self.places).want(contents.roots.digest, contents.lists_digest());
        *rendered = Some((validation, Arc::clone(&contents)));
        Ok(contents)
    }

    /// Compares what is there already, in pages of which nothing is kept.
    async fn compare(&self, contents: &Contents) -> Result<(), Fault> {
        let kinds: &[Kind] = if self.settings.revocation_lists { &Kind::BOTH } else { &[Kind::Roots] };
        for kind in kinds.iter().copied() {
            let list =
                format!("/api/v1/configmaps?fieldSelector=metadata.name%3D{}&limit={PAGE}", self.settings.name(kind));
            let mut path = list.clone();
            loop {
                let page: Page = self.api.call(Verb::List, &path, None, PAGE_BYTES).await?;
                for held in &page.items {
                    self.note(kind, &held.metadata.namespace, held, contents);
                }
                if page.metadata.more.is_empty() {
                    break;
                }
                path = format!("{list}&continue={}", page.metadata.more);
            }
        }
        Ok(())
    }

    /// Takes up work for a while, and puts right what it can.
    async fn work(&self, trust: &dyn PublishedTrust) {
        let end = Instant::now() + LOOK;
        lock(&self.places).begin(Instant::now());
        let mut putting = FuturesUnordered::new();
        loop {
            let now = Instant::now();
            while now < end && lock(&self.pace).has_room(putting.len(), now) {
                let Some(namespace) = lock(&self.places).next(now) else { break };
                putting.push(self.put_right(namespace, trust));
            }
            if putting.is_empty() {
                return;
            }
            tokio::select! {
                _ = putting.next() => {}
                // One that has just come does not wait for those that take long.
                () = self.changed.notified() => {}
            }
        }
    }

    fn found(&self, contents: &Contents) -> Found {
        let (now, places) = (Instant::now(), lock(&self.places));
        let (wanted, in_place) = places.count(now);
        let pace = lock(&self.pace);
        let hindered = places.deafness().cloned().or_else(|| pace.problem());
        let problem = hindered.or_else(|| places.problem()).or_else(|| contents.blocked.clone());
        let all = wanted == in_place && places.deafness().is_none() && contents.blocked.is_none();
        let again_in = places.again_in(now).map(|wait| wait.max(pace.wait(now)));
        let behind = (in_place < wanted).then(|| pace.wait(now).max(Duration::from_millis(100)));
        Found { sequence: all.then_some(contents.sequence), wanted, in_place, problem, again_in: again_in.or(behind) }
    }
}

#[async_trait]
impl BundlePublisher for ConfigMapPublisher {
    fn name(&self) -> &str {
        &self.name
    }

    async fn follow(&self) {
        // Whoever comes back later knows nothing of what has happened in between.
        let _forgets = followed::Forgets(self);
        followed::follow(self).await;
    }

    async fn look(&self, trust: &dyn PublishedTrust) -> Found {
        let contents = match self.contents(trust).await {
            Ok(contents) => contents,
            Err(problem) => return Found { problem: Some(problem), ..Found::default() },
        };
        let (is_known, compared) = {
            let places = lock(&self.places);
            (places.is_known(), places.compared)
        };
        if !is_known {
            let problem = lock(&self.places).deafness().cloned();
            let problem = problem.unwrap_or_else(|| "namespaces and ConfigMaps are not known yet".to_owned());
            return Found { problem: Some(problem), ..Found::default() };
        }
        if !compared {
            // What could not be compared is read one by one.
            if let Err(fault) = self.compare(&contents).await {
                tracing::debug!(publisher = self.name, error = fault.text(), "ConfigMaps are read one by one");
            }
            lock(&self.places).compared = true;
        }
        self.work(trust).await;
        // It may have changed meanwhile, and all were held against what it was last.
        let contents = lock(&self.rendered).as_ref().map_or(contents, |(_, contents)| Arc::clone(contents));
        self.found(&contents)
    }

    async fn changed(&self) {
        self.changed.notified().await;
    }
}

#[cfg(test)]
#[path = "publisher_tests.rs"]
mod tests;
