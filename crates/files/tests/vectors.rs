//! The public test vectors of age: C2SP CCTV, in the folder `age/testdata` of those that `KEYHEARTH_VECTORS` names.
//!
//! A file whose recipient only the `age` tools know is opened by its key, which most vectors tell.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Read};
use std::path::PathBuf;

use keyhearth_crypto::digest::sha256;
use keyhearth_files::Error;
use keyhearth_files::age::{FileKey, Identity};
use keyhearth_files::open_stream;

struct Vector {
    said: BTreeMap<String, String>,
    file: Vec<u8>,
}

impl Vector {
    fn read(bytes: &[u8]) -> Self {
        let end = bytes.windows(2).position(|pair| pair == b"\n\n").expect("an empty line ends what is said");
        let said = str::from_utf8(&bytes[..end]).expect("what is said is text").lines();
        let said: BTreeMap<_, _> = said
            .filter_map(|line| line.split_once(": "))
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
            .collect();
        let mut file = bytes[end + 2..].to_vec();
        if said.get("compressed").is_some_and(|how| how == "zlib") {
            let packed = std::mem::take(&mut file);
            flate2::read::ZlibDecoder::new(&packed[..]).read_to_end(&mut file).expect("the vector unpacks");
        }
        Self { said, file }
    }

    fn says(&self, name: &str) -> Option<&str> {
        self.said.get(name).map(String::as_str)
    }

    /// Opens it with the first identity that we know, else by its key.
    fn open(&self, out: &mut Vec<u8>) -> Result<u64, Error> {
        let opened = open_stream(Box::new(Cursor::new(self.file.clone())))?;
        let identity = self.says("identity").and_then(|text| Identity::read(text).ok());
        let unwrapped =
            identity.map(|identity| identity.unwrap(&opened.header.stanzas)).transpose()?.flatten();
        let file_key = match (unwrapped, self.says("file key")) {
            (Some(key), _) => key,
            (None, Some(_)) if self.says("identity").is_some_and(|id| Identity::read(id).is_ok()) => {
                return Err(Error::NotForUs);
            }
            (None, Some(digits)) => {
                let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hexadecimal digits");
                FileKey::from_bytes(&(0..digits.len()).step_by(2).map(byte).collect::<Vec<_>>())?
            }
            (None, None) => return Err(Error::NotForUs),
        };
        opened.stream_to(&file_key, out)
    }
}

#[test]
fn every_vector_is_opened_or_refused() {
    let Some(folder) = std::env::var_os("KEYHEARTH_VECTORS") else {
        eprintln!("skipped: KEYHEARTH_VECTORS names no folder");
        return;
    };
    let files = fs::read_dir(PathBuf::from(folder).join("age/testdata")).expect("the vectors are there");
    let mut seen = 0;
    // Rules of recipients that only the age tools have: what these vectors break is not looked at here.
    let mut unknown = Vec::new();
    for file in files {
        let path = file.expect("the folder is readable").path();
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
        let vector = Vector::read(&fs::read(&path).expect("the vector is readable"));
        let mut out = Vec::new();
        let result = vector.open(&mut out);
        let expected = vector.says("expect").expect("an expectation");
        let digest: String = sha256(&[&out]).iter().map(|byte| format!("{byte:02x}")).collect();
        seen += 1;
        let is_unknown = name.contains("scrypt") || name.contains("hybrid");
        if is_unknown
            && expected != "success"
            && matches!(result, Ok(_) | Err(Error::NotAuthentic | Error::NotForUs))
        {
            unknown.push(name);
            continue;
        }
        match (expected, &result) {
            ("success", Ok(_)) => assert_eq!(Some(&*digest), vector.says("payload"), "{name}"),
            ("no match", Err(Error::NotForUs)) | ("HMAC failure", Err(Error::NotAuthentic)) => {}
            ("header failure", Err(Error::Malformed(_))) => {}
            ("armor failure", Err(Error::Io(error))) if error.kind() == std::io::ErrorKind::InvalidData => {}
            ("armor failure", Err(Error::Malformed(_))) => {}
            ("payload failure", Err(Error::NotAuthentic | Error::Malformed(_) | Error::Io(_))) => {
                // What was proved before the failure and no more is released. A chunk that says wrongly that it is
                // the last one, or is not, is released by others before they refuse the file, and not here.
                let ends =
                    ["stream_two_final", "stream_trailing", "stream_no_final", "armor_garbage_encoded"];
                let is_wrong_end = ends.iter().any(|end| name.starts_with(end));
                if let Some(payload) = vector.says("payload").filter(|_| !is_wrong_end) {
                    assert_eq!(digest, payload, "{name}");
                }
            }
            _ => panic!("{name}: expected {expected}, got {result:?}"),
        }
    }
    assert_eq!(seen, 143, "vectors");
    unknown.sort();
    println!(
        "{seen} vectors, {} of them break rules of recipients that are not ours: {unknown:?}",
        unknown.len()
    );
}
