//! What the processes under load have used: the CA's, the database server's, and the load's own.

use std::path::PathBuf;
use std::time::Duration;

use signet_tests::failure::{Failure, Outcome};
use signet_tests::harness::database::{self, Store};
use signet_tests::harness::rotation::Replica;
use signet_tests::harness::{Ca, Dev};

use crate::proc;

/// The CA processes that are measured, and the database server, when they keep their records in one.
pub(crate) struct Cas {
    /// The first one answers for all where one is asked.
    pub(crate) first: Ca,
    others: Vec<Ca>,
    /// Where each serves.
    pub(crate) addresses: Vec<std::net::SocketAddr>,
    server: Option<u32>,
    /// Where the storage is; a server of a test has its data on the same file system.
    directory: PathBuf,
}

/// What was used up to a moment, or between two.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    /// Processor time of all CA processes.
    pub(crate) ca: Duration,
    /// Processor time of the database server and its sessions.
    pub(crate) server: Duration,
    /// Processor time of the load.
    pub(crate) load: Duration,
    /// Bytes that the disk has written, as far as there is one.
    pub(crate) written: Option<u64>,
}

impl Cas {
    /// Starts so many CA processes on one storage.
    ///
    /// # Errors
    /// [`Failure`], also for two on SQLite: a file carries one busy writer, and which of two it is would be measured.
    pub(crate) async fn start(dev: &Dev, replicas: usize) -> Outcome<Self> {
        let on_server = Store::wanted()? == Store::Postgres;
        if replicas > 2 || (replicas == 2 && !on_server) {
            return Err(Failure::unexpected("--replicas: 1, or 2 with STORE=postgres"));
        }
        let first = dev.start_ca().await?;
        let (mut others, mut addresses) = (Vec::new(), vec![dev.listen]);
        if replicas == 2 {
            let replica: Replica = dev.replica()?;
            others.push(replica.start(dev).await?);
            addresses.push(replica.listen);
        }
        let server = if on_server { database::shared()?.process() } else { None };
        Ok(Self { first, others, addresses, server, directory: dev.directory().to_path_buf() })
    }

    /// What was used up to now.
    pub(crate) fn usage(&self) -> Outcome<Usage> {
        let mut usage = Usage { load: proc::cpu_time(std::process::id())?, ..Usage::default() };
        usage.written = proc::written(&self.directory)?;
        for ca in self.all() {
            usage.ca += proc::cpu_time(ca.process.id())?;
        }
        if let Some(server) = self.server {
            usage.server = proc::cpu_time_of_family(server)?;
        }
        Ok(usage)
    }

    /// Resident memory of the largest of them in MiB.
    pub(crate) fn resident_mib(&self) -> Outcome<f64> {
        self.all().try_fold(0.0, |most, ca| Ok(proc::resident_mib(ca.process.id())?.max(most)))
    }

    /// Stops all.
    pub(crate) async fn stop(mut self) -> Outcome {
        self.first.process.stop().await?;
        for mut ca in self.others {
            ca.process.stop().await?;
        }
        Ok(())
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.addresses.len()
    }

    fn all(&self) -> impl Iterator<Item = &Ca> {
        std::iter::once(&self.first).chain(&self.others)
    }
}

impl Usage {
    /// What was used since `before`.
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            ca: self.ca.saturating_sub(before.ca),
            server: self.server.saturating_sub(before.server),
            load: self.load.saturating_sub(before.load),
            written: self.written.zip(before.written).map(|(now, before)| now.saturating_sub(before)),
        }
    }
}
