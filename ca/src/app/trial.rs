//! A trial signature for `check --connect`: whoever certifies issuing CAs certifies one that nobody uses, which is judged as a real
//! one is, by what is decided here and by what clients look at. It is on record before it is asked for, or it is not asked for.

use std::sync::Arc;

use signet_core::audit::Outcome;
use signet_core::authority::{IssuingCa, KeyId};
use signet_core::certificate::Facts;
use signet_core::clock::{Clock, SystemClock};
use signet_plugins::authority::{NativeAuthority, Tried, trial_name};
use signet_plugins::store::Store;

use super::record::command_event;
use super::storage;
use crate::config::Config;
use crate::rotator::client_verdict;

/// What it is called on record.
const COMMAND: &str = "check";

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct TrialResult {
    pub(super) problems: Vec<String>,
    pub(super) unseen: Vec<String>,
    pub(super) notes: Vec<String>,
}

/// Has `whose` certify a CA on trial, by `ask`, and judges it. Where no storage can keep a record, that is told and nothing asked,
/// unless it is to be done `off_record`.
pub(super) async fn trial(
    config: &Config,
    whose: &str,
    off_record: bool,
    ask: impl Future<Output = Result<Tried, String>>,
) -> TrialResult {
    let store = match store(config).await {
        Ok(store) => Some(store),
        Err(_) if off_record => None,
        Err(why) => {
            let what = format!(
                "whether {whose} signs an issuing CA: {why}, so that a trial would be on no record; --off-record tries it"
            );
            return TrialResult { unseen: vec![what], ..TrialResult::default() };
        }
    };
    let result = on_record(config, whose, store.as_deref(), ask).await;
    if let Some(store) = store {
        store.close().await;
    }
    result
}

async fn on_record(
    config: &Config,
    whose: &str,
    store: Option<&dyn Store>,
    ask: impl Future<Output = Result<Tried, String>>,
) -> TrialResult {
    let mut result = TrialResult::default();
    let name = trial_name(&config.trust_domain);
    let intended = format!("{whose} is asked for a CA certificate on trial, {name}, for a minute, which nobody gets");
    if let Err(why) = record(store, Outcome::Intended, &intended).await {
        result.problems.push(format!("storage: {why}; no trial was made"));
        return result;
    }
    let judged = match ask.await {
        Ok(tried) => judged(config, &tried).await,
        Err(why) => Err(why),
    };
    let (outcome, text) = match &judged {
        Ok(serial) => (Outcome::Done, format!("{whose} has certified {name}, serial number {serial}, as it should be")),
        Err(why) => (Outcome::Failed, format!("{whose} was asked to certify {name}: {why}")),
    };
    if let Err(why) = record(store, outcome, &text).await {
        result.problems.push(format!("storage: {why}; what came of the trial is not on record"));
    }
    match judged {
        Ok(serial) => {
            let kept = if store.is_some() { "which is on record" } else { "on no record" };
            result
                .notes
                .push(format!("a CA certificate on trial was signed by {whose} ({kept}): serial number {serial}"));
        }
        Err(why) => result.problems.push(format!("a trial signature: {why}")),
    }
    result
}

/// The storage with the record of an authority, as it is: opening one that is not up to date would change it.
async fn store(config: &Config) -> Result<Arc<dyn Store>, String> {
    let location = storage::location(&config.storage).map_err(|error| error.to_string())?;
    if location.is_missing(storage::DEADLINE).await {
        return Err("there is no storage yet".to_owned());
    }
    let looked = location.open_read_only(storage::DEADLINE).await.map_err(|error| error.to_string())?;
    if !storage::holds_authority(&*looked).await.map_err(|error| error.to_string())? {
        return Err("there is no authority yet".to_owned());
    }
    location.open(storage::DEADLINE).await.map_err(|error| error.to_string())
}

async fn record(store: Option<&dyn Store>, outcome: Outcome, text: &str) -> Result<(), String> {
    let Some(store) = store else { return Ok(()) };
    let recorded = store.append(vec![command_event(COMMAND, outcome, text)]).await;
    let recorded = recorded.map_err(|error| error.to_string())?;
    recorded.into_iter().try_for_each(|one| one.map(drop)).map_err(|error| error.to_string())
}

/// The serial number of the CA, when clients accept what is signed with it.
async fn judged(config: &Config, tried: &Tried) -> Result<String, String> {
    let words = |error: &dyn std::fmt::Display| error.to_string();
    let certified = tried.certified.clone();
    let issuing = IssuingCa::below(certified.certificate, KeyId::parse("trial"), certified.intermediates, &tried.root);
    let issuing = issuing.map_err(|error| words(&error))?;
    let authority = NativeAuthority::new(Arc::clone(&tried.key), &issuing).map_err(|error| words(&error))?;
    let (roots, now) = ([tried.root.certificate.clone()], SystemClock.now());
    let verdict = client_verdict(&config.trust_domain, &config.serving, (&authority, &issuing), &roots, now).await;
    match verdict.map_err(|error| words(&error))? {
        None => Facts::read(&issuing.certificate).map(|facts| facts.serial_text()).map_err(|error| words(&error)),
        Some(why) => Err(format!("clients would refuse every certificate of an issuing CA from there: {why}")),
    }
}
