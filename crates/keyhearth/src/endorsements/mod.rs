//! What others say about machines' hardware, as a deployment keeps it: a folder of files, the library that a server
//! makes of it, and what it may fetch into it.
//!
//! ```text
//! import (a person) ─┐
//!                    ├─▶ check ─▶ folder ─▶ library ─▶ appraisal, which checks again
//! fetch (if it may) ─┘              └ read anew when it changes
//! ```
//! The folder is the truth: what was fetched is in it before it is used, and other servers may share it.
//!
//! Not here: what an endorsement must be to be believed, which is `keyhearth-attest`'s.
//!
//! Called by the server, the boot listener and `keyhearth boot endorsements`.

mod fetch;
mod folder;
mod http;
mod shelf;

pub use fetch::{FetchError, Fetcher, Sources, Urls};
pub use folder::{Contents, FILES_MAX, FOLDER_BYTES_MAX, Folder, Imported, Kept, Outcome};
pub use shelf::Shelf;
