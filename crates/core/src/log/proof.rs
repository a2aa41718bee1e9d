//! Proofs: that an entry is in a tree, and that a tree extends an older one.

use super::{EMPTY_ROOT, Hash, TileError, TileId, Tiles, node_hash};

/// The siblings on the way from leaf `index` up to the root of the tree of `size` leaves, at most 64.
///
/// `read` returns the hashes of a tile, at least as many as the tree of `size` leaves has of it; each tile
/// is read once.
///
/// # Errors
/// [`TileError::OutOfRange`] unless `index < size`; the others as in [`TileError`].
///
/// Source: RFC 6962 §2.1.1.
pub fn inclusion_proof<E>(
    size: u64,
    index: u64,
    read: impl FnMut(TileId) -> Result<Vec<Hash>, E>,
) -> Result<Vec<Hash>, TileError<E>> {
    if index >= size {
        return Err(TileError::OutOfRange);
    }
    let mut tiles = Tiles::new(read);
    let mut path = Vec::new();
    let (mut start, mut end) = (0, size);
    while end - start > 1 {
        let middle = start + left_leaves(end - start);
        if index < middle {
            path.push(tiles.range(middle, end)?);
            end = middle;
        } else {
            path.push(tiles.range(start, middle)?);
            start = middle;
        }
    }
    path.reverse();
    Ok(path)
}

/// The nodes that let a verifier compute both the root of `old` leaves and the root of `new` leaves, at
/// most 65. Nothing for an empty old tree and for equal sizes.
///
/// `read` as in [`inclusion_proof`], for the tree of `new` leaves.
///
/// # Errors
/// [`TileError::OutOfRange`] unless `old <= new`; the others as in [`TileError`].
///
/// Source: RFC 6962 §2.1.2.
pub fn consistency_proof<E>(
    old: u64,
    new: u64,
    read: impl FnMut(TileId) -> Result<Vec<Hash>, E>,
) -> Result<Vec<Hash>, TileError<E>> {
    if old > new {
        return Err(TileError::OutOfRange);
    }
    let mut path = Vec::new();
    if old == 0 {
        return Ok(path);
    }
    let mut tiles = Tiles::new(read);
    let (mut start, mut end) = (0, new);
    while old != end {
        let middle = start + left_leaves(end - start);
        if old <= middle {
            path.push(tiles.range(middle, end)?);
            end = middle;
        } else {
            path.push(tiles.range(start, middle)?);
            start = middle;
        }
    }
    if start != 0 {
        path.push(tiles.range(start, end)?);
    }
    path.reverse();
    Ok(path)
}

/// The leaves of the left child of a tree of `size` leaves, 2 or more: the largest power of two below it.
fn left_leaves(size: u64) -> u64 {
    1 << (size - 1).ilog2()
}

/// Whether `path` proves that `leaf` is at `index` of the tree with this `size` and `root`.
///
/// Source: RFC 9162 §2.1.3.2.
#[must_use]
pub fn verify_inclusion(leaf: &Hash, index: u64, size: u64, path: &[Hash], root: &Hash) -> bool {
    if index >= size {
        return false;
    }
    let mut climb = Climb { node: index, last: size - 1 };
    let mut hash = *leaf;
    for sibling in path {
        match climb.step() {
            Some(Side::Left) => hash = node_hash(sibling, &hash),
            Some(Side::Right) => hash = node_hash(&hash, sibling),
            None => return false,
        }
    }
    climb.last == 0 && hash == *root
}

/// Whether `path` proves that the tree `new` has the tree `old`, both as size and root, as its beginning.
///
/// Source: RFC 9162 §2.1.4.2.
#[must_use]
pub fn verify_consistency(old: (u64, &Hash), new: (u64, &Hash), path: &[Hash]) -> bool {
    let ((old_size, old_root), (new_size, new_root)) = (old, new);
    if old_size == 0 {
        return path.is_empty() && *old_root == EMPTY_ROOT && (new_size > 0 || *new_root == EMPTY_ROOT);
    }
    if old_size >= new_size {
        return path.is_empty() && old == new;
    }
    // Start at the largest perfect subtree that ends the old tree; if that is the whole old tree, the
    // verifier knows its root and the proof leaves it out.
    let height = old_size.trailing_zeros();
    let mut climb = Climb { node: (old_size - 1) >> height, last: (new_size - 1) >> height };
    let (seed, path) = match path.split_first() {
        _ if old_size.is_power_of_two() => (old_root, path),
        Some(split) => split,
        None => return false,
    };
    let (mut old_hash, mut new_hash) = (*seed, *seed);
    for sibling in path {
        match climb.step() {
            Some(Side::Left) => {
                old_hash = node_hash(sibling, &old_hash);
                new_hash = node_hash(sibling, &new_hash);
            }
            Some(Side::Right) => new_hash = node_hash(&new_hash, sibling),
            None => return false,
        }
    }
    climb.last == 0 && old_hash == *old_root && new_hash == *new_root
}

/// The way from a node up to the root, beside the last node of the same level.
struct Climb {
    node: u64,
    last: u64,
}

/// Where the next sibling on the way lies.
enum Side {
    Left,
    Right,
}

impl Climb {
    /// Goes up to the next level with a sibling, skipping those where the node has none; `None` at the root.
    fn step(&mut self) -> Option<Side> {
        if self.last == 0 {
            return None;
        }
        let skipped = if self.node == self.last { self.node.trailing_zeros() } else { 0 };
        self.node >>= skipped;
        self.last >>= skipped;
        let side = if self.node & 1 == 1 { Side::Left } else { Side::Right };
        self.node >>= 1;
        self.last >>= 1;
        Some(side)
    }
}
