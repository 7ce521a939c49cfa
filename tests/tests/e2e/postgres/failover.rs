//! A standby takes the place of its primary, as `docs/storage.md` says what that means.

use std::time::Duration;

use signet_test_servers::{Options, Postgres, Stop};
use signet_tests::callers::Callers;
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::Dev;
use signet_tests::harness::database::{address, own};
use signet_tests::harness::process::eventually;
use signet_tests::harness::way::Way;
use signet_tests::tools;

use super::facts;

const SOON: Duration = Duration::from_secs(60);
const ROUND: Duration = Duration::from_secs(180);

/// An installation on a primary that has a standby, both behind one name.
struct Servers {
    primary: Postgres,
    standby: Postgres,
    name: Way,
    dev: Dev,
}

impl Servers {
    fn start() -> Outcome<Self> {
        let failed = Failure::while_doing("start two servers");
        let primary = own()?;
        let dev = Dev::on_file()?;
        dev.store_in(&primary)?;
        facts::without_limits(&dev)?;
        let standby = Postgres::start_standby(&primary, &Options::default()).map_err(failed)?;
        let name = Way::to(address(&primary))?;
        dev.set_ca("storage", primary.url_through(name.address.port(), &dev.database()?))?;
        Ok(Self { primary, standby, name, dev })
    }

    /// The primary is gone at once, and the standby is what the name leads to.
    fn fail_over(&self) -> Outcome {
        self.primary.stop(Stop::Immediate).map_err(Failure::while_doing("stop the primary"))?;
        self.standby.promote().map_err(Failure::while_doing("promote the standby"))?;
        self.name.lead_to(address(&self.standby));
        Ok(())
    }

    /// Commits wait for the standby from now on.
    async fn wait_for_standby(&self) -> Outcome {
        self.primary.set("synchronous_standby_names", "*").map_err(Failure::while_doing("set up the primary"))?;
        self.has_standbys((1, 1)).await
    }

    /// The standby is no longer sent anything.
    async fn cut_off(&self) -> Outcome {
        self.standby.set("primary_conninfo", "").map_err(Failure::while_doing("cut the standby off"))?;
        self.has_standbys((0, 0)).await
    }

    /// Waits until so many standbys follow the primary, and commits wait for so many.
    async fn has_standbys(&self, counts: (usize, usize)) -> Outcome {
        let has = async || (self.primary.standbys().ok()? == counts).then_some(());
        eventually(&format!("{counts:?} standbys"), SOON, has).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_to_a_synchronous_standby_under_load_loses_nothing() -> Outcome {
    let servers = Servers::start()?;
    servers.wait_for_standby().await?;
    let mut ca = servers.dev.start_ca().await?;
    let callers = Callers::start(&servers.dev, 16)?;
    callers.receive(200, ROUND).await?;
    // From here on nothing reaches the standby, so nobody may get a certificate until it has taken over.
    servers.cut_off().await?;
    servers.fail_over()?;
    callers.receive(200, ROUND).await?;
    ca.ready_is(true, SOON).await?;
    callers.stop().await.is_on_record(&ca)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_that_lacks_records_is_not_issued_from_until_somebody_starts_the_ca_again() -> Outcome {
    let servers = Servers::start()?;
    let mut ca = servers.dev.start_ca().await?;
    facts::issue(&servers.dev, 20).await?;
    servers.cut_off().await?;
    let lost = facts::issue(&servers.dev, 20).await?;
    servers.fail_over()?;
    let lacks = async || (ca.metrics().await.ok()?.sum("signet_ca_storage_lost", &[]) > 0.5).then_some(());
    eventually("the CA to notice", SOON, lacks).await?;
    let readiness = ca.ready_is(false, SOON).await?.to_string();
    ensure(readiness.contains("storage"), || readiness.clone())?;
    ensure(facts::issue(&servers.dev, 1).await.is_err(), || {
        "a certificate from a database that lacks records".to_owned()
    })?;
    // Somebody has read what that means.
    ca.process.kill();
    let ca = servers.dev.start_ca().await?;
    let again = facts::issue(&servers.dev, 40).await?;
    ensure(again.is_disjoint(&lost), || "a serial was given twice".to_owned())?;
    let recorded = ca.audit(&["--outcome", "issued"])?.len();
    ensure(recorded >= 60, || format!("{recorded} records"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_leads_to_a_standby_is_refused_and_used_again_when_it_leads_to_the_primary() -> Outcome {
    let servers = Servers::start()?;
    let mut ca = servers.dev.start_ca().await?;
    facts::issue(&servers.dev, 1).await?;
    servers.name.lead_to(address(&servers.standby));
    let check = tools::output(&mut servers.dev.ca_command(&["check"])?)?;
    let said = String::from_utf8_lossy(&check.stderr).into_owned();
    ensure(
        check.status.code() == Some(2) && said.contains("standby") && said.contains("connect to the primary"),
        || said,
    )?;
    // What was connected before goes on until it is cut.
    servers.primary.kill_backends().map_err(Failure::while_doing("end all sessions"))?;
    ca.ready_is(false, SOON).await?;
    servers.name.lead_to(address(&servers.primary));
    ca.ready_is(true, SOON).await?;
    facts::issue(&servers.dev, 1).await.map(drop)
}
