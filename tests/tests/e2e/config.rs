//! Wrong configurations and files: every mistake at once, by name, with exit code 2, and nothing started.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::json;
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::{Ca, Dev, probe, yaml};
use signet_tests::tools;

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn refuses(mut command: Command, code: i32, words: &[&str]) -> Outcome {
    let output = tools::output(&mut command)?;
    let text = told(&output);
    ensure(output.status.code() == Some(code), || format!("{command:?} ended with {}:\n{text}", output.status))?;
    let program = Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy();
    ensure(text.starts_with(&format!("{program}: ")), || {
        format!("{command:?} does not say whose error it is:\n{text}")
    })?;
    let missing: Vec<_> = words.iter().filter(|word| !text.contains(**word)).collect();
    ensure(missing.is_empty(), || format!("{command:?} does not mention {missing:?}:\n{text}"))
}

#[test]
fn a_ca_configuration_with_ten_mistakes_reports_all_ten() -> Outcome {
    let dev = Dev::plain()?;
    dev.edit("signet-ca.yaml", |config| {
        for (key, value) in [
            ("trust_domain", json!("Not a Domain")),
            ("listen", json!("nowhere")),
            ("admin", json!("tcp://127.0.0.1:1")),
            ("ops", json!(15)),
            ("storage", json!("mysql://x")),
            ("svid.default_ttl", json!("5 parsecs")),
            ("svid.csr_names", json!("maybe")),
            ("authority.key_type", json!("dsa")),
            ("limits.concurrent_requests", json!(0)),
            ("listne", json!("typo")),
        ] {
            yaml::set(config, key, value)?;
        }
        Ok(())
    })?;
    let names = [
        "trust_domain",
        "listen",
        "admin",
        "ops",
        "storage",
        "svid.default_ttl",
        "svid.csr_names",
        "authority.key_type",
        "limits.concurrent_requests",
        "listne",
    ];
    for command in ["check", "serve"] {
        refuses(dev.ca_command(&[command])?, 2, &names)?;
    }
    Ok(())
}

#[test]
fn an_agent_configuration_with_ten_mistakes_reports_all_ten() -> Outcome {
    let dev = Dev::plain()?;
    dev.edit("agent-client.yaml", |config| {
        for (key, value) in [
            ("trust_domain", json!("Not a Domain")),
            ("ca.address", json!("ftp://ca")),
            ("ca.timeout", json!("soon")),
            ("ca.root_file", json!(7)),
            ("token_file", json!(["x"])),
            ("svid.ttl", json!("-1h")),
            ("svid.key_type", json!("dsa")),
            ("sds.socket", json!("tcp://x")),
            ("ops", json!("nowhere")),
            ("sdss", json!({})),
        ] {
            yaml::set(config, key, value)?;
        }
        Ok(())
    })?;
    let names = [
        "trust_domain",
        "ca.address",
        "ca.timeout",
        "ca.root_file",
        "token_file",
        "svid.ttl",
        "svid.key_type",
        "sds.socket",
        "ops",
        "sdss",
    ];
    for command in ["check", "run"] {
        refuses(dev.agent_command("client", &[command])?, 2, &names)?;
    }
    Ok(())
}

#[test]
fn good_configurations_pass_the_check() -> Outcome {
    let dev = Dev::plain()?;
    for mut command in [dev.ca_command(&["check"])?, dev.agent_command("client", &["check"])?] {
        let output = tools::output(&mut command)?;
        ensure(output.status.success(), || format!("{command:?}: {}", told(&output)))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure(text.contains("not looked at: whether"), || format!("what was not looked at is not said: {text}"))?;
    }
    Ok(())
}

/// What serving would stumble over is found without serving, and nothing is made by looking.
#[test]
fn a_check_opens_what_is_named_and_says_what_is_wrong_with_it() -> Outcome {
    let dev = Dev::plain()?;
    dev.edit("signet-ca.yaml", |config| {
        yaml::set(config, "bundle_file", dev.path("no/roots.pem").to_string_lossy())?;
        yaml::set(config, "admin", format!("unix://{}/ca-admin.sock", dev.path("root-cert.pem").display()))
    })?;
    refuses(dev.ca_command(&["check"])?, 2, &["bundle_file: the directory", "admin: ", "is not a directory"])?;
    let other = Dev::plain()?;
    // The key of another installation: the names of keys are the same.
    std::fs::copy(other.path("key-encryption.key"), dev.path("key-encryption.key"))
        .map_err(Failure::io("copy a key file"))?;
    refuses(dev.ca_command(&["check"])?, 2, &["key-encryption.key: "])?;
    dev.edit("agent-client.yaml", |config| {
        yaml::set(config, "token_file", dev.path("no-token").to_string_lossy())?;
        yaml::set(config, "ca.root_file", dev.path("no-roots.pem").to_string_lossy())?;
        yaml::set(config, "sds.user", "nobody-of-this-name")
    })?;
    refuses(dev.agent_command("client", &["check"])?, 2, &["token_file: ", "ca.root_file: ", "sds.user"])?;
    ensure(!dev.path("no").exists(), || "a check has made something".to_owned())
}

/// Prints the paths of what a validator that is not ours finds wrong in a file, by the schema of the program.
const VALIDATE: &str = r#"
import json, sys, jsonschema
schema = json.load(open(sys.argv[1]))
jsonschema.Draft202012Validator.check_schema(schema)
found = jsonschema.Draft202012Validator(schema).iter_errors(json.load(open(sys.argv[2])))
print(sorted({".".join(map(str, error.absolute_path)) for error in found}))
"#;

#[test]
fn the_schema_for_editors_takes_what_the_programs_take_and_points_at_slips() -> Outcome {
    let dev = Dev::plain()?;
    let programs = [
        ("signet-ca", dev.path("signet-ca.yaml"), dev.ca_command(&["check", "--schema"])?),
        ("signet-agent", dev.path("agent-client.yaml"), dev.agent_command("client", &["check", "--schema"])?),
    ];
    for (program, file, mut command) in programs {
        let (schema, document) = (dev.path("schema.json"), dev.path("document.json"));
        std::fs::write(&schema, tools::run(&mut command)?).map_err(Failure::io("write a schema"))?;
        let good = yaml::read(&file)?;
        let found = |document_of: &serde_json::Value| -> Outcome<String> {
            yaml::write(&document, document_of)?;
            tools::run(Command::new(tools::python("jsonschema")?).args(["-c", VALIDATE]).arg(&schema).arg(&document))
        };
        ensure(found(&good)?.trim() == "[]", || format!("{program}: {}", found(&good).unwrap_or_default()))?;
        let slips: &[(&str, serde_json::Value, &str)] = match program {
            "signet-ca" => &[
                ("listne", json!("typo"), "['']"),
                ("svid.default_ttl", json!("5 parsecs"), "['svid.default_ttl']"),
                ("svid.csr_names", json!("maybe"), "['svid.csr_names']"),
                ("limits.concurrent_requests", json!(0), "['limits.concurrent_requests']"),
                (
                    "clusters",
                    json!([{ "id": "x", "tokens": { "kind": "jwks" } }]),
                    "['clusters.0', 'clusters.0.tokens']",
                ),
                (
                    "clusters",
                    json!([{ "id": "x", "trust_domain": "d", "tokens": { "kind": "jwks", "file": "f", "issuer": [] } }]),
                    "['clusters.0.tokens.issuer']",
                ),
                (
                    "clusters",
                    json!([{ "id": "x", "trust_domain": "d", "tokens": { "kind": "jwks", "file": "f", "issuer": ["a"] } }]),
                    "[]",
                ),
                ("authority.backend", json!("files"), "['authority']"),
            ],
            _ => &[
                ("ca.adress", json!("https://x:1"), "['ca']"),
                ("ca", json!({}), "['ca']"),
                ("trust_domain", json!(7), "['trust_domain']"),
            ],
        };
        for (path, value, expected) in slips {
            let mut wrong = good.clone();
            yaml::set(&mut wrong, path, value.clone())?;
            let told = found(&wrong)?;
            ensure(told.trim() == *expected, || format!("{program} with {path}: {told}instead of {expected}"))?;
        }
    }
    Ok(())
}

#[test]
fn a_missing_or_unreadable_configuration_is_named() -> Outcome {
    let dev = Dev::plain()?;
    std::fs::rename(dev.path("signet-ca.yaml"), dev.path("elsewhere.yaml")).unwrap();
    refuses(dev.ca_command(&["serve"])?, 2, &["signet-ca.yaml"])?;
    std::fs::create_dir(dev.path("signet-ca.yaml")).unwrap();
    refuses(dev.ca_command(&["check"])?, 2, &["signet-ca.yaml"])?;
    std::fs::write(dev.path("agent-client.yaml"), "trust_domain: [unclosed").unwrap();
    refuses(dev.agent_command("client", &["check"])?, 2, &["agent-client.yaml"])
}

#[test]
fn wrong_usage_is_explained() -> Outcome {
    let dev = Dev::plain()?;
    for args in [&["serve", "--confg", "x"][..], &["frobnicate"], &["audit"], &[]] {
        let mut command = Command::new(tools::own("signet-ca")?);
        command.args(args).current_dir(dev.directory());
        refuses(command, 2, &["Usage"])?;
    }
    Ok(())
}

#[test]
fn an_encryption_key_that_others_may_read_is_refused() -> Outcome {
    let dev = Dev::plain()?;
    let key = dev.path("key-encryption.key");
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    refuses(dev.ca_command(&["check"])?, 2, &["key-encryption.key", "chmod 600"])?;
    let output = tools::output(&mut dev.ca_command(&["serve"])?)?;
    ensure(!output.status.success() && told(&output).contains("chmod 600"), || told(&output))
}

#[tokio::test]
async fn without_its_encryption_key_the_ca_does_not_start_and_does_not_make_a_new_one() -> Outcome {
    let dev = Dev::plain()?;
    let key = dev.path("key-encryption.key");
    let real = std::fs::read(&key).unwrap();
    std::fs::remove_file(&key).unwrap();
    let output = tools::output(&mut dev.ca_command(&["serve"])?)?;
    ensure(!output.status.success() && told(&output).contains("key-encryption.key"), || told(&output))?;
    ensure(!key.exists(), || "a new key was made in its place".to_owned())?;
    // Another key of the right form opens nothing.
    let mut other = real.clone();
    other[0] = if other[0] == b'A' { b'B' } else { b'A' };
    std::fs::write(&key, other).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let mut ca = Ca::start(&dev)?;
    let said = async || {
        let (status, body) = probe::fetch(dev.ops, "/readyz").await.ok()?;
        (status == 503 && body.contains("needs the key-encryption key")).then_some(())
    };
    ca.process.until("the wrong key in the readiness", Duration::from_secs(60), said).await?;
    drop(ca);
    // Nothing was changed: the right key still opens everything, and the root is the same.
    std::fs::write(&key, real).unwrap();
    let _ca = dev.start_ca().await?;
    let roots = tools::run(&mut dev.ca_command(&["bundle", "show", "--output", "pem"])?)?;
    assert_eq!(roots, dev.text("root-cert.pem")?);
    Ok(())
}

#[test]
fn the_state_of_dev_init_is_private_and_is_not_overwritten() -> Outcome {
    let dev = Dev::on_file()?;
    let mode = |name: &str| std::fs::metadata(dev.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(""), 0o700);
    for name in ["key-encryption.key", "cluster-signing-key.pem", "tokens/client.jwt"] {
        assert_eq!(mode(name) & 0o077, 0, "{name} is open to others");
    }
    let before = dev.text("root-cert.pem")?;
    let mut again = Command::new(tools::own("signet-ca")?);
    let output = tools::output(again.args(["dev", "init", "--dir"]).arg(dev.directory()))?;
    ensure(!output.status.success(), || "dev init ran over an existing installation".to_owned())?;
    assert_eq!(dev.text("root-cert.pem")?, before);
    Ok(())
}
