//! `make install`: programs, what shells complete, and a manual page for each command, where the system looks for them.

use std::path::Path;
use std::process::Command;

use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::tools;

/// All files below a directory, as paths from there.
fn files(directory: &Path) -> Outcome<Vec<String>> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(&next).map_err(Failure::io("list what was installed"))?.flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.push(path.strip_prefix(directory).unwrap_or(&path).to_string_lossy().into_owned());
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The commands below `args` that help shows, each with those below it.
fn commands(program: &str, args: &[String]) -> Outcome<Vec<Vec<String>>> {
    let help = tools::run(Command::new(tools::own(program)?).args(args).arg("--help").env("COLUMNS", "200"))?;
    let listed = help.split("Commands:\n").nth(1).unwrap_or_default().lines().take_while(|line| !line.is_empty());
    let names = listed.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let mut all = vec![args.to_vec()];
    for name in names.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help") {
        all.extend(commands(program, &[args, &[name.to_owned()]].concat())?);
    }
    Ok(all)
}

#[test]
fn programs_completions_and_a_manual_page_for_each_command_are_put_in_place() -> Outcome {
    let directory = tempfile::tempdir().map_err(Failure::io("make a directory"))?;
    let destination = directory.path().join("root");
    let own = tools::own("signet-ca")?;
    let programs = own.parent().ok_or_else(|| Failure::unexpected("a program without a directory"))?;
    let make = |programs: &Path| {
        let mut make = Command::new("make");
        make.current_dir(tools::source_root()).arg("install");
        make.arg(format!("DESTDIR={}", destination.display())).arg(format!("PROGRAMS={}", programs.display()));
        make.arg("PREFIX=/opt/signet");
        make
    };
    let missing = tools::output(&mut make(directory.path()))?;
    let said = String::from_utf8_lossy(&missing.stderr).into_owned();
    ensure(!missing.status.success() && said.contains("make dist") && !destination.exists(), || said.clone())?;
    tools::run(&mut make(programs))?;
    let found = files(&destination)?;
    let mut expected = Vec::new();
    for program in ["signet-ca", "signet-agent"] {
        let share = "opt/signet/share";
        expected.push(format!("opt/signet/bin/{program}"));
        expected.push(format!("{share}/bash-completion/completions/{program}"));
        expected.push(format!("{share}/zsh/site-functions/_{program}"));
        expected.push(format!("{share}/fish/vendor_completions.d/{program}.fish"));
        let all = commands(program, &[])?;
        ensure(all.len() > 4, || format!("{program} has few commands: {all:?}"))?;
        for command in all {
            let page = [&[program.to_owned()], command.as_slice()].concat().join("-");
            expected.push(format!("{share}/man/man1/{page}.1"));
        }
    }
    expected.sort();
    assert_eq!(found.iter().filter(|file| !file.ends_with(".service")).cloned().collect::<Vec<_>>(), expected);
    let read = |file: &str| std::fs::read_to_string(destination.join("opt/signet/share").join(file));
    let page = read("man/man1/signet-ca-authority-rotate.1").map_err(Failure::io("read a page"))?;
    ensure(page.contains("issuing") && page.contains(".TH signet-ca-authority-rotate 1"), || page.clone())?;
    let bash = read("bash-completion/completions/signet-ca").map_err(Failure::io("read a completion"))?;
    ensure(bash.contains("authority") && bash.contains("jsonl"), || "bash completes no formats".to_owned())?;
    let shell = Command::new("bash")
        .arg("-n")
        .arg(destination.join("opt/signet/share/bash-completion/completions/signet-ca"))
        .status();
    ensure(shell.is_ok_and(|status| status.success()), || "bash does not read its completion".to_owned())
}
