//! The loop: ask, hand the reply to the proxy, wait for half of the life, ask again. A failure changes nothing that is
//! in use.

use std::time::Duration;

use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::sync::watch;

use super::{SecretFiles, Settings, View};
use crate::client::ask::Ask;
use crate::client::certify::Client;
use crate::client::token::now;
use crate::client::{csr, keys, rules};
use crate::failure::{Failure, Outcome};

/// The first wait after a failure; it doubles up to the last.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(2));
/// The least wait between two renewals, whatever a certificate says.
const LEAST: Duration = Duration::from_millis(500);
/// How far renewal is moved to either side of half-life, in parts of the life (istio-agent does it by 1 %).
const JITTER: f64 = 0.01;

pub(super) struct Renewal {
    settings: Settings,
    secrets: SecretFiles,
    output: watch::Sender<View>,
    /// What the next connection trusts: the root file at first, then the last element of the newest reply.
    roots: String,
}

impl Renewal {
    pub(super) fn new(settings: Settings, secrets: SecretFiles, output: watch::Sender<View>) -> Outcome<Self> {
        let file = &settings.root_file;
        let roots = std::fs::read_to_string(file).map_err(Failure::io(format!("read {}", file.display())))?;
        Ok(Self { settings, secrets, output, roots })
    }

    pub(super) async fn run(mut self) {
        let mut retry = RETRY.0;
        loop {
            let wait = match self.turn().await {
                Ok(wait) => {
                    retry = RETRY.0;
                    wait
                }
                Err(failure) => {
                    self.output.send_modify(|view| {
                        view.failures += 1;
                        view.failures_in_a_row += 1;
                        view.last_error = failure.to_string();
                    });
                    let wait = retry;
                    retry = (retry * 2).min(RETRY.1);
                    wait
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// One certificate; gives how long to wait for the next.
    async fn turn(&mut self) -> Outcome<Duration> {
        let settings = &self.settings;
        let made = csr::like_ztunnel(Some(&settings.identity))?;
        let token = std::fs::read_to_string(&settings.token_file).map_err(Failure::io("read the token"))?;
        let seconds = i64::try_from(settings.ttl.as_secs()).unwrap_or(i64::MAX);
        let ask = Ask::like_istio_agent(&made.csr, token.trim()).for_seconds(seconds);
        let client = Client::trusting(settings.ca, &self.roots).await?;
        let answer = client
            .answer(&ask)
            .await
            .map_err(|status| Failure::unexpected(format!("refused with {:?}: {}", status.code(), status.message())))?;
        let reply = answer.cert_chain;
        let view = rules::istio_agent(&reply).map_err(Failure::while_doing("read the reply as istio-agent does"))?;
        rules::ztunnel(&reply, &settings.identity).map_err(Failure::while_doing("read the reply as ztunnel does"))?;
        let leaf = reply.first().map(String::as_str).unwrap_or_default();
        let facts = keys::facts(leaf)?;
        let received = self.output.borrow().received + 1;
        self.secrets.replace(received, &view.certificate_chain, &made.key, &view.root)?;
        let roots = keys::ids(&view.root)?;
        self.roots.clone_from(&view.root);
        self.output.send_modify(|held| {
            held.serial = keys::serial(&facts);
            held.authority = facts.authority_key_id.as_deref().map(keys::hex).unwrap_or_default();
            held.roots = roots;
            held.not_after = view.expires_at;
            held.bundle_sequence = answer.bundle_sequence;
            held.received = received;
            held.failures_in_a_row = 0;
            held.reply = reply;
        });
        let life = u64::try_from(view.expires_at - now()).unwrap_or(0);
        Ok(Duration::from_secs(life).mul_f64(0.5 + jitter()).max(LEAST))
    }
}

/// A number between `-JITTER` and `JITTER`.
fn jitter() -> f64 {
    let mut byte = [128];
    // Without randomness there is no jitter, which is harmless.
    let _none = SystemRandom::new().fill(&mut byte);
    let [byte] = byte;
    (f64::from(byte) / 127.5 - 1.0) * JITTER
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_within_its_bounds_and_differs() {
        let drawn: Vec<f64> = (0..64).map(|_| jitter()).collect();
        assert!(drawn.iter().all(|value| value.abs() <= JITTER));
        assert!(drawn.windows(2).any(|pair| pair.first() != pair.last()));
    }
}
