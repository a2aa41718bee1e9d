//! What the caller requires of evidence, besides that it is true.

/// Bytes of report data in evidence; shorter ones are followed by zeroes.
pub const REPORT_DATA_BYTES: usize = 64;

/// What the caller requires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demands {
    /// What the evidence must carry as report data, a TPM's quote as its SHA-256; absent only where freshness does
    /// not matter.
    pub report_data: Option<[u8; REPORT_DATA_BYTES]>,
    /// The time, in seconds since 1970 UTC.
    pub now_s: u64,
    /// What is required of revocation lists for SNP. TDX evidence always needs them.
    pub revocation: Revocation,
    /// The privilege level that must have asked for an SNP report: 0 is the most privileged one.
    pub vmpl: u32,
    /// Whether SNP reports of version 2 will do, which do not name the processor's generation.
    pub legacy_reports: bool,
    /// Whether TDX platforms will do on which Intel says that software must be hardened (`SWHardeningNeeded`).
    pub sw_hardening: bool,
    /// The only migration agent that a VM may be bound to, by its report id; without one, none.
    pub migration_agent: Option<[u8; 32]>,
    /// The attestation keys (AK) of TPMs that machines were enrolled with, each as SHA-256 of its `SubjectPublicKeyInfo`.
    pub enrolled_aks: Vec<[u8; 32]>,
}

impl Demands {
    /// Strict ones at a time: no particular report data, current revocation lists, VMPL 0, nothing legacy, no TPM.
    #[must_use]
    pub fn at(now_s: u64) -> Self {
        Self {
            report_data: None,
            now_s,
            revocation: Revocation::Demanded,
            vmpl: 0,
            legacy_reports: false,
            sw_hardening: false,
            migration_agent: None,
            enrolled_aks: Vec::new(),
        }
    }
}

/// What is required of revocation lists. What a list says that is authentic always counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revocation {
    /// A list that is in force must have been given (hard fail).
    Demanded,
    /// Without a list, or with one whose time is over, the claims say so (soft fail).
    IfGiven,
}
