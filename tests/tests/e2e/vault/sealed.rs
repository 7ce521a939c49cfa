//! OpenBao is away: what signs goes on, it is told, and it is over by itself.

use signet_tests::failure::{Outcome, ensure};
use signet_tests::harness::process::eventually;

use super::{SOON, backed, issued, told};

#[tokio::test]
async fn a_sealed_openbao_stops_no_issuance_is_told_and_is_used_again_by_itself() -> Outcome {
    let (bao, dev) = backed("1h", 3600).await?;
    let mut ca = dev.start_ca().await?;
    told(&mut ca, &dev, "its token holds until").await?;
    bao.seal().await?;
    let readiness = told(&mut ca, &dev, "sealed").await?;
    ensure(readiness.contains("degraded"), || readiness.clone())?;
    let status = ca.ask(&["status"])?.to_string();
    ensure(status.contains("Vault") && status.contains("sealed"), || status.clone())?;
    let circuit = async |state: &str| Some(ca.metrics().await.ok()?.sum("signet_ca_vault_circuit", &[state]));
    let open = async || circuit("state=\"open\"").await.filter(|open| *open > 0.0);
    eventually("an open circuit", SOON, open).await?;
    for _ in 0..3 {
        issued(&dev).await?;
    }
    let refused = ca.operator().refused(&["authority", "rotate", "--issuing"])?;
    ensure(refused.contains("cannot be used, see `status`"), || refused.clone())?;
    bao.unseal().await?;
    told(&mut ca, &dev, "its token holds until").await?;
    eventually("a closed circuit", SOON, async || {
        let metrics = ca.metrics().await.ok()?;
        let closed = metrics.sum("signet_ca_vault_circuit", &["state=\"closed\""]);
        (closed > 0.0 && metrics.sum("signet_ca_vault_refused", &[]) == 0.0).then_some(())
    })
    .await?;
    ca.operator().done(&["authority", "rotate", "--issuing"])?;
    issued(&dev).await?;
    Ok(())
}
