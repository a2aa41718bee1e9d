//! Tiles: where the hashes and the entries of a log lie, and how to find a subtree among them.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::{Hash, node_hash};

/// Hashes in a full tile, and entries in a full bundle.
pub const TILE_WIDTH: usize = 256;
/// Bytes of a full tile.
pub const TILE_BYTES: usize = TILE_WIDTH * 32;
/// The longest entry a bundle can hold, in bytes.
pub const ENTRY_BYTES_MAX: usize = u16::MAX as usize;
/// The largest bundle of 256 entries, in bytes.
pub const BUNDLE_BYTES_MAX: usize = TILE_WIDTH * (2 + ENTRY_BYTES_MAX);

/// Names 256 consecutive hashes: at level 0 of leaves, above that of full tiles one level below.
///
/// Source: C2SP tlog-tiles, "Merkle Tree".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TileId {
    /// Eight tree levels each; 0 holds leaves, 7 is the highest a `u64` size can reach.
    pub level: u8,
    /// Counts the tiles of one level from the left.
    pub index: u64,
}

impl TileId {
    /// The path of the full tile in an exported log.
    pub fn path(self) -> String {
        format!("tile/{}/{}", self.level, index_path(self.index))
    }

    /// The path of this tile while it holds `width` hashes; 256 gives [`TileId::path`].
    pub fn path_at_width(self, width: usize) -> String {
        self.path() + &width_suffix(width)
    }

    /// How many levels have a tile, full or not, in a tree of `size` leaves.
    pub(super) fn levels(size: u64) -> u8 {
        (0..8).find(|level| size >> (8 * level) == 0).unwrap_or(8)
    }

    /// The tile that takes the next hash of this level in a tree of `size` leaves.
    pub(super) fn edge(level: u8, size: u64) -> Self {
        Self { level, index: (size >> (8 * level)) / TILE_WIDTH as u64 }
    }

    /// How many hashes that tile already has, 0 to 255.
    pub(super) fn edge_width(level: u8, size: u64) -> usize {
        usize::from((size >> (8 * level)).to_le_bytes()[0])
    }

    /// How many hashes this tile has in a tree of `size` leaves.
    pub(super) fn width(self, size: u64) -> usize {
        let edge = Self::edge(self.level, size);
        match self.index.cmp(&edge.index) {
            std::cmp::Ordering::Less => TILE_WIDTH,
            std::cmp::Ordering::Equal => Self::edge_width(self.level, size),
            std::cmp::Ordering::Greater => 0,
        }
    }
}

impl std::fmt::Display for TileId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.path())
    }
}

/// The path of a bundle of `width` entries in an exported log; `index` counts bundles of 256 entries.
///
/// Source: C2SP tlog-tiles, "Log entries".
pub fn bundle_path(index: u64, width: usize) -> String {
    format!("tile/entries/{}{}", index_path(index), width_suffix(width))
}

/// Three digits per path element, all but the last marked with `x`, so no file is also a folder.
fn index_path(index: u64) -> String {
    let last = format!("{:03}", index % 1000);
    let mut path = last;
    let mut rest = index / 1000;
    while rest > 0 {
        path = format!("x{:03}/{path}", rest % 1000);
        rest /= 1000;
    }
    path
}

fn width_suffix(width: usize) -> String {
    if width == TILE_WIDTH { String::new() } else { format!(".p/{width}") }
}

/// Splits the bytes of a tile, full or partial, into its hashes; `None` if a hash is cut short.
pub fn tile_hashes(bytes: &[u8]) -> Option<&[Hash]> {
    let (hashes, rest) = bytes.as_chunks();
    rest.is_empty().then_some(hashes)
}

/// An entry, or the rest of a bundle, that does not have the form of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BundleError {
    /// The entry is longer than [`ENTRY_BYTES_MAX`].
    TooLarge,
    /// The bundle ends inside an entry.
    Truncated,
}

impl std::fmt::Display for BundleError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TooLarge => write!(f, "the entry is longer than {ENTRY_BYTES_MAX} bytes"),
            Self::Truncated => f.write_str("the bundle ends inside an entry"),
        }
    }
}

impl std::error::Error for BundleError {}

/// Appends `entry` to `bundle` behind its length as two bytes, most significant first.
///
/// # Errors
/// [`BundleError::TooLarge`] above [`ENTRY_BYTES_MAX`]; the bundle is then unchanged.
pub fn push_entry(bundle: &mut Vec<u8>, entry: &[u8]) -> Result<(), BundleError> {
    let length = u16::try_from(entry.len()).map_err(|_| BundleError::TooLarge)?;
    bundle.extend_from_slice(&length.to_be_bytes());
    bundle.extend_from_slice(entry);
    Ok(())
}

/// Walks the entries of a bundle of any length; ends after the first error.
pub fn bundle_entries(bundle: &[u8]) -> impl Iterator<Item = Result<&[u8], BundleError>> {
    let mut rest = bundle;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let entry = rest
            .split_first_chunk()
            .and_then(|(length, tail)| tail.split_at_checked(usize::from(u16::from_be_bytes(*length))));
        rest = entry.map_or(&[], |(_, tail)| tail);
        Some(entry.map(|(entry, _)| entry).ok_or(BundleError::Truncated))
    })
}

/// Why a tile could not be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TileError<E> {
    /// The caller's reader failed.
    Read(E),
    /// The tile holds fewer hashes than the size of the tree requires.
    Short {
        /// The tile.
        tile: TileId,
    },
    /// The index or the older size lies outside the tree.
    OutOfRange,
}

impl<E: std::fmt::Display> std::fmt::Display for TileError<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Read(error) => write!(f, "cannot read a tile: {error}"),
            Self::Short { tile } => write!(f, "{tile} holds too few hashes"),
            Self::OutOfRange => f.write_str("outside the tree"),
        }
    }
}

impl<E: std::error::Error> std::error::Error for TileError<E> {}

/// Stored tiles as a source of subtree roots; reads each tile once.
pub(super) struct Tiles<R> {
    read: R,
    seen: BTreeMap<TileId, Vec<Hash>>,
}

impl<E, R: FnMut(TileId) -> Result<Vec<Hash>, E>> Tiles<R> {
    pub(super) fn new(read: R) -> Self {
        Self { read, seen: BTreeMap::new() }
    }

    /// The root of the perfect subtree of `2^height` leaves that is the `index`-th of its kind.
    pub(super) fn subtree(&mut self, height: u32, index: u64) -> Result<Hash, TileError<E>> {
        let (level, within) = (height / 8, height % 8);
        let first = index << within;
        let tile = TileId {
            level: u8::try_from(level).expect("the height is below 64"),
            index: first / TILE_WIDTH as u64,
        };
        let hashes = match self.seen.entry(tile) {
            Entry::Occupied(seen) => seen.into_mut(),
            Entry::Vacant(new) => new.insert((self.read)(tile).map_err(TileError::Read)?),
        };
        let start = usize::from(first.to_le_bytes()[0]);
        hashes.get(start..start + (1 << within)).map(perfect_root).ok_or(TileError::Short { tile })
    }

    /// The Merkle tree hash of the leaves from `start` to before `end`, where `start` is a multiple of a
    /// power of two that is at least `end - start`, as for every subtree of RFC 6962.
    pub(super) fn range(&mut self, start: u64, end: u64) -> Result<Hash, TileError<E>> {
        let mut end = end;
        let mut root = None;
        while start < end {
            let height = (end - start).trailing_zeros();
            let left = self.subtree(height, (end >> height) - 1)?;
            root = Some(root.map_or(left, |right| node_hash(&left, &right)));
            end -= 1 << height;
        }
        Ok(root.unwrap_or(super::EMPTY_ROOT))
    }
}

/// The root over a power of two of hashes, at least one and at most a tile.
pub(super) fn perfect_root(hashes: &[Hash]) -> Hash {
    let mut row = [[0; 32]; TILE_WIDTH];
    let mut width = hashes.len();
    row[..width].copy_from_slice(hashes);
    while width > 1 {
        width /= 2;
        for i in 0..width {
            row[i] = node_hash(&row[2 * i], &row[2 * i + 1]);
        }
    }
    row[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_standard() {
        let tile = TileId { level: 3, index: 1_234_067 };
        assert_eq!(tile.path(), "tile/3/x001/x234/067");
        assert_eq!(tile.path_at_width(17), "tile/3/x001/x234/067.p/17");
        assert_eq!(TileId { level: 0, index: 0 }.path_at_width(256), "tile/0/000");
        assert_eq!(bundle_path(1000, 256), "tile/entries/x001/000");
        assert_eq!(bundle_path(273, 112), "tile/entries/273.p/112");
    }

    #[test]
    fn seventy_thousand_leaves_have_the_tiles_of_the_standards_example() {
        let widths: Vec<_> = (0..TileId::levels(70_000))
            .map(|l| (TileId::edge(l, 70_000).index, TileId::edge_width(l, 70_000)))
            .collect();
        assert_eq!(widths, [(273, 112), (1, 17), (0, 1)]);
        assert_eq!(TileId::levels(u64::MAX), 8);
    }

    #[test]
    fn bundles_return_what_was_pushed_and_refuse_a_cut() {
        let mut bundle = Vec::new();
        let entries: [&[u8]; 3] = [b"", b"one", &[7; ENTRY_BYTES_MAX]];
        for entry in entries {
            push_entry(&mut bundle, entry).unwrap();
        }
        assert_eq!(bundle_entries(&bundle).collect::<Result<Vec<_>, _>>().unwrap(), entries);
        assert_eq!(push_entry(&mut bundle, &[0; ENTRY_BYTES_MAX + 1]), Err(BundleError::TooLarge));
        bundle.pop();
        assert_eq!(bundle_entries(&bundle).last(), Some(Err(BundleError::Truncated)));
        assert_eq!(bundle_entries(&[0]).collect::<Vec<_>>(), [Err(BundleError::Truncated)]);
    }
}
