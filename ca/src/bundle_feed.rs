//! What the bundle stream serves: the validation context and the renewal hints for agents, made anew with each change of the
//! authorities, and the way back from content to bundle sequence.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;
use signet_core::seams::bundle_proofs::SequenceProofs;
use signet_sds::ledger::Ledger;
use signet_sds::snapshot::{DEFAULT_BUNDLE_NAME, Name, SecretContent, Snapshot, Version, Versioned};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::signing_state::{SigningState, StateReader, StateWriter};

/// The name of the secret that tells agents the bundle's sequence and whether to renew.
pub const AGENT_NAME: &str = "signet/agent";

/// The window of hints for certificates that peers refuse already.
const URGENT: Duration = Duration::from_secs(10);

/// How many contents are remembered: acknowledgements of older ones say nothing that matters.
const REMEMBERED: usize = 64;

/// Which content had which sequence.
#[derive(Clone, Default)]
pub struct Sequences(Arc<Mutex<VecDeque<(Version, u64)>>>);

impl Sequences {
    /// The newest sequence that had this content.
    #[must_use]
    pub fn of(&self, version: Version) -> Option<u64> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().rev().find(|(one, _)| *one == version).map(|(_, sequence)| *sequence)
    }

    fn remember(&self, version: Version, sequence: u64) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.back() == Some(&(version, sequence)) {
            return;
        }
        if known.len() == REMEMBERED {
            known.pop_front();
        }
        known.push_back((version, sequence));
    }
}

/// Follows the authorities.
pub struct BundleFeed {
    state: StateReader,
    renewal_window: Duration,
    proofs: Arc<dyn SequenceProofs>,
    snapshots: watch::Sender<Arc<Snapshot>>,
    served: StateWriter,
    sequences: Sequences,
}

impl BundleFeed {
    /// A feed that has nothing to serve until there are authorities; the window is given to agents with each hint, and a
    /// proof with each sequence, which they show when they come back.
    #[must_use]
    pub fn new(state: StateReader, renewal_window: Duration, proofs: Arc<dyn SequenceProofs>) -> Self {
        let names = [DEFAULT_BUNDLE_NAME, AGENT_NAME].map(Name::from).into();
        let snapshots = watch::Sender::new(Arc::new(Snapshot::empty().expecting(&names)));
        let (served, sequences) = (StateWriter::new(None), Sequences::default());
        Self { state, renewal_window, proofs, snapshots, served, sequences }
    }

    /// Where streams read.
    #[must_use]
    pub fn snapshots(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshots.subscribe()
    }

    /// The state that streams are served from by now; it follows the one that the feed was given.
    #[must_use]
    pub fn served(&self) -> StateReader {
        self.served.subscribe()
    }

    /// What tells the sequence of a content.
    #[must_use]
    pub fn sequences(&self) -> Sequences {
        self.sequences.clone()
    }

    /// Publishes each change until `stop`. A bundle may get a new sequence without another content, after a rollback: nothing
    /// is sent then, and whoever has that content by the `ledger` has the new sequence too.
    ///
    /// # Errors
    /// None.
    pub async fn run(mut self, ledger: Ledger, stop: CancellationToken) -> Result<(), std::convert::Infallible> {
        loop {
            let state = self.state.borrow_and_update().clone();
            if let Some(state) = state {
                self.publish(&state, &ledger);
                self.served.send_replace(Some(state));
            }
            match stop.run_until_cancelled(self.state.changed()).await {
                None => return Ok(()),
                Some(Ok(())) => {}
                // The rotator is gone, which means that the process ends.
                Some(Err(_)) => {
                    stop.cancelled().await;
                    return Ok(());
                }
            }
        }
    }

    fn publish(&self, state: &SigningState, ledger: &Ledger) {
        let snapshot = snapshot(state, self.renewal_window, &*self.proofs);
        if snapshot.is_same_content(&self.snapshots.borrow()) {
            return;
        }
        let version = snapshot.secret(DEFAULT_BUNDLE_NAME).map(Versioned::version);
        if let Some(version) = version {
            // Before anybody can acknowledge it.
            self.sequences.remember(version, state.bundle().sequence());
        }
        self.snapshots.send_replace(Arc::new(snapshot));
        if let Some(version) = version {
            ledger.repeat(&Name::from(DEFAULT_BUNDLE_NAME), version);
        }
    }
}

fn snapshot(state: &SigningState, window: Duration, proofs: &dyn SequenceProofs) -> Snapshot {
    let hints = state.authorities.renewal_hints().into_iter().map(|hint| {
        json!({
            "authorities": hint.authorities,
            "serials": hint.serials,
            "since": hint.since.unix_timestamp(),
            "window": if hint.urgent { window.min(URGENT) } else { window }.as_secs(),
        })
    });
    let sequence = state.bundle().sequence();
    let hints: Vec<_> = hints.collect();
    let instructions = json!({ "sequence": sequence, "renew": hints, "proof": proofs.prove(sequence) });
    let instructions: Arc<[u8]> = instructions.to_string().into_bytes().into();
    Snapshot::new([
        (DEFAULT_BUNDLE_NAME, SecretContent::Validation(state.validation.clone())),
        (AGENT_NAME, SecretContent::Generic(instructions)),
    ])
}
