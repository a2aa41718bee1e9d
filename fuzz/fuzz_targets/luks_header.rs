//! LUKS2 headers: whatever lies on a disk, there is a header or a refusal, and what is accepted means the same when it
//! is written anew.
//!
//! The input is what a disk begins with; or, if it begins with `{`, the JSON of a header whose checksums are right.
#![no_main]

use keyhearth_agent::luks::Header;
use keyhearth_core::id::PrincipalId;
use keyhearth_crypto::digest::sha256;
use libfuzzer_sys::fuzz_target;

const COPY_BYTES: usize = 16 << 10;

fuzz_target!(|data: &[u8]| {
    let disk = if data.starts_with(b"{") { disk(data) } else { data.to_vec() };
    let Ok(header) = Header::parse(&disk) else { return };
    let (root, image) = ("root".parse().expect("a name"), PrincipalId([1; 16]));
    assert_ne!(header.clone_of(&root, image), Some(image), "an image is no clone of itself");
    assert!(header.keyslots().len() <= 32);
    let Ok(metadata) = header.metadata() else { return };
    let anew = Header::parse(&metadata).expect("what was written anew is a header");
    assert_eq!(anew.hash(), header.hash());
    assert_eq!(anew.clone_of(&root, image), None, "marks are not written anew");
    assert_eq!(anew.metadata().expect("it fitted before"), metadata);
    assert!(!metadata.windows(11).any(|window| window == b"cipher_null"), "no encryption is accepted");
});

/// Both copies around a text, which is cut if it is too long.
fn disk(text: &[u8]) -> Vec<u8> {
    let copy = |magic: &[u8], offset: usize| {
        let mut copy = vec![0; COPY_BYTES];
        copy[..6].copy_from_slice(magic);
        copy[7] = 2;
        copy[8..16].copy_from_slice(&(COPY_BYTES as u64).to_be_bytes());
        copy[72..78].copy_from_slice(b"sha256");
        copy[256..264].copy_from_slice(&(offset as u64).to_be_bytes());
        let room = &mut copy[4096..];
        let length = text.len().min(room.len());
        room[..length].copy_from_slice(&text[..length]);
        let checksum = sha256(&[&copy]);
        copy[448..480].copy_from_slice(&checksum);
        copy
    };
    [copy(b"LUKS\xba\xbe", 0), copy(b"SKUL\xba\xbe", COPY_BYTES)].concat()
}
