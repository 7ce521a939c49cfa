//! Many workloads that ask for a certificate once, as after the start of a cluster.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::client::ask::Ask;
use crate::client::certify::Client;
use crate::client::token::{ClusterKey, Token};
use crate::client::{csr, keys};
use crate::failure::{Failure, Outcome};
use crate::harness::Dev;
use crate::judge;

/// How long their certificates live.
const LIFE: i64 = 60;

/// How many ask at the same time.
const AT_ONCE: usize = 16;

/// The namespace that they are in.
const NAMESPACE: &str = "crowd";

/// What they got.
pub struct Served {
    /// Serial numbers, as records write them.
    pub serials: Vec<String>,
    /// How long it took.
    pub took: Duration,
    /// The first answer: leaf, intermediates and the trust bundle.
    pub first: Vec<String>,
}

/// So many workloads get a certificate each, which OpenSSL verifies in the case of the first.
///
/// # Errors
/// [`Failure`] of the first that is refused.
pub async fn served(dev: &Dev, count: usize) -> Outcome<Served> {
    let (key, model) = (ClusterKey::of(dev)?, Token::read(&dev.token("client")?)?);
    let mut asks = Vec::new();
    for number in 0..count {
        let token = key.sign(&model.of(NAMESPACE, &format!("workload-{number}")))?;
        asks.push((csr::like_ztunnel(None)?.csr, token));
    }
    let client = Client::connect(dev).await?;
    let first = asks.first().map(|(csr, _)| csr.clone()).unwrap_or_default();
    let (start, mut asking) = (Instant::now(), JoinSet::new());
    let (mut waiting, mut answers) = (asks.into_iter().enumerate(), Vec::new());
    loop {
        while asking.len() < AT_ONCE {
            let Some((number, (csr, token))) = waiting.next() else { break };
            let client = client.clone();
            asking.spawn(async move {
                client.issued(&Ask::new(&csr, &token).for_seconds(LIFE)).await.map(|reply| (number, reply))
            });
        }
        let Some(done) = asking.join_next().await else { break };
        answers.push(done.map_err(Failure::while_doing("wait for a workload"))??);
    }
    let took = start.elapsed();
    let serials = answers.iter().map(|(_, reply)| serial(reply)).collect::<Outcome<_>>()?;
    let reply = answers.into_iter().find(|(number, _)| *number == 0).map(|(_, reply)| reply).unwrap_or_default();
    judge::workload(&reply, &first, &format!("spiffe://cluster.local/ns/{NAMESPACE}/sa/workload-0"))?;
    Ok(Served { serials, took, first: reply })
}

fn serial(reply: &[String]) -> Outcome<String> {
    let leaf = reply.first().ok_or_else(|| Failure::unexpected("an empty reply"))?;
    Ok(keys::serial(&keys::facts(leaf)?))
}
