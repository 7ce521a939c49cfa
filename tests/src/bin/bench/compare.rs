//! `--compare N --against PROGRAM`: the CA that was built with this bench beside another one, in N pairs of turns; with
//! `--connect-each`, by clients that bring a new connection for each certificate and resume their sessions where they may. It fails when this one
//! is slower, or costs more, beyond what the pairs differ among themselves. The last line is JSON, and so is
//! `target/bench/compare.json`.

use std::path::Path;
use std::time::Duration;

use serde_json::json;
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::{Dev, DevOptions};
use signet_tests::noise::Verdict;
use signet_tests::tools::say;

use crate::connections::{Callers, Resumes};
use crate::load::{Load, Measured};
use crate::options::Options;
use crate::requests::{self, Requests};
use crate::rounds::{Turn, keep, turn};
use crate::usage::Cas;
use crate::{proc, unlimited};

/// What asks for certificates.
enum Drive<'r> {
    Kept(Load<'r>),
    Each(Callers),
}

impl<'r> Drive<'r> {
    async fn new(options: &Options, dev: &Dev, cas: &Cas, requests: &'r Requests) -> Outcome<Self> {
        Ok(if options.connect_each.is_some() {
            Self::Each(Callers::new(dev, dev.listen, requests, options.connections, Resumes::IfItMay)?)
        } else {
            Self::Kept(Load::open(dev, &cas.addresses, requests, options.connections).await?)
        })
    }

    async fn run(&self, duration: Duration) -> Outcome<Measured> {
        match self {
            Self::Kept(load) => load.run(duration).await,
            Self::Each(callers) => callers.run(duration).await,
        }
    }
}

/// Measures pairs, and judges.
pub(crate) async fn measure(options: &Options, pairs: usize, other: &Path) -> Outcome {
    proc::allow_files()?;
    let mut sides = Vec::new();
    for program in [None, Some(other.to_path_buf())] {
        let dev = Dev::init(&DevOptions { ca: program, ..DevOptions::default() })?;
        unlimited(&dev, options)?;
        let cas = Cas::start(&dev, 1).await?;
        let requests = requests::prepare(&dev, options.identities)?;
        sides.push((dev, cas, requests));
    }
    let mut loads = Vec::new();
    for (dev, cas, requests) in &sides {
        loads.push((cas, Drive::new(options, dev, cas, requests).await?));
    }
    let [(this, this_load), (other, other_load)] = loads.as_slice() else {
        return Err(Failure::unexpected("two sides"));
    };
    let mut measured: Vec<[Turn; 2]> = Vec::new();
    for pair in 0..pairs {
        let of = |cas: &Cas| (Some(cas.first.process.id()), None);
        let this = async || turn(of(this), async |time| this_load.run(time).await, options.duration).await;
        let other = async || turn(of(other), async |time| other_load.run(time).await, options.duration).await;
        // Who comes first changes, for a machine that gets slower as it gets warm.
        let turns = if pair % 2 == 0 {
            [this().await?, other().await?]
        } else {
            let other = other().await?;
            [this().await?, other]
        };
        let [here, there] = &turns;
        say(&format!(
            "pair {:>2} of {pairs}: {:>6.0} and {:>6.0} a second, {:>6.1} and {:>6.1} us of the CA for each",
            pair + 1,
            here.per_second,
            there.per_second,
            here.ca_us,
            there.ca_us
        ));
        measured.push(turns);
    }
    drop(loads);
    for (_, cas, _) in sides {
        cas.stop().await?;
    }
    let ratios = |of: fn(&Turn, &Turn) -> f64| measured.iter().map(|[this, other]| of(this, other)).collect::<Vec<_>>();
    let time = Verdict::of(&ratios(|this, other| other.per_second / this.per_second));
    let cost = Verdict::of(&ratios(|this, other| this.ca_us / other.ca_us));
    for (what, verdict) in [("time for each", time), ("processor time of the CA", cost)] {
        say(&format!("{what:<26}{:.3} x of the other, give or take {:.3}", verdict.ratio, verdict.noise));
    }
    keep(
        "compare",
        json!({
            "pairs": pairs, "connections": if options.connect_each.is_some() { "new" } else { "kept" }, "seconds": options.duration.as_secs(), "time": time.ratio, "time_noise": time.noise,
            "cpu": cost.ratio, "cpu_noise": cost.noise, "loss": time.is_loss() || cost.is_loss(),
        }),
    )?;
    ensure(!time.is_loss() && !cost.is_loss(), || "slower than the other one, beyond noise".to_owned())
}
