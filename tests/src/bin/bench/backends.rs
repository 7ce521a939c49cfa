//! `--backends N`: what a certificate costs with each backend, beside `pki/sign` of the same OpenBao, in N rounds in which each has its
//! turn: on a machine that others use, only what was measured side by side can be compared. The last line is JSON, and so is
//! `target/bench/backends.json`.

use serde_json::json;
use signet_tests::failure::{Failure, Outcome};
use signet_tests::harness::plugged::{OwnCa, istio_names};
use signet_tests::harness::rotation::keys;
use signet_tests::harness::{Bao, Dev, DevOptions};
use signet_tests::tools::say;

use crate::load::Load;
use crate::options::Options;
use crate::raw::Raw;
use crate::requests::{self, Requests};
use crate::rounds::{Row, hundredths, keep, tenths, turn};
use crate::usage::Cas;
use crate::{proc, unlimited};

/// What is compared with.
const NATIVE: &str = "native";
const RAW: &str = "pki/sign, not stored";
/// The one that has each leaf signed there, which the documented role does not store.
const LEAF: &str = "vault, leaf";

/// A CA with its load.
struct Contender {
    name: &'static str,
    dev: Dev,
    cas: Cas,
    requests: Requests,
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
    let processes = |cas: Option<&Cas>| (cas.map(|cas| cas.first.process.id()), Some(bao.process.id()));
    let mut rows: Vec<Row> =
        contenders.iter().map(|one| one.name).chain(raws.iter().map(|(name, _)| *name)).map(Row::new).collect();
    for round in 1..=rounds {
        say(&format!("round {round} of {rounds}"));
        let mut turns = Vec::new();
        for (one, load) in &loads {
            turns.push(turn(processes(Some(&one.cas)), async |time| load.run(time).await, options.duration).await?);
        }
        for (_, raw) in &raws {
            turns.push(turn(processes(None), async |time| raw.run(time).await, options.duration).await?);
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
            (row.middle(|turn| turn.ca_us), row.middle(|turn| turn.other_us), row.middle(|turn| turn.load_us));
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
    keep("backends", json!({ "rounds": rounds, "seconds": options.duration.as_secs(), "backends": lines }))
}
