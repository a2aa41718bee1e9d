//! The key server and its command line.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Err(error) = keyhearth_sys::process::harden() {
        eprintln!("keyhearth: this process can not be kept from being read by others: {error}");
        return ExitCode::FAILURE;
    }
    cli::main()
}
