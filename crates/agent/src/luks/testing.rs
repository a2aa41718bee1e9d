//! Disks that cryptsetup formatted, and altered ones, for tests.

use std::io::{self, Write};
use std::process::Command;

use tempfile::NamedTempFile;

/// What opens the disks.
pub(crate) const KEY: [u8; 32] = [0x5a; 32];

/// A disk with a LUKS2 header by cryptsetup, made with these options besides.
pub(crate) fn format(options: &[&str]) -> NamedTempFile {
    let disk = NamedTempFile::new().unwrap();
    disk.as_file().set_len(32 << 20).unwrap();
    let mut arguments = vec!["luksFormat", "--type=luks2", "--batch-mode", "--key-file=-"];
    if !options.iter().any(|option| option.starts_with("--pbkdf")) {
        arguments.extend(["--pbkdf=pbkdf2", "--pbkdf-force-iterations=1000"]);
    }
    arguments.extend(options);
    run(Command::new("cryptsetup").args(arguments).arg(disk.path()));
    disk
}

/// Runs cryptsetup with the key as its input, which it need not read.
pub(crate) fn run(command: &mut Command) {
    let (reader, mut writer) = io::pipe().unwrap();
    writer.write_all(&KEY).unwrap();
    drop(writer);
    assert!(command.stdin(reader).status().expect("cryptsetup is installed").success(), "{command:?}");
}
