//! Seals and opens one file by a key that who calls brings: to try files with other programs, and to measure.
//!
//! ```text
//! seal age IN OUT THREADS        under a key that is then forgotten
//! seal esdk IN OUT THREADS       the data key, the ARN and the encrypted data key come first on standard input
//! seal say IN                    prints ARN, encrypted data key and context of a message
//! seal open IN OUT THREADS       the data key of a message comes first on standard input
//! ```
//!
//! What comes on standard input and what is printed has a line each, bytes in base64; the pairs of the context come last,
//! `NAME=VALUE`. With 0 threads a file is read and written as if it were a pipe.

use std::error::Error;
use std::fs::File;
use std::io::{self, BufRead};
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use keyhearth_files::age::{self, FileKey, Stanza};
use keyhearth_files::esdk::{self, DataKey, EncryptedDataKey, FRAME_BYTES};
use keyhearth_files::{Output, seal, seal_stream};

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut lines = io::stdin().lock().lines();
    let mut line = || lines.next().unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into()));
    match words[..] {
        ["age", from, to, threads] => {
            let (mut source, output) = (File::open(from)?, Output::create(Path::new(to))?);
            let key = FileKey::random()?;
            let header = age::Header::new(&key, vec![Stanza::new("nobody", &[], vec![])])?;
            match threads.parse()? {
                0 => seal_stream(&key, &header, &mut source, &mut output.file())?,
                threads => seal(&key, &header, &source, output.file(), threads)?,
            };
            output.finish()?;
        }
        ["esdk", from, to, threads] => {
            let (mut source, output) = (File::open(from)?, Output::create(Path::new(to))?);
            let key = DataKey::from_bytes(&BASE64.decode(line()?)?)?;
            let (arn, encrypted) = (line()?, BASE64.decode(line()?)?);
            let encrypted = EncryptedDataKey::aws_kms(&arn, encrypted);
            let mut context = esdk::Context::new();
            for pair in lines {
                let pair = pair?;
                let (name, value) = pair.split_once('=').ok_or("a pair is NAME=VALUE")?;
                context.insert(name.to_owned(), value.to_owned());
            }
            let made = esdk::Header::create(&key, context, vec![encrypted], FRAME_BYTES)?;
            match threads.parse()? {
                0 => esdk::seal_stream(made, &mut source, &mut output.file())?,
                threads => esdk::seal(made, &source, output.file(), threads)?,
            };
            output.finish()?;
        }
        ["say", from] => {
            let header = esdk::open(File::open(from)?)?.header;
            let encrypted = header.data_keys.first().ok_or("nobody may open it")?;
            println!("{}", encrypted.arn().ok_or("the key is of another provider")?);
            println!("{}", BASE64.encode(&encrypted.ciphertext));
            header.context.iter().for_each(|(name, value)| println!("{name}={value}"));
        }
        ["open", from, to, threads] => {
            let (opened, output) = (esdk::open(File::open(from)?)?, Output::create(Path::new(to))?);
            let key = DataKey::from_bytes(&BASE64.decode(line()?)?)?;
            match threads.parse()? {
                0 => opened.stream_to(&key, &mut output.file())?,
                threads => opened.write_to(&key, output.file(), threads)?,
            };
            output.finish()?;
        }
        _ => return Err("see the beginning of the source".into()),
    }
    Ok(())
}
