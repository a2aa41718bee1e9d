//! Files that are cut, change meanwhile, are replaced, and whose replacement is interrupted.

#![allow(clippy::unwrap_used, reason = "a test panics")]

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use keyhearth_files::age::{CHUNK_BYTES, FileKey, Header, Stanza};
use keyhearth_files::{Error, Output, copy_behind, held, open, open_stream, recover, replace_header, seal};

/// Bytes that do not repeat from chunk to chunk.
fn content(len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from((at * 31 + at / 251 + at / CHUNK_BYTES) % 256).unwrap()).collect()
}

fn header(key: &FileKey, body: usize) -> Header {
    let mut stanzas = vec![Stanza::new("test", &[], vec![5; body])];
    held::pad(&mut stanzas, 0);
    Header::new(key, stanzas).unwrap()
}

fn sealed(folder: &Path, key: &FileKey, content: &[u8], threads: usize) -> PathBuf {
    let (source, place) = (folder.join("source"), folder.join(format!("sealed-{threads}")));
    fs::write(&source, content).unwrap();
    let output = Output::create(&place).unwrap();
    let done = seal(key, &header(key, 10), &File::open(&source).unwrap(), output.file(), threads).unwrap();
    output.finish().unwrap();
    assert_eq!(done.plaintext_bytes, content.len() as u64);
    assert_eq!(done.sealed_bytes, place.metadata().unwrap().len());
    place
}

fn opened(path: &Path, key: &FileKey, threads: usize) -> Result<Vec<u8>, Error> {
    let mut output = tempfile::tempfile().unwrap();
    open(File::open(path)?)?.write_to(key, &output, threads)?;
    let mut bytes = Vec::new();
    io::Seek::rewind(&mut output)?;
    io::Read::read_to_end(&mut output, &mut bytes)?;
    Ok(bytes)
}

#[test]
fn another_key_and_each_cut_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (key, other) = (FileKey::random().unwrap(), FileKey::random().unwrap());
    let path = sealed(folder.path(), &key, &content(2 * CHUNK_BYTES), 1);
    assert!(matches!(opened(&path, &other, 1), Err(Error::NotAuthentic)));
    let whole = fs::read(&path).unwrap();
    let ends =
        [0, 1, 511, 512, 513, 528, 544, 512 + 16 + CHUNK_BYTES, 512 + 32 + CHUNK_BYTES, whole.len() - 1];
    for end in ends {
        fs::write(&path, &whole[..end]).unwrap();
        assert!(matches!(opened(&path, &key, 2), Err(Error::NotAuthentic | Error::Malformed(_))), "{end}");
        let read = open_stream(Box::new(File::open(&path).unwrap()));
        let streamed = read.and_then(|opened| opened.stream_to(&key, &mut io::sink()));
        assert!(matches!(streamed, Err(Error::NotAuthentic | Error::Malformed(_))), "{end}");
    }
}

#[test]
fn a_file_that_changes_meanwhile_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (key, path) = (FileKey::random().unwrap(), folder.path().join("log"));
    fs::write(&path, content(64 * CHUNK_BYTES)).unwrap();
    let (is_written, is_over) = (AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut log = OpenOptions::new().append(true).open(&path).unwrap();
            while !is_over.load(Ordering::Relaxed) {
                log.write_all(b"line\n").unwrap();
                is_written.store(true, Ordering::Relaxed);
            }
        });
        while !is_written.load(Ordering::Relaxed) {
            thread::yield_now();
        }
        // On a busy machine the writer may rest for as long as one sealing takes.
        let sealed = || {
            let output = Output::create(&folder.path().join("sealed"))?;
            seal(&key, &header(&key, 1), &File::open(&path)?, output.file(), 2)
        };
        let failed = (0..1_000).find_map(|_| sealed().err());
        is_over.store(true, Ordering::Relaxed);
        assert!(matches!(failed, Some(Error::Changed)), "{failed:?}");
    });
    assert!(!folder.path().join("sealed").exists());
}

#[test]
fn a_name_that_is_taken_is_kept_unless_it_is_to_be_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    fs::write(&path, b"old").unwrap();
    let output = || {
        let output = Output::create(&path).unwrap();
        output.file().write_all(b"new").unwrap();
        output
    };
    assert!(
        matches!(output().finish(), Err(Error::Io(error)) if error.kind() == io::ErrorKind::AlreadyExists)
    );
    assert_eq!(fs::read(&path).unwrap(), b"old");
    output().replace().unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"new");
    drop(output());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
}

#[test]
fn a_header_is_replaced_where_it_lies_or_copied_behind() {
    let folder = tempfile::tempdir().unwrap();
    let key = FileKey::random().unwrap();
    let content = content(3 * CHUNK_BYTES);
    let path = sealed(folder.path(), &key, &content, 1);
    for body in [20, 700, 30] {
        let source = File::open(&path).unwrap();
        let before = open(source.try_clone().unwrap()).unwrap().header;
        let after = header(&key, body);
        if before.to_text().len() == after.to_text().len() {
            replace_header(&path, &before, &after).unwrap();
        } else {
            assert!(matches!(replace_header(&path, &before, &after), Err(Error::Invalid(_))));
            let output = Output::create(&path).unwrap();
            copy_behind(&source, &before, &after, output.file()).unwrap();
            output.replace().unwrap();
        }
        assert_eq!(open(File::open(&path).unwrap()).unwrap().header, after);
        assert!(opened(&path, &key, 1).unwrap() == content);
        let file = File::open(&path).unwrap();
        let copied = copy_behind(&file, &before, &after, Output::create(&path).unwrap().file());
        assert!(matches!(copied, Err(Error::Changed)), "another was there");
        assert!(matches!(replace_header(&path, &before, &before), Err(Error::Changed)), "another was there");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn a_replacement_that_was_interrupted_is_taken_back_and_nothing_else_is_touched() {
    let folder = tempfile::tempdir().unwrap();
    let key = FileKey::random().unwrap();
    let path = sealed(folder.path(), &key, b"content", 1);
    let (old_whole, kept) = (fs::read(&path).unwrap(), folder.path().join(".sealed-1.header"));
    // Two sectors, so that a disk can write the one and not the other.
    let of = |key, fill| {
        let mut stanzas = vec![Stanza::new("test", &[], vec![fill; 600])];
        held::pad(&mut stanzas, 0);
        Header::new(key, stanzas).unwrap().to_text().into_bytes()
    };
    let (old, new) = (of(&key, 1), of(&key, 2));
    assert_eq!((old.len(), new.len()), (1024, 1024));
    let whole = [&old[..], &old_whole[512..]].concat();
    let file_with = |header: &[u8]| [header, &whole[1024..]].concat();
    assert!(!recover(&path).unwrap());
    let both = [&old[..], &new].concat();
    let mixed = [&old[..512], &new[512..]].concat();
    for (kept_bytes, before, after, is_taken_back) in [
        // Cut while it was kept: the file is as it was.
        (&both[..100], &old, &old, false),
        (&both[..1024], &old, &old, false),
        (&both[..2047], &old, &old, false),
        (&both[..], &old, &old, false),
        (&both[..], &new, &new, false),
        (&both[..], &mixed, &old, true),
    ] {
        fs::write(&kept, kept_bytes).unwrap();
        fs::write(&path, file_with(before)).unwrap();
        assert_eq!(recover(&path).unwrap(), is_taken_back);
        assert!(!kept.exists() && fs::read(&path).unwrap() == file_with(after));
    }
    // What another file left there, or somebody planted, changes nothing.
    for other in [of(&key, 3), of(&FileKey::random().unwrap(), 1), vec![b'x'; 20]] {
        fs::write(&kept, &both).unwrap();
        fs::write(&path, file_with(&other)).unwrap();
        assert!(matches!(recover(&path), Err(Error::Invalid(_))));
        assert!(kept.exists() && fs::read(&path).unwrap() == file_with(&other));
    }
    // Nor does anything while somebody else works on it.
    let locked = File::open(&path).unwrap();
    locked.lock().unwrap();
    assert!(matches!(recover(&path), Err(Error::Changed)));
}
