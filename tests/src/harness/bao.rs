//! A real OpenBao in its development mode, with a PKI as the page about Vault has it.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Dev, Process, ports};
use crate::failure::{Failure, Outcome};
use crate::tools;

/// How long the server may take to answer for the first time.
const START: Duration = Duration::from_secs(60);

/// How long one request may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// The policy that the page documents.
const POLICY: &str = include_str!("../../../deploy/vault/signet-intermediate.hcl");

/// The same for leaves, and the roles that sign them.
const LEAF_POLICY: &str = include_str!("../../../deploy/vault/signet-leaf.hcl");
const MESH: &str = include_str!("../../../deploy/vault/role-mesh.json");
const SERVING: &str = include_str!("../../../deploy/vault/role-serving.json");

/// A running server, which forgets everything when it ends.
pub struct Bao {
    /// The process.
    pub process: Process,
    /// Where it listens, without TLS.
    pub address: SocketAddr,
}

impl Bao {
    /// The token that may do everything.
    pub const TOKEN: &str = "root";

    /// Starts one and waits until it answers.
    ///
    /// # Errors
    /// [`Failure`] with its log.
    pub async fn start(directory: &Path) -> Outcome<Self> {
        // The one behind it is for others of a cluster, of which there is none.
        let address = ports::free_pair()?;
        let mut command = Command::new(tools::openbao()?);
        let token = format!("-dev-root-token-id={}", Self::TOKEN);
        let listen = format!("-dev-listen-address={address}");
        command.args(["server", "-dev", "-dev-no-store-token", &token, &listen]);
        let mut process = Process::start_command("openbao", command, directory)?;
        process
            .until("OpenBao", START, async || {
                let (status, _) = exchange(address, "GET", "sys/health", &Value::Null, None).await.ok()?;
                (status == 200).then_some(())
            })
            .await?;
        Ok(Self { process, address })
    }

    /// The same with the mount `pki` and the root `a` in it, the documented policy, and an AppRole with it whose tokens
    /// last for this many seconds.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn with_pki(directory: &Path, token_ttl: u64) -> Outcome<Self> {
        let bao = Self::start(directory).await?;
        bao.put("sys/mounts/pki", json!({ "type": "pki", "config": { "max_lease_ttl": "87600h" } })).await?;
        bao.put("pki/config/crl", json!({ "auto_rebuild": true })).await?;
        bao.root("root/generate/internal", "a").await?;
        bao.put("sys/policies/acl/signet-intermediate", json!({ "policy": POLICY })).await?;
        bao.put("sys/auth/approle", json!({ "type": "approle" })).await?;
        let role = json!({ "token_policies": "signet-intermediate", "token_period": token_ttl });
        bao.put("auth/approle/role/signet", role).await?;
        Ok(bao)
    }

    /// Lets a command speak to it with the token that may do everything, as its own command-line tool does.
    pub fn administered<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command.env("BAO_ADDR", format!("http://{}", self.address)).env("BAO_TOKEN", Self::TOKEN)
    }

    /// Makes a root in the mount `pki`, with this name, at this endpoint.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn root(&self, endpoint: &str, name: &str) -> Outcome<String> {
        let body =
            json!({ "common_name": format!("root {name}"), "issuer_name": name, "key_type": "ec", "ttl": "87600h" });
        let made = self.put(&format!("pki/{endpoint}"), body).await?;
        text(&made, "/data/certificate")
    }

    /// Lets this issuer be the default.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn make_default(&self, issuer: &str) -> Outcome {
        self.put("pki/config/issuers", json!({ "default": issuer })).await.map(drop)
    }

    /// A new secret for the AppRole, written to that file.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn secret(&self, file: &Path) -> Outcome<String> {
        let made = self.put("auth/approle/role/signet/secret-id", json!({})).await?;
        let secret = text(&made, "/data/secret_id")?;
        std::fs::write(file, format!("{secret}\n")).map_err(Failure::io("write a secret"))?;
        Ok(secret)
    }

    /// Lets the CA of an installation have its issuing CAs certified there, with the AppRole.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn backs(&self, dev: &Dev) -> Outcome {
        dev.set_ca("authority.vault", self.intermediate(dev).await?)?;
        dev.set_ca("authority.backend", "vault")
    }

    /// The section of the configuration that says so, with a new secret.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn intermediate(&self, dev: &Dev) -> Outcome<Value> {
        let secret_file = dev.path("secret-id");
        self.secret(&secret_file).await?;
        let role_id = text(&self.get("auth/approle/role/signet/role-id").await?, "/data/role_id")?;
        let auth = json!({ "method": "app-role", "role_id": role_id, "secret_id_file": secret_file });
        Ok(json!({ "address": format!("http://{}", self.address), "refresh": "1s", "auth": auth }))
    }

    /// Makes the documented roles for leaves, which the AppRole may use from its next login on, for the names that the CA of an
    /// installation serves.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn has_leaf_roles(&self) -> Outcome {
        for (name, text) in [("mesh", MESH), ("serving", SERVING)] {
            let mut role: Value = serde_json::from_str(text).map_err(Failure::while_doing("read a role"))?;
            if let Some(fields) = role.as_object_mut().filter(|_| name == "serving") {
                fields.insert("allowed_domains".to_owned(), json!(["localhost", "istiod.istio-system.svc"]));
                fields.insert("allow_ip_sans".to_owned(), json!(true));
            }
            self.put(&format!("pki/roles/signet-{name}"), role).await?;
        }
        self.put("sys/policies/acl/signet-leaf", json!({ "policy": LEAF_POLICY })).await?;
        let both = json!({ "token_policies": ["signet-intermediate", "signet-leaf"] });
        self.put("auth/approle/role/signet", both).await.map(drop)
    }

    /// Lets it sign the leaves of an installation itself, whose backend it is already.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn signs_leaves(&self, dev: &Dev) -> Outcome {
        self.has_leaf_roles().await?;
        dev.set_ca("authority.vault.mode", "leaf")?;
        dev.set_ca("authority.vault.role", "signet-mesh")?;
        dev.set_ca("authority.vault.serving_role", "signet-serving")
    }

    /// The section of the configuration that says that it signs leaves, with a new secret.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn leaves(&self, dev: &Dev) -> Outcome<Value> {
        let mut section = self.intermediate(dev).await?;
        let more = [("mode", "leaf"), ("role", "signet-mesh"), ("serving_role", "signet-serving")];
        if let Some(section) = section.as_object_mut() {
            section.extend(more.map(|(field, value)| (field.to_owned(), json!(value))));
        }
        Ok(section)
    }

    /// Makes another mount of this name with a root, and the roles that the one of `pki` has, which the AppRole may use from its next
    /// login on.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn has_another_mount(&self, name: &str) -> Outcome {
        let settings = json!({ "type": "pki", "config": { "max_lease_ttl": "87600h" } });
        self.put(&format!("sys/mounts/{name}"), settings).await?;
        self.put(&format!("{name}/config/crl"), json!({ "auto_rebuild": true })).await?;
        let root =
            json!({ "common_name": format!("root of {name}"), "issuer_name": name, "key_type": "ec", "ttl": "87600h" });
        self.put(&format!("{name}/root/generate/internal"), root).await?;
        for role in ["signet-mesh", "signet-serving"] {
            let found = self.get(&format!("pki/roles/{role}")).await?;
            let settings = found.get("data").cloned().unwrap_or_default();
            self.put(&format!("{name}/roles/{role}"), settings).await?;
        }
        let policy = format!("{LEAF_POLICY}\n{}", LEAF_POLICY.replace("\"pki/", &format!("\"{name}/")));
        self.put("sys/policies/acl/signet-leaf", json!({ "policy": policy })).await.map(drop)
    }

    /// Revokes the tokens that the AppRole has given.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn revoke_tokens(&self) -> Outcome<usize> {
        let all = self.ask("LIST", "auth/token/accessors", Value::Null).await?;
        let mut revoked = 0;
        for accessor in all.pointer("/data/keys").and_then(Value::as_array).into_iter().flatten() {
            let about = self.put("auth/token/lookup-accessor", json!({ "accessor": accessor })).await?;
            if about.pointer("/data/display_name").is_some_and(|name| name == "approle") {
                self.put("auth/token/revoke-accessor", json!({ "accessor": accessor })).await?;
                revoked += 1;
            }
        }
        Ok(revoked)
    }

    /// Seals it: it answers nothing until it is unsealed.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn seal(&self) -> Outcome {
        self.put("sys/seal", json!({})).await.map(drop)
    }

    /// Unseals it with the key that it has printed.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn unseal(&self) -> Outcome {
        let log = self.process.log();
        let key = log.lines().find_map(|line| line.trim().strip_prefix("Unseal Key: "));
        let key = key.ok_or_else(|| Failure::unexpected(format!("no unseal key in {log}")))?;
        self.put("sys/unseal", json!({ "key": key })).await.map(drop)
    }

    /// What is at a path.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn get(&self, path: &str) -> Outcome<Value> {
        self.ask("GET", path, Value::Null).await
    }

    /// Writes to a path.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn put(&self, path: &str, body: Value) -> Outcome<Value> {
        self.ask("PUT", path, body).await
    }

    async fn ask(&self, method: &str, path: &str, body: Value) -> Outcome<Value> {
        let (status, answer) = exchange(self.address, method, path, &body, Some(Self::TOKEN)).await?;
        if !(200..300).contains(&status) {
            return Err(Failure::unexpected(format!("OpenBao answers {status} to {method} {path}: {answer}")));
        }
        Ok(answer)
    }
}

fn text(answer: &Value, at: &str) -> Outcome<String> {
    let found = answer.pointer(at).and_then(Value::as_str).map(str::to_owned);
    found.ok_or_else(|| Failure::unexpected(format!("no {at} in {answer}")))
}

async fn exchange(
    address: SocketAddr,
    method: &str,
    path: &str,
    body: &Value,
    token: Option<&str>,
) -> Outcome<(u16, Value)> {
    let within = |_| Failure::Deadline { what: format!("{method} {path}"), within: DEADLINE, context: String::new() };
    timeout(DEADLINE, send(address, method, path, body, token)).await.map_err(within)?
}

async fn send(
    address: SocketAddr,
    method: &str,
    path: &str,
    body: &Value,
    token: Option<&str>,
) -> Outcome<(u16, Value)> {
    let stream = TcpStream::connect(address).await.map_err(Failure::io(format!("connect to {address}")))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(Failure::while_doing("speak HTTP"))?;
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let request = hyper::Request::builder()
        .method(method)
        .uri(format!("/v1/{path}"))
        .header("host", address.to_string())
        .header("connection", "close")
        .header("x-vault-token", token.unwrap_or_default())
        .body(Full::new(Bytes::from(body)))
        .map_err(Failure::while_doing("build a request"))?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(Failure::while_doing("send a request"))?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.map_err(Failure::while_doing("read an answer"))?.to_bytes();
        Ok((status, serde_json::from_slice(&body).unwrap_or_default()))
    };
    let mut connection = std::pin::pin!(connection);
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        result = &mut answer => result,
        // The connection may close right after the last byte; the answer is complete then.
        _closed = &mut connection => answer.await,
    }
}
