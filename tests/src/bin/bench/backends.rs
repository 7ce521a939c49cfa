//! `--backends N`: what a certificate costs with each backend, beside `pki/sign` of the same OpenBao, in N rounds in which each has its
//! turn: on a machine that others use, only what was measured side by side can be compared. The last line is JSON, and so is
//! `target/bench/backends.json`.

use std::time::Duration;

use serde_json::json;
use signet_tests::failure::{Failure, Outcome};
use signet_tests::harness::plugged::{OwnCa, istio_names};
use signet_tests::harness::rotation::keys;
use signet_tests::harness::{Bao, Dev, DevOptions};
use signet_tests::tools::{self, say};

use crate::load::{Load, Measured};
use crate::options::Options;
use crate::raw::Raw;
use crate::requests::{self, Requests};
use crate::usage::Cas;
use crate::{proc, unlimited};

/// What is compared with.
const NATIVE: &str = "native";
const RAW: &str = "pki/sign, not stored";
/// The one that has each leaf signed there, which the documented role does not store.
const LEAF: &str = "vault, leaf";

/// In which everything settles, each time it is somebody's turn.
const WARM_UP: Duration = Duration::from_secs(1);

/// A CA with its load.
struct Contender {
    name: &'static str,
    dev: Dev,
    cas: Cas,
    requests: Requests,
}

/// What one round of one of them came to.
#[derive(Clone, Copy)]
struct Turn {
    per_second: f64,
    p50_ms: f64,
    ca_us: f64,
    bao_us: f64,
    load_us: f64,
}

/// All rounds of one of them.
struct Row {
    name: &'static str,
    turns: Vec<Turn>,
}

/// Measures all of them.
pub(crate) async fn measure(options: &Options, rounds: usize) -> Outcome {
    proc::allow_files()?;
    let place = tempfile::tempdir().map_err(Failure::io("make a directory"))?;
    let bao = Bao::with_pki(place.path(), 3600).await?;
    bao.has_leaf_roles().await?;
    let documented = bao.get("pki/roles/signet-mesh").await?;
    let mut stored = documented.get("data").cloned().unwrap_or_default();
    if let Some(fields) = stored.as_object_mut() {
        fields.insert("no_store".to_owned(), json!(false));
    }
    bao.put("pki/roles/stored", stored).await?;
    let mut contenders = Vec::new();
    for name in [NATIVE, "files", "vault, intermediate", LEAF] {
        say(&format!("{name}: making {} identities", options.identities));
        contenders.push(contender(name, &bao, options).await?);
    }
    let native = contenders.first().ok_or_else(|| Failure::unexpected("nothing to measure"))?;
    let raws = [
        (RAW, Raw::open(&bao, "signet-mesh", &native.requests, options.connections).await?),
        ("pki/sign, stored", Raw::open(&bao, "stored", &native.requests, options.connections).await?),
    ];
    let mut loads = Vec::new();
    for one in &contenders {
        loads.push((one, Load::open(&one.dev, &one.cas.addresses, &one.requests, options.connections).await?));
    }
    let mut rows: Vec<Row> =
        contenders.iter().map(|one| one.name).chain(raws.iter().map(|(name, _)| *name)).map(Row::new).collect();
    for round in 1..=rounds {
        say(&format!("round {round} of {rounds}"));
        let mut turns = Vec::new();
        for (one, load) in &loads {
            turns.push(turn(&bao, Some(&one.cas), async |time| load.run(time).await, options.duration).await?);
        }
        for (_, raw) in &raws {
            turns.push(turn(&bao, None, async |time| raw.run(time).await, options.duration).await?);
        }
        for (row, turn) in rows.iter_mut().zip(turns) {
            row.turns.push(turn);
        }
    }
    for (_, load) in &loads {
        load.judge_one().await?;
    }
    drop(loads);
    for one in contenders {
        one.cas.stop().await?;
    }
    report(&rows, rounds, options)
}

async fn contender(name: &'static str, bao: &Bao, options: &Options) -> Outcome<Contender> {
    let dev = Dev::init(&DevOptions::default())?;
    unlimited(&dev, options)?;
    match name {
        NATIVE => {}
        "files" => {
            dev.start_over()?;
            let root = OwnCa::root("root of the bench")?;
            let signer = root.certify("signer of the bench")?;
            let directory = dev.path("cacerts");
            std::fs::create_dir(&directory).map_err(Failure::io("make a directory"))?;
            for (file, content) in istio_names(&signer, &root) {
                std::fs::write(directory.join(file), content).map_err(Failure::io("write a CA file"))?;
            }
            dev.set_ca(keys::BACKEND, keys::FILES)?;
            dev.set_ca(keys::FILES_DIRECTORY, directory.display().to_string())?;
        }
        _ => {
            dev.start_over()?;
            bao.backs(&dev).await?;
            // As it is by default, and not as tests want it.
            dev.set_ca("authority.vault.refresh", "10s")?;
            if name == LEAF {
                bao.signs_leaves(&dev).await?;
            }
        }
    }
    let cas = Cas::start(&dev, 1).await?;
    let requests = requests::prepare(&dev, options.identities)?;
    Ok(Contender { name, dev, cas, requests })
}

async fn turn(
    bao: &Bao,
    cas: Option<&Cas>,
    run: impl AsyncFn(Duration) -> Outcome<Measured>,
    duration: Duration,
) -> Outcome<Turn> {
    run(WARM_UP).await?;
    let used = || -> Outcome<(Duration, Duration, Duration)> {
        let ca = cas.map_or(Ok(Duration::ZERO), |cas| cas.usage().map(|usage| usage.ca))?;
        Ok((ca, proc::cpu_time(bao.process.id())?, proc::cpu_time(std::process::id())?))
    };
    let before = used()?;
    let measured = run(duration).await?;
    let after = used()?;
    let each = |after: Duration, before: Duration| {
        after.saturating_sub(before).as_secs_f64() * 1e6 / measured.times.len().max(1) as f64
    };
    Ok(Turn {
        per_second: measured.per_second(),
        p50_ms: measured.quantile_ms(0.5),
        ca_us: each(after.0, before.0),
        bao_us: each(after.1, before.1),
        load_us: each(after.2, before.2),
    })
}

impl Row {
    fn new(name: &'static str) -> Self {
        Self { name, turns: Vec::new() }
    }

    /// The middle one of the rounds.
    fn middle(&self, of: impl Fn(&Turn) -> f64) -> f64 {
        middle(self.turns.iter().map(of))
    }

    /// The middle one of how this compared with another one, round by round.
    fn beside(&self, other: Option<&Self>) -> f64 {
        let others = other.into_iter().flat_map(|other| &other.turns);
        middle(self.turns.iter().zip(others).map(|(one, other)| one.per_second / other.per_second))
    }
}

fn middle(values: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

fn report(rows: &[Row], rounds: usize, options: &Options) -> Outcome {
    let named = |name: &str| rows.iter().find(|row| row.name == name);
    let (native, raw) = (named(NATIVE), named(RAW));
    say(&format!("machine: {}", crate::floor::processor()));
    say("microseconds of processor time are for each certificate; rates are those of cores that the load shares");
    say(&format!(
        "{:<22}{:>10}{:>12}{:>12}{:>10}{:>10}{:>12}{:>10}",
        "backend", "a second", "x native", "x pki/sign", "p50 ms", "CA us", "OpenBao us", "load us"
    ));
    let mut lines = Vec::new();
    for row in rows {
        let (rate, p50) = (row.middle(|turn| turn.per_second), row.middle(|turn| turn.p50_ms));
        let (ca, bao, load) =
            (row.middle(|turn| turn.ca_us), row.middle(|turn| turn.bao_us), row.middle(|turn| turn.load_us));
        let (of_native, of_raw) = (row.beside(native), row.beside(raw));
        say(&format!(
            "{:<22}{rate:>10.0}{of_native:>12.2}{of_raw:>12.2}{p50:>10.2}{ca:>10.1}{bao:>12.1}{load:>10.1}",
            row.name
        ));
        lines.push(json!({
            "backend": row.name, "per_second": tenths(rate), "of_native": hundredths(of_native),
            "of_raw": hundredths(of_raw), "p50_ms": hundredths(p50), "ca_cpu_us": tenths(ca),
            "openbao_cpu_us": tenths(bao), "load_cpu_us": tenths(load),
        }));
    }
    let all = json!({ "rounds": rounds, "seconds": options.duration.as_secs(), "backends": lines });
    let directory = tools::target_dir().join("bench");
    std::fs::create_dir_all(&directory).map_err(Failure::io(format!("make {}", directory.display())))?;
    let file = directory.join("backends.json");
    std::fs::write(&file, format!("{all}\n")).map_err(Failure::io(format!("write {}", file.display())))?;
    say(&all.to_string());
    Ok(())
}

fn tenths(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

fn hundredths(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}
