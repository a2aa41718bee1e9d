//! Export: a log as a folder of files, in the layout that tile servers and verifiers share.

use super::{BundleError, SignedCheckpoint, TILE_WIDTH, Tree, bundle_entries, bundle_path, leaf_hash};

/// Why an export ended early.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExportError<E> {
    /// The caller's reader or writer failed.
    Io(E),
    /// The reader returned something else than the entries it was asked for.
    Bundle {
        /// The first entry asked for.
        first: u64,
        /// What is wrong with the bytes; none if only the number of entries is.
        error: Option<BundleError>,
    },
    /// The entries do not have the root that the checkpoint signs; the folder has no checkpoint then.
    Root,
}

impl<E: std::fmt::Display> std::fmt::Display for ExportError<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Bundle { first, error: Some(error) } => write!(f, "entries from {first}: {error}"),
            Self::Bundle { first, error: None } => {
                write!(f, "entries from {first}: not as many as asked for")
            }
            Self::Root => f.write_str("the stored entries are not those the checkpoint signs"),
        }
    }
}

impl<E: std::error::Error> std::error::Error for ExportError<E> {}

/// Writes the log up to `checkpoint` as files: every entry bundle and tile, partial ones included.
///
/// `read(first, count)` returns `count` entries, at most 256, from index `first` as one bundle;
/// `write(path, bytes)` receives each file once, with `/` between path elements. The tiles are hashed anew
/// from the entries, so a damaged store is found here and not by whoever receives the folder. The
/// checkpoint comes last: a folder without one is an export that did not finish.
///
/// # Errors
/// As in [`ExportError`].
///
/// Source: C2SP tlog-tiles, "APIs".
pub fn export<E>(
    checkpoint: &SignedCheckpoint,
    mut read: impl FnMut(u64, usize) -> Result<Vec<u8>, E>,
    mut write: impl FnMut(&str, &[u8]) -> Result<(), E>,
) -> Result<(), ExportError<E>> {
    let stated = checkpoint.danger_unverified();
    let mut tree = Tree::empty();
    let mut full = Vec::new();
    while tree.size() < stated.size() {
        let first = tree.size();
        let width = usize::try_from(stated.size() - first).map_or(TILE_WIDTH, |rest| rest.min(TILE_WIDTH));
        let bundle = read(first, width).map_err(ExportError::Io)?;
        for entry in bundle_entries(&bundle) {
            let entry = entry.map_err(|error| ExportError::Bundle { first, error: Some(error) })?;
            tree.append(leaf_hash(entry), &mut |id, hashes| {
                full.push((id.path(), hashes.as_flattened().to_vec()))
            });
        }
        if tree.size() != first + width as u64 {
            return Err(ExportError::Bundle { first, error: None });
        }
        write(&bundle_path(first / TILE_WIDTH as u64, width), &bundle).map_err(ExportError::Io)?;
        for (path, bytes) in full.drain(..) {
            write(&path, &bytes).map_err(ExportError::Io)?;
        }
    }
    for (id, hashes) in tree.partial_tiles() {
        write(&id.path_at_width(hashes.len()), hashes.as_flattened()).map_err(ExportError::Io)?;
    }
    if tree.root() != *stated.root() {
        return Err(ExportError::Root);
    }
    write(CHECKPOINT_PATH, checkpoint.to_string().as_bytes()).map_err(ExportError::Io)
}

/// Where the checkpoint lies in an exported log.
pub const CHECKPOINT_PATH: &str = "checkpoint";
