//! The first authority is made by an act and by nothing else: neither an empty database nor a wrong path makes a root.

mod bundle_file;
mod wrong_storage;

use std::process::{Command, Output};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use signet_tests::client::keys;
use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::harness::beside::{Beside, Echo};
use signet_tests::harness::plugged::OwnCa;
use signet_tests::harness::process::eventually;
use signet_tests::harness::{Ca, Dev, probe};
use signet_tests::tools;

const SOON: Duration = Duration::from_secs(60);

/// What everybody is told who finds no authority.
const WORDS: [&str; 3] = ["signet-ca init", "`storage` is mistyped", "volume is not mounted"];

/// `signet-ca` with these arguments, about this installation.
fn ask(dev: &Dev, args: &[&str]) -> Outcome<Output> {
    tools::output(&mut dev.ca_command(args)?)
}

/// `signet-ca init` with these arguments.
fn init(dev: &Dev, args: &[&str]) -> Outcome<Output> {
    ask(dev, &[&["init"], args].concat())
}

/// It ends with 1 and says all of this.
fn refused(output: &Output, parts: &[&str]) -> Outcome {
    let text = String::from_utf8_lossy(&output.stderr);
    let told = parts.iter().all(|part| text.contains(part));
    ensure(output.status.code() == Some(1) && told, || format!("{:?}: {text}, not {parts:?}", output.status.code()))
}

/// The roots in storage, PEM.
fn roots(dev: &Dev) -> Outcome<String> {
    tools::run(&mut dev.ca_command(&["bundle", "show", "--output", "pem"])?)
}

/// What is on record of `init` with this outcome.
fn recorded(dev: &Dev, outcome: &str) -> Outcome<Vec<Value>> {
    let args = ["audit", "list", "--limit", "1000", "--output", "json", "--outcome", outcome];
    let page = tools::run(&mut dev.ca_command(&args)?)?;
    let page: Value = serde_json::from_str(&page).map_err(Failure::while_doing("read the record"))?;
    let events = page["events"].as_array().cloned().unwrap_or_default();
    Ok(events.into_iter().filter(|event| event["kind"] == "admin" && event["reason"] == "init").collect())
}

/// Who runs these commands, as records name them.
fn who() -> String {
    format!("uid {}: init", rustix::process::getuid().as_raw())
}

/// Has another storage from now on, which is not there yet.
fn mistype(dev: &Dev) -> Outcome {
    std::fs::create_dir_all(dev.path("other")).unwrap();
    dev.set_ca("storage", format!("sqlite://{}", dev.path("other/signet.db").display()))
}

/// As OpenSSL shows the fingerprint of a certificate.
fn fingerprint(pem: &str) -> Outcome<String> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("root");
    std::fs::write(&file, pem).unwrap();
    let mut command = Command::new(tools::openssl()?);
    command.args(["x509", "-noout", "-fingerprint", "-sha256", "-in"]).arg(file);
    Ok(tools::run(&mut command)?.trim().split('=').next_back().unwrap_or_default().to_owned())
}

/// As this program shows it.
fn plain(fingerprint: &str) -> String {
    fingerprint.replace(':', "").to_lowercase()
}

/// Waits until the CA says that it is not ready, and what to do: in its readiness, its log and its status.
async fn waits(dev: &Dev, ca: &mut Ca) -> Outcome {
    let said = async || {
        let (status, body) = probe::fetch(dev.ops, "/readyz").await.ok()?;
        (status == 503 && WORDS.iter().all(|words| body.contains(words))).then_some(())
    };
    ca.process.until("what is missing in the readiness", SOON, said).await?;
    let told = async || {
        let errors = ca.process.log();
        let mut errors = errors.lines().filter(|line| line.contains("ERROR"));
        errors.any(|line| WORDS.iter().all(|words| line.contains(words))).then_some(())
    };
    eventually("an error in the log", SOON, told).await?;
    let status = tools::run(&mut dev.ca_command(&["status"])?)?;
    ensure(status.contains("NO") && WORDS.iter().all(|words| status.contains(words)), || status.clone())?;
    // It lives: nobody should start it anew for this.
    assert_eq!(probe::fetch(dev.ops, "/livez").await?.0, 200);
    Ok(())
}

#[tokio::test]
async fn a_ca_that_waits_goes_on_by_itself_when_somebody_has_made_an_authority() -> Outcome {
    let dev = Dev::plain()?;
    let before = OwnCa::root("before")?;
    std::fs::write(dev.path("root-cert.pem"), &before.certificate).unwrap();
    mistype(&dev)?;
    let check = tools::run(&mut dev.ca_command(&["check"])?)?;
    ensure(check.contains("in order") && WORDS.iter().all(|words| check.contains(words)), || check.clone())?;
    let mut ca = Ca::start(&dev)?;
    waits(&dev, &mut ca).await?;
    assert_eq!(dev.text("root-cert.pem")?, before.certificate);
    let made = tools::run(&mut dev.ca_command(&["init", "--replacing", &fingerprint(&before.certificate)?])?)?;
    ca.ready().await?;
    let root = roots(&dev)?;
    let (print, path) = (plain(&fingerprint(&root)?), dev.path("root-cert.pem").display().to_string());
    ensure(made.contains(&print) && made.contains(&path), || format!("{made}: not {print}, {path}"))?;
    assert_eq!(dev.text("root-cert.pem")?, root);
    let check = tools::run(&mut dev.ca_command(&["check"])?)?;
    ensure(!check.contains("no authority"), || check.clone())?;
    // A second one is refused, whatever it says.
    let id = keys::ids(&root)?.remove(0);
    for args in [&[][..], &["--replacing", &print]] {
        refused(&init(&dev, args)?, &["already", &id])?;
    }
    assert_eq!(roots(&dev)?, root);
    // On record: who has done it, what was given up for it, and who has tried.
    for (outcome, count, words) in [("done", 1, plain(&fingerprint(&before.certificate)?)), ("refused", 2, id)] {
        let acts = recorded(&dev, outcome)?;
        let told = acts.iter().all(|act| {
            let act = act.to_string();
            act.contains(&who()) && act.contains(&words)
        });
        ensure(acts.len() == count && told, || format!("{outcome}: {acts:#?}"))?;
    }
    Ok(())
}

#[tokio::test]
async fn of_many_at_once_one_makes_the_authority() -> Outcome {
    let dev = Dev::plain()?;
    dev.forget_authority()?;
    let start = || Beside::start(dev.ca_command(&["init"])?, Echo::Kept);
    let mut all = (0..6).map(|_| start()).collect::<Outcome<Vec<_>>>()?;
    let mut made = 0;
    for command in &mut all {
        let status = command.wait(SOON).await?;
        made += u32::from(status.success());
        let already = command.complained().join("\n").contains("already");
        ensure(status.success() || (status.code() == Some(1) && already), || format!("{:?}", command.complained()))?;
    }
    assert_eq!((made, keys::ids(&roots(&dev)?)?.len(), recorded(&dev, "done")?.len()), (1, 1, 1));
    Ok(())
}

#[tokio::test]
async fn killed_at_any_write_it_can_be_run_again_and_there_is_one_authority() -> Outcome {
    let dev = Dev::plain()?;
    let mut killed = 0;
    for moment in (1..30).step_by(2) {
        dev.forget_authority()?;
        let writes = dev.watch_writes()?;
        let mut command = Beside::start(dev.ca_command(&["init"])?, Echo::Kept)?;
        killed += u32::from(command.until_written(&writes, moment, SOON).await?);
        command.signal(Signal::KILL);
        command.wait(SOON).await?;
        let again = init(&dev, &[])?;
        if !again.status.success() {
            refused(&again, &["already"])?;
        }
        let found = (keys::ids(&roots(&dev)?)?.len(), recorded(&dev, "done")?.len());
        ensure(found == (1, 1), || format!("after {moment} writes: {found:?}"))?;
    }
    ensure(killed > 0, || "always too late to kill it".to_owned())
}
