//! What verified evidence says: flat, and with names that policies use.

use std::fmt::{self, Write as _};

use serde::{Serialize, Serializer};

use crate::{azure, snp, tdx, tpm};

macro_rules! kinds {
    ($($(#[$doc:meta])+ $variant:ident $name:literal $recognised:path;)+) => {
        /// The kinds of evidence.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
        pub enum Kind { $($(#[$doc])+ #[serde(rename = $name)] $variant,)+ }

        impl Kind {
            /// Every kind, in the order in which bytes are tried.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// Recognises evidence by its first bytes; whether it is well-formed is seen later.
            #[must_use]
            pub fn of(evidence: &[u8]) -> Option<Self> {
                $(if $recognised(evidence) { return Some(Self::$variant); })+
                None
            }

            /// Its name in claims.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

kinds! {
    /// An attestation report of AMD SEV-SNP.
    Snp "snp" snp::recognised;
    /// A quote of an Intel TDX machine.
    Tdx "tdx" tdx::recognised;
    /// A quote of a TPM.
    Tpm "tpm" tpm::recognised;
    /// A quote of an Azure VM's TPM, whose key a quote of TDX vouches for.
    AzureTdx "azure-tdx" azure::recognised_tdx;
    /// A quote of an Azure VM's TPM, whose key an SNP report vouches for.
    AzureSnp "azure-snp" azure::recognised;
}

/// What evidence says that passed every check. A member that is absent was not claimed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Claims {
    /// The kind of evidence.
    pub kind: Kind,
    /// Whose root the chain ends in: `built-in`, or the label of an extra one.
    pub root: String,
    /// Whether hardware vouches that the host cannot read the VM's memory.
    pub memory_encrypted: bool,
    /// Whether the host may debug the VM.
    pub debug: bool,
    /// Whether the hardware's promise is known to be weaker than its maker's, as [`Specific`] tells.
    pub reduced_assurance: bool,
    /// Whether a revocation list that is in force was consulted.
    pub revocation_checked: bool,
    /// What the VM put into the evidence: the transcript of the request.
    pub report_data: Bytes,
    /// What only this kind of evidence says; its members stand beside the others.
    #[serde(flatten)]
    pub specific: Specific,
}

/// What only one kind of evidence says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Specific {
    /// SEV-SNP.
    Snp(Box<snp::SnpClaims>),
    /// TDX.
    Tdx(Box<tdx::TdxClaims>),
    /// A TPM.
    Tpm(Box<tpm::TpmClaims>),
    /// SEV-SNP and the TPM of Azure's paravisor.
    AzureSnp(Box<azure::AzureSnpClaims>),
    /// TDX and the TPM of Azure's paravisor.
    AzureTdx(Box<azure::AzureTdxClaims>),
}

/// Bytes that are written as lowercase hexadecimal digits.
#[derive(Clone, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

impl Bytes {
    /// These bytes, or nothing if all of them are zero: firmware's way to leave a field out.
    pub(crate) fn unless_zero(bytes: &[u8]) -> Option<Self> {
        bytes.iter().any(|byte| *byte != 0).then(|| bytes.into())
    }
}

impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// At most so many characters of text from a certificate are repeated.
const TEXT_CHARS_MAX: usize = 64;

/// Text from a certificate, short and printable.
pub(crate) fn printable(text: &str) -> String {
    text.chars().take(TEXT_CHARS_MAX).fold(String::new(), |mut shown, c| {
        let _ = shown.write_char(if c.is_ascii_graphic() || c == ' ' { c } else { '\u{fffd}' });
        shown
    })
}
