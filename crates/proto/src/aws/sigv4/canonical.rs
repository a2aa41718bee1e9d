//! The canonical request: the one form of a request that both sides hash.

use keyhearth_crypto::digest::sha256;

use super::Message;

/// No longer than this is the canonical request of a client that signs few headers.
const USUAL_BYTES: usize = 512;

/// SHA-256, in hexadecimal, of the canonical request; `body` is the body's.
///
/// Written in one piece, which is hashed faster than many: nothing in it is longer than a request's head.
///
/// Source: "Create a signed AWS API request", steps 1 and 2.
pub(super) fn hash(message: &Message<'_>, signed_headers: &str, body: &[u8; 64]) -> [u8; 64] {
    let mut text = Vec::with_capacity(USUAL_BYTES);
    text.extend_from_slice(message.method.as_bytes());
    text.push(b'\n');
    path(message.path, &mut text);
    text.push(b'\n');
    query(message.query, &mut text);
    text.push(b'\n');
    for name in signed_headers.split(';') {
        text.extend_from_slice(name.as_bytes());
        let mut separator = b':';
        for (_, value) in message.headers.iter().filter(|(found, _)| *found == name) {
            text.push(separator);
            trimmed(value, &mut text);
            separator = b',';
        }
        text.push(b'\n');
    }
    text.push(b'\n');
    text.extend_from_slice(signed_headers.as_bytes());
    text.push(b'\n');
    text.extend_from_slice(body);
    hex(&sha256(&[&text]))
}

/// The path without empty and dot segments, encoded once more than it is on the wire.
fn path(path: &str, to: &mut Vec<u8>) {
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    for segment in &segments {
        to.push(b'/');
        encode(segment.as_bytes(), to);
    }
    if segments.is_empty() || ["/", "/.", "/.."].iter().any(|end| path.ends_with(end)) {
        to.push(b'/');
    }
}

/// The parameters, decoded, encoded in the one way there is, and sorted.
fn query(query: &str, to: &mut Vec<u8>) {
    let mut pairs: Vec<(Vec<u8>, Vec<u8>)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (reencoded(name), reencoded(value))
        })
        .collect();
    pairs.sort_unstable();
    for (at, (name, value)) in pairs.iter().enumerate() {
        if at > 0 {
            to.push(b'&');
        }
        to.extend_from_slice(name);
        to.push(b'=');
        to.extend_from_slice(value);
    }
}

fn reencoded(text: &str) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        decoded.push(match (first, after) {
            (b'%', [high, low, after @ ..]) if let (Some(high), Some(low)) = (digit(*high), digit(*low)) => {
                rest = after;
                high << 4 | low
            }
            (b'+', _) => b' ',
            (byte, _) => *byte,
        });
    }
    let mut encoded = Vec::with_capacity(decoded.len());
    encode(&decoded, &mut encoded);
    encoded
}

/// Writes `%XY` for everything but unreserved characters.
///
/// Source: RFC 3986 §2.1, §2.3.
fn encode(bytes: &[u8], to: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => to.push(*byte),
            byte => to.extend([b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]),
        }
    }
}

/// A header's value without spaces around it, and with one space for each run of them.
fn trimmed(value: &[u8], to: &mut Vec<u8>) {
    let words = value.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
    for (at, word) in words.enumerate() {
        if at > 0 {
            to.push(b' ');
        }
        to.extend_from_slice(word);
    }
}

/// Lower-case hexadecimal.
pub(in crate::aws) fn hex(bytes: &[u8; 32]) -> [u8; 64] {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    std::array::from_fn(|at| {
        let byte = bytes[at / 2];
        HEX[usize::from(if at % 2 == 0 { byte >> 4 } else { byte & 15 })]
    })
}

/// Reads what [`hex`] writes.
pub(super) fn unhex(text: &str) -> Option<[u8; 32]> {
    let text: &[u8; 64] = text.as_bytes().try_into().ok()?;
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    (hex(&bytes) == *text).then_some(bytes)
}

fn digit(c: u8) -> Option<u8> {
    char::from(c).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}
