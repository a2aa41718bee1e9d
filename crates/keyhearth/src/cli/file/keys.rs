//! Asking the server for the keys of files, many in one request.

use std::time::{SystemTime, UNIX_EPOCH};

use keyhearth_core::secret::SecretName;
use keyhearth_crypto::algorithm::Mechanism;
use keyhearth_files::Error;
use keyhearth_files::age::FileKey;
use keyhearth_files::held::{FileId, Held, Kept, Wrapped};
use keyhearth_proto::rest::Is;
use keyhearth_proto::rest::body::{Decrypt, Encrypt, KeepSecret, ReadSecret};

use super::super::failure::Failure;
use super::super::session::Server;

/// The name of the pair that binds a wrapped file key to its file. Policies and grants can name it.
pub const FILE: &str = "file";

/// The one mechanism whose messages hold all that is needed to open them, whichever version of a key made them: other keys
/// are refused before anything is sealed by them.
pub const KH1: Is<Mechanism> = Is(Mechanism::Kh1);

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// For how long the keys that are asked for will be kept without asking again; not at all without one.
pub type Lease = Option<keyhearth_proto::rest::body::Lease>;

/// The pairs that the server binds to the key of this file.
fn context(file: FileId) -> Option<keyhearth_proto::rest::Pairs> {
    Some([(FILE.to_owned(), file.to_string())].into_iter().collect())
}

/// A file's key that is to be wrapped.
#[derive(Clone, Copy)]
pub struct Bare<'k> {
    /// The key to wrap it by, by its name.
    pub key: &'k str,
    /// As [`Wrapped::file`].
    pub file: FileId,
    /// As [`Wrapped::made`].
    pub made: u64,
    /// The file's key.
    pub file_key: &'k FileKey,
}

/// Has the keys of files wrapped; each may be refused by itself.
///
/// # Errors
/// [`Failure`] if the server refuses all, or does not answer.
pub fn wrap(server: &Server, files: &[Bare<'_>]) -> Result<Vec<Result<Wrapped, Failure>>, Failure> {
    let asked: Vec<_> = files
        .iter()
        .map(|bare| {
            let plaintext = bare.file_key.expose().into();
            (bare.key, Encrypt { mechanism: Some(KH1), context: context(bare.file), plaintext })
        })
        .collect();
    let answers = server.wait(server.encrypt_all(&asked))?;
    let wrapped = answers.into_iter().zip(files).map(|(answer, &Bare { file, made, .. })| {
        let answer = answer?;
        Ok(Wrapped { key: answer.key.to_string(), file, made, ciphertext: answer.ciphertext.to_vec() })
    });
    Ok(wrapped.collect())
}

/// The name under which the server keeps the key of this file.
pub fn name(file: FileId) -> Is<SecretName> {
    SecretName::File(file.to_bytes()).into()
}

/// Has the keys of files kept under `key`; each may be refused by itself.
///
/// # Errors
/// [`Failure`] if the server refuses all, or does not answer.
pub fn keep(
    server: &Server,
    key: &str,
    files: &[(FileId, &FileKey)],
) -> Result<Vec<Result<Kept, Failure>>, Failure> {
    let asked: Vec<_> = files
        .iter()
        .map(|&(file, file_key)| {
            let value = Some(file_key.expose().into());
            (key, KeepSecret { name: name(file), value, generate: None, replace: None })
        })
        .collect();
    let answers = server.wait(server.keep_secrets(&asked))?;
    let kept = answers.into_iter().zip(files).map(|(answer, &(file, _))| {
        let key = answer?.key.to_string();
        Ok(Kept { key, file })
    });
    Ok(kept.collect())
}

/// Has the keys of files given out; each may be refused by itself.
///
/// # Errors
/// [`Failure`] if the server refuses all, or does not answer.
pub fn open(
    server: &Server,
    files: &[&Held],
    lease: Lease,
) -> Result<Vec<Result<FileKey, Failure>>, Failure> {
    let (mut wrapped, mut kept) = (Vec::new(), Vec::new());
    for file in files {
        match file {
            Held::Wrapped(file) => wrapped.push(file),
            Held::Kept(file) => {
                kept.push((&*file.key, ReadSecret { name: name(file.file), lease_seconds: lease }))
            }
        }
    }
    let mut wrapped = unwrap(server, &wrapped, lease)?.into_iter();
    let mut kept = server.wait(server.read_secrets(&kept))?.into_iter();
    let none = || super::failure(Error::NotForUs);
    let keys = files.iter().map(|file| match file {
        Held::Wrapped(_) => wrapped.next().ok_or_else(none)?,
        Held::Kept(_) => {
            let kept = kept.next().ok_or_else(none)?.map_err(|refusal| not_kept(refusal.into()))?;
            FileKey::from_bytes(&kept.value).map_err(super::failure)
        }
    });
    Ok(keys.collect())
}

/// What it means that there is no such secret.
fn not_kept(refusal: Failure) -> Failure {
    match refusal.code() {
        Some("not_found") => {
            let what = "the server does not keep the key of this file";
            let next = "if it was shredded nothing opens it any more; otherwise ask the server that it was sealed by";
            Failure::of("not_found", what, "", next)
        }
        _ => refusal,
    }
}

fn unwrap(
    server: &Server,
    files: &[&Wrapped],
    lease: Lease,
) -> Result<Vec<Result<FileKey, Failure>>, Failure> {
    let asked: Vec<_> = files
        .iter()
        .map(|wrapped| {
            let ciphertext = wrapped.ciphertext.clone().into();
            let context = context(wrapped.file);
            let body = Decrypt {
                mechanism: Some(KH1),
                version: None,
                context,
                iv: None,
                ciphertext,
                lease_seconds: lease,
            };
            (&*wrapped.key, body)
        })
        .collect();
    let answers = server.wait(server.decrypt_all(&asked))?;
    let keys =
        answers.into_iter().map(|answer| FileKey::from_bytes(&answer?.plaintext).map_err(super::failure));
    Ok(keys.collect())
}
