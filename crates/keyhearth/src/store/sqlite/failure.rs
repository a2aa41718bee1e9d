//! What an error of SQLite means for the store.

use keyhearth_core::store::StoreError;
use rusqlite::ffi;

/// A [`StoreError`] on its way out, so that `?` turns SQLite's errors into it.
#[derive(Debug)]
pub(super) struct Failure(pub(super) StoreError);

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self(error)
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        failure.0
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        let Some(code) = error.sqlite_error().map(|error| error.extended_code) else {
            return Self(StoreError::Damaged("a stored value has the wrong type or length"));
        };
        tracing::warn!(code, %error, "SQLite refused");
        Self(match code & 0xff {
            ffi::SQLITE_FULL => StoreError::Full,
            ffi::SQLITE_CORRUPT | ffi::SQLITE_NOTADB => {
                StoreError::Damaged("the database file is malformed; restore a backup")
            }
            ffi::SQLITE_IOERR => StoreError::Failed("the disk reports errors; see the kernel's log"),
            ffi::SQLITE_BUSY | ffi::SQLITE_LOCKED => {
                StoreError::Failed("another program has the database open; stop it")
            }
            ffi::SQLITE_READONLY | ffi::SQLITE_CANTOPEN | ffi::SQLITE_PERM => {
                StoreError::Failed("the database cannot be written; check its permissions")
            }
            ffi::SQLITE_NOMEM => StoreError::Failed("out of memory"),
            _ => StoreError::Failed("SQLite refused; see the log"),
        })
    }
}

/// Whether the medium did not confirm a flush, or failed while the commit itself was written.
///
/// A full disk is neither: the frame that would make the commit valid was not written whole.
pub(super) fn is_unknown(error: &rusqlite::Error, committing: bool) -> bool {
    match error.sqlite_error().map(|error| error.extended_code) {
        Some(ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC) => true,
        Some(code) => committing && code & 0xff == ffi::SQLITE_IOERR,
        None => false,
    }
}

/// Ends the process: what the disk holds is unknown, and only reading it afresh can tell.
///
/// After a failed flush the kernel may count the lost pages as clean, so trying again would succeed
/// without writing anything.
pub(super) fn abort(error: &rusqlite::Error) -> ! {
    eprintln!(
        "keyhearth: the disk did not confirm a write ({error}), so what it holds is unknown; \
         stopping. Check the disk, then start again"
    );
    std::process::abort()
}
