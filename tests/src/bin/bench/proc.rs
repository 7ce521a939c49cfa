//! What the kernel knows about a process: processor time, resident memory; what a disk has written; and how many files it may open.

use std::path::Path;
use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};
use signet_tests::failure::{Failure, Outcome};

/// User and system time that a process has used.
pub(crate) fn cpu_time(process: u32) -> Outcome<Duration> {
    ticks(process, &[11, 12])
}

/// The sum of some fields of its `stat` that are times. They are counted from the one after the name, which is in parentheses
/// and may hold anything: 11 and 12 are utime and stime, 13 and 14 those of children that have ended, see proc(5).
fn ticks(process: u32, fields: &[usize]) -> Outcome<Duration> {
    let text = read(process, "stat")?;
    let rest: Vec<&str> = text.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect()).unwrap_or_default();
    let each = fields.iter().map(|index| rest.get(*index).and_then(|field| field.parse::<u64>().ok()));
    let sum: Option<u64> = each.sum();
    let sum = sum.ok_or_else(|| Failure::unexpected("the kernel tells no processor time"))?;
    Ok(Duration::from_secs_f64(sum as f64 / rustix::param::clock_ticks_per_second() as f64))
}

/// User and system time of a process, of its children and of those that have ended.
pub(crate) fn cpu_time_of_family(process: u32) -> Outcome<Duration> {
    let ended = ticks(process, &[13, 14])?;
    let children = children(process)?;
    // One that ends between two looks is counted by its parent.
    let living = children.into_iter().filter_map(|child| cpu_time(child).ok());
    Ok(cpu_time(process)? + ended + living.sum::<Duration>())
}

fn children(process: u32) -> Outcome<Vec<u32>> {
    let text = read(process, &format!("task/{process}/children"))?;
    Ok(text.split_whitespace().filter_map(|id| id.parse().ok()).collect())
}

/// Bytes that were written to the device of a file system, whoever had them written; `None` where there is none, as in memory.
/// What the kernel counts for a process is more where files are cached in large pieces: it counts a piece for each page.
pub(crate) fn written(path: &Path) -> Outcome<Option<u64>> {
    let found = rustix::fs::stat(path).map_err(Failure::while_doing("look at the state directory"))?;
    let (major, minor) = (rustix::fs::major(found.st_dev), rustix::fs::minor(found.st_dev));
    let Ok(text) = std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/stat")) else { return Ok(None) };
    // The seventh field counts sectors of 512 bytes, see the kernel's Documentation/block/stat.rst.
    let sectors: Option<u64> = text.split_whitespace().nth(6).and_then(|field| field.parse().ok());
    Ok(sectors.map(|sectors| sectors * 512))
}

/// Resident memory in MiB.
pub(crate) fn resident_mib(process: u32) -> Outcome<f64> {
    status_mib(process, "VmRSS:")
}

/// The most that was resident since the process began, in MiB.
pub(crate) fn peak_mib(process: u32) -> Outcome<f64> {
    status_mib(process, "VmHWM:")
}

fn status_mib(process: u32, name: &str) -> Outcome<f64> {
    let text = read(process, "status")?;
    let kib = text.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" kB")?.parse::<f64>().ok());
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
