//! What an image holds: the program, what it needs to run, and nothing that could be run beside it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use signet_tests::failure::{Failure, Outcome, ensure};
use signet_tests::tools;

/// Files below a directory that may be run.
fn programs(directory: &Path, found: &mut Vec<String>) -> Outcome {
    let failed = || Failure::io(format!("look into {}", directory.display()));
    for entry in std::fs::read_dir(directory).map_err(failed())? {
        let path = entry.map_err(failed())?.path();
        let about = path.symlink_metadata().map_err(failed())?;
        if about.is_dir() {
            programs(&path, found)?;
        } else if about.permissions().mode() & 0o111 != 0 && !path.to_string_lossy().contains(".so") {
            found.push(path.display().to_string());
        }
    }
    Ok(())
}

#[test]
fn the_root_of_an_image_is_enough_for_the_program_and_holds_no_other() -> Outcome {
    for program in ["signet-ca", "signet-agent"] {
        let directory = tempfile::tempdir().map_err(Failure::io("make a directory"))?;
        let root = directory.path().join("root");
        let mut make = Command::new(tools::source_root().join("deploy/docker/rootfs"));
        tools::run(make.arg(tools::own(program)?).arg(&root))?;
        let mut found = Vec::new();
        programs(&root, &mut found)?;
        ensure(found == [root.join("usr/bin").join(program).display().to_string()], || format!("{found:?}"))?;
        // With that directory as all there is: root may do that, and anybody else in a user namespace of their own.
        let mut run = Command::new("unshare");
        if !rustix::process::geteuid().is_root() {
            run.args(["--user", "--map-root-user"]);
        }
        run.arg("--root").arg(&root).arg(format!("/usr/bin/{program}")).arg("--version");
        let said = tools::run(&mut run)?;
        ensure(said.starts_with(program), || said.clone())?;
        let file =
            tools::source_root().join(format!("deploy/docker/{}.Dockerfile", program.trim_start_matches("signet-")));
        let text = std::fs::read_to_string(&file).map_err(Failure::io("read a Dockerfile"))?;
        for line in ["FROM scratch", "USER 65532:65532", &format!("ENTRYPOINT [\"/usr/bin/{program}\"]")] {
            ensure(text.lines().any(|one| one == line), || format!("{}: no {line}", file.display()))?;
        }
    }
    Ok(())
}
