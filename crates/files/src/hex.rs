//! Hexadecimal digits in lower case, in the one way there is.

use std::fmt;

/// The `N` bytes that `2 * N` digits stand for; `None` if it is anything else.
pub fn read<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let digits = text.as_bytes();
    let mut bytes = [0; N];
    if digits.len() != 2 * N {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

/// Writes the digits of `bytes`.
pub fn write(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

/// A type of 16 bytes that is written as 32 digits; it can be drawn if it says for what randomness is used then.
macro_rules! digits {
    ($(#[$doc:meta])* $name:ident $(= $drawn:literal)?) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name([u8; 16]);

        impl $name {
            $(
                /// Draws one for something new.
                ///
                /// # Errors
                /// [`Error::Machine`](crate::Error::Machine) without randomness.
                pub fn random() -> Result<Self, crate::Error> {
                    let mut bytes = [0; 16];
                    keyhearth_crypto::random::fill($drawn, &mut bytes)?;
                    Ok(Self(bytes))
                }
            )?

            /// Reads its digits.
            #[must_use]
            pub fn read(text: &str) -> Option<Self> {
                crate::hex::read(text).map(Self)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                crate::hex::write(&self.0, f)
            }
        }
    };
}
pub(crate) use digits;
