//! Which namespaces there are, which versions of our ConfigMaps are in them, and for which of these it was seen that they are
//! right: the name and the version of each, and nothing of what it holds.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::content::{ANYTHING, Digest, NOTHING};

/// How long one is left alone that could not be written, the first time and at most.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));
/// How long a namespace is left alone that is being removed.
const SKIPPED: Duration = Duration::from_secs(60);
/// How often somebody else may write one back within [`FIGHT`] before it is left to them for a while: two that fight for one
/// ConfigMap write it hundreds of times a second.
const FIGHTS: usize = 3;
const FIGHT: Duration = Duration::from_secs(60);
/// For how long, when that is istiod, and when it is anybody else.
pub(super) const PEACE: Duration = Duration::from_secs(300);
pub(super) const PAUSE: Duration = Duration::from_secs(15);
/// How many troubles are named.
const NAMED: usize = 3;

/// The two ConfigMaps of a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Roots,
    Lists,
}

impl Kind {
    pub(super) const BOTH: [Self; 2] = [Self::Roots, Self::Lists];
}

/// What is known of a ConfigMap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) version: Box<str>,
    /// What this version was found to be right for.
    pub(super) right_for: Option<Digest>,
    /// Whether it is left to somebody else, so that for another content it has to be read.
    pub(super) is_left: bool,
}

#[derive(Debug, Default)]
struct Trouble {
    text: String,
    /// When it is tried again; sooner when the ConfigMap changes, unless it is left in peace.
    until: Option<Instant>,
    tries: u32,
    /// For how long it is left to somebody else.
    peace: Option<Duration>,
    /// When somebody else has written it back.
    fights: Vec<Instant>,
}

/// What is followed, by its place in lists.
#[derive(Debug, Clone, Copy)]
pub(super) enum Followed {
    Namespaces,
    Maps(Kind),
}

/// All of them, of one cluster.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// The namespaces, and until when each is skipped; `None` before they were listed.
    namespaces: Option<HashMap<Arc<str>, Option<Instant>>>,
    roots: Option<HashMap<Box<str>, Seen>>,
    lists: Option<HashMap<Box<str>, Seen>>,
    /// What the ConfigMaps are to hold; `None` before that is known.
    wanted: Option<(Digest, Digest)>,
    troubles: BTreeMap<Arc<str>, Trouble>,
    /// To be looked at first: something has happened to them.
    fresh: BTreeSet<Arc<str>>,
    /// The rest, as of the beginning of a look.
    due: Vec<Arc<str>>,
    busy: BTreeSet<Arc<str>>,
    /// Why nothing is heard of what is followed.
    deaf: [Option<String>; 3],
    /// Whether what was there at the start was compared.
    pub(super) compared: bool,
}

impl Followed {
    fn index(self) -> usize {
        match self {
            Self::Namespaces => 0,
            Self::Maps(Kind::Roots) => 1,
            Self::Maps(Kind::Lists) => 2,
        }
    }
}

/// Whether a version is older than another one, as far as that can be said.
fn is_older(one: &str, other: &str) -> bool {
    matches!((one.parse::<u64>(), other.parse::<u64>()), (Ok(one), Ok(other)) if one < other)
}

impl Places {
    /// Nothing is known; without `lists` nobody follows these.
    pub(super) fn new(lists: bool) -> Self {
        Self { lists: (!lists).then(HashMap::new), ..Self::default() }
    }

    fn maps(&self, kind: Kind) -> Option<&HashMap<Box<str>, Seen>> {
        match kind {
            Kind::Roots => self.roots.as_ref(),
            Kind::Lists => self.lists.as_ref(),
        }
    }

    fn maps_mut(&mut self, kind: Kind) -> &mut HashMap<Box<str>, Seen> {
        let maps = match kind {
            Kind::Roots => &mut self.roots,
            Kind::Lists => &mut self.lists,
        };
        maps.get_or_insert_default()
    }

    /// Whether everything was listed.
    pub(super) fn is_known(&self) -> bool {
        self.namespaces.is_some() && self.roots.is_some() && self.lists.is_some()
    }

    /// These are all the namespaces.
    pub(super) fn namespaces(&mut self, all: impl Iterator<Item = Arc<str>>) {
        self.namespaces = Some(all.map(|name| (name, None)).collect());
        self.only_those_there();
    }

    /// There is such a namespace.
    pub(super) fn namespace(&mut self, name: Arc<str>, now: Instant) {
        let known = self.namespaces.get_or_insert_default();
        if known.insert(Arc::clone(&name), None).is_none_or(|skipped| skipped.is_some()) {
            self.wake(&name, now);
        }
    }

    /// There is no such namespace any more.
    pub(super) fn no_namespace(&mut self, name: &str) {
        if let Some(known) = &mut self.namespaces {
            known.remove(name);
        }
        self.only_those_there();
    }

    fn only_those_there(&mut self) {
        let Some(known) = &self.namespaces else { return };
        self.troubles.retain(|name, _| known.contains_key(name));
        self.fresh.retain(|name| known.contains_key(name));
    }

    /// These are all the ConfigMaps of a kind. Of those that are as before is known what was.
    pub(super) fn all(&mut self, kind: Kind, all: impl Iterator<Item = (Box<str>, Box<str>)>) {
        let before = std::mem::take(self.maps_mut(kind));
        let seen = all.map(|(namespace, version)| {
            let same = before.get(&namespace).filter(|seen| seen.version == version).cloned();
            (namespace, same.unwrap_or(Seen { version, right_for: None, is_left: false }))
        });
        *self.maps_mut(kind) = seen.collect();
    }

    /// One is there, in this version.
    pub(super) fn there(&mut self, kind: Kind, namespace: &str, version: &str, now: Instant) {
        let maps = self.maps_mut(kind);
        // What is heard may be from before our own last write.
        if maps.get(namespace).is_some_and(|seen| *seen.version == *version || is_older(version, &seen.version)) {
            return;
        }
        maps.insert(namespace.into(), Seen { version: version.into(), right_for: None, is_left: false });
        self.wake(namespace, now);
    }

    /// One is gone, as of this version.
    pub(super) fn gone(&mut self, kind: Kind, namespace: &str, version: &str, now: Instant) {
        let maps = self.maps_mut(kind);
        if maps.get(namespace).is_some_and(|seen| !is_older(version, &seen.version)) {
            maps.remove(namespace);
            self.wake(namespace, now);
        }
    }

    /// Something has happened there: it is looked at first.
    fn wake(&mut self, namespace: &str, now: Instant) {
        let Some((name, _)) = self.namespaces.as_ref().and_then(|known| known.get_key_value(namespace)) else { return };
        let name = Arc::clone(name);
        if let Some(trouble) = self.troubles.get_mut(&name).filter(|trouble| trouble.peace.is_none()) {
            trouble.until = None;
        }
        if self.is_due(&name, now) {
            self.fresh.insert(name);
        }
    }

    /// What all are to hold from now on: roots, and lists or [`NOTHING`].
    pub(super) fn want(&mut self, roots: Digest, lists: Digest) {
        if self.wanted.replace((roots, lists)) != Some((roots, lists)) {
            for trouble in self.troubles.values_mut() {
                trouble.until = None;
            }
            self.due = self.namespaces.iter().flatten().map(|(name, _)| Arc::clone(name)).collect();
        }
    }

    fn wanted(&self, kind: Kind) -> Option<Digest> {
        self.wanted.map(|(roots, lists)| if kind == Kind::Roots { roots } else { lists })
    }

    fn is_right(&self, namespace: &str) -> bool {
        Kind::BOTH.into_iter().all(|kind| self.is_kind_right(kind, namespace))
    }

    /// Whether one is as it is to be, as far as is known.
    pub(super) fn is_kind_right(&self, kind: Kind, namespace: &str) -> bool {
        let seen = self.maps(kind).and_then(|maps| maps.get(namespace));
        match (self.wanted(kind), seen) {
            (Some(ANYTHING), _) | (Some(NOTHING), None) => true,
            (Some(wanted), Some(seen)) => seen.right_for == Some(wanted),
            _ => false,
        }
    }

    fn is_skipped(&self, namespace: &str, now: Instant) -> bool {
        let until = self.namespaces.as_ref().and_then(|known| known.get(namespace)).copied().flatten();
        until.is_some_and(|until| now < until)
    }

    fn is_due(&self, namespace: &str, now: Instant) -> bool {
        let waits = self.troubles.get(namespace).and_then(|trouble| trouble.until).is_some_and(|until| now < until);
        let is_there = self.namespaces.as_ref().is_some_and(|known| known.contains_key(namespace));
        is_there
            && !waits
            && !self.busy.contains(namespace)
            && !self.is_skipped(namespace, now)
            && !self.is_right(namespace)
    }

    /// A look begins: all that is not right is due.
    pub(super) fn begin(&mut self, now: Instant) {
        let names = self.namespaces.iter().flatten().map(|(name, _)| name);
        self.due = names.filter(|name| self.is_due(name, now)).cloned().collect();
    }

    /// The next one to be put right. It is busy until [`over`](Self::over).
    pub(super) fn next(&mut self, now: Instant) -> Option<Arc<str>> {
        loop {
            let name = self.fresh.pop_first().or_else(|| self.due.pop())?;
            if self.is_due(&name, now) {
                self.busy.insert(Arc::clone(&name));
                return Some(name);
            }
        }
    }

    /// What is known of one.
    pub(super) fn seen(&self, kind: Kind, namespace: &str) -> Option<Seen> {
        self.maps(kind).and_then(|maps| maps.get(namespace)).cloned()
    }

    /// This version was found to be right for what is wanted, or is left as it is.
    pub(super) fn judged(&mut self, kind: Kind, namespace: &str, version: &str, right_for: Digest, is_left: bool) {
        let maps = self.maps_mut(kind);
        if maps.get(namespace).is_none_or(|seen| !is_older(version, &seen.version)) {
            maps.insert(namespace.into(), Seen { version: version.into(), right_for: Some(right_for), is_left });
        }
    }

    /// It was asked for, and is not there.
    pub(super) fn absent(&mut self, kind: Kind, namespace: &str) {
        self.maps_mut(kind).remove(namespace);
    }

    /// Work on one is over: it is right, or why it is not.
    pub(super) fn over(&mut self, namespace: &str, problem: Option<String>, now: Instant) {
        self.busy.remove(namespace);
        let Some(text) = problem else {
            if let Some(skipped) = self.namespaces.as_mut().and_then(|known| known.get_mut(namespace)) {
                *skipped = None;
            }
            // Past fights are remembered for as long as they count.
            let fought = |trouble: &mut Trouble| {
                trouble.fights.retain(|at| now.duration_since(*at) < FIGHT);
                !trouble.fights.is_empty()
            };
            match self.troubles.get_mut(namespace).map(|trouble| (fought(trouble), trouble)) {
                Some((true, trouble)) => {
                    (trouble.text, trouble.until, trouble.tries, trouble.peace) = (String::new(), None, 0, None);
                }
                _ => drop(self.troubles.remove(namespace)),
            }
            return;
        };
        let Some((name, _)) = self.namespaces.as_ref().and_then(|known| known.get_key_value(namespace)) else { return };
        let trouble = self.troubles.entry(Arc::clone(name)).or_default();
        let (first, longest) = RETRY;
        let retry = first.saturating_mul(1 << trouble.tries.min(10)).min(longest);
        let wait = trouble.peace.unwrap_or(retry);
        (trouble.text, trouble.until) = (text, Some(now + wait));
        trouble.tries = trouble.tries.saturating_add(1);
    }

    /// Work on one has to wait for something that is not its own.
    pub(super) fn put_off(&mut self, namespace: &Arc<str>) {
        self.busy.remove(namespace);
    }

    /// It is being removed, or is gone: it is not one of those that are to have anything.
    pub(super) fn skip(&mut self, namespace: &str, now: Instant) {
        self.busy.remove(namespace);
        self.troubles.remove(namespace);
        if let Some(until) = self.namespaces.as_mut().and_then(|known| known.get_mut(namespace)) {
            *until = Some(now + SKIPPED);
        }
    }

    /// Somebody else has written one back; whether it is to be left to them for this long now.
    pub(super) fn fought(&mut self, namespace: &Arc<str>, peace: Duration, now: Instant) -> bool {
        let trouble = self.troubles.entry(Arc::clone(namespace)).or_default();
        trouble.fights.retain(|at| now.duration_since(*at) < FIGHT);
        trouble.peace = (trouble.fights.len() >= FIGHTS).then_some(peace);
        if trouble.peace.is_some() {
            trouble.fights.clear();
        } else {
            trouble.fights.push(now);
        }
        trouble.peace.is_some()
    }

    /// Nothing is heard of what is followed, or something again; whether that is news.
    pub(super) fn deaf(&mut self, of: Followed, problem: Option<String>) -> bool {
        let deaf = self.deaf.get_mut(of.index());
        deaf.is_some_and(|deaf| std::mem::replace(deaf, problem.clone()) != problem)
    }

    /// Places that are to have what is wanted, and those that have it.
    pub(super) fn count(&self, now: Instant) -> (u64, u64) {
        let names =
            || self.namespaces.iter().flatten().map(|(name, _)| name).filter(|name| !self.is_skipped(name, now));
        (names().count() as u64, names().filter(|name| self.is_right(name)).count() as u64)
    }

    /// Whether something is to be looked at first.
    pub(super) fn has_fresh(&self) -> bool {
        !self.fresh.is_empty()
    }

    /// What keeps something from being known.
    pub(super) fn deafness(&self) -> Option<&String> {
        self.deaf.iter().flatten().next()
    }

    /// The first few troubles, each once with the namespaces that have it.
    pub(super) fn problem(&self) -> Option<String> {
        let mut kinds: Vec<(String, Vec<&str>, &str)> = Vec::new();
        for (name, trouble) in self.troubles.iter().filter(|(_, trouble)| !trouble.text.is_empty()) {
            // The words of API servers name the namespace.
            let kind = trouble.text.replace(&format!("{name:?}"), "");
            match kinds.iter_mut().find(|(known, ..)| *known == kind) {
                Some((_, names, _)) => names.push(name),
                None => kinds.push((kind, vec![name], &trouble.text)),
            }
        }
        let several = |names: &[&str]| {
            let named = names.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
            match names.len().saturating_sub(NAMED) {
                0 if names.len() == 1 => format!("namespace {named}"),
                0 => format!("namespaces {named}"),
                more => format!("namespaces {named} and {more} more"),
            }
        };
        let told = kinds.iter().take(NAMED).map(|(_, names, text)| format!("{}: {text}", several(names)));
        let told: Vec<String> = told.collect();
        let more: usize = kinds.iter().skip(NAMED).map(|(_, names, _)| names.len()).sum();
        let more = if more == 0 { String::new() } else { format!("; and {more} namespaces more") };
        (!told.is_empty()).then(|| format!("{}{more}", told.join("; ")))
    }

    /// How long until something is to be tried again.
    pub(super) fn again_in(&self, now: Instant) -> Option<Duration> {
        let skipped = self.namespaces.iter().flatten();
        let skipped = skipped.filter_map(|(name, until)| until.filter(|_| !self.is_right(name)));
        let waiting = self.troubles.iter().filter(|(name, _)| !self.is_right(name));
        let times = waiting.map(|(_, trouble)| trouble.until.unwrap_or(now)).chain(skipped);
        times.min().map(|at| at.saturating_duration_since(now))
    }
}

#[cfg(test)]
#[path = "places_tests.rs"]
mod tests;
