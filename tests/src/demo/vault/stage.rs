//! The OpenBao of the demo, set up by the scripts that the page about Vault names, and what it knows.

use std::process::Command;

use serde_json::{Value, json};

use crate::client::keys;
use crate::failure::{Failure, Outcome};
use crate::harness::{Bao, Dev, yaml};
use crate::tools;

/// The mount that the script makes.
const MOUNT: &str = "pki";
/// The files with the secrets of the two AppRoles.
const SECRET: &str = "vault-secret-id";
const LEAF_SECRET: &str = "vault-leaf-secret-id";

/// The running server, and how Signet logs in to it.
pub struct Vault {
    /// The server.
    pub bao: Bao,
    /// The role_id for issuing CAs.
    role_id: String,
}

impl Vault {
    /// Starts a server and runs `deploy/vault/setup.sh` against it: a root, the policy, an AppRole.
    ///
    /// # Errors
    /// [`Failure`] with what the script printed.
    pub async fn set_up(dev: &Dev) -> Outcome<Self> {
        let bao = Bao::start(dev.directory()).await?;
        let role_id = run(&bao, dev, "setup.sh", SECRET)?;
        Ok(Self { bao, role_id })
    }

    /// Lets it certify issuing CAs, as the CA's configuration says from now on.
    ///
    /// # Errors
    /// [`Failure`] of the configuration file.
    pub fn certifies(&self, dev: &Dev) -> Outcome {
        self.configure(dev, &self.role_id, SECRET, json!({}))
    }

    /// Lets it sign leaves: runs `deploy/vault/setup-leaf.sh`, and changes the CA's configuration.
    ///
    /// # Errors
    /// [`Failure`] with what the script printed.
    pub fn signs_leaves(&self, dev: &Dev) -> Outcome {
        let role_id = run(&self.bao, dev, "setup-leaf.sh", LEAF_SECRET)?;
        let leaf = json!({ "mode": "leaf", "role": "signet-mesh", "serving_role": "signet-serving" });
        self.configure(dev, &role_id, LEAF_SECRET, leaf)
    }

    fn configure(&self, dev: &Dev, role_id: &str, secret: &str, more: Value) -> Outcome {
        let auth = json!({ "method": "app-role", "role_id": role_id, "secret_id_file": dev.path(secret) });
        let address = format!("http://{}", self.bao.address);
        let mut vault = json!({ "address": address, "mount": MOUNT, "refresh": "1s", "auth": auth });
        if let (Some(vault), Value::Object(more)) = (vault.as_object_mut(), more) {
            vault.extend(more);
        }
        dev.set_ca("authority.backend", "vault")?;
        dev.set_ca("authority.vault", vault)
    }

    /// Its root, PEM.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn root(&self) -> Outcome<String> {
        let issuer = self.bao.get(&format!("{MOUNT}/issuer/default/json")).await?;
        let found = issuer.pointer("/data/certificate").and_then(Value::as_str);
        found.map(str::to_owned).ok_or_else(|| Failure::unexpected(format!("no certificate in {issuer}")))
    }

    /// The serial numbers of the certificates in its storage.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn certificates(&self) -> Outcome<Vec<String>> {
        let list = self.bao.get(&format!("{MOUNT}/certs?list=true")).await?;
        let all = list.pointer("/data/keys").and_then(Value::as_array).into_iter().flatten();
        Ok(all.filter_map(Value::as_str).map(|serial| keys::padded(&serial.replace([':', '-'], ""))).collect())
    }
}

/// Runs one of the scripts that are shipped; gives the role_id that it prints.
fn run(bao: &Bao, dev: &Dev, script: &str, secret: &str) -> Outcome<String> {
    let mut command = Command::new("sh");
    command.arg(tools::source_root().join("deploy/vault").join(script));
    command.env("BAO", tools::openbao()?).env("MOUNT", MOUNT).env("SECRET_FILE", dev.path(secret));
    let config = yaml::read(&dev.path("signet-ca.yaml"))?;
    let names = config.pointer("/serving/dns_names").and_then(Value::as_array).into_iter().flatten();
    let names: Vec<&str> = names.filter_map(Value::as_str).collect();
    let said = tools::run(bao.administered(command.env("SERVING", names.join(","))))?;
    let role_id = said.lines().find_map(|line| line.strip_prefix("role_id: ")).map(str::to_owned);
    role_id.ok_or_else(|| Failure::unexpected(format!("no role_id: {said}")))
}
