//! Answers the PodCertificateRequests of one signer in one cluster: they are followed, and each is worked on until it has an
//! answer or is gone, so many at a time.

mod attempt;
mod live;
mod queue;
mod request;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use kube::Api;
use kube::api::{ApiResource, DynamicObject};
use signet_core::clock::SharedClock;
use signet_core::identity::TrustDomain;
use signet_core::seams::authenticator::AuthenticationError;
use signet_core::seams::pod_certificates::{Claim, PodCertificateIssuer, PodRequest, Unissued};
use signet_core::time_math;
use tokio::sync::Notify;
use tokio::time::Instant;

pub use self::attempt::Attempt;
use self::attempt::Ended;
use self::live::Expected;
use self::queue::{MOST, Queue};
use self::request::{Answer, Open, Written, discover};
use super::api_server::ApiServer;
use super::watch::{Listener, Selected, follow};

/// Between two attempts with a request, the first and the longest.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// How often it is asked whether the API server has such requests, when it does not.
const DISCOVER: Duration = Duration::from_secs(30);

/// Which requests are answered, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignerRules {
    /// The configured id of the cluster.
    pub cluster: String,
    /// The trust domain of its workloads.
    pub trust_domain: TrustDomain,
    /// The signer that pods name.
    pub signer: String,
    /// Requests that are worked on at a time.
    pub at_once: usize,
}

/// Told of each attempt, and how long after the request was heard of it was.
pub type OnAttempt = dyn Fn(Attempt, Duration) + Send + Sync;

/// How a signer stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SignerHealth {
    /// The version of the requests, once it is known.
    pub version: Option<String>,
    /// Requests without an answer.
    pub open: usize,
    /// Certificates that this process has written since its start.
    pub issued: u64,
    /// Refusals that it has.
    pub denied: u64,
    /// How long ago everything that is known was last said to be all there is; `None` before the first list.
    pub heard_ago: Option<Duration>,
    /// What keeps it from hearing of requests, or from answering.
    pub problem: Option<String>,
}

/// Answers the requests of a signer.
pub struct PodCertificates {
    rules: SignerRules,
    state: Mutex<Queue>,
    /// Told of requests that have come.
    arrived: Notify,
    /// Told of each attempt that has ended.
    ended: Notify,
    /// Told of all that operators are told.
    told: Notify,
    on_attempt: Box<OnAttempt>,
    clock: SharedClock,
}

impl PodCertificates {
    /// Knows of no request yet.
    #[must_use]
    pub fn new(rules: SignerRules, clock: SharedClock, on_attempt: Box<OnAttempt>) -> Arc<Self> {
        let (arrived, ended, told) = (Notify::new(), Notify::new(), Notify::new());
        Arc::new(Self { rules, state: Mutex::default(), arrived, ended, told, on_attempt, clock })
    }

    /// How it stands.
    #[must_use]
    pub fn health(&self) -> SignerHealth {
        let state = self.state();
        SignerHealth {
            version: state.version.clone(),
            open: state.work.len(),
            issued: state.issued,
            denied: state.denied,
            heard_ago: state.heard_at.map(|at| at.elapsed()),
            problem: state.deaf.clone().or_else(|| state.stuck.clone()),
        }
    }

    /// Waits until something has changed after the last time that this was waited for.
    pub async fn changed(&self) {
        self.told.notified().await;
    }

    /// Answers requests for ever.
    pub async fn answer(&self, server: &ApiServer, issuer: &dyn PodCertificateIssuer) {
        let resource = self.discovered(server).await;
        let listening = async {
            loop {
                let listing = Selected {
                    api: || Api::<DynamicObject>::all_with(server.client(), &resource),
                    fields: format!("spec.signerName={}", self.rules.signer),
                };
                let following = follow(&listing, self as &dyn Listener<DynamicObject>, |object| {
                    object.metadata.resource_version.as_deref()
                });
                tokio::select! {
                    () = following => {}
                    () = self.drained() => {}
                }
            }
        };
        tokio::join!(listening, self.work(server, &resource, issuer));
    }

    async fn discovered(&self, server: &ApiServer) -> ApiResource {
        loop {
            let problem = match discover(server).await {
                Ok(Some(resource)) => {
                    let mut state = self.state();
                    (state.version, state.deaf) = (Some(resource.version.clone()), None);
                    return resource;
                }
                Ok(None) => {
                    "the API server has no PodCertificateRequests: they are there from Kubernetes 1.37 on, and before \
                     that with the feature gate PodCertificateRequest and certificates.k8s.io/v1beta1 turned on"
                        .to_owned()
                }
                Err(error) => said(&error),
            };
            self.state().deaf = Some(problem);
            self.told.notify_one();
            tokio::time::sleep(DISCOVER).await;
        }
    }

    /// Waits until requests that found no room can be listed again.
    async fn drained(&self) {
        loop {
            self.ended.notified().await;
            let mut state = self.state();
            if state.left_out && state.work.len() < MOST / 2 {
                state.left_out = false;
                return;
            }
        }
    }

    async fn work(&self, server: &ApiServer, resource: &ApiResource, issuer: &dyn PodCertificateIssuer) {
        let mut running = FuturesUnordered::new();
        loop {
            while running.len() < self.rules.at_once
                && let Some((open, heard_at)) = self.next_due()
            {
                running.push(async move {
                    let ended = self.attempt(server, resource, issuer, &open).await;
                    (open, heard_at, ended)
                });
            }
            let next = self.state().due.first().map(|(at, _)| *at).filter(|_| running.len() < self.rules.at_once);
            let later = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some((open, heard_at, ended)) = running.next(), if !running.is_empty() => {
                    self.end(&open, heard_at, ended);
                }
                () = later => {}
                () = self.arrived.notified() => {}
            }
        }
    }

    fn next_due(&self) -> Option<(Arc<Open>, Instant)> {
        self.state().take(Instant::now())
    }

    /// One attempt with a request: what came of it, and why not more.
    async fn attempt(
        &self,
        server: &ApiServer,
        resource: &ApiResource,
        issuer: &dyn PodCertificateIssuer,
        open: &Open,
    ) -> Ended {
        let answer = match issuer.claim(&open.uid).await {
            Err(error) => return Ended::later(error.to_string()),
            Ok(Claim::Done) => return Ended::of(Attempt::Over),
            Ok(Claim::HeldByAnother(until)) => {
                let left = time_math::until(self.clock.now(), until);
                return Ended { again: Some(left.clamp(RETRY.0, RETRY.1)), ..Ended::of(Attempt::Later) };
            }
            Ok(Claim::Signed(chain)) => Answer::Issued(chain),
            Ok(Claim::Claimed) => match self.decide(server, issuer, open).await {
                Ok(answer) => answer,
                Err(why) => return Ended::later(why),
            },
        };
        let written = request::write(server.client(), resource, open, &answer, self.clock.now()).await;
        let ended = match written {
            Err(error) => return Ended::later(said(&error)),
            Ok(Written::Now) if matches!(answer, Answer::Issued(_)) => Ended::of(Attempt::Issued),
            Ok(Written::Now) => Ended::of(Attempt::Denied),
            Ok(Written::Over) => Ended::of(Attempt::Over),
            Ok(Written::Refused(why)) => {
                let why = format!("{}/{}: the API server does not take the answer: {why}", open.namespace, open.name);
                tracing::warn!(signer = self.rules.signer, why, "a request for a pod's certificate is given up");
                Ended { problem: Some(why), ..Ended::of(Attempt::GivenUp) }
            }
        };
        let chain = match (&answer, ended.attempt) {
            (Answer::Issued(chain), Attempt::Issued | Attempt::Over) => Some(chain.as_str()),
            _ => None,
        };
        issuer.answered(&open.uid, chain).await;
        ended
    }

    /// Decides about a request that this process has claimed.
    ///
    /// # Errors
    /// Why that has to wait.
    async fn decide(
        &self,
        server: &ApiServer,
        issuer: &dyn PodCertificateIssuer,
        open: &Open,
    ) -> Result<Answer, String> {
        let SignerRules { cluster, trust_domain, signer, .. } = &self.rules;
        let found = live::find(&server.client(), open).await.map_err(|error| said(&error))?;
        let caller = live::judge(&Expected { cluster, trust_domain, signer }, open, &found);
        let request = PodRequest {
            uid: open.uid.clone(),
            caller,
            csr: open.csr(),
            problem: open.problem.clone(),
            signer: signer.clone(),
            longest: open.longest,
        };
        match issuer.issue(request).await {
            Ok(chain) => Ok(Answer::Issued(chain)),
            Err(Unissued::Denied { reason, message }) => Ok(Answer::Denied { reason, message }),
            Err(Unissued::Later(why)) => Err(why),
        }
    }

    fn end(&self, open: &Open, heard_at: Instant, ended: Ended) {
        let Ended { attempt, again, problem } = ended;
        (self.on_attempt)(attempt, heard_at.elapsed());
        let mut state = self.state();
        match attempt {
            Attempt::Issued => state.issued = state.issued.saturating_add(1),
            Attempt::Denied => state.denied = state.denied.saturating_add(1),
            Attempt::Over | Attempt::GivenUp | Attempt::Later => {}
        }
        if attempt != Attempt::Over && (attempt != Attempt::Later || problem.is_some()) {
            state.stuck = problem;
        }
        let attempts = state.work.get(&open.uid).map_or(0, |work| work.attempts);
        let backoff = RETRY.0.saturating_mul(2_u32.saturating_pow(attempts)).min(RETRY.1);
        let again = match attempt {
            Attempt::Later => Some(again.unwrap_or(backoff)),
            _ => None,
        };
        state.put_back(&open.uid, again);
        drop(state);
        self.ended.notify_one();
        self.told.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, Queue> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether an API server has such requests.
///
/// # Errors
/// [`AuthenticationError::Unavailable`].
pub(super) async fn serves_pod_certificates(server: &ApiServer) -> Result<bool, AuthenticationError> {
    discover(server).await.map(|found| found.is_some())
}

fn said(error: &AuthenticationError) -> String {
    match error {
        AuthenticationError::Unavailable { reason, detail } => format!("{}: {detail}", reason.label()),
        error => error.to_string(),
    }
}

impl Listener<DynamicObject> for PodCertificates {
    fn replace(&self, all: Vec<DynamicObject>) {
        let mut state = self.state();
        let there: BTreeSet<String> = all.iter().filter_map(|object| object.metadata.uid.clone()).collect();
        let gone: Vec<String> = state.work.keys().filter(|uid| !there.contains(*uid)).cloned().collect();
        for uid in gone {
            state.forget(&uid);
        }
        for object in &all {
            state.hear(object);
        }
        (state.heard_at, state.deaf) = (Some(Instant::now()), None);
        drop(state);
        self.arrived.notify_one();
        self.told.notify_one();
    }

    fn apply(&self, object: DynamicObject) {
        self.state().hear(&object);
        self.arrived.notify_one();
    }

    fn delete(&self, object: DynamicObject) {
        if let Some(uid) = &object.metadata.uid {
            self.state().forget(uid);
        }
    }

    fn heard(&self) {
        self.state().heard_at = Some(Instant::now());
    }

    fn listening(&self) {
        self.state().deaf = None;
        self.told.notify_one();
    }

    fn failed(&self, error: &AuthenticationError) {
        self.state().deaf = Some(said(error));
        self.told.notify_one();
    }
}

#[cfg(test)]
#[path = "pod_certificates/tests.rs"]
mod tests;
