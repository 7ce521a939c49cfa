//! A PostgreSQL server of a test.

use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use crate::error::ServerError;
use crate::keeper::Keeper;
use crate::options::Options;
use crate::wait::{self, First};
use crate::{ports, programs};

/// The superuser, who needs no password over the Unix socket.
const USER: &str = "signet";
/// How long a server may take to be ready; recovery on a busy machine is the longest.
const START: Duration = Duration::from_secs(120);

/// How a server is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Sessions are ended, what they had not committed is taken back, and everything is written out.
    Fast,
    /// Everything ends at once, as in a crash; the next start recovers.
    Immediate,
}

/// A PostgreSQL server with a directory and a port of its own. It is ended and removed when this is dropped, and also
/// when this process ends in any way.
pub struct Postgres {
    keeper: Mutex<Keeper>,
    directory: PathBuf,
    programs: PathBuf,
    port: u16,
    /// The process of the server, 0 while it is stopped.
    process: AtomicU32,
    databases: AtomicU32,
}

impl Postgres {
    /// Starts a server and waits until it is ready.
    ///
    /// # Errors
    /// [`ServerError::Missing`] when PostgreSQL 15 or newer is not installed, otherwise why it did not start.
    pub fn start(options: &Options) -> Result<Self, ServerError> {
        Self::start_on(options, Keeper::init)
    }

    /// Starts a standby with all that `primary` has and will have, and waits until it takes connections that read.
    ///
    /// # Errors
    /// Why it did not start.
    pub fn start_standby(primary: &Self, options: &Options) -> Result<Self, ServerError> {
        Self::start_on(options, |keeper| keeper.copy(&primary.directory, primary.port))
    }

    /// Starts a server on a data directory that is made like this.
    fn start_on(
        options: &Options,
        make: impl FnOnce(&mut Keeper) -> Result<(), ServerError>,
    ) -> Result<Self, ServerError> {
        let programs = programs::postgres(&programs::Places::of_this_machine())?;
        let below = options.below.clone().unwrap_or_else(std::env::temp_dir);
        let mut keeper = Keeper::start(&programs, &below, unprivileged()?)?;
        make(&mut keeper)?;
        let directory = keeper.directory().to_path_buf();
        let server = Self {
            keeper: Mutex::new(keeper),
            directory,
            programs,
            port: ports::free()?,
            process: AtomicU32::new(0),
            databases: AtomicU32::new(0),
        };
        server.start_with(options)?;
        Ok(server)
    }

    /// The server of this test process: started for the first who asks, ended with the process.
    ///
    /// # Errors
    /// As [`start`](Self::start); the same for everybody who asks.
    pub fn shared() -> Result<&'static Self, &'static ServerError> {
        static SHARED: OnceLock<Result<Postgres, ServerError>> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(&Options::default())).as_ref()
    }

    /// Starts a stopped server again on the same data and the same port, and waits until it is ready.
    ///
    /// # Errors
    /// Why it did not start.
    pub fn start_again(&self) -> Result<(), ServerError> {
        self.run()
    }

    /// The same with other options. One that runs is stopped at once first.
    ///
    /// # Errors
    /// Why it did not start.
    pub fn start_with(&self, options: &Options) -> Result<(), ServerError> {
        self.stop(Stop::Immediate)?;
        let socket = self.directory.display().to_string();
        self.write("postgresql.conf", options.configuration(self.port, &socket).as_bytes())?;
        self.write("pg_hba.conf", options.access().as_bytes())?;
        for (name, content) in &options.files {
            self.write(name, content)?;
        }
        self.run()
    }

    /// Stops the server and waits until it has ended. One that is stopped stays so.
    ///
    /// # Errors
    /// When it did not end.
    pub fn stop(&self, how: Stop) -> Result<(), ServerError> {
        let word = match how {
            Stop::Fast => "fast",
            Stop::Immediate => "immediate",
        };
        self.keeper().stop_server(word)?;
        self.process.store(0, Ordering::Relaxed);
        Ok(())
    }

    /// Where this database is reached over TCP.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        self.url_through(self.port, database)
    }

    /// Where this database is reached through another port of this host that leads to the server's.
    #[must_use]
    pub fn url_through(&self, port: u16, database: &str) -> String {
        format!("postgres://{USER}@127.0.0.1:{port}/{database}")
    }

    /// Where this database is reached over the Unix socket.
    #[must_use]
    pub fn socket_url(&self, database: &str) -> String {
        format!("postgres://{USER}@:{}/{database}?host={}", self.port, self.directory.display())
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process of the server, `None` while it is stopped.
    #[must_use]
    pub fn process(&self) -> Option<u32> {
        Some(self.process.load(Ordering::Relaxed)).filter(|id| *id != 0)
    }

    /// What belongs to the server: `data`, `log` and its socket.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The end of what the server has printed.
    #[must_use]
    pub fn log(&self) -> String {
        self.keeper().log()
    }

    /// Makes an empty database and gives its name.
    ///
    /// # Errors
    /// What the server said.
    pub fn create_database(&self) -> Result<String, ServerError> {
        self.create_database_like("template0")
    }

    /// Makes a copy of a database to which nobody is connected, and gives its name.
    ///
    /// # Errors
    /// What the server said.
    pub fn create_database_like(&self, template: &str) -> Result<String, ServerError> {
        let name = format!("signet_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.client("createdb", &format!("make a database like {template}"), &["--template", template, &name])?;
        Ok(name)
    }

    /// Writes a copy of a database as it is now into a file, beside whoever is connected to it. Its rows can be searched.
    ///
    /// # Errors
    /// What the program said.
    pub fn dump(&self, database: &str, file: &Path) -> Result<(), ServerError> {
        let (doing, file) = (format!("copy {database}"), file.display().to_string());
        let how = ["--format=custom", "--compress=0", "--file", &file, "--dbname", database];
        self.client("pg_dump", &doing, &how).map(drop)
    }

    /// Makes a database from such a copy and gives its name.
    ///
    /// # Errors
    /// What the program said.
    pub fn load(&self, file: &Path) -> Result<String, ServerError> {
        let (name, file) = (self.create_database()?, file.display().to_string());
        let doing = format!("make a database of {file}");
        self.client("pg_restore", &doing, &["--exit-on-error", "--dbname", &name, &file])?;
        Ok(name)
    }

    /// Has the server carry out these statements as its superuser, and gives the rows: columns parted by `|`, one row a
    /// line.
    ///
    /// # Errors
    /// What the server said.
    pub fn sql(&self, database: &str, statements: &str) -> Result<String, ServerError> {
        let always = ["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1"];
        let rest = ["--dbname", database, "--command", statements];
        let printed = self.client("psql", &format!("do {statements:?}"), &[&always[..], &rest].concat())?;
        Ok(printed.trim_end().to_owned())
    }

    /// Lets a standby be a primary from now on.
    ///
    /// # Errors
    /// What the server said.
    pub fn promote(&self) -> Result<(), ServerError> {
        match self.sql("postgres", "SELECT pg_promote()")?.as_str() {
            "t" => Ok(()),
            said => Err(ServerError::refused("promote a standby", said.to_owned())),
        }
    }

    /// How many standbys are sent what this server writes, and for how many of them its commits wait.
    ///
    /// # Errors
    /// What the server said.
    pub fn standbys(&self) -> Result<(usize, usize), ServerError> {
        let statement = "SELECT count(*), count(*) FILTER (WHERE sync_state = 'sync') FROM pg_stat_replication";
        let counts = self.sql("postgres", statement)?;
        let pair = counts.split_once('|').and_then(|(all, sync)| all.parse().ok().zip(sync.parse().ok()));
        pair.ok_or_else(|| ServerError::refused("count standbys", counts))
    }

    /// Changes a setting while the server runs.
    ///
    /// # Errors
    /// What the server said.
    pub fn set(&self, name: &str, value: &str) -> Result<(), ServerError> {
        self.sql("postgres", &format!("ALTER SYSTEM SET {name} = '{value}'"))?;
        self.sql("postgres", "SELECT pg_reload_conf()").map(drop)
    }

    /// Ends every session of others, as a server does that is told to; gives how many there were.
    ///
    /// # Errors
    /// What the server said.
    pub fn kill_backends(&self) -> Result<usize, ServerError> {
        let statement = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                         WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
        let count = self.sql("postgres", statement)?;
        count.parse().map_err(|_| ServerError::refused("end sessions", count))
    }

    fn client(&self, program: &str, doing: &str, arguments: &[&str]) -> Result<String, ServerError> {
        let mut command = Command::new(self.programs.join(program));
        command.env_clear().env("LC_ALL", "C").stdin(Stdio::null());
        command.arg("--host").arg(&self.directory).args(["--port", &self.port.to_string(), "--username", USER]);
        let output = command.args(arguments).output().map_err(ServerError::io(format!("run {program}")))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(ServerError::refused(doing, String::from_utf8_lossy(&output.stderr)))
    }

    /// Writes a file in the data directory that belongs to the user of the server.
    fn write(&self, name: &str, content: &[u8]) -> Result<(), ServerError> {
        let path = self.directory.join("data").join(name);
        let doing = || format!("write {}", path.display());
        let owner = std::fs::metadata(&self.directory).map_err(ServerError::io(doing()))?;
        let file = std::fs::OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&path);
        file.and_then(|mut file| file.write_all(content)).map_err(ServerError::io(doing()))?;
        std::os::unix::fs::chown(&path, Some(owner.uid()), Some(owner.gid())).map_err(ServerError::io(doing()))
    }

    /// Starts the server process and waits until it takes connections.
    fn run(&self) -> Result<(), ServerError> {
        let process = self.keeper().start_server()?;
        self.process.store(process, Ordering::Relaxed);
        let first = wait::until(&self.directory.join("data"), process, START, || self.ready(process));
        let how = match first.map_err(ServerError::io("wait for the server"))? {
            First::Held => return Ok(()),
            First::Ended => "it ended",
            First::Late => "it is not ready",
        };
        let said = format!("{how}; its log ends with\n{}", self.log());
        self.stop(Stop::Immediate)?;
        Err(ServerError::refused("start PostgreSQL", said))
    }

    /// The eighth line of its file says what it is doing; the first one that it is about this process.
    fn ready(&self, process: u32) -> bool {
        let text = std::fs::read_to_string(self.directory.join("data/postmaster.pid")).unwrap_or_default();
        let mut lines = text.lines();
        lines.next() == Some(&process.to_string()) && lines.nth(6).is_some_and(|state| state.trim() == "ready")
    }

    fn keeper(&self) -> MutexGuard<'_, Keeper> {
        self.keeper.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who the server is to be: PostgreSQL refuses to be root. Empty: as we are.
fn unprivileged() -> Result<&'static str, ServerError> {
    let ours = std::fs::metadata("/proc/self").map_err(ServerError::io("find out who we are"))?;
    if ours.uid() != 0 {
        return Ok("");
    }
    let users = std::fs::read_to_string("/etc/passwd").map_err(ServerError::io("read /etc/passwd"))?;
    Ok(if users.lines().any(|line| line.starts_with("postgres:")) { "postgres" } else { "nobody" })
}
