//! Files of age, of every length that is special, through several threads and through pipes.

use std::fs::File;
use std::io::{Cursor, Read};
use std::os::unix::fs::FileExt;

use keyhearth_files::age::{CHUNK_BYTES, FileKey, Header, Stanza};
use keyhearth_files::{Error, open, open_stream, seal, seal_stream};

fn file(bytes: &[u8]) -> File {
    let file = tempfile::tempfile().expect("a file");
    file.write_all_at(bytes, 0).expect("it is written");
    file
}

fn content(mut file: &File) -> Vec<u8> {
    let mut bytes = Vec::new();
    std::io::Seek::rewind(&mut file).expect("a file");
    file.read_to_end(&mut bytes).expect("it is read");
    bytes
}

/// Opens it as a file, as a stream and in pieces.
fn opened(sealed: &[u8], key: &FileKey) -> Result<Vec<u8>, Error> {
    let output = file(&[]);
    let whole = open(file(sealed)).and_then(|opened| opened.write_to(key, &output, 3));
    let mut streamed = Vec::new();
    let stream = open_stream(Box::new(Cursor::new(sealed.to_vec())))
        .and_then(|opened| opened.stream_to(key, &mut streamed));
    let mut pieces = Vec::new();
    let read = open(file(sealed)).and_then(|opened| opened.into_reader(key)).and_then(|reader| {
        let mut piece = vec![0; 50_000];
        while pieces.len() as u64 != reader.plaintext_bytes() {
            let read = reader.read_at(pieces.len() as u64, &mut piece)?;
            pieces.extend_from_slice(&piece[..read]);
        }
        Ok(())
    });
    assert_eq!(
        (whole.is_ok(), stream.is_ok()),
        (read.is_ok(), read.is_ok()),
        "{whole:?} {stream:?} {read:?}"
    );
    assert_eq!(whole?, stream?);
    assert_eq!((&content(&output), &pieces), (&streamed, &streamed));
    Ok(streamed)
}

#[test]
fn files_of_special_lengths_go_there_and_back() {
    let key = FileKey::random().expect("randomness");
    let header = Header::new(&key, vec![Stanza::new("nobody", &[], vec![])]).expect("a header");
    for len in [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 40 * CHUNK_BYTES, 40 * CHUNK_BYTES + 7] {
        let plain: Vec<u8> = (0u8..=250).cycle().take(len).collect();
        let output = file(&[]);
        let sealed = seal(&key, &header, &file(&plain), &output, 3).expect("it is sealed");
        let written = content(&output);
        assert_eq!((sealed.plaintext_bytes, sealed.sealed_bytes), (len as u64, written.len() as u64));
        assert_eq!(opened(&written, &key).expect("it opens"), plain);

        let mut streamed = Vec::new();
        let again = seal_stream(&key, &header, &mut &plain[..], &mut streamed).expect("it is sealed");
        assert_eq!((again, streamed.len()), (sealed, written.len()));
        assert_eq!(opened(&streamed, &key).expect("it opens"), plain);

        let mut altered = written.clone();
        *altered.last_mut().expect("a tag") ^= 1;
        assert!(matches!(opened(&altered, &key), Err(Error::NotAuthentic)), "{len}");
        assert!(opened(&written[..written.len() - 1], &key).is_err(), "{len}");
        assert!(opened(&[&written[..], b"x"].concat(), &key).is_err(), "{len}");
        // Cut behind a chunk, where only the missing last one tells.
        if len > CHUNK_BYTES {
            let end = header.to_text().len() + 16 + CHUNK_BYTES + 16;
            assert!(opened(&written[..end], &key).is_err(), "{len}");
        }
    }
}
