//! A real Kubernetes API server of a test, with an etcd of its own: both are one program, which `make kubernetes` builds.

mod api;
mod cert_manager;
mod exchange;
mod keys;
mod kubelet;

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use crate::error::ServerError;
use crate::ports;

pub use self::api::{Cluster, MadePod};
pub use self::cert_manager::CertManager;
pub use self::exchange::{Exchange, Request, Response, claims};
pub use self::keys::AccountKey;
pub use self::kubelet::{Answers, Kubelet, Wanted, make_request, overwrite_status};

/// How long a server may take to be ready; on a busy machine it takes ten times as long as on an idle one.
const START: Duration = Duration::from_secs(120);
/// How long it may take to end.
const END: Duration = Duration::from_secs(60);
/// How often it is asked whether it is ready: it tells nobody by itself.
const ASK: Duration = Duration::from_millis(50);

/// How the API server is to be.
#[derive(Debug, Clone)]
pub struct ApiServer {
    /// The `iss` of service-account tokens: the first signs, all are accepted.
    pub issuers: Vec<String>,
    /// The keys of service-account tokens: the first signs, all are accepted.
    pub keys: Vec<AccountKey>,
    /// Flags that come last.
    pub flags: Vec<String>,
}

impl Default for ApiServer {
    fn default() -> Self {
        Self { issuers: vec![ISSUER.to_owned()], keys: vec![AccountKey::Rsa], flags: Vec::new() }
    }
}

/// The issuer of tokens where nothing else is said.
pub const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// An API server on a port of its own. It is ended and removed when this is dropped, and also when this process ends in any
/// way.
pub struct Kubernetes {
    directory: tempfile::TempDir,
    program: PathBuf,
    port: u16,
    etcd_port: u16,
    running: Mutex<Running>,
}

struct Running {
    /// `None` while it is stopped.
    api: Option<Child>,
    /// Ended last.
    _etcd: Process,
}

impl Kubernetes {
    /// Starts a server and waits until it is ready.
    ///
    /// # Errors
    /// [`ServerError::Missing`] when it was not built, otherwise why it did not start.
    pub fn start(how: &ApiServer) -> Result<Self, ServerError> {
        let program = program()?;
        let directory = tempfile::Builder::new().prefix("signet-kubernetes-").tempdir();
        let directory = directory.map_err(ServerError::io("make a directory"))?;
        let (port, etcd_port, peer_port) = (ports::free()?, ports::free()?, ports::free()?);
        keys::make(directory.path(), port)?;
        let url = |port| format!("http://127.0.0.1:{port}");
        let data = directory.path().join("etcd").display().to_string();
        let whole = directory.path().display().to_string();
        let flags = ["--dir", &data, "--client", &url(etcd_port), "--peer", &url(peer_port), "--remove", &whole];
        let etcd = spawn(&program, "etcd", &flags.map(str::to_owned), directory.path())?;
        let running = Mutex::new(Running { api: None, _etcd: Process(etcd) });
        let server = Self { directory, program, port, etcd_port, running };
        server.start_again(how)?;
        Ok(server)
    }

    /// The server of this test process: started for the first who asks, ended with the process.
    ///
    /// # Errors
    /// As [`start`](Self::start); the same for everybody who asks.
    pub fn shared() -> Result<&'static Self, &'static ServerError> {
        static SHARED: OnceLock<Result<Kubernetes, ServerError>> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(&ApiServer::default())).as_ref()
    }

    /// Starts the API server (again, on the same port and with all that it held) and waits until it is ready.
    ///
    /// # Errors
    /// Why it did not start.
    pub fn start_again(&self, how: &ApiServer) -> Result<(), ServerError> {
        self.stop()?;
        let mut running = self.running();
        let api = spawn(&self.program, "kube-apiserver", &self.flags(how), self.directory.path())?;
        let api = running.api.insert(api);
        let (kubeconfig, end) = (self.admin_file(), Instant::now() + START);
        let said = |how: &str| {
            ServerError::refused("start kube-apiserver", format!("{how}; its log ends with\n{}", self.log()))
        };
        loop {
            if is_ready(kubeconfig.clone())? {
                return Ok(());
            }
            if api.try_wait().map_err(ServerError::io("look after kube-apiserver"))?.is_some() {
                return Err(said("it ended"));
            }
            if Instant::now() > end {
                return Err(said("it is not ready"));
            }
            std::thread::sleep(ASK);
        }
    }

    /// Stops the API server and waits until it has ended. One that is stopped stays so.
    ///
    /// # Errors
    /// When it did not end.
    pub fn stop(&self) -> Result<(), ServerError> {
        let Some(mut api) = self.running().api.take() else { return Ok(()) };
        // Its end of the pipe is what it waits for.
        drop(api.stdin.take());
        if !crate::ended(api.id(), END).map_err(ServerError::io("wait for kube-apiserver"))? {
            api.kill().map_err(ServerError::io("end kube-apiserver"))?;
        }
        api.wait().map(drop).map_err(ServerError::io("wait for kube-apiserver"))
    }

    /// Keeps the API server from doing anything, its connections open, or lets it go on.
    ///
    /// # Errors
    /// When there is none.
    pub fn hold(&self, held: bool) -> Result<(), ServerError> {
        use rustix::process::{Pid, Signal, kill_process};
        let id = self.running().api.as_ref().map(Pid::from_child);
        let id = id.ok_or_else(|| ServerError::refused("hold kube-apiserver", "it is stopped"))?;
        let signal = if held { Signal::STOP } else { Signal::CONT };
        kill_process(id, signal).map_err(|error| ServerError::io("signal kube-apiserver")(error.into()))
    }

    /// `https://127.0.0.1:port`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// The certificate that the server's chains to.
    #[must_use]
    pub fn ca_file(&self) -> PathBuf {
        self.directory.path().join("ca.crt")
    }

    /// The key that signs tokens, in PEM.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn account_key(&self, key: AccountKey) -> Result<String, ServerError> {
        let file = self.directory.path().join(key.file());
        std::fs::read_to_string(file).map_err(ServerError::io("read a key of service accounts"))
    }

    /// A kubeconfig of somebody who may do everything.
    #[must_use]
    pub fn admin_file(&self) -> PathBuf {
        self.directory.path().join("admin.kubeconfig")
    }

    /// A kubeconfig of whom the token in `token_file` proves, as text.
    #[must_use]
    pub fn kubeconfig_for(&self, token_file: &Path) -> String {
        keys::kubeconfig(&self.url(), &self.ca_file(), &format!("tokenFile: {}", token_file.display()))
    }

    /// What a test does with the objects of this server. It belongs to the runtime that asks.
    ///
    /// # Errors
    /// When its kubeconfig cannot be read.
    pub async fn cluster(&self) -> Result<Cluster, ServerError> {
        client(self.admin_file()).await.map(Cluster::new)
    }

    /// The same in the hands of whom a token proves, or of somebody without credentials.
    ///
    /// # Errors
    /// When its CA cannot be read.
    pub async fn cluster_of(&self, token: Option<&str>) -> Result<Cluster, ServerError> {
        let user = token.map(|token| format!("token: {token}")).unwrap_or_default();
        let text = keys::kubeconfig(&self.url(), &self.ca_file(), &user);
        let read = Kubeconfig::from_yaml(&text);
        let read = read.map_err(|error| ServerError::refused("use a kubeconfig", error.to_string()))?;
        client_of(read).await.map(Cluster::new)
    }

    /// The end of what both programs have printed.
    #[must_use]
    pub fn log(&self) -> String {
        ["etcd", "kube-apiserver"].map(|name| tail(&self.directory.path().join(format!("{name}.log")))).join("\n")
    }

    fn flags(&self, how: &ApiServer) -> Vec<String> {
        let file = |name: &str| self.directory.path().join(name).display().to_string();
        let mut flags = vec![
            format!("--etcd-servers=http://127.0.0.1:{}", self.etcd_port),
            "--bind-address=127.0.0.1".to_owned(),
            format!("--secure-port={}", self.port),
            format!("--tls-cert-file={}", file("apiserver.crt")),
            format!("--tls-private-key-file={}", file("apiserver.key")),
            format!("--client-ca-file={}", file("ca.crt")),
            "--authorization-mode=Node,RBAC".to_owned(),
            "--enable-admission-plugins=NodeRestriction".to_owned(),
            "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
            "--endpoint-reconciler-type=none".to_owned(),
            "--profiling=false".to_owned(),
        ];
        flags.extend(how.issuers.iter().map(|issuer| format!("--service-account-issuer={issuer}")));
        flags.extend(how.issuers.first().map(|issuer| format!("--api-audiences={issuer}")));
        flags.extend(how.keys.first().map(|key| format!("--service-account-signing-key-file={}", file(key.file()))));
        flags.extend(how.keys.iter().map(|key| format!("--service-account-key-file={}", file(key.public_file()))));
        flags.extend(how.flags.iter().cloned());
        flags
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Kubernetes {
    fn drop(&mut self) {
        // Before etcd, which it would miss.
        let _best_effort = self.hold(false);
        let _best_effort = self.stop();
    }
}

/// Ends with its owner.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _best_effort = self.0.kill();
        let _best_effort = self.0.wait();
    }
}

/// The program that is etcd and kube-apiserver.
fn program() -> Result<PathBuf, ServerError> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap_or(Path::new("."));
    let program = root.join("target/kubernetes/kubernetes");
    if program.is_file() {
        return Ok(program);
    }
    let what = format!("the Kubernetes API server of tests is missing ({})", program.display());
    Err(ServerError::Missing { what, install: "make kubernetes".to_owned() })
}

/// Starts one of the two. It ends when the pipe that is its input does, so with this process.
fn spawn(program: &Path, name: &str, flags: &[String], directory: &Path) -> Result<Child, ServerError> {
    let log = File::options().create(true).append(true).open(directory.join(format!("{name}.log")));
    let log = log.map_err(ServerError::io(format!("write the log of {name}")))?;
    let mut command = Command::new(program);
    // Ctrl-C is for us, and ends it through us.
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command.arg(name).args(flags).env_clear().current_dir(directory);
    let output = log.try_clone().map_err(ServerError::io(format!("write the log of {name}")))?;
    command.stdin(Stdio::piped()).stdout(output).stderr(log);
    command.spawn().map_err(ServerError::io(format!("run {}", program.display())))
}

/// A client for whom a kubeconfig names.
async fn client(kubeconfig: PathBuf) -> Result<Client, ServerError> {
    let refused = |error: &dyn std::fmt::Display| ServerError::refused("use a kubeconfig", error.to_string());
    client_of(Kubeconfig::read_from(kubeconfig).map_err(|error| refused(&error))?).await
}

async fn client_of(read: Kubeconfig) -> Result<Client, ServerError> {
    let refused = |error: &dyn std::fmt::Display| ServerError::refused("use a kubeconfig", error.to_string());
    let config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await;
    let mut config = config.map_err(|error| refused(&error))?;
    // What the server says is what a test is about, also 429 and 504.
    config.default_retry = false;
    Client::try_from(config).map_err(|error| refused(&error))
}

/// Asks once, on a runtime of its own: whoever starts a server may have one or not.
fn is_ready(kubeconfig: PathBuf) -> Result<bool, ServerError> {
    let ask = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(ServerError::io("wait for kube-apiserver"))?.block_on(async {
            let request = http::Request::get("/readyz").body(Vec::new());
            let request = request.map_err(|error| ServerError::refused("ask kube-apiserver", error.to_string()))?;
            Ok(client(kubeconfig).await?.request_text(request).await.is_ok())
        })
    };
    let panicked = |_| ServerError::refused("wait for kube-apiserver", "it panicked");
    std::thread::spawn(ask).join().map_err(panicked)?
}

/// The last 2,000 bytes of a file.
fn tail(path: &Path) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let (mut file, mut text) = (File::open(path)?, Vec::new());
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(2_000)))?;
        file.read_to_end(&mut text)?;
        Ok(text)
    };
    String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
}
