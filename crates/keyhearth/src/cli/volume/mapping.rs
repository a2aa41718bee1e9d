//! `volume open` and `volume close`: on the machine itself, with its agent.

use std::path::PathBuf;
use std::process::Command;
use std::{env, io};

use super::super::failure::Failure;
use super::super::session::Session;
use super::disk::Disk;

/// The agent's program.
const AGENT: &str = "keyhearth-boot";

/// Has the agent ask the server for the volumes that `config` says come late, and open them.
pub fn open(session: &Session, config: &std::path::Path) -> Result<(), Failure> {
    let agent = agent()?;
    let status = Command::new(&agent).args(["open", "--late", "--config"]).arg(config).status();
    let status = status.map_err(|error| Failure::at(agent.display(), &error))?;
    if !status.success() {
        let next = "see `keyhearth boot explain` for what the machine must show, and `keyhearth-boot check`";
        return Err(Failure::new("the volumes are not open; the agent says above why", next));
    }
    session.say(&serde_json::json!({ "opened": config }), "every late volume is open")
}

/// The agent beside this program, or in the search path.
fn agent() -> Result<PathBuf, Failure> {
    let beside = env::current_exe().ok().and_then(|program| Some(program.parent()?.join(AGENT)));
    let path = env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = env::split_paths(&path).collect();
    let mut places = beside.into_iter().chain(folders.into_iter().map(|folder| folder.join(AGENT)));
    places.find(|place| place.is_file()).ok_or_else(|| {
        let next =
            "install the package keyhearth-boot (docs/boot/install.md), or build it: scripts/build-boot";
        Failure::new(format_args!("there is no {AGENT} beside this program or in PATH"), next)
    })
}

/// Takes an open volume away; its key leaves the kernel.
pub fn close(session: &Session, mapping: &std::path::Path) -> Result<(), Failure> {
    let words = ["close"];
    let closed = Disk::at(mapping).command(&words).output();
    let closed = closed.map_err(|error: io::Error| Disk::at(mapping).failed(&words, &error.to_string()))?;
    if !closed.status.success() {
        let said = String::from_utf8_lossy(&closed.stderr).trim().to_owned();
        let next =
            "if it is in use unmount what is on it first; see `ls /dev/mapper` for the names of open volumes";
        return Err(Failure::new(format_args!("cryptsetup close {}: {said}", mapping.display()), next));
    }
    let mapping = mapping.display().to_string();
    session.say(&serde_json::json!({ "closed": mapping }), &format!("{mapping} is closed"))
}
