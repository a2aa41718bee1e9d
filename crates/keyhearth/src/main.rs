//! The key server and its command line.
mod listen;
fn main() {}
