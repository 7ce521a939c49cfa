//! The OpenBao of the demo, set up by the script that the page about Vault names, and what it knows.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::client::keys;
use crate::failure::{Failure, Outcome};
use crate::harness::{Bao, Dev};
use crate::tools;

/// The mount that the script makes.
const MOUNT: &str = "pki";

/// The running server, and how Signet logs in to it.
pub struct Vault {
    /// The server.
    pub bao: Bao,
    role_id: String,
}

impl Vault {
    /// Starts a server and runs `deploy/vault/setup.sh` against it: a root, the policy, an AppRole.
    ///
    /// # Errors
    /// [`Failure`] with what the script printed.
    pub async fn set_up(dev: &Dev) -> Outcome<Self> {
        let bao = Bao::start(dev.directory()).await?;
        let mut script = Command::new("sh");
        script.arg(tools::source_root().join("deploy/vault/setup.sh"));
        script.env("BAO", tools::openbao()?).env("MOUNT", MOUNT).env("SECRET_FILE", secret_file(dev));
        let said = tools::run(bao.administered(&mut script))?;
        let role_id = said.lines().find_map(|line| line.strip_prefix("role_id: ")).map(str::to_owned);
        let role_id = role_id.ok_or_else(|| Failure::unexpected(format!("no role_id: {said}")))?;
        Ok(Self { bao, role_id })
    }

    /// What stands in the CA's configuration from now on.
    ///
    /// # Errors
    /// [`Failure`] of the configuration file.
    pub fn backs(&self, dev: &Dev) -> Outcome {
        let auth = json!({ "method": "app-role", "role_id": self.role_id, "secret_id_file": secret_file(dev) });
        let address = format!("http://{}", self.bao.address);
        let vault = json!({ "address": address, "mount": MOUNT, "refresh": "1s", "auth": auth });
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

fn secret_file(dev: &Dev) -> std::path::PathBuf {
    let directory: &Path = dev.directory();
    directory.join("vault-secret-id")
}
