//! The load and the judge of every test that kills something: callers that ask for certificates one after the other and
//! try again as istio-agent does, and whether all that they received is on record, no serial twice and no gap in the log.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::{Code, Status};

use crate::client::ask::Ask;
use crate::client::certify::Client;
use crate::client::{csr, keys};
use crate::failure::{Failure, Outcome, ensure};
use crate::harness::{Ca, Dev};

/// How often istio-agent tries, and its first pause, which doubles.
const ATTEMPTS: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The codes on which it tries again.
const RETRIED: [Code; 6] = [
    Code::Cancelled,
    Code::DeadlineExceeded,
    Code::ResourceExhausted,
    Code::Aborted,
    Code::Internal,
    Code::Unavailable,
];

/// Callers at work.
pub struct Callers {
    seen: Arc<watch::Sender<Received>>,
    over: Arc<AtomicBool>,
    tasks: JoinSet<()>,
}

/// What callers came to.
#[derive(Debug, Default, Clone)]
pub struct Received {
    /// The serials of all certificates, as the audit log writes them.
    pub serials: Vec<String>,
    /// Requests that were answered with no certificate at the last attempt, in words.
    pub lost: Vec<String>,
}

impl Callers {
    /// Sends callers to the CA of an installation.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn start(dev: &Dev, number: usize) -> Outcome<Self> {
        Self::at(dev.listen, dev, number)
    }

    /// Sends them to this address of it.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn at(address: SocketAddr, dev: &Dev, number: usize) -> Outcome<Self> {
        let ask = Ask::new(&csr::like_ztunnel(None)?.csr, &dev.token("client")?);
        let roots = dev.text("root-cert.pem")?;
        let seen = Arc::new(watch::Sender::new(Received::default()));
        let mut callers = Self { seen, over: Arc::default(), tasks: JoinSet::new() };
        for _ in 0..number {
            let endpoint = Client::endpoint_with(address, Client::trust(&roots))?;
            let (ask, seen, over) = (ask.clone(), Arc::clone(&callers.seen), Arc::clone(&callers.over));
            callers.tasks.spawn(async move {
                while !over.load(Ordering::SeqCst) {
                    let outcome = ask_patiently(&endpoint, &ask).await;
                    seen.send_modify(|seen| match outcome {
                        Ok(serial) => seen.serials.push(serial),
                        Err(words) => seen.lost.push(words),
                    });
                }
            });
        }
        Ok(callers)
    }

    /// What they came to so far.
    #[must_use]
    pub fn so_far(&self) -> Received {
        self.seen.borrow().clone()
    }

    /// Waits until they have received so many certificates more.
    ///
    /// # Errors
    /// [`Failure::Deadline`].
    pub async fn receive(&self, more: usize, within: Duration) -> Outcome {
        let mut seen = self.seen.subscribe();
        let wanted = seen.borrow().serials.len() + more;
        let enough = seen.wait_for(|seen| seen.serials.len() >= wanted);
        if let Ok(Ok(_)) = tokio::time::timeout(within, enough).await {
            return Ok(());
        }
        let Received { serials, mut lost } = self.so_far();
        let lost = lost.pop().unwrap_or_default();
        let context = format!("; {} were, and the last one lost: {lost}", serials.len());
        Err(Failure::Deadline { what: format!("{wanted} certificates"), within, context })
    }

    /// Lets each end its request, and gives what they came to.
    pub async fn stop(mut self) -> Received {
        self.over.store(true, Ordering::SeqCst);
        while self.tasks.join_next().await.is_some() {}
        self.so_far()
    }
}

/// One certificate, over a connection of its own after each failure, as istio-agent does.
async fn ask_patiently(endpoint: &tonic::transport::Endpoint, ask: &Ask) -> Result<String, String> {
    let (mut pause, mut words) = (FIRST_PAUSE, String::new());
    for attempt in 1..=ATTEMPTS {
        match Client::over(endpoint.connect_lazy()).call(ask).await {
            Ok(reply) => return serial(&reply).map_err(|failure| failure.to_string()),
            Err(status) if RETRIED.contains(&status.code()) || is_of_transport(&status) => {
                words = format!("attempt {attempt}: {:?}: {}", status.code(), status.message());
            }
            Err(status) => return Err(format!("not to be tried again: {:?}: {}", status.code(), status.message())),
        }
        if attempt < ATTEMPTS {
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }
    Err(words)
}

/// Whether the connection failed and not the call: `Unavailable` to istio-agent, whatever this client's library calls it.
fn is_of_transport(status: &Status) -> bool {
    std::error::Error::source(status).is_some_and(|source| source.is::<tonic::transport::Error>())
}

fn serial(reply: &[String]) -> Outcome<String> {
    let leaf = reply.first().ok_or_else(|| Failure::unexpected("a reply without a certificate"))?;
    keys::facts(leaf).map(|facts| keys::serial(&facts))
}

impl Received {
    /// Every certificate that was received is on record, no serial twice, and the log has no gap.
    ///
    /// # Errors
    /// [`Failure::Unexpected`] that says which.
    pub fn is_on_record(&self, ca: &Ca) -> Outcome {
        let events = ca.audit(&[])?;
        let serials = events.iter().filter_map(|event| event.get("what")?.get("serial")?.as_str());
        let recorded: Vec<&str> = serials.collect();
        let sequences: Vec<u64> = events.iter().filter_map(|event| event.get("sequence")?.as_u64()).collect();
        self.compare(&recorded, &sequences)
    }

    /// The same with the serials on record and all sequence numbers, newest first.
    fn compare(&self, recorded: &[&str], sequences: &[u64]) -> Outcome {
        let unique: BTreeSet<&str> = recorded.iter().copied().collect();
        ensure(unique.len() == recorded.len(), || "a serial is on record twice".to_owned())?;
        let distinct: BTreeSet<&String> = self.serials.iter().collect();
        ensure(distinct.len() == self.serials.len(), || "a serial was handed out twice".to_owned())?;
        let missing: Vec<&String> = self.serials.iter().filter(|serial| !unique.contains(serial.as_str())).collect();
        ensure(missing.is_empty(), || {
            format!("{} of {} certificates are not on record: {missing:?}", missing.len(), self.serials.len())
        })?;
        let gapless = sequences.iter().rev().copied().eq(0..sequences.len() as u64);
        ensure(gapless, || "the log has gaps, or does not start at 0".to_owned())
    }

    /// No request was lost.
    ///
    /// # Errors
    /// [`Failure::Unexpected`] with the last ones that were.
    pub fn none_lost(&self) -> Outcome {
        let (lost, all) = (self.lost.len(), self.lost.len() + self.serials.len());
        ensure(lost == 0, || {
            format!("{lost} of {all} requests were lost: {:#?}", self.lost.iter().rev().take(5).collect::<Vec<_>>())
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn each_way_to_lose_a_record_is_told() {
        let received = |serials: &[&str]| Received {
            serials: serials.iter().map(|&serial| serial.to_owned()).collect(),
            lost: Vec::new(),
        };
        received(&["a", "b"]).compare(&["b", "x", "a"], &[3, 2, 1, 0]).unwrap();
        type Case<'a> = (&'a [&'a str], &'a [&'a str], &'a [u64], &'a str);
        let table: [Case<'_>; 6] = [
            (&["a"], &["b"], &[0], "not on record"),
            (&["a", "a"], &["a"], &[0], "handed out twice"),
            (&["a"], &["a", "a"], &[1, 0], "on record twice"),
            (&["a"], &["a"], &[2, 0], "gaps"),
            (&["a"], &["a"], &[2, 1], "gaps"),
            (&["a"], &["a"], &[0, 1], "gaps"),
        ];
        for (got, recorded, sequences, words) in table {
            let told = received(got).compare(recorded, sequences).unwrap_err().to_string();
            assert!(told.contains(words), "{told}");
        }
        let lost = Received { lost: vec!["attempt 5: Unavailable".to_owned()], ..received(&["a"]) };
        assert!(lost.none_lost().unwrap_err().to_string().contains("1 of 2 requests"));
    }
}
