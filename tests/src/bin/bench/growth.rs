//! `--growth WHAT`: what the CA costs as something grows: `events` on record, `holders`, `streams`, `clusters` or `roots`. Each size
//! has its own installation, or goes on with that of the size before. The last line is JSON, and so is
//! `target/bench/growth-WHAT.json`.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use signet_tests::failure::{Failure, Outcome};
use signet_tests::harness::plugged::{OwnCa, istio_names};
use signet_tests::harness::rotation::keys;
use signet_tests::harness::{Dev, DevOptions};
use signet_tests::tools::say;

use crate::load::Load;
use crate::options::Options;
use crate::requests;
use crate::rounds::{Turn, hundredths, keep, tenths, turn};
use crate::usage::Cas;
use crate::{proc, streams, unlimited};

/// What grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dimension {
    Events,
    Holders,
    Streams,
    Clusters,
    Roots,
}

impl Dimension {
    const ALL: [(&'static str, Self); 5] = [
        ("events", Self::Events),
        ("holders", Self::Holders),
        ("streams", Self::Streams),
        ("clusters", Self::Clusters),
        ("roots", Self::Roots),
    ];

    /// From its name.
    pub(crate) fn of(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(own, _)| *own == name).map(|(_, dimension)| *dimension)
    }

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, own)| *own == self).map_or("", |(name, _)| *name)
    }

    /// The sizes; the last one of each takes minutes.
    fn sizes(self, long: bool) -> &'static [usize] {
        let all: &[usize] = match self {
            Self::Events => &[10_000, 100_000, 1_000_000],
            Self::Holders => &[1000, 10_000, 100_000],
            Self::Streams => &[1000, 5000, 10_000],
            Self::Clusters => &[1, 10, 100],
            Self::Roots => &[1, 3, 10],
        };
        let short = matches!(self, Self::Clusters | Self::Roots);
        if long || short { all } else { all.get(..2).unwrap_or(all) }
    }
}

/// Measures all sizes.
pub(crate) async fn measure(options: &Options, dimension: Dimension) -> Outcome {
    proc::allow_files()?;
    let sizes = dimension.sizes(options.long);
    let rows = match dimension {
        Dimension::Events => events(options, sizes).await?,
        _ => {
            let mut rows = Vec::new();
            for size in sizes {
                rows.push(match dimension {
                    Dimension::Holders => holders(options, *size).await?,
                    Dimension::Streams => streams(options, *size).await?,
                    Dimension::Clusters => clusters(options, *size).await?,
                    _ => roots(options, *size).await?,
                });
            }
            rows
        }
    };
    for row in &rows {
        say(&row.to_string());
    }
    keep(&format!("growth-{}", dimension.name()), json!({ "what": dimension.name(), "rows": rows }))
}

/// One installation, in which certificates are issued until so many are on record.
async fn events(options: &Options, sizes: &[usize]) -> Outcome<Vec<Value>> {
    let dev = Dev::init(&DevOptions::default())?;
    unlimited(&dev, options)?;
    let requests = requests::prepare(&dev, options.identities)?;
    let (mut rows, mut on_record) = (Vec::new(), 0);
    for size in sizes {
        say(&format!("until {size} certificates are on record"));
        let cas = Cas::start(&dev, 1).await?;
        let load = Load::open(&dev, &cas.addresses, &requests, options.connections).await?;
        while on_record < *size {
            on_record += load.run(Duration::from_secs(1)).await?.times.len();
        }
        drop(load);
        cas.stop().await?;
        let bytes = size_of_storage(&dev)?;
        let (cas, ready) = timed(&dev).await?;
        let load = Load::open(&dev, &cas.addresses, &requests, options.connections).await?;
        let (turn, rss) = one_turn(options, &cas, &load).await?;
        rows.push(row(
            on_record,
            turn,
            rss,
            &[("ready_ms", tenths(ready)), ("bytes_each", tenths(bytes as f64 / on_record as f64))],
        ));
        on_record += turn.count;
        drop(load);
        cas.stop().await?;
    }
    Ok(rows)
}

/// Holders of a certificate each.
async fn holders(options: &Options, size: usize) -> Outcome<Value> {
    let dev = Dev::init(&DevOptions::default())?;
    unlimited(&dev, options)?;
    say(&format!("making {size} identities"));
    let requests = requests::prepare(&dev, size)?;
    let cas = Cas::start(&dev, 1).await?;
    let load = Load::open(&dev, &cas.addresses, &requests, options.connections).await?;
    let admin = cas.first.admin()?;
    let count =
        async || Outcome::Ok(admin.rotation().await.ok().and_then(|all| all.coverage).map_or(0, |all| all.holders));
    while count().await? < size as u64 {
        load.run(Duration::from_secs(1)).await?;
    }
    let asked = Instant::now();
    let coverage = count().await?;
    let status_ms = asked.elapsed().as_secs_f64() * 1000.0;
    drop(load);
    cas.stop().await?;
    let (cas, ready) = timed(&dev).await?;
    let load = Load::open(&dev, &cas.addresses, &requests, options.connections).await?;
    let (turn, rss) = one_turn(options, &cas, &load).await?;
    drop(load);
    cas.stop().await?;
    Ok(row(coverage as usize, turn, rss, &[("ready_ms", tenths(ready)), ("status_ms", hundredths(status_ms))]))
}

/// Agents with an open bundle stream each.
async fn streams(options: &Options, size: usize) -> Outcome<Value> {
    let dev = Dev::init(&DevOptions::default())?;
    unlimited(&dev, options)?;
    let cas = Cas::start(&dev, 1).await?;
    let row = streams::measure(&dev, &cas.first, &requests::prepare(&dev, size)?).await?;
    cas.stop().await?;
    Ok(row)
}

/// Clusters in the configuration, each with a file of keys; the one that is asked for is the last.
async fn clusters(options: &Options, size: usize) -> Outcome<Value> {
    let dev = Dev::init(&DevOptions::default())?;
    unlimited(&dev, options)?;
    dev.edit("signet-ca.yaml", |config| {
        let clusters = config.pointer_mut("/clusters").and_then(Value::as_array_mut);
        let clusters = clusters.ok_or_else(|| Failure::unexpected("no clusters"))?;
        let own = clusters.first().cloned().ok_or_else(|| Failure::unexpected("no cluster"))?;
        let others = (1..size).map(|index| {
            let mut other = own.clone();
            if let Some(fields) = other.as_object_mut() {
                fields.insert("id".to_owned(), format!("other-{index}").into());
            }
            other
        });
        clusters.splice(0..0, others.collect::<Vec<_>>());
        Ok(())
    })?;
    sized(options, &dev, size).await
}

/// Roots in the bundle that goes with each certificate.
async fn roots(options: &Options, size: usize) -> Outcome<Value> {
    let dev = Dev::init(&DevOptions::default())?;
    unlimited(&dev, options)?;
    dev.start_over()?;
    let root = OwnCa::root("root of the bench")?;
    let signer = root.certify("signer of the bench")?;
    let directory = dev.path("cacerts");
    std::fs::create_dir(&directory).map_err(Failure::io("make a directory"))?;
    for (file, mut content) in istio_names(&signer, &root) {
        if file == "root-cert.pem" {
            for other in 1..size {
                content.push_str(&OwnCa::root(&format!("other root {other}"))?.certificate);
            }
        }
        std::fs::write(directory.join(file), content).map_err(Failure::io("write a CA file"))?;
    }
    dev.set_ca(keys::BACKEND, keys::FILES)?;
    dev.set_ca(keys::FILES_DIRECTORY, directory.display().to_string())?;
    sized(options, &dev, size).await
}

async fn sized(options: &Options, dev: &Dev, size: usize) -> Outcome<Value> {
    say(&format!("{size}: making {} identities", options.identities));
    let requests = requests::prepare(dev, options.identities)?;
    // The first start makes what is kept.
    Cas::start(dev, 1).await?.stop().await?;
    let (cas, ready) = timed(dev).await?;
    let load = Load::open(dev, &cas.addresses, &requests, options.connections).await?;
    let (turn, rss) = one_turn(options, &cas, &load).await?;
    drop(load);
    cas.stop().await?;
    Ok(row(size, turn, rss, &[("ready_ms", tenths(ready))]))
}

/// A CA, and the milliseconds that it took to be ready.
async fn timed(dev: &Dev) -> Outcome<(Cas, f64)> {
    let start = Instant::now();
    let cas = Cas::start(dev, 1).await?;
    Ok((cas, start.elapsed().as_secs_f64() * 1000.0))
}

async fn one_turn(options: &Options, cas: &Cas, load: &Load<'_>) -> Outcome<(Turn, f64)> {
    let ca = (Some(cas.first.process.id()), None);
    let turn = turn(ca, async |time| load.run(time).await, options.duration).await?;
    Ok((turn, cas.resident_mib()?))
}

fn row(size: usize, turn: Turn, rss: f64, more: &[(&str, f64)]) -> Value {
    let mut row = json!({
        "size": size, "per_second": tenths(turn.per_second), "p99_ms": hundredths(turn.p99_ms),
        "ca_cpu_us": tenths(turn.ca_us), "rss_mib": tenths(rss),
    });
    if let Some(fields) = row.as_object_mut() {
        fields.extend(more.iter().map(|(name, value)| ((*name).to_owned(), json!(value))));
    }
    row
}

/// Bytes of the files of the storage.
fn size_of_storage(dev: &Dev) -> Outcome<u64> {
    let entries = std::fs::read_dir(dev.directory()).map_err(Failure::io("list the state directory"))?;
    let files = entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with("signet.db"));
    Ok(files.filter_map(|entry| entry.metadata().ok()).map(|found| found.len()).sum())
}
