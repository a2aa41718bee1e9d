//! What a verified report says, in words.

use serde::Serialize;

use super::report::Report;
use super::tcb::{Generation, Tcb};
use super::vek::{Signer, Vek};
use crate::claims::Bytes;

/// What only SEV-SNP says. Records of one level (`policy`, `platform`, the four TCBs) group what belongs together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SnpClaims {
    /// Version of the report, 2 to 5.
    pub report_version: u32,
    /// Generation of the processor: `milan`, `genoa`, `turin`.
    pub generation: Generation,
    /// AMD's name of the product, as the certificate has it: `Milan-B0`.
    pub product: String,
    /// Whose key signed: `vcek` or `vlek`. Milan with VCEK is of reduced assurance: the secret that VCEKs are
    /// derived from was extracted from such chips (arXiv 2605.12990).
    pub signer: Signer,
    /// The cloud that a VLEK was given to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// The chip, 64 bytes; absent if the host hides it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chip_id: Option<Bytes>,
    /// The VM as it was launched: firmware, and what the firmware measures; 48 bytes.
    pub measurement: Bytes,
    /// What the host stated at launch, 32 bytes; only as true as what measured it.
    pub host_data: Bytes,
    /// SHA-384 of the key that signed the ID block; absent without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id_key_digest: Option<Bytes>,
    /// SHA-384 of the key that signed the ID key; absent without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author_key_digest: Option<Bytes>,
    /// Family of the image, of the ID block; 16 bytes.
    pub family_id: Bytes,
    /// The image, of the ID block; 16 bytes.
    pub image_id: Bytes,
    /// Security version of the image, of the ID block.
    pub guest_svn: u32,
    /// The privilege level that asked for the report; 0 is the most privileged one.
    pub vmpl: u32,
    /// This VM since its launch, 32 bytes; no other VM has the same.
    pub report_id: Bytes,
    /// The VM's migration agent; absent without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report_id_ma: Option<Bytes>,
    /// What the host may do with the VM.
    pub policy: Policy,
    /// How the platform is configured.
    pub platform: Platform,
    /// The firmware level that the host reports, and that the signing key is derived for.
    pub reported_tcb: Tcb,
    /// The firmware level below which the host cannot go back.
    pub committed_tcb: Tcb,
    /// The firmware level that runs.
    pub current_tcb: Tcb,
    /// The firmware level that ran when the VM was launched.
    pub launch_tcb: Tcb,
}

impl SnpClaims {
    pub(super) fn new(report: &Report<'_>, vek: &Vek<'_>) -> Self {
        let tcb = |bytes: &[u8; 8]| Tcb::read(vek.generation, *bytes);
        let no_agent = report.report_id_ma().iter().all(|byte| *byte == 0xff);
        let author = report.has_author_key().then(|| Bytes::unless_zero(report.author_key_digest()));
        Self {
            report_version: report.version(),
            generation: vek.generation,
            product: vek.product.to_owned(),
            signer: if vek.provider.is_some() { Signer::Vlek } else { Signer::Vcek },
            provider: vek.provider.map(str::to_owned),
            chip_id: Bytes::unless_zero(report.chip_id()),
            measurement: report.measurement().as_slice().into(),
            host_data: report.host_data().as_slice().into(),
            id_key_digest: Bytes::unless_zero(report.id_key_digest()),
            author_key_digest: author.flatten(),
            family_id: report.family_id().as_slice().into(),
            image_id: report.image_id().as_slice().into(),
            guest_svn: report.guest_svn(),
            vmpl: report.vmpl(),
            report_id: report.report_id().as_slice().into(),
            report_id_ma: (!no_agent).then(|| report.report_id_ma().as_slice().into()),
            policy: Policy::read(report.policy()),
            platform: Platform::read(report.platform()),
            reported_tcb: tcb(report.reported_tcb()),
            committed_tcb: tcb(report.committed_tcb()),
            current_tcb: tcb(report.current_tcb()),
            launch_tcb: tcb(report.launch_tcb()),
        }
    }
}

macro_rules! bits {
    ($(#[$doc:meta])+ $name:ident { $($(#[$bit_doc:meta])+ $field:ident = $bit:literal;)+ } $(and {
        $($(#[$byte_doc:meta])+ $byte:ident = byte $index:literal;)+ })?) => {
        $(#[$doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
        #[allow(clippy::struct_excessive_bools, reason = "bits of a register")]
        pub struct $name { $($($(#[$byte_doc])+ pub $byte: u8,)+)? $($(#[$bit_doc])+ pub $field: bool,)+ }

        impl $name {
            fn read(value: u64) -> Self {
                Self {
                    $($($byte: value.to_le_bytes()[$index],)+)?
                    $($field: value >> $bit & 1 == 1,)+
                }
            }
        }
    };
}

bits! {
    /// The guest policy, which the VM's owner chose at launch.
    ///
    /// Source: AMD 56860 §4.3.
    Policy {
        /// Two VMs may share a core.
        smt = 16;
        /// A migration agent may be bound to the VM.
        migrate_ma = 18;
        /// The host may read and write the VM's memory.
        debug = 19;
        /// The VM runs on one socket only.
        single_socket = 20;
        /// CXL devices or memory may be attached.
        cxl = 21;
        /// Memory must be encrypted with AES-256-XTS.
        memory_aes_256_xts = 22;
        /// Power measurement (RAPL) must be disabled.
        rapl_disabled = 23;
        /// The host must not see ciphertext of the VM's memory.
        ciphertext_hiding = 24;
        /// The host must not move or swap pages.
        page_swap_disabled = 25;
    } and {
        /// The least minor version of the firmware's ABI.
        abi_minor = byte 0;
        /// The least major version of the firmware's ABI.
        abi_major = byte 1;
    }
}

bits! {
    /// How the platform is configured, as the firmware reports it.
    ///
    /// Source: AMD 56860 §7.3 (PLATFORM_INFO).
    Platform {
        /// Simultaneous multithreading is on.
        smt = 0;
        /// All memory is encrypted.
        tsme = 1;
        /// Memory has error correction.
        ecc = 2;
        /// Power measurement (RAPL) is disabled.
        rapl_disabled = 3;
        /// The host does not see ciphertext.
        ciphertext_hiding = 4;
        /// Memory was found free of aliases since the last reset (CVE-2024-21944, BadRAM).
        alias_check_complete = 5;
        /// Trusted IO is on.
        tio = 7;
    }
}
