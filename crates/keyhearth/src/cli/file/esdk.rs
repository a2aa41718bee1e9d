//! Files in the format of the AWS Encryption SDK: their data keys, from `data-key` and `decrypt` of the server.
//!
//! The AWS KMS API makes and takes the same ciphertexts, so the SDKs open there what is sealed here, and the reverse.

use std::str::FromStr;

use keyhearth_core::id::KeyId;
use keyhearth_files::Error;
use keyhearth_files::esdk::{
    Context, DATA_KEY_BYTES, DataKey, EncryptedDataKey, FRAME_BYTES, Frames, Header,
};
use keyhearth_files::held::{FileId, HELD_MAX};
use keyhearth_proto::rest::Within;
use keyhearth_proto::rest::body::{Decrypt, MakeDataKey};

use super::super::failure::Failure;
use super::super::session::Server;
use super::failure;
use super::keys::{FILE, KH1, Lease};

/// What such a file's name ends in.
pub const SUFFIX: &str = "esdk";

/// The header of a new file and what seals its frames, or why there are none.
type Made = Result<(Header, Frames), Failure>;

/// A key that makes data keys, by its name, and what they are bound to.
pub struct Wrapper<'k> {
    key: &'k str,
    /// What precedes the key's id in its ARN.
    arn_prefix: String,
    context: Context,
}

impl<'k> Wrapper<'k> {
    /// Of the key of this name.
    ///
    /// # Errors
    /// [`Failure`] if the server's keys have no ARNs, or it does not answer.
    pub fn new(server: &Server, key: &'k str, context: &[(String, String)]) -> Result<Self, Failure> {
        let arn_prefix = server.wait(server.status())?.key_arn_prefix.ok_or_else(|| {
            let next = "have `[aws]` added to the server's configuration, or seal in the age format";
            Failure::of("no_arns", "the server has no AWS KMS API, so its keys have no ARNs", "", next)
        })?;
        let pairs: Context = context.iter().cloned().collect();
        if pairs.len() < context.len() || pairs.contains_key(FILE) {
            let next =
                "give each name once, and another one than `file`, which is the id that each file gets";
            return Err(Failure::new("a name in --context is given twice, or taken", next));
        }
        Ok(Self { key, arn_prefix, context: pairs })
    }

    /// Makes the headers of so many files, and what seals their frames; each may be refused by itself. A file's context
    /// has an id of its own.
    ///
    /// # Errors
    /// [`Failure`] if the server refuses all, or does not answer.
    pub fn headers(&self, server: &Server, count: usize) -> Result<Vec<Made>, Failure> {
        let context = |_| {
            let file = FileId::random().map_err(failure)?;
            let mut context = self.context.clone();
            context.insert(FILE.to_owned(), file.to_string());
            Ok(context)
        };
        let contexts = (0..count).map(context).collect::<Result<Vec<_>, Failure>>()?;
        let new =
            |context| New { key: self.key, arn_prefix: &self.arn_prefix, context, frame_bytes: FRAME_BYTES };
        headers(server, contexts.into_iter().map(new).collect())
    }
}

/// A file that is to get a data key.
pub struct New<'k> {
    /// The key that makes it, by its name.
    pub key: &'k str,
    /// What precedes the key's id in its ARN.
    pub arn_prefix: &'k str,
    /// What it is bound to.
    pub context: Context,
    /// As [`Header::frame_bytes`].
    pub frame_bytes: usize,
}

/// Makes the headers of files, and what seals their frames; each may be refused by itself.
///
/// # Errors
/// [`Failure`] if the server refuses all, or does not answer.
pub fn headers(server: &Server, files: Vec<New<'_>>) -> Result<Vec<Made>, Failure> {
    let bytes = u32::try_from(DATA_KEY_BYTES).ok().and_then(Within::new);
    let context = |file: &New<'_>| Some(file.context.clone().into_iter().collect());
    let asked: Vec<_> =
        files.iter().map(|file| (file.key, MakeDataKey { context: context(file), bytes })).collect();
    let answers = server.wait(server.data_key_all(&asked))?;
    drop(asked);
    let headers = answers.into_iter().zip(files).map(|(answer, file)| {
        let answer = answer?;
        let data_key = DataKey::from_bytes(answer.plaintext.as_deref().unwrap_or_default());
        let arn = format!("{}{}", file.arn_prefix, answer.key);
        let wrapped = vec![EncryptedDataKey::aws_kms(&arn, answer.ciphertext.to_vec())];
        let header = data_key.and_then(|key| Header::create(&key, file.context, wrapped, file.frame_bytes));
        header.map_err(failure)
    });
    Ok(headers.collect())
}

/// The id of the key that encrypted the data key, where it can be one of Keyhearth: which server's it is shows when it
/// is asked.
pub fn key_of(data_key: &EncryptedDataKey) -> Option<&str> {
    let (_, key) = data_key.arn()?.split_once(":key/")?;
    KeyId::from_str(key).is_ok().then_some(key)
}

/// The data keys of the files with these headers, each or why not: by the first of their encrypted data keys that the server
/// opens.
///
/// # Errors
/// [`Failure`] if the server refuses all, or does not answer.
pub fn data_keys(
    server: &Server,
    headers: &[&Header],
    lease: Lease,
) -> Result<Vec<Result<DataKey, Failure>>, Failure> {
    let ours = |wrapped| Some((key_of(wrapped)?, &wrapped.ciphertext));
    let wrapped: Vec<Vec<_>> = headers
        .iter()
        .map(|header| header.data_keys.iter().filter_map(ours).take(HELD_MAX).collect())
        .collect();
    let mut found: Vec<Result<DataKey, Failure>> =
        headers.iter().map(|_| Err(failure(Error::NotForUs))).collect();
    for round in 0.. {
        let open = |at: &usize| found[*at].is_err();
        let at: Vec<_> = (0..headers.len()).filter(open).filter(|&at| wrapped[at].len() > round).collect();
        if at.is_empty() {
            break;
        }
        let asked: Vec<_> = at
            .iter()
            .map(|&at| {
                let (key, ciphertext) = wrapped[at][round];
                let context = Some(headers[at].context.clone().into_iter().collect());
                let (mechanism, ciphertext) = (Some(KH1), ciphertext.clone().into());
                (
                    key,
                    Decrypt { mechanism, version: None, context, iv: None, ciphertext, lease_seconds: lease },
                )
            })
            .collect();
        let answers = match server.wait(server.decrypt_all(&asked)) {
            Ok(answers) => answers,
            // What some files ask for besides is no reason to refuse the others.
            Err(_) if round > 0 => break,
            Err(refusal) => return Err(refusal),
        };
        for (at, answer) in at.into_iter().zip(answers) {
            found[at] = answer
                .map_err(Failure::from)
                .and_then(|answer| DataKey::from_bytes(&answer.plaintext).map_err(failure));
        }
    }
    Ok(found)
}
