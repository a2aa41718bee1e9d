//! The key server and its command line.
fn main() {}
