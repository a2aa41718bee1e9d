use keyhearth_core::time::Time;
use proptest::prelude::*;

use super::record::{Body, Method};
use super::*;

const DEPLOYMENT: DeploymentId = DeploymentId([7; 16]);
const NOW: Time = Time::from_unix_ms(1_800_000_000_000);
const TYPED: &[u8] = b"correct horse battery";

fn passphrase(text: &[u8]) -> SealChoice<'_> {
    let passphrase = Some(Passphrase { text, params: Params::MIN });
    SealChoice { passphrase, quorum: None }
}

fn quorum(threshold: u8, count: u8) -> SealChoice<'static> {
    SealChoice { passphrase: None, quorum: Some(Quorum { threshold, count }) }
}

fn collect(record: &SealRecord, shares: &[&str]) -> SealKey {
    let mut collector = record.collector().unwrap();
    for share in shares {
        if let Collected::Complete(key) = collector.add(share, NOW).unwrap() {
            return key;
        }
    }
    panic!("{:?}", collector.progress());
}

/// What the store would give back.
fn reread(record: &SealRecord) -> SealRecord {
    SealRecord::from_bytes(&record.to_bytes()).unwrap()
}

fn assert_same(a: &Unsealed, b: &Unsealed) {
    let secrets = |u: &Unsealed| u.secrets.pack(&u.record_auth).unwrap();
    assert!(secrets(a).ct_eq(secrets(b).expose()));
    assert!(a.root.key.ct_eq(b.root.key.expose()) && a.root.term == b.root.term);
}

/// The record after `change`, as somebody writes it who knows no key.
fn altered(record: &SealRecord, change: impl FnOnce(&mut Body)) -> SealRecord {
    let mut record = record.clone();
    change(&mut record.body);
    record
}

#[test]
fn any_quorum_of_shares_opens_and_gives_the_same() {
    let Created { record, unsealed, shares } = create(DEPLOYMENT, &quorum(2, 3)).unwrap();
    let record = reread(&record);
    assert_eq!(record.quorum(), Some(Quorum { threshold: 2, count: 3 }));
    assert!(!record.has_passphrase() && record.unseal_passphrase(TYPED).is_err());
    for pair in [[0, 1], [2, 0], [1, 2]] {
        let opened = record.unseal_shares(&collect(&record, &pair.map(|i| shares.0[i].as_str()))).unwrap();
        assert_same(&opened, &unsealed);
    }
    unsealed.secrets().checkpoint_key().unwrap();
}

#[test]
fn either_of_two_seals_opens() {
    let choice = SealChoice { quorum: quorum(2, 2).quorum, ..passphrase(TYPED) };
    let Created { record, unsealed, shares } = create(DEPLOYMENT, &choice).unwrap();
    assert_same(&record.unseal_passphrase(TYPED).unwrap(), &unsealed);
    let key = collect(&record, &[&shares.0[0], &shares.0[1]]);
    assert_same(&record.unseal_shares(&key).unwrap(), &unsealed);
    assert_eq!(record.unseal_passphrase(b"correct horse batterz").unwrap_err(), Error::NotAuthentic);
}

#[test]
fn choices_that_protect_nothing_are_refused() {
    for choice in
        [SealChoice::default(), passphrase(b"eleven char"), quorum(1, 2), quorum(3, 2), quorum(0, 0)]
    {
        assert!(matches!(create(DEPLOYMENT, &choice).unwrap_err(), Error::Invalid { .. }));
    }
}

#[test]
fn an_altered_parameter_does_not_open() {
    let record = create(DEPLOYMENT, &passphrase(TYPED)).unwrap().record;
    let changes: [fn(&mut record::Argon2id); 4] =
        [|a| a.salt[0] ^= 1, |a| a.passes += 1, |a| a.memory_kib += 1024, |a| a.lanes += 1];
    for change in changes {
        let record = altered(&record, |body| match &mut body.seals[0].method {
            Method::Passphrase(argon2id) => change(argon2id),
            Method::Shares(_) => unreachable!(),
        });
        assert_eq!(reread(&record).unseal_passphrase(TYPED).unwrap_err(), Error::NotAuthentic);
    }
}

#[test]
fn weak_and_absurd_parameters_are_refused_when_read() {
    let record = create(DEPLOYMENT, &passphrase(TYPED)).unwrap().record;
    let changes: [fn(&mut record::Argon2id); 4] =
        [|a| a.passes = 2, |a| a.memory_kib = 65_535, |a| a.lanes = 1, |a| a.memory_kib = u32::MAX];
    for change in changes {
        let record = altered(&record, |body| match &mut body.seals[0].method {
            Method::Passphrase(argon2id) => change(argon2id),
            Method::Shares(_) => unreachable!(),
        });
        assert_eq!(SealRecord::from_bytes(&record.to_bytes()).unwrap_err(), Error::Damaged("seal record"));
    }
}

#[test]
fn no_bit_of_the_record_can_be_changed() {
    let Created { record, shares, .. } = create(DEPLOYMENT, &quorum(2, 2)).unwrap();
    let bytes = record.to_bytes();
    let key = collect(&record, &[&shares.0[0], &shares.0[1]]);
    for at in 0..bytes.len() {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1 << (at % 8);
        let opened = SealRecord::from_bytes(&bytes).and_then(|record| record.unseal_shares(&key));
        assert!(opened.is_err(), "byte {at}");
    }
    assert!(SealRecord::from_bytes(&[&bytes[..], &[0]].concat()).is_err());
    assert!(SealRecord::from_bytes(&vec![0x82; RECORD_BYTES_MAX + 1]).is_err());
}

#[test]
fn who_writes_the_store_cannot_choose_the_root_or_mix_records() {
    let Created { record, unsealed, shares } = create(DEPLOYMENT, &quorum(2, 2)).unwrap();
    let key = collect(&record, &[&shares.0[0], &shares.0[1]]);
    let chosen = Root { term: 1, key: SecretBytes::copy_from(&[1; 32]).unwrap() };
    let packed = unsealed.secrets.pack(&unsealed.record_auth).unwrap();
    let forged = altered(&record, |body| {
        body.seals[0].seal_root(DEPLOYMENT, &chosen).unwrap();
        body.secrets = chosen.wrap(DEPLOYMENT, record::SECRETS_AAD, packed.expose()).unwrap();
    });
    assert_eq!(forged.unseal_shares(&key).unwrap_err(), Error::Damaged("seal record"));

    let (rotated, _) = unsealed.rotate(&record).unwrap();
    let mixed = altered(&rotated, |body| body.seals.clone_from(&record.body.seals));
    assert_eq!(mixed.unseal_shares(&key).unwrap_err(), Error::Damaged("seal record"));
    assert_eq!(unsealed.rotate(&forged).unwrap_err(), Error::Damaged("seal record"));
}

#[test]
fn bad_shares_are_named_and_the_good_ones_stay() {
    let Created { record, shares, .. } = create(DEPLOYMENT, &quorum(3, 5)).unwrap();
    let other = create(DEPLOYMENT, &quorum(3, 5)).unwrap().shares;
    let mut collector = record.collector().unwrap();
    let mut refused = |text: &str| {
        let progress = collector.progress();
        let error = collector.add(text, NOW).unwrap_err();
        assert_eq!(collector.progress(), progress);
        error
    };
    assert_eq!(refused(&other.0[0]), ShareError::OtherSet);
    let mut typo = shares.0[0].to_string();
    typo.replace_range(12..13, if &typo[12..13] == "a" { "b" } else { "a" });
    assert!(matches!(refused(&typo), ShareError::Text(_)));
    assert!(matches!(refused(""), ShareError::Text(_)));
    assert!(matches!(refused(&"a".repeat(10_000)), ShareError::Text(_)));

    let genuine = keyhearth_crypto::shamir::Share::parse(&shares.0[1]).unwrap();
    let rewritten = |index, threshold, flip: u8| {
        let mut data = genuine.data.expose().to_vec();
        data[0] ^= flip;
        let data = SecretBytes::copy_from(&data).unwrap();
        keyhearth_crypto::shamir::Share { set_id: genuine.set_id, threshold, index, data }.to_text()
    };
    assert_eq!(refused(&rewritten(2, 3, 1)), ShareError::Altered { index: 2 });
    assert_eq!(refused(&rewritten(3, 3, 0)), ShareError::Altered { index: 3 });
    assert_eq!(refused(&rewritten(6, 3, 0)), ShareError::Altered { index: 6 });
    assert_eq!(refused(&rewritten(2, 2, 0)), ShareError::Altered { index: 2 });

    let add = |collector: &mut ShareCollector, i: usize| collector.add(&shares.0[i], NOW);
    assert!(matches!(add(&mut collector, 1), Ok(Collected::Waiting(Progress { present: 1, needed: 3 }))));
    assert_eq!(add(&mut collector, 1).unwrap_err(), ShareError::Duplicate { index: 2 });
    assert!(matches!(add(&mut collector, 4), Ok(Collected::Waiting(Progress { present: 2, needed: 3 }))));
    let Ok(Collected::Complete(key)) = add(&mut collector, 0) else { panic!("three good shares") };
    assert!(record.unseal_shares(&key).is_ok());
    assert_eq!(collector.progress().present, 0);
}

#[test]
fn shares_are_forgotten_after_a_while_and_when_cancelled() {
    let Created { record, shares, .. } = create(DEPLOYMENT, &quorum(2, 2)).unwrap();
    let mut collector = record.collector().unwrap();
    let present = |collector: &mut ShareCollector, now| {
        collector.expire(now);
        collector.progress().present
    };
    let backwards = Time::from_unix_ms(NOW.unix_ms() - 1);
    for (later, left) in
        [(NOW.plus_ms(COLLECT_MS_MAX - 1), 1), (NOW.plus_ms(COLLECT_MS_MAX), 0), (backwards, 0)]
    {
        collector.cancel();
        collector.add(&shares.0[0], NOW).unwrap();
        assert_eq!(present(&mut collector, later), left);
    }
    let late = collector.add(&shares.0[1], NOW).unwrap();
    assert!(matches!(late, Collected::Waiting(Progress { present: 1, .. })));
}

#[test]
fn digests_that_were_altered_do_not_give_a_wrong_key() {
    let Created { record, shares, .. } = create(DEPLOYMENT, &quorum(2, 2)).unwrap();
    let alien = create(DEPLOYMENT, &quorum(2, 2)).unwrap();
    let record = altered(&record, |body| match &mut body.seals[0].method {
        Method::Shares(set) => set.set_mac[0] ^= 1,
        Method::Passphrase(_) => unreachable!(),
    });
    let mut collector = record.collector().unwrap();
    collector.add(&shares.0[0], NOW).unwrap();
    assert_eq!(collector.add(&shares.0[1], NOW).unwrap_err(), ShareError::Record);
    assert_eq!(collector.progress().present, 0);

    let key = collect(&alien.record, &[&alien.shares.0[0], &alien.shares.0[1]]);
    assert_eq!(record.unseal_shares(&key).unwrap_err(), Error::NotAuthentic);
}

#[test]
fn a_tenant_key_is_bound_to_its_place() {
    let unsealed = create(DEPLOYMENT, &quorum(1, 1)).unwrap().unsealed;
    let (tenant, other) = (TenantId([1; 16]), TenantId([2; 16]));
    let key = SecretBytes::random(32).unwrap();
    let wrapped = unsealed.wrap_tenant_key(tenant, 1, &key).unwrap();
    assert!(unsealed.unwrap_tenant_key(tenant, 1, &wrapped).unwrap().ct_eq(key.expose()));
    assert_eq!(unsealed.rewrap_tenant_key(tenant, 1, &wrapped).unwrap(), None);
    assert_eq!(unsealed.unwrap_tenant_key(other, 1, &wrapped).unwrap_err(), Error::NotAuthentic);
    assert_eq!(unsealed.unwrap_tenant_key(tenant, 2, &wrapped).unwrap_err(), Error::NotAuthentic);
    let elsewhere = create(DEPLOYMENT, &quorum(1, 1)).unwrap().unsealed;
    assert_eq!(elsewhere.unwrap_tenant_key(tenant, 1, &wrapped).unwrap_err(), Error::NotAuthentic);
    assert!(unsealed.unwrap_tenant_key(tenant, 1, b"short").is_err());
}

/// A store that can be copied: what a crash leaves is what was written by then.
#[derive(Clone)]
struct Stored {
    record: Vec<u8>,
    tenant_keys: Vec<(TenantId, u32, Vec<u8>)>,
}

impl Stored {
    fn restart(&self, shares: &Shares) -> (SealRecord, Unsealed) {
        let record = SealRecord::from_bytes(&self.record).unwrap();
        let unsealed = record.unseal_shares(&collect(&record, &[&shares.0[0], &shares.0[1]])).unwrap();
        (record, unsealed)
    }

    fn assert_readable(&self, unsealed: &Unsealed, keys: &[SecretBytes]) {
        for ((tenant, version, wrapped), key) in self.tenant_keys.iter().zip(keys) {
            let opened = unsealed.unwrap_tenant_key(*tenant, *version, wrapped).unwrap();
            assert!(opened.ct_eq(key.expose()), "tenant {tenant} version {version}");
        }
    }
}

#[test]
fn a_rotation_survives_a_crash_at_every_step() {
    let Created { record, unsealed, shares } = create(DEPLOYMENT, &quorum(2, 3)).unwrap();
    let keys: Vec<_> = (0..3).map(|_| SecretBytes::random(32).unwrap()).collect();
    let tenant_keys = [(TenantId([1; 16]), 1), (TenantId([1; 16]), 2), (TenantId([2; 16]), 1)]
        .into_iter()
        .zip(&keys)
        .map(|((tenant, version), key)| {
            (tenant, version, unsealed.wrap_tenant_key(tenant, version, key).unwrap())
        })
        .collect();
    let mut store = Stored { record: record.to_bytes(), tenant_keys };

    // Every step runs in a process of its own: each begins by unsealing what the one before wrote.
    let (record, unsealed) = store.restart(&shares);
    let (rotated, running) = unsealed.rotate(&record).unwrap();
    store.assert_readable(&unsealed, &keys);
    store.assert_readable(&running, &keys);
    store.record = rotated.to_bytes();
    for row in 0..store.tenant_keys.len() {
        let (record, unsealed) = store.restart(&shares);
        store.assert_readable(&unsealed, &keys);
        assert!(unsealed.is_rotating() && unsealed.term() == 2);
        assert!(unsealed.rotate(&record).is_err());
        let early = unsealed.finish_rotation(&record, store.tenant_keys.clone());
        assert!(matches!(early.unwrap_err(), Error::Conflict(_)));
        let (tenant, version, wrapped) = &mut store.tenant_keys[row];
        *wrapped = unsealed.rewrap_tenant_key(*tenant, *version, wrapped).unwrap().unwrap();
        assert_eq!(unsealed.rewrap_tenant_key(*tenant, *version, wrapped).unwrap(), None);
    }
    let (record, unsealed) = store.restart(&shares);
    store.assert_readable(&unsealed, &keys);
    let (finished, running) = unsealed.finish_rotation(&record, store.tenant_keys.clone()).unwrap();
    assert!(!running.is_rotating());
    store.record = finished.to_bytes();

    let (record, unsealed) = store.restart(&shares);
    store.assert_readable(&unsealed, &keys);
    assert!(!unsealed.is_rotating() && unsealed.finish_rotation(&record, []).is_err());
    assert_eq!((record.term(), record.revision()), (2, 3));
    assert!(unsealed.rotate(&record).is_ok());
}

#[test]
fn an_old_root_reads_nothing_of_the_new_term() {
    let Created { record, unsealed, .. } = create(DEPLOYMENT, &quorum(2, 2)).unwrap();
    let (_, rotated) = unsealed.rotate(&record).unwrap();
    assert!(rotated.secrets.row.ct_eq(unsealed.secrets.row.expose()), "rows stay as they are");
    let wrapped = rotated.wrap_tenant_key(TenantId([1; 16]), 1, &SecretBytes::random(32).unwrap()).unwrap();
    assert!(unsealed.unwrap_tenant_key(TenantId([1; 16]), 1, &wrapped).is_err());
}

#[test]
fn old_seals_are_good_until_the_new_ones_are_proven() {
    let Created { record, unsealed, shares: old } = create(DEPLOYMENT, &quorum(2, 2)).unwrap();
    let choice = SealChoice { quorum: quorum(2, 3).quorum, ..passphrase(TYPED) };
    let (rekey, _) = Rekey::begin(&unsealed, &choice).unwrap();
    assert!(matches!(rekey.finish(&unsealed, &record).unwrap_err(), Error::Conflict(_)));

    let (mut rekey, new) = Rekey::begin(&unsealed, &choice).unwrap();
    assert_eq!(rekey.prove_passphrase(&unsealed, b"something else").unwrap_err(), Error::NotAuthentic);
    rekey.prove_passphrase(&unsealed, TYPED).unwrap();
    assert_eq!(rekey.prove_share(&unsealed, &old.0[0], NOW).unwrap_err(), ShareError::OtherSet);
    rekey.prove_share(&unsealed, &new.0[2], NOW).unwrap();
    assert_eq!(rekey.progress(), Some(Progress { present: 1, needed: 2 }));
    assert!(!rekey.is_proven());
    let key = collect(&record, &[&old.0[0], &old.0[1]]);
    assert_same(&record.unseal_shares(&key).unwrap(), &unsealed);

    rekey.prove_share(&unsealed, &new.0[0], NOW).unwrap();
    assert!(rekey.is_proven());
    let (replaced, running) = rekey.finish(&unsealed, &record).unwrap();
    let replaced = reread(&replaced);
    assert_same(&replaced.unseal_passphrase(TYPED).unwrap(), &running);
    let fresh = collect(&replaced, &[&new.0[1], &new.0[2]]);
    assert_same(&replaced.unseal_shares(&fresh).unwrap(), &running);
    assert_eq!(replaced.unseal_shares(&key).unwrap_err(), Error::NotAuthentic);
    assert_eq!(replaced.collector().unwrap().add(&old.0[0], NOW).unwrap_err(), ShareError::OtherSet);
    assert!(running.secrets.row.ct_eq(unsealed.secrets.row.expose()));
    assert!(running.rotate(&replaced).is_ok());
    assert!(unsealed.rotate(&replaced).is_err(), "the old state does not write the new record");
}

#[test]
fn a_rekey_does_not_outlive_the_root_it_was_begun_for() {
    let Created { record, unsealed, .. } = create(DEPLOYMENT, &quorum(2, 2)).unwrap();
    let (mut rekey, new) = Rekey::begin(&unsealed, &quorum(1, 1)).unwrap();
    let (rotated, running) = unsealed.rotate(&record).unwrap();
    assert_eq!(rekey.prove_share(&running, &new.0[0], NOW).unwrap_err(), ShareError::Record);
    rekey.prove_share(&unsealed, &new.0[0], NOW).unwrap();
    assert!(matches!(rekey.finish(&running, &rotated).unwrap_err(), Error::Conflict(_)));
}

#[test]
fn debug_shows_no_secret() {
    let created = create(DEPLOYMENT, &quorum(1, 1)).unwrap();
    let (rekey, _) = Rekey::begin(&created.unsealed, &quorum(1, 1)).unwrap();
    let key = collect(&created.record, &[&created.shares.0[0]]);
    let shown = format!("{:?} {rekey:?} {key:?} {:?}", created, created.record.collector());
    let root = created.unsealed.root.key.expose();
    for secret in [root, created.unsealed.secrets.row.expose(), key.0.expose()] {
        let decimal = format!("{secret:?}");
        assert!(!shown.contains(decimal.trim_matches(['[', ']'])));
    }
    assert!(!shown.contains(created.shares.0[0].as_str()) && !shown.contains("khshare1"));
}

/// A record in the middle of a rotation, with a passphrase and shares 2 of 3; docs/formats/seal.md names it.
#[test]
fn the_vector_of_format_1_opens() {
    let bytes = include_bytes!("../../vectors/seal-1.cbor");
    let wrapped = include_bytes!("../../vectors/seal-1-tenant-key.bin");
    let shares = [
        "khshare1-2txrpprm-q7l2sswj-ou5etfvb-nmbaco2i-5ap3x2xq-csskrtqj-esagjs6y-f7vuc4uy-6xei7jqg-r4xj4ikb-hmqf66y",
        "khshare1-2txrpprm-q7l2sswj-ou5etfvb-nmbagcrj-ch4jm2i3-xx2r75b6-3mwk2dvw-wnzha7sw-jq7vk3br-i7kxikf4-rwqqhaa",
    ];
    let record = SealRecord::from_bytes(bytes).unwrap();
    let unsealed = record.unseal_passphrase(TYPED).unwrap();
    assert_same(&record.unseal_shares(&collect(&record, &shares)).unwrap(), &unsealed);
    let packed = unsealed.secrets.pack(&unsealed.record_auth).unwrap();
    let digest = keyhearth_crypto::digest::sha256(&[packed.expose()]);
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(digest, "16dd5109f375aedd1b88e21c149c4a0b8b9166fc3bc19b5fb2cfbeb7f94790c4");
    assert_eq!((unsealed.deployment(), unsealed.term(), unsealed.is_rotating()), (DEPLOYMENT, 2, true));
    assert!(unsealed.unwrap_tenant_key(TenantId([1; 16]), 1, wrapped).unwrap().ct_eq(&[5; 32]));
}

proptest! {
    #[test]
    fn whatever_is_read_as_a_record_is_refused_or_written_the_same(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        if let Ok(record) = SealRecord::from_bytes(&bytes) {
            prop_assert_eq!(record.to_bytes(), bytes);
        }
    }
}
