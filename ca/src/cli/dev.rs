//! `signet-ca dev`: a throw-away state to try things out with. Everything is real but the cluster, which is a key.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;
use signet_core::clock::{Clock, SystemClock};
use signet_core::identity::{TrustDomain, WorkloadId};
use signet_core::time_math;
use signet_runtime::config::{self, units};
use signet_runtime::files;
use signet_runtime::output::{Output, OutputFormat};

use super::Failure;
use super::dev_tokens::{ClusterKey, ISSUER, TokenClaims};
use crate::app;
use crate::config::read;

#[derive(Debug, Subcommand)]
pub(super) enum DevCommand {
    /// Create keys, tokens, configuration files and an authority in a new directory
    Init(InitArgs),
    /// Print a service-account token signed by the cluster of such a directory
    Token(TokenArgs),
}

#[derive(Debug, Args)]
pub(super) struct InitArgs {
    /// The directory to create; must not exist or be empty
    #[arg(long)]
    dir: PathBuf,
    /// The trust domain
    #[arg(long, default_value = "cluster.local")]
    trust_domain: String,
    /// Lifetime of certificates
    #[arg(long, default_value = "24h", value_name = "DURATION")]
    svid_ttl: String,
    /// A workload to make a token and an agent configuration for; may be repeated
    #[arg(long = "workload", value_name = "NAME=NAMESPACE/ACCOUNT", default_values_t = ["client=default/client".to_owned(), "server=default/server".to_owned()])]
    workloads: Vec<String>,
    /// Where the CA listens
    #[arg(long, default_value = "127.0.0.1:15012")]
    listen: SocketAddr,
    /// Where the CA serves metrics and probes
    #[arg(long, default_value = "127.0.0.1:15014")]
    ops: SocketAddr,
    /// Where the CA keeps everything, as `storage` of its configuration; without, a file in the directory
    #[arg(long, value_name = "URL")]
    storage: Option<String>,
    /// Choose free ports instead of the usual ones
    #[arg(long)]
    free_ports: bool,
    /// How the CA and the agents write their logs: human or json
    #[arg(long, default_value = "human", value_name = "FORMAT", value_parser = ["human", "json"])]
    log_format: String,
}

#[derive(Debug, Args)]
#[command(override_usage = "signet-ca dev token --dir <DIR>\n          --service-account <NAME> [OPTIONS]")]
pub(super) struct TokenArgs {
    /// The directory that `dev init` made
    #[arg(long)]
    dir: PathBuf,
    /// The namespace of the service account
    #[arg(long, default_value = "default")]
    namespace: String,
    /// The service account
    #[arg(long, value_name = "NAME")]
    service_account: String,
    /// The audience
    #[arg(long, default_value = "istio-ca")]
    audience: String,
    /// The issuer
    #[arg(long, default_value = ISSUER)]
    issuer: String,
    /// Lifetime of the token
    #[arg(long, default_value = "12h", value_name = "DURATION")]
    ttl: String,
    /// A token whose life has ended
    #[arg(long)]
    expired: bool,
    /// A token that is not bound to a pod
    #[arg(long)]
    no_pod: bool,
}

pub(super) async fn run(command: DevCommand) -> Result<(), Failure> {
    match command {
        DevCommand::Init(args) => init(&args).await,
        DevCommand::Token(args) => token(&args),
    }
}

struct Workload {
    name: String,
    id: WorkloadId,
}

fn workload(text: &str, trust_domain: &TrustDomain) -> Result<Workload, Failure> {
    let wrong = || Failure::Usage(format!("--workload: {text:?} is not NAME=NAMESPACE/ACCOUNT"));
    let (name, account) = text.split_once('=').ok_or_else(wrong)?;
    let (namespace, account) = account.split_once('/').ok_or_else(wrong)?;
    let plain = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let id = WorkloadId::new(trust_domain.clone(), namespace, account);
    let id = id.map_err(|error| Failure::Usage(format!("--workload: {error}")))?;
    if plain { Ok(Workload { name: name.to_owned(), id }) } else { Err(wrong()) }
}

async fn init(args: &InitArgs) -> Result<(), Failure> {
    let trust_domain = TrustDomain::parse(&args.trust_domain).map_err(|error| Failure::Usage(error.to_string()))?;
    let ttl = units::parse_duration(&args.svid_ttl).map_err(|error| Failure::Usage(format!("--svid-ttl: {error}")))?;
    let workloads: Vec<Workload> =
        args.workloads.iter().map(|text| workload(text, &trust_domain)).collect::<Result<_, _>>()?;
    create_empty(&args.dir)?;
    let dir = args.dir.canonicalize().map_err(Failure::failed)?;

    let cluster = ClusterKey::generate()?;
    write(&dir.join("cluster-signing-key.pem"), &cluster.to_pem()?, 0o600)?;
    write(&dir.join("jwks.json"), &format!("{:#}\n", cluster.jwks()), 0o644)?;
    let encryption_key = app::new_encryption_key().map_err(Failure::failed)?;
    write(&dir.join("key-encryption.key"), &encryption_key, 0o600)?;
    for folder in ["tokens", "outside"] {
        std::fs::create_dir(dir.join(folder)).map_err(Failure::failed)?;
    }

    let mut ports = Ports { free: args.free_ports, held: Vec::new(), usual: 15_020 };
    let listen = if args.free_ports { ports.next()? } else { args.listen };
    let ops = if args.free_ports { ports.next()? } else { args.ops };
    let now = SystemClock.now();
    for workload in &workloads {
        let claims = TokenClaims {
            namespace: workload.id.namespace(),
            service_account: workload.id.service_account(),
            audience: "istio-ca",
            issuer: ISSUER,
            bound: true,
            issued_at: now,
            ttl: Duration::from_secs(12 * 3600),
        };
        let token = dir.join("tokens").join(format!("{}.jwt", workload.name));
        write(&token, &cluster.token(&claims)?, 0o600)?;
        let agent = agent_config(&dir, &trust_domain, workload, listen, ports.next()?, ttl, &args.log_format);
        write(&dir.join(format!("agent-{}.yaml", workload.name)), &agent, 0o644)?;
    }
    let file = dir.join("signet-ca.yaml");
    let storage = args.storage.clone().unwrap_or_else(|| format!("sqlite://{}", dir.join("signet.db").display()));
    write(&file, &ca_config(&dir, &trust_domain, &storage, listen, ops, ttl, &args.log_format), 0o644)?;

    let loaded =
        config::load(&file, read).map_err(|error| Failure::Usage(signet_runtime::output::error_chain(&error)))?;
    let made = super::init::init(&loaded.config, &BTreeSet::new()).await?;
    let bundle = made.bundle(&trust_domain).map_err(Failure::failed)?;
    write(&dir.join("root-cert.pem"), bundle.pem(), 0o644)?;
    print_next_steps(&dir, &workloads)
}

fn print_next_steps(dir: &Path, workloads: &[Workload]) -> Result<(), Failure> {
    let shown = dir.display();
    let mut text = format!(
        "made a throw-away state in {shown}\n\n  signet-ca.yaml           configuration of the CA\n  root-cert.pem            the roots that agents trust, kept up to date by the CA\n  cluster-signing-key.pem  signs tokens; its public half is in jwks.json\n  key-encryption.key       encrypts the private keys in the storage\n"
    );
    for workload in workloads {
        let Workload { name, id } = workload;
        text += &format!("  agent-{name}.yaml, tokens/{name}.jwt  the agent of {id}\n");
    }
    text += &format!("\nstart the CA with\n  signet-ca serve --config {shown}/signet-ca.yaml\n");
    if let Some(workload) = workloads.first() {
        text += &format!("and an agent with\n  signet-agent run --config {shown}/agent-{}.yaml\n", workload.name);
    }
    Output::stdout(OutputFormat::Table).raw(&text).map_err(Failure::failed)
}

fn token(args: &TokenArgs) -> Result<(), Failure> {
    let ttl = units::parse_duration(&args.ttl).map_err(|error| Failure::Usage(format!("--ttl: {error}")))?;
    let pem = files::read(&args.dir.join("cluster-signing-key.pem"), 64 * 1024).map_err(Failure::failed)?;
    let key = ClusterKey::from_pem(&String::from_utf8_lossy(&pem))?;
    let now = SystemClock.now();
    let issued_at = if args.expired { time_math::before(now, ttl + Duration::from_secs(3600)) } else { now };
    let claims = TokenClaims {
        namespace: &args.namespace,
        service_account: &args.service_account,
        audience: &args.audience,
        issuer: &args.issuer,
        bound: !args.no_pod,
        issued_at,
        ttl,
    };
    Output::stdout(OutputFormat::Table).line(&key.token(&claims)?).map_err(Failure::failed)
}

fn create_empty(dir: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::DirBuilderExt;
    let occupied = std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some());
    if occupied {
        return Err(Failure::Usage(format!("--dir: {} is not empty; choose a new directory", dir.display())));
    }
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|error| Failure::Failed(format!("cannot create {}: {error}", dir.display())))
}

fn write(path: &Path, content: &str, mode: u32) -> Result<(), Failure> {
    files::write_atomic(path, content.as_bytes(), mode).map_err(Failure::failed)
}

/// Hands out ports: free ones, held until all are chosen so that none is given twice, or the usual ones.
struct Ports {
    free: bool,
    held: Vec<TcpListener>,
    usual: u16,
}

impl Ports {
    fn next(&mut self) -> Result<SocketAddr, Failure> {
        if !self.free {
            let port = self.usual;
            self.usual += 1;
            return Ok((Ipv4Addr::LOCALHOST, port).into());
        }
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(Failure::failed)?;
        let address = listener.local_addr().map_err(Failure::failed)?;
        self.held.push(listener);
        Ok(address)
    }
}

fn ca_config(
    dir: &Path,
    trust_domain: &TrustDomain,
    storage: &str,
    listen: SocketAddr,
    ops: SocketAddr,
    ttl: Duration,
    log_format: &str,
) -> String {
    let file = |name: &str| json!(dir.join(name)).to_string();
    let max_ttl = units::format_duration(ttl.max(Duration::from_secs(24 * 3600)));
    let ttl = units::format_duration(ttl);
    let (admin, storage) = (dir.join("ca-admin.sock"), json!(storage));
    format!(
        r#"# A CA to try things out with. All fields are in docs/configuration.md.
trust_domain: {trust_domain}
listen: {listen}
ops: {ops}
admin: "unix://{admin}"
storage: {storage}
# Not restored together with the database.
audit: {{ checkpoint_file: {outside} }}
keys: {{ encryption_key_file: {key} }}
bundle_file: {roots}
authority: {{ rotation: {{ propagation: 5s, renewal_window: 30s }} }}
# An istio-agent that dials localhost demands the second name.
serving: {{ dns_names: [localhost, istiod.istio-system.svc], ip_addresses: [127.0.0.1] }}
svid: {{ default_ttl: {ttl}, max_ttl: {max_ttl} }}
log: {{ format: {log_format} }}
clusters:
  - id: Kubernetes
    trust_domain: {trust_domain}
    audiences: [istio-ca]
    tokens: {{ kind: jwks, issuer: {ISSUER}, file: {jwks} }}
"#,
        admin = admin.display(),
        key = file("key-encryption.key"),
        outside = file("outside/record.checkpoint"),
        roots = file("root-cert.pem"),
        jwks = file("jwks.json"),
    )
}

fn agent_config(
    dir: &Path,
    trust_domain: &TrustDomain,
    workload: &Workload,
    ca: SocketAddr,
    ops: SocketAddr,
    ttl: Duration,
    log_format: &str,
) -> String {
    let name = &workload.name;
    let file = |path: PathBuf| json!(path).to_string();
    format!(
        r#"# The agent of {id}.
trust_domain: {trust_domain}
ca: {{ address: "https://localhost:{port}", root_file: {root} }}
token_file: {token}
svid: {{ ttl: {ttl} }}
sds: {{ socket: "unix://{socket}", proxy_grace: 1s }}
ops: {ops}
log: {{ format: {log_format} }}
"#,
        id = workload.id,
        port = ca.port(),
        root = file(dir.join("root-cert.pem")),
        token = file(dir.join("tokens").join(format!("{name}.jwt"))),
        ttl = units::format_duration(ttl),
        socket = dir.join(format!("agent-{name}.sock")).display(),
    )
}
