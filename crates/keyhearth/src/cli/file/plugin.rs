//! `age-plugin-keyhearth`: what `age` and `rage` start to wrap and unwrap the keys of files by a key of the server.
//!
//! It is this program under another name, and finds the server by the variables of the environment alone. It says nothing
//! but stanzas on standard output.
//!
//! Source: C2SP age-plugin.

use std::ffi::OsString;
use std::io::{self, BufRead, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use keyhearth_core::request::KeyRef;
use keyhearth_files::age::{FileKey, Stanza, read_stanza};
use keyhearth_files::held::{self, FileId, Held};

use super::super::failure::Failure;
use super::super::session::Server;
use super::super::spelled::text_of;
use super::keys::Bare;
use super::{failure, keys};

/// What the program is called when it is a plugin.
const PROGRAM: &str = "age-plugin-keyhearth";
/// Recipients, identities and keys that are taken in one run.
const ITEMS_MAX: usize = 10_000;
/// The longest stanza that is read, in bytes.
const STANZA_BYTES_MAX: u64 = 64 * 1024;

/// Whether these are the arguments of a plugin. `age` calls it by its name; `rage` by that of the file that a link of this
/// name leads to.
pub fn is_called(mut arguments: impl Iterator<Item = OsString>) -> bool {
    let program = arguments.next().map(PathBuf::from);
    program.is_some_and(|path| path.file_name().is_some_and(|name| name == PROGRAM))
        || arguments.next().is_some_and(|first| first.as_encoded_bytes().starts_with(b"--age-plugin="))
}

/// Runs as a plugin: 0 if the conversation came to its end, whatever was said.
pub fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let machine = arguments.next().unwrap_or_default();
    let conversation = match &*machine {
        "--age-plugin=recipient-v1" => wrap,
        "--age-plugin=identity-v1" => unwrap,
        _ => {
            eprintln!(
                "{PROGRAM} is started by age and rage; `keyhearth file recipient KEY` prints what to give them"
            );
            return ExitCode::FAILURE;
        }
    };
    match conversation(&mut Peer { input: &mut io::stdin().lock(), output: &mut io::stdout().lock() }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{PROGRAM}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// `age`, at the other end of standard input and output.
struct Peer<'a> {
    input: &'a mut dyn BufRead,
    output: &'a mut dyn Write,
}

impl Peer<'_> {
    /// What it says next.
    fn hear(&mut self) -> io::Result<Stanza> {
        let mut text = zeroize::Zeroizing::new(Vec::new());
        let mut input = (&mut self.input).take(STANZA_BYTES_MAX);
        loop {
            let start = text.len();
            let len = input.read_until(b'\n', &mut text)?;
            if len == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            // The first line is not of the body, whose last line is shorter than the others.
            if start > 0 && len <= 64 {
                break;
            }
        }
        let mut rest = &text[..];
        read_stanza(&mut rest).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))
    }

    /// All it says until it is done.
    fn hear_all(&mut self) -> io::Result<Vec<Stanza>> {
        let mut heard = Vec::new();
        loop {
            let stanza = self.hear()?;
            if stanza.tag == "done" {
                return Ok(heard);
            }
            if heard.len() == ITEMS_MAX {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "more than 10,000 stanzas at once"));
            }
            heard.push(stanza);
        }
    }

    /// Says it and hears what it is answered.
    fn say(&mut self, stanza: &Stanza) -> io::Result<()> {
        self.write(stanza)?;
        self.hear().map(drop)
    }

    fn done(&mut self) -> io::Result<()> {
        self.write(&Stanza::new("done", &[], Vec::new()))
    }

    fn write(&mut self, stanza: &Stanza) -> io::Result<()> {
        let mut text = zeroize::Zeroizing::new(String::new());
        stanza.write(&mut text);
        self.output.write_all(text.as_bytes())?;
        self.output.flush()
    }

    fn error(&mut self, of: &[&str], what: &str) -> io::Result<()> {
        self.say(&Stanza::new("error", of, what.as_bytes().to_vec()))
    }
}

/// The state machine `recipient-v1`.
fn wrap(peer: &mut Peer<'_>) -> io::Result<()> {
    let heard = peer.hear_all()?;
    let named = |tag: &'static str| heard.iter().filter(move |stanza| stanza.tag == tag);
    let mut recipients = Vec::new();
    let mut is_wrong = false;
    for (at, stanza) in named("add-recipient").enumerate() {
        match stanza
            .arguments
            .first()
            .and_then(|text| held::read_recipient(text).ok())
            .filter(|key| is_key(key))
        {
            Some(key) => recipients.push((at, key)),
            None => {
                is_wrong = true;
                peer.error(&["recipient", &at.to_string()], "not a recipient of `keyhearth file recipient`")?;
            }
        }
    }
    for (at, _) in named("add-identity").enumerate() {
        is_wrong = true;
        let what = "a server wraps for keys: give a recipient of `keyhearth file recipient`";
        peer.error(&["identity", &at.to_string()], what)?;
    }
    let wrapped = if is_wrong { Ok(Vec::new()) } else { wrap_all(&recipients, named("wrap-file-key")) };
    match wrapped {
        Ok(stanzas) => {
            for (file, stanza) in stanzas {
                let mut said =
                    Stanza::new("recipient-stanza", &[&file.to_string(), &stanza.tag], stanza.body);
                said.arguments.extend(stanza.arguments);
                peer.say(&said)?;
            }
        }
        Err((at, refusal)) => peer.error(&["recipient", &at.to_string()], &refusal.to_string())?,
    }
    peer.done()
}

fn is_key(text: &str) -> bool {
    text_of::<KeyRef>(text).is_ok()
}

/// Which recipient can not be wrapped to, and why.
type Refused = (usize, Box<Failure>);

/// Wraps each file's key for each recipient.
fn wrap_all<'s>(
    recipients: &[(usize, String)],
    file_keys: impl Iterator<Item = &'s Stanza>,
) -> Result<Vec<(usize, Stanza)>, Refused> {
    let of = |at: usize| move |refusal: Failure| (at, Box::new(refusal));
    let made = keys::now();
    let files = file_keys.map(|stanza| Ok((FileId::random()?, made, FileKey::from_bytes(&stanza.body)?)));
    let files: Vec<_> = files.collect::<Result<_, _>>().map_err(failure).map_err(of(0))?;
    let server = Server::from_env().map_err(of(0))?;
    let mut stanzas = Vec::new();
    for (at, key) in recipients {
        let bare = |(file, made, file_key)| Bare { key, file, made, file_key };
        let asked: Vec<_> = files.iter().map(|(id, made, file_key)| bare((*id, *made, file_key))).collect();
        let wrapped = keys::wrap(&server, &asked).map_err(of(*at))?;
        for (file, wrapped) in wrapped.into_iter().enumerate() {
            stanzas.push((file, wrapped.map_err(of(*at))?.to_stanza()));
        }
    }
    Ok(stanzas)
}

/// The state machine `identity-v1`.
fn unwrap(peer: &mut Peer<'_>) -> io::Result<()> {
    let heard = peer.hear_all()?;
    let mut is_wrong = false;
    for (at, stanza) in heard.iter().filter(|stanza| stanza.tag == "add-identity").enumerate() {
        if !stanza.arguments.first().is_some_and(|text| held::is_identity(text)) {
            is_wrong = true;
            peer.error(&["identity", &at.to_string()], "not the identity of `keyhearth file identity`")?;
        }
    }
    if is_wrong {
        return peer.done();
    }
    // Of each file its stanzas in their order, those of others too: what is refused is named by its place.
    let mut files: Vec<(String, Vec<Stanza>)> = Vec::new();
    for stanza in heard.into_iter().filter(|stanza| stanza.tag == "recipient-stanza") {
        let mut arguments = stanza.arguments.into_iter();
        let (Some(file), Some(tag)) = (arguments.next(), arguments.next()) else { continue };
        let stanza = Stanza { tag, arguments: arguments.collect(), body: stanza.body };
        match files.last_mut().filter(|(last, _)| *last == file) {
            Some((_, stanzas)) => stanzas.push(stanza),
            None => files.push((file, vec![stanza])),
        }
    }
    let mut server = None;
    for (file, stanzas) in &files {
        unwrap_file(peer, &mut server, file, stanzas)?;
    }
    peer.done()
}

/// Unwraps the key of one file by the first stanza that the server opens.
fn unwrap_file(
    peer: &mut Peer<'_>,
    server: &mut Option<Server>,
    file: &str,
    stanzas: &[Stanza],
) -> io::Result<()> {
    let mut ours = Vec::new();
    for (at, stanza) in stanzas.iter().enumerate() {
        match Held::all(std::slice::from_ref(stanza)) {
            Ok(found) => ours.extend(found.into_iter().map(|held| (at, held))),
            Err(error) => return peer.error(&["stanza", file, &at.to_string()], &error.to_string()),
        }
    }
    let mut refusal = None;
    for (at, held) in ours.iter().take(held::HELD_MAX) {
        let key = match server {
            Some(server) => keys::open(server, &[held], None),
            None => Server::from_env().and_then(|new| keys::open(server.insert(new), &[held], None)),
        };
        match key.map(|keys| keys.into_iter().next()) {
            Ok(Some(Ok(key))) => {
                return peer.say(&Stanza::new("file-key", &[file], key.expose().to_vec()));
            }
            Ok(Some(Err(why))) | Err(why) => refusal = Some((at, why)),
            Ok(None) => {}
        }
    }
    match refusal {
        Some((at, why)) => peer.error(&["stanza", file, &at.to_string()], &why.to_string()),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converse(said: &str, how: fn(&mut Peer<'_>) -> io::Result<()>) -> io::Result<String> {
        let mut output = Vec::new();
        how(&mut Peer { input: &mut said.as_bytes(), output: &mut output })?;
        Ok(String::from_utf8(output).unwrap())
    }

    #[test]
    fn what_is_no_recipient_or_identity_is_named_by_its_place() {
        let said = "-> grease a b\nAAAA\n-> add-recipient age1other1qqqq\n\n-> wrap-file-key\nAAAAAAAAAAAAAAAAAAAAAA\n-> done\n\n-> ok\n\n";
        let heard = converse(said, wrap).unwrap();
        assert!(heard.starts_with("-> error recipient 0\n") && heard.ends_with("-> done\n\n"), "{heard}");
        let heard = converse("-> add-identity AGE-PLUGIN-OTHER-1\n\n-> done\n\n-> ok\n\n", unwrap).unwrap();
        assert!(heard.starts_with("-> error identity 0\n") && heard.ends_with("-> done\n\n"), "{heard}");
    }

    #[test]
    fn files_of_others_are_passed_over_and_broken_stanzas_named() {
        let identity = held::identity();
        let said = format!(
            "-> add-identity {identity}\n\n-> recipient-stanza 0 X25519 abc\nAAAA\n\
            -> recipient-stanza 1 X25519 abc\nAAAA\n-> recipient-stanza 1 keyhearth/ref1 key\nAAAA\n-> done\n\n-> ok\n\n"
        );
        let heard = converse(&said, unwrap).unwrap();
        assert!(heard.starts_with("-> error stanza 1 1\n") && heard.ends_with("-> done\n\n"), "{heard}");
        assert_eq!(heard.matches("-> ").count(), 2);
    }

    #[test]
    fn it_is_called_by_its_name_or_by_what_it_is_asked() {
        let is_called = |words: &[&str]| super::is_called(words.iter().map(OsString::from));
        assert!(is_called(&["/bin/age-plugin-keyhearth"]));
        assert!(is_called(&["/bin/keyhearth", "--age-plugin=identity-v1"]));
        for words in [&["/bin/keyhearth"][..], &["/bin/keyhearth", "file", "--age-plugin=identity-v1"], &[]] {
            assert!(!is_called(words), "{words:?}");
        }
    }

    #[test]
    fn a_conversation_that_ends_early_is_an_error() {
        for said in ["", "-> done", "-> done\n", "-> add-identity a\n\n", "x\n\n"] {
            assert!(converse(said, unwrap).is_err(), "{said}");
        }
        let long = format!("-> a\n{}", format!("{}\n", "A".repeat(64)).repeat(2000));
        assert!(converse(&long, wrap).is_err());
    }
}
