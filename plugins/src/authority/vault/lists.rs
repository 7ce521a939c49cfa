//! The revocation lists that a Vault publishes: of the issuer, of the CAs above it, and of the other issuers of the mount, under
//! which certificates may still be valid.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use signet_core::authority::AuthorityId;
use signet_core::certificate::Facts;
use signet_core::revocation::RevocationList;
use signet_core::time_math;
use time::OffsetDateTime;

use super::super::revocation::read_lists;
use super::calls::{self, Issuer, Issuers, List};
use super::error::VaultError;
use super::issuer::{Source, one};
use super::settings::VaultSettings;
use super::transport::Transport;

const LIST_ISSUERS: &str = "list the issuers of the mount";
const READ_OTHER: &str = "read another issuer of the mount";
const READ_LIST: &str = "give a revocation list";

/// The most issuers that are looked at in a mount, and those beside the chain whose lists are read.
const MAX_ISSUERS: usize = 64;
const MAX_OTHERS: usize = 8;

/// How old a list is before it is used: a host whose clock is behind refuses everything by a list from the future. As much as
/// Vault backdates certificates.
pub(super) const SETTLES: Duration = Duration::from_secs(30);

/// What to set, wherever a list is of no use.
const ADVICE: &str = "the mount's config/crl should say disable=false, auto_rebuild=true and an expiry of hours or days, and \
    every CA from the issuer to the root should be an issuer of the mount, with its key";

/// What was read last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Lists {
    /// The certificates of the mount's issuers, which never change, by their ids.
    issuers: BTreeMap<String, CertificateDer<'static>>,
    /// Whether these are all that there are.
    are_all: bool,
    found: Vec<RevocationList>,
    /// Why there is no list of a CA of the chain.
    pub(super) problem: Option<String>,
    /// When a list that has been read comes into use.
    pub(super) settles_at: Option<OffsetDateTime>,
}

impl Lists {
    /// The issuers of the mount with this name, as they were read last.
    pub(super) fn named<'a>(
        &'a self,
        subject: &'a [u8],
    ) -> impl Iterator<Item = (&'a str, &'a CertificateDer<'static>)> {
        let issuers = self.issuers.iter().map(|(id, der)| (id.as_str(), der));
        issuers.filter(move |(_, der)| Facts::read(der).is_ok_and(|facts| facts.subject_der == subject))
    }

    /// Whether the mount has an issuer with this certificate, as far as was seen.
    pub(super) fn has(&self, certificate: &CertificateDer<'static>) -> Option<bool> {
        let is_there = self.issuers.values().any(|der| der == certificate);
        (is_there || self.are_all).then_some(is_there)
    }

    /// What the rotator gets to see.
    pub(super) fn offered(&self) -> Vec<RevocationList> {
        self.found.clone()
    }
}

/// How lists are read.
pub(super) struct Reader<'a> {
    pub(super) transport: &'a Transport,
    pub(super) settings: &'a VaultSettings,
    pub(super) now: OffsetDateTime,
}

impl Reader<'_> {
    /// Reads them anew. What cannot be read stays as it was before, until it ends.
    pub(super) async fn read(&self, source: &Source, before: &Lists) -> Lists {
        let mut lists = Lists { issuers: before.issuers.clone(), ..Lists::default() };
        let mut troubles = BTreeMap::new();
        let mut missing = None;
        match self.issuers(&mut lists.issuers).await {
            Ok(()) => {
                lists.are_all = lists.issuers.len() < MAX_ISSUERS;
                self.all(source, before, &mut lists, &mut troubles).await;
            }
            Err(error) => {
                missing = Some(error.to_string());
                lists.found.clone_from(&before.found);
            }
        }
        lists.problem = source.above().find_map(|(id, subject)| {
            let waits = lists.settles_at.is_some() && !troubles.contains_key(&id) && missing.is_none();
            let why = troubles.remove(&id).or_else(|| missing.clone());
            let is_there = lists.found.iter().any(|list| list.issuer == id);
            let why = why.or_else(|| (!is_there && !waits).then(|| "it is no issuer of the mount".to_owned()))?;
            Some(format!("the list of `{subject}`: {why}; {ADVICE}"))
        });
        lists
    }

    /// The issuers of the mount, those that are new being read.
    async fn issuers(&self, known: &mut BTreeMap<String, CertificateDer<'static>>) -> Result<(), VaultError> {
        let body = self.transport.send(LIST_ISSUERS, calls::list_issuers(&self.settings.mount), None).await?;
        let Issuers { keys } = calls::data(LIST_ISSUERS, body.expose())?;
        known.retain(|id, _| keys.contains(id));
        for key in keys.into_iter().filter(|key| calls::is_word(key)) {
            if known.len() >= MAX_ISSUERS {
                return Ok(());
            }
            if known.contains_key(&key) {
                continue;
            }
            let body = self.transport.send(READ_OTHER, calls::issuer(&self.settings.mount, &key), None).await?;
            let Issuer { certificate, .. } = calls::data(READ_OTHER, body.expose())?;
            let wrong = |cause: String| VaultError::Answer { what: READ_OTHER, cause };
            known.insert(key, one(&certificate).map_err(wrong)?);
        }
        Ok(())
    }

    async fn all(
        &self,
        source: &Source,
        before: &Lists,
        lists: &mut Lists,
        troubles: &mut BTreeMap<AuthorityId, String>,
    ) {
        let above: BTreeSet<AuthorityId> = source.above().map(|(id, _)| id).collect();
        let (mut read, mut others) = (BTreeSet::new(), 0);
        for (key, der) in &lists.issuers {
            // Issuers with the same name and key have one list.
            let Some(id) = id(der).filter(|id| !read.contains(id)) else { continue };
            let is_other = !above.contains(&id);
            if is_other && others >= MAX_OTHERS {
                continue;
            }
            others += usize::from(is_other);
            let known = before.found.iter().find(|list| list.issuer == id);
            match self.list(key, der).await {
                Ok(list) => {
                    let settles = list.begins().map(|at| time_math::after(at, SETTLES)).filter(|at| *at > self.now);
                    lists.settles_at = lists.settles_at.into_iter().chain(settles).min();
                    // Where nothing has changed, it is as old as it was. And nobody shows a certificate of a CA that began just
                    // now, whereas without its list there would be none of the others.
                    let is_used = settles.is_none() || known == Some(&list) || self.is_young(der);
                    lists.found.extend(if is_used { Some(list) } else { known.cloned() });
                    troubles.remove(&id);
                    read.insert(id);
                }
                Err(error) => {
                    lists.found.extend(known.cloned());
                    read.extend(known.map(|_| id.clone()));
                    troubles.insert(id, error);
                }
            }
        }
    }

    /// Whether a CA is about as old as its first list can be.
    fn is_young(&self, der: &CertificateDer<'static>) -> bool {
        let begins = Facts::read(der).map(|facts| facts.not_before);
        begins.is_ok_and(|at| self.now < time_math::after(at, 2 * SETTLES))
    }

    pub(super) async fn list(&self, key: &str, der: &CertificateDer<'static>) -> Result<RevocationList, String> {
        let body = self.transport.send(READ_LIST, calls::list(&self.settings.mount, key), None).await;
        let List { crl } =
            body.and_then(|body| calls::data(READ_LIST, body.expose())).map_err(|error| error.to_string())?;
        // It may come from a clock that is ahead a little, and is not used before its time.
        let read = read_lists(crl.as_bytes(), std::slice::from_ref(der), &[], time_math::after(self.now, SETTLES));
        let read = read.map_err(|error| error.to_string())?;
        read.into_iter().next().ok_or_else(|| "Vault publishes none".to_owned())
    }
}

fn id(der: &CertificateDer<'static>) -> Option<AuthorityId> {
    Facts::read(der).ok().map(|facts| AuthorityId::of(&facts))
}

#[cfg(test)]
#[path = "list_tests.rs"]
mod tests;
