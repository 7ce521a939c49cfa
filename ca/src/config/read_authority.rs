//! Reads the part of the configuration about authorities and their rotation.

use std::time::Duration;

use signet_core::key_type::KeyType;
use signet_core::rotation::{Retirement, Rules, Schedule};
use signet_runtime::config::{Section, Variant, kind};

use super::read_cert_manager::read_cert_manager;
use super::vault::{Mode, read_vault};
use super::{Authority, Backend, Svid};

pub(super) const DAY: Duration = Duration::from_secs(86_400);

impl Backend {
    /// How many leaves it signs at the same time, if it signs them itself.
    #[must_use]
    pub fn signs_leaves(&self) -> Option<u16> {
        match self {
            Self::Vault(vault) => match vault.mode {
                Mode::Leaf { at_once, .. } => Some(at_once),
                Mode::Intermediate => None,
            },
            Self::CertManager(section) => section.leaves,
            Self::Native | Self::Files(_) => None,
        }
    }
}

impl Authority {
    /// How many leaves backends may sign at the same time; one, where none does.
    #[must_use]
    pub fn leaves_at_once(&self) -> u16 {
        let both = [Some(&self.backend), self.former.as_ref()];
        both.into_iter().flatten().filter_map(Backend::signs_leaves).max().unwrap_or(1)
    }
}

pub(super) fn read_authority(s: &mut Section<'_>) -> Option<Authority> {
    let backend = s.one_of(
        "backend",
        Some("native"),
        &[
            Variant::new("native", "a self-signed root and issuing CAs under it, with keys kept here", |_| {
                Some(Backend::Native)
            }),
            Variant::new("files", "a CA of the operator's, in a directory of PEM files", |s: &mut Section<'_>| {
                let meaning = "directory with ca-cert.pem, ca-key.pem, root-cert.pem and cert-chain.pem, or with tls.crt, tls.key and ca.crt; reloaded when it changes";
                s.required("files", kind::path(), meaning).map(Backend::Files)
            }),
            in_vault("the Vault or OpenBao that certifies issuing CAs, or leaves"),
            in_cert_manager("the issuer of cert-manager that certifies issuing CAs, or signs leaves"),
        ],
        "who certifies the issuing CA",
    );
    let former = s.optional_section(
        "former",
        "the backend before, while one is left that signs leaves itself: it goes on signing until what `backend` says is known everywhere, and revokes what it has signed; `status` says when the section may go (docs/rotation.md)",
        read_former,
    );
    let key_type = s.defaulted(
        "key_type",
        KeyType::EcP256.as_str(),
        kind::choice(&KeyType::ALL.map(|key_type| (key_type.as_str(), key_type))),
        "type of the root's and the issuing CA's keys",
    );
    let minute = Duration::from_secs(60);
    let root_ttl =
        s.defaulted("root_ttl", "3650d", kind::duration_within(minute..=20 * 365 * DAY), "lifetime of a root");
    let issuing_ttl = s.defaulted(
        "issuing_ttl",
        "30d",
        kind::duration_within(Duration::from_secs(4)..=10 * 365 * DAY),
        "lifetime of an issuing CA; it is renewed at half of it, without a change of the trust bundle",
    );
    let rotation = s.section("rotation", "when roots change", read_rotation);
    let (rules, renewal_window) = rotation?;
    Some(Authority {
        backend: backend?,
        former: former?,
        key_type: key_type?,
        schedule: Schedule { root_ttl: root_ttl?, issuing_ttl: issuing_ttl? },
        rules,
        renewal_window,
    })
}

fn in_vault(meaning: &'static str) -> Variant<'static, Backend> {
    Variant::new("vault", "a Vault or OpenBao, see docs/vault.md", move |s: &mut Section<'_>| {
        let vault = s.section("vault", meaning, read_vault);
        #[cfg(not(feature = "vault"))]
        s.problem("backend", "this program is built without the feature `vault`, which is there by default");
        vault.map(|vault| Backend::Vault(Box::new(vault)))
    })
}

fn in_cert_manager(meaning: &'static str) -> Variant<'static, Backend> {
    Variant::new("cert-manager", "an issuer of cert-manager, see docs/cert-manager.md", move |s: &mut Section<'_>| {
        let section = s.section("cert_manager", meaning, read_cert_manager);
        #[cfg(not(feature = "kubernetes"))]
        s.problem("backend", "this program is built without the feature `kubernetes`, which is there by default");
        section.map(|section| Backend::CertManager(Box::new(section)))
    })
}

fn read_former(s: &mut Section<'_>) -> Option<Backend> {
    let variants = [
        in_vault("as it was in `authority.vault`, with `mode: leaf`"),
        in_cert_manager("as it was in `authority.cert_manager`, with `mode: leaf`"),
    ];
    let former = s.one_of("backend", None, &variants, "who has signed leaves until now")?;
    if former.signs_leaves().is_none() {
        let section = if matches!(former, Backend::Vault(_)) { "vault.mode" } else { "cert_manager.mode" };
        s.problem(
            section,
            "is not leaf: only a backend that signs leaves itself is asked any more once it is left; of any other the keys are here, and no `former` is needed",
        );
        return None;
    }
    Some(former)
}

fn read_rotation(s: &mut Section<'_>) -> Option<(Rules, Duration)> {
    let automatic = s.defaulted(
        "automatic",
        true,
        kind::boolean(),
        "whether a root is replaced by itself as it ages; without, only by command",
    );
    let prepare_at = s.defaulted(
        "prepare_at",
        70,
        kind::integer(10..=95),
        "when the next root is published, in percent of the active one's life",
    );
    let activate_at = s.defaulted(
        "activate_at",
        80,
        kind::integer(10..=95),
        "when the next root signs at the earliest, in percent of the active one's life",
    );
    let coverage = s.defaulted(
        "coverage",
        100,
        kind::integer(1..=100),
        "how many of all holders of certificates must have received a root before it signs, in percent",
    );
    let propagation = s.defaulted(
        "propagation",
        "5m",
        kind::duration_or_zero(),
        "the least time between publishing a root and signing under it, and from when the last holder that was behind has received it, for those who get roots from elsewhere; never under 2 s",
    );
    let renewal_window = s.defaulted(
        "renewal_window",
        "10m",
        kind::duration_within(Duration::from_secs(1)..=DAY),
        "how long agents take to replace all certificates of a compromised root, those that end first at first",
    );
    let list_ttl = s.defaulted(
        "revocation_list_ttl",
        "7d",
        kind::duration_within(Duration::from_secs(60)..=90 * DAY),
        "lifetime of a revocation list; it is renewed at half of it",
    );
    let retirement = s.defaulted(
        "retire",
        Retirement::Automatic.as_str(),
        kind::choice(&Retirement::ALL.map(|one| (one.as_str(), one))),
        "who lets a former root go that nothing chains to any more: manual holds that step for `authority retire`",
    );
    if let (Some(prepare_at), Some(activate_at)) = (prepare_at, activate_at)
        && prepare_at > activate_at
    {
        s.problem("prepare_at", "is after activate_at: a root is published before it signs");
    }
    let rules = Rules {
        automatic: automatic?,
        prepare_at: prepare_at?,
        activate_at: activate_at?,
        coverage: coverage?,
        propagation: propagation?,
        list_ttl: list_ttl?,
        retirement: retirement?,
        // Until the section about certificates has been read.
        leaf_ttl: 365 * DAY,
    };
    Some((rules, renewal_window?))
}

pub(super) fn check_lifetimes(s: &mut Section<'_>, authority: &Authority, svid: &Svid) {
    let schedule = &authority.schedule;
    let has_own_roots = match authority.backend {
        Backend::Native => true,
        Backend::Files(_) => return,
        Backend::Vault(_) | Backend::CertManager(_) if authority.backend.signs_leaves().is_some() => return,
        Backend::Vault(_) | Backend::CertManager(_) => false,
    };
    // What a root signs in the last part of its life, when its successor should have taken over, must still fit.
    let left = schedule.root_ttl.mul_f64(f64::from(100 - authority.rules.activate_at) / 100.0);
    if has_own_roots && authority.rules.automatic && svid.default_ttl > left {
        s.problem(
            "authority.rotation.activate_at",
            "leaves the root less life than svid.default_ttl, so that leaves would be cut short; activate earlier",
        );
    }
    // An issuing CA that ends with its root could not be renewed under it.
    if has_own_roots && schedule.issuing_ttl > schedule.root_ttl / 2 {
        s.problem(
            "authority.issuing_ttl",
            "is longer than half of authority.root_ttl; lengthen one or shorten the other",
        );
    }
    // At half-life, when the issuing CA is replaced, a leaf of the default lifetime must still fit under it.
    if svid.default_ttl > schedule.issuing_ttl / 2 {
        s.problem(
            "svid.default_ttl",
            "is longer than half of authority.issuing_ttl, so that leaves would be cut short; lengthen one or shorten the other",
        );
    }
}
