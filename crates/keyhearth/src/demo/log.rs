//! The last step: the log, exported by an auditor of the deployment and verified with nothing but a public key.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Instant;

use keyhearth_client::Role;
use keyhearth_core::entry::{Entry, Result as Outcome};
use keyhearth_core::log::{
    CHECKPOINT_PATH, Fault, Report, SignedCheckpoint, TILE_WIDTH, VerifierKey, bundle_path, export,
    verify_export,
};

use super::deployment::Deployment;
use super::{Error, Step, ms};

type Files = BTreeMap<String, Vec<u8>>;

/// Exports the log, verifies it, alters one bit of a copy and finds that.
pub async fn exported(deployment: &Deployment) -> Result<Step, Error> {
    let begun = Instant::now();
    let key: VerifierKey = deployment.log_key.trim().parse().map_err(|error| Error::Log(Box::new(error)))?;
    let mut files = fetched(deployment).await?;
    let (mut done, mut refused) = (0, 0);
    let report = verify(&files, &key, |entry| match entry.result {
        Outcome::Done => done += 1,
        Outcome::Refused | Outcome::Failed => refused += 1,
    });
    let report = report.map_err(|fault| Error::Log(Box::new(fault)))?;
    let bundle = files.iter_mut().find(|(path, _)| path.starts_with("tile/entries/"));
    if let Some(byte) = bundle.and_then(|(_, bytes)| bytes.last_mut()) {
        *byte ^= 1;
    }
    let fault = verify(&files, &key, |_| ()).err().ok_or(Error::Believed)?.to_string();
    Ok(Step::Log { entries: report.size, done, refused, fault, ms: ms(begun) })
}

async fn fetched(deployment: &Deployment) -> Result<Files, Error> {
    let auditor = deployment.identity(&deployment.operator, Role::Auditor).await?;
    let note = auditor.export_log(CHECKPOINT_PATH).await?;
    let note = std::str::from_utf8(&note).map_err(|error| Error::Log(Box::new(error)))?;
    let checkpoint: SignedCheckpoint = note.parse().map_err(|error| Error::Log(Box::new(error)))?;
    let size = checkpoint.danger_unverified().size();
    let width = TILE_WIDTH as u64;
    let mut bundles = Vec::new();
    for first in (0..size).step_by(TILE_WIDTH) {
        let count = usize::try_from(size - first).map_or(TILE_WIDTH, |rest| rest.min(TILE_WIDTH));
        bundles.push(auditor.export_log(&bundle_path(first / width, count)).await?.to_vec());
    }
    let mut bundles = bundles.into_iter();
    let mut files = Files::new();
    let read = |_, _| Ok::<_, Infallible>(bundles.next().unwrap_or_default());
    let write = |path: &str, bytes: &[u8]| {
        files.insert(path.to_owned(), bytes.to_vec());
        Ok(())
    };
    export(&checkpoint, read, write).map_err(|error| Error::Log(Box::new(error)))?;
    Ok(files)
}

fn verify(
    files: &Files,
    key: &VerifierKey,
    mut each: impl FnMut(Entry),
) -> Result<Report, Fault<keyhearth_core::Error>> {
    let read = |path: &str| Ok(files.get(path).cloned());
    verify_export(read, key, &[], |_, bytes| Entry::from_bytes(bytes).map(&mut each))
}
