//! A node agent as ztunnel is one: it asks with the token of its own pod for the identities of its node, and asks again before they end.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tonic::Status;

use crate::client::ask::Ask;
use crate::client::certify::Client;
use crate::client::csr;
use crate::failure::{Failure, Outcome};

/// Between two rounds: it learns roots from replies only, so that a rotation waits for its next one.
const AGAIN: Duration = Duration::from_secs(2);

/// What it has got.
#[derive(Debug, Clone, Default)]
struct Got {
    certificates: u64,
    problem: Option<String>,
}

/// The running agent; it ends when this is dropped.
pub struct Ztunnel {
    client: Client,
    token: String,
    got: Arc<Mutex<Got>>,
    _tasks: JoinSet<()>,
}

async fn ask(client: &Client, token: &str, identity: &str) -> Result<Vec<String>, Status> {
    let csr = csr::like_ztunnel(Some(identity)).map_err(|failure| Status::unknown(failure.to_string()))?.csr;
    client.call(&Ask::like_ztunnel(&csr, token, identity).for_seconds(60)).await
}

impl Ztunnel {
    /// Starts one with the token of its pod, which keeps these identities.
    #[must_use]
    pub fn start(client: Client, token: String, identities: Vec<String>) -> Self {
        let (got, mut tasks) = (Arc::<Mutex<Got>>::default(), JoinSet::new());
        let (own, credential, told) = (client.clone(), token.clone(), Arc::clone(&got));
        tasks.spawn(async move {
            loop {
                for identity in &identities {
                    let answer = ask(&own, &credential, identity).await;
                    let mut got = told.lock().unwrap_or_else(PoisonError::into_inner);
                    match answer {
                        Ok(_) => (got.certificates, got.problem) = (got.certificates + 1, None),
                        Err(status) => {
                            got.problem = Some(format!("{identity}: {:?}: {}", status.code(), status.message()))
                        }
                    }
                }
                tokio::time::sleep(AGAIN).await;
            }
        });
        Self { client, token, got, _tasks: tasks }
    }

    /// How many certificates it has got.
    ///
    /// # Errors
    /// [`Failure`] when the last answer was a refusal.
    pub fn certificates(&self) -> Outcome<u64> {
        let got = self.got.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match got.problem {
            Some(problem) if got.certificates > 0 => Err(Failure::unexpected(format!("the node agent: {problem}"))),
            _ => Ok(got.certificates),
        }
    }

    /// Asks for any identity: the refusal, if it is refused.
    pub async fn is_refused(&self, identity: &str) -> Option<Status> {
        ask(&self.client, &self.token, identity).await.err()
    }
}
