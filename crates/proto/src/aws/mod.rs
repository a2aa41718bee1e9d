//! The AWS KMS wire: JSON over HTTP, from and to core requests.

pub mod sigv4;
