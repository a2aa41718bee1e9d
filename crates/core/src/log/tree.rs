//! The right edge of the tree: what the writer keeps in memory to append and to state the root.

use super::{EMPTY_ROOT, Hash, TILE_WIDTH, TileError, TileId, node_hash, perfect_root};

/// The tallest perfect subtree, in levels above the leaves, of a tree whose size is a `u64`.
const HEIGHTS: usize = 64;

/// A tree that grows at its right end, without the part that will never change again.
///
/// Holds one tile of 8,192 bytes per level (three for 16 million entries) and the roots of the perfect
/// subtrees of which the tree consists, so [`Tree::root`] costs at most 63 hashes and [`Tree::append`]
/// two on average. A clone is cheap enough to append to speculatively and drop when a commit fails.
#[derive(Clone)]
pub struct Tree {
    size: u64,
    /// `peaks[h]` is the root of the perfect subtree of `2^h` leaves, if bit `h` of `size` is set.
    peaks: [Hash; HEIGHTS],
    /// Per level the tile at the right edge; its first `(size >> 8 * level) % 256` hashes count.
    tiles: Vec<Box<[Hash; TILE_WIDTH]>>,
}

impl Tree {
    /// The tree without leaves.
    pub fn empty() -> Self {
        Self { size: 0, peaks: [[0; 32]; HEIGHTS], tiles: Vec::new() }
    }

    /// Rebuilds the edge of a tree of `size` leaves from stored tiles.
    ///
    /// `edge_leaves` are the hashes of the last `size % 256` leaves; `read` is asked for full tiles only,
    /// at most 255 per level. Nothing here proves the tiles genuine: compare [`Tree::root`] with a
    /// checkpoint.
    ///
    /// # Errors
    /// [`TileError::Read`] if `read` fails, [`TileError::Short`] if a tile, or `edge_leaves`, holds too few
    /// hashes.
    pub fn load<E>(
        size: u64,
        edge_leaves: &[Hash],
        mut read: impl FnMut(TileId) -> Result<Vec<Hash>, E>,
    ) -> Result<Self, TileError<E>> {
        let mut tree = Self { size, ..Self::empty() };
        for level in 0..TileId::levels(size) {
            let edge = TileId::edge(level, size);
            let width = TileId::edge_width(level, size);
            let mut tile = Box::new([[0; 32]; TILE_WIDTH]);
            if level == 0 {
                let leaves = edge_leaves.get(..width).ok_or(TileError::Short { tile: edge })?;
                tile[..width].copy_from_slice(leaves);
            } else {
                for (hash, index) in tile[..width].iter_mut().zip(edge.index * TILE_WIDTH as u64..) {
                    let child = TileId { level: level - 1, index };
                    let hashes = read(child).map_err(TileError::Read)?;
                    *hash = perfect_root(hashes.get(..TILE_WIDTH).ok_or(TileError::Short { tile: child })?);
                }
            }
            for bit in (0..8).filter(|bit| width >> bit & 1 == 1) {
                let start = width >> (bit + 1) << (bit + 1);
                tree.peaks[8 * usize::from(level) + bit] = perfect_root(&tile[start..start + (1 << bit)]);
            }
            tree.tiles.push(tile);
        }
        Ok(tree)
    }

    /// The number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The Merkle tree hash over all leaves.
    ///
    /// Source: RFC 6962 §2.1.
    pub fn root(&self) -> Hash {
        (0..HEIGHTS)
            .filter(|height| self.size >> height & 1 == 1)
            .map(|height| self.peaks[height])
            .reduce(|right, left| node_hash(&left, &right))
            .unwrap_or(EMPTY_ROOT)
    }

    /// Adds one leaf; `full` receives every tile that this leaf completes, lowest level first.
    ///
    /// Allocates only when the tree gains a level.
    pub fn append(&mut self, leaf: Hash, full: &mut impl FnMut(TileId, &[Hash; TILE_WIDTH])) {
        let mut hash = leaf;
        let mut height = 0;
        loop {
            if height % 8 == 0 {
                self.put(height / 8, hash, full);
            }
            if self.size >> height & 1 == 0 {
                break;
            }
            hash = node_hash(&self.peaks[height], &hash);
            height += 1;
        }
        self.peaks[height] = hash;
        self.size += 1;
    }

    fn put(&mut self, level: usize, hash: Hash, full: &mut impl FnMut(TileId, &[Hash; TILE_WIDTH])) {
        if level == self.tiles.len() {
            self.tiles.push(Box::new([[0; 32]; TILE_WIDTH]));
        }
        let level_id = u8::try_from(level).expect("a u64 size has at most 8 levels of tiles");
        let width = TileId::edge_width(level_id, self.size);
        self.tiles[level][width] = hash;
        if width == TILE_WIDTH - 1 {
            full(TileId::edge(level_id, self.size), &self.tiles[level]);
        }
    }

    /// The hashes of `tile` if it is the one at the right edge of its level; they may be none.
    ///
    /// Together with the stored full tiles this answers every reader of the proofs.
    pub fn edge_tile(&self, tile: TileId) -> Option<&[Hash]> {
        let hashes = self.tiles.get(usize::from(tile.level))?;
        (tile == TileId::edge(tile.level, self.size)).then(|| &hashes[..tile.width(self.size)])
    }

    /// The tiles that are not full yet and not empty, lowest level first; each has 1 to 255 hashes.
    pub fn partial_tiles(&self) -> impl Iterator<Item = (TileId, &[Hash])> {
        (0..).zip(&self.tiles).filter_map(|(level, tile)| {
            let width = TileId::edge_width(level, self.size);
            (width > 0).then(|| (TileId::edge(level, self.size), &tile[..width]))
        })
    }
}
