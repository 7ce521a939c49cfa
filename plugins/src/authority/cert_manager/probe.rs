//! What would keep a certificate from being issued, tried out without making anything: for `check --connect`.

use kube::Api;
use kube::api::{ApiResource, DynamicObject};
use kube::discovery::Scope;
use serde_json::Value;
use signet_core::csr::KeyFamily;
use signet_core::key_type::KeyType;
use signet_core::seams::authenticator::AuthenticationError;
use signet_core::time_math;

use super::calls::{Fault, within};
use super::request::{Asks, csr, object, shown, text_of};
use super::settings::{CertManagerSettings, GROUP, RootsFrom};
use super::{CertManagerAuthority, plain};
use crate::custody::LocalKey;
use crate::kubernetes::{ApiServer, Right, may};

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProbedIssuer {
    /// What is wrong.
    pub problems: Vec<String>,
    /// What could not be seen, so that it may be wrong.
    pub unseen: Vec<String>,
}

/// How the kind of the issuer is called at the API server.
struct Kind {
    resource: ApiResource,
    is_namespaced: bool,
}

impl CertManagerAuthority {
    /// Asks for rights, looks at the issuer and the roots, and makes a request that is a trial for the API server and for
    /// cert-manager's webhook, so that nothing comes of it.
    pub async fn probe(&self) -> ProbedIssuer {
        let mut found = ProbedIssuer::default();
        let server = match self.connection.server().await {
            Ok(server) => server,
            Err(error) => {
                found.problems.push(plain(error));
                return found;
            }
        };
        let settings = &self.settings;
        let kind = kind(&server, settings).await;
        let mut rights = rights(settings);
        match &kind {
            Ok(kind) => {
                rights.extend(settings.approve.then(|| approval(settings, kind)));
                issuer(&server, settings, kind, &mut found).await;
            }
            Err(problem) => found.problems.push(problem.clone()),
        }
        for right in rights {
            match may(&server, &right).await {
                Ok(true) => {}
                Ok(false) => {
                    found.problems.push(format!("the account may not {right}; deploy/cert-manager/rbac.yaml has that"))
                }
                Err(error) => {
                    found.problems.push(words(&error));
                    return found;
                }
            }
        }
        if settings.roots != RootsFrom::Requests {
            found.problems.extend(self.read(&settings.roots).await.err().map(plain));
        }
        match self.trial_request(&server).await {
            Ok(()) => {}
            Err(problem) => found.problems.push(problem),
        }
        found
    }

    async fn trial_request(&self, server: &ApiServer) -> Result<(), String> {
        let made = LocalKey::generate(KeyType::EcP256).await;
        let (key, _thrown_away) = made.map_err(|_| "making a key failed".to_owned())?;
        let (now, minute) = (self.clock.now(), std::time::Duration::from_secs(60));
        let until = time_math::after(now, minute);
        let wanted = if self.settings.leaves {
            let (csr, identity) = super::leaf::trial_csr(&self.settings.trust_domain)?;
            object(&self.settings, &csr, Asks::Leaf(&identity, KeyFamily::Ec), minute, until)
        } else {
            let csr = csr(&self.settings.trust_domain, &key).await.map_err(|error| error.to_string())?;
            object(&self.settings, &csr, Asks::Ca, minute, until)
        };
        let wanted = wanted.map_err(|error| error.to_string())?;
        let requests = super::calls::Requests::of(server, &self.settings);
        let made = requests.create(&wanted, true).await;
        made.map(drop).map_err(|fault| format!("a CertificateRequest on trial was refused: {}", fault.text()))
    }
}

/// What is needed in any case. Roots are read by name, so that a role may name them.
fn rights(settings: &CertManagerSettings) -> Vec<Right> {
    let requests = |verb| Right::new(verb, GROUP, "certificaterequests").within(&settings.namespace);
    let mut all: Vec<Right> = ["create", "get", "list", "watch", "delete"].map(requests).into();
    match &settings.roots {
        RootsFrom::ConfigMap(at) => {
            all.push(Right::new("get", "", "configmaps").called(&at.name).within(&at.namespace))
        }
        RootsFrom::Secret(at) => all.push(Right::new("get", "", "secrets").called(&at.name).within(&at.namespace)),
        RootsFrom::File(_) | RootsFrom::Requests => {}
    }
    if settings.approve {
        all.push(Right::new("update", GROUP, "certificaterequests/status").within(&settings.namespace));
    }
    all
}

/// What cert-manager's webhook asks of whoever approves: cluster-wide, by the name of the issuer.
fn approval(settings: &CertManagerSettings, kind: &Kind) -> Right {
    let (issuer, plural) = (&settings.issuer, &kind.resource.plural);
    let name = match kind.is_namespaced {
        true => format!("{}.{}", settings.namespace, issuer.name),
        false => issuer.name.clone(),
    };
    Right::new("approve", GROUP, "signers").called(&format!("{plural}.{}/{name}", issuer.group))
}

async fn kind(server: &ApiServer, settings: &CertManagerSettings) -> Result<Kind, String> {
    let issuer = &settings.issuer;
    let missing = || {
        format!(
            "authority.cert_manager.issuer: the API server has no kind {} of {}: is it spelled right, and what brings it \
             installed?",
            issuer.kind, issuer.group
        )
    };
    let group = match within(kube::discovery::group(&server.client(), &issuer.group)).await {
        Ok(group) => group,
        Err(Fault::Absent(_)) => return Err(missing()),
        // What the library says of a group that is not there is no answer of the server.
        Err(fault) if fault.text().contains("not found") || fault.text().contains("Missing") => return Err(missing()),
        Err(fault) => return Err(fault.text().to_owned()),
    };
    let (resource, capabilities) = group.recommended_kind(&issuer.kind).ok_or_else(missing)?;
    Ok(Kind { resource, is_namespaced: matches!(capabilities.scope, Scope::Namespaced) })
}

async fn issuer(server: &ApiServer, settings: &CertManagerSettings, kind: &Kind, found: &mut ProbedIssuer) {
    let (issuer, client) = (&settings.issuer, server.client());
    let api: Api<DynamicObject> = match kind.is_namespaced {
        true => Api::namespaced_with(client, &settings.namespace, &kind.resource),
        false => Api::all_with(client, &kind.resource),
    };
    match within(api.get(&issuer.name)).await {
        Ok(object) => {
            if object.data.pointer("/spec/selfSigned").is_some() {
                found.problems.push(format!(
                    "{issuer} is a self-signed one, which certifies no key but its own; name one of a CA, a Vault or Venafi"
                ));
            }
            let conditions = object.data.pointer("/status/conditions").and_then(Value::as_array);
            let ready = conditions.into_iter().flatten().find(|condition| text_of(condition, "type") == "Ready");
            if let Some(not) = ready.filter(|ready| text_of(ready, "status") != "True") {
                let said = shown(text_of(not, "message"));
                found.problems.push(format!("{issuer} is not ready: {said}"));
            }
        }
        Err(Fault::Absent(_)) => {
            let place =
                if kind.is_namespaced { format!(" in namespace {}", settings.namespace) } else { String::new() };
            found.problems.push(format!("authority.cert_manager.issuer: there is no {issuer}{place}"));
        }
        Err(fault) => {
            found.unseen.push(format!("whether there is {issuer}, and whether it is ready: {}", fault.text()))
        }
    }
}

fn words(error: &AuthenticationError) -> String {
    match error {
        AuthenticationError::Unavailable { reason, detail } => format!("{}: {detail}", reason.label()),
        error => error.to_string(),
    }
}
