//! TLS to OpenBao: the roots of the file count and no others, the file is read again, and a client certificate logs in.

use std::path::Path;
use std::process::Command;

use serde_json::json;
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::process::eventually;
use signet_tests::harness::{Process, plugged::OwnCa, ports};
use signet_tests::tools;

use super::{SOON, installation, issued, told};

/// Runs the command-line tool against a server with TLS.
fn bao(directory: &Path, address: &str, args: &[&str]) -> Outcome<String> {
    let mut command = Command::new(tools::openbao()?);
    command.args(args).env("BAO_ADDR", address).env("BAO_TOKEN", "root");
    command.env("BAO_CACERT", directory.join("vault-ca.pem"));
    tools::run(&mut command)
}

#[tokio::test]
async fn only_the_roots_of_the_file_count_it_is_read_again_and_a_client_certificate_logs_in() -> Outcome {
    let dev = installation("1h")?;
    let directory = dev.path("bao-tls");
    std::fs::create_dir(&directory).map_err(Failure::io("make a directory"))?;
    let listen = ports::free_pair()?;
    let address = format!("https://{listen}");
    let mut command = Command::new(tools::openbao()?);
    command.args(["server", "-dev-tls", "-dev-no-store-token", "-dev-root-token-id=root"]);
    command.arg(format!("-dev-listen-address={listen}")).arg(format!("-dev-tls-cert-dir={}", directory.display()));
    let _server = Process::start_command("openbao-tls", command, dev.directory())?;
    let ca_file = directory.join("vault-ca.pem");
    let up = async || bao(&directory, &address, &["status"]).ok();
    eventually("OpenBao with TLS", SOON, up).await?;

    let client = OwnCa::root("client of openbao")?;
    let (certificate, key) = (dev.path("vault-client.pem"), dev.path("vault-client.key"));
    std::fs::write(&certificate, &client.certificate).map_err(Failure::io("write a certificate"))?;
    std::fs::write(&key, &client.key).map_err(Failure::io("write a key"))?;
    let policy = tools::source_root().join("deploy/vault/signet-intermediate.hcl").display().to_string();
    let own = format!("certificate=@{}", certificate.display());
    for args in [
        &["secrets", "enable", "-max-lease-ttl=87600h", "pki"][..],
        &["write", "pki/root/generate/internal", "common_name=root", "key_type=ec", "ttl=87600h"],
        &["policy", "write", "signet-intermediate", &policy],
        &["auth", "enable", "cert"],
        &["write", "auth/cert/certs/signet", &own, "token_policies=signet-intermediate"],
    ] {
        bao(&directory, &address, args)?;
    }

    // The roots of somebody else's first.
    let pinned = dev.path("vault-ca.pem");
    std::fs::write(&pinned, &client.certificate).map_err(Failure::io("write a root"))?;
    let auth = json!({ "method": "certificate", "role": "signet", "certificate_file": certificate, "key_file": key });
    let vault = json!({ "address": address, "ca_file": pinned, "refresh": "1s", "auth": auth });
    dev.set_ca("authority.backend", "vault")?;
    dev.set_ca("authority.vault", vault)?;
    let output = tools::output(&mut dev.ca_command(&["check", "--connect"])?)?;
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    ensure(output.status.code() == Some(1) && text.contains("UnknownIssuer"), || text.clone())?;
    let good = std::fs::read(&ca_file).map_err(Failure::io("read a root"))?;
    std::fs::write(&pinned, &good).map_err(Failure::io("write a root"))?;
    let mut ca = dev.start_ca().await?;
    issued(&dev).await?;
    // Under the running CA, the file becomes wrong and right again.
    std::fs::write(&pinned, &client.certificate).map_err(Failure::io("write a root"))?;
    told(&mut ca, &dev, "UnknownIssuer").await?;
    std::fs::write(&pinned, &good).map_err(Failure::io("write a root"))?;
    told(&mut ca, &dev, "its token holds until").await?;
    ca.operator().done(&["authority", "rotate", "--issuing"])?;
    issued(&dev).await?;
    Ok(())
}
