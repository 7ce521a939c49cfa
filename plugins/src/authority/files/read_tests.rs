//! Sets of files in every state of completeness, and swaps and rewrites in the middle of reading.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::fs::File;
use std::os::unix::fs::{PermissionsExt, symlink};

use tempfile::TempDir;

use super::*;

fn fill(directory: &Path, names: &[&str], mark: &str) {
    std::fs::create_dir_all(directory).unwrap();
    for name in names {
        std::fs::write(directory.join(name), format!("{mark} {name}")).unwrap();
    }
}

const ISTIO: [&str; 4] = ["ca-cert.pem", "ca-key.pem", "root-cert.pem", "cert-chain.pem"];
const TLS: [&str; 3] = ["tls.crt", "tls.key", "ca.crt"];

#[test]
fn each_form_is_read_when_it_is_complete() {
    let dir = TempDir::new().unwrap();
    fill(dir.path(), &ISTIO, "a");
    let set = read(dir.path()).unwrap();
    assert_eq!((set.form, set.signer.as_slice()), (Form::Istio, &b"a ca-cert.pem"[..]));
    assert_eq!((set.roots.as_slice(), set.chain.as_slice()), (&b"a root-cert.pem"[..], &b"a cert-chain.pem"[..]));
    assert_eq!(set.key.expose(), b"a ca-key.pem");
    assert!(matches!(set.lists, ListsFile::Absent));
    fill(dir.path(), &["ca.crt", "tls.key"], "stray");
    assert_eq!(read(dir.path()).unwrap().digest, set.digest, "files of no set do not count");
    let dir = TempDir::new().unwrap();
    fill(dir.path(), &TLS, "b");
    let set = read(dir.path()).unwrap();
    assert_eq!((set.form, set.signer.as_slice()), (Form::Tls, &b"b tls.crt"[..]));
    assert_eq!((set.roots.as_slice(), set.chain.as_slice()), (&b"b ca.crt"[..], &b""[..]));
    fill(dir.path(), &["ca-cert.pem", "root-cert.pem", "cert-chain.pem"], "stray");
    assert_eq!(read(dir.path()).unwrap().digest, set.digest, "nothing signs without a key");
}

#[test]
fn both_forms_are_refused_by_the_names_of_their_files_unless_they_say_the_same() {
    let refused = |files: [&str; 7]| {
        let dir = TempDir::new().unwrap();
        for (name, content) in TLS.iter().chain(&ISTIO).zip(files) {
            if content != "absent" {
                std::fs::write(dir.path().join(name), content).unwrap();
            }
        }
        let error = read(dir.path()).err()?;
        let text = error.to_string();
        assert!(matches!(error, FilesError::TwoSets { .. }) && !text.contains("secret"), "{text}");
        assert!(TLS.iter().chain(&ISTIO).all(|name| text.contains(name)), "{text}");
        Some(text)
    };
    for (files, expected) in [
        // The signer, the key, the roots; the signer, the key, the roots and the chain.
        (["s", "secret", "r", "s", "secret", "r", ""], false),
        (["s", "secret", "r", "s", "secret", "r", "s"], false),
        (["sc", "secret", "r", "s", "secret", "r", "c"], false),
        (["sc", "secret", "r", "s", "secret", "r", "sc"], false),
        (["s", "secret", "r", "s", "secret", "r", "sc"], true),
        (["x", "secret", "r", "s", "secret", "r", ""], true),
        (["c", "secret", "r", "s", "secret", "r", "c"], true),
        (["s", "secret", "r", "s", "secret 2", "r", ""], true),
        (["s", "secret", "x", "s", "secret", "r", ""], true),
        (["s", "secret", "r", "s", "secret", "absent", ""], true),
        (["s", "secret", "r", "s", "secret", "r", "absent"], true),
        (["s", "secret", "r", "absent", "secret", "r", "s"], false),
    ] {
        assert_eq!(refused(files).is_some(), expected, "{files:?}");
    }
}

#[test]
fn no_files_and_partial_sets_are_refused_by_name() {
    let dir = TempDir::new().unwrap();
    let shown = dir.path().display().to_string();
    assert_eq!(read(dir.path()).err(), Some(FilesError::None(shown.clone())));
    let absent = dir.path().join("absent");
    assert_eq!(read(&absent).err(), Some(FilesError::None(absent.display().to_string())));
    fill(dir.path(), &["other.txt", LISTS], "x");
    assert_eq!(read(dir.path()).err(), Some(FilesError::None(shown.clone())));
    for form in [&ISTIO[..], &TLS] {
        for chosen in 1..(1 << form.len()) - 1 {
            let dir = TempDir::new().unwrap();
            let pick = |there: bool| {
                let names = form.iter().enumerate().filter(|(bit, _)| (chosen >> bit & 1 == 1) == there);
                names.map(|(_, name)| *name).collect::<Vec<&str>>()
            };
            fill(dir.path(), &pick(true), "x");
            let text = read(dir.path()).unwrap_err().to_string();
            let (present, missing) = text.split_once(" but ").unwrap();
            for name in form {
                assert_eq!(present.contains(name), pick(true).contains(name), "{text}");
                assert_eq!(missing.contains(name), pick(false).contains(name), "{text}");
            }
        }
    }
    fill(dir.path(), &ISTIO, "x");
    fill(dir.path(), &["tls.crt"], "x");
    let text = read(dir.path()).unwrap_err().to_string();
    assert!(text.contains("tls.crt is there, but tls.key, ca.crt are missing"), "{text}");
}

#[test]
fn every_change_of_content_changes_the_digest_and_nothing_else_does() {
    let dir = TempDir::new().unwrap();
    fill(dir.path(), &ISTIO, "a");
    let mut seen = vec![read(dir.path()).unwrap().digest];
    fill(dir.path(), &ISTIO, "a");
    assert_eq!(read(dir.path()).unwrap().digest, seen[0]);
    for name in [&ISTIO[..], &[LISTS]].concat() {
        fill(dir.path(), &[name], "b");
        seen.push(read(dir.path()).unwrap().digest);
    }
    std::fs::write(dir.path().join(LISTS), "").unwrap();
    seen.push(read(dir.path()).unwrap().digest);
    // A byte that moves from one file to the next.
    std::fs::write(dir.path().join("root-cert.pem"), "ab").unwrap();
    std::fs::write(dir.path().join("cert-chain.pem"), "c").unwrap();
    seen.push(read(dir.path()).unwrap().digest);
    std::fs::write(dir.path().join("root-cert.pem"), "a").unwrap();
    std::fs::write(dir.path().join("cert-chain.pem"), "bc").unwrap();
    seen.push(read(dir.path()).unwrap().digest);
    let count = seen.len();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), count);
}

/// A mounted Kubernetes volume: links to files below a link that is swapped.
struct Volume {
    dir: TempDir,
}

impl Volume {
    fn new() -> Self {
        let volume = Self { dir: TempDir::new().unwrap() };
        for name in ISTIO {
            symlink(Path::new(SWAPPED).join(name), volume.dir.path().join(name)).unwrap();
        }
        volume
    }

    fn swap_to(&self, mark: &str) {
        let (place, link) = (self.dir.path().join(format!("..{mark}")), self.dir.path().join("..data_tmp"));
        fill(&place, &ISTIO, mark);
        symlink(&place, &link).unwrap();
        std::fs::rename(link, self.dir.path().join(SWAPPED)).unwrap();
    }
}

fn marks(set: &FileSet) -> Vec<u8> {
    [&set.signer, set.key.expose(), &set.roots, &set.chain].map(|content| content[0]).to_vec()
}

#[test]
fn a_volume_swapped_in_the_middle_of_reading_gives_the_new_set_and_no_mix() {
    for at in ISTIO {
        let volume = Volume::new();
        volume.swap_to("a");
        assert_eq!(marks(&read(volume.dir.path()).unwrap()), b"aaaa");
        let mut swapped = false;
        let set = read_observed(volume.dir.path(), &mut |name| {
            if name == at && !std::mem::replace(&mut swapped, true) {
                volume.swap_to("b");
                // The old directory goes away, as Kubernetes does it.
                std::fs::remove_dir_all(volume.dir.path().join("..a")).unwrap();
            }
        });
        assert_eq!(marks(&set.unwrap()), b"bbbb", "swapped after {at}");
    }
}

#[test]
fn files_rewritten_in_the_middle_of_reading_are_read_again() {
    for at in ISTIO {
        let dir = TempDir::new().unwrap();
        fill(dir.path(), &ISTIO, "a");
        let mut rewritten = false;
        let set = read_observed(dir.path(), &mut |name| {
            if name == at && !std::mem::replace(&mut rewritten, true) {
                fill(dir.path(), &ISTIO, "bb");
            }
        });
        assert_eq!(marks(&set.unwrap()), b"bbbb", "rewritten after {at}");
    }
}

#[test]
fn files_that_never_rest_are_given_up() {
    let dir = TempDir::new().unwrap();
    fill(dir.path(), &ISTIO, "a");
    let mut round = String::new();
    let result = read_observed(dir.path(), &mut |name| {
        if name == LISTS {
            round.push('a');
            fill(dir.path(), &ISTIO, &round);
        }
    });
    assert_eq!(result.err(), Some(FilesError::Changing(dir.path().display().to_string())));
    assert_eq!(round.len(), TRIES);
}

#[test]
fn what_is_too_large_or_no_file_is_refused_but_lists_never_stand_in_the_way() {
    let dir = TempDir::new().unwrap();
    fill(dir.path(), &ISTIO, "a");
    std::fs::create_dir(dir.path().join(LISTS)).unwrap();
    assert!(matches!(read(dir.path()).unwrap().lists, ListsFile::Unusable(_)));
    std::fs::remove_dir(dir.path().join(LISTS)).unwrap();
    let huge = File::create(dir.path().join(LISTS)).unwrap();
    huge.set_len(MAX_LISTS_FILE + 1).unwrap();
    assert!(matches!(read(dir.path()).unwrap().lists, ListsFile::Unusable(_)));

    let huge = File::create(dir.path().join("root-cert.pem")).unwrap();
    huge.set_len(MAX_FILE + 1).unwrap();
    assert!(matches!(read(dir.path()), Err(FilesError::TooLarge { .. })));
    huge.set_len(MAX_FILE).unwrap();
    assert!(read(dir.path()).is_ok());
    std::fs::remove_file(dir.path().join("root-cert.pem")).unwrap();
    std::fs::create_dir(dir.path().join("root-cert.pem")).unwrap();
    let text = read(dir.path()).unwrap_err().to_string();
    assert!(text.contains("root-cert.pem: it is not a file"), "{text}");
}

#[test]
fn whether_others_may_read_the_key_is_seen() {
    let dir = TempDir::new().unwrap();
    fill(dir.path(), &ISTIO, "a");
    for (mode, open) in [(0o600, false), (0o400, false), (0o644, true), (0o640, true)] {
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(dir.path().join("ca-key.pem"), permissions).unwrap();
        assert_eq!(read(dir.path()).unwrap().key_open, open, "{mode:o}");
    }
}
