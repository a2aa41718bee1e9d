//! What is not one of our files, or no longer, is refused; those that the AWS Encryption SDK wrote are read.

use std::fs::File;
use std::io::Cursor;
use std::os::unix::fs::FileExt;

use keyhearth_crypto::stream::NONCE_BYTES;
use proptest::prelude::*;

use super::*;
use crate::age;
use crate::chunks::Chunks;
use crate::transform::AnyOpened;

const FRAME: usize = 16;

fn data_key(byte: u8) -> DataKey {
    DataKey::from_bytes(&[byte; DATA_KEY_BYTES]).unwrap()
}

fn context(pairs: &[(&str, &str)]) -> Context {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn keys() -> Vec<EncryptedDataKey> {
    vec![EncryptedDataKey::aws_kms("arn:aws:kms:eu-central-1:111122223333:key/k", vec![7; 9])]
}

fn created(frame_bytes: usize) -> (Header, Frames) {
    Header::create(&data_key(1), context(&[("purpose", "backup"), ("größe", "")]), keys(), frame_bytes)
        .unwrap()
}

fn plaintext(len: usize) -> Vec<u8> {
    (0..=250).cycle().take(len).collect()
}

fn message(len: usize) -> Vec<u8> {
    let mut message = Vec::new();
    let sealed = seal_stream(created(FRAME), &mut &plaintext(len)[..], &mut message).unwrap();
    assert_eq!((sealed.plaintext_bytes, sealed.sealed_bytes), (len as u64, message.len() as u64));
    message
}

fn file(bytes: &[u8]) -> File {
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file
}

fn content(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; file.metadata().unwrap().len().try_into().unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// Opens it as a stream, as a file, and in pieces: all of them, or none.
fn opened(message: &[u8], key: &DataKey) -> Result<Vec<u8>, Error> {
    let mut streamed = Vec::new();
    let stream = open_stream(Box::new(Cursor::new(message.to_vec())))
        .and_then(|opened| opened.stream_to(key, &mut streamed));
    let output = file(&[]);
    let whole = open(file(message)).and_then(|opened| opened.write_to(key, &output, 2));
    let pieces = open(file(message)).and_then(|opened| opened.into_reader(key)).and_then(|reader| {
        let mut bytes = vec![0; usize::try_from(reader.plaintext_bytes()).unwrap() + 1];
        let read = reader.read_at(0, &mut bytes)?;
        bytes.truncate(read);
        Ok(bytes)
    });
    assert_eq!(
        (stream.is_ok(), whole.is_ok()),
        (pieces.is_ok(), pieces.is_ok()),
        "{stream:?} {whole:?} {pieces:?}"
    );
    assert_eq!(whole?, stream?);
    assert_eq!((&content(&output), &pieces?), (&streamed, &streamed));
    Ok(streamed)
}

proptest! {
    #[test]
    fn files_of_any_length_go_there_and_back(len in 0usize..200, frame in 1usize..70, threads in 1usize..4) {
        let (plain, key) = (plaintext(len), data_key(1));
        let sealed = file(&[]);
        let said = seal(created(frame), &file(&plain), &sealed, threads).unwrap();
        let bytes = content(&sealed);
        prop_assert_eq!((said.plaintext_bytes, said.sealed_bytes), (len as u64, bytes.len() as u64));
        prop_assert_eq!(&opened(&bytes, &key).unwrap(), &plain);
        let mut streamed = Vec::new();
        prop_assert_eq!(seal_stream(created(frame), &mut &plain[..], &mut streamed).unwrap(), said);
        prop_assert_eq!(&opened(&streamed, &key).unwrap(), &plain);
    }

    #[test]
    fn any_place_of_a_file_is_read(len in 1usize..200, from in 0u64..220, count in 0usize..220) {
        let (plain, source) = (plaintext(len), file(&message(len)));
        let reader = open(source).unwrap().into_reader(&data_key(1)).unwrap();
        prop_assert_eq!(reader.plaintext_bytes(), len as u64);
        let mut out = vec![0; count];
        let read = reader.read_at(from, &mut out).unwrap();
        let from = usize::try_from(from).unwrap().min(len);
        prop_assert_eq!(&out[..read], &plain[from..len.min(from + count)]);
    }
}

#[test]
fn frames_of_the_usual_length_go_there_and_back() {
    for len in [0, FRAME_BYTES - 1, FRAME_BYTES, FRAME_BYTES + 1, 40 * FRAME_BYTES] {
        let sealed = file(&[]);
        seal(created(FRAME_BYTES), &file(&plaintext(len)), &sealed, 2).unwrap();
        assert_eq!(opened(&content(&sealed), &data_key(1)).unwrap(), plaintext(len), "{len}");
    }
}

#[test]
fn messages_of_the_aws_encryption_sdk_are_read() {
    let hex = |digits: &str| -> Vec<u8> {
        (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
    };
    let mut seen = 0;
    for line in include_str!("../../tests/esdk.txt").lines() {
        let [len, key, message] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let (len, key, message) =
            (len.parse().unwrap(), DataKey::from_bytes(&hex(key)).unwrap(), hex(message));
        assert_eq!(opened(&message, &key).unwrap(), plaintext(len));
        let (header, _) = Header::read(&message).unwrap();
        let said = if len == 0 { vec![] } else { vec![("purpose", "backup"), ("größe", "5 MB")] };
        assert_eq!((header.context, header.frame_bytes), (context(&said), 128));
        assert_eq!((&*header.data_keys[0].provider, header.data_keys[0].arn()), ("raw", None));
        assert!(matches!(opened(&message, &data_key(1)), Err(Error::NotAuthentic)));
        seen += 1;
    }
    assert_eq!(seen, 3);
}

#[test]
fn no_byte_of_a_message_can_change() {
    // Nothing, one frame, several and a short one.
    for len in [0, FRAME, 2 * FRAME + 1] {
        let (message, key) = (message(len), data_key(1));
        assert_eq!(opened(&message, &key).unwrap(), plaintext(len));
        assert!(matches!(opened(&message, &data_key(2)), Err(Error::NotAuthentic)));
        for at in 0..message.len() {
            for bit in [1, 0x80] {
                let mut altered = message.clone();
                altered[at] ^= bit;
                assert!(opened(&altered, &key).is_err(), "byte {at} of {len}");
            }
        }
        for end in 0..message.len() {
            assert!(opened(&message[..end], &key).is_err(), "{end} bytes of {len}");
        }
        for more in [&b"x"[..], &[0; 8], &[0; FRAME + 32], &message] {
            assert!(opened(&[&message, more].concat(), &key).is_err(), "{} more", more.len());
        }
    }
}

#[test]
fn frames_keep_their_places() {
    let (message, key) = (message(3 * FRAME), data_key(1));
    let other = self::message(3 * FRAME);
    let start = Header::read(&message).unwrap().0.as_bytes().len();
    let frame = |of: &[u8], number: usize| of[start + number * (FRAME + 32)..][..FRAME + 32].to_vec();
    let last = message[start + 2 * (FRAME + 32)..].to_vec();
    let head = message[..start].to_vec();
    let (first, second) = (frame(&message, 0), frame(&message, 1));
    assert!(opened(&[&head[..], &first, &second, &last].concat(), &key).is_ok());
    for wrong in [
        vec![&head, &second, &first, &last],
        vec![&head, &first, &first, &last],
        vec![&head, &first, &last],
        vec![&head, &last],
        vec![&head, &first, &second],
        vec![&head, &first, &second, &last, &last],
        vec![&head, &frame(&other, 0), &second, &last],
    ] {
        let wrong: Vec<u8> = wrong.into_iter().flatten().copied().collect();
        assert!(opened(&wrong, &key).is_err());
    }
}

/// Such as the format allows and we do not write.
#[test]
fn an_empty_last_frame_after_full_ones_is_read() {
    let (header, frames) = created(FRAME);
    let mut message = header.as_bytes().to_vec();
    let mut push = |number, is_last, content: &[u8]| {
        let front = vec![0; frames.geometry().front_bytes(is_last)];
        let mut sealed = [&front, content, &[0; 16]].concat();
        frames.seal(number, is_last, &mut sealed).unwrap();
        message.extend(sealed);
    };
    push(0, false, &plaintext(FRAME));
    push(1, true, &[]);
    assert_eq!(opened(&message, &data_key(1)).unwrap(), plaintext(FRAME));
}

/// A header that some data key proves, but that commits to another one.
#[test]
fn a_header_that_commits_to_another_key_is_refused() {
    let key = data_key(1);
    let (header, _) = created(FRAME);
    let (_, message_key) = header::derive(&key, &header.id).unwrap();
    let mut bytes = header.as_bytes().to_vec();
    let body = bytes.len() - 16;
    bytes[body - 1] ^= 1;
    let tag = message_key.seal([0; NONCE_BYTES], &bytes[..body], &mut []).unwrap();
    bytes[body..].copy_from_slice(&tag);
    let (altered, _) = Header::read(&bytes).unwrap();
    assert!(matches!(altered.frames(&key), Err(Error::NotAuthentic)));
    bytes[body - 1] ^= 1;
    bytes[body..].copy_from_slice(&header.as_bytes()[body..]);
    assert!(Header::read(&bytes).unwrap().0.frames(&key).is_ok());
}

#[test]
fn the_format_of_a_file_is_recognised() {
    let (message, file_key) = (message(5), age::FileKey::random().unwrap());
    let header = age::Header::new(&file_key, vec![age::Stanza::new("nobody", &[], vec![])]).unwrap();
    let mut of_age = Vec::new();
    transform::seal_stream(&file_key, &header, &mut &plaintext(5)[..], &mut of_age).unwrap();
    for bytes in [&message, &of_age] {
        let stream = transform::open_any_stream(Box::new(Cursor::new(bytes.clone())));
        for opened in [transform::open_any(file(bytes)).unwrap(), stream.unwrap()] {
            let (mut out, is_esdk) = (Vec::new(), matches!(opened, AnyOpened::Esdk(_)));
            match opened {
                AnyOpened::Esdk(opened) => opened.stream_to(&data_key(1), &mut out).unwrap(),
                AnyOpened::Age(opened) => opened.stream_to(&file_key, &mut out).unwrap(),
            };
            assert_eq!((is_esdk, out), (bytes == &message, plaintext(5)));
        }
    }
    for bytes in [&b""[..], b"x", b"\x02", b"\x01\x80"] {
        assert!(
            matches!(transform::open_any(file(bytes)).map(|_| ()), Err(Error::Malformed(_))),
            "{bytes:?}"
        );
    }
}

#[test]
fn what_is_not_read_is_named() {
    let wrong = |at: usize, byte| {
        let mut message = message(1);
        message[at] = byte;
        Header::read(&message).map(|_| ()).unwrap_err()
    };
    // Before the length of frames, the commitment and the tag.
    let content_type = created(FRAME).0.as_bytes().len() - 16 - 32 - 4 - 1;
    for (error, names) in [
        (wrong(1, 5), "suite 0x0578"),
        (wrong(content_type, 1), "without frames"),
        (Header::read(&[1, 0x80, 3, 0x78, 0, 0]).unwrap_err(), "version 1"),
    ] {
        assert!(matches!(error, Error::Unsupported(_)) && error.to_string().contains(names), "{error}");
    }
    for error in [wrong(0, 3), wrong(2, 0x77), wrong(content_type, 3), wrong(content_type + 1, 1)] {
        assert!(matches!(error, Error::Malformed(_)), "{error}");
    }
}

#[test]
fn too_much_or_too_little_is_not_written() {
    let many = |count| (0..count).map(|at: usize| (at.to_string(), String::new())).collect::<Context>();
    let key = |provider: usize, info, ciphertext| EncryptedDataKey {
        provider: "p".repeat(provider),
        info: vec![0; info],
        ciphertext: vec![0; ciphertext],
    };
    let create = |context, keys, frame| Header::create(&data_key(1), context, keys, frame);
    assert!(create(many(64), vec![key(256, 2048, 1); 27], FRAME_BYTES_MAX).is_ok());
    assert!(create(many(0), vec![key(1, 0, 1); 32], 1).is_ok());
    for refused in [
        create(many(65), keys(), FRAME),
        create(context(&[("long", &"x".repeat(8 * 1024))]), keys(), FRAME),
        create(context(&[("aws-crypto-public-key", "x")]), keys(), FRAME),
        create(many(0), vec![], FRAME),
        create(many(0), vec![key(1, 1, 1); 33], FRAME),
        create(many(0), vec![key(256, 2048, 6144); 8], FRAME),
        create(many(0), vec![key(257, 1, 1)], FRAME),
        create(many(0), vec![key(1, 2049, 1)], FRAME),
        create(many(0), vec![key(1, 1, 0)], FRAME),
        create(many(0), vec![key(1, 1, 6145)], FRAME),
        create(many(0), keys(), 0),
        create(many(0), keys(), FRAME_BYTES_MAX + 1),
    ] {
        assert!(matches!(refused.map(|_| ()), Err(Error::Invalid(_))));
    }
}

#[test]
fn contexts_that_mean_two_things_are_refused() {
    let (header, _) = created(FRAME);
    let (start, end) = (1 + 2 + 32, header.as_bytes().len());
    let put = |context: &[u8]| {
        let len = u16::try_from(context.len()).unwrap().to_be_bytes();
        let old = usize::from(u16::from_be_bytes(header.as_bytes()[start..start + 2].try_into().unwrap()));
        let rest = &header.as_bytes()[start + 2 + old..end];
        Header::read(&[&header.as_bytes()[..start], &len, context, rest].concat())
            .map(|(header, _)| header.context)
    };
    assert_eq!(put(b"\0\x01\0\x01a\0\x01b").unwrap(), context(&[("a", "b")]));
    assert_eq!(put(b"\0\x02\0\x01b\0\0\0\x01a\0\0").unwrap(), context(&[("a", ""), ("b", "")]));
    for wrong in [
        &b"\0\0"[..],
        b"\0\x01\0\x01a\0\x01bc",
        b"\0\x02\0\x01a\0\x01b",
        b"\0\x02\0\x01a\0\x01b\0\x01a\0\x01b",
        b"\0\x01\0\x01\xff\0\x01b",
        b"\0\x01\0\x15aws-crypto-public-key\0\0",
    ] {
        assert!(matches!(put(wrong), Err(Error::Malformed(_))), "{wrong:?}");
    }
}

#[test]
fn a_message_ends_at_its_last_frame_s_number() {
    let (_, frames) = created(1);
    let mut sealed = vec![0; 17 + 24];
    assert!(frames.seal(u64::from(u32::MAX) - 1, true, &mut sealed).is_ok());
    assert!(frames.seal(u64::from(u32::MAX), true, &mut sealed).is_err());
    assert!(frames.geometry().extent(u64::from(u32::MAX)).is_some());
    assert!(frames.geometry().extent(u64::from(u32::MAX) + 1).is_none());
}
