//! The judgement of the crate `dcap-qvl` on a quote and its collateral, in our words.
//!
//! It verifies every signature from the root down to the TD report and compares the platform with what Intel says
//! of it. Cryptography is ours: aws-lc-rs, and P-256 with SHA-256 only. That it accepts is necessary; that it
//! refuses is final. It explains itself in sentences only, so the table [`SENTENCES`] turns them into reasons: a
//! sentence that is missing there changes the reason of a refusal, never whether there is one. Tests reach each row,
//! and the crate's version is pinned.
//!
//! What it does not check is checked by our other modules: that nothing follows a quote, that the root itself is
//! valid at the time and is an issuer's, that lists have begun to be in force, that the signer of TCB info is
//! named so, that the TCB info is for the platform's PCE, and that no other list names a certificate.

use dcap_qvl::config::{Config, CryptoProvider, EcdsaSigEncoder as _};
use dcap_qvl::signature::DerSigEncoder;
use dcap_qvl::verify::QuoteVerifier;
use dcap_qvl::x509::X509CertBackend;
use dcap_qvl::{QuoteClaims, QuoteCollateralV3, QuotePolicy};
use keyhearth_crypto::algorithm::{Algorithm, Mechanism};
use keyhearth_crypto::digest;
use keyhearth_crypto::key::{Input, PublicKey};
use rustls_pki_types::{AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm, alg_id};

use crate::claims::printable;
use crate::reason::{Reason, Refusal};

/// What `dcap-qvl` calculates with.
pub(super) struct Backend;

impl Config for Backend {
    type X509 = X509CertBackend;
    type SigEncoder = DerSigEncoder;
    type Crypto = Self;
}

impl CryptoProvider for Backend {
    fn sig_algo() -> &'static dyn SignatureVerificationAlgorithm {
        &EcdsaP256Sha256
    }

    fn sha256(data: &[u8]) -> [u8; 32] {
        digest::sha256(&[data])
    }

    fn sha384(data: &[u8]) -> [u8; 48] {
        digest::sha384(data)
    }
}

#[derive(Debug)]
struct EcdsaP256Sha256;

impl SignatureVerificationAlgorithm for EcdsaP256Sha256 {
    fn verify_signature(&self, key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), InvalidSignature> {
        let key = PublicKey::from_der(Algorithm::EcP256, key).map_err(|_| InvalidSignature)?;
        key.verify(Mechanism::EcdsaSha256, Input::Message(message), signature).map_err(|_| InvalidSignature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::ECDSA_P256
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::ECDSA_SHA256
    }
}

/// Verifies a quote. Whether the level of the platform is good enough is for the caller to say.
pub(super) fn verify(
    quote: &[u8],
    collateral: QuoteCollateralV3,
    root: &[u8],
    now_s: u64,
) -> Result<QuoteClaims, Refusal> {
    let verifier = QuoteVerifier::<Backend>::new_with_config(root.to_vec());
    let claims = verifier.verify_with_policy(quote, collateral, now_s, &QuotePolicy::claims_only(now_s));
    claims.map_err(|error| {
        let sentence = format!("{error:#}");
        let row = SENTENCES.iter().find(|(part, _)| sentence.contains(part));
        row.map_or(Reason::TdxUnverified, |(_, reason)| *reason).because(printable(&sentence))
    })
}

/// What `dcap-qvl` says, and what we call it. The first row of which a part is found counts.
const SENTENCES: &[(&str, Reason)] = &[
    ("TCBInfo issue date is in the future", Reason::TdxTcbInfoStale),
    ("TCBInfo expired", Reason::TdxTcbInfoStale),
    ("Signature is invalid for tcb_info", Reason::TdxTcbInfoSignature),
    ("QE Identity issue date is in the future", Reason::TdxQeIdentityStale),
    ("QE Identity expired", Reason::TdxQeIdentityStale),
    ("Signature is invalid for qe_identity", Reason::TdxQeIdentitySignature),
    ("Failed to decode TcbInfo", Reason::TdxCollateralMalformed),
    ("Failed to decode QeIdentity", Reason::TdxCollateralMalformed),
    ("Failed to parse TCB Info", Reason::TdxCollateralMalformed),
    ("Failed to parse QE Identity", Reason::TdxCollateralMalformed),
    ("Unsupported QE Identity", Reason::TdxCollateralMalformed),
    ("non-TDX TCB info", Reason::TdxCollateralMalformed),
    ("Unrecognized TCB status", Reason::TdxCollateralMalformed),
    ("component count mismatch", Reason::TdxCollateralMalformed),
    ("missing tdxModule", Reason::TdxCollateralMalformed),
    ("No TCB levels found", Reason::TdxCollateralMalformed),
    ("as hex", Reason::TdxCollateralMalformed),
    ("has invalid length", Reason::TdxCollateralMalformed),
    ("tcbDate", Reason::TdxCollateralMalformed),
    ("TCB date", Reason::TdxCollateralMalformed),
    ("QE report hash mismatch", Reason::TdxAttestationKey),
    ("Invalid QE auth data length", Reason::TdxAttestationKey),
    ("QE report validation failed", Reason::TdxQeDiffers),
    ("QE MRSIGNER mismatch", Reason::TdxQeDiffers),
    ("QE ISVPRODID mismatch", Reason::TdxQeDiffers),
    ("QE MISCSELECT mismatch", Reason::TdxQeDiffers),
    ("QE ATTRIBUTES mismatch", Reason::TdxQeDiffers),
    ("QE ISVSVN", Reason::TdxTcbUnknown),
    ("ISV enclave report signature is invalid", Reason::TdxSignature),
    ("No matching TCB level", Reason::TdxTcbUnknown),
    ("TDX module ISVSVN", Reason::TdxTcbUnknown),
    ("No TDX module identity", Reason::TdxTcbUnknown),
    ("TDX module MRSIGNER mismatch", Reason::TdxModuleSigner),
    ("TDX module SEAMATTRIBUTES", Reason::TdxModuleAttributes),
    ("TCB status is invalid: Revoked", Reason::TdxTcbStatus),
    ("Debug mode is enabled", Reason::TdxDebug),
    ("TD profiling is enabled", Reason::TdxDebug),
    ("Reserved bits in TD attributes", Reason::TdxAttributes),
    ("TD migration is enabled", Reason::TdxMigration),
    ("SERVTD_EXT is enabled", Reason::TdxServiceTd),
    ("Invalid MR service TD", Reason::TdxServiceTd),
    ("SEPT_VE_DISABLE is not enabled", Reason::TdxSeptVe),
];

/// A signature, two numbers of 32 bytes, as DER; nothing if it has another length.
pub(super) fn der_signature(numbers: &[u8]) -> Vec<u8> {
    let encoded = numbers.split_at_checked(32).map(|(r, s)| DerSigEncoder::encode_ecdsa_sig(r, s));
    encoded.and_then(Result::ok).unwrap_or_default()
}
