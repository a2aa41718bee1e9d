//! Processor generations, and the firmware levels that they state.

use std::fmt;

use serde::Serialize;

/// A generation of AMD EPYC processors that has SEV-SNP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Generation {
    /// 7003.
    Milan,
    /// 9004, 8004: also called Bergamo and Siena.
    Genoa,
    /// 9005.
    Turin,
}

impl Generation {
    /// Every generation, the oldest first.
    pub const ALL: [Self; 3] = [Self::Milan, Self::Genoa, Self::Turin];

    /// AMD's name, as certificates have it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Milan => "Milan",
            Self::Genoa => "Genoa",
            Self::Turin => "Turin",
        }
    }

    /// By the processor's combined extended family and model.
    ///
    /// Source: AMD 56860 §7.3 (CPUID_FAM_ID, CPUID_MOD_ID); AMD 57230 §3 (models of each product).
    pub(super) fn of_cpu(family: u8, model: u8) -> Option<Self> {
        match (family, model) {
            (0x19, 0x00..=0x0f) => Some(Self::Milan),
            (0x19, 0x10..=0x1f | 0xa0..=0xaf) => Some(Self::Genoa),
            (0x1a, 0x00..=0x11) => Some(Self::Turin),
            _ => None,
        }
    }

    /// By the product of a certificate: the name, or the name and a stepping (`Milan-B0`).
    pub(crate) fn of_product(product: &str) -> Option<Self> {
        let name = product.split('-').next().unwrap_or(product);
        Self::ALL.into_iter().find(|generation| generation.name() == name)
    }
}

/// Firmware levels: a security version number for each part, of which a higher one is newer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Tcb {
    /// The FMC, which only Turin has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fmc: Option<u8>,
    /// The security processor's boot loader.
    pub bootloader: u8,
    /// The security processor's operating system.
    pub tee: u8,
    /// The SNP firmware.
    pub snp: u8,
    /// The lowest microcode of all cores.
    pub microcode: u8,
}

impl Tcb {
    /// Reads a `TCB_VERSION`.
    ///
    /// Source: AMD 56860 §2.2, which has one layout for Milan and Genoa and another for Turin.
    pub(crate) fn read(generation: Generation, bytes: [u8; 8]) -> Self {
        let [a, b, c, d, _, _, g, microcode] = bytes;
        match generation {
            Generation::Milan | Generation::Genoa => {
                Self { fmc: None, bootloader: a, tee: b, snp: g, microcode }
            }
            Generation::Turin => Self { fmc: Some(a), bootloader: b, tee: c, snp: d, microcode },
        }
    }

    /// Whether no part is newer than in `other`.
    #[must_use]
    pub fn is_at_most(&self, other: &Self) -> bool {
        self.parts().zip(other.parts()).all(|((_, mine), (_, theirs))| mine <= theirs)
    }

    /// Each part's name and level.
    pub fn parts(&self) -> impl Iterator<Item = (&'static str, u8)> {
        let fmc = self.fmc.map(|fmc| ("fmc", fmc));
        let others = [
            ("bootloader", self.bootloader),
            ("tee", self.tee),
            ("snp", self.snp),
            ("microcode", self.microcode),
        ];
        fmc.into_iter().chain(others)
    }
}

impl fmt::Display for Tcb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<_> = self.parts().map(|(name, level)| format!("{name} {level}")).collect();
        f.write_str(&parts.join(", "))
    }
}
