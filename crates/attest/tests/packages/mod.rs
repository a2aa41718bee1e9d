//! Packages of others, whose own samples are judged here.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder of a crate that these tests depend on, as cargo unpacked it.
pub fn folder(name: &str) -> PathBuf {
    let run = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        let output = command.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output();
        let output = output.expect("the toolchain is there");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let host = String::from_utf8(run("rustc", &["--print", "host-tuple"])).expect("words");
    // Packages for other platforms were not fetched to build this.
    let only = ["--offline", "--locked", "--filter-platform", host.trim()];
    let printed = run(env!("CARGO"), &[&["metadata", "--format-version", "1"], &only[..]].concat());
    let metadata: serde_json::Value = serde_json::from_slice(&printed).expect("cargo writes JSON");
    let mut packages = metadata["packages"].as_array().expect("packages").iter();
    let package = packages.find(|package| package["name"] == name).expect("a dependency of tests");
    let manifest = Path::new(package["manifest_path"].as_str().expect("a path"));
    manifest.parent().expect("a folder").to_owned()
}
