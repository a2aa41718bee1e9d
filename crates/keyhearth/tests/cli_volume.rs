//! `volume …` and the ends of machines: a development server, real cryptsetup, image files in place of disks, and the
//! agent's own reader of headers. What is refused leaves disk and server as they were.

#![allow(clippy::unwrap_used, reason = "a test may panic, its functions too")]

use std::fs::{self, File, Permissions};
use std::io::{BufRead, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use keyhearth_agent::config::Config;
use keyhearth_agent::luks;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_keyhearth");
/// Whom the test becomes to be somebody without rights.
const NOBODY: u32 = 65_534;
const MIB: u64 = 1 << 20;

/// A running development server with the machine `web`, and a folder for disks.
struct Scene {
    folder: TempDir,
    server: Child,
    url: String,
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// How a command ended.
#[derive(Debug)]
struct Outcome {
    code: Option<i32>,
    output: String,
    error: String,
}

impl Outcome {
    fn json(&self) -> Value {
        assert_eq!(self.code, Some(0), "{}", self.error);
        serde_json::from_str(&self.output).unwrap()
    }

    /// It was refused, said `what`, and what to do.
    fn refused(&self, what: &str) {
        assert_eq!(self.code, Some(1), "{self:?}");
        assert!(self.error.contains(what) && self.error.contains("  next: "), "{what}: {}", self.error);
    }
}

impl Scene {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let data = folder.path().join("data");
        let mut command = Command::new(PROGRAM);
        command.args(["serve", "--dev", "--data"]).arg(data).stderr(Stdio::piped()).stdout(Stdio::null());
        let mut server = command.spawn().unwrap();
        let mut lines = BufReader::new(server.stderr.take().unwrap()).lines().map(Result::unwrap);
        let url = lines.find_map(|line| line.strip_prefix("listening on ").map(str::to_owned)).unwrap();
        std::thread::spawn(move || lines.for_each(drop));
        let scene = Self { folder, server, url: url.split(';').next().unwrap().to_owned() };
        scene.does("boot enroll web --volume root --volume data --template any-vm --json").json();
        scene
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self) -> Command {
        self.command_of(Path::new(PROGRAM))
    }

    fn command_of(&self, program: &Path) -> Command {
        let data = |name: &str| self.at("data").join(name);
        let mut command = Command::new(program);
        command
            .env("KEYHEARTH_URL", &self.url)
            .env("KEYHEARTH_CA_FILE", data("ca.crt"))
            .env("KEYHEARTH_CERT_FILE", data("dev.crt"))
            .env("KEYHEARTH_KEY_FILE", data("dev.key"))
            .current_dir(self.folder.path())
            .stdin(Stdio::null());
        command
    }

    fn does(&self, line: &str) -> Outcome {
        ended(self.command().args(line.split(' ')))
    }

    /// `line` with a cryptsetup that does `act` first, in the shell's words, where its own contain `words`.
    fn under(&self, words: &str, act: &str, line: &str) -> Command {
        let folder = self.at("bin");
        fs::create_dir_all(&folder).unwrap();
        let real = cryptsetup();
        let script =
            format!("#!/bin/sh\ncase \" $* \" in *\" {words} \"*) {act};; esac\nexec {real} \"$@\"\n");
        let wrapper = folder.join("cryptsetup");
        fs::write(&wrapper, script).unwrap();
        fs::set_permissions(&wrapper, Permissions::from_mode(0o755)).unwrap();
        let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
        let mut command = self.command();
        command.args(line.split(' ')).env("PATH", path);
        command
    }

    /// What `under` does so that strace meddles with writes to an image.
    fn strace(&self, inject: &str, image: &str) -> String {
        let (image, real) = (self.at(image), cryptsetup());
        format!(
            "exec strace -o /dev/null -P {} -e trace=write,pwrite64 -e inject=write,pwrite64:{inject} {real} \"$@\"",
            image.display()
        )
    }

    /// A file of so many MiB.
    fn image(&self, name: &str, mib: u64) -> PathBuf {
        let path = self.at(name);
        File::create(&path).unwrap().set_len(mib * MIB).unwrap();
        path
    }

    /// The same with an ext4 file system in its first 40 MiB; and the SHA-256 of these.
    fn ext4(&self, name: &str, mib: u64) -> (PathBuf, [u8; 32]) {
        let path = self.image(name, mib);
        fs::create_dir_all(self.at("files")).unwrap();
        fs::write(self.at("files/letter"), vec![b'x'; 3 << 20]).unwrap();
        tool("mkfs.ext4", &["-q", "-d", self.at("files").to_str().unwrap(), path.to_str().unwrap(), "40M"]);
        let hash = head(&path, 40 * MIB);
        (path, hash)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.at(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    /// What the server knows of a volume.
    fn volume(&self, name: &str) -> Value {
        let machine = self.does("boot show web --json").json();
        machine["volumes"].as_array().unwrap().iter().find(|one| one["name"] == name).unwrap().clone()
    }

    /// The agent takes the disk's header, and it is the one that the server knows. Gives the generation.
    fn boots(&self, volume: &str, image: &Path) -> u64 {
        let (header, _) = luks::read(&mut File::open(image).unwrap()).unwrap();
        let hash: String = header.hash().iter().map(|byte| format!("{byte:02x}")).collect();
        let known = self.volume(volume);
        assert_eq!(known["header"].as_str().unwrap().replace(':', "").to_lowercase(), hash);
        known["generation"].as_u64().unwrap()
    }

    /// The recovery secret of a volume opens its disk.
    fn recovers(&self, volume: &str, image: &Path) {
        let secret = self.at("recovery");
        let _ = fs::remove_file(&secret);
        self.does(&format!("boot recover web {volume} --to recovery --reason test --json")).json();
        tool("cryptsetup", &["open", "--test-passphrase", "--key-file", text(&secret), text(image)]);
    }

    /// `line` is refused with `what`, and changes neither the image nor what the server says.
    fn leaves(&self, image: &Path, what: &str, line: &str) {
        let state = |scene: &Self| (head(image, u64::MAX), scene.does("boot show web --json").output);
        let before = state(self);
        self.does(line).refused(what);
        assert!(state(self) == before, "{line} changed something");
    }
}

fn ended(command: &mut Command) -> Outcome {
    let ended = command.output().unwrap();
    Outcome {
        code: ended.status.code(),
        output: String::from_utf8(ended.stdout).unwrap(),
        error: String::from_utf8(ended.stderr).unwrap(),
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The program, in another folder.
fn copy_of_program(folder: &Path) -> PathBuf {
    let program = folder.join("keyhearth");
    if !program.exists() {
        fs::hard_link(PROGRAM, &program).or_else(|_| fs::copy(PROGRAM, &program).map(drop)).unwrap();
    }
    program
}

/// Runs a program that must succeed; gives what it printed.
fn tool(program: &str, arguments: &[&str]) -> String {
    let ended = Command::new(program).args(arguments).stdin(Stdio::null()).output().unwrap();
    assert!(ended.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&ended.stderr));
    String::from_utf8(ended.stdout).unwrap()
}

/// Where cryptsetup is.
fn cryptsetup() -> String {
    tool("sh", &["-c", "command -v cryptsetup"]).trim().to_owned()
}

fn dump(image: &Path) -> Value {
    serde_json::from_str(&tool("cryptsetup", &["luksDump", "--dump-json-metadata", text(image)])).unwrap()
}

fn keyslots(image: &Path) -> usize {
    dump(image)["keyslots"].as_object().unwrap().len()
}

/// The SHA-256 of the first bytes of a file.
fn head(path: &Path, bytes: u64) -> [u8; 32] {
    let mut head = Vec::new();
    File::open(path).unwrap().take(bytes).read_to_end(&mut head).unwrap();
    Sha256::digest(&head).into()
}

/// The SHA-256 of the first 40 MiB of what a volume holds, after cryptsetup took the encryption away again.
fn plain(image: &Path, key: &Path) -> [u8; 32] {
    let copy = image.with_extension("plain");
    fs::copy(image, &copy).unwrap();
    let header = image.with_extension("header");
    let words =
        ["reencrypt", "--decrypt", "--batch-mode", "--force-offline-reencrypt", "--header", text(&header)];
    tool("cryptsetup", &[&words[..], &["--key-file", text(key), text(&copy)]].concat());
    head(&copy, 40 * MIB)
}

#[test]
fn a_volume_is_formatted_rotated_and_never_formatted_by_mistake() {
    let scene = Scene::new();
    let image = scene.image("disk", 40);
    scene.leaves(&image, "wants a confirmation", "volume format web data=disk --recovery");
    let made = scene.does("volume format web data=disk --recovery --yes --json").json();
    assert_eq!((&made["generation"], &made["keyslots"]), (&1.into(), &serde_json::json!([0, 1])));
    assert_eq!(scene.boots("data", &image), 1);
    scene.recovers("data", &image);
    scene.leaves(&image, "crypto_LUKS", "volume format web data=disk --yes");

    // Without a reason no recovery secret, and then nothing happens.
    scene.leaves(&image, "reason", "volume rotate web data=disk --recover");
    let old = dump(&image)["keyslots"]["0"].clone();
    let rotated = scene.does("volume rotate web data=disk --recover --reason test --json").json();
    assert_eq!((&rotated["generation"], &rotated["ended"]), (&2.into(), &serde_json::json!([0])));
    assert_eq!(scene.boots("data", &image), 2);
    assert!(dump(&image)["keyslots"].as_object().unwrap().values().all(|slot| *slot != old));
    scene.recovers("data", &image);

    // A keyslot that somebody added is kept until it is named.
    let (recovery, added) = (scene.at("recovery"), scene.file("mine", b"my own passphrase"));
    let quick = ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"];
    let words = ["luksAddKey", "--key-slot", "7", "--key-file", text(&recovery), text(&image), text(&added)];
    tool("cryptsetup", &[&words[..], &quick].concat());
    let prepared = scene.does("boot prepare web data=disk --passphrase-file mine --end-old --json").json();
    assert_eq!(prepared["volumes"][1]["generation"], 3);
    assert_eq!((scene.boots("data", &image), keyslots(&image)), (3, 3));
    scene.leaves(&image, "no keyslot 9", "volume rotate web data=disk --passphrase-file mine --end 9");
    let ended = scene.does("volume rotate web data=disk --passphrase-file mine --end 7 --json").json();
    assert_eq!(ended["ended"].as_array().unwrap().len(), 2);
    assert_eq!((scene.boots("data", &image), keyslots(&image)), (4, 2));
    scene.leaves(&image, "no keyslot of", "volume rotate web data=disk --passphrase-file mine");
    scene.recovers("data", &image);
}

#[test]
fn what_cannot_be_a_volume_stays_as_it_was() {
    let scene = Scene::new();
    let pass = scene.file("pass", b"pass");
    let empty = scene.image("empty", 40);
    let (full, _) = scene.ext4("full", 60);
    let old = scene.image("old", 40);
    let quick = ["--pbkdf-force-iterations", "1000", "--batch-mode"];
    let one = ["luksFormat", "--type", "luks1", text(&old), text(&pass)];
    tool("cryptsetup", &[&one[..], &quick].concat());
    let by = "--passphrase-file pass";
    for verb in ["volume rotate", "volume rekey --yes", "boot prepare"] {
        scene.leaves(&empty, "no LUKS2 volume", &format!("{verb} web data=empty {by}"));
        scene.leaves(&old, "LUKS1", &format!("{verb} web data=old {by}"));
        scene.leaves(&empty, "missing", &format!("{verb} web data=missing {by}"));
    }
    for verb in ["format", "convert", "rotate", "rekey"] {
        scene.leaves(&empty, "no machine `nobody`", &format!("volume {verb} nobody data=empty"));
        let line = format!("volume {verb} web var=empty");
        scene.leaves(&empty, "root, data", &line);
    }
    scene.leaves(&full, "ext4", "volume format web data=full --yes");
    scene.leaves(&full, "resize2fs", "volume convert web data=full --yes");
    scene.leaves(&empty, "--end-is-free", "volume convert web data=empty --yes");
    scene.leaves(&old, "LUKS", "volume convert web data=old --yes");

    // Who may read a disk and not write it.
    let locked = scene.image("locked", 40);
    for (path, mode) in
        [(scene.folder.path().to_owned(), 0o755), (scene.at("data"), 0o755), (locked.clone(), 0o444)]
    {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }
    for name in ["ca.crt", "dev.crt", "dev.key"] {
        fs::set_permissions(scene.at("data").join(name), Permissions::from_mode(0o644)).unwrap();
    }
    for verb in ["format", "convert"] {
        let before = head(&locked, u64::MAX);
        // Nobody may not enter every folder that programs are built in.
        let mut command = scene.command_of(&copy_of_program(scene.folder.path()));
        if fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0) {
            command.uid(NOBODY);
        }
        ended(command.args(["volume", verb, "web", "data=locked", "--yes"])).refused("Permission denied");
        assert_eq!(head(&locked, u64::MAX), before);
    }
    assert_eq!(scene.volume("data")["generation"], 0);
    let next = scene.does("boot volume-secret web data --to first --json").json();
    assert_eq!(next["generation"], 1, "no secret was given meanwhile");
}

#[test]
fn data_are_encrypted_in_place_and_nothing_is_lost() {
    let scene = Scene::new();
    let (image, hash) = scene.ext4("disk", 72);
    scene.does("volume convert web data=disk --yes --json").json();
    assert_eq!((scene.boots("data", &image), keyslots(&image)), (1, 2));
    scene.recovers("data", &image);
    assert_eq!(plain(&image, &scene.at("recovery")), hash);
    assert!(!scene.at("disk.convert").exists());
    scene.leaves(&image, "converted and enrolled already", "volume convert web data=disk --yes");

    let (image, hash) = scene.ext4("other", 80);
    let pass = scene.file("pass", b"a passphrase");
    scene.does("volume convert web root=other --passphrase-file pass --recovery --yes --json").json();
    assert_eq!((scene.boots("root", &image), keyslots(&image)), (1, 3));
    scene.recovers("root", &image);
    assert_eq!(plain(&image, &pass), hash);
}

#[test]
fn a_conversion_that_ended_before_its_header_was_on_the_disk_begins_anew_or_goes_on() {
    // The first write moves the beginning of the data away, the second puts the header in its place.
    for write in [1, 2] {
        let scene = Scene::new();
        let (image, hash) = scene.ext4("disk", 72);
        let line = "volume convert web data=disk --yes";
        let act = scene.strace(&format!("signal=KILL:when={write}"), "disk");
        ended(&mut scene.under("--init-only", &act, line)).refused("give the same command again");
        assert!(fs::read_dir(scene.at("disk.convert")).unwrap().count() > 0, "it was too early or too late");
        if write == 2 {
            // The power failed while the header was written.
            let mut disk = File::options().write(true).open(&image).unwrap();
            disk.seek(SeekFrom::Start(512)).unwrap();
            disk.write_all(&[0xff; 100_000]).unwrap();
        }
        scene.does("volume convert web data=disk --yes --json").json();
        assert_eq!(scene.boots("data", &image), 1);
        scene.recovers("data", &image);
        assert_eq!(plain(&image, &scene.at("recovery")), hash);
        assert!(!scene.at("disk.convert").exists());
    }
}

/// Runs `line` with each write slowed down, and kills cryptsetup in the middle of its work.
fn killed_halfway(scene: &Scene, word: &str, image: &Path, line: &str) {
    let name = image.file_name().unwrap().to_str().unwrap();
    let act = scene.strace("delay_enter=1000000", name);
    let mut running = scene.under(word, &act, line).stderr(Stdio::piped()).spawn().unwrap();
    let is_torn = || {
        let dumped =
            Command::new("cryptsetup").args(["luksDump", "--dump-json-metadata"]).arg(image).output();
        String::from_utf8_lossy(&dumped.unwrap().stdout).contains("in-reencryption")
    };
    while !is_torn() {
        assert!(running.try_wait().unwrap().is_none(), "it ended before it was killed");
        std::thread::yield_now();
    }
    tool("kill", &["-9", &working(image).to_string()]);
    let mut error = String::new();
    running.stderr.take().unwrap().read_to_string(&mut error).unwrap();
    assert_eq!(running.wait().unwrap().code(), Some(1), "{error}");
    assert!(error.contains("give the same command again"), "{error}");
    assert!(is_torn(), "it was killed too late");
}

/// The process of cryptsetup that works on this image.
fn working(image: &Path) -> u32 {
    let is_it = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<_> = line.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
        words[0].ends_with("cryptsetup")
            && words.get(1).is_some_and(|word| word == "reencrypt")
            && words.iter().any(|word| *word == image.to_string_lossy())
    };
    let all = fs::read_dir("/proc").unwrap().flatten();
    let mut pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.find(is_it).expect("cryptsetup runs")
}

#[test]
fn a_conversion_that_was_killed_goes_on_where_it_stopped() {
    let scene = Scene::new();
    let (image, hash) = scene.ext4("disk", 88);
    killed_halfway(&scene, "--resume-only", &image, "volume convert web data=disk --yes");
    assert_eq!(scene.volume("data")["generation"], 0);
    assert!(luks::read(&mut File::open(&image).unwrap()).is_err(), "the agent opens no such volume");
    scene.leaves(&image, "volume convert", "volume rotate web data=disk --recover --reason test");
    scene.file("pass", b"wrong");
    scene.leaves(&image, "no keyslot", "volume convert web data=disk --passphrase-file pass --yes");
    scene.does("volume convert web data=disk --json").json();
    assert_eq!(scene.boots("data", &image), 1);
    scene.recovers("data", &image);
    assert_eq!(plain(&image, &scene.at("recovery")), hash);
}

#[test]
fn a_volume_key_is_changed_and_the_secrets_are_new() {
    let scene = Scene::new();
    let image = scene.at("disk");
    scene.image("disk", 64);
    scene.does("volume format web data=disk --recovery --yes --json").json();
    let digest =
        |image: &Path| dump(image)["digests"].as_object().unwrap().values().next().unwrap()["digest"].clone();
    let before = digest(&image);
    scene.leaves(&image, "wants a confirmation", "volume rekey web data=disk --recover --reason test");
    killed_halfway(
        &scene,
        "--key-slot",
        &image,
        &format!("volume rekey web data={} --recover --reason test --yes", image.display()),
    );
    scene.leaves(&image, "volume rekey", "volume rotate web data=disk --recover --reason test");
    scene.does("volume rekey web data=disk --recover --reason test --json").json();
    assert_eq!((scene.boots("data", &image), keyslots(&image)), (2, 2));
    assert_ne!(digest(&image), before);
    scene.recovers("data", &image);

    // By a passphrase: the recovery keyslot is made anew.
    let (recovery, pass) = (scene.at("recovery"), scene.file("pass", b"a passphrase"));
    let quick = ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"];
    let words = ["luksAddKey", "--key-file", text(&recovery), text(&image), text(&pass)];
    tool("cryptsetup", &[&words[..], &quick].concat());
    scene.does("volume rekey web data=disk --passphrase-file pass --yes --json").json();
    assert_eq!((scene.boots("data", &image), keyslots(&image)), (3, 3));
    scene.recovers("data", &image);
}

#[test]
fn a_header_that_the_server_refuses_is_as_it_was() {
    let scene = Scene::new();
    let image = scene.image("disk", 40);
    scene.does("volume format web data=disk --recovery --yes --json").json();
    let before = dump(&image);
    scene.file("policy", b"forbid (principal, action == Keyhearth::Action::\"update-machine\", resource);");
    scene.does("policy set no-updates policy --yes --json").json();
    scene.does("volume rotate web data=disk --recover --reason test").refused("not allowed");
    for part in ["keyslots", "digests", "segments", "tokens"] {
        assert_eq!(dump(&image)[part], before[part], "{part}");
    }
    assert_eq!(scene.boots("data", &image), 1);
    scene.does("policy delete no-updates --yes --json").json();
    scene.does("volume rotate web data=disk --recover --reason test --json").json();
    assert_eq!((scene.boots("data", &image), keyslots(&image)), (3, 2));
}

#[test]
fn a_header_that_a_crash_left_unknown_is_enrolled_by_the_same_again() {
    let scene = Scene::new();
    let image = scene.image("disk", 40);
    scene.does("volume format web data=disk --recovery --yes --json").json();
    let line = "volume rotate web data=disk --recover --reason test";
    // After the keyslot was added and before the server knows; after that, before the older one has ended; and then.
    for (words, slots) in [("token import", 3), ("luksKillSlot", 3), ("token remove", 3)] {
        let died = scene.under(words, "kill -9 $PPID; exit 1", line).output().unwrap();
        assert_eq!(died.status.code(), None, "{words}");
        scene.does(&format!("{line} --json")).json();
        scene.boots("data", &image);
        // What was never marked is nobody's to end but the user's.
        assert_eq!(keyslots(&image), slots, "{words}");
        scene.recovers("data", &image);
    }
    let hint = scene.does(line);
    assert!(hint.error.contains("rotate --end"), "{}", hint.error);
}

#[test]
fn an_erased_machine_is_unreadable_and_a_shared_key_is_refused() {
    let scene = Scene::new();
    let image = scene.image("disk", 40);
    scene.does("volume format web data=disk --recovery --yes --json").json();
    let key = scene.does("boot show web --json").json()["key"].as_str().unwrap().to_owned();
    let erase = format!("boot erase web --confirm {key}");
    scene.leaves(&image, "reason", &erase);
    let other = "00000000-0000-4000-8000-000000000000";
    scene.leaves(&image, "another", &format!("boot erase web --confirm {other} --reason sold"));
    scene.does(&format!("boot enroll db --volume root --key {key} --json")).json();
    scene.leaves(&image, "db", &format!("{erase} --reason sold"));

    scene.does("boot enroll gone --volume root --json").json();
    let key = scene.does("boot show gone --json").json()["key"].as_str().unwrap().to_owned();
    scene.does(&format!("key rotate {key} --json")).json();
    let erase = format!("boot erase gone --confirm {key} --reason sold --json");
    let mut erased = scene.does(&erase).json()["versions_destroyed"].as_array().unwrap().clone();
    erased.sort_by_key(Value::as_u64);
    assert_eq!(erased, [1, 2]);
    let shown = scene.does(&format!("key show {key} --json")).json();
    assert!(shown["versions"].as_array().unwrap().iter().all(|version| version["state"] == "destroyed"));
    scene.does("boot recover gone root --to never --reason test").refused("destroyed");
    assert_eq!(scene.does(&erase).json()["versions_destroyed"], serde_json::json!([]));

    // Who revokes, who deactivates and who destroys need not be one.
    scene.does("boot enroll split --volume root --json").json();
    let key = scene.does("boot show split --json").json()["key"].as_str().unwrap().to_owned();
    let ended_by = |role: &str| {
        scene.does(&format!("identity issue {role} --role {role} --out {role} --json")).json();
        let mut command = scene.command();
        let file = |suffix: &str| scene.at(role).join(format!("{role}.{suffix}"));
        command.env("KEYHEARTH_CERT_FILE", file("crt")).env("KEYHEARTH_KEY_FILE", file("key"));
        ended(command.args(format!("boot erase split --confirm {key} --reason sold").split(' ')))
    };
    ended_by("tenant-admin").refused("may not deactivate-key");
    ended_by("key-admin").refused("may not revoke-identity, destroy-key");
    let last = ended_by("custodian");
    assert!(last.code == Some(0) && last.output.contains("split is erased"), "{last:?}");
    scene.does("boot recover split root --to never --reason test").refused("destroyed");
    scene.recovers("data", &image);
}

#[test]
fn an_agent_that_is_not_there_is_said() {
    let folder = TempDir::new().unwrap();
    let program = copy_of_program(folder.path());
    let run = |line: &str| ended(Command::new(&program).args(line.split(' ')).env("PATH", folder.path()));
    run("volume open").refused("keyhearth-boot");
    run("volume close nothing").refused("cryptsetup");
    ended(Command::new(PROGRAM).args(["volume", "close", "no-such-volume"])).refused("no-such-volume");
}

#[test]
fn a_machine_is_enrolled_with_what_it_does_while_it_runs() {
    let scene = Scene::new();
    let enroll = "boot enroll late --volume root --volume data --server https://kms.example.com:8446";
    let runs = "--late data --heartbeat 30 --on-end poweroff --config boot.toml --json";
    scene.does(&format!("{enroll} {runs}")).json();
    let config = Config::read(&scene.at("boot.toml")).unwrap();
    let late: Vec<_> = config.volumes.iter().map(|volume| (volume.name.as_str(), volume.late)).collect();
    let heartbeat = config.heartbeat.unwrap();
    assert_eq!((late, heartbeat.every_s), (vec![("root", false), ("data", true)], 30));
    assert!(heartbeat.on_end.end().is_some());
    scene.does("boot enroll other --volume root --late data").refused("--late data");
    scene.does("boot enroll other --volume root --volume data --late data").refused("--heartbeat");
    scene.does("boot enroll other --volume root --heartbeat 9 --on-end close").refused("--on-end close");
    scene.does("boot show other").refused("there is no machine");
    for wrong in
        ["--heartbeat 30", "--on-end close", "--heartbeat 0 --on-end close", "--heartbeat 9 --on-end stay"]
    {
        assert_eq!(scene.does(&format!("{enroll} {wrong}")).code, Some(2), "{wrong}");
    }
}

#[test]
fn reference_values_are_added_and_dropped_one_by_one() {
    let scene = Scene::new();
    scene.does("boot update web --reference pcrs.11=old --reference ak=aa --json").json();
    let values = |answer: Value| -> Vec<Value> {
        answer["reference"].as_array().unwrap().iter().map(|value| value["values"].clone()).collect()
    };
    let both = scene.does("boot update web --add pcrs.11=new --json").json();
    assert_eq!(values(both), [serde_json::json!(["aa"]), serde_json::json!(["new", "old"])]);
    let new = scene.does("boot update web --drop pcrs.11=old --json").json();
    assert_eq!(values(new), [serde_json::json!(["aa"]), serde_json::json!(["new"])]);
    scene.does("boot update web --drop pcrs.11=new").refused("must leave each claim a value");
    scene.does("boot update web --drop pcrs.11=old").refused("reference value");
    let none = scene.does("boot candidates --json").json();
    assert_eq!(none["candidates"], serde_json::json!([]));
    assert_eq!(scene.does("boot candidates web").output, "Nothing waits to be accepted.\n");
    scene.does("boot accept web 01890a5d-ac96-774b-bcce-b302099a8057").refused("candidate");
}

#[test]
fn a_golden_image_is_enrolled_with_what_its_clones_need_and_revoked_with_or_without_them() {
    let scene = Scene::new();
    let (image, pass) = (scene.image("golden.img", 64), scene.file("pass", b"a passphrase"));
    let format =
        ["luksFormat", "--type", "luks2", "--cipher", "aes-xts-plain64", "--key-size", "512", "--batch-mode"];
    let cheap = ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", text(&image), text(&pass)];
    tool("cryptsetup", &[&format[..], &cheap].concat());
    let line = "boot enroll golden --clones 3 --recovery --volume root=golden.img --passphrase-file pass \
                --template confidential-only --server https://10.0.2.2:8446 --config boot.toml --json";
    let enrolled = scene.does(line).json();
    assert_eq!(enrolled["clones"], serde_json::json!({ "made": 0, "max": 3, "recovery": true }));
    // The agent takes configuration and header, and sees that the disk is nobody's but the image's.
    let config = Config::read(&scene.at("boot.toml")).unwrap();
    assert_eq!(
        (config.image, config.machine.to_string()),
        (true, enrolled["id"].as_str().unwrap().to_owned())
    );
    let (header, _) = luks::read(&mut File::open(&image).unwrap()).unwrap();
    let root = "root".parse().unwrap();
    assert_eq!(header.clone_of(&root, config.machine), None);
    assert_eq!(header.clone_of(&root, keyhearth_core::id::PrincipalId([1; 16])), Some(config.machine));
    // Every template is a policy that the server takes, about both acts.
    for template in ["any-vm", "measured-boot", "confidential-only", "confidential+approval"] {
        let policy = scene.does(&format!("boot template {template} golden")).output;
        assert!(policy.contains("clone-image") && policy.contains("context.boot.image =="), "{policy}");
        scene.file("policy.cedar", policy.as_bytes());
        scene.does("policy set boot-golden policy.cedar --yes --json").json();
    }
    let explained = scene.does("boot explain golden").output;
    assert!(
        explained.contains("a golden image") && explained.contains("to become a clone: proof"),
        "{explained}"
    );
    assert!(scene.does("boot list").output.contains("0/3"));
    assert_eq!(scene.does("boot update golden --clones 5 --json").json()["clones"]["max"], 5);
    for (what, line) in [
        ("one volume", "boot enroll other --clones 1 --volume root --volume data"),
        ("one volume", "boot config golden --volume root=/dev/vda --late root --heartbeat 60 --on-end halt"),
        ("no golden image", "boot revoke web --clones"),
        ("this is no golden image", "boot update web --clones 2"),
    ] {
        scene.does(line).refused(what);
    }
    let revoked = scene.does("boot revoke golden --clones --json").json();
    assert_eq!(
        (revoked["machine"].as_str(), revoked["clones_revoked"].as_array().unwrap().len()),
        (Some("golden"), 0)
    );
    // Again is no mistake, and the machine beside it is as it was.
    scene.does("boot revoke golden").output.contains("makes no clones any more").then_some(()).unwrap();
    scene.does("boot revoke web --json").json();
}
