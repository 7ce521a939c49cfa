//! Tests of where the storage may be.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use signet_runtime::config::{ConfigError, Loaded, parse};

use super::storage::*;

fn read(text: &str) -> Result<Loaded<Storage>, Vec<String>> {
    parse("f", text, read_storage).map_err(|error| match error {
        ConfigError::Problems(problems) => problems.to_string().lines().map(str::to_owned).collect(),
        other => panic!("{other}"),
    })
}

#[test]
fn a_storage_is_a_file_or_a_database_and_is_shown_as_its_url() {
    for (text, shown, local) in [
        ("sqlite:///var/lib/signet.db", "sqlite:///var/lib/signet.db", true),
        ("postgres://ca@db.example.com/signet", "postgres://ca@db.example.com:5432/signet", false),
        ("postgresql://ca@db:6000/signet", "postgres://ca@db:6000/signet", false),
        ("postgres://signet-ca@10.0.0.7:5433/a.b_c-d", "postgres://signet-ca@10.0.0.7:5433/a.b_c-d", false),
        ("postgres://ca@[2001:db8::1]/signet", "postgres://ca@[2001:db8::1]:5432/signet", false),
        ("postgres://ca@[::1]:1/signet", "postgres://ca@[::1]:1/signet", true),
        ("postgres://ca@127.0.0.9/signet", "postgres://ca@127.0.0.9:5432/signet", true),
        ("postgres://ca@LocalHost/signet", "postgres://ca@LocalHost:5432/signet", true),
        ("postgres://ca@/signet?host=/run/postgresql", "postgres://ca@:5432/signet?host=/run/postgresql", true),
        ("postgres://ca@:7/signet?host=/run/pg", "postgres://ca@:7/signet?host=/run/pg", true),
    ] {
        let storage = read(&format!("storage: \"{text}\"")).unwrap().config;
        assert_eq!(storage.to_string(), shown, "{text}");
        if let Storage::Postgres(postgres) = &storage {
            assert_eq!((postgres.database.host.is_local(), postgres.is_encrypted()), (local, !local), "{text}");
        }
        // What is shown says the same.
        assert_eq!(read(&format!("storage: \"{shown}\"")).unwrap().config, storage);
    }
    assert_eq!(read("").unwrap().config.to_string(), "sqlite:///var/lib/signet/signet.db");
}

#[test]
fn a_url_that_is_wrong_is_refused_in_words_that_repeat_no_password() {
    for (text, words) in [
        ("mysql://x", "is not a storage URL"),
        ("/var/lib/signet.db", "is not a storage URL"),
        ("7", "is not a storage URL"),
        ("sqlite://signet.db", "absolute path"),
        ("sqlite:///", "absolute path"),
        ("postgres://ca:SECRET@db/signet", "postgres.password_file"),
        ("postgres://ca:SEC/RET@db/signet", "postgres.password_file"),
        ("postgres://ca:SEC@RET@db/signet", "postgres.password_file"),
        ("postgres://ca:@db/signet", "postgres.password_file"),
        ("postgres://ca@db/signet?password=SECRET", "set in the section postgres"),
        ("postgres://ca@db/signet?sslmode=disable", "set in the section postgres"),
        ("postgres://ca@/signet?host=/run&port=7", "set in the section postgres"),
        ("postgres://ca@/signet?host=run", "set in the section postgres"),
        ("postgres://ca@db/signet?host=/run", "remove one of them"),
        ("postgres://db/signet", "names no user"),
        ("postgres://@db/signet", "names no user"),
        ("postgres://ca@db", "names no database"),
        ("postgres://ca@db/", "names no database"),
        ("postgres://ca@/signet", "names no host"),
        ("postgres://ca@:5432/signet", "names no host"),
        ("postgres://ca@db:0/signet", "its port"),
        ("postgres://ca@db:x/signet", "its port"),
        ("postgres://ca@db:70000/signet", "its port"),
        ("postgres://ca@::1/signet", "in brackets"),
        ("postgres://ca@[10.0.0.1]/signet", "in brackets"),
        ("postgres://ca@d b/signet", "neither a DNS name"),
        ("postgres://c%40a@db/signet", "its user"),
        ("postgres://ca@db/signet/more", "its database"),
    ] {
        let found = read(&format!("storage: \"{text}\"")).unwrap_err();
        assert!(matches!(found.as_slice(), [one] if one.contains(words) && one.contains("storage:")), "{found:?}");
        assert!(!found.concat().contains("SEC") && !found.concat().contains("RET"), "{found:?}");
    }
}

#[test]
fn how_a_server_is_reached_has_defaults_and_rules_that_are_all_told_at_once() {
    let url = |host: &str| format!("storage: postgres://ca@{host}/signet\n");
    let postgres = |text: &str| match read(text).unwrap().config {
        Storage::Postgres(postgres) => postgres,
        Storage::Sqlite(_) => panic!("{text}"),
    };
    let silent = postgres(&url("db"));
    assert_eq!((silent.reach, 8, Tls::Verify), (Reach::default(), Reach::default().connections, Reach::default().tls));
    assert_eq!(postgres(&format!("{}postgres: {{}}\n", url("db"))).reach, Reach::default());
    for (host, section, encrypted) in [
        ("db", "{ tls: off }", false),
        ("db", "{ ca_file: /ca }", true),
        ("localhost", "{ password_file: /p }", false),
        ("localhost", "{ ca_file: /ca }", true),
        ("localhost", "{ client_certificate_file: /c, client_key_file: /k }", true),
        ("localhost", "{ tls: off, connections: 2 }", false),
    ] {
        let text = format!("{}postgres: {section}\n", url(host));
        assert_eq!(postgres(&text).is_encrypted(), encrypted, "{text}");
    }
    for (text, paths) in [
        ("storage: sqlite:///x\npostgres: {}\n", vec!["postgres:"]),
        ("storage: sqlite:///x\npostgres: { password_file: /p }\n", vec!["postgres:"]),
        (
            "storage: postgres://a@b/c\npostgres: { client_key_file: /k, connections: 1, tls: maybe, pasword_file: /p }\n",
            vec![
                "postgres.client_certificate_file:",
                "postgres.connections:",
                "postgres.tls:",
                "postgres.pasword_file:",
            ],
        ),
        (
            "storage: postgres://a@b/c\npostgres: { client_certificate_file: /c, ca_file: /ca, tls: off }\n",
            vec!["postgres.client_key_file:", "postgres.ca_file:", "postgres.client_certificate_file:"],
        ),
        ("storage: postgres://a@/c?host=/run\npostgres: { ca_file: /ca }\n", vec!["postgres:"]),
    ] {
        let found = read(text).unwrap_err();
        let told = paths.iter().all(|path| found.iter().any(|line| line.contains(path)));
        assert!(told && found.len() == paths.len(), "{text}: {found:#?}");
    }
}

#[test]
fn what_is_in_effect_names_files_and_no_secret() {
    let text = "storage: postgres://ca@db/signet\npostgres: { password_file: /run/secrets/password }\n";
    let loaded = read(text).unwrap();
    assert_eq!(loaded.effective["storage"], "postgres://ca@db/signet");
    assert_eq!(loaded.effective["postgres"]["password_file"], "/run/secrets/password");
    assert_eq!(loaded.effective["postgres"]["tls"], "verify");
    assert_eq!(read(&loaded.effective.to_string()).unwrap().config, loaded.config);
}
