//! Following the objects of a kind: listed once in pages, then watched from there on.
//!
//! Own code, because what is wanted here the field's libraries keep to themselves: that bookmarks were heard, which is how
//! silence is told from a connection that died, and that a list replaces everything that was known at once.

use std::fmt::Debug;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt};
use kube::api::{ListParams, ObjectList, ObjectMeta, PartialObjectMeta, WatchEvent, WatchParams};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use signet_core::seams::authenticator::AuthenticationError;

use super::api_server::outage;

/// Objects of a page of a list.
const PAGE: u32 = 500;
/// How long a page may take.
const PAGE_WITHIN: Duration = Duration::from_secs(30);
/// How long a watch lasts, in seconds; the API server ends it then.
const WATCH_FOR: u32 = 240;
/// After this long without anything, not even a bookmark, of which one comes each minute, the connection is given up.
const SILENCE: Duration = Duration::from_secs(90);
/// Between two attempts, the first and the longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));

/// Hears of the objects of a kind.
pub(crate) trait Listener<K>: Send + Sync {
    /// These are all there are.
    fn replace(&self, all: Vec<K>);
    /// One was added or changed.
    fn apply(&self, object: K);
    /// One is gone; it is as it was last.
    fn delete(&self, object: K);
    /// Everything that was said so far is still all there is.
    fn heard(&self);
    /// It can be heard what happens from here on.
    fn listening(&self);
    /// Nothing can be heard at the moment, and why.
    fn failed(&self, error: &AuthenticationError);
}

/// Where objects of a kind are listed and watched.
pub(crate) trait Source<K: Clone>: Send + Sync {
    /// One page.
    fn list(&self, page: ListParams) -> BoxFuture<'_, kube::Result<ObjectList<K>>>;
    /// What happens after a version.
    fn watch(&self, version: String) -> BoxFuture<'_, kube::Result<BoxStream<'static, kube::Result<WatchEvent<K>>>>>;
}

fn watching() -> WatchParams {
    WatchParams::default().timeout(WATCH_FOR)
}

/// Whole objects.
pub(super) struct Whole<F>(pub(super) F);

impl<K, F> Source<K> for Whole<F>
where
    K: Clone + DeserializeOwned + Debug + Send + 'static,
    F: Fn() -> Api<K> + Send + Sync,
{
    fn list(&self, page: ListParams) -> BoxFuture<'_, kube::Result<ObjectList<K>>> {
        let api = (self.0)();
        async move { api.list(&page).await }.boxed()
    }

    fn watch(&self, version: String) -> BoxFuture<'_, kube::Result<BoxStream<'static, kube::Result<WatchEvent<K>>>>> {
        let api = (self.0)();
        async move { Ok(api.watch(&watching(), &version).await?.boxed()) }.boxed()
    }
}

/// Whole objects of which a field has a value.
pub(super) struct Selected<F> {
    pub(super) api: F,
    /// Selectors for fields, as the API server takes them.
    pub(super) fields: String,
}

impl<K, F> Source<K> for Selected<F>
where
    K: Clone + DeserializeOwned + Debug + Send + 'static,
    F: Fn() -> Api<K> + Send + Sync,
{
    fn list(&self, page: ListParams) -> BoxFuture<'_, kube::Result<ObjectList<K>>> {
        let api = (self.api)();
        async move { api.list(&page.fields(&self.fields)).await }.boxed()
    }

    fn watch(&self, version: String) -> BoxFuture<'_, kube::Result<BoxStream<'static, kube::Result<WatchEvent<K>>>>> {
        let api = (self.api)();
        async move { Ok(api.watch(&watching().fields(&self.fields), &version).await?.boxed()) }.boxed()
    }
}

/// Names, UIDs and versions only.
pub(crate) struct Metadata<F> {
    api: F,
    /// Of objects with such labels, where that is not empty.
    labels: String,
    /// Of objects with such fields, where that is not empty.
    fields: String,
}

impl<F> Metadata<F> {
    /// Of all objects.
    pub(crate) fn of(api: F) -> Self {
        Self { api, labels: String::new(), fields: String::new() }
    }

    /// Of those with such labels; empty for any.
    pub(crate) fn with_labels(self, labels: &str) -> Self {
        Self { labels: labels.to_owned(), ..self }
    }

    /// Of those with this name.
    pub(crate) fn called(self, name: &str) -> Self {
        Self { fields: format!("metadata.name={name}"), ..self }
    }
}

/// Leaves what is compared and nothing else: most of an object's metadata tells who has written it.
fn strip<K>(mut object: PartialObjectMeta<K>) -> PartialObjectMeta<K> {
    let ObjectMeta { name, namespace, uid, resource_version, .. } = std::mem::take(&mut object.metadata);
    object.metadata = ObjectMeta { name, namespace, uid, resource_version, ..ObjectMeta::default() };
    object
}

impl<K, F> Source<PartialObjectMeta<K>> for Metadata<F>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    F: Fn() -> Api<K> + Send + Sync,
{
    fn list(&self, mut page: ListParams) -> BoxFuture<'_, kube::Result<ObjectList<PartialObjectMeta<K>>>> {
        let api = (self.api)();
        page.label_selector = Some(self.labels.clone()).filter(|labels| !labels.is_empty());
        page.field_selector = Some(self.fields.clone()).filter(|fields| !fields.is_empty());
        async move {
            let mut listed = api.list_metadata(&page).await?;
            listed.items = listed.items.into_iter().map(strip).collect();
            Ok(listed)
        }
        .boxed()
    }

    fn watch(
        &self,
        version: String,
    ) -> BoxFuture<'_, kube::Result<BoxStream<'static, kube::Result<WatchEvent<PartialObjectMeta<K>>>>>> {
        let api = (self.api)();
        let mut watching = watching();
        watching.label_selector = Some(self.labels.clone()).filter(|labels| !labels.is_empty());
        watching.field_selector = Some(self.fields.clone()).filter(|fields| !fields.is_empty());
        let stripped = |event| match event {
            WatchEvent::Added(object) => WatchEvent::Added(strip(object)),
            WatchEvent::Modified(object) => WatchEvent::Modified(strip(object)),
            WatchEvent::Deleted(object) => WatchEvent::Deleted(strip(object)),
            other => other,
        };
        async move { Ok(api.watch_metadata(&watching, &version).await?.map_ok(stripped).boxed()) }.boxed()
    }
}

/// Why a watch ends.
enum End {
    /// It is over, and goes on from this version.
    From(String),
    /// What it would go on from is gone: everything is listed again.
    Lost,
}

/// Follows the objects of `source` for ever, and tells `listener`.
pub(crate) async fn follow<K: Clone>(
    source: &dyn Source<K>,
    listener: &dyn Listener<K>,
    version_of: fn(&K) -> Option<&str>,
) {
    let mut retry = Retry::default();
    loop {
        let mut version = match list(source, listener).await {
            Ok(version) => version,
            Err(error) => {
                listener.failed(&error);
                retry.wait().await;
                continue;
            }
        };
        retry = Retry::default();
        loop {
            match watch(source, listener, version.clone(), version_of).await {
                Ok(End::From(newer)) => {
                    // A watch that ended without a word may be one of a server that ends them all.
                    if newer == version {
                        retry.wait().await;
                    } else {
                        retry = Retry::default();
                    }
                    version = newer;
                }
                Ok(End::Lost) => break,
                Err(error) => {
                    listener.failed(&error);
                    retry.wait().await;
                }
            }
        }
    }
}

async fn list<K: Clone>(source: &dyn Source<K>, listener: &dyn Listener<K>) -> Result<String, AuthenticationError> {
    let (mut all, mut page) = (Vec::new(), ListParams::default().limit(PAGE));
    loop {
        let listed = tokio::time::timeout(PAGE_WITHIN, source.list(page.clone())).await.map_err(|_| late())?;
        let listed = listed.map_err(|error| outage(&error))?;
        let (more, version) = (listed.metadata.continue_, listed.metadata.resource_version);
        all.extend(listed.items);
        match more.filter(|more| !more.is_empty()) {
            Some(more) => page = page.continue_token(&more),
            None => {
                listener.replace(all);
                return Ok(version.unwrap_or_default());
            }
        }
    }
}

fn late() -> AuthenticationError {
    use signet_core::seams::authenticator::Outage;
    AuthenticationError::unavailable(Outage::ApiTimedOut, "the API server has said nothing for too long")
}

async fn watch<K: Clone>(
    source: &dyn Source<K>,
    listener: &dyn Listener<K>,
    mut version: String,
    version_of: fn(&K) -> Option<&str>,
) -> Result<End, AuthenticationError> {
    let opened = tokio::time::timeout(PAGE_WITHIN, source.watch(version.clone())).await.map_err(|_| late())?;
    let mut events = match opened {
        Ok(events) => events,
        Err(kube::Error::Api(status)) if status.code == 410 => return Ok(End::Lost),
        Err(error) => return Err(outage(&error)),
    };
    listener.listening();
    loop {
        let event = tokio::time::timeout(SILENCE, events.try_next()).await.map_err(|_| late())?;
        let Some(event) = event.map_err(|error| outage(&error))? else { return Ok(End::From(version)) };
        let keep = |object: &K, version: &mut String| {
            if let Some(newer) = version_of(object) {
                newer.clone_into(version);
            }
        };
        match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                keep(&object, &mut version);
                listener.apply(object);
            }
            WatchEvent::Deleted(object) => {
                keep(&object, &mut version);
                listener.delete(object);
            }
            WatchEvent::Bookmark(bookmark) => {
                version = bookmark.metadata.resource_version;
                listener.heard();
            }
            // Too old a version comes with status 200, and 410 within.
            WatchEvent::Error(status) if status.code == 410 => return Ok(End::Lost),
            WatchEvent::Error(status) => return Err(outage(&kube::Error::Api(status))),
        }
    }
}

/// Waits longer from attempt to attempt.
#[derive(Default)]
struct Retry(Duration);

impl Retry {
    async fn wait(&mut self) {
        let (first, longest) = RETRY;
        self.0 = self.0.saturating_mul(2).clamp(first, longest);
        tokio::time::sleep(self.0).await;
    }
}
