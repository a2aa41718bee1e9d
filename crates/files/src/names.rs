//! Names of files, encrypted so that whoever carries a folder does not read them, and the same on every device.
//!
//! Each name of a path is encrypted by itself under a key of the path of the folder that it is in: the same name in another
//! folder is another one. How: `docs/formats/names.md`.

use data_encoding::{Encoding, Specification};
use keyhearth_crypto::secret::SecretBytes;
use keyhearth_crypto::{kdf, keywrap};
use zeroize::Zeroizing;

use crate::{Error, hex};

/// What the key of names is made of has at least so many bytes.
pub const SECRET_BYTES_MIN: usize = 32;
/// The longest name that is encrypted, in bytes: what it becomes has room for `.age` in 255.
pub const NAME_BYTES_MAX: usize = 144;
/// The most names that are in a path, so that nothing that is read takes long.
const DEPTH_MAX: usize = 256;
const LABEL: &str = "keyhearth/names1";
const KEY_BYTES: usize = 32;
const CHECK_LABEL: &str = "keyhearth/names-check1";

hex::digits! {
    /// What tells the key of names from others: 32 hexadecimal digits.
    Check
}

/// By what the names of a folder are encrypted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Names {
    /// The name of the server's secret.
    pub secret: String,
    /// Of its key.
    pub check: Check,
}

/// The key of a folder's names.
pub struct NameKey {
    secret: SecretBytes,
    digits: Encoding,
}

impl NameKey {
    /// From what is kept for it: [`SECRET_BYTES_MIN`] bytes or more.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is shorter; [`Error::Machine`] without memory for it.
    pub fn new(secret: &[u8]) -> Result<Self, Error> {
        if secret.len() < SECRET_BYTES_MIN {
            return Err(Error::Invalid("the secret of names must have 32 bytes or more"));
        }
        let mut digits = Specification::new();
        // RFC 4648 §7 in lower case: no letters that differ in case, and no dot.
        digits.symbols.push_str("0123456789abcdefghijklmnopqrstuv");
        let digits = digits.encoding().map_err(|_| Error::Invalid("the digits of names"))?;
        Ok(Self { secret: SecretBytes::copy_from(secret)?, digits })
    }

    /// What tells this key from others: of another one the same names would be others.
    #[must_use]
    pub fn check(&self) -> Check {
        let mut check = [0; 16];
        kdf::kbkdf(self.secret.expose(), CHECK_LABEL, &[], &mut check);
        Check(check)
    }

    /// The key of the names in a folder; the empty path is the outermost.
    #[must_use]
    pub fn of_folder(&self, folder: &str) -> FolderKey<'_> {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        kdf::kbkdf(self.secret.expose(), LABEL, &[folder.as_bytes()], &mut *key);
        FolderKey { key, digits: &self.digits }
    }

    /// The encrypted path of a path.
    ///
    /// # Errors
    /// [`Error::Invalid`] if a name has more than [`NAME_BYTES_MAX`] bytes, or there are too many.
    pub fn encrypt(&self, path: &str) -> Result<String, Error> {
        let encrypted = names(path)?.into_iter().map(|(folder, name)| self.of_folder(folder).encrypt(name));
        Ok(encrypted.collect::<Result<Vec<_>, _>>()?.join("/"))
    }

    /// The path of an encrypted one.
    ///
    /// # Errors
    /// [`Error::NotAuthentic`] if it is not what [`NameKey::encrypt`] gives.
    pub fn decrypt(&self, encrypted: &str) -> Result<String, Error> {
        let mut path = String::new();
        for (_, digits) in names(encrypted).map_err(|_| Error::NotAuthentic)? {
            let name = self.of_folder(&path).decrypt(digits)?;
            if !path.is_empty() {
                path.push('/');
            }
            path.push_str(&name);
        }
        Ok(path)
    }
}

/// The key of the names in one folder.
pub struct FolderKey<'k> {
    key: Zeroizing<[u8; KEY_BYTES]>,
    digits: &'k Encoding,
}

impl FolderKey<'_> {
    /// The encrypted name of a name in it.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it has none or more than [`NAME_BYTES_MAX`] bytes, or a slash.
    pub fn encrypt(&self, name: &str) -> Result<String, Error> {
        if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains('/') {
            return Err(Error::Invalid("a name that is encrypted must have 1 to 144 bytes and no slash"));
        }
        Ok(self.digits.encode(&keywrap::kwp_wrap(&*self.key, name.as_bytes())?))
    }

    /// The name of an encrypted one.
    ///
    /// # Errors
    /// [`Error::NotAuthentic`] if it is not what [`FolderKey::encrypt`] gives.
    pub fn decrypt(&self, encrypted: &str) -> Result<String, Error> {
        let wrapped = self.digits.decode(encrypted.as_bytes()).map_err(|_| Error::NotAuthentic)?;
        let name = keywrap::kwp_unwrap(&*self.key, &wrapped)?;
        let name = str::from_utf8(name.expose()).map_err(|_| Error::NotAuthentic)?;
        if name.contains('/') { Err(Error::NotAuthentic) } else { Ok(name.to_owned()) }
    }
}

/// The names of a path, each with the path of the folder that it is in.
fn names(path: &str) -> Result<Vec<(&str, &str)>, Error> {
    let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
    let names: Vec<_> = ends
        .map(|end| {
            let upto = &path[..end];
            upto.rsplit_once('/').unwrap_or(("", upto))
        })
        .collect();
    if names.len() > DEPTH_MAX || names.iter().any(|(_, name)| name.is_empty()) {
        return Err(Error::Invalid("a path has 1 to 256 names, none of them empty"));
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(byte: u8) -> NameKey {
        NameKey::new(&[byte; 32]).unwrap()
    }

    proptest! {
        #[test]
        fn a_path_comes_back_and_is_the_same_each_time(path in "[^/\u{0}-\u{1f}]{1,30}(/[^/\u{0}-\u{1f}]{1,30}){0,4}") {
            let encrypted = key(1).encrypt(&path).unwrap();
            prop_assert_eq!(&key(1).encrypt(&path).unwrap(), &encrypted);
            prop_assert_eq!(key(1).decrypt(&encrypted).unwrap(), path);
            prop_assert!(key(2).decrypt(&encrypted).is_err());
            prop_assert!(encrypted.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'v' | b'/')));
        }

        #[test]
        fn nothing_else_is_a_path(text in "[0-9a-v/]{0,100}", byte: u8, at: usize) {
            prop_assert!(key(1).decrypt(&text).is_err());
            let mut altered = key(1).encrypt("reports/june.pdf").unwrap().into_bytes();
            let at = at % altered.len();
            prop_assume!(altered[at] != byte);
            altered[at] = byte;
            prop_assert!(key(1).decrypt(&String::from_utf8_lossy(&altered)).is_err());
        }
    }

    #[test]
    fn a_name_says_nothing_of_other_folders() {
        let [first, second] = ["a/name", "b/name"].map(|path| key(1).encrypt(path).unwrap());
        let last = |path: &str| path.rsplit_once('/').unwrap().1.to_owned();
        assert_ne!(last(&first), last(&second));
        // Moved to another folder it is nothing.
        let moved = format!("{}/{}", first.split_once('/').unwrap().0, last(&second));
        assert!(key(1).decrypt(&moved).is_err());
    }

    #[test]
    fn the_longest_name_has_room_and_longer_ones_are_refused() {
        assert!(key(1).encrypt(&"n".repeat(NAME_BYTES_MAX)).unwrap().len() <= 251);
        assert!(key(1).encrypt(&"n".repeat(NAME_BYTES_MAX + 1)).is_err());
        assert!(key(1).encrypt("a//b").is_err() && key(1).encrypt("").is_err());
        assert!(key(1).encrypt(&vec!["a"; DEPTH_MAX + 1].join("/")).is_err());
        assert!(NameKey::new(&[0; SECRET_BYTES_MIN - 1]).is_err());
    }

    /// `docs/formats/names.md` has the same.
    #[test]
    fn what_is_documented_is_what_is_made() {
        let secret: Vec<u8> = (0..32).collect();
        let key = NameKey::new(&secret).unwrap();
        assert_eq!(key.check().to_string(), "aca66a80dc6db409281ca8c4170a79eb");
        let encrypted = key.encrypt("reports/june.pdf").unwrap();
        assert_eq!(encrypted, "fret901tnmiu13s732934te6uc/sdnh6mo3m17fbsqdr81hohgnqg");
    }
}
