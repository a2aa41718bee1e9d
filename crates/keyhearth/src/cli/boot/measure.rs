//! `boot measure`: reference values for policies, before a machine has them. Names are those of the claims that they are
//! compared with.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use keyhearth_attest::Bytes;
use keyhearth_attest::measure::MeasureError;
use keyhearth_attest::measure::snp::{
    FIRMWARE_BYTES_MAX, Guest, Kernel, VCPUS_MAX, VcpuType, Vmm, launch_digest,
};
use keyhearth_attest::measure::uki::{self, IMAGE_BYTES_MAX};
use serde::Serialize;

use super::show::show;
use crate::cli::failure::Failure;
use crate::cli::input;
use crate::cli::session::Session;

/// The longest kernel or initial ramdisk.
const FILE_BYTES_MAX: usize = 1 << 30;

#[derive(Subcommand)]
pub enum Subject {
    /// The launch digest of an SNP guest: the claim `measurement`
    Snp(Snp),
    /// The PCRs of a unified kernel image
    Uki(Uki),
}

#[derive(Args)]
pub struct Snp {
    /// The firmware (OVMF), one file without variables.
    #[arg(long, value_name = "FILE")]
    ovmf: PathBuf,
    /// The kernel that is started without a boot loader.
    #[arg(long, value_name = "FILE")]
    kernel: Option<PathBuf>,
    /// Its initial ramdisk.
    #[arg(long, value_name = "FILE", requires = "kernel")]
    initrd: Option<PathBuf>,
    /// Its command line, exactly as the host gives it.
    #[arg(long, value_name = "TEXT", requires = "kernel", default_value = "")]
    cmdline: String,
    /// How many virtual processors the guest has.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(VCPUS_MAX)))]
    vcpus: u32,
    /// Their type as QEMU names it: `EPYC-Milan`, `EPYC-Genoa-v1`.
    #[arg(long, value_name = "TYPE", value_parser = vcpu_type)]
    vcpu_type: VcpuType,
    /// `SEV_FEATURES` of the guest: 0x1 is SNP alone, 0x21 SNP where KVM swaps debug registers.
    #[arg(long, value_name = "BITS", default_value = "0x1", value_parser = bits)]
    guest_features: u64,
    /// The hypervisor.
    #[arg(long, value_enum, default_value_t = Hypervisor::Qemu)]
    vmm: Hypervisor,
}

#[derive(Args)]
pub struct Uki {
    /// The image, signed or not: exactly the one that is booted.
    #[arg(long, value_name = "FILE")]
    uki: PathBuf,
    /// The machine has Secure Boot turned on.
    #[arg(long)]
    secure_boot: bool,
}

/// Hypervisors by name.
#[derive(Clone, Copy, ValueEnum)]
enum Hypervisor {
    Qemu,
    Ec2,
}

impl Subject {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::Snp(snp) => show(session, &snp.measure()?),
            Self::Uki(uki) => {
                let image = input::public(&uki.uki, IMAGE_BYTES_MAX)?;
                let measured = uki::measure(&image, uki.secure_boot).map_err(refused)?;
                show(session, &measured)?;
                if measured.pcr9.is_none() {
                    session.hint("PCR 9 is not known of such an image; PCR 11 has all that is in it.");
                }
                Ok(())
            }
        }
    }
}

#[derive(Serialize)]
struct Measured {
    measurement: Bytes,
}

impl Snp {
    fn measure(&self) -> Result<Measured, Failure> {
        let firmware = input::public(&self.ovmf, FIRMWARE_BYTES_MAX)?;
        let read = |path: &Option<PathBuf>| {
            path.as_ref().map(|path| input::public(path, FILE_BYTES_MAX)).transpose()
        };
        let (kernel, initrd) = (read(&self.kernel)?, read(&self.initrd)?.unwrap_or_default());
        let kernel =
            kernel.as_ref().map(|kernel| Kernel { kernel, initrd: &initrd, command_line: &self.cmdline });
        let guest = Guest {
            firmware: &firmware,
            kernel,
            vcpus: self.vcpus,
            vcpu_type: self.vcpu_type,
            guest_features: self.guest_features,
            vmm: match self.vmm {
                Hypervisor::Qemu => Vmm::Qemu,
                Hypervisor::Ec2 => Vmm::Ec2,
            },
        };
        let digest = launch_digest(&guest).map_err(refused)?;
        Ok(Measured { measurement: Bytes::from(&digest[..]) })
    }
}

fn refused(error: MeasureError) -> Failure {
    Failure::new(
        error,
        "name the file that the machine boots; docs/boot/measure.md says which are understood",
    )
}

fn vcpu_type(text: &str) -> Result<VcpuType, String> {
    VcpuType::named(text).ok_or_else(|| {
        let names: Vec<_> = VcpuType::ALL.iter().map(|known| known.name()).collect();
        format!("must be one of {}, and may end with a version such as -v2", names.join(", "))
    })
}

/// Reads a number: decimal, or hexadecimal behind `0x`.
fn bits(text: &str) -> Result<u64, String> {
    let number = match text.strip_prefix("0x") {
        Some(digits) if digits.bytes().all(|digit| digit.is_ascii_hexdigit()) => {
            u64::from_str_radix(digits, 16).ok()
        }
        Some(_) => None,
        None => text.bytes().all(|digit| digit.is_ascii_digit()).then(|| text.parse().ok()).flatten(),
    };
    number.ok_or_else(|| "must be a number, as 33 or 0x21".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_types_have_their_spellings() {
        assert_eq!([bits("33"), bits("0x21"), bits("0xFFFFFFFFFFFFFFFF")], [Ok(33), Ok(33), Ok(u64::MAX)]);
        for wrong in ["", "0x", "+1", "-1", "0x+1", "21h", "0x10000000000000000"] {
            assert!(bits(wrong).is_err(), "{wrong}");
        }
        assert_eq!(vcpu_type("EPYC-Milan-v2"), Ok(VcpuType::Milan));
        assert!(vcpu_type("epyc").is_err_and(|rule| rule.contains("EPYC-Turin")));
    }
}
