//! Judges what each proxy really uses: OpenSSL must find a path from its leaf to the root that should be above it, and
//! the bundle that others verify it with must hold that root.

use std::time::Duration;

use super::stage::Cast;
use super::watch::Watch;
use crate::client::keys;
use crate::failure::{Failure, Outcome, ensure};
use crate::harness::loaded::Secrets;
use crate::harness::process::eventually;
use crate::tools;

/// How long the proxies may take to load what is settled: the Istio client learns at its next renewal.
const LOAD: Duration = Duration::from_secs(90);

/// The trust bundle as the CA publishes it, PEM.
///
/// # Errors
/// [`Failure`].
pub fn bundle(cast: &Cast) -> Outcome<String> {
    tools::run(&mut cast.stage.ca.command(&["bundle", "show"], &["--output", "pem"])?)
}

/// Every proxy identifies itself with a leaf under this root, and verifies others with exactly the bundle.
///
/// # Errors
/// [`Failure`] that names the proxy.
pub async fn proxies_use(cast: &Cast, root: &str, watch: &Watch<'_>) -> Outcome {
    let bundle = bundle(cast)?;
    let mut wanted = keys::ids(&bundle)?;
    wanted.sort();
    let root_pem = keys::split(&bundle).into_iter().find(|pem| keys::ids(pem).is_ok_and(|ids| ids == [root]));
    let root_pem =
        root_pem.ok_or_else(|| Failure::unexpected(format!("the bundle {wanted:?} lacks the root {root}")))?;
    for (name, envoy) in cast.proxies() {
        let settled = async || {
            let secrets = envoy.secrets().await.ok()?;
            let mut roots = keys::ids(&secrets.roots).ok()?;
            roots.sort();
            let fits = roots == wanted && secrets.chains_to(&[("the root", &root_pem)]).is_ok();
            fits.then_some(secrets)
        };
        let secrets: Secrets = match eventually("a proxy with the settled state", LOAD, settled).await {
            Ok(secrets) => secrets,
            Err(_late) => {
                let secrets = envoy.secrets().await?;
                let roots = keys::ids(&secrets.roots)?;
                ensure(roots == wanted, || format!("Envoy of {name} trusts {roots:?} instead of {wanted:?}"))?;
                secrets
            }
        };
        secrets
            .chains_to(&[("the expected root", &root_pem), ("the bundle", &bundle)])
            .map_err(|failure| Failure::unexpected(format!("Envoy of {name}: {failure}")))?;
        watch.tell(&format!(
            "OpenSSL: the leaf of Envoy {name} ({}) chains to {} and to the bundle of {}",
            crate::demo::narrator::short(&secrets.serial()?),
            crate::demo::narrator::short(root),
            wanted.len()
        ));
    }
    Ok(())
}
