//! What several targets share.

/// The files in an input that is a list of them, each after its length in two bytes; what is cut off is no file.
pub fn files(mut rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, after) = rest.split_first_chunk()?;
        let (file, after) = after.split_at_checked(u16::from_be_bytes(*length).into())?;
        rest = after;
        Some(file)
    })
}
