//! What goes wrong under the embedded store, made to happen: statements that fail one after the other, full
//! disks, flushes that are not confirmed, files that were cut or altered, and the process's death.

use std::fs;
use std::io::{BufRead, BufReader, Write as _};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use keyhearth_core::id::TenantId;
use keyhearth_core::row::{Row, RowKey, Table};
use keyhearth_core::store::{Commit, Expect, Store, StoreError, Write};
use rusqlite::ffi;
use tempfile::TempDir;

use super::conformance::{Batches, Model, rows, seal, signed_checkpoint};
use super::sqlite::{OpenError, SqliteStore};

fn open(directory: &Path) -> SqliteStore {
    SqliteStore::open(directory).unwrap()
}

/// Commits until each of some batches was accepted; the store must hold the model after every refusal.
/// Returns how often it was refused.
fn insist(store: &SqliteStore, model: &mut Model, refused: &dyn Fn(StoreError)) -> usize {
    let mut batches = Batches::new(42);
    let mut refusals = 0;
    for _ in 0..6 {
        let batch = batches.batch(model);
        while let Err(error) = store.commit(&batch, &mut seal) {
            refusals += 1;
            refused(error);
            model.assert_held_by(store);
        }
        model.commit(&batch);
    }
    model.assert_held_by(store);
    refusals
}

#[test]
fn whichever_statement_fails_nothing_is_lost_or_half_there() {
    for failing in 0.. {
        let directory = tempfile::tempdir().unwrap();
        let countdown = AtomicUsize::new(failing);
        let step =
            Box::new(move |_: &rusqlite::Connection| match countdown.fetch_sub(1, Ordering::Relaxed) {
                0 => Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_FULL), None)),
                _ => Ok(()),
            });
        let store = SqliteStore::open_stepwise(directory.path(), step).unwrap();
        let mut model = Model::default();
        let refusals = insist(&store, &mut model, &|error| assert_eq!(error, StoreError::Full));
        let checkpoint = signed_checkpoint(&store);
        if store.put_checkpoint(checkpoint.0, &checkpoint.1).is_err() {
            assert_eq!(store.checkpoint(), Ok(None));
        }
        drop(store);
        let store = open(directory.path());
        model.assert_held_by(&store);
        store.check().unwrap();
        if refusals == 0 && store.checkpoint().unwrap().is_some() {
            assert!(failing > 30, "only {failing} steps");
            break;
        }
    }
}

#[test]
fn whichever_page_finds_no_room_later_commits_work_when_there_is() {
    let mut refused = 0;
    for room in 0..40 {
        let directory = tempfile::tempdir().unwrap();
        let pages_max = Arc::new(AtomicUsize::new(room));
        let limit = Arc::clone(&pages_max);
        let step = Box::new(move |connection: &rusqlite::Connection| {
            if connection.is_autocommit() {
                let pages = 12 + limit.load(Ordering::Relaxed);
                connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))?;
            }
            Ok(())
        });
        let store = SqliteStore::open_stepwise(directory.path(), step).unwrap();
        let mut model = Model::default();
        refused += insist(&store, &mut model, &|error| {
            assert_eq!(error, StoreError::Full);
            pages_max.fetch_add(7, Ordering::Relaxed);
        });
        drop(store);
        let store = open(directory.path());
        model.assert_held_by(&store);
        store.check().unwrap();
    }
    assert!(refused > 40, "only {refused} refusals");
}

/// A small file system of its own, unmounted at the end.
struct SmallDisk(TempDir);

impl SmallDisk {
    /// `None` if this process may not mount.
    fn mount() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=2M,mode=0700", "keyhearth-test"])
            .arg(directory.path())
            .stderr(Stdio::null())
            .status();
        mount.is_ok_and(|status| status.success()).then(|| Self(directory))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(self.0.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "cannot unmount {}", self.0.path().display());
    }
}

#[test]
fn a_full_disk_refuses_commits_and_nothing_else() {
    let Some(disk) = SmallDisk::mount() else {
        println!("skipped: mounting a small file system needs root");
        return;
    };
    let ballast = disk.0.path().join("ballast");
    fs::write(&ballast, [0; 512 << 10]).unwrap();
    let store = open(disk.0.path());
    let mut model = Model::default();
    let mut batches = Batches::new(7);
    let batch = loop {
        let batch = batches.batch(&model);
        match store.commit(&batch, &mut seal) {
            Ok(outcomes) => assert_eq!(outcomes, model.commit(&batch)),
            Err(error) => {
                assert_eq!(error, StoreError::Full);
                break batch;
            }
        }
    };
    model.assert_held_by(&store);
    assert_eq!(store.put_document("seal", &[0; 100_000]), Err(StoreError::Full));
    assert_eq!(store.commit(&batch, &mut seal), Err(StoreError::Full));
    fs::remove_file(&ballast).unwrap();
    model.commit_to(&store, &batch);
    model.assert_held_by(&store);
    drop(store);
    let store = open(disk.0.path());
    model.assert_held_by(&store);
    store.check().unwrap();
}

/// A store with some history as its process would leave it if it died now, and the model after each batch.
fn abandoned() -> (TempDir, Vec<Model>) {
    let (living, dead) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open(living.path());
    let mut batches = Batches::new(3);
    let mut history = vec![Model::default()];
    for _ in 0..30 {
        let mut model = history[history.len() - 1].clone();
        let batch = batches.batch(&model);
        model.commit_to(&store, &batch);
        history.push(model);
    }
    let (size, note) = signed_checkpoint(&store);
    store.put_checkpoint(size, &note).unwrap();
    for name in ["keyhearth.db", "keyhearth.db-wal"] {
        fs::copy(living.path().join(name), dead.path().join(name)).unwrap();
    }
    (dead, history)
}

/// Opens a copy of `from` in which `alter` changed one file.
fn altered(
    from: &Path,
    name: &str,
    mut alter: impl FnMut(&mut Vec<u8>),
) -> (TempDir, Result<SqliteStore, OpenError>) {
    let copy = tempfile::tempdir().unwrap();
    for file in ["keyhearth.db", "keyhearth.db-wal"] {
        let mut bytes = fs::read(from.join(file)).unwrap();
        if file == name {
            alter(&mut bytes);
        }
        fs::write(copy.path().join(file), bytes).unwrap();
    }
    let store = SqliteStore::open(copy.path());
    (copy, store)
}

#[test]
fn a_cut_or_altered_write_ahead_log_leaves_a_beginning_of_history() {
    let (dead, history) = abandoned();
    let mut random = Batches::new(11);
    let mut sizes = std::collections::BTreeSet::new();
    for round in 0..150 {
        let (_copy, store) = altered(dead.path(), "keyhearth.db-wal", |bytes| {
            let at = random.below(bytes.len());
            if round % 2 == 0 { bytes.truncate(at) } else { bytes[at] ^= 1 << random.below(8) }
        });
        let Ok(store) = store else { continue };
        let size = store.log_root().0;
        let model = history.iter().find(|model| model.head == store.head().unwrap()).unwrap();
        model.assert_held_by(&store);
        store.check().unwrap();
        sizes.insert(size);
    }
    assert!(sizes.len() > 10, "the rounds hit {sizes:?} only");
}

#[test]
fn an_altered_database_file_is_refused_or_read_without_panic() {
    let (dead, history) = abandoned();
    // Closing moves everything into the database file.
    drop(open(dead.path()));
    fs::write(dead.path().join("keyhearth.db-wal"), []).unwrap();
    let newest = &history[history.len() - 1];
    let mut random = Batches::new(12);
    let mut noticed = 0;
    for round in 0..200 {
        let (_copy, store) = altered(dead.path(), "keyhearth.db", |bytes| {
            let at = random.below(bytes.len());
            match round % 4 {
                0 => bytes.truncate(at),
                1 => bytes[at..].iter_mut().take(600).for_each(|byte| *byte = 0xff),
                _ => bytes[at] ^= 1 << random.below(8),
            }
        });
        let Ok(store) = store else {
            noticed += 1;
            continue;
        };
        for key in newest.rows.keys() {
            let _ = store.read(key);
        }
        let _ = store.visit_all(&|_, _| Ok(()));
        let _ = store.changes(0, usize::MAX);
        match store.check() {
            Ok(()) => assert!(store.entries(0, usize::MAX).unwrap() == newest.entries, "round {round}"),
            Err(_) => noticed += 1,
        }
    }
    assert!(noticed > 60, "only {noticed} noticed");
}

const CHILD_DIRECTORY: &str = "KEYHEARTH_TEST_STORE";
const CHILD_COMMITS: &str = "KEYHEARTH_TEST_COMMITS";
/// Commits of a child that ends by itself; one that is killed makes them for ever.
const CHILD_COMMITS_MAX: u64 = 400;
/// Entries the child writes with each commit.
const CHILD_ENTRIES: u64 = 2;

fn child_row(name: &[u8], number: u64) -> (RowKey, Option<Row>) {
    let mut mac = [0; 32];
    mac[..8].copy_from_slice(&number.to_be_bytes());
    let row = Row { revision: number, body: vec![number.to_le_bytes()[0]; 20_000], mac };
    (RowKey::new(Table::Key, TenantId([1; 16]), name), (number > 0).then_some(row))
}

fn child_batch(number: u64) -> Vec<Commit> {
    let write = |name: &[u8]| {
        let (key, old) = child_row(name, number - 1);
        let expect = old.map_or(Expect::Absent, |old| Expect::Mac(old.mac));
        Write { key, expect, row: child_row(name, number).1 }
    };
    [b"a", b"b"].map(|name| Commit { writes: vec![write(name)], entry: number.to_be_bytes().to_vec() }).into()
}

/// How many batches a store in `directory` holds, all of which must be whole.
fn whole_batches(directory: &Path) -> u64 {
    let store = open(directory);
    store.check().unwrap();
    let number = store.head().unwrap().epoch;
    for name in [b"a", b"b"] {
        let (key, row) = child_row(name, number);
        assert_eq!(store.read(&key).unwrap(), row);
    }
    assert_eq!(rows(&store).len(), if number == 0 { 0 } else { 2 });
    let entries: Vec<_> =
        (0..number * CHILD_ENTRIES).map(|at| (at / CHILD_ENTRIES + 1).to_be_bytes().to_vec()).collect();
    assert!(store.entries(0, usize::MAX).unwrap() == entries);
    number
}

/// Not a test of its own: what the processes do that the tests below start and end.
#[test]
fn child() {
    let Some(directory) = std::env::var_os(CHILD_DIRECTORY) else { return };
    let store = open(Path::new(&directory));
    let mut out = std::io::stdout();
    let mut number = store.head().unwrap().epoch + 1;
    let commits: u64 = std::env::var(CHILD_COMMITS).unwrap().parse().unwrap();
    let last = number.saturating_add(commits);
    while number < last {
        match store.commit(&child_batch(number), &mut seal) {
            Ok(_) => {
                writeln!(out, "committed {number}").unwrap();
                number += 1;
            }
            Err(error) => writeln!(out, "refused {error}").unwrap(),
        }
    }
}

/// What a child said, and how it ended.
struct Child {
    committed: u64,
    refused: usize,
    status: ExitStatus,
}

/// Runs the child, under `wrapper` if there is one, until it ends or has said `lines`; then kills it.
fn run_child(directory: &Path, wrapper: &[&str], lines: usize) -> Child {
    let (_, module) = module_path!().split_once("::").unwrap();
    let test = std::env::current_exe().unwrap().into_os_string();
    let mut words = wrapper.iter().map(Into::into).chain([test]);
    let mut child = Command::new(words.next().unwrap())
        .args(words)
        .args(["--exact", &format!("{module}::child"), "--nocapture"])
        .env(CHILD_DIRECTORY, directory)
        .env(CHILD_COMMITS, if lines == usize::MAX { CHILD_COMMITS_MAX } else { u64::MAX }.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (mut committed, mut refused) = (0, 0);
    // Read to the end: what was confirmed before the death counts.
    let out = BufReader::new(child.stdout.take().unwrap());
    for (said, line) in out.lines().map_while(Result::ok).enumerate() {
        if said == lines {
            child.kill().unwrap();
        }
        match line.strip_prefix("committed ") {
            Some(number) => committed = number.parse().unwrap(),
            None => refused += usize::from(line.starts_with("refused ")),
        }
    }
    Child { committed, refused, status: child.wait().unwrap() }
}

#[test]
fn a_killed_process_loses_nothing_it_confirmed() {
    let directory = tempfile::tempdir().unwrap();
    let mut random = Batches::new(5);
    let mut held = 0;
    for _ in 0..24 {
        let child = run_child(directory.path(), &[], 3 + random.below(350));
        assert_eq!(child.status.signal(), Some(9));
        let confirmed = child.committed.max(held);
        held = whole_batches(directory.path());
        assert!(held == confirmed || held == confirmed + 1, "{confirmed} confirmed, {held} held");
    }
    assert!(held > 1000);
}

/// Runs the child on a new store while the `nth` call of `calls` on `file` fails with `error`.
fn with_failing_call(file: &str, calls: &str, error: &str, nth: usize) -> (TempDir, Child) {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(whole_batches(directory.path()), 0);
    let path = directory.path().canonicalize().unwrap().join(file);
    let (trace, inject) = (format!("trace={calls}"), format!("inject={calls}:error={error}:when={nth}"));
    let strace =
        ["strace", "-f", "-qq", "-o", "/dev/null", "-P", path.to_str().unwrap(), "-e", &trace, "-e", &inject];
    let child = run_child(directory.path(), &strace, usize::MAX);
    (directory, child)
}

fn strace_works() -> bool {
    let works = Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).status();
    let works = works.is_ok_and(|status| status.success());
    if !works {
        println!("skipped: strace is missing or may not trace");
    }
    works
}

#[test]
fn a_flush_that_is_not_confirmed_ends_the_process() {
    if !strace_works() {
        return;
    }
    // The first flushes of the log, then one in the database file, which the checkpointer asks for.
    let faults =
        [("keyhearth.db-wal", 1), ("keyhearth.db-wal", 2), ("keyhearth.db-wal", 9), ("keyhearth.db", 1)];
    for (file, nth) in faults {
        let (directory, child) = with_failing_call(file, "fsync,fdatasync", "EIO", nth);
        assert_eq!(child.status.signal(), Some(6), "{file} {nth}: {:?}", child.status);
        assert_eq!(child.refused, 0);
        let held = whole_batches(directory.path());
        assert!(held == child.committed || held == child.committed + 1, "{file} {nth}: {held} held");
    }
}

#[test]
fn a_write_that_fails_ends_the_process_or_is_refused_for_want_of_room() {
    if !strace_works() {
        return;
    }
    for nth in (1..40).step_by(4) {
        let (directory, child) = with_failing_call("keyhearth.db-wal", "write,pwrite64", "EIO", nth);
        assert_eq!(child.status.signal(), Some(6), "write {nth}: {:?}", child.status);
        let held = whole_batches(directory.path());
        assert!(held == child.committed || held == child.committed + 1, "write {nth}: {held} held");

        let (directory, child) = with_failing_call("keyhearth.db-wal", "write,pwrite64", "ENOSPC", nth);
        assert!(child.status.success());
        assert_eq!((child.refused, child.committed), (1, CHILD_COMMITS_MAX));
        assert_eq!(whole_batches(directory.path()), CHILD_COMMITS_MAX);
    }
}
