//! What `audit list` and `certificate list` can be asked by: flags, and the question to the record that they make.

use std::collections::BTreeSet;

use crate::app::Store;
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use signet_core::audit::{AuditQuery, EventKind, MAX_AUTHORITIES, MAX_PAGE, Outcome, QueryError};
use signet_core::certificate::Serial;
use signet_core::identity::SpiffeId;
use signet_core::seams::store::StoreError;
use signet_runtime::config::units::parse_duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Failure;
use super::admin_client::failure;
use super::record_source::{Source, SourceArgs};

/// Whom and which certificate it is about.
#[derive(Debug, Default, Args)]
pub(super) struct Filters {
    /// Only events about this SPIFFE ID
    #[arg(long, value_name = "SPIFFE_ID")]
    identity: Option<String>,
    /// Only about SPIFFE IDs that begin so
    #[arg(long, value_name = "TEXT")]
    identity_prefix: Option<String>,
    /// Only callers of this Kubernetes namespace
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
    /// Only callers with this service account
    #[arg(long, value_name = "NAME")]
    service_account: Option<String>,
    /// Only callers in a pod of this name
    #[arg(long, value_name = "NAME")]
    pod: Option<String>,
    /// Only callers on this node
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Only callers of this cluster
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
    /// Only certificates with this serial number, or with serial numbers that begin so: 6 hexadecimal digits or more
    #[arg(long, value_name = "HEX")]
    pub(super) serial: Option<String>,
    /// Only certificates of the key with this SHA-256 (of the public key, DER)
    #[arg(long, value_name = "HEX")]
    key_hash: Option<String>,
    /// Only the certificate with this SHA-256 (DER)
    #[arg(long, value_name = "HEX")]
    fingerprint: Option<String>,
    /// Only certificates of this issuing CA, or of this root: its id, or the beginning of it
    #[arg(long, value_name = "ID")]
    authority: Option<String>,
    /// Only certificates that end before this time: RFC 3339, or a duration from now like 1h
    #[arg(long, value_name = "TIME")]
    expires_before: Option<String>,
    /// Only certificates that end then or later; `now` leaves those out that have ended
    #[arg(long, value_name = "TIME")]
    expires_after: Option<String>,
}

/// From when to when, and how much of it at once.
#[derive(Debug, Args)]
pub(super) struct Paged {
    /// Only events since this time: RFC 3339, or a duration before now like 10m
    #[arg(long, value_name = "TIME")]
    pub(super) since: Option<String>,
    /// Only events until this time, said in the same ways
    #[arg(long, value_name = "TIME")]
    pub(super) until: Option<String>,
    /// How many at most, up to 1000
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_PAGE)))]
    limit: u32,
    /// Continue after the previous page, with the token that it said; pages have no numbers
    #[arg(long, value_name = "TOKEN")]
    pub(super) page: Option<u64>,
}

impl Paged {
    /// Everything between these times.
    pub(super) fn between(since: Option<&str>, until: Option<&str>) -> Self {
        Self { since: since.map(str::to_owned), until: until.map(str::to_owned), limit: MAX_PAGE, page: None }
    }
}

/// How it ended, and why.
#[derive(Debug, Default, Args)]
pub(super) struct Ends {
    /// Only events with this outcome: issued, refused, failed, done or intended
    #[arg(long)]
    outcome: Option<String>,
    /// Only events of this kind
    #[arg(long, value_parser = kind())]
    kind: Option<EventKind>,
    /// Only events with this reason, like token_expired
    #[arg(long, value_name = "WORD")]
    reason: Option<String>,
    /// Only what was asked for with this client certificate in the place of a token: its serial number. What was got
    /// with that may have got more in turn
    #[arg(long, value_name = "HEX", conflicts_with = "serial")]
    shown_certificate: Option<String>,
}

fn kind() -> impl TypedValueParser<Value = EventKind> {
    let find = |name: String| EventKind::ALL.into_iter().find(|kind| kind.as_str() == name);
    PossibleValuesParser::new(EventKind::ALL.map(EventKind::as_str))
        .try_map(move |name| find(name).ok_or("not one of the possible values"))
}

impl Filters {
    /// Those that a serial number, or the beginning of one, makes.
    pub(super) fn of_serial(serial: &str) -> Self {
        Self { serial: Some(serial.to_owned()), ..Self::default() }
    }

    /// The question, but for what only storage knows.
    ///
    /// # Errors
    /// All mistakes at once.
    pub(super) fn query(&self, ends: &Ends, paged: &Paged, now: OffsetDateTime) -> Result<AuditQuery, Vec<String>> {
        let mut query = AuditQuery::newest(paged.limit).map_err(|error| vec![format!("--limit: {error}")])?;
        let mut wrong = Vec::new();
        if self.authority.as_deref() == Some("") {
            wrong.push("--authority: the id of one is wanted, or the beginning of it".to_owned());
        }
        if let Some(id) = &self.identity {
            match SpiffeId::parse(id) {
                Ok(id) => query.spiffe_id = Some(id.to_string()),
                Err(error) => wrong.push(format!("--identity: {error}; --identity-prefix takes any beginning of one")),
            }
        }
        for (flag, given, way, at) in [
            ("since", &paged.since, Way::Back, &mut query.since),
            ("until", &paged.until, Way::Back, &mut query.until),
            ("expires-before", &self.expires_before, Way::Ahead, &mut query.expires_before),
            ("expires-after", &self.expires_after, Way::Ahead, &mut query.expires_after),
        ] {
            let Some(text) = given else { continue };
            *at = moment(text, now, way);
            if at.is_none() {
                wrong.push(format!(
                    "--{flag}: {text:?} is neither a time like 2026-03-01T12:00:00Z nor a duration like 10m, nor `now`"
                ));
            }
        }
        if let Some(outcome) = &ends.outcome {
            match Outcome::parse(outcome) {
                Some(outcome) => query.outcome = Some(outcome),
                None => wrong.push(format!("--outcome: {outcome:?} is not issued, refused, failed, done or intended")),
            }
        }
        if let Some(text) = &self.serial {
            match Serial::parse(text) {
                Some(serial) => query.serial = Some(serial),
                None => query.serial_prefix = Some(text.clone()),
            }
        }
        // What ends before a time has not ended, unless it is said from when on.
        query.expires_after = query.expires_after.or(query.expires_before.filter(|end| *end > now).map(|_| now));
        let query = AuditQuery {
            spiffe_id_prefix: self.identity_prefix.clone(),
            namespace: self.namespace.clone(),
            service_account: self.service_account.clone(),
            pod: self.pod.clone(),
            node: self.node.clone(),
            cluster: self.cluster.clone(),
            key_hash: self.key_hash.clone(),
            fingerprint: self.fingerprint.clone(),
            kind: ends.kind,
            reason: ends.reason.clone(),
            shown: ends.shown_certificate.clone(),
            before: paged.page,
            ..query
        };
        let checked = query.checked();
        match checked {
            Ok(query) if wrong.is_empty() => Ok(query),
            Ok(_) => Err(wrong),
            Err(errors) => Err(wrong.into_iter().chain(errors.iter().map(in_flags)).collect()),
        }
    }

    /// Adds the issuing CAs that `--authority` names, as whoever is asked knows them.
    ///
    /// # Errors
    /// [`Failure`] when it names none, or nobody answers.
    pub(super) async fn name_authorities(
        &self,
        query: &mut AuditQuery,
        (args, opened): (&SourceArgs, &Source),
    ) -> Result<(), Failure> {
        match &opened.store {
            Some(store) => self.name_authorities_in(query, &**store).await,
            None => self.name_authorities_of(query, args).await,
        }
    }

    async fn name_authorities_in(&self, query: &mut AuditQuery, store: &dyn Store) -> Result<(), Failure> {
        let Some(given) = &self.authority else { return Ok(()) };
        query.authorities = issuing_cas(store, &given.to_ascii_lowercase()).await.map_err(Failure::failed)?;
        match query.authorities.len() {
            0 => Err(Failure::Usage(format!(
                "--authority: no root and no issuing CA has an id that begins with {given:?}; `authority list` shows them. A \
                 root that is gone is known by its issuing CAs only"
            ))),
            many if many > MAX_AUTHORITIES => Err(too_many(many, given)),
            _ => Ok(()),
        }
    }
}

impl Filters {
    /// The same of the authorities that a CA knows: those there are.
    async fn name_authorities_of(&self, query: &mut AuditQuery, source: &SourceArgs) -> Result<(), Failure> {
        let Some(given) = self.authority.as_ref().map(|given| given.to_ascii_lowercase()) else { return Ok(()) };
        let mut client = source.admin.connect().await?;
        let rotation = client.rotation().await.map_err(|status| failure(&status))?;
        let issuing = rotation.authorities.into_iter().filter(|one| !one.root.is_empty());
        let named = issuing.filter(|one| one.id.starts_with(&given) || one.root.starts_with(&given));
        query.authorities = named.map(|one| one.id).collect();
        if query.authorities.len() > MAX_AUTHORITIES {
            return Err(too_many(query.authorities.len(), &given));
        }
        if query.authorities.is_empty() {
            // One that is gone is known by its whole id.
            if given.len() != 40 || !given.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(Failure::Usage(format!(
                    "--authority: no root and no issuing CA has an id that begins with {given:?}; `authority list` shows them. \
                     One that is gone is known by its whole id"
                )));
            }
            query.authorities.push(given);
        }
        Ok(())
    }
}

fn too_many(many: usize, given: &str) -> Failure {
    Failure::Usage(format!(
        "--authority: {many} issuing CAs have ids that begin with {given:?}, or roots that do, and at most {MAX_AUTHORITIES} can be \
         asked for; give more of it, or a time"
    ))
}

/// The issuing CAs whose ids begin so, and those of roots whose ids do: those there are, those that have signed what has not
/// been forgotten, and one that nobody remembers by its whole id.
async fn issuing_cas(store: &dyn Store, given: &str) -> Result<Vec<String>, StoreError> {
    const WHOLE: usize = 40;
    let mut found = BTreeSet::new();
    if let Some((_, journal)) = store.load().await? {
        for root in &journal.roots {
            let all = root.id.to_string().starts_with(given);
            let issuing = root.issuing.iter().map(|issuing| issuing.id.to_string());
            found.extend(issuing.filter(|id| all || id.starts_with(given)));
        }
    }
    let ends = store.last_ends().await?;
    found.extend(ends.keys().map(ToString::to_string).filter(|id| id.starts_with(given)));
    if found.is_empty() && given.len() == WHOLE && given.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        found.insert(given.to_owned());
    }
    Ok(found.into_iter().collect())
}

/// The mistake with the flag that it is about.
fn in_flags(error: &QueryError) -> String {
    let text = error.to_string();
    let Some((field, rest)) = text.split_once(": ") else { return text };
    let flag = match field {
        "serial_prefix" => "serial",
        "spiffe_id" => "identity",
        "spiffe_id_prefix" => "identity-prefix",
        "shown" => "shown-certificate",
        "authorities" => "authority",
        other => return format!("--{}: {rest}", other.replace('_', "-")),
    };
    format!("--{flag}: {rest}")
}

/// Where a duration leads from now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Back,
    Ahead,
}

fn moment(text: &str, now: OffsetDateTime, way: Way) -> Option<OffsetDateTime> {
    if text == "now" {
        return Some(now);
    }
    let duration = || parse_duration(text).ok().and_then(|duration| time::Duration::try_from(duration).ok());
    OffsetDateTime::parse(text, &Rfc3339).ok().or_else(|| match way {
        Way::Back => now.checked_sub(duration()?),
        Way::Ahead => now.checked_add(duration()?),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use time::macros::datetime;

    const NOW: OffsetDateTime = datetime!(2026-03-01 12:00 UTC);

    #[test]
    fn a_time_is_one_or_a_duration_from_now() {
        assert_eq!(moment("10m", NOW, Way::Back), Some(datetime!(2026-03-01 11:50 UTC)));
        assert_eq!(moment("1h", NOW, Way::Ahead), Some(datetime!(2026-03-01 13:00 UTC)));
        assert_eq!(moment("now", NOW, Way::Ahead), Some(NOW));
        assert_eq!(moment("2026-01-01T00:00:00Z", NOW, Way::Ahead), Some(datetime!(2026-01-01 00:00 UTC)));
        for bad in ["yesterday", "", "10"] {
            assert_eq!(moment(bad, NOW, Way::Back), None, "{bad:?}");
        }
    }

    #[test]
    fn every_mistake_is_told_with_its_flag() {
        let text = |text: &str| Some(text.to_owned());
        let filters = Filters {
            identity: text("web"),
            authority: text(""),
            serial: text("46b0"),
            key_hash: text("ab"),
            expires_before: text("tomorrow"),
            pod: text(""),
            ..Filters::default()
        };
        let ends = Ends { outcome: text("odd"), shown_certificate: text("x"), ..Ends::default() };
        let paged = Paged::between(None, Some("soon"));
        let told = filters.query(&ends, &paged, NOW).unwrap_err();
        for flag in [
            "identity",
            "until",
            "expires-before",
            "outcome",
            "serial",
            "key-hash",
            "shown-certificate",
            "pod",
            "authority",
        ] {
            assert!(told.iter().any(|one| one.starts_with(&format!("--{flag}: "))), "{flag}: {told:#?}");
        }
        assert_eq!(told.len(), 9, "{told:#?}");
    }

    #[test]
    fn an_end_before_the_beginning_is_a_mistake_and_not_an_empty_answer() {
        let text = |text: &str| Some(text.to_owned());
        let filters = Filters { expires_before: text("1h"), expires_after: text("2h"), ..Filters::default() };
        let paged = Paged::between(Some("1h"), Some("2h"));
        let told = filters.query(&Ends::default(), &paged, NOW).unwrap_err();
        let expected = [
            "--until: 2026-03-01T10:00:00Z is before 2026-03-01T11:00:00Z, where `since` begins",
            "--expires-before: 2026-03-01T13:00:00Z is before 2026-03-01T14:00:00Z, where `expires_after` begins",
        ];
        assert_eq!(told, expected);
        let paged = Paged::between(Some("2h"), Some("2h"));
        assert!(Filters::default().query(&Ends::default(), &paged, NOW).is_ok());
    }

    #[test]
    fn what_ends_soon_has_not_ended_and_a_short_serial_is_a_beginning() {
        let text = |text: &str| Some(text.to_owned());
        let filters = Filters { expires_before: text("1h"), serial: text("46:B0:BC"), ..Filters::default() };
        let all = Paged::between(None, None);
        let query = filters.query(&Ends::default(), &all, NOW).unwrap();
        assert_eq!((query.expires_after, query.expires_before), (Some(NOW), Some(datetime!(2026-03-01 13:00 UTC))));
        assert_eq!((query.serial, query.serial_prefix), (None, text("46b0bc")));
        let past = Filters { expires_before: text("2026-01-01T00:00:00Z"), ..Filters::default() };
        assert_eq!(past.query(&Ends::default(), &all, NOW).unwrap().expires_after, None);
    }
}
