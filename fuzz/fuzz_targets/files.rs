//! Sealed files of all formats: whatever lies there, it is a file or refused; what is read as a header is written as it
//! was; and no file that we sealed opens once a bit of it changed.
#![no_main]

use std::io::Cursor;

use keyhearth_files::age::{self, FileKey, Identity, Recipient, Stanza};
use keyhearth_files::esdk::{self, Context, DataKey, EncryptedDataKey};
use keyhearth_files::held::Held;
use keyhearth_files::{AnyOpened, open_any_stream};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let file_key = FileKey::from_bytes(&[7; 16]).expect("locked memory");
    let data_key = DataKey::from_bytes(&[7; 32]).expect("locked memory");
    if let Ok((header, rest)) = age::Header::read(data) {
        let text = header.to_text();
        assert_eq!([text.as_bytes(), rest].concat(), data);
        let _ = Held::all(&header.stanzas);
    }
    if let Ok((header, rest)) = esdk::Header::read(data) {
        assert_eq!([header.as_bytes(), rest].concat(), data);
        header.data_keys.iter().for_each(|key| drop(key.arn().map(str::to_owned)));
    }
    if let Ok(text) = str::from_utf8(data) {
        let _ = (Identity::read(text), text.parse::<Recipient>());
    }
    let mut out = Vec::new();
    match open_any_stream(Box::new(Cursor::new(data.to_vec()))) {
        Ok(AnyOpened::Age(opened)) => drop(opened.stream_to(&file_key, &mut out)),
        Ok(AnyOpened::Esdk(opened)) => drop(opened.stream_to(&data_key, &mut out)),
        Err(_) => {}
    }

    let [frame, place @ .., damage] = data else { return };
    let [high, low, plaintext @ ..] = place else { return };
    let place = usize::from(u16::from_be_bytes([*high, *low]));
    let mut of_age = Vec::new();
    let header = age::Header::new(&file_key, vec![Stanza::new("nobody", &[], vec![])]).expect("a header");
    keyhearth_files::seal_stream(&file_key, &header, &mut &*plaintext, &mut of_age).expect("it is small");
    let mut of_esdk = Vec::new();
    let key = vec![EncryptedDataKey::aws_kms("k", vec![1])];
    let made =
        esdk::Header::create(&data_key, Context::new(), key, usize::from(*frame) + 1).expect("a header");
    esdk::seal_stream(made, &mut &*plaintext, &mut of_esdk).expect("it is small");
    for mut file in [of_age, of_esdk] {
        let place = place % file.len();
        file[place] ^= damage;
        let mut out = Vec::new();
        let opened = open_any_stream(Box::new(Cursor::new(file))).and_then(|opened| match opened {
            AnyOpened::Age(opened) => opened.stream_to(&file_key, &mut out),
            AnyOpened::Esdk(opened) => opened.stream_to(&data_key, &mut out),
        });
        match opened {
            Ok(_) => assert!(*damage == 0 && out == plaintext),
            Err(_) => assert_ne!(*damage, 0),
        }
    }
});
