//! The set is whole at every instant, private where it must be, and tidy.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls_pki_types::CertificateDer;
use signet_core::bundle::TrustBundle;
use signet_core::certificate::CertificateChain;
use signet_core::identity::{SpiffeId, TrustDomain};
use signet_core::secret::Secret;
use time::OffsetDateTime;

use super::*;
use crate::tests::test_ca::Authority;

/// A set whose chain and key both tell the generation.
fn set(generation: u32, root: &Authority) -> Issued {
    let leaf = CertificateDer::from(generation.to_be_bytes().to_vec());
    Issued {
        spiffe_id: SpiffeId::parse("spiffe://td/ns/a/sa/b").unwrap(),
        chain: CertificateChain::new(leaf, vec![]),
        key_pem: Arc::new(Secret::new(generation.to_string().into_bytes())),
        bundle: TrustBundle::new(TrustDomain::parse("td").unwrap(), 0, vec![root.der.clone()]).unwrap(),
        sequence: None,
        serial: String::new(),
        authority: String::new(),
        issuer: String::new(),
        not_before: OffsetDateTime::UNIX_EPOCH,
        not_after: OffsetDateTime::UNIX_EPOCH,
        renew_at: OffsetDateTime::UNIX_EPOCH,
        jitter: 0.0,
    }
}

fn write(directory: &Path, issued: &Issued) -> Result<(), WriteError> {
    write_set(directory, issued, &issued.bundle)
}

fn generation_of(directory: &Path) -> (String, String) {
    let key = fs::read_to_string(directory.join(KEY_FILE)).unwrap();
    (fs::read_to_string(directory.join(CHAIN_FILE)).unwrap(), key)
}

#[test]
fn the_three_files_are_there_with_their_modes_and_old_generations_go() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("a/b");
    let root = Authority::root("r");
    for generation in 1..=4 {
        let issued = set(generation, &root);
        write_set(&out, &issued, &issued.bundle).unwrap();
        assert_eq!(generation_of(&out), (issued.chain.pem(), generation.to_string()));
        assert_eq!(fs::read_to_string(out.join(ROOT_FILE)).unwrap(), issued.bundle.pem());
        let mode = |file| fs::metadata(out.join(file)).unwrap().permissions().mode() & 0o777;
        assert_eq!([CHAIN_FILE, KEY_FILE, ROOT_FILE].map(mode), [0o644, 0o600, 0o644]);
        let count = fs::read_dir(&out).unwrap().count();
        assert_eq!(count, if generation == 1 { 5 } else { 6 }, "three names, ..data, this generation and the last");
    }
}

#[test]
fn a_reader_of_one_generation_never_sees_two() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().to_owned();
    let root = Authority::root("r");
    write(&out, &set(0, &root)).unwrap();
    let done = AtomicBool::new(false);
    let reads = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut reads = 0;
            while !done.load(Ordering::SeqCst) {
                // As a careful reader does: resolve the directory once, then read within it.
                let Ok(data) = fs::canonicalize(out.join("..data")) else { continue };
                let read = |file| fs::read_to_string(data.join(file));
                // A very slow reader may find its generation gone, but never another one in its place.
                let (Ok(chain), Ok(key)) = (read(CHAIN_FILE), read(KEY_FILE)) else { continue };
                let generation: u32 = key.parse().unwrap();
                assert_eq!(chain, signet_core::pem::pem(&generation.to_be_bytes()));
                reads += 1;
            }
            reads
        });
        for generation in 1..60 {
            write(&out, &set(generation, &root)).unwrap();
        }
        done.store(true, Ordering::SeqCst);
        reader.join().unwrap()
    });
    assert!(reads > 0);
}

#[test]
fn plain_files_and_the_remains_of_a_crash_are_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path();
    fs::write(out.join(KEY_FILE), "old").unwrap();
    fs::create_dir(out.join("..generation-7")).unwrap();
    fs::write(out.join("..generation-7/key.pem"), "half").unwrap();
    symlink("..generation-7", out.join(CURRENT_NEW)).unwrap();
    let issued = set(8, &Authority::root("r"));
    write_set(out, &issued, &issued.bundle).unwrap();
    assert_eq!(generation_of(out), (issued.chain.pem(), "8".to_owned()));
    assert_eq!(fs::read_link(out.join(CURRENT)).unwrap(), Path::new("..generation-8"));
    assert!(!out.join("..generation-7").exists());
}

#[test]
fn a_failed_write_leaves_the_old_set_in_place() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path();
    let root = Authority::root("r");
    write(out, &set(1, &root)).unwrap();
    // Somebody put a directory where a link is made.
    fs::create_dir(out.join(CURRENT_NEW)).unwrap();
    assert!(write(out, &set(2, &root)).is_err());
    assert_eq!(generation_of(out).1, "1");
    let file = out.join("file");
    fs::write(&file, "").unwrap();
    assert!(write(&file, &set(2, &root)).unwrap_err().to_string().starts_with("cannot make the directory"));
}
