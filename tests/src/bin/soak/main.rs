//! `make soak`: a CA, many agents and a few Envoys with certificates that live ten seconds, for as long as one likes.
//! Compares memory, open files and threads at both ends, counts renewals that came too late and requests that failed, and
//! fails when anything leaks, is late or fails. `target/soak/summary.json` holds it all for programs.

mod options;
mod usage;
mod verdict;

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use options::Options;
use serde_json::json;
use signet_core::clock::{Clock as _, SystemClock};
use signet_tests::demo::narrator::Narrator;
use signet_tests::demo::until_interrupted;
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::envoy::{Bootstrap, Side};
use signet_tests::harness::{Agent, Dev, DevOptions, Envoy};
use signet_tests::stage::{SERVER_ID, Stage};
use signet_tests::tools::{self, complain, say};
use signet_tests::traffic::{Tally, Traffic};
use usage::Usage;
use verdict::{Moment, leaks};

/// How long a certificate lives.
const LIFETIME: Duration = Duration::from_secs(10);
/// A certificate that has less left than this should have been replaced: renewal begins at half of its life.
const LATE: Duration = Duration::from_secs(1);
/// In which pools, caches and the connections of Envoy are made.
const WARM_UP: Duration = Duration::from_secs(20);
const GLANCE: Duration = Duration::from_millis(500);
/// How often a line is printed and a moment is kept.
const REPORT: Duration = Duration::from_secs(10);
/// Workloads beside caller and service that have an Envoy too.
const MORE_CALLERS: [&str; 2] = ["w0", "w1"];

#[tokio::main]
async fn main() -> ExitCode {
    match Options::read(std::env::args().skip(1)) {
        Ok(options) => until_interrupted("soak", soak(options)).await,
        Err(usage) => {
            complain(&usage);
            ExitCode::from(2)
        }
    }
}

/// The stage of the demo, more callers with an Envoy, and agents that nobody asks anything.
struct Crowd {
    callers: Vec<Envoy>,
    agents: Vec<Agent>,
    stage: Stage,
}

impl Crowd {
    async fn gather(agents: usize, narrator: &Narrator) -> Outcome<Self> {
        let others: Vec<String> = (0..agents - 2).map(|number| format!("w{number}")).collect();
        let mut workloads = vec!["client=default/client".to_owned(), "server=default/server".to_owned()];
        workloads.extend(others.iter().map(|name| format!("{name}=default/{name}")));
        let lifetime = format!("{}s", LIFETIME.as_secs());
        let dev = Dev::init(&DevOptions { svid_ttl: Some(lifetime), workloads, ..DevOptions::default() })?;
        let callers = MORE_CALLERS.map(|name| format!("spiffe://cluster.local/ns/default/sa/{name}"));
        let callers: Vec<&str> = callers.iter().map(String::as_str).collect();
        let stage = Stage::set_for(dev, 3, &callers, |line| narrator.tell(line)).await?;
        let mut agents = Vec::new();
        for name in &others {
            agents.push(Agent::start(&stage.dev, name)?);
        }
        for agent in &mut agents {
            agent.ready().await?;
        }
        let mut callers = Vec::new();
        for (name, agent) in MORE_CALLERS.iter().zip(&agents) {
            let bootstrap = Bootstrap::new(Side::Client, agent.socket(), stage.server.listen, SERVER_ID)?;
            let bootstrap = bootstrap.reconnect_every(3)?;
            callers.push(Envoy::started(&format!("envoy-{name}"), stage.dev.directory(), &bootstrap).await?);
        }
        narrator.tell(&format!("{} agents and {} Envoys are ready", agents.len() + 2, callers.len() + 2));
        Ok(Self { callers, agents, stage })
    }

    fn agents(&self) -> impl Iterator<Item = &Agent> {
        [&self.stage.client_agent, &self.stage.server_agent].into_iter().chain(&self.agents)
    }

    fn moment(&self, at: Duration) -> Outcome<Moment> {
        let agents: Vec<u32> = self.agents().map(|agent| agent.process.id()).collect();
        let envoys = [&self.stage.client, &self.stage.server].into_iter().chain(&self.callers);
        let envoys: Vec<u32> = envoys.map(|envoy| envoy.process.id()).collect();
        let size = |name: &str| std::fs::metadata(self.stage.dev.path(name)).map_or(0, |file| file.len() / 1024);
        Ok(Moment {
            at: at.as_secs(),
            ca: Usage::of(&[self.stage.ca.process.id()])?,
            agents: Usage::of(&agents)?,
            envoys: Usage::of(&envoys)?,
            database: size("signet.db") + size("signet.db-wal"),
        })
    }

    /// How long the certificate that ends first has left, in seconds, and how many were renewed since the start.
    async fn certificates(&self) -> Outcome<(f64, u64)> {
        let (mut least, mut renewals) = (f64::MAX, 0.0);
        for agent in self.agents() {
            let metrics = agent.metrics().await?;
            let end = metrics.sum("signet_agent_certificate_expiry_timestamp_seconds", &[]);
            least = least.min(end - SystemClock.now().unix_timestamp_nanos() as f64 / 1e9);
            renewals += metrics.sum("signet_agent_renewals_total", &["ok"]);
        }
        Ok((least, renewals as u64))
    }
}

async fn soak(options: Options) -> Outcome {
    tools::envoy()?;
    let narrator = Narrator::default();
    narrator.chapter(&format!("A soak of {:?} with certificates that live {LIFETIME:?}", options.duration));
    let crowd = Crowd::gather(options.agents, &narrator).await?;
    let entrances = std::iter::once(crowd.stage.entrance()).chain(crowd.callers.iter().map(|envoy| envoy.listen));
    let traffic: Vec<Traffic> =
        entrances.map(|entrance| Traffic::start(entrance, 1, Duration::from_millis(50))).collect();
    narrator.tell(&format!("{WARM_UP:?} to warm up, then the numbers at this end are taken"));
    tokio::time::sleep(WARM_UP).await;

    let start = Instant::now();
    let mut moments = vec![crowd.moment(Duration::ZERO)?];
    let (_, renewed_before) = crowd.certificates().await?;
    let (mut late, mut least, mut renewals) = (0u64, f64::MAX, renewed_before);
    while start.elapsed() < options.duration {
        tokio::time::sleep(GLANCE.min(options.duration.saturating_sub(start.elapsed()))).await;
        let (left, renewed) = crowd.certificates().await?;
        (least, renewals) = (least.min(left), renewed);
        late += u64::from(left < LATE.as_secs_f64());
        let moment = crowd.moment(start.elapsed())?;
        if moments.last().is_none_or(|last| moment.at >= last.at + REPORT.as_secs()) {
            say(&line(&moment, &total(&traffic), renewals - renewed_before, late));
            moments.push(moment);
        }
    }
    let end = crowd.moment(start.elapsed())?;
    moments.push(end);
    let begin = moments.first().copied().unwrap_or_default();
    let mut requests = Tally::default();
    for one in traffic {
        requests = requests.plus(one.stop().await);
    }
    let renewals = renewals - renewed_before;
    narrator.chapter("Both ends");
    say(&line(&begin, &Tally::default(), 0, 0));
    say(&line(&end, &requests, renewals, late));
    let leaks = leaks(&begin, &end);
    let summary = json!({
        "seconds": end.at, "agents": options.agents, "envoys": MORE_CALLERS.len() + 2,
        "requests": requests.succeeded + requests.failed, "failed": requests.failed,
        "renewals": renewals, "missed_renewals": late, "least_left_seconds": least,
        "leaks": leaks, "moments": moments.iter().map(Moment::json).collect::<Vec<_>>(),
    });
    let path = write(&tools::target_dir().join("soak"), &summary.to_string())?;
    narrator.tell(&format!("see {path}"));
    drop(crowd);
    ensure(leaks.is_empty(), || format!("something leaks: {}", leaks.join("; ")))?;
    ensure(late == 0, || format!("{late} times a certificate had less than {LATE:?} left: {least:.1} s at worst"))?;
    ensure(requests.failed == 0, || {
        format!("{} requests failed, the first: {}", requests.failed, requests.first_failures.join("; "))
    })?;
    // Half of the lifetime is when renewal begins, so each agent has renewed at least once in each lifetime.
    let least_renewals = options.duration.as_secs() / LIFETIME.as_secs() * options.agents as u64;
    ensure(renewals >= least_renewals, || format!("only {renewals} renewals, {least_renewals} at least are wanted"))
}

fn total(traffic: &[Traffic]) -> Tally {
    traffic.iter().map(Traffic::tally).fold(Tally::default(), Tally::plus)
}

fn line(moment: &Moment, requests: &Tally, renewals: u64, late: u64) -> String {
    let usage = |usage: &Usage| {
        format!("{:.1} MiB {} files {} threads", usage.resident as f64 / 1024.0, usage.files, usage.threads)
    };
    format!(
        "{:>5} s | CA {} | agents at most {} | Envoys at most {} | {renewals} renewals, {late} late | {} requests, {} failed",
        moment.at,
        usage(&moment.ca),
        usage(&moment.agents),
        usage(&moment.envoys),
        requests.succeeded + requests.failed,
        requests.failed
    )
}

fn write(directory: &Path, text: &str) -> Outcome<String> {
    std::fs::create_dir_all(directory).map_err(Failure::io(format!("make {}", directory.display())))?;
    let path = directory.join("summary.json");
    std::fs::write(&path, text).map_err(Failure::io(format!("write {}", path.display())))?;
    Ok(path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grows_within_its_tolerance_is_no_leak_and_what_grows_beyond_is() {
        let usage = Usage { memory: 10_000, resident: 20_000, files: 40, threads: 10 };
        let begin = Moment { at: 0, ca: usage, agents: usage, envoys: usage, database: 1_000 };
        let grown = |ca: u64, database: u64| Moment { ca: Usage { memory: ca, ..usage }, database, ..begin };
        for (end, expected) in [
            (begin, 0),
            (grown(12_048, 1_000), 0),
            (grown(12_049, 1_000), 1),
            // As much as the database grew, and a quarter for finding it again.
            (grown(17_048, 5_000), 0),
            (grown(17_049, 5_000), 1),
            // The page caches are bounded, the database is not.
            (grown(10_000 + 2_048 + 13_200, 900_000), 0),
            (grown(10_000 + 2_048 + 13_201, 900_000), 1),
            (Moment { agents: Usage { files: 49, threads: 19, ..usage }, ..begin }, 2),
            (Moment { envoys: Usage { memory: 10_000 + 8_193, ..usage }, ..begin }, 1),
        ] {
            assert_eq!(leaks(&begin, &end).len(), expected, "{end:?}");
        }
    }

    #[test]
    fn the_time_is_a_number_with_a_unit() {
        let read = |args: &[&str]| Options::read(args.iter().map(|arg| (*arg).to_owned()));
        let wanted = |seconds, agents| Ok(Options { duration: Duration::from_secs(seconds), agents });
        assert_eq!(read(&[]), wanted(120, 20));
        assert_eq!(read(&["25m", "--agents", "30"]), wanted(1500, 30));
        assert_eq!(read(&["90s"]), wanted(90, 20));
        for bad in [&["5"][..], &["0s"], &["xs"], &["-1s"], &["é"], &["--agents", "1"], &["--agents"]] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }
}
