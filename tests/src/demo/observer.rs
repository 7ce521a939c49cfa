//! Watches the certificate of one workload: which one its agent serves, and which one its Envoy has loaded.

use signet_proto::agent::v1alpha1::Identity;

use super::narrator::{Narrator, clock_time, short};
use crate::failure::Outcome;
use crate::harness::{Agent, Envoy};

/// The certificates of one workload as they come.
pub struct Observer {
    name: &'static str,
    serials: Vec<String>,
    loaded: Vec<String>,
}

impl Observer {
    /// Nothing seen yet.
    #[must_use]
    pub fn new(name: &'static str) -> Self {
        Self { name, serials: Vec::new(), loaded: Vec::new() }
    }

    /// How many times the certificate has been replaced.
    #[must_use]
    pub fn renewals(&self) -> u64 {
        self.serials.len().saturating_sub(1) as u64
    }

    /// How many different certificates Envoy has been seen with.
    #[must_use]
    pub fn loaded(&self) -> usize {
        self.loaded.len()
    }

    /// Looks once, and tells what is new.
    ///
    /// # Errors
    /// [`Failure`](crate::failure::Failure) when the agent or Envoy does not answer.
    pub async fn look(&mut self, agent: &Agent, envoy: &Envoy, narrator: &Narrator) -> Outcome {
        let identity = agent.identity().await?;
        if !identity.serial.is_empty() && !self.serials.contains(&identity.serial) {
            self.tell_new(&identity, narrator);
            self.serials.push(identity.serial);
        }
        for certificate in envoy.certificates().await? {
            let serial = padded(&certificate.serial);
            if self.serials.contains(&serial) && !self.loaded.contains(&serial) {
                narrator.tell(&format!(
                    "{}: Envoy has loaded {} and uses it for new connections; open ones go on with the old one",
                    self.name,
                    short(&serial)
                ));
                self.loaded.push(serial);
            }
        }
        Ok(())
    }

    fn tell_new(&self, identity: &Identity, narrator: &Narrator) {
        let what = match self.serials.len() {
            0 => "first certificate".to_owned(),
            number => format!("renewal {number}"),
        };
        narrator.tell(&format!(
            "{}: {what}: serial {} for {}, signed by the issuing CA {}, valid {} to {}, next renewal at {}",
            self.name,
            short(&identity.serial),
            identity.spiffe_id,
            short(&identity.authority),
            clock_time(identity.not_before),
            clock_time(identity.not_after),
            clock_time(identity.next_renewal),
        ));
    }
}

/// Envoy drops leading zeros; records keep 32 digits.
fn padded(serial: &str) -> String {
    format!("{:0>32}", serial.trim_start_matches('0'))
}
