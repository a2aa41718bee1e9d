//! Why a header is not opened.

use std::fmt;

macro_rules! rules {
    ($($variant:ident $code:literal $sentence:literal;)+) => {
        /// What a header must be; each has a code that stays.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Rule { $(#[doc = $sentence] $variant,)+ }

        impl Rule {
            /// Every rule, in the order in which they are checked.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// Its code.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)+ }
            }

            /// The rule in words.
            #[must_use]
            pub const fn sentence(self) -> &'static str {
                match self { $(Self::$variant => $sentence,)+ }
            }
        }
    };
}

rules! {
    Unreadable "luks-unreadable" "The disk can be read where its header lies.";
    Magic "luks-magic" "The disk begins with a LUKS header.";
    Version "luks-version" "The header is one of LUKS version 2.";
    Size "luks-size" "Each copy of the header has one of LUKS2's sizes from 16 KiB to 1 MiB.";
    ChecksumAlgorithm "luks-checksum-algorithm" "Copies of the header are protected by SHA-256.";
    Checksum "luks-checksum" "At least one copy of the header has the checksum that it states.";
    CopiesDiffer "luks-copies-differ" "Copies of the header with the same number say the same.";
    JsonTooLong "luks-json-too-long" "The JSON of the header ends inside its copy.";
    JsonTrailing "luks-json-trailing" "After the JSON of the header there are zeroes.";
    Json "luks-json" "The header's text is JSON, with no member twice and no fractions.";
    Reencryption "luks-reencryption" "The disk is not being reencrypted.";
    Requirements "luks-requirements" "The header demands nothing that is not known here.";
    Form "luks-form" "The header has the members of a LUKS2 header, and no others.";
    SegmentCount "luks-segment-count" "There is exactly one segment.";
    SegmentKind "luks-segment-kind" "The segment is encrypted.";
    SegmentPlace "luks-segment-place" "The segment begins after the keyslots and reaches to the disk's end.";
    Cipher "luks-cipher" "The data are encrypted with aes-xts-plain64.";
    SectorSize "luks-sector-size" "Sectors have 512, 1024, 2048 or 4096 bytes.";
    KeyslotCount "luks-keyslot-count" "There are 1 to 32 keyslots.";
    KeyslotKind "luks-keyslot-kind" "Each keyslot is one of LUKS2's own kind.";
    KeyslotCipher "luks-keyslot-cipher" "Each keyslot is encrypted with aes-xts-plain64 and a key of 512 bits.";
    KeySize "luks-key-size" "The key of the data has 512 bits.";
    KeyslotArea "luks-keyslot-area" "Each keyslot's material lies between the copies of the header and the data.";
    KeyDerivation "luks-key-derivation" "Keyslots derive keys by Argon2 or PBKDF2 within sane limits.";
    Digest "luks-digest" "One digest covers the segment and every keyslot.";
}

/// At most so many characters of what a disk says are repeated.
const FOUND_CHARS_MAX: usize = 120;

impl Rule {
    /// The refusal because of this rule; `found` is made short and printable.
    pub(super) fn found(self, found: impl fmt::Display) -> Refusal {
        let printable = |c: char| if c.is_ascii_graphic() || c == ' ' { c } else { '?' };
        Refusal {
            rule: self,
            found: found.to_string().chars().take(FOUND_CHARS_MAX).map(printable).collect(),
        }
    }
}

/// A rule that a header breaks, and what was found instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The rule.
    pub rule: Rule,
    /// What was found: printable ASCII, at most 120 characters.
    pub found: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} Found: {}. [{}]", self.rule.sentence(), self.found, self.rule.code())
    }
}

impl std::error::Error for Refusal {}
