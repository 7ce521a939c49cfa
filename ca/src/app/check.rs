//! What a well-formed configuration names, looked at as closely as can be without changing anything; for `check`.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use signet_core::authority::{AuthorityId, KeyId};
use signet_core::clock::{Clock, SystemClock};
use signet_core::rotation::Authorities;
use signet_core::seams::custody::KeyCustody;
use signet_core::seams::store::{SealedKeys, StoreError};
use signet_core::seams::upstream_authority::UpstreamAuthority;
use signet_plugins::authority::FilesAuthority;
use signet_plugins::custody::{MemoryCustody, SealedCustody};
use signet_plugins::store::Store;
use signet_runtime::files::{Directories, no_place};
use signet_runtime::output::error_chain;

use super::cluster_set::Opened;
use super::connect::{Connected, connect};
use super::former::Former;
use super::sealing_keys::{keyring, missing_keys};
use super::{cert_manager, storage, vault};
use crate::config::{Authority, Backend, Config};
use crate::describe;

/// The longest path of a Unix socket on Linux, in bytes; one more ends it (unix(7)).
const SOCKET_PATH: usize = 107;

/// What a check says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checked {
    /// What is wrong.
    pub problems: Vec<String>,
    /// What others do not answer, or do not let this CA do, when they were asked.
    pub unmet: Vec<String>,
    /// What nobody has looked at, so that it may be wrong.
    pub unseen: Vec<String>,
    /// What was done to find out.
    pub notes: Vec<String>,
}

/// Who is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asks {
    /// Nobody.
    Nobody,
    /// API servers and issuers. A signature is tried where it can be put on record.
    OnRecord,
    /// The same; a signature is tried even where no record is kept.
    OffRecord,
}

/// Looks at everything, and asks others.
#[must_use]
pub async fn check(config: &Config, asks: Asks) -> Checked {
    let connected = match asks {
        Asks::Nobody => Connected::default(),
        Asks::OnRecord | Asks::OffRecord => connect(config, asks == Asks::OffRecord).await,
    };
    let Connected { problems: unmet, unseen: not_shown, notes } = connected;
    let asks = asks != Asks::Nobody;
    let mut problems = missing_keys(config).await;
    let keys_are_there = problems.is_empty();
    let mut root_of_files = None;
    if let Backend::Files(directory) = &config.authority.backend {
        let custody = Arc::new(MemoryCustody::new());
        let files = FilesAuthority::new(directory.clone(), custody, Arc::new(SystemClock));
        match files.offer().await {
            Ok(offer) => root_of_files = offer.map(|offer| offer.signer),
            Err(error) => problems.push(format!("authority.files: {error}")),
        }
        problems.extend(files.crl_problem().map(|problem| format!("authority.files: {problem}")));
    }
    if let Backend::Vault(vault) = &config.authority.backend {
        problems.extend(vault::Opened::new(vault, &config.trust_domain, Arc::new(SystemClock)).files().await);
    }
    if let Backend::CertManager(section) = &config.authority.backend {
        problems.extend(cert_manager::Opened::new(section, &config.trust_domain).files().await);
    }
    let former = config.authority.former.as_ref();
    if let Some(former) = former.and_then(|one| Former::open(one, &config.trust_domain, Arc::new(SystemClock))) {
        problems.extend(former.files().await);
    }
    for (index, cluster) in config.clusters.iter().enumerate() {
        if let Err(error) = Opened::open(cluster, None).await {
            problems.push(error.of_cluster(index));
        }
    }
    problems.extend(places(config));
    let others = config.clusters.iter().any(|cluster| cluster.api_server.is_some() || cluster.tokens.ask_the_issuer());
    let mut unseen = vec![
        "whether the ports of listen and ops are free, and whether clients reach them".to_owned(),
        "whether clients find this CA by serving.dns_names and serving.ip_addresses".to_owned(),
        "whether the keys in clusters[].tokens.file are those that the clusters sign with now".to_owned(),
    ];
    unseen.extend(not_shown);
    if others && !asks {
        let what =
            "whether the API servers and issuers of clusters[] answer, and what they let this CA do: --connect asks";
        unseen.push(what.to_owned());
    }
    let asks_backend = |is_it: fn(&Backend) -> bool| {
        !asks && [Some(&config.authority.backend), former].into_iter().flatten().any(is_it)
    };
    if asks_backend(|one| matches!(one, Backend::Vault(_))) {
        unseen.push("whether Vault answers, and what it lets this CA do: --connect asks".to_owned());
    }
    if asks_backend(|one| matches!(one, Backend::CertManager(_))) {
        let what = "whether cert-manager's API server answers, and what it lets this CA do: --connect asks";
        unseen.push(what.to_owned());
    }
    if config.clusters.iter().any(|cluster| cluster.pod_certificates.is_some()) {
        let what = "whether the admission plugin NodeRestriction is on, and who else than kubelets may create \
            podcertificaterequests: docs/kubernetes.md says how to find out";
        unseen.push(what.to_owned());
    }
    let location = match storage::location(&config.storage) {
        Ok(location) => location,
        Err(error) => {
            problems.push(of_storage(&error));
            return Checked { problems, unmet, unseen, notes };
        }
    };
    if let Err(error) = location.check(storage::DEADLINE).await {
        problems.push(of_storage(&error));
    } else if location.is_missing(storage::DEADLINE).await {
        unseen.push("whether keys.encryption_key_file opens the keys in the storage: there is none yet".to_owned());
    } else if keys_are_there {
        match location.open_read_only(storage::DEADLINE).await {
            Ok(store) => {
                let (wrong, not_seen) = journal(config, store, root_of_files.as_ref()).await;
                problems.extend(wrong);
                unseen.extend(not_seen);
            }
            Err(error) => problems.push(of_storage(&error)),
        }
    }
    Checked { problems, unmet, unseen, notes }
}

/// The problem with `storage`, which the error's own text begins with too.
fn of_storage(error: &StoreError) -> String {
    let text = error.to_string();
    format!("storage: {}", text.strip_prefix("storage ").unwrap_or(&text))
}

/// Where files and sockets are to be made, if they cannot be.
fn places(config: &Config) -> Vec<String> {
    let mut problems = Vec::new();
    let admin = &config.admin;
    if admin.as_os_str().as_bytes().len() > SOCKET_PATH {
        problems.push(format!("admin: {} is longer than {SOCKET_PATH} bytes, which no socket may be", admin.display()));
    }
    let socket = |path: &Path| no_place(path, Directories::AreMade);
    problems.extend(socket(admin).map(|problem| format!("admin: {problem}")));
    let bundle = config.bundle_file.as_deref().and_then(|path| no_place(path, Directories::Exist));
    problems.extend(bundle.map(|problem| format!("bundle_file: {problem}")));
    problems
}

/// What the journal says against this configuration, and what it leaves open: keys of authorities that are in use and cannot be
/// opened, and nobody who signs.
async fn journal(
    config: &Config,
    store: Arc<dyn Store>,
    root_of_files: Option<&AuthorityId>,
) -> (Vec<String>, Option<String>) {
    let authorities = match store.load().await {
        Ok(Some((_, authorities))) => authorities,
        Ok(None) => return (Vec::new(), None),
        Err(error) => return (vec![of_storage(&error)], None),
    };
    let mut problems = closed_keys(config, store, &authorities).await;
    let Authority { backend, former, .. } = &config.authority;
    let asks_nobody = former.is_none() && backend.signs_leaves().is_none();
    let now = SystemClock.now();
    let signs = authorities.active_issuer(now).filter(|one| asks_nobody && one.key.is_none() && now < one.not_after);
    let (Some(signs), Some(root)) = (signs, authorities.active()) else { return (problems, None) };
    match backend {
        Backend::Files(_) if root_of_files == Some(&root.id) => (problems, None),
        Backend::Native | Backend::Files(_) => {
            problems.push(format!("authority.backend: {}", describe::lacks_signer(&signs.id, false)));
            (problems, None)
        }
        Backend::Vault(_) | Backend::CertManager(_) => {
            let what = format!(
                "whether what authority.backend names is under root {}, which signs with issuing CA {} of a backend that signs \
                 leaves itself: if it is not, authority.former is to say how that one is asked",
                root.id, signs.id
            );
            (problems, Some(what))
        }
    }
}

/// The keys of authorities that are in use and cannot be opened.
async fn closed_keys(config: &Config, store: Arc<dyn Store>, authorities: &Authorities) -> Vec<String> {
    let keyring = match keyring(&config.encryption_key_file).await {
        Ok(keyring) => keyring,
        Err(error) => return vec![error_chain(&error)],
    };
    let custody = SealedCustody::new(store as Arc<dyn SealedKeys>, Arc::new(keyring));
    let now = SystemClock.now();
    let mut names: Vec<(String, &KeyId)> = Vec::new();
    for root in &authorities.roots {
        names.extend(root.key.iter().map(|key| (format!("root {}", root.id), key)));
        let issuing = root.issuing.iter().filter(|issuing| now < issuing.not_after);
        names.extend(issuing.filter_map(|one| Some((format!("issuing CA {}", one.id), one.key.as_ref()?))));
    }
    let mut problems = Vec::new();
    for (whose, key) in names {
        if let Err(error) = custody.open(key).await {
            problems.push(format!("storage: the key of {whose} cannot be opened: {}", error_chain(&error)));
        }
    }
    problems
}
