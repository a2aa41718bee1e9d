//! Files that are sealed where they are made, before anything else sees them.
//!
//! [`age`] is the format: a text header that holds the file's key, wrapped for each who may open it, and a payload of
//! chunks. [`held`] is our way to wrap: by a key that stays in Keyhearth. [`seal`] and [`open()`] turn a whole file of
//! this machine into the other kind, on as many threads as it has, and leave either all of it or nothing. [`esdk`] does
//! the same in the format of the AWS Encryption SDK, for its readers and writers and where AES is wanted.
//!
//! [`manifest`] is what lies in a folder of such files: signed, so that what is missing, added, swapped or older shows.
//!
//! [`Scratch`] holds what is not sealed yet, while it is being written.
//!
//! [`names`] encrypts what files are called.
//!
//! Not here: the server. Who calls brings the file's key, or what a header says must be asked for.

pub mod age;
mod chunks;
mod error;
pub mod esdk;
pub mod held;
mod hex;
pub mod manifest;
pub mod names;
mod rewrite;
mod scratch;
mod transform;

pub use chunks::Reader;
pub use error::Error;
pub use rewrite::{copy_behind, recover, replace_header};
pub use scratch::{SCRATCH_BYTES_MAX, Scratch};
pub use transform::{
    AnyOpened, Opened, Output, Sealed, open, open_any, open_any_stream, open_stream, seal, seal_stream,
};
