//! What the kernel knows about a process: processor time, resident memory and written bytes; and how many files it may open.

use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};
use signet_tests::failure::{Failure, Outcome};

/// User and system time that a process has used.
pub(crate) fn cpu_time(process: u32) -> Outcome<Duration> {
    let text = read(process, "stat")?;
    // The name in parentheses may hold anything; fields are counted after it. utime is field 14, stime 15.
    let fields: Vec<&str> =
        text.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect()).unwrap_or_default();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok());
    match (ticks(11), ticks(12)) {
        (Some(user), Some(system)) => {
            Ok(Duration::from_secs_f64((user + system) as f64 / rustix::param::clock_ticks_per_second() as f64))
        }
        _ => Err(Failure::unexpected("the kernel tells no processor time")),
    }
}

/// Bytes that a process has had written to disk.
pub(crate) fn written(process: u32) -> Outcome<u64> {
    let text = read(process, "io")?;
    let bytes = text.lines().find_map(|line| line.strip_prefix("write_bytes:")?.trim().parse().ok());
    bytes.ok_or_else(|| Failure::unexpected("the kernel tells no written bytes"))
}

/// Resident memory in MiB.
pub(crate) fn resident_mib(process: u32) -> Outcome<f64> {
    let text = read(process, "status")?;
    let kib =
        text.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse::<f64>().ok());
    kib.map(|kib| kib / 1024.0).ok_or_else(|| Failure::unexpected("the kernel tells no resident memory"))
}

/// Lets this process and those that it starts from now on open as many files as the system allows: a stream is one.
pub(crate) fn allow_files() -> Outcome {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).map_err(Failure::while_doing("raise the limit of open files"))
}

fn read(process: u32, file: &str) -> Outcome<String> {
    let path = format!("/proc/{process}/{file}");
    std::fs::read_to_string(&path).map_err(Failure::io(format!("read {path}")))
}
