//! What a verified quote says, in words.

use serde::Serialize;

use super::Guest;
use super::pck::Platform;
use super::quote::Quote;
use super::tcb::Verdict;
use crate::claims::Bytes;
use crate::eventlog::BootFacts;
use crate::reason::{Reason, Refusal};

/// What only TDX says. The records `attributes` and `certified` group what belongs together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TdxClaims {
    /// Version of the quote, 4 or 5.
    pub quote_version: u16,
    /// The TD as it was built: firmware, and what is measured with it; 48 bytes.
    pub mrtd: Bytes,
    /// What was measured since, by the firmware's configuration (0), boot loader and kernel (1), initramfs and
    /// command line (2) and applications (3), as far as they keep to the convention; 48 bytes each.
    pub rtmr0: Bytes,
    /// See `rtmr0`.
    pub rtmr1: Bytes,
    /// See `rtmr0`.
    pub rtmr2: Bytes,
    /// See `rtmr0`.
    pub rtmr3: Bytes,
    /// What the host stated at launch of how the TD is configured, 48 bytes; absent if zero.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mr_config_id: Option<Bytes>,
    /// What the host stated of the TD's owner, 48 bytes; absent if zero.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mr_owner: Option<Bytes>,
    /// What the host stated of how the owner configured it, 48 bytes; absent if zero.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mr_owner_config: Option<Bytes>,
    /// What the TD may do and what may be done to it.
    pub attributes: Attributes,
    /// Processor features that the TD may use, as `XCR0` has them; 8 bytes, the lowest first.
    pub xfam: Bytes,
    /// This TD since its launch, 32 bytes; only of reports of TDX 1.5 extended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub td_id: Option<Bytes>,
    /// The TDX module, 48 bytes.
    pub mr_seam: Bytes,
    /// Who signed the TDX module, 48 bytes; absent for Intel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mr_signer_seam: Option<Bytes>,
    /// Major version of the TDX module.
    pub seam_version: u8,
    /// Security version of the TDX module when the TD was launched.
    pub seam_svn: u8,
    /// All security versions of TDX when the TD was launched, 16 bytes.
    pub tee_tcb_svn: Bytes,
    /// The same now, which differs after the module was replaced under the TD; only of TDX 1.5.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tee_tcb_svn_now: Option<Bytes>,
    /// What Intel calls the platform's level: `UpToDate`, or `SWHardeningNeeded` if that was asked for.
    pub tcb_status: String,
    /// What Intel published about the platform's level: `INTEL-SA-00837`.
    pub advisories: Vec<String>,
    /// When Intel published the level of the platform, or of its TDX module if that is older; RFC 3339.
    pub tcb_date: String,
    /// The number of Intel's evaluation that TCB info (or QE identity, if less) comes from. It grows; who gives an
    /// old one hides what was found since, so a policy asks for at least some number.
    pub tcb_evaluation_data_number: u32,
    /// The platform, as its certificate says.
    pub certified: Certified,
    /// What the event log tells of the boot; absent without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot: Option<BootFacts>,
}

/// What the platform's certificate (PCK) says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Certified {
    /// The kind of platform: processor and configuration; 6 bytes.
    pub fmspc: Bytes,
    /// The processor package that the certificate was issued for (PPID), 16 bytes.
    pub ppid: Bytes,
    /// The platform since its keys were last made, 16 bytes; absent for single packages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform_instance_id: Option<Bytes>,
    /// Security versions of the processor, 16 bytes.
    pub cpu_svn: Bytes,
    /// Security version of the enclave that certifies (PCE).
    pub pce_svn: u16,
    /// Whether multithreading is on; absent if the certificate does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub smt: Option<bool>,
    /// Whether packages may be added to the platform.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dynamic_platform: Option<bool>,
    /// Whether Intel keeps the platform's root keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cached_keys: Option<bool>,
}

/// What the TD may do. Debugging, profiling, migration and service TDs are refused, and so not here.
///
/// Source: Intel 348551 §3.4.1 (`ATTRIBUTES`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[allow(clippy::struct_excessive_bools, reason = "bits of a register")]
pub struct Attributes {
    /// Single steps by the host are defended against by counting instructions.
    pub icssd: bool,
    /// Separation of linear address spaces may be used.
    pub lass: bool,
    /// Pages that the host takes away stop the TD and do not reach its exception handlers. Always true, but on Azure.
    pub sept_ve_disable: bool,
    /// Protection keys for supervisor pages may be used.
    pub pks: bool,
    /// Key Locker may be used.
    pub key_locker: bool,
    /// The TD provisions devices (TDX Connect).
    pub tpa: bool,
    /// Performance counters may be used.
    pub perfmon: bool,
}

const DEBUG_AND_PROFILING: u64 = 1 | 0b111 << 4;
const SERVTD_EXT: u64 = 1 << 17;
const MIGRATABLE: u64 = 1 << 29;
/// Those that a TD may have: the members of [`Attributes`].
const HARMLESS: u64 = 1 << 16 | 0b11 << 27 | 0b11 << 30 | 0b11 << 62;

impl Attributes {
    /// Reads them, and refuses those that open the TD to the host, those that another TD rests on, and those that
    /// nobody knows.
    pub(super) fn read(value: u64, guest: Guest) -> Result<Self, Refusal> {
        let bit = |bit: u32| value >> bit & 1 == 1;
        for (refused, reason) in [
            (DEBUG_AND_PROFILING, Reason::TdxDebug),
            (MIGRATABLE, Reason::TdxMigration),
            (SERVTD_EXT, Reason::TdxServiceTd),
            (!HARMLESS, Reason::TdxAttributes),
        ] {
            if value & refused != 0 {
                return Err(reason.because(format!("attributes {value:#018x}")));
            }
        }
        if !bit(28) && guest == Guest::Kernel {
            return Err(Reason::TdxSeptVe.into());
        }
        Ok(Self {
            icssd: bit(16),
            lass: bit(27),
            sept_ve_disable: bit(28),
            pks: bit(30),
            key_locker: bit(31),
            tpa: bit(62),
            perfmon: bit(63),
        })
    }
}

impl TdxClaims {
    pub(super) fn new(
        quote: &Quote<'_>,
        platform: &Platform,
        attributes: Attributes,
        verdict: Verdict,
        tcb_evaluation_data_number: u32,
    ) -> Self {
        let report = quote.report;
        let bytes = |field: &[u8]| Bytes::from(field);
        let [seam_svn, seam_version, ..] = *report.tee_tcb_svn();
        let [rtmr0, rtmr1, rtmr2, rtmr3] = report.rtmrs().map(|rtmr| bytes(rtmr));
        Self {
            quote_version: quote.version,
            mrtd: bytes(report.mrtd()),
            rtmr0,
            rtmr1,
            rtmr2,
            rtmr3,
            mr_config_id: Bytes::unless_zero(report.mr_config_id()),
            mr_owner: Bytes::unless_zero(report.mr_owner()),
            mr_owner_config: Bytes::unless_zero(report.mr_owner_config()),
            attributes,
            xfam: bytes(report.xfam()),
            td_id: report.td_id().map(|id| bytes(id)),
            mr_seam: bytes(report.mr_seam()),
            mr_signer_seam: Bytes::unless_zero(report.mr_signer_seam()),
            seam_version,
            seam_svn,
            tee_tcb_svn: bytes(report.tee_tcb_svn()),
            tee_tcb_svn_now: report.tee_tcb_svn_now().map(|svns| bytes(svns)),
            tcb_status: verdict.status,
            advisories: verdict.advisories,
            tcb_date: verdict.date,
            tcb_evaluation_data_number,
            certified: Certified::new(platform),
            boot: None,
        }
    }
}

impl Certified {
    fn new(platform: &Platform) -> Self {
        Self {
            fmspc: Bytes::from(&platform.fmspc[..]),
            ppid: Bytes::from(&platform.ppid[..]),
            platform_instance_id: platform.instance_id.map(|id| Bytes::from(&id[..])),
            cpu_svn: Bytes::from(&platform.cpu_svn[..]),
            pce_svn: platform.pce_svn,
            smt: platform.smt,
            dynamic_platform: platform.dynamic,
            cached_keys: platform.cached_keys,
        }
    }
}
