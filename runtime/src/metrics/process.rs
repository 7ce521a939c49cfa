//! Metrics that are read at scrape time: memory, CPU time, start and open files of this process from `/proc`.

use std::fs;

use prometheus::{
    Counter, Gauge, IntCounter, Opts,
    core::{Collector, Desc},
    proto::MetricFamily,
};

const RESIDENT: (&str, &str) = ("process_resident_memory_bytes", "Resident memory size in bytes.");
const CPU: (&str, &str) = ("process_cpu_seconds_total", "User and system CPU time spent in seconds.");
const START: (&str, &str) =
    ("process_start_time_seconds", "Start time of the process since the Unix epoch in seconds.");
const OPEN_FILES: (&str, &str) = ("process_open_fds", "Number of open file descriptors.");

/// The process collector. A value that cannot be read is left out of the scrape.
#[derive(Default)]
pub(super) struct ProcessMetrics {
    descriptions: Vec<Desc>,
}

/// A gauge whose value is asked for at each scrape.
pub(super) struct ReadAtScrape<F> {
    gauge: Gauge,
    read: F,
}

impl<F: Fn() -> f64 + Send + Sync> ReadAtScrape<F> {
    pub(super) fn new(gauge: Gauge, read: F) -> Self {
        Self { gauge, read }
    }
}

impl<F: Fn() -> f64 + Send + Sync> Collector for ReadAtScrape<F> {
    fn desc(&self) -> Vec<&Desc> {
        self.gauge.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.gauge.set((self.read)());
        self.gauge.collect()
    }
}

/// A counter whose value is asked for at each scrape.
pub(super) struct CountedElsewhere<F> {
    /// Never counts: what is shown is a new one, because scrapes may come at the same time.
    counter: IntCounter,
    options: Opts,
    read: F,
}

impl<F: Fn() -> u64 + Send + Sync> CountedElsewhere<F> {
    pub(super) fn new(options: Opts, read: F) -> prometheus::Result<Self> {
        Ok(Self { counter: IntCounter::with_opts(options.clone())?, options, read })
    }
}

impl<F: Fn() -> u64 + Send + Sync> Collector for CountedElsewhere<F> {
    fn desc(&self) -> Vec<&Desc> {
        self.counter.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let Ok(shown) = IntCounter::with_opts(self.options.clone()) else { return Vec::new() };
        shown.inc_by((self.read)());
        shown.collect()
    }
}

impl Collector for ProcessMetrics {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let stat = fs::read_to_string("/proc/self/stat").ok();
        let stat = stat.as_deref().and_then(Stat::parse);
        let ticks_per_second = ticks_to_seconds(rustix::param::clock_ticks_per_second());
        let mut families = Vec::with_capacity(4);
        families.extend(resident_bytes().and_then(|bytes| gauge(RESIDENT, bytes)));
        families.extend(open_files().and_then(|count| gauge(OPEN_FILES, count)));
        if let Some(stat) = stat {
            families.extend(counter(CPU, stat.cpu_ticks / ticks_per_second));
            let start = boot_time().map(|boot| boot + stat.start_ticks / ticks_per_second);
            families.extend(start.and_then(|start| gauge(START, start)));
        }
        families
    }
}

/// The fields we need of `/proc/<pid>/stat`; see proc_pid_stat(5).
#[derive(Debug, PartialEq)]
struct Stat {
    cpu_ticks: f64,
    start_ticks: f64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The program's name, field 2, may itself hold spaces and parentheses.
        let (_, after_name) = text.rsplit_once(')')?;
        let mut fields = after_name.split_ascii_whitespace();
        let user: f64 = fields.nth(11)?.parse().ok()?; // field 14
        let system: f64 = fields.next()?.parse().ok()?; // field 15
        let start = fields.nth(6)?.parse().ok()?; // field 22
        Some(Self { cpu_ticks: user + system, start_ticks: start })
    }
}

fn resident_bytes() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024.0)
}

fn open_files() -> Option<f64> {
    let count = fs::read_dir("/proc/self/fd").ok()?.count();
    // The listing itself is one of them.
    u32::try_from(count.saturating_sub(1)).ok().map(f64::from)
}

fn boot_time() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

fn ticks_to_seconds(ticks_per_second: u64) -> f64 {
    u32::try_from(ticks_per_second).map_or(100.0, f64::from)
}

fn gauge((name, help): (&str, &str), value: f64) -> Option<MetricFamily> {
    let gauge = Gauge::new(name, help).ok()?;
    gauge.set(value);
    gauge.collect().pop()
}

fn counter((name, help): (&str, &str), value: f64) -> Option<MetricFamily> {
    let counter = Counter::new(name, help).ok()?;
    counter.inc_by(value);
    counter.collect().pop()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let numbers = "S 1 2 3 4 5 6 7 8 9 10 250 150 11 12 20 0 4 0 777 99 88";
        let wanted = Some(Stat { cpu_ticks: 400.0, start_ticks: 777.0 });
        assert_eq!(Stat::parse(&format!("42 (signet) {numbers}")), wanted);
        assert_eq!(Stat::parse(&format!("42 (a) b (c) {numbers}")), wanted);
        assert_eq!(Stat::parse("42 (signet) S 1 2"), None);
        assert_eq!(Stat::parse(""), None);
    }
}
