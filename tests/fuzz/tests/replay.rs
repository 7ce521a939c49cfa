//! Every kept input keeps every promise: the corpus, and whatever once broke something.
#![allow(clippy::unwrap_used, reason = "tests")]

use signet_fuzz::corpus;
use signet_fuzz::hunt::outcome;
use signet_fuzz::targets::ALL;

#[test]
fn no_kept_input_breaks_a_promise() {
    let mut broken = Vec::new();
    for target in ALL {
        let inputs = corpus::kept(&target).unwrap();
        assert!(inputs.len() >= 2, "{} has almost no corpus", target.name);
        for (path, input) in inputs {
            if let Err(what) = outcome(&target, &input) {
                broken.push(format!("{}: {what}", path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// A target whose seeds are all refused at the first check would hunt in the dark.
#[test]
fn each_target_accepts_some_seed() {
    for (name, words) in [
        ("token", "accepted"),
        ("jwks", "taken; the token is Ok"),
        ("csr", "accepted Ec Some(true)"),
        ("files", "1 roots"),
        ("lists", "2 lists"),
        ("reply", "accepted"),
        ("request", "cluster true token true"),
        ("sds", "goes back"),
        ("config", "accepted"),
        ("record", "certificate issued json false"),
        ("vault", "certified with 1 between"),
        ("cert-manager", "issued: certified"),
    ] {
        let target = signet_fuzz::targets::named(name).unwrap();
        let outcomes: Vec<String> =
            corpus::kept(&target).unwrap().iter().map(|(_, input)| outcome(&target, input).unwrap()).collect();
        assert!(outcomes.iter().any(|outcome| outcome.contains(words)), "{name}: {outcomes:#?}");
    }
}

#[test]
fn folders_belong_to_targets() {
    for folder in ["corpus", "regressions"] {
        for entry in
            std::fs::read_dir(corpus::home().join(folder)).unwrap().flatten().filter(|entry| entry.path().is_dir())
        {
            let name = entry.file_name().into_string().unwrap();
            assert!(signet_fuzz::targets::named(&name).is_some(), "{folder}/{name} belongs to no target");
        }
    }
}
