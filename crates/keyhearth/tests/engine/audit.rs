//! The log: an entry for everything, proofs, and what does not go unnoticed.

use std::collections::BTreeMap;
use std::sync::Arc;

use keyhearth_core::Error;
use keyhearth_core::entry::{Entry, Result as Outcome};
use keyhearth_core::id::TenantId;
use keyhearth_core::log::{EntryProof, Fault, SignedCheckpoint, VerifierKey, verify_export};
use keyhearth_core::operation::Operation;
use keyhearth_core::principal::{Caller, Role};
use keyhearth_core::request::{Ask, Response};
use keyhearth_crypto::algorithm::Algorithm;
use tokio::runtime::Handle;

use super::support::{HERE, House, by_id, encrypt, flip, got, issue, new_key};

fn log_key(house: &House) -> VerifierKey {
    house.engine.log_key().unwrap().parse().unwrap()
}

async fn auditor(house: &House) -> Arc<Caller> {
    issue(&house.engine, &house.operator, "auditor", &[Role::Auditor]).await
}

/// The log as an auditor takes it away: every file, by path.
struct Export {
    files: BTreeMap<String, Vec<u8>>,
    key: VerifierKey,
}

impl Export {
    /// Asks the server for the files that verifying needs. Runs on a thread of a multi-threaded runtime.
    fn take(house: &House, auditor: &Arc<Caller>) -> (Self, Vec<Entry>) {
        let mut files = BTreeMap::new();
        let mut entries = Vec::new();
        let key = log_key(house);
        let read = |path: &str| -> Result<Option<Vec<u8>>, Error> {
            if let Some(bytes) = files.get(path) {
                return Ok(Some(Vec::clone(bytes)));
            }
            let ask = house.ask(auditor, Ask::ExportLog { path: path.to_owned() });
            let bytes = match tokio::task::block_in_place(|| Handle::current().block_on(ask)) {
                Ok(Response::LogFile(bytes)) => bytes,
                Ok(other) => panic!("not a file: {other:?}"),
                Err(Error::NotFound(_)) => return Ok(None),
                Err(error) => return Err(error),
            };
            files.insert(path.to_owned(), bytes.clone());
            Ok(Some(bytes))
        };
        let each = |_: u64, bytes: &[u8]| {
            entries.push(Entry::from_bytes(bytes)?);
            Ok(())
        };
        let report = verify_export(read, &key, &[], each).unwrap();
        assert_eq!(report.size, entries.len() as u64);
        (Self { files, key }, entries)
    }

    fn verify(&self, known: &[SignedCheckpoint]) -> Result<u64, Fault<Error>> {
        let known: Vec<_> = known.iter().map(|signed| signed.danger_unverified().clone()).collect();
        let read = |path: &str| Ok(self.files.get(path).cloned());
        verify_export(read, &self.key, &known, |_, _| Ok(())).map(|report| report.size)
    }

    fn checkpoint(&self) -> SignedCheckpoint {
        std::str::from_utf8(&self.files["checkpoint"]).unwrap().parse().unwrap()
    }
}

#[tokio::test]
async fn everything_that_is_asked_has_an_entry() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let before = home.entries().await.len();
    let id = home.aes().await.id;
    let message = home.encrypt(id, "text").await.unwrap();
    home.decrypt(id, &message).await.unwrap();
    home.decrypt(id, b"nonsense").await.unwrap_err();
    home.encrypt_as(&home.auditor, id, "x").await.unwrap_err();
    home.ask(&home.user, Ask::CreateKey(new_key(Algorithm::Aes256))).await.unwrap_err();
    home.manage(Ask::SuspendKey { key: by_id(id), version: None }).await.unwrap();
    home.encrypt(id, "x").await.unwrap_err();
    home.ask(&home.user, Ask::Random { bytes: 0 }).await.unwrap_err();
    home.ask(&home.user, Ask::DescribeKey { key: by_id(keyhearth_core::id::KeyId([9; 16])) })
        .await
        .unwrap_err();
    let entries = home.entries().await;
    // Looking at the log is in the log too.
    let found: Vec<_> = entries[before + 1..]
        .iter()
        .map(|(_, entry)| (entry.operation().unwrap(), entry.result, entry.error.as_deref()))
        .collect();
    use Operation as O;
    use Outcome::{Done, Failed, Refused};
    assert_eq!(
        found[..10],
        [
            (O::CreateKey, Done, None),
            (O::Encrypt, Done, None),
            (O::Decrypt, Done, None),
            (O::Decrypt, Failed, Some("not_authentic")),
            (O::Encrypt, Refused, Some("denied")),
            (O::CreateKey, Refused, Some("denied")),
            (O::SuspendKey, Done, None),
            (O::Encrypt, Refused, Some("wrong_state")),
            (O::Random, Failed, Some("invalid")),
            (O::DescribeKey, Refused, Some("not_found")),
        ]
    );
    let created = &entries[before + 1].1;
    assert_eq!((created.key, created.version), (Some(id), Some(1)));
    assert_eq!(
        (created.actor, created.by.as_slice()),
        (Some(home.key_admin.principal), &["role:key-admin".to_owned()][..])
    );
    assert_eq!(created.address.as_deref(), Some(&[127, 0, 0, 1][..]));
    assert!(entries.iter().all(|(_, entry)| entry.tenant == home.id), "only its own");
}

#[tokio::test]
async fn equal_contexts_show_as_equal_and_as_nothing_else() {
    let house = House::new().await;
    let (one, two) = (house.tenant("one").await, house.tenant("two").await);
    let mut seen = Vec::new();
    for (home, value) in [(&one, "a"), (&one, "a"), (&one, "b"), (&two, "a")] {
        let key = by_id(home.aes().await.id);
        let context = vec![("file".to_owned(), value.to_owned())];
        let plaintext = super::support::secret("x");
        home.ask(&home.user, Ask::Encrypt { key, mechanism: None, context, plaintext }).await.unwrap();
        seen.push(home.newest(Operation::Encrypt).await.context.unwrap());
    }
    assert_eq!(seen[0], seen[1]);
    assert!(seen[0] != seen[2] && seen[0] != seen[3]);
}

#[tokio::test]
async fn failed_logins_are_logged_up_to_a_rate() {
    let house = House::new().await;
    let auditor = auditor(&house).await;
    let other = House::new().await;
    let foreign = keyhearth::identity::certificate_der(&other.operator_certificate).unwrap();
    let presented: [Option<&[u8]>; 3] = [None, Some(b"no certificate"), Some(&foreign)];
    for certificate in presented {
        let refused = house.engine.authenticate(certificate, HERE).await;
        assert_eq!(refused.unwrap_err(), Error::Unauthenticated);
    }
    let failures = async || {
        let list = Ask::ListEntries { from: 0, limit: 1_000 };
        let entries = got!(house.ask(&auditor, list).await, Response::Entries { entries, .. } => entries);
        let entries = entries.into_iter().map(|(_, bytes)| Entry::from_bytes(&bytes).unwrap());
        entries.filter(|entry| entry.operation() == Some(Operation::Authenticate)).collect::<Vec<_>>()
    };
    let found = failures().await;
    let certificates: Vec<_> = found.iter().map(|entry| entry.certificate.is_some()).collect();
    assert_eq!(certificates, [false, true, true]);
    assert!(found.iter().all(|entry| entry.actor.is_none() && entry.result == Outcome::Refused));
    for _ in 0..500 {
        house.engine.authenticate(None, HERE).await.unwrap_err();
    }
    assert!(failures().await.len() < 503, "a flood does not fill the log");
}

#[tokio::test]
async fn an_entry_is_proven_to_whoever_has_the_logs_key() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let id = home.aes().await.id;
    for _ in 0..270 {
        home.encrypt(id, "x").await.unwrap();
    }
    let key = log_key(&house);
    let entries = home.entries().await;
    for (index, entry) in entries.iter().step_by(97) {
        let prove = Ask::ProveEntry { index: *index, size: None };
        let (bytes, proof) = got!(home.ask(&home.auditor, prove).await,
            Response::Proof { index, entry, hashes, checkpoint, .. } =>
                (entry, EntryProof { index, path: hashes, checkpoint: checkpoint.parse().unwrap() }));
        assert_eq!(Entry::from_bytes(&bytes).unwrap(), *entry);
        proof.verify(&bytes, &key).unwrap();
        let mut altered = bytes.clone();
        altered[5] ^= 1;
        assert!(proof.verify(&altered, &key).is_err());
        assert!(EntryProof { index: index + 1, ..proof.clone() }.verify(&bytes, &key).is_err());
        assert!(proof.verify(&bytes, &log_key(&House::new().await)).is_err(), "another log's key");
    }
    for (index, size) in [(0, Some(0)), (5, Some(5)), (0, Some(1 << 40))] {
        assert!(home.ask(&home.auditor, Ask::ProveEntry { index, size }).await.is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exported_log_verifies_and_every_change_of_it_is_found() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let auditor = auditor(&house).await;
    let id = home.aes().await.id;
    for _ in 0..520 {
        home.encrypt(id, "x").await.unwrap();
    }
    let (export, entries) = Export::take(&house, &auditor);
    assert!(entries.len() > 520);
    assert_eq!(entries[0].operation(), Some(Operation::Initialise));
    assert_eq!(export.verify(&[export.checkpoint()]), Ok(entries.len() as u64));
    let operations: Vec<_> = entries.iter().filter(|entry| entry.tenant == home.id).collect();
    assert_eq!(operations.iter().filter(|entry| entry.operation() == Some(Operation::Encrypt)).count(), 520);
    assert!(entries.iter().any(|entry| entry.tenant == TenantId::PLATFORM));

    for path in export.files.keys() {
        let mut files = export.files.clone();
        files.remove(path);
        let gap = Export { files, key: export.key.clone() }.verify(&[]);
        assert!(matches!(&gap, Err(Fault::Missing { path: missing }) if missing == path), "{path}: {gap:?}");
        for at in [0, export.files[path].len() / 2, export.files[path].len() - 1] {
            let mut files = export.files.clone();
            files.get_mut(path).unwrap()[at] ^= 1;
            let altered = Export { files, key: export.key.clone() }.verify(&[]);
            assert!(altered.is_err(), "{path} altered at {at}");
        }
    }
    for path in ["tile/9/000", "tile/entries/999", "../keyhearth.db", "tile/0/x000"] {
        let refused = house.ask(&auditor, Ask::ExportLog { path: path.to_owned() }).await;
        assert_eq!(refused.unwrap_err(), Error::NotFound("log file"), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_or_forked_log_is_found_by_who_knows_a_checkpoint() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let auditor = auditor(&house).await;
    let id = home.aes().await.id;
    let (early, _) = Export::take(&house, &auditor);
    let closed = house.close().await;
    let mut checkpoints = Vec::new();
    for copy in [closed.copy(), closed] {
        let house = copy.open().await.map_err(|(_, error)| error).unwrap();
        for _ in 0..7 {
            house.ask(&home.user, encrypt(id, "x")).await.unwrap();
        }
        let (export, _) = Export::take(&house, &auditor);
        export.verify(&[early.checkpoint()]).unwrap();
        checkpoints.push(export);
    }
    let fork = checkpoints[0].verify(&[checkpoints[1].checkpoint()]);
    assert!(matches!(fork, Err(Fault::Fork { .. })), "{fork:?}");
    let cut = early.verify(&[checkpoints[0].checkpoint()]);
    assert!(matches!(cut, Err(Fault::Shrunk { .. })), "{cut:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_altered_in_the_database_is_found_in_the_export() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let auditor = auditor(&house).await;
    let id = home.aes().await.id;
    for _ in 0..300 {
        home.encrypt(id, "x").await.unwrap();
    }
    house.engine.log_stop().await;
    let closed = house.close().await;
    let alter =
        format!("UPDATE bundle SET {} WHERE first = (SELECT min(first) FROM bundle)", flip("entries"));
    assert_eq!(closed.database().execute(&alter, []).unwrap(), 1);
    let house = closed.open().await.map_err(|(_, error)| error).unwrap();
    let key = log_key(&house);
    let read = |path: &str| -> Result<Option<Vec<u8>>, Error> {
        let ask = house.ask(&auditor, Ask::ExportLog { path: path.to_owned() });
        let answer = tokio::task::block_in_place(|| Handle::current().block_on(ask));
        Ok(Some(got!(answer, Response::LogFile(bytes) => bytes)))
    };
    let fault = verify_export(read, &key, &[], |_, _| Ok(())).unwrap_err();
    assert!(matches!(fault, Fault::Entry { index: 0, .. } | Fault::Bundle { .. }), "{fault:?}");
}

/// Each request leaves an entry, so a checkpoint made for each would never be the same.
#[tokio::test]
async fn checkpoints_that_many_ask_for_are_made_once() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let mut newest = String::new();
    for _ in 0..100 {
        let note = got!(home.ask(&home.auditor, Ask::Checkpoint).await, Response::Checkpoint(note) => note);
        if note == newest {
            return;
        }
        newest = note;
    }
    panic!("each request made another checkpoint");
}
