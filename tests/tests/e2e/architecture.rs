//! The house: three floors, arrows down only; where kinds of code may be; one crypto provider.

mod rooms;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use signet_tests::failure::{Outcome, ensure};
use signet_tests::tools::source_root;

const PROGRAMS: [&str; 2] = ["signet-ca", "signet-agent"];
const ADAPTERS: [&str; 2] = ["signet-plugins", "signet-sds"];
const GROUND: [&str; 3] = ["signet-core", "signet-proto", "signet-runtime"];
/// Crates of tests. Servers of others know nothing of ours, so that any of ours can be tested against them.
const TESTS: [&str; 3] = ["signet-tests", "signet-fuzz", "signet-test-servers"];
const LONGEST_FILE: usize = 400;

fn arrows() -> BTreeMap<String, BTreeSet<String>> {
    let metadata = cargo_metadata::MetadataCommand::new()
        .manifest_path(source_root().join("Cargo.toml"))
        .no_deps()
        .other_options(["--offline".to_owned()])
        .exec()
        .expect("cargo metadata");
    let packages = metadata.packages.into_iter().map(|package| {
        let ours = package
            .dependencies
            .into_iter()
            .filter(|dependency| dependency.kind != cargo_metadata::DependencyKind::Development);
        let ours = ours.map(|dependency| dependency.name).filter(|name| name.starts_with("signet-")).collect();
        (package.name.to_string(), ours)
    });
    packages.collect()
}

#[test]
fn arrows_point_down_only() -> Outcome {
    let arrows = arrows();
    let allowed = |package: &str| -> Vec<&str> {
        match package {
            package if PROGRAMS.contains(&package) => [&ADAPTERS[..], &GROUND].concat(),
            package if ADAPTERS.contains(&package) => vec!["signet-core"],
            _ => vec![],
        }
    };
    for package in PROGRAMS.iter().chain(&ADAPTERS).chain(&GROUND).chain(&["signet-test-servers"]) {
        let to = arrows.get(*package).unwrap_or_else(|| panic!("there is no package {package}"));
        let wrong: Vec<_> = to.iter().filter(|name| !allowed(package).contains(&name.as_str())).collect();
        ensure(wrong.is_empty(), || format!("{package} must not depend on {wrong:?}"))?;
    }
    let known: BTreeSet<&str> = PROGRAMS.iter().chain(&ADAPTERS).chain(&GROUND).chain(&TESTS).copied().collect();
    let strangers: Vec<_> = arrows.keys().filter(|name| !known.contains(name.as_str())).collect();
    ensure(strangers.is_empty(), || format!("these packages are on no floor: {strangers:?}"))
}

#[test]
fn tests_drive_the_programs_and_do_not_link_them() -> Outcome {
    let tests = &arrows()["signet-tests"];
    let linked: Vec<_> = PROGRAMS.iter().filter(|program| tests.contains(**program)).collect();
    ensure(linked.is_empty(), || format!("signet-tests links {linked:?}"))
}

/// Every Rust file of our packages, relative to the root.
fn sources() -> Vec<(PathBuf, String)> {
    fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(directory).expect("list sources").flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let root = source_root();
    let mut found = Vec::new();
    for package in ["ca", "core", "plugins", "proto", "runtime", "sds", "tests"] {
        walk(&root.join(package), &mut found);
    }
    assert!(found.len() > 50, "the sources were not found");
    found
        .into_iter()
        .map(|path| {
            let text = std::fs::read_to_string(&path).expect("read a source");
            (path.strip_prefix(&root).expect("inside the root").to_path_buf(), text)
        })
        .collect()
}

#[test]
fn only_the_composition_files_name_concrete_plugins() -> Outcome {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let program = path.starts_with("ca/src") || path.starts_with("sds/agent/src");
        // Tests of a program may build a small world of their own.
        let composes = path.ends_with("app.rs")
            || path.components().any(|part| part.as_os_str() == "app")
            || path.to_string_lossy().ends_with("_tests.rs");
        if program && !composes && text.contains("signet_plugins") {
            wrong.push(path);
        }
    }
    ensure(wrong.is_empty(), || format!("these name plugins outside app.rs: {wrong:?}"))
}

#[test]
fn sql_lives_in_the_store_only() -> Outcome {
    let verbs = ["SELECT ", "INSERT INTO", "DELETE FROM", "CREATE TABLE", "PRAGMA ", "sqlx::"];
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        // What a test server is told is not about our storage.
        let allowed = ["plugins/src/store", "tests/servers"].iter().any(|room| path.starts_with(room));
        if allowed || path.ends_with("architecture.rs") {
            continue;
        }
        wrong.extend(verbs.iter().filter(|verb| text.contains(**verb)).map(|verb| (path.clone(), *verb)));
    }
    ensure(wrong.is_empty(), || format!("SQL outside plugins/src/store: {wrong:?}"))
}

#[test]
fn files_are_short_and_say_what_they_are_for() -> Outcome {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let lines = text.lines().count();
        if lines > LONGEST_FILE {
            wrong.push(format!("{} has {lines} lines", path.display()));
        }
        if !text.trim_start().starts_with("//!") {
            wrong.push(format!("{} does not begin with what it is for", path.display()));
        }
        let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
        if ["util", "utils", "common", "helpers", "misc"].contains(&name) {
            wrong.push(format!("{} is named after nothing", path.display()));
        }
    }
    ensure(wrong.is_empty(), || wrong.join("\n"))
}

#[test]
fn there_is_one_crypto_provider() -> Outcome {
    let lock = std::fs::read_to_string(source_root().join("Cargo.lock")).expect("read Cargo.lock");
    for banned in ["aws-lc-rs", "aws-lc-sys", "openssl", "openssl-sys", "native-tls", "boring", "mbedtls"] {
        ensure(!lock.contains(&format!("name = \"{banned}\"\n")), || format!("{banned} is in Cargo.lock"))?;
    }
    Ok(())
}
