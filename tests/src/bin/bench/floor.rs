//! The crypto floor: what the three signature operations of one certificate cost, with nothing around them.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_2048_8192_SHA256,
    UnparsedPublicKey,
};
use signet_tests::failure::{Failure, Outcome};
use signet_tests::tools;

use crate::requests::Requests;

/// How long each operation is repeated.
const EACH: Duration = Duration::from_millis(1000);

/// Microseconds of one core.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Floor {
    /// Verifying an RS256 token.
    pub(crate) token_us: f64,
    /// Verifying a P-256 CSR.
    pub(crate) csr_us: f64,
    /// Signing with P-256.
    pub(crate) sign_us: f64,
}

impl Floor {
    /// What is left of it for a token that was checked before: the CA remembers those.
    pub(crate) fn without_token_us(self) -> f64 {
        self.csr_us + self.sign_us
    }

    /// All three.
    pub(crate) fn total_us(self) -> f64 {
        self.token_us + self.csr_us + self.sign_us
    }
}

/// Measures on all cores at once: under load the cores are all busy too, and on most machines slower for it.
pub(crate) fn measure(requests: &Requests) -> Outcome<Floor> {
    let failed = |_| Failure::unexpected("ring refused its own signature");
    let random = SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).map_err(failed)?;
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8.as_ref(), &random);
    let key = key.map_err(|_| Failure::unexpected("ring refused its own key"))?;
    // About the size of a CSR's and of a certificate's signed part.
    let message = [7; 400];
    let signature = key.sign(&random, &message).map_err(failed)?;
    let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key.public_key().as_ref());

    let token = requests.each.first().and_then(|one| one.authorization.to_str().ok());
    let token = token.and_then(|header| header.strip_prefix("Bearer ")).unwrap_or_default().to_owned();
    let (input, encoded) = token.rsplit_once('.').ok_or_else(|| Failure::unexpected("no token"))?;
    let decode = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, encoded);
    let rsa_signature = decode.map_err(Failure::while_doing("decode a token"))?;
    let rsa = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, requests.cluster_key.as_slice());
    Ok(Floor {
        token_us: time(|| rsa.verify(input.as_bytes(), &rsa_signature).is_ok())?,
        csr_us: time(|| public.verify(&message, signature.as_ref()).is_ok())?,
        sign_us: time(|| key.sign(&random, &message).is_ok())?,
    })
}

/// Microseconds per call, averaged over all cores.
fn time(operation: impl Fn() -> bool + Sync) -> Outcome<f64> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let rounds = thread::scope(|scope| {
        let repeat = || {
            let (start, mut rounds, mut good) = (Instant::now(), 0_u64, true);
            while start.elapsed() < EACH {
                for _ in 0..50 {
                    good &= operation();
                }
                rounds += 50;
            }
            (good, start.elapsed().as_secs_f64() * 1e6 / rounds as f64)
        };
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(repeat)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or((false, 0.0))).collect::<Vec<_>>()
    });
    if rounds.iter().any(|(good, _)| !good) {
        return Err(Failure::unexpected("an operation of the crypto floor failed"));
    }
    Ok(rounds.iter().map(|(_, us)| us).sum::<f64>() / rounds.len() as f64)
}

/// The processor, for the report.
pub(crate) fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':').map(|(_, name)| name.trim()));
    let kernel = tools::run(Command::new("uname").arg("-r")).unwrap_or_default();
    format!(
        "{} x {}, Linux {}",
        thread::available_parallelism().map_or(1, usize::from),
        model.unwrap_or("unknown"),
        kernel.trim()
    )
}
