//! What a verified quote says, in words.

use std::collections::BTreeMap;

use serde::Serialize;

use super::key::AttestationKey;
use super::quote::Quote;
use crate::claims::Bytes;
use crate::eventlog::BootFacts;

/// Why the attestation key (AK) is believed to be a TPM's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AkTrust {
    /// The caller knows the key: the machine was enrolled with it.
    Enrolled,
    /// A verified hardware report names the key, as that of the TPM in Azure's paravisor.
    Azure,
}

/// What only a TPM says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TpmClaims {
    /// SHA-256 of the attestation key as `SubjectPublicKeyInfo`.
    pub ak: Bytes,
    /// Why the key is believed to be a TPM's.
    pub ak_trust: AkTrust,
    /// Whether the host must be trusted not to say what it likes: true unless hardware vouches for the TPM.
    pub vtpm_host_trusted: bool,
    /// PCRs of the SHA-256 bank that were quoted, by index.
    pub pcrs: BTreeMap<u8, Bytes>,
    /// Milliseconds that the TPM was on, as far as it knows.
    pub clock_ms: u64,
    /// Whether the clock never showed a later time than this before.
    pub clock_safe: bool,
    /// How often the TPM was started from nothing. Two machines that were one until they were copied count alike.
    pub reset_count: u32,
    /// How often it was resumed since.
    pub restart_count: u32,
    /// The maker's number of the TPM's firmware, 8 bytes.
    pub tpm_firmware: Bytes,
    /// What the event log tells; absent without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot: Option<BootFacts>,
}

impl TpmClaims {
    pub(super) fn new(
        quote: &Quote<'_>,
        ak: &AttestationKey,
        ak_trust: AkTrust,
        pcrs: &super::Pcrs,
        boot: Option<BootFacts>,
    ) -> Self {
        Self {
            ak: ak.fingerprint().as_slice().into(),
            ak_trust,
            vtpm_host_trusted: match ak_trust {
                AkTrust::Enrolled => true,
                AkTrust::Azure => false,
            },
            pcrs: pcrs.iter().map(|(index, value)| (*index, value.as_slice().into())).collect(),
            clock_ms: quote.clock_ms,
            clock_safe: quote.clock_safe,
            reset_count: quote.reset_count,
            restart_count: quote.restart_count,
            tpm_firmware: quote.firmware_version.to_be_bytes().as_slice().into(),
            boot,
        }
    }
}
