//! The rules that the compiler does not know: which way dependencies run, and what no file contains.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Each crate, and those of ours it may depend on.
const CRATES: &[(&str, &[&str])] = &[
    ("keyhearth-sys", &[]),
    ("keyhearth-crypto", &["keyhearth-sys"]),
    ("keyhearth-core", &["keyhearth-crypto"]),
    ("keyhearth-proto", &["keyhearth-core", "keyhearth-crypto"]),
    ("keyhearth-attest", &["keyhearth-crypto"]),
    ("keyhearth-machines", &["keyhearth-attest", "keyhearth-crypto"]),
    ("keyhearth-files", &["keyhearth-crypto", "keyhearth-sys"]),
    ("keyhearth-client", &["keyhearth-proto", "keyhearth-sys", "keyhearth-core", "keyhearth-crypto"]),
    (
        "keyhearth-agent",
        &["keyhearth-attest", "keyhearth-core", "keyhearth-crypto", "keyhearth-proto", "keyhearth-sys"],
    ),
    (
        "keyhearth",
        &[
            "keyhearth-attest",
            "keyhearth-client",
            "keyhearth-core",
            "keyhearth-crypto",
            "keyhearth-files",
            "keyhearth-machines",
            "keyhearth-proto",
            "keyhearth-sys",
        ],
    ),
];

/// Crates without IO, and what brings IO in.
const PURE: &[&str] = &["keyhearth-crypto", "keyhearth-core", "keyhearth-proto", "keyhearth-attest"];
const IO: &[&str] = &["tokio", "hyper", "hyper-util", "reqwest", "rusqlite", "tokio-rustls", "rustls"];

/// Modules of the server, and those of the others that each may name. What is not here wires these together;
/// the engine knows its store by core's trait alone.
const SERVER_MODULES: &[(&str, &[&str])] = &[
    ("store", &[]),
    ("seal", &[]),
    ("identity", &[]),
    ("policy", &[]),
    ("endorsements", &[]),
    ("engine", &["identity", "policy", "seal"]),
    ("listen", &["endorsements", "engine", "telemetry"]),
];

const FILE_LINES_MAX: usize = 800;

/// Written in two halves so that this file does not contain them.
const FORBIDDEN: &[(&str, &str)] = &[
    ("TO", "DO"),
    ("FIX", "ME"),
    ("issue ", "#"),
    ("/ro", "ot/"),
    ("/ho", "me/"),
    ("/wo", "rk/"),
    ("../sha", "red"),
];

/// The only file that knows what lies beside the repository.
const CI: &str = ".ci/run";

fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.ancestors().nth(2).expect("the crate lies in crates/").to_owned()
}

/// What holds nothing written by us.
const SKIPPED: &[&str] = &[".git", ".venv", "node_modules", "target", "corpus", "artifacts", "coverage"];

/// Every file of the repository that is text: its path and what it contains.
fn texts() -> Vec<(String, String)> {
    let mut folders = vec![root()];
    let mut texts = Vec::new();
    while let Some(folder) = folders.pop() {
        for file in fs::read_dir(folder).expect("the folder is readable") {
            let file = file.expect("the folder is readable");
            let path = file.path();
            let kind = file.file_type().expect("the file has a type");
            if SKIPPED.iter().any(|skipped| file.file_name() == *skipped) {
                continue;
            }
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file()
                && let Ok(text) = fs::read_to_string(&path)
            {
                let inside = path.strip_prefix(root()).expect("the walk starts at the root");
                texts.push((inside.to_str().expect("paths are UTF-8").to_owned(), text));
            }
        }
    }
    texts
}

/// Our own source, without comments.
fn rust() -> impl Iterator<Item = (String, String)> {
    texts().into_iter().filter(|(path, _)| path.ends_with(".rs")).map(|(path, text)| {
        let code: Vec<_> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        (path, code.join("\n"))
    })
}

/// What cargo says of the workspace.
fn metadata() -> serde_json::Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--offline", "--no-deps"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo writes JSON")
}

/// Names of the dependencies of each of our crates, without those of tests.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let metadata = metadata();
    let list = |value: &serde_json::Value| value.as_array().expect("an array").clone();
    let name = |value: &serde_json::Value| value["name"].as_str().expect("a name").to_owned();
    list(&metadata["packages"])
        .iter()
        .map(|package| {
            let used = list(&package["dependencies"]);
            (name(package), used.iter().filter(|used| used["kind"] != "dev").map(name).collect())
        })
        .collect()
}

#[test]
fn crates_depend_only_in_the_stated_direction() {
    let dependencies = dependencies();
    assert_eq!(dependencies.len(), CRATES.len(), "{dependencies:?}");
    for (name, used) in &dependencies {
        let (_, allowed) = CRATES
            .iter()
            .find(|(known, _)| known == name)
            .unwrap_or_else(|| panic!("{name} has no row in CRATES: say what it may depend on"));
        for ours in used.iter().filter(|used| used.starts_with("keyhearth")) {
            assert!(allowed.contains(&ours.as_str()), "{name} must not depend on {ours}");
        }
    }
}

#[test]
fn pure_crates_have_no_io() {
    let dependencies = dependencies();
    for name in PURE {
        for used in &dependencies[*name] {
            assert!(!IO.contains(&used.as_str()), "{name} must do no IO, but depends on {used}");
        }
    }
}

#[test]
fn modules_of_the_server_are_used_only_from_above() {
    let mut seen = BTreeSet::new();
    for (path, code) in rust() {
        let Some(inside) = path.strip_prefix("crates/keyhearth/src/") else { continue };
        let module = inside.split(['/', '.']).next().expect("a path has a first part");
        let Some((name, below)) = SERVER_MODULES.iter().find(|(name, _)| *name == module) else { continue };
        seen.insert(name);
        // Unit tests at a file's end may use what is real.
        let code = code.split("#[cfg(test)]\nmod tests {").next().expect("a split has a first part");
        for used in code.split("crate::").skip(1) {
            let used: String = used.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            assert!(used == module || below.contains(&used.as_str()), "{path} must not use crate::{used}");
        }
    }
    assert_eq!(seen.len(), SERVER_MODULES.len(), "only {seen:?} exist");
}

#[test]
fn unsafe_code_is_in_one_crate() {
    for (path, code) in rust().filter(|(path, _)| !path.starts_with("crates/sys/")) {
        let used = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern", "unsafe("];
        let forbidden = used.into_iter().find(|word| code.contains(&[" ", word].concat()));
        assert!(forbidden.is_none() || path.ends_with("architecture.rs"), "{path} contains `{forbidden:?}`");
    }
}

#[test]
fn files_are_short_enough_to_read() {
    for (path, text) in texts().iter().filter(|(path, _)| path.ends_with(".rs")) {
        let lines = text.lines().count();
        assert!(lines <= FILE_LINES_MAX, "{path} has {lines} lines: make it a folder");
    }
}

#[test]
fn no_file_contains_a_note_to_ourselves_or_a_path_of_one_machine() {
    let ours = ["rs", "toml", "md", "py", "sh", "yml", "yaml", "txt", "json"];
    let read = |path: &str| {
        let extension = Path::new(path).extension().and_then(|extension| extension.to_str());
        path != CI && extension.is_none_or(|extension| ours.contains(&extension)) && !path.contains("/seeds/")
    };
    for (path, text) in texts().iter().filter(|(path, _)| read(path)) {
        for (number, line) in (1..).zip(text.lines()) {
            let found = FORBIDDEN.iter().map(|(a, b)| [*a, *b].concat()).find(|word| line.contains(word));
            assert!(found.is_none(), "{path}:{number} contains `{}`", found.unwrap_or_default());
        }
    }
}

/// The first command of the README: without a package, `cargo run` has one program to run.
#[test]
fn cargo_run_has_one_program() {
    let metadata = metadata();
    let defaults = metadata["workspace_default_members"].as_array().expect("an array");
    assert_eq!(defaults.len(), 1, "{defaults:?}");
    assert!(defaults[0].as_str().is_some_and(|id| id.contains("crates/keyhearth#")), "{defaults:?}");
}
