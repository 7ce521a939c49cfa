//! Follows the keys that a cluster publishes for its tokens. Keys that are in use stay until there are good ones.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use signet_core::audit::{EventKind, Outcome};
use signet_core::seams::authenticator::{AuthenticationError, Outage};
use signet_plugins::authenticator::{Published, PublishedKeys, Refreshed};
use signet_runtime::files::{self, FileError};
use signet_runtime::output::error_chain;
use signet_runtime::readiness::Condition;
use tokio::time::Instant;

use super::tokens::TokensError;
use crate::config::{Cluster, KeySource, Tokens};
use crate::notices::{Notice, Notices};

/// How often a file of keys is looked at.
const LOOK_AT_FILE: Duration = Duration::from_secs(2);
/// How often a server is asked for its keys. A token with an unknown key makes for a look at once.
const ASK: Duration = Duration::from_secs(60);
/// How often it is asked while there are none, or while they cannot be read.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// The largest JWKS file that is read, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// What a file of keys holds.
pub(super) async fn read_file(file: &Path) -> Result<Vec<u8>, FileError> {
    files::read_in_time(file, MAX_FILE).await
}

/// Why keys were not read.
enum Unread {
    File(TokensError),
    Server(AuthenticationError),
}

impl Unread {
    fn is_forbidden(&self) -> bool {
        matches!(self, Self::Server(AuthenticationError::Unavailable { reason: Outage::ApiForbidden, .. }))
    }
}

/// How reading the keys of a cluster goes.
#[derive(Debug, Clone, Default)]
pub(super) struct KeysRead {
    /// When they were read last, and were good.
    pub(super) at: Option<Instant>,
    /// What keeps them from being read now.
    pub(super) problem: Option<String>,
    /// For metrics: whether that matters.
    pub(super) refused: bool,
}

/// The keys of one cluster and where they come from.
pub(super) struct ClusterKeys {
    cluster: String,
    /// `None` where a server is asked.
    file: Option<PathBuf>,
    /// Whether tokens can be verified without them.
    dispensable: bool,
    keys: Arc<PublishedKeys>,
    condition: Condition,
    read: Arc<Mutex<KeysRead>>,
    /// The keys left out that were told of, so that each is told once while it stays as it is.
    told: BTreeSet<String>,
    /// What was complained of last.
    complained: Option<String>,
    notices: Notices,
}

impl ClusterKeys {
    pub(super) fn new(
        cluster: &Cluster,
        keys: Arc<PublishedKeys>,
        condition: Condition,
        read: Arc<Mutex<KeysRead>>,
        notices: Notices,
    ) -> Self {
        let file = match &cluster.tokens {
            Tokens::Jwks { keys: KeySource::File(file), .. } => Some(file.clone()),
            _ => None,
        };
        let dispensable = matches!(cluster.tokens, Tokens::Review { .. });
        let (cluster, told, complained) = (cluster.id.clone(), BTreeSet::new(), None);
        let mut followed = Self { cluster, file, dispensable, keys, condition, read, told, complained, notices };
        match followed.keys.published() {
            Some(published) => {
                followed.was_read(None);
                followed.in_use(&published);
            }
            // A CA starts without them: other clusters do not wait for this one.
            None => followed.condition.degraded("the keys have not been obtained yet"),
        }
        followed
    }

    /// Takes over new keys as they are published; the old ones stay when the new ones are no good.
    pub(super) async fn keep(mut self) {
        loop {
            let wait = match (&self.file, self.keys.published()) {
                (Some(_), _) => LOOK_AT_FILE,
                (None, Some(_)) => ASK,
                (None, None) => ASK_AGAIN,
            };
            if self.file.is_none() {
                let result = self.keys.look_up().await.map_err(Unread::Server);
                // What keeps them from being read is often over in a moment; that this may not be done is not.
                let soon = result.as_ref().is_err_and(|unread| !(self.dispensable && unread.is_forbidden()));
                self.report(result);
                tokio::time::sleep(if soon { ASK_AGAIN } else { wait }).await;
            } else {
                tokio::time::sleep(wait).await;
                let result = self.reload().await.map_err(Unread::File);
                self.report(result);
            }
        }
    }

    /// Notes that they were read, or what keeps them from being.
    fn was_read(&self, problem: Option<String>) {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        read.refused = problem.is_some() && !self.dispensable;
        if problem.is_none() {
            read.at = Some(Instant::now());
        }
        read.problem = problem;
    }

    async fn reload(&self) -> Result<Refreshed, TokensError> {
        let Some(file) = &self.file else { return Ok(Refreshed::Unchanged) };
        let content = read_file(file).await?;
        self.keys.refresh(&content).map_err(|cause| TokensError::Content { file: file.clone(), cause })
    }

    /// Says which keys are in use and which are left out.
    fn in_use(&mut self, published: &Published) {
        let left_out: BTreeSet<String> = published.left_out.iter().map(ToString::to_string).collect();
        for key in left_out.difference(&self.told) {
            let file = self.file.as_ref().map(|file| file.display());
            let cluster = &self.cluster;
            tracing::warn!(
                file = file.map(tracing::field::display),
                cluster,
                key,
                "a published key is left out; tokens that it signed are refused"
            );
        }
        self.told = left_out;
        self.condition.ready(in_words(published));
    }

    fn report(&mut self, result: Result<Refreshed, Unread>) {
        match result {
            Ok(refreshed) => {
                self.was_read(None);
                let cluster = self.cluster.as_str();
                if let Refreshed::Replaced(published) = &refreshed {
                    let left_out = published.left_out.len();
                    tracing::info!(cluster, keys = published.keys, left_out, "token verification keys reloaded");
                    self.notice(Outcome::Done, "token_keys_changed", in_words(published));
                } else if self.complained.is_some() {
                    let file = self.file.as_ref().map(|file| tracing::field::display(file.display()));
                    tracing::info!(cluster, file, "the token verification keys can be used again");
                    self.notice(Outcome::Done, "token_keys_used", "the keys can be used again".to_owned());
                }
                self.complained = None;
                if let Some(published) = self.keys.published() {
                    self.in_use(&published);
                }
            }
            Err(unread) => self.complain(&unread),
        }
    }

    /// What becomes of the keys is on record, with where they come from.
    fn notice(&self, outcome: Outcome, reason: &'static str, text: String) {
        let (subject, cluster) = (self.cluster.clone(), Some(self.cluster.clone()));
        let place = self.file.as_ref().map_or_else(|| "its API server".to_owned(), |file| file.display().to_string());
        let detail = format!("keys that verify tokens of {subject}, from {place}: {text}");
        self.notices.tell(Notice { kind: EventKind::Configuration, subject, cluster, outcome, reason, detail });
    }

    fn complain(&mut self, unread: &Unread) {
        let cluster = self.cluster.as_str();
        let text = match unread {
            Unread::File(error) => error_chain(error),
            Unread::Server(error) => error.to_string(),
        };
        self.was_read(Some(text.clone()));
        // Of a file that hangs the text tells for how long, and a server may word the same thing in many ways.
        let complaint = match unread {
            Unread::File(TokensError::File(FileError::Hangs { .. })) => "hangs".to_owned(),
            Unread::File(_) => text.clone(),
            Unread::Server(error) => error.label().to_owned(),
        };
        let again = self.complained.as_ref() == Some(&complaint);
        if !again && self.dispensable {
            let consequence = "tokens of nobody cost the API server a review each";
            tracing::info!(cluster, error = text, consequence, "the cluster's keys cannot be read");
        } else if !again {
            tracing::warn!(cluster, error = text, "token verification keys could not be reloaded; the old ones stay");
            let (outcome, reason) = match unread {
                Unread::File(_) => (Outcome::Refused, "token_keys_refused"),
                Unread::Server(_) => (Outcome::Failed, "token_keys_unread"),
            };
            self.notice(outcome, reason, format!("the keys before stay in use: {text}"));
        }
        match self.keys.published() {
            Some(_) => self.condition.degraded(format!("the old keys stay in use: {text}")),
            // It need not let us read them. Whatever else keeps us from that may keep us from asking about tokens, too.
            None if self.dispensable && unread.is_forbidden() => {
                self.condition.ready(format!("not used, since they may not be read: {text}"));
            }
            None if self.dispensable => self.condition.degraded(format!("they cannot be read: {text}")),
            None => self.condition.degraded(format!("there are none, so that no token can be verified: {text}")),
        }
        self.complained = Some(complaint);
    }
}

fn in_words(published: &Published) -> String {
    let keys = match published.keys {
        1 => "1 key".to_owned(),
        several => format!("{several} keys"),
    };
    match published.left_out.as_slice() {
        [] => format!("{keys} loaded"),
        [one] => format!("{keys} loaded, 1 left out: {one}"),
        [first, rest @ ..] => format!("{keys} loaded, {} left out: {first}; and {} more", rest.len() + 1, rest.len()),
    }
}

#[cfg(test)]
#[path = "cluster_keys_tests.rs"]
mod tests;
