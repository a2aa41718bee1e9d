//! The key server and its command line.

mod cli;

use std::process::ExitCode;

use keyhearth_sys::process;

fn main() -> ExitCode {
    // Who is not root mounts by `fusermount3`, a set-user-id program.
    let arguments: Vec<_> = std::env::args_os().collect();
    let mounts = ["file", "mount"].iter().all(|word| arguments.iter().any(|argument| argument == word));
    let hardened = if mounts { process::conceal() } else { process::harden() };
    if let Err(error) = hardened {
        eprintln!("keyhearth: this process can not be kept from being read by others: {error}");
        return ExitCode::FAILURE;
    }
    cli::main()
}
