//! The table of certificates that a host gives with a report (`auxblob` of the kernel's TSM interface).
//!
//! Entries of 24 bytes (a GUID, an offset, a length), of which the last is zero, and then what they point to. The
//! GUIDs say what each is (VCEK, ASK, …); certificates say that themselves, so they are not read.
//!
//! Source: AMD 56421 (GHCB) §4.1.8.1.

const ENTRY_BYTES: usize = 24;
const GUID_BYTES: usize = 16;
/// Hosts have five kinds of entries; some add their own.
const ENTRIES_MAX: usize = 32;

/// What the entries point to, in their order; nothing if the bytes are no such table.
pub(crate) fn contents(table: &[u8]) -> Option<Vec<&[u8]>> {
    let mut found = Vec::new();
    for entry in table.chunks_exact(ENTRY_BYTES).take(ENTRIES_MAX) {
        if entry.iter().all(|byte| *byte == 0) {
            return (!found.is_empty()).then_some(found);
        }
        let number = |at: usize| {
            let bytes = entry[GUID_BYTES + at..].first_chunk().expect("an entry ends with two numbers");
            usize::try_from(u32::from_le_bytes(*bytes)).ok()
        };
        let (offset, length) = (number(0)?, number(4)?);
        found.push(table.get(offset..offset.checked_add(length)?)?);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_tables_are_read() {
        let entry = |offset: u32, length: u32| {
            [&[7; GUID_BYTES][..], &offset.to_le_bytes(), &length.to_le_bytes()].concat()
        };
        let end = [0; ENTRY_BYTES];
        let table = [&entry(48, 2)[..], &end, b"ab"].concat();
        assert_eq!(contents(&table), Some(vec![&b"ab"[..]]));
        assert_eq!(contents(&table[..49]), None, "it ends too early");
        assert_eq!(contents(&end), None, "nothing is in it");
        assert_eq!(contents(&[entry(0, 1), entry(u32::MAX, u32::MAX)].concat()), None);
        assert_eq!(contents(&entry(0, 1).repeat(ENTRIES_MAX + 1)), None, "it has no end");
    }
}
