//! PostgreSQL as the storage: servers and replicas that are killed, stopped and replaced one after the other, under load.

mod failover;
mod kills;
mod replicas;

use signet_tests::failure::Outcome;
use signet_tests::harness::entrance::Entrance;
use signet_tests::harness::rotation::Replica;
use signet_tests::harness::{Ca, Dev};

use super::facts;

/// Two replicas on one database, behind one entrance: where the installation's clients connect.
struct Pair {
    first: Ca,
    second: Ca,
    replica: Replica,
    dev: Dev,
    entrance: Entrance,
}

impl Pair {
    /// Starts both on a new database of this server.
    async fn start(server: &signet_test_servers::Postgres) -> Outcome<Self> {
        let dev = Dev::plain()?;
        dev.store_in(server)?;
        facts::without_limits(&dev)?;
        let (replica, entrance) = dev.pair().await?;
        let first = dev.start_ca().await?;
        let second = replica.start(&dev).await?;
        Ok(Self { first, second, replica, dev, entrance })
    }
}
