use std::io;
use std::path::PathBuf;

use crate::server::ServerError;

/// Why a demonstration ended early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server could not begin.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The server refused what it should do, or could not be reached.
    #[error(transparent)]
    Client(#[from] keyhearth_client::Error),
    /// The server did what it should refuse.
    #[error("not refused: {0}")]
    Allowed(&'static str),
    /// A file of the caller can not be used.
    #[error("{}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The temporary folder can not be used.
    #[error("the temporary folder: {0}")]
    Folder(#[from] io::Error),
    /// A sealed file does not open.
    #[error("a sealed file: {0}")]
    Crypto(#[from] keyhearth_crypto::Error),
    /// An opened file is not what was sealed.
    #[error("{} opened to other bytes than were sealed", .0.display())]
    Differs(PathBuf),
    /// The exported log is not what it should be.
    #[error("the exported log: {0}")]
    Log(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// An altered copy of the log was believed.
    #[error("an altered copy of the log was believed")]
    Believed,
    /// Somebody stopped it.
    #[error("interrupted")]
    Interrupted,
}
