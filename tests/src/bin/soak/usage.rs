//! What the kernel knows about processes of one kind: memory, open files, threads.

use serde_json::{Value, json};
use signet_tests::failure::{Failure, Outcome};

/// The use of one kind of process: of each number, the largest that any of them has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Resident memory that belongs to the process alone, in KiB. What it maps from files is the kernel's to keep or drop.
    pub(crate) memory: u64,
    /// Resident memory in all, in KiB.
    pub(crate) resident: u64,
    /// Open files.
    pub(crate) files: u64,
    /// Threads.
    pub(crate) threads: u64,
}

impl Usage {
    /// Looks at processes of one kind.
    pub(crate) fn of(processes: &[u32]) -> Outcome<Self> {
        let mut most = Self::default();
        for process in processes {
            let one = Self::of_one(*process)?;
            most.memory = most.memory.max(one.memory);
            most.resident = most.resident.max(one.resident);
            most.files = most.files.max(one.files);
            most.threads = most.threads.max(one.threads);
        }
        Ok(most)
    }

    fn of_one(process: u32) -> Outcome<Self> {
        let path = format!("/proc/{process}/status");
        let text = std::fs::read_to_string(&path).map_err(Failure::io(format!("read {path}")))?;
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let number = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
            number.ok_or_else(|| Failure::unexpected(format!("{path} does not tell {name}")))
        };
        let files = format!("/proc/{process}/fd");
        let files = std::fs::read_dir(&files).map_err(Failure::io(format!("list {files}")))?.count();
        Ok(Self {
            memory: field("RssAnon")?,
            resident: field("VmRSS")?,
            files: files as u64,
            threads: field("Threads")?,
        })
    }

    /// For the summary.
    pub(crate) fn json(&self) -> Value {
        json!({"memory_kib": self.memory, "resident_kib": self.resident, "files": self.files, "threads": self.threads})
    }
}
