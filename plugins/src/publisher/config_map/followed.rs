//! Follows the namespaces of a cluster and the ConfigMaps in them, names and versions only, and tells the places.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::{BoxFuture, OptionFuture};
use futures::stream::BoxStream;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::Api;
use kube::api::{ListParams, ObjectList, ObjectMeta, PartialObjectMeta, WatchEvent};
use signet_core::seams::authenticator::AuthenticationError;
use tokio::time::Instant;

use super::places::{Followed, Kind, Places};
use super::{ConfigMapPublisher, lock};
use crate::kubernetes::{Listener, Metadata, Source, follow as follow_kind};
use crate::publisher::calls::{Call, Came, OnCall, Verb, words};

/// Follows them for ever.
pub(super) async fn follow(publisher: &ConfigMapPublisher) {
    let (server, settings) = (&publisher.api.server, &publisher.settings);
    let on_call = &publisher.api.on_call;
    let namespaces = Metadata::of(|| Api::<Namespace>::all(server.client())).with_labels(&settings.namespaces);
    let maps = |kind| Metadata::of(|| Api::<ConfigMap>::all(server.client())).called(settings.name(kind));
    let (roots, lists) = (maps(Kind::Roots), maps(Kind::Lists));
    let [of_roots, of_lists] = Kind::BOTH.map(|kind| Maps { publisher, kind });
    let of_namespaces = Namespaces(publisher);
    let (namespaces, roots, lists) =
        (Counted(&namespaces, on_call), Counted(&roots, on_call), Counted(&lists, on_call));
    tokio::join!(
        follow_kind(&namespaces, &of_namespaces, version::<Namespace>),
        follow_kind(&roots, &of_roots, version::<ConfigMap>),
        OptionFuture::from(settings.revocation_lists.then(|| follow_kind(&lists, &of_lists, version::<ConfigMap>))),
    );
}

fn version<K>(object: &PartialObjectMeta<K>) -> Option<&str> {
    object.metadata.resource_version.as_deref()
}

/// Forgets what is known when nobody follows it any more.
pub(super) struct Forgets<'p>(pub(super) &'p ConfigMapPublisher);

impl Drop for Forgets<'_> {
    fn drop(&mut self) {
        *lock(&self.0.places) = Places::new(self.0.settings.revocation_lists);
        *lock(&self.0.rendered) = None;
    }
}

/// Counts the lists and the watches.
struct Counted<'s, S>(&'s S, &'s Arc<OnCall>);

impl<S> Counted<'_, S> {
    fn count<T>(&self, verb: Verb, answer: &kube::Result<T>) {
        let came = match answer {
            Ok(_) => Came::Done,
            Err(kube::Error::Api(status)) if status.code == 429 => Came::Throttled,
            Err(kube::Error::Api(status)) if status.code == 403 => Came::Refused,
            Err(kube::Error::Api(status)) if status.code == 410 => Came::Changed,
            Err(_) => Came::Away,
        };
        (self.1)(Call { verb, came, bytes: (0, 0) });
    }
}

impl<K: Clone + 'static, S: Source<K>> Source<K> for Counted<'_, S> {
    fn list(&self, page: ListParams) -> BoxFuture<'_, kube::Result<ObjectList<K>>> {
        self.0.list(page).inspect(|answer| self.count(Verb::List, answer)).boxed()
    }

    fn watch(&self, version: String) -> BoxFuture<'_, kube::Result<BoxStream<'static, kube::Result<WatchEvent<K>>>>> {
        self.0.watch(version).inspect(|answer| self.count(Verb::Watch, answer)).boxed()
    }
}

impl ConfigMapPublisher {
    /// Notes what was heard, which is a reason for a look unless it is the echo of our own writes.
    fn heard(&self, of: Followed, is_news: bool, hear: impl FnOnce(&mut Places)) {
        let is_news = {
            let mut places = lock(&self.places);
            let hears_again = places.deaf(of, None);
            hear(&mut places);
            is_news || hears_again || places.has_fresh()
        };
        if is_news {
            self.changed.notify_one();
        }
    }

    fn not_heard(&self, of: Followed, error: &AuthenticationError) {
        let what = match of {
            Followed::Namespaces => "namespaces".to_owned(),
            Followed::Maps(kind) => format!("ConfigMaps {}", self.settings.name(kind)),
        };
        lock(&self.places).deaf(of, Some(format!("{what} cannot be followed: {}", words(error))));
        self.changed.notify_one();
    }
}

struct Namespaces<'p>(&'p ConfigMapPublisher);

impl Namespaces<'_> {
    fn name(&self, namespace: PartialObjectMeta<Namespace>) -> Option<String> {
        namespace.metadata.name.filter(|name| !self.0.settings.except.contains(name))
    }
}

impl Listener<PartialObjectMeta<Namespace>> for Namespaces<'_> {
    fn replace(&self, all: Vec<PartialObjectMeta<Namespace>>) {
        let names = all.into_iter().filter_map(|namespace| self.name(namespace)).map(Into::into);
        self.0.heard(Followed::Namespaces, true, |places| places.namespaces(names));
    }

    fn apply(&self, namespace: PartialObjectMeta<Namespace>) {
        if let Some(name) = self.name(namespace) {
            self.0.heard(Followed::Namespaces, false, |places| places.namespace(name.into(), Instant::now()));
        }
    }

    fn delete(&self, namespace: PartialObjectMeta<Namespace>) {
        if let Some(name) = self.name(namespace) {
            self.0.heard(Followed::Namespaces, true, |places| places.no_namespace(&name));
        }
    }

    fn heard(&self) {}

    fn listening(&self) {
        self.0.heard(Followed::Namespaces, false, |_| {});
    }

    fn failed(&self, error: &AuthenticationError) {
        self.0.not_heard(Followed::Namespaces, error);
    }
}

/// The ConfigMaps of one kind.
struct Maps<'p> {
    publisher: &'p ConfigMapPublisher,
    kind: Kind,
}

/// Namespace and version.
fn place(metadata: ObjectMeta) -> Option<(Box<str>, Box<str>)> {
    Some((metadata.namespace?.into(), metadata.resource_version?.into()))
}

impl Listener<PartialObjectMeta<ConfigMap>> for Maps<'_> {
    fn replace(&self, all: Vec<PartialObjectMeta<ConfigMap>>) {
        let all = all.into_iter().filter_map(|map| place(map.metadata));
        self.publisher.heard(Followed::Maps(self.kind), true, |places| places.all(self.kind, all));
    }

    fn apply(&self, map: PartialObjectMeta<ConfigMap>) {
        if let Some((namespace, version)) = place(map.metadata) {
            let hear = |places: &mut Places| places.there(self.kind, &namespace, &version, Instant::now());
            self.publisher.heard(Followed::Maps(self.kind), false, hear);
        }
    }

    fn delete(&self, map: PartialObjectMeta<ConfigMap>) {
        if let Some((namespace, version)) = place(map.metadata) {
            let hear = |places: &mut Places| places.gone(self.kind, &namespace, &version, Instant::now());
            self.publisher.heard(Followed::Maps(self.kind), false, hear);
        }
    }

    fn heard(&self) {}

    fn listening(&self) {
        self.publisher.heard(Followed::Maps(self.kind), false, |_| {});
    }

    fn failed(&self, error: &AuthenticationError) {
        self.publisher.not_heard(Followed::Maps(self.kind), error);
    }
}
