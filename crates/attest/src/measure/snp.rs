//! The launch digest of an SNP guest: what its reports claim as `measurement`.
//!
//! Each page that the host puts into the guest extends the digest: the firmware, what the firmware asks for, and the
//! registers of each virtual processor. Hashes of kernel, initial ramdisk and command line are one of these pages, so
//! that a firmware that looks at it (OVMF's AmdSev build) starts no other kernel.
//!
//! Source: AMD 56860 (SNP Firmware ABI) rev. 1.55 §8.17 (`SNP_LAUNCH_UPDATE`, with `PAGE_INFO`); AMD 24593 (APM volume 2) rev.
//! 3.42 table 14-1 (registers after reset) and table B-4 (VMSA); QEMU, `target/i386/sev.c` (table of hashes).

use keyhearth_crypto::digest::{sha256, sha384};

use super::MeasureError;
use super::ovmf::{self, Kind, Ovmf};

/// Bytes of a launch digest.
pub const DIGEST_BYTES: usize = 48;
/// The most virtual processors: more than hosts have.
pub const VCPUS_MAX: u32 = 4096;
/// The longest firmware that is measured.
pub const FIRMWARE_BYTES_MAX: usize = ovmf::FIRMWARE_BYTES_MAX;

pub(super) const PAGE_BYTES: usize = 4096;

/// What a host starts an SNP guest with.
#[derive(Clone, Copy, Debug)]
pub struct Guest<'a> {
    /// OVMF, as one file with code and no variables.
    pub firmware: &'a [u8],
    /// What is started without a boot loader (`-kernel`), if anything.
    pub kernel: Option<Kernel<'a>>,
    /// Virtual processors, 1 to [`VCPUS_MAX`].
    pub vcpus: u32,
    /// Their type.
    pub vcpu_type: VcpuType,
    /// `SEV_FEATURES` of each processor: 1 is SNP alone, 0x21 SNP with debug registers that are swapped (`debug_swap` of
    /// KVM).
    pub guest_features: u64,
    /// The hypervisor.
    pub vmm: Vmm,
}

/// What a guest starts without a boot loader.
#[derive(Clone, Copy, Debug)]
pub struct Kernel<'a> {
    /// The file.
    pub kernel: &'a [u8],
    /// The initial ramdisk; empty if there is none.
    pub initrd: &'a [u8],
    /// The command line as the host gives it, without a zero at its end.
    pub command_line: &'a str,
}

macro_rules! vcpu_types {
    ($($(#[$doc:meta])+ $variant:ident $name:literal $family:literal $model:literal $stepping:literal;)+) => {
        /// Types of virtual processors. Their versions (`EPYC-Milan-v2`) are measured alike.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum VcpuType { $($(#[$doc])+ $variant,)+ }

        impl VcpuType {
            /// Every type.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// Its name in QEMU.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// Family, model and stepping as CPUID gives them in `EAX` of function 1.
            const fn signature(self) -> u32 {
                match self { $(Self::$variant => signature($family, $model, $stepping),)+ }
            }
        }
    };
}

vcpu_types! {
    /// Naples.
    Naples "EPYC" 23 1 2;
    /// Rome.
    Rome "EPYC-Rome" 23 49 0;
    /// Milan.
    Milan "EPYC-Milan" 25 1 1;
    /// Genoa.
    Genoa "EPYC-Genoa" 25 17 0;
    /// Turin.
    Turin "EPYC-Turin" 26 0 0;
}

impl VcpuType {
    /// The type with this name, whatever its version.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let version = |rest: &str| rest == "-IBPB" || rest.strip_prefix("-v").is_some_and(is_number);
        let known = |kind: &&Self| {
            name.strip_prefix(kind.name()).is_some_and(|rest| rest.is_empty() || version(rest))
        };
        Self::ALL.iter().find(known).copied()
    }
}

fn is_number(text: &str) -> bool {
    (1..=2).contains(&text.len()) && text.bytes().all(|digit| digit.is_ascii_digit())
}

/// Source: AMD 25481 (CPUID), Fn0000_0001_EAX. Families here are above 15.
const fn signature(family: u32, model: u32, stepping: u32) -> u32 {
    (family - 15) << 20 | model >> 4 << 16 | 15 << 8 | (model & 15) << 4 | stepping
}

/// Hypervisors, which start processors with registers of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vmm {
    /// QEMU.
    Qemu,
    /// Amazon EC2.
    Ec2,
}

/// Computes the launch digest.
///
/// # Errors
/// [`MeasureError::Firmware`], [`MeasureError::NoKernelHashes`], [`MeasureError::Vcpus`].
pub fn launch_digest(guest: &Guest<'_>) -> Result<[u8; DIGEST_BYTES], MeasureError> {
    if guest.vcpus == 0 || guest.vcpus > VCPUS_MAX {
        return Err(MeasureError::Vcpus);
    }
    let ovmf = Ovmf::parse(guest.firmware)?;
    let hashes = guest.kernel.as_ref().map(|kernel| hashes_page(kernel, &ovmf)).transpose()?;
    let mut digest = Digest([0; DIGEST_BYTES]);
    let below_4_gib = (1 << 32) - guest.firmware.len() as u64;
    for (page, address) in guest.firmware.chunks(PAGE_BYTES).zip((below_4_gib..).step_by(PAGE_BYTES)) {
        digest.extend(PageType::Normal, address, &sha384(page));
    }
    let cpuid_is_last = guest.vmm == Vmm::Ec2;
    for section in ovmf.sections.iter().filter(|section| section.kind != Kind::Cpuid || !cpuid_is_last) {
        digest.extend_section(section, hashes.as_deref());
    }
    for section in ovmf.sections.iter().filter(|section| section.kind == Kind::Cpuid && cpuid_is_last) {
        digest.extend_section(section, None);
    }
    for vcpu in 0..guest.vcpus {
        let start = if vcpu == 0 { FIRST_START } else { ovmf.reset_address };
        digest.extend(PageType::Registers, REGISTERS_ADDRESS, &sha384(&registers(guest, start)));
    }
    Ok(digest.0)
}

#[derive(Clone, Copy)]
enum PageType {
    Normal = 1,
    Registers = 2,
    Zero = 3,
    Secrets = 5,
    Cpuid = 6,
}

/// Pages of registers are no guest's memory; all are measured at this address.
const REGISTERS_ADDRESS: u64 = 0xffff_ffff_f000;

struct Digest([u8; DIGEST_BYTES]);

impl Digest {
    /// Extends by a page: `PAGE_INFO`, with the digest of what the page holds.
    fn extend(&mut self, kind: PageType, address: u64, contents: &[u8; DIGEST_BYTES]) {
        let length = 0x70_u16.to_le_bytes();
        // After the type: not an initial migration image, and no permissions of lower privilege levels.
        let (kind, rest) = ([kind as u8], [0; 5]);
        let info = [&self.0[..], contents, &length, &kind, &rest, &address.to_le_bytes()].concat();
        self.0 = sha384(&info);
    }

    fn extend_section(&mut self, section: &ovmf::Section, hashes: Option<&[u8]>) {
        let zero = [0; DIGEST_BYTES];
        match (section.kind, hashes) {
            (Kind::Secrets, _) => self.extend(PageType::Secrets, section.address, &zero),
            (Kind::Cpuid, _) => self.extend(PageType::Cpuid, section.address, &zero),
            (Kind::KernelHashes, Some(page)) => self.extend(PageType::Normal, section.address, &sha384(page)),
            (Kind::Zero | Kind::KernelHashes, _) => {
                let end = section.address + section.bytes;
                for address in (section.address..end).step_by(PAGE_BYTES) {
                    self.extend(PageType::Zero, address, &zero);
                }
            }
        }
    }
}

const HASHES: [u8; 16] =
    [0x06, 0xd6, 0x38, 0x94, 0x22, 0x4f, 0xc9, 0x4c, 0xb4, 0x79, 0xa7, 0x93, 0xd4, 0x11, 0xfd, 0x21];
const COMMAND_LINE: [u8; 16] =
    [0xd8, 0x2d, 0xd0, 0x97, 0x20, 0xbd, 0x94, 0x4c, 0xaa, 0x78, 0xe7, 0x71, 0x4d, 0x36, 0xab, 0x2a];
const INITRD: [u8; 16] =
    [0x31, 0xf7, 0xba, 0x44, 0x2f, 0x3a, 0xd7, 0x4b, 0x9a, 0xf1, 0x41, 0xe2, 0x91, 0x69, 0x78, 0x1d];
const KERNEL: [u8; 16] =
    [0x37, 0x94, 0xe7, 0x4d, 0xd2, 0xab, 0x7f, 0x42, 0xb8, 0x35, 0xd5, 0xb1, 0x72, 0xd2, 0x04, 0x5b];

/// The page with the table of hashes, which lies where the firmware says.
fn hashes_page(kernel: &Kernel<'_>, ovmf: &Ovmf) -> Result<Vec<u8>, MeasureError> {
    let entry = |guid: [u8; 16], hash: [u8; 32]| [&guid[..], &50_u16.to_le_bytes(), &hash].concat();
    let entries = [
        entry(COMMAND_LINE, sha256(&[kernel.command_line.as_bytes(), &[0]])),
        entry(INITRD, sha256(&[kernel.initrd])),
        entry(KERNEL, sha256(&[kernel.kernel])),
    ];
    let table = [&HASHES[..], &168_u16.to_le_bytes(), &entries.concat()].concat();
    let mut sections = ovmf.sections.iter().filter(|section| section.kind == Kind::KernelHashes);
    let (Some(address), Some(section)) = (ovmf.hashes_address, sections.next()) else {
        return Err(MeasureError::NoKernelHashes);
    };
    let mut page = vec![0; PAGE_BYTES];
    let offset = u64::from(address).checked_sub(section.address).and_then(|offset| offset.try_into().ok());
    let place = offset.and_then(|offset: usize| page.get_mut(offset..offset.checked_add(table.len())?));
    match place {
        Some(place) if section.bytes == PAGE_BYTES as u64 && sections.next().is_none() => {
            place.copy_from_slice(&table);
            Ok(page)
        }
        _ => Err(MeasureError::Firmware("the table of hashes is not in a page of its own")),
    }
}

/// Where the first processor starts.
const FIRST_START: u32 = 0xffff_fff0;

/// The page of a processor that starts at this address (VMSA).
fn registers(guest: &Guest<'_>, start: u32) -> Vec<u8> {
    let (code, stack, task, rdx, mxcsr, x87) = match guest.vmm {
        Vmm::Qemu => (0x9b, 0x93, 0x8b, guest.vcpu_type.signature(), 0x1f80, 0x037f),
        Vmm::Ec2 if start == FIRST_START => (0x9a, 0x92, 0x83, 0, 0, 0),
        Vmm::Ec2 => (0x9b, 0x92, 0x83, 0, 0, 0),
    };
    let mut page = vec![0; PAGE_BYTES];
    let mut put = |offset: usize, bytes: &[u8]| page[offset..offset + bytes.len()].copy_from_slice(bytes);
    let (base, offset) = (start & 0xffff_0000, start & 0xffff);
    // Selector, attributes, limit and base of ES, CS, SS, DS, FS, GS, GDTR, LDTR, IDTR and TR.
    let segments: [(u16, u16, u32); 10] = [
        (0, 0x93, 0),
        (0xf000, code, base),
        (0, stack, 0),
        (0, 0x93, 0),
        (0, 0x93, 0),
        (0, 0x93, 0),
        (0, 0, 0),
        (0, 0x82, 0),
        (0, 0, 0),
        (0, task, 0),
    ];
    for (index, (selector, attributes, base)) in segments.into_iter().enumerate() {
        put(16 * index, &selector.to_le_bytes());
        put(16 * index + 2, &attributes.to_le_bytes());
        put(16 * index + 4, &0xffff_u32.to_le_bytes());
        put(16 * index + 8, &base.to_le_bytes());
    }
    let registers: [(usize, u64); 12] = [
        (0x0d0, 0x1000),                // EFER: SVME
        (0x148, 0x40),                  // CR4: MCE
        (0x158, 0x10),                  // CR0: ET
        (0x160, 0x400),                 // DR7
        (0x168, 0xffff_0ff0),           // DR6
        (0x170, 0x2),                   // RFLAGS
        (0x178, offset.into()),         // RIP
        (0x268, 0x0007_0406_0007_0406), // PAT
        (0x310, rdx.into()),            // RDX
        (0x3b0, guest.guest_features),  // SEV_FEATURES
        (0x3e8, 0x1),                   // XCR0
        (0x408, mxcsr),                 // MXCSR
    ];
    registers.into_iter().for_each(|(offset, value)| put(offset, &value.to_le_bytes()));
    let x87: u16 = x87;
    put(0x410, &x87.to_le_bytes());
    page
}
