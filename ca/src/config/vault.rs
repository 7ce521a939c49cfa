//! The Vault or OpenBao that certifies issuing CAs, as plain data, and how it is read.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::Uri;
use signet_runtime::config::{Section, Variant, kind};

/// A Vault or OpenBao.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vault {
    /// Scheme, host and port.
    pub address: String,
    /// The roots of its server's certificate.
    pub ca_file: Option<PathBuf>,
    /// The namespace of everything else.
    pub namespace: Option<String>,
    /// Where the PKI secrets engine is mounted.
    pub mount: String,
    /// The issuer that certifies.
    pub issuer: String,
    /// What it certifies.
    pub mode: Mode,
    /// How this CA logs in.
    pub auth: VaultAuth,
    /// How long one call may take.
    pub timeout: Duration,
    /// How often the issuer is looked at.
    pub refresh: Duration,
}

/// What a Vault certifies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// Issuing CAs whose keys are kept here.
    Intermediate,
    /// Leaves, each with a call of its own.
    Leaf {
        /// The role for leaves of workloads.
        role: String,
        /// The role for the CA's own serving certificate; the same when there is none.
        serving_role: Option<String>,
        /// How many may be signed at the same time.
        at_once: u16,
    },
}

/// How this CA logs in. All secrets are in files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VaultAuth {
    /// A token of a Kubernetes service account.
    Kubernetes {
        /// Where the auth method is mounted.
        mount: String,
        /// Its role.
        role: String,
        /// The token.
        token_file: PathBuf,
    },
    /// An AppRole.
    AppRole {
        /// Where the auth method is mounted.
        mount: String,
        /// Which role.
        role_id: String,
        /// Its secret.
        secret_id_file: PathBuf,
    },
    /// A token that somebody else renews or replaces.
    TokenFile(PathBuf),
    /// A TLS client certificate.
    Certificate {
        /// Where the auth method is mounted.
        mount: String,
        /// Its role.
        role: Option<String>,
        /// The certificate.
        certificate_file: PathBuf,
        /// Its key.
        key_file: PathBuf,
    },
}

/// Where Kubernetes mounts the token of a pod's own account, unless another one is projected.
const POD_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

pub(super) fn read_vault(s: &mut Section<'_>) -> Option<Vault> {
    let address = s.required(
        "address",
        kind::parsed("URL of a Vault", address),
        "scheme, host and port, such as https://vault.example:8200; http:// only to this host",
    );
    let ca_file = s.optional(
        "ca_file",
        kind::path(),
        "PEM file with the certificates that the server's must chain to; no others count. Needed with https://, and read again when it changes",
    );
    let namespace = s.optional(
        "namespace",
        path_of("namespace"),
        "namespace of the mount and of the auth method, where there are namespaces",
    );
    let mount = s.defaulted("mount", "pki", path_of("mount"), "where the PKI secrets engine is mounted");
    let issuer = s.defaulted(
        "issuer",
        "default",
        kind::parsed("issuer", word),
        "which issuer of the mount certifies: a name, an id, or `default`. When another one is meant from then on, its root is published first, and it signs once that is covered",
    );
    let mode = s.one_of(
        "mode",
        Some("intermediate"),
        &[
            Variant::new(
                "intermediate",
                "issuing CAs whose keys are kept here, which sign leaves at full speed",
                |_| Some(Mode::Intermediate),
            ),
            Variant::new("leaf", "every leaf, with a call of its own", read_leaf),
        ],
        "what Vault signs",
    );
    let auth = s.section("auth", "how this CA proves to Vault who it is; its files are read at each login", read_auth);
    let second = Duration::from_secs(1);
    let timeout =
        s.defaulted("timeout", "10s", kind::duration_within(second..=60 * second), "how long one call may take");
    let refresh = s.defaulted(
        "refresh",
        "10s",
        kind::duration_within(second..=3600 * second),
        "how often the issuer is looked at, so how soon a change of it is noticed",
    );
    let is_tls = address.as_ref().map(|address| address.starts_with("https:"));
    match (is_tls, &ca_file) {
        (Some(true), Some(None)) => {
            s.problem(
                "ca_file",
                "is missing: with https:// it says whose certificate is believed, and nothing else does",
            );
        }
        (Some(false), Some(Some(_))) => s.problem("ca_file", "is of no use with http://; remove one of them"),
        _ => {}
    }
    if let (Some(false), Some(VaultAuth::Certificate { .. })) = (is_tls, &auth) {
        s.problem("auth.method", "is a TLS client certificate, which takes https://");
    }
    Some(Vault {
        address: address?,
        ca_file: ca_file?,
        namespace: namespace?,
        mount: mount?,
        issuer: issuer?,
        mode: mode?,
        auth: auth?,
        timeout: timeout?,
        refresh: refresh?,
    })
}

fn read_leaf(s: &mut Section<'_>) -> Option<Mode> {
    let meaning = "role of the mount that signs the leaves of workloads, see deploy/vault/setup-leaf.sh";
    let role = s.required("role", kind::parsed("role", word), meaning);
    let meaning = "role that signs the CA's own serving certificate, which has the names in `serving`; without, `role`";
    let serving_role = s.optional("serving_role", kind::parsed("role", word), meaning);
    let meaning = "how many leaves may be signed at the same time; further requests wait";
    let at_once = s.defaulted("at_once", 16, kind::integer(1..=256), meaning);
    Some(Mode::Leaf { role: role?, serving_role: serving_role?, at_once: at_once? })
}

fn read_auth(s: &mut Section<'_>) -> Option<VaultAuth> {
    let mounted = |s: &mut Section<'_>, default: &str| {
        let meaning = "where the auth method is mounted, below auth/; without, at `kubernetes`, `approle` or `cert`";
        let mount = s.optional("mount", path_of("mount"), meaning);
        mount.map(|mount| mount.unwrap_or_else(|| default.to_owned()))
    };
    let variants = [
        Variant::new("kubernetes", "a token of a Kubernetes service account", move |s: &mut Section<'_>| {
            let mount = mounted(s, "kubernetes");
            let role = s.required("role", kind::parsed("role", word), "role of the auth method");
            let meaning = "the token; best a projected one with an audience for Vault alone";
            let token_file = s.defaulted("token_file", POD_TOKEN, kind::path(), meaning);
            Some(VaultAuth::Kubernetes { mount: mount?, role: role?, token_file: token_file? })
        }),
        Variant::new("app-role", "an AppRole", move |s: &mut Section<'_>| {
            let mount = mounted(s, "approle");
            let role_id = s.required("role_id", kind::parsed("role id", word), "the role_id, which is no secret");
            let meaning = "file with the secret_id, for the CA to read alone";
            let secret_id_file = s.required("secret_id_file", kind::path(), meaning);
            Some(VaultAuth::AppRole { mount: mount?, role_id: role_id?, secret_id_file: secret_id_file? })
        }),
        Variant::new(
            "token-file",
            "a Vault token that somebody else puts there, such as an agent",
            |s: &mut Section<'_>| {
                let meaning = "file with the token, for the CA to read alone";
                s.required("token_file", kind::path(), meaning).map(VaultAuth::TokenFile)
            },
        ),
        Variant::new("certificate", "a TLS client certificate", move |s: &mut Section<'_>| {
            let mount = mounted(s, "cert");
            let role =
                s.optional("role", kind::parsed("role", word), "role of the auth method; without, any that fits");
            let certificate_file =
                s.required("certificate_file", kind::path(), "PEM file with the certificate, and its chain");
            let meaning = "PEM file with the key of that certificate, for the CA to read alone";
            let key_file = s.required("key_file", kind::path(), meaning);
            Some(VaultAuth::Certificate {
                mount: mount?,
                role: role?,
                certificate_file: certificate_file?,
                key_file: key_file?,
            })
        }),
    ];
    s.one_of("method", None, &variants, "how")
}

/// A URL of scheme, host and port, without anything else.
fn address(text: &str) -> Result<String, String> {
    let uri: Uri = text.parse().map_err(|_| "it is no URL".to_owned())?;
    let (Some(scheme), Some(host)) = (uri.scheme_str(), uri.host().filter(|host| !host.is_empty())) else {
        return Err("write https:// and a host".to_owned());
    };
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err("a user or a password do not belong there".to_owned());
    }
    if uri.path_and_query().is_some_and(|path| path.as_str() != "/") || text.contains('#') {
        return Err("write scheme, host and port only".to_owned());
    }
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let is_here = bare.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    match scheme {
        "https" => {}
        "http" if is_here => {}
        "http" => return Err("http:// would send tokens in clear; use https://, or an address of this host".to_owned()),
        _ => return Err("write https://".to_owned()),
    }
    Ok(text.trim_end_matches('/').to_owned())
}

/// One segment of a path in Vault.
fn word(text: &str) -> Result<String, &'static str> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let is_word = (1..=128).contains(&text.len()) && text.chars().all(allowed) && !text.starts_with('.');
    if is_word { Ok(text.to_owned()) } else { Err("write 1 to 128 letters, digits, '-', '_' and '.'") }
}

/// A path in Vault.
fn path_of(name: &str) -> kind::Kind<String> {
    kind::parsed(name, |text| {
        let text = text.strip_suffix('/').unwrap_or(text);
        let is_path = text.len() <= 512 && text.split('/').all(|segment| word(segment).is_ok());
        if is_path {
            Ok(text.to_owned())
        } else {
            Err("write segments of letters, digits, '-', '_' and '.', with '/' between")
        }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use signet_runtime::config::{ConfigError, parse};

    fn read(text: &str) -> Result<Vault, ConfigError> {
        let text = format!("vault: {text}");
        parse("test.yaml", &text, |s| s.section("vault", "test", read_vault)).map(|loaded| loaded.config)
    }

    #[test]
    fn each_way_to_log_in_is_read_and_the_rest_has_defaults() {
        let vault = read(
            "{ address: 'https://vault.example:8200/', ca_file: /ca.pem, mount: team/pki/, issuer: b, namespace: a/b, \
             auth: { method: kubernetes, role: signet } }",
        )
        .unwrap();
        let expected = Vault {
            address: "https://vault.example:8200".to_owned(),
            ca_file: Some("/ca.pem".into()),
            namespace: Some("a/b".to_owned()),
            mount: "team/pki".to_owned(),
            issuer: "b".to_owned(),
            mode: Mode::Intermediate,
            auth: VaultAuth::Kubernetes {
                mount: "kubernetes".to_owned(),
                role: "signet".to_owned(),
                token_file: POD_TOKEN.into(),
            },
            timeout: Duration::from_secs(10),
            refresh: Duration::from_secs(10),
        };
        assert_eq!(vault, expected);
        let auth =
            |auth: &str| read(&format!("{{ address: 'http://[::1]:8200', auth: {auth} }}")).map(|vault| vault.auth);
        let app_role = "{ method: app-role, mount: team/approle, role_id: 1-2, secret_id_file: /s }";
        let (mount, role_id) = ("team/approle".to_owned(), "1-2".to_owned());
        assert_eq!(auth(app_role).unwrap(), VaultAuth::AppRole { mount, role_id, secret_id_file: "/s".into() });
        assert_eq!(auth("{ method: token-file, token_file: /t }").unwrap(), VaultAuth::TokenFile("/t".into()));
        let certificate = read(
            "{ address: 'https://v', ca_file: /c, auth: { method: certificate, certificate_file: /c, key_file: /k } }",
        );
        assert!(matches!(certificate.unwrap().auth, VaultAuth::Certificate { role: None, .. }));
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        let text = "{ address: 'http://vault.example:8200', ca_file: 3, namespace: /, mount: a//b, issuer: '../x', mode: leaf, \
                    timeout: 0s, refresh: 2h, color: red, auth: { method: app-role, role_id: a b, token_file: /t } }";
        let said = read(text).unwrap_err().to_string();
        for part in [
            "vault.address",
            "in clear",
            "vault.ca_file",
            "vault.namespace",
            "vault.mount",
            "vault.issuer",
            "vault.role",
            "vault.timeout",
            "vault.refresh",
            "vault.color",
            "vault.auth.role_id",
            "vault.auth.secret_id_file",
            "vault.auth.token_file",
        ] {
            assert!(said.contains(part), "{part} is not in {said}");
        }
    }

    #[test]
    fn an_address_is_scheme_host_and_port_and_takes_what_it_needs() {
        let with = |fields: &str| read(&format!("{{ {fields}, auth: {{ method: token-file, token_file: /t }} }}"));
        for (fields, expected) in [
            ("address: 'https://v'", "vault.ca_file"),
            ("address: 'http://localhost:8200', ca_file: /c", "no use with http"),
            ("address: 'https://a:b@v', ca_file: /c", "a password"),
            ("address: 'https://v/vault', ca_file: /c", "scheme, host and port only"),
            ("address: 'https://v?x', ca_file: /c", "scheme, host and port only"),
            ("address: 'ftp://v'", "write https://"),
            ("address: 'vault'", "vault.address"),
            ("address: 'http://10.0.0.1'", "in clear"),
        ] {
            let said = with(fields).unwrap_err().to_string();
            assert!(said.contains(expected), "{fields}: {said}");
        }
        let leaf = with("address: 'http://127.0.0.1:8200', mode: leaf, role: mesh").unwrap().mode;
        assert_eq!(leaf, Mode::Leaf { role: "mesh".to_owned(), serving_role: None, at_once: 16 });
        for (fields, expected) in [("mode: leaf", "vault.role"), ("role: mesh", "vault.role")] {
            let said = with(&format!("address: 'http://127.0.0.1:8200', {fields}")).unwrap_err().to_string();
            assert!(said.contains(expected), "{fields}: {said}");
        }
        assert!(with("address: 'http://127.0.0.1:8200'").is_ok());
        let text = "{ address: 'http://localhost', auth: { method: certificate, certificate_file: /c, key_file: /k } }";
        assert!(read(text).unwrap_err().to_string().contains("takes https://"));
    }
}
