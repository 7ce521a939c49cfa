//! The plugins that the configuration names: storage, keys and authorities.

use std::sync::Arc;

use signet_core::audit::{AuditQuery, UnreadEvent};
use signet_core::authority::IssuingCa;
use signet_core::clock::{SharedClock, SystemClock};
use signet_core::seams::bundle_proofs::SequenceProofs;
use signet_core::seams::certificate_authority::{CertificateAuthority, SignError};
use signet_core::seams::custody::{KeyCustody, SigningKey};
use signet_core::seams::record_tree::RecordKeys;
use signet_core::seams::upstream_authority::UpstreamAuthority;
use signet_plugins::authority::{FilesAuthority, NativeAuthority, SelfSignedRoot, WithFormer, sign_list};
use signet_plugins::custody::{BundleProofs, SealedCustody, SealedRecordKeys};
use signet_plugins::store::Store;
use time::OffsetDateTime;
use tokio::sync::Notify;

use super::error::AppError;
use super::former::Former;
use super::sealing_keys::keyring;
use super::{cert_manager, storage, vault};
use crate::audit_log::AuditLog;
use crate::clusters::Clusters;
use crate::config::{Backend, Config};
use crate::metrics::CaMetrics;
use crate::publishing::{self, StoredTrust};
use crate::rotator::{Executor, Judge, OpenIssuer, Provisioner, Rotator};
use crate::signing_state::{StateReader, StateWriter};

/// The plugins that the configuration names, opened.
pub(super) struct Plugins {
    pub(super) store: Arc<dyn Store>,
    pub(super) custody: Arc<dyn KeyCustody>,
    pub(super) upstream: Arc<dyn UpstreamAuthority>,
    pub(super) proofs: Arc<dyn SequenceProofs>,
    /// What signs the record.
    pub(super) record_keys: Arc<dyn RecordKeys>,
    /// The operator's own CA, when it is the backend.
    pub(super) files: Option<Arc<FilesAuthority>>,
    /// The Vault, when it is.
    pub(super) vault: Option<vault::Opened>,
    /// cert-manager, when it is.
    pub(super) cert_manager: Option<cert_manager::Opened>,
    /// The backend before, when there is one, and both.
    pub(super) former: Option<(Former, Arc<WithFormer>)>,
}

impl Plugins {
    pub(super) async fn open(config: &Config) -> Result<Self, AppError> {
        let keys = Arc::new(keyring(&config.encryption_key_file).await?);
        let store = storage::location(&config.storage)?.open(storage::DEADLINE).await?;
        let proofs = Arc::new(BundleProofs::new(config.trust_domain.as_str(), Arc::clone(&keys)));
        let sealed = SealedCustody::new(Arc::clone(&store) as _, Arc::clone(&keys));
        let record_keys = Arc::new(SealedRecordKeys::new(sealed));
        let custody: Arc<dyn KeyCustody> = Arc::new(SealedCustody::new(Arc::clone(&store) as _, keys));
        let authority = &config.authority;
        let (mut files, mut opened, mut asked) = (None, None, None);
        let upstream: Arc<dyn UpstreamAuthority> = match &authority.backend {
            Backend::Native => {
                let (key_type, ttl) = (authority.key_type, authority.schedule.root_ttl);
                let domain = config.trust_domain.clone();
                Arc::new(SelfSignedRoot::new(domain, Arc::clone(&custody), key_type, ttl))
            }
            Backend::Files(directory) => {
                let own = FilesAuthority::new(directory.clone(), Arc::clone(&custody), Arc::new(SystemClock));
                Arc::clone(files.insert(Arc::new(own))) as _
            }
            Backend::Vault(vault) => {
                let vault = vault::Opened::new(vault, &config.trust_domain, Arc::new(SystemClock));
                opened.insert(vault).upstream()
            }
            Backend::CertManager(section) => {
                asked.insert(cert_manager::Opened::new(section, &config.trust_domain)).upstream()
            }
        };
        let section = authority.former.as_ref();
        let former = section.and_then(|section| Former::open(section, &config.trust_domain, Arc::new(SystemClock)));
        let former = former.map(|former| {
            let both = Arc::new(WithFormer::new(Arc::clone(&upstream), former.upstream()));
            (former, both)
        });
        let upstream = former.as_ref().map_or(upstream, |(_, both)| Arc::clone(both) as _);
        Ok(Self { store, custody, upstream, proofs, record_keys, files, vault: opened, cert_manager: asked, former })
    }

    pub(super) fn executor(&self, config: &Config, audit: AuditLog, clock: SharedClock) -> Arc<Executor> {
        let provisioner = Provisioner {
            key_type: config.authority.key_type,
            schedule: config.authority.schedule,
            custody: Arc::clone(&self.custody),
            upstream: Arc::clone(&self.upstream),
            sign_list: Arc::new(|key, certificate, content| Box::pin(sign_list(key, certificate, content))),
            judge: Judge::new(config.trust_domain.clone(), config.serving.clone(), opener(&self.upstream)),
        };
        let (journal, holders) = (Arc::clone(&self.store) as _, Arc::clone(&self.store) as _);
        Arc::new(Executor::new(config.authority.rules, provisioner, journal, holders, audit, clock))
    }

    /// What publishers of this process share.
    pub(super) fn publishing(
        &self,
        config: &Config,
        host: &str,
        state: &StateReader,
        clock: &SharedClock,
        wake_up: &Arc<Notify>,
    ) -> publishing::Surroundings {
        publishing::Surroundings {
            store: Arc::clone(&self.store) as _,
            trust: Arc::new(StoredTrust::new(Arc::clone(&self.store) as _, config.trust_domain.clone())),
            state: state.clone(),
            clock: Arc::clone(clock),
            wake_up: Arc::clone(wake_up),
            who: publishing::who(host, clock.as_ref()),
        }
    }

    /// When the newest record was made.
    pub(super) async fn newest_record(&self) -> Result<Option<OffsetDateTime>, AppError> {
        let Ok(query) = AuditQuery::newest(1) else { return Ok(None) };
        let newest = self.store.query(&query).await?;
        let unread = newest.unread.first().map(UnreadEvent::at);
        Ok(newest.items.first().map(|stored| stored.event.at()).or(unread))
    }

    pub(super) fn rotator(
        &self,
        config: &Config,
        executor: Arc<Executor>,
        metrics: Arc<CaMetrics>,
        output: StateWriter,
        wake_up: Arc<Notify>,
        clusters: Arc<Clusters>,
    ) -> Rotator {
        let (trust_domain, publications) = (config.trust_domain.clone(), Arc::clone(&self.store) as _);
        let (open_issuer, leaves) = (opener(&self.upstream), Arc::clone(&self.store) as _);
        Rotator { trust_domain, executor, open_issuer, metrics, output, wake_up, clusters, publications, leaves }
    }
}

/// Opens issuing CAs whose keys are here, and those whose keys are the backend's.
fn opener(upstream: &Arc<dyn UpstreamAuthority>) -> Arc<OpenIssuer> {
    let upstream = Arc::clone(upstream);
    Arc::new(move |key, issuing| match key {
        Some(key) => open_native(key, issuing),
        None => Arc::clone(&upstream).signer(issuing),
    })
}

fn open_native(key: Arc<dyn SigningKey>, issuing: &IssuingCa) -> Result<Arc<dyn CertificateAuthority>, SignError> {
    let authority = NativeAuthority::new(key, issuing).map_err(|error| SignError::Failed(error.to_string()))?;
    Ok(Arc::new(authority))
}
