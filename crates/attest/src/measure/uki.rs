//! What a unified kernel image (UKI) is measured as: `systemd-stub` with a kernel and all that it is started with, in
//! one PE image.
//!
//! | PCR | who | what |
//! |---|---|---|
//! | 4 | firmware | that it starts something; the image; and the kernel, if the stub has the firmware load it |
//! | 9 | kernel | the command line, the initial ramdisk |
//! | 11 | stub | name and contents of each section; then userspace, how far it came |
//!
//! The digests of images and sections are those of [`crate::eventlog::BootFacts`].
//!
//! Versions of the stub differ. What is said here of 252, 254, 257 and 262 was compared with what OVMF and these stubs
//! measured; those between are as systemd's changes say. What a version is not known to do is left out.
//!
//! Source: systemd-stub(7); UAPI.5 Unified Kernel Image; Linux, `drivers/firmware/efi/libstub/efi-stub-helper.c`.

use std::collections::BTreeMap;

use keyhearth_crypto::digest::sha256;
use serde::Serialize;

use super::MeasureError;
use super::pe::{self, Image};
use crate::claims::Bytes;
use crate::eventlog::BootPhase;

/// The longest image that is measured.
pub const IMAGE_BYTES_MAX: usize = pe::IMAGE_BYTES_MAX;

/// The first version that measures into PCR 11 what is said here.
const STUB_OLDEST: u32 = 252;
/// The first versions that measure these sections.
const STUB_UNAME_AND_SBAT: u32 = 254;
const STUB_UCODE: u32 = 256;
/// The last version that gives the kernel the initial ramdisk as it is.
const STUB_INITRD_ALONE: u32 = 254;
/// The last version that has the firmware load the kernel.
const STUB_LOADS_BY_FIRMWARE: u32 = 257;

/// Sections in the order in which they are measured, with the first version that does it.
const MEASURED: [(&str, u32); 10] = [
    ("linux", STUB_OLDEST),
    ("osrel", STUB_OLDEST),
    ("cmdline", STUB_OLDEST),
    ("initrd", STUB_OLDEST),
    ("ucode", STUB_UCODE),
    ("splash", STUB_OLDEST),
    ("dtb", STUB_OLDEST),
    ("uname", STUB_UNAME_AND_SBAT),
    ("sbat", STUB_UNAME_AND_SBAT),
    ("pcrpkey", STUB_OLDEST),
];
/// Sections of which it is decided at boot whether they are used.
const UNDECIDED: [&str; 4] = ["profile", "dtbauto", "hwids", "efifw"];
/// Sections that the stub gives to the kernel in an initial ramdisk of its own.
const IN_INITRD: [&str; 3] = ["pcrsig", "pcrpkey", "ucode"];

/// The oldest kernel whose measurements of itself are known.
const KERNEL_OLDEST: (u32, u32) = (6, 1);

/// What a unified kernel image will be measured as, in the bank of SHA-256.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Measured {
    /// The version of systemd that the stub is of.
    pub stub: u32,
    /// Digests of the sections that are measured, by name without the dot.
    pub image_sections: BTreeMap<&'static str, Bytes>,
    /// Authenticode digests of what the firmware loads, in order.
    pub boot_applications: Vec<Bytes>,
    /// PCR 4, if firmware starts the image and nothing before it.
    pub pcr4: Bytes,
    /// PCR 9; absent if it is not known what this stub or kernel measures, or how it spells the command line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pcr9: Option<Bytes>,
    /// PCR 11 when the kernel starts. It stays if userspace does not measure how far it came.
    pub pcr11: Bytes,
    /// PCR 11 while systemd is in the initial ramdisk.
    pub pcr11_enter_initrd: Bytes,
}

/// Computes what an image will be measured as, on a machine that has Secure Boot turned on or not.
///
/// # Errors
/// [`MeasureError::Image`], [`MeasureError::Uki`].
pub fn measure(image: &[u8], secure_boot: bool) -> Result<Measured, MeasureError> {
    let pe = Image::parse(image)?;
    let uki = Uki::parse(&pe)?;
    let mut pcr11 = Pcr::default();
    let mut image_sections = BTreeMap::new();
    for (name, contents) in &uki.sections {
        pcr11.extend(&sha256(&[b".", name.as_bytes(), b"\0"]));
        pcr11.extend(&sha256(&[contents]));
        image_sections.insert(*name, Bytes::from(&sha256(&[contents])[..]));
    }
    let mut applications = vec![pe.authenticode()?];
    // With Secure Boot these stubs answer for the kernel themselves, so that the firmware does not look at it.
    if uki.stub <= STUB_LOADS_BY_FIRMWARE && !secure_boot {
        let kernel = uki.section("linux").unwrap_or_default();
        applications.push(Image::parse(kernel)?.authenticode()?);
    }
    let mut pcr4 = Pcr::default();
    pcr4.extend(&sha256(&[b"Calling EFI Application from Boot Option"]));
    pcr4.extend(&sha256(&[&[0; 4]]));
    applications.iter().for_each(|digest| pcr4.extend(digest));
    let mut enter_initrd = pcr11;
    enter_initrd.extend(&sha256(&[BootPhase::ENTER_INITRD.as_bytes()]));
    Ok(Measured {
        stub: uki.stub,
        image_sections,
        boot_applications: applications.iter().map(|digest| Bytes::from(&digest[..])).collect(),
        pcr4: pcr4.value(),
        pcr9: uki.pcr9().map(Pcr::value),
        pcr11: pcr11.value(),
        pcr11_enter_initrd: enter_initrd.value(),
    })
}

/// A register of the SHA-256 bank.
#[derive(Clone, Copy, Default)]
struct Pcr([u8; 32]);

impl Pcr {
    fn extend(&mut self, digest: &[u8; 32]) {
        self.0 = sha256(&[&self.0, digest]);
    }

    fn value(self) -> Bytes {
        Bytes::from(&self.0[..])
    }
}

/// An image with a stub and a kernel.
struct Uki<'a> {
    stub: u32,
    /// What is measured of it, in order.
    sections: Vec<(&'static str, &'a [u8])>,
    /// Whether the stub has more for the kernel than the initial ramdisk.
    adds_to_initrd: bool,
}

impl<'a> Uki<'a> {
    fn parse(pe: &Image<'a>) -> Result<Self, MeasureError> {
        let refused = MeasureError::Uki;
        let magic = one(pe, "sdmagic")?
            .ok_or(refused("it has no section .sdmagic, which tells the stub's version"))?;
        let stub =
            stub_version(magic).ok_or(refused("its section .sdmagic does not tell the stub's version"))?;
        if stub < STUB_OLDEST {
            return Err(refused("its stub is older than systemd 252"));
        }
        for name in UNDECIDED {
            if one(pe, name)?.is_some() {
                return Err(refused(
                    "it has sections that are chosen at boot (.profile, .dtbauto, .hwids, .efifw)",
                ));
            }
        }
        let mut sections = Vec::new();
        for (name, since) in MEASURED {
            if let Some(contents) = one(pe, name)?.filter(|_| stub >= since) {
                sections.push((name, contents));
            }
        }
        let has = |name: &&str| pe.sections.iter().any(|section| is_named(section, name));
        let uki = Self { stub, sections, adds_to_initrd: IN_INITRD.iter().any(has) };
        uki.section("linux").ok_or(refused("it has no section .linux"))?;
        Ok(uki)
    }

    fn section(&self, name: &str) -> Option<&'a [u8]> {
        self.sections.iter().find(|(known, _)| *known == name).map(|(_, contents)| *contents)
    }

    /// What the kernel measures: its command line in UTF-16, with a zero, and the initial ramdisk.
    fn pcr9(&self) -> Option<Pcr> {
        let known = kernel_version(self.section("linux")?)? >= KERNEL_OLDEST && !self.adds_to_initrd;
        let (line, initrd) = (self.section("cmdline")?, self.section("initrd")?);
        // Stubs differ in what they do with space at the ends, control characters and zeroes.
        let plain = line.iter().all(|byte| matches!(byte, b' '..=b'~'))
            && line.trim_ascii() == line
            && !line.is_empty();
        if !known || !plain || initrd.is_empty() || self.stub > STUB_INITRD_ALONE {
            return None;
        }
        let units: Vec<u8> = line.iter().chain(&[0]).flat_map(|byte| [*byte, 0]).collect();
        let mut pcr = Pcr::default();
        pcr.extend(&sha256(&[&units]));
        pcr.extend(&sha256(&[initrd]));
        Some(pcr)
    }
}

/// The contents of the section with a name, if there is one.
fn one<'a>(pe: &Image<'a>, name: &str) -> Result<Option<&'a [u8]>, MeasureError> {
    let mut named = pe.sections.iter().filter(|section| is_named(section, name));
    let Some(section) = named.next() else { return Ok(None) };
    if named.next().is_some() {
        return Err(MeasureError::Uki("two of its sections have the same name"));
    }
    let contents = section.contents.get(..section.memory_bytes);
    contents.map(Some).ok_or(MeasureError::Uki("a section is longer in memory than in the file"))
}

fn is_named(section: &pe::Section<'_>, name: &str) -> bool {
    section.name.strip_prefix(b".") == Some(name.as_bytes())
}

/// The version in `#### LoaderInfo: systemd-stub 252.39-1 ####`.
fn stub_version(magic: &[u8]) -> Option<u32> {
    let version = str::from_utf8(magic).ok()?.strip_prefix("#### LoaderInfo: systemd-stub ")?;
    leading_number(version)
}

/// Major and minor number of a kernel in x86's form.
///
/// Source: Linux, `Documentation/arch/x86/boot.rst` (`header`, `kernel_version`).
fn kernel_version(kernel: &[u8]) -> Option<(u32, u32)> {
    if kernel.get(0x202..0x206)? != b"HdrS" {
        return None;
    }
    let offset = usize::from(u16::from_le_bytes(*kernel.get(0x20e..)?.first_chunk()?));
    let text = kernel.get(offset + 0x200..)?;
    let text = str::from_utf8(&text[..text.len().min(32)]).ok()?;
    let (major, rest) = text.split_once('.')?;
    Some((major.parse().ok()?, leading_number(rest)?))
}

fn leading_number(text: &str) -> Option<u32> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().ok()
}
