//! Puts one namespace right: what is there is looked at, storage is asked what is to be there, and a write is done to the
//! version that was looked at, or not at all. Whoever has slept in between changes nothing.

use std::sync::Arc;

use serde_json::{Value, json};
use signet_core::seams::publisher::PublishedTrust;
use tokio::time::Instant;

use super::content::{Contents, Held, NOTHING, Verdict};
use super::places::{Kind, PAUSE, PEACE};
use super::{ConfigMapPublisher, lock};
use crate::publisher::calls::{Fault, OBJECT, Verb};

/// How often one that changes meanwhile is looked at again.
const ATTEMPTS: usize = 4;

/// Why a namespace was not put right.
enum Stop {
    Call(Fault),
    /// It is somebody else's, and not as it has to be.
    Left(&'static str),
    /// Somebody else writes it back each time: istiod, or who it says.
    Fought(Option<String>),
    /// What is to be there is not known.
    Unknown(String),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Call(fault)
    }
}

/// What is known of the one that is there.
enum There {
    Nothing,
    /// It was read.
    Read(Held),
    /// Its version was read before, and it was right then for something.
    Version(Box<str>),
}

/// What is to be done to it.
enum Write {
    Create(Value),
    Change(Value),
    Remove(Box<str>),
}

impl ConfigMapPublisher {
    /// Puts both ConfigMaps of a namespace right, and notes what has come of it.
    pub(super) async fn put_right(&self, namespace: Arc<str>, trust: &dyn PublishedTrust) {
        let mut result = Ok(());
        for kind in Kind::BOTH {
            result = self.put(kind, &namespace, trust).await;
            if result.is_err() {
                break;
            }
        }
        let now = Instant::now();
        let (mut places, mut pace) = (lock(&self.places), lock(&self.pace));
        match result {
            Ok(()) => places.over(&namespace, None, now),
            Err(Stop::Call(Fault::Terminating | Fault::Absent { namespace: true })) => {
                pace.answered();
                places.skip(&namespace, now);
            }
            Err(Stop::Call(fault)) => {
                if pace.failed(&fault, now) {
                    places.over(&namespace, Some(fault.text()), now);
                } else {
                    places.put_off(&namespace);
                }
            }
            Err(Stop::Left(text)) => places.over(&namespace, Some(text.to_owned()), now),
            Err(Stop::Fought(Some(who))) => {
                let text = format!(
                    "{who} writes this ConfigMap back again and again, and so do we, but not as often: let one of us write \
                     it, or choose another name (publish.config_maps.name)"
                );
                places.over(&namespace, Some(text), now);
            }
            Err(Stop::Fought(None)) => {
                let text = "istiod writes this ConfigMap back each time; it is left to it for some minutes: stop istiod from \
                    writing it, choose another name, or set istiod: leave";
                places.over(&namespace, Some(text.to_owned()), now);
            }
            Err(Stop::Unknown(text)) => {
                tracing::debug!(publisher = self.name, error = text, "nothing is written");
                places.put_off(&namespace);
            }
        }
    }

    async fn put(&self, kind: Kind, namespace: &Arc<str>, trust: &dyn PublishedTrust) -> Result<(), Stop> {
        if lock(&self.places).is_kind_right(kind, namespace) {
            return Ok(());
        }
        let mut look = false;
        for _ in 0..ATTEMPTS {
            let there = self.there(kind, namespace, look).await?;
            let contents = self.contents(trust).await.map_err(Stop::Unknown)?;
            let Some(write) = self.decide(kind, namespace, &there, &contents)? else { return Ok(()) };
            match self.write(kind, namespace, write, &contents).await {
                // It is there by now, has changed, or is gone.
                Err(Stop::Call(Fault::Changed | Fault::Absent { namespace: false })) => look = true,
                done => return done,
            }
        }
        Err(Stop::Call(Fault::Changed))
    }

    fn path(&self, kind: Kind, namespace: &str) -> String {
        format!("/api/v1/namespaces/{namespace}/configmaps/{}", self.settings.name(kind))
    }

    /// Looks at what is there; what is known of it well enough is not read.
    async fn there(&self, kind: Kind, namespace: &str, look: bool) -> Result<There, Stop> {
        let seen = lock(&self.places).seen(kind, namespace);
        match seen {
            None if !look => return Ok(There::Nothing),
            Some(seen) if !look && seen.right_for.is_some_and(|digest| digest != NOTHING) && !seen.is_left => {
                return Ok(There::Version(seen.version));
            }
            _ => {}
        }
        match self.api.call::<Held>(Verb::Get, &self.path(kind, namespace), None, OBJECT).await {
            Ok(held) => {
                lock(&self.pace).answered();
                Ok(There::Read(held))
            }
            Err(Fault::Absent { .. }) => {
                lock(&self.places).absent(kind, namespace);
                Ok(There::Nothing)
            }
            Err(fault) => Err(fault.into()),
        }
    }

    /// What is to be written, if anything.
    fn decide(
        &self,
        kind: Kind,
        namespace: &Arc<str>,
        there: &There,
        contents: &Contents,
    ) -> Result<Option<Write>, Stop> {
        let (wanted, anchors) = match kind {
            Kind::Roots => (Some(&contents.roots), Some(&contents.anchors)),
            Kind::Lists if contents.blocked.is_some() => return Ok(None),
            Kind::Lists => (contents.lists.as_ref(), None),
        };
        let version = match there {
            There::Nothing => {
                let whole = wanted.map(|wanted| wanted.whole(namespace, self.settings.name(kind)));
                return Ok(whole.map(Write::Create));
            }
            There::Read(held) => held.metadata.resource_version.as_str(),
            There::Version(version) => version,
        };
        let Some(wanted) = wanted else {
            let verdict = if let There::Read(held) = there { held.judge_unwanted() } else { Verdict::Remove };
            if verdict == Verdict::Remove {
                return Ok(Some(Write::Remove(version.into())));
            }
            lock(&self.places).judged(kind, namespace, version, NOTHING, true);
            return Ok(None);
        };
        let held = match there {
            There::Read(held) => held,
            _ => {
                let right = lock(&self.places)
                    .seen(kind, namespace)
                    .is_some_and(|seen| *seen.version == *version && seen.right_for == Some(wanted.digest));
                let change = || Write::Change(wanted.change(version, false));
                return Ok((!right).then(change));
            }
        };
        match held.judge(wanted, anchors) {
            verdict @ (Verdict::Right | Verdict::Left) => {
                let is_left = verdict == Verdict::Left;
                lock(&self.places).judged(kind, namespace, version, wanted.digest, is_left);
                Ok(None)
            }
            Verdict::Lacks(text) => Err(Stop::Left(text)),
            Verdict::Change { istiods: true } if lock(&self.places).fought(namespace, PEACE, Instant::now()) => {
                Err(Stop::Fought(None))
            }
            Verdict::Change { istiods: false } if lock(&self.places).fought(namespace, PAUSE, Instant::now()) => {
                Err(Stop::Fought(Some(held.last_writer())))
            }
            Verdict::Change { .. } | Verdict::Remove => {
                let change = wanted.change(version, held.is_binary(&wanted.key));
                Ok(Some(Write::Change(change)))
            }
        }
    }

    async fn write(&self, kind: Kind, namespace: &str, write: Write, contents: &Contents) -> Result<(), Stop> {
        let (path, api) = (self.path(kind, namespace), &self.api);
        let written = match write {
            Write::Create(whole) => {
                let path = path.rsplit_once('/').map_or(path.as_str(), |(all, _)| all);
                api.call::<Held>(Verb::Create, path, Some(&whole), OBJECT).await
            }
            Write::Change(change) => api.call::<Held>(Verb::Patch, &path, Some(&change), OBJECT).await,
            Write::Remove(version) => {
                let only =
                    json!({"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"resourceVersion": version}});
                api.call::<Value>(Verb::Delete, &path, Some(&only), OBJECT).await?;
                lock(&self.pace).answered();
                lock(&self.places).absent(kind, namespace);
                return Ok(());
            }
        };
        let written = written?;
        lock(&self.pace).answered();
        self.note(kind, namespace, &written, contents);
        let wanted = if kind == Kind::Roots { Some(&contents.roots) } else { contents.lists.as_ref() };
        match wanted.map(|wanted| written.judge(wanted, None)) {
            None | Some(Verdict::Right) => Ok(()),
            Some(_) => Err(Stop::Left("it is changed while it is written: look for a webhook that does so")),
        }
    }

    /// Notes what was seen of one that is there.
    pub(super) fn note(&self, kind: Kind, namespace: &str, held: &Held, contents: &Contents) {
        let (wanted, anchors) = match kind {
            Kind::Roots => (Some(&contents.roots), Some(&contents.anchors)),
            Kind::Lists => (contents.lists.as_ref(), None),
        };
        let version = held.metadata.resource_version.as_str();
        let (digest, verdict) = match wanted {
            Some(wanted) => (wanted.digest, held.judge(wanted, anchors)),
            None => (NOTHING, held.judge_unwanted()),
        };
        let mut places = lock(&self.places);
        match verdict {
            Verdict::Right | Verdict::Left => {
                places.judged(kind, namespace, version, digest, verdict == Verdict::Left);
            }
            Verdict::Lacks(_) | Verdict::Change { .. } | Verdict::Remove => {
                places.there(kind, namespace, version, Instant::now());
            }
        }
    }
}
