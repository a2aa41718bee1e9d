//! What a machine will measure, computed from the files that it boots: reference values for policies, before any machine
//! has them.
//!
//! [`snp`]: the launch digest of an SNP guest. [`uki`]: the PCRs of a unified kernel image. Both are total and pure; a
//! value that depends on what is not in the files is left out, never guessed.
//!
//! Called by `keyhearth boot measure`.

mod ovmf;
mod pe;
pub mod snp;
pub mod uki;

use std::fmt;

/// Why something is not measured: what is wrong with a file, or not known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MeasureError {
    /// The firmware does not say, in OVMF's form, what is measured with it.
    Firmware(&'static str),
    /// There is a kernel, and the firmware has no place for hashes of it.
    NoKernelHashes,
    /// There are no virtual processors, or more than [`snp::VCPUS_MAX`].
    Vcpus,
    /// The image is no PE image of the right form.
    Image(&'static str),
    /// The image is no unified kernel image of a kind that is known.
    Uki(&'static str),
}

impl fmt::Display for MeasureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Firmware(what) => write!(f, "the firmware is no OVMF image that starts SNP guests: {what}"),
            Self::NoKernelHashes => {
                f.write_str("the firmware has no place for hashes of a kernel, which OVMF's AmdSev build has")
            }
            Self::Vcpus => write!(f, "an SNP guest has 1 to {} virtual processors", snp::VCPUS_MAX),
            Self::Image(what) => write!(f, "the image is no PE image: {what}"),
            Self::Uki(what) => {
                write!(f, "the image is no unified kernel image that can be predicted: {what}")
            }
        }
    }
}

impl std::error::Error for MeasureError {}
