//! Whether the API servers and issuers of the clusters, and whoever certifies issuing CAs, answer, and let this CA do what it
//! needs; for `check --connect`.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use signet_core::clock::SystemClock;
use signet_core::seams::authenticator::AuthenticationError;
use signet_plugins::authority::Tried;

use super::former::Former;
use super::kubernetes::{self, Server};
use super::trial::trial;
use super::{cert_manager, tokens, vault};
use crate::config::{Backend, Cluster, Config, Tokens};

/// How long all questions to one cluster may take together.
const CLUSTER: Duration = Duration::from_secs(30);

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Connected {
    /// What is wrong.
    pub(super) problems: Vec<String>,
    /// What could not be seen.
    pub(super) unseen: Vec<String>,
    /// What was done.
    pub(super) notes: Vec<String>,
}

/// Asks all clusters, and whoever certifies issuing CAs, at the same time. A signature is tried on record, or `off_record`.
pub(super) async fn connect(config: &Config, off_record: bool) -> Connected {
    let asked = config.clusters.iter().enumerate().map(async |(index, cluster)| {
        let field = format!("clusters[{index}]");
        let found = tokio::time::timeout(CLUSTER, ask(cluster)).await;
        let late = format!("api_server: not all that is to be known was answered within {CLUSTER:?}");
        let (problems, unseen) = found.unwrap_or_else(|_| (vec![late], Vec::new()));
        let named = |all: Vec<String>| all.into_iter().map(|one| format!("{field}.{one}")).collect::<Vec<_>>();
        (named(problems), named(unseen))
    });
    let (of_clusters, mut found, (wrong, not_seen)) =
        tokio::join!(join_all(asked), ask_backend(config, off_record), ask_former(config));
    let (problems, unseen): (Vec<_>, Vec<_>) = of_clusters.into_iter().unzip();
    found.problems = [problems.concat(), found.problems, wrong].concat();
    found.unseen = [unseen.concat(), found.unseen, not_seen].concat();
    found
}

/// The backend before, which signs leaves; it is asked for none.
async fn ask_former(config: &Config) -> (Vec<String>, Vec<String>) {
    let section = config.authority.former.as_ref();
    let former = section.and_then(|section| Former::open(section, &config.trust_domain, Arc::new(SystemClock)));
    match former {
        Some(former) => former.probe(config.authority.schedule.issuing_ttl).await,
        None => Default::default(),
    }
}

/// Whoever certifies issuing CAs, if somebody else does. Each call has its own deadline.
async fn ask_backend(config: &Config, off_record: bool) -> Connected {
    match &config.authority.backend {
        Backend::Vault(section) => {
            let opened = vault::Opened::new(section, &config.trust_domain, Arc::new(SystemClock));
            let probed = opened.probe(config.authority.schedule.issuing_ttl).await;
            let named = |text| opened.named(text);
            Box::pin(tried(config, probed, ("Vault", &named), off_record, opened.try_out())).await
        }
        Backend::CertManager(section) => {
            let opened = cert_manager::Opened::new(section, &config.trust_domain);
            let probed = opened.probe().await;
            let named = |text| opened.named(text);
            Box::pin(tried(config, probed, ("cert-manager", &named), off_record, opened.try_out())).await
        }
        Backend::Native | Backend::Files(_) => Connected::default(),
    }
}

/// What was found of an issuer by asking, and by a trial signature where that makes sense.
async fn tried(
    config: &Config,
    (problems, unseen, may_sign): (Vec<String>, Vec<String>, bool),
    (whose, named): (&str, &(dyn Fn(String) -> String + Sync)),
    off_record: bool,
    ask: impl Future<Output = Result<Tried, String>>,
) -> Connected {
    let mut found = Connected { problems, unseen, notes: Vec::new() };
    if may_sign {
        let tried = trial(config, whose, off_record, ask).await;
        found.problems.extend(tried.problems.into_iter().map(named));
        found.unseen.extend(tried.unseen.into_iter().map(named));
        found.notes = tried.notes;
    } else {
        let what = match found.problems.is_empty() {
            true => "whether a leaf is signed: only issuing CAs are tried",
            false => "whether an issuing CA is signed: what is wrong comes first",
        };
        found.unseen.push(named(what.to_owned()));
    }
    found
}

async fn ask(cluster: &Cluster) -> (Vec<String>, Vec<String>) {
    let (mut problems, mut unseen, mut is_reached) = (Vec::new(), Vec::new(), true);
    // Files that cannot be used are told of by `check` itself.
    let Ok(server) = Server::open(cluster).await else { return (problems, unseen) };
    if let Some(server) = &server {
        match kubernetes::probe(cluster, server).await {
            Ok(found) => {
                problems.extend(found.problems);
                unseen.extend(found.unseen);
            }
            Err(problem) => {
                is_reached = false;
                problems.push(format!("api_server: {problem}"));
            }
        }
    }
    let asks_server = matches!(cluster.tokens, Tokens::Jwks { .. }) && cluster.tokens.ask_the_api_server();
    if (asks_server && is_reached) || cluster.tokens.ask_the_issuer() {
        let Ok(keys) = tokens::keys(cluster, server.as_ref()).await else { return (problems, unseen) };
        problems.extend(keys.look_up().await.err().map(|error| match error {
            AuthenticationError::Unavailable { reason, detail } => {
                format!("tokens.from: the keys cannot be read: {}: {detail}", reason.label())
            }
            error => format!("tokens.from: the keys cannot be read: {error}"),
        }));
    }
    (problems, unseen)
}
