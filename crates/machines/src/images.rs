//! Made firmware and unified kernel images, as small as their forms allow.

/// Where sections of files begin.
const ALIGNMENT: usize = 512;
const HEADERS_BYTES: usize = 1024;

/// A PE image (PE32+, or PE32) with these sections, whose names begin with a dot.
pub fn pe(plus: bool, sections: &[(&str, &[u8])]) -> Vec<u8> {
    let mut image = vec![0; HEADERS_BYTES];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    let number = |number: usize| u32::try_from(number).expect("it is small").to_le_bytes();
    let directories = if plus { 112 } else { 96 };
    let (coff, optional) = (0x80, 0x80 + 24);
    put(0, b"MZ");
    put(0x3c, &number(coff));
    put(coff, b"PE\0\0");
    put(coff + 6, &number(sections.len())[..2]);
    put(coff + 20, &number(directories + 16 * 8)[..2]);
    put(optional, if plus { &[0x0b, 2] } else { &[0x0b, 1] });
    put(optional + 60, &number(HEADERS_BYTES));
    put(optional + 64, b"sum!");
    put(optional + directories - 4, &number(16));
    let mut offset = HEADERS_BYTES;
    for (index, (name, contents)) in sections.iter().enumerate() {
        let header = optional + directories + 16 * 8 + 40 * index;
        let padded = contents.len().next_multiple_of(ALIGNMENT);
        put(header, name.as_bytes());
        put(header + 8, &number(contents.len()));
        put(header + 16, &number(padded));
        put(header + 20, &number(offset));
        offset += padded;
    }
    for (_, contents) in sections {
        image.extend(*contents);
        image.resize(image.len().next_multiple_of(ALIGNMENT), 0);
    }
    image
}

/// The same image with something that stands for a signature.
pub fn signed(mut image: Vec<u8>, plus: bool) -> Vec<u8> {
    let directory = 0x80 + 24 + if plus { 112 } else { 96 } + 8 * 4;
    let place = [image.len(), 16].map(|number| u32::try_from(number).expect("it is small").to_le_bytes());
    image[directory..directory + 8].copy_from_slice(&place.concat());
    image.extend(b"signed by nobody");
    image
}

/// A kernel of x86 with this version, which it says in its headers.
pub fn kernel(version: &str) -> Vec<u8> {
    let mut image = pe(true, &[(".text", &[0x90; 100])]);
    let text = format!("{version} (someone@somewhere) #1\0");
    image[0x202..0x206].copy_from_slice(b"HdrS");
    image[0x20e..0x210].copy_from_slice(&0x100_u16.to_le_bytes());
    image[0x300..0x300 + text.len()].copy_from_slice(text.as_bytes());
    image
}

/// What a stub of this version calls itself.
pub fn magic(stub: &str) -> String {
    format!("#### LoaderInfo: systemd-stub {stub} ####\0")
}

/// The end of a firmware, in a page: sections of a kind each, and where the table of hashes lies.
pub fn ovmf(sections: &[(u32, u32, u32)], hashes: Option<u32>) -> Vec<u8> {
    let entry = |guid: [u8; 16], contents: [u8; 4]| [&contents[..], &22_u16.to_le_bytes(), &guid].concat();
    let mut metadata = [&b"ASEV"[..], &[0; 4], &1_u32.to_le_bytes()].concat();
    metadata.extend(u32::try_from(sections.len()).expect("a few").to_le_bytes());
    for (address, bytes, kind) in sections {
        metadata.extend([*address, *bytes, *kind].map(u32::to_le_bytes).concat());
    }
    let mut entries = Vec::new();
    if let Some(address) = hashes {
        let guid =
            [0x1f, 0x37, 0x55, 0x72, 0x3b, 0x3a, 0x04, 0x4b, 0x92, 0x7b, 0x1d, 0xa6, 0xef, 0xa8, 0xd4, 0x54];
        entries.extend(entry(guid, address.to_le_bytes()));
    }
    let reset =
        [0xde, 0x71, 0xf7, 0x00, 0x7e, 0x1a, 0xcb, 0x4f, 0x89, 0x0e, 0x68, 0xc7, 0x7e, 0x2f, 0xb4, 0x4e];
    entries.extend(entry(reset, 0x0080_b004_u32.to_le_bytes()));
    let list =
        [0x66, 0x65, 0x88, 0xdc, 0x4a, 0x98, 0x98, 0x47, 0xa7, 0x5e, 0x55, 0x85, 0xa7, 0xbf, 0x67, 0xcc];
    entries.extend(entry(list, 2048_u32.to_le_bytes()));
    let table =
        [0xde, 0x82, 0xb5, 0x96, 0xb2, 0x1f, 0xf7, 0x45, 0xba, 0xea, 0xa3, 0x66, 0xc5, 0x5a, 0x08, 0x2d];
    let length = u16::try_from(entries.len() + 18).expect("it is small").to_le_bytes();
    entries.extend([&length[..], &table].concat());
    let mut page = vec![0; 4096];
    page[2048..2048 + metadata.len()].copy_from_slice(&metadata);
    let end = page.len() - 32;
    page[end - entries.len()..end].copy_from_slice(&entries);
    page
}
