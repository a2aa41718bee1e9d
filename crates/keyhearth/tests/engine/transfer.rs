//! Key material on its way in and out, by each mechanism.

use keyhearth_core::Error;
use keyhearth_core::id::KeyId;
use keyhearth_core::key::{Key, Origin};
use keyhearth_core::operation::Operation;
use keyhearth_core::request::{Ask, ImportId, ImportMechanism, NewMaterial, Response};
use keyhearth_core::state::State;
use keyhearth_crypto::algorithm::{Algorithm, Mechanism};
use keyhearth_crypto::hpke::{self, Suite};
use keyhearth_crypto::key::{PublicKey, generate, rsa_aes_kwp_unwrap, rsa_aes_kwp_wrap};

use super::schedule::when_due;
use super::support::{House, Household, by_id, got, new_key};

/// Material that is none of the weak kinds.
const MATERIAL: [u8; 32] = *b"thirty-two bytes of key material";
/// Other material.
const OTHER: [u8; 32] = *b"another 32 bytes of key material";

/// The mechanism where it does not matter which.
const USUAL: ImportMechanism = ImportMechanism::HpkeX25519;

fn suite(mechanism: ImportMechanism) -> Suite {
    if mechanism == ImportMechanism::HpkeX25519 { Suite::X25519 } else { Suite::X25519MlKem768 }
}

fn wrap(mechanism: ImportMechanism, public: &[u8], key: KeyId, material: &[u8]) -> Vec<u8> {
    wrap_under(Algorithm::Rsa3072, mechanism, public, key, material)
}

fn wrap_under(
    algorithm: Algorithm,
    mechanism: ImportMechanism,
    public: &[u8],
    key: KeyId,
    material: &[u8],
) -> Vec<u8> {
    let Some(oaep) = mechanism.oaep() else {
        return hpke::seal(suite(mechanism), public, b"keyhearth/import", &key.0, material).unwrap();
    };
    let rsa = PublicKey::from_der(algorithm, public).unwrap();
    if matches!(mechanism, ImportMechanism::RsaAesKwpSha1 | ImportMechanism::RsaAesKwpSha256) {
        rsa_aes_kwp_wrap(&rsa, oaep, material).unwrap()
    } else {
        rsa.wrap(oaep, material).unwrap()
    }
}

async fn awaiting(home: &Household) -> Key {
    let mut new = new_key(Algorithm::Aes256);
    (new.import, new.exportable) = (true, true);
    home.create(new).await
}

async fn parameters(home: &Household, key: KeyId, mechanism: ImportMechanism) -> Vec<u8> {
    let ask = Ask::ImportParameters { key: by_id(key), mechanism, wrapping: None };
    got!(home.ask(&home.key_admin, ask).await, Response::ImportParameters { public, .. } => public)
}

async fn import(home: &Household, key: KeyId, wrapped: Vec<u8>) -> Result<Key, Error> {
    import_as(home, key, NewMaterial { wrapped, ..NewMaterial::default() }).await
}

async fn import_as(home: &Household, key: KeyId, material: NewMaterial) -> Result<Key, Error> {
    let answer = home.ask(&home.key_admin, Ask::ImportKey { key: by_id(key), material }).await?;
    Ok(got!(Ok::<_, Error>(answer), Response::Material { key, .. } => *key))
}

/// Material as it is brought to a key that has parameters for [`USUAL`].
async fn bring(home: &Household, key: KeyId, material: &[u8], how: NewMaterial) -> Result<Key, Error> {
    let public = parameters(home, key, USUAL).await;
    import_as(home, key, NewMaterial { wrapped: wrap(USUAL, &public, key, material), ..how }).await
}

async fn unload(home: &Household, key: KeyId, version: Option<u32>) -> Result<Key, Error> {
    let answer = home.ask(&home.key_admin, Ask::UnloadKey { key: by_id(key), version }).await?;
    Ok(got!(Ok::<_, Error>(answer), Response::Material { key, .. } => *key))
}

fn has_material(key: &Key) -> Vec<bool> {
    key.versions.iter().map(|version| version.has_material).collect()
}

fn states(key: &Key) -> Vec<State> {
    key.versions.iter().map(|version| version.state).collect()
}

fn pending(operation: Operation) -> Error {
    Error::WrongState { state: State::PreActive, operation }
}

/// Material that came in by each mechanism is the material that goes out by each mechanism.
#[tokio::test]
async fn material_comes_in_and_goes_out_by_every_mechanism() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let exporter = home.issue("exporter", &[]).await;
    let policy = format!(
        r#"permit (principal == Keyhearth::Principal::"{}", action == Keyhearth::Action::"export-key", resource);"#,
        exporter.principal
    );
    home.ask(&home.admin, Ask::PutPolicy { name: "export".parse().unwrap(), text: policy }).await.unwrap();
    for (mechanism, byte) in ImportMechanism::ALL.into_iter().zip(1..) {
        let key = awaiting(&home).await;
        assert_eq!((key.origin, key.versions[0].state), (Origin::Imported, State::PreActive));
        assert!(matches!(home.encrypt(key.id, "x").await, Err(Error::WrongState { .. })));
        assert_eq!(import(&home, key.id, vec![1; 40]).await, Err(NewMaterial::UNASKED));

        let material: [u8; 32] = std::array::from_fn(|at| byte + u8::try_from(at).unwrap());
        let public = parameters(&home, key.id, mechanism).await;
        let wrapped = wrap(mechanism, &public, key.id, &material);
        let mut altered = wrapped.clone();
        *altered.last_mut().unwrap() ^= 1;
        assert_eq!(import(&home, key.id, altered).await, Err(Error::NotAuthentic));
        let imported = import(&home, key.id, wrapped.clone()).await.unwrap();
        assert_eq!((imported.versions[0].state, imported.versions[0].has_material), (State::Active, true));
        assert_eq!(import(&home, key.id, wrapped).await.unwrap().versions, imported.versions, "again");
        let message = home.encrypt(key.id, "text").await.unwrap();
        assert_eq!(home.decrypt(key.id, &message).await.unwrap(), "text");

        if mechanism.oaep() == Some(Mechanism::RsaOaepSha1) {
            let ask = Ask::ExportKey { key: by_id(key.id), version: None, mechanism, recipient: public };
            assert!(matches!(home.ask(&exporter, ask).await, Err(Error::Unsupported(_))));
            continue;
        }
        assert_eq!(export(&home, &exporter, key.id, mechanism).await, material);
        assert_eq!(home.newest(Operation::ExportKey).await.key, Some(key.id));
    }
}

async fn export(
    home: &Household,
    caller: &std::sync::Arc<keyhearth_core::principal::Caller>,
    key: KeyId,
    mechanism: ImportMechanism,
) -> Vec<u8> {
    let ask = |recipient| Ask::ExportKey { key: by_id(key), version: None, mechanism, recipient };
    let rsa = matches!(mechanism, ImportMechanism::RsaOaepSha256 | ImportMechanism::RsaAesKwpSha256);
    if !rsa {
        let pair = hpke::generate(suite(mechanism)).unwrap();
        let wrapped =
            got!(home.ask(caller, ask(pair.public)).await, Response::Exported { wrapped, .. } => wrapped);
        return hpke::open(suite(mechanism), &pair.private, b"keyhearth/export", &key.0, &wrapped)
            .unwrap()
            .to_vec();
    }
    let private = generate(Algorithm::Rsa2048).unwrap();
    let private = keyhearth_crypto::key::Key::load(Algorithm::Rsa2048, &private).unwrap();
    let recipient = private.public_key_der().unwrap().to_vec();
    let wrapped = got!(home.ask(caller, ask(recipient)).await, Response::Exported { wrapped, .. } => wrapped);
    let material = if mechanism == ImportMechanism::RsaOaepSha256 {
        private.unwrap(Mechanism::RsaOaepSha256, &wrapped).unwrap()
    } else {
        rsa_aes_kwp_unwrap(&private, Mechanism::RsaOaepSha256, &wrapped).unwrap()
    };
    material.expose().to_vec()
}

#[tokio::test]
async fn an_import_is_for_one_key_of_one_size() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let (one, other) = (awaiting(&home).await.id, awaiting(&home).await.id);
    let mechanism = ImportMechanism::HpkeX25519MlKem768;
    let public = parameters(&home, one, mechanism).await;
    parameters(&home, other, mechanism).await;
    let wrapped = wrap(mechanism, &public, one, &MATERIAL);
    assert_eq!(import(&home, other, wrapped).await, Err(Error::NotAuthentic));
    let short = wrap(mechanism, &public, one, &MATERIAL[..16]);
    assert!(matches!(import(&home, one, short).await, Err(Error::Invalid { .. })));

    let newer = parameters(&home, one, mechanism).await;
    let older = wrap(mechanism, &public, one, &MATERIAL);
    assert_eq!(import(&home, one, older).await, Err(Error::NotAuthentic), "newer parameters replaced these");
    import(&home, one, wrap(mechanism, &newer, one, &MATERIAL)).await.unwrap();
}

#[tokio::test]
async fn the_key_that_wraps_is_as_long_as_it_is_wanted() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let id = awaiting(&home).await.id;
    let ask = |mechanism, wrapping| Ask::ImportParameters { key: by_id(id), mechanism, wrapping };
    for algorithm in [Algorithm::Rsa2048, Algorithm::Rsa4096] {
        for mechanism in [ImportMechanism::RsaOaepSha1, ImportMechanism::RsaAesKwpSha256] {
            let public = got!(home.ask(&home.key_admin, ask(mechanism, Some(algorithm))).await,
                Response::ImportParameters { public, .. } => public);
            import(&home, id, wrap_under(algorithm, mechanism, &public, id, &MATERIAL)).await.unwrap();
        }
    }
    for (mechanism, wrapping) in [
        (ImportMechanism::RsaOaepSha256, Algorithm::Aes256),
        (ImportMechanism::HpkeX25519, Algorithm::Rsa2048),
    ] {
        let refused = home.ask(&home.key_admin, ask(mechanism, Some(wrapping))).await;
        assert!(matches!(refused, Err(Error::Invalid { field: "wrapping", .. })));
    }
    let own = Ask::ImportParameters { key: by_id(home.aes().await.id), mechanism: USUAL, wrapping: None };
    assert!(matches!(home.ask(&home.key_admin, own).await, Err(Error::Unsupported(_))));
}

#[tokio::test]
async fn keys_of_every_algorithm_can_be_imported() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    // The time to make larger RSA keys buys nothing here.
    let larger = [Algorithm::Rsa3072, Algorithm::Rsa4096];
    for &algorithm in Algorithm::ALL.iter().filter(|algorithm| !larger.contains(algorithm)) {
        let mut new = new_key(algorithm);
        new.import = true;
        let id = home.create(new).await.id;
        let material = generate(algorithm).unwrap();
        let imported = bring(&home, id, material.expose(), NewMaterial::default()).await.unwrap();
        assert_eq!(states(&imported), [State::Active], "{}", algorithm.name());
        if algorithm.is_asymmetric() {
            let ask = || Ask::PublicKey { key: by_id(id), version: None };
            let der = got!(home.ask(&home.user, ask()).await, Response::PublicKey { der, .. } => der);
            let expected = keyhearth_crypto::key::Key::load(algorithm, &material).unwrap();
            assert_eq!(der, expected.public_key_der().unwrap());
            unload(&home, id, None).await.unwrap();
            assert_eq!(home.ask(&home.user, ask()).await.unwrap_err(), pending(Operation::PublicKey));
        }
        let again = bring(&home, id, material.expose(), NewMaterial::default()).await.unwrap();
        assert_eq!(has_material(&again), [true], "{}", algorithm.name());
    }
}

#[tokio::test]
async fn parameters_are_those_that_are_named() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let id = awaiting(&home).await.id;
    let ask = || Ask::ImportParameters { key: by_id(id), mechanism: USUAL, wrapping: None };
    let fresh = async || -> (ImportId, Vec<u8>) {
        got!(home.ask(&home.key_admin, ask()).await, Response::ImportParameters { id, public, .. } => (id, public))
    };
    let (older, _) = fresh().await;
    let (newer, public) = fresh().await;
    let wrapped = wrap(USUAL, &public, id, &MATERIAL);
    let named = |parameters| NewMaterial {
        wrapped: wrapped.clone(),
        parameters: Some(parameters),
        ..NewMaterial::default()
    };
    assert_eq!(import_as(&home, id, named(older)).await, Err(NewMaterial::REPLACED));
    import_as(&home, id, named(newer)).await.unwrap();
}

#[tokio::test]
async fn unloaded_material_is_gone_until_the_same_comes_again() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let id = awaiting(&home).await.id;
    bring(&home, id, &MATERIAL, NewMaterial::default()).await.unwrap();
    let message = home.encrypt(id, "text").await.unwrap();
    let unloaded = unload(&home, id, None).await.unwrap();
    assert_eq!((states(&unloaded), has_material(&unloaded)), (vec![State::Active], vec![false]));
    assert_eq!(home.newest(Operation::UnloadKey).await.version, Some(1));
    assert_eq!(unload(&home, id, Some(1)).await.unwrap().versions, unloaded.versions, "again");

    let closed = house.close().await;
    let left = "SELECT count(*) FROM row WHERE tbl = 2";
    assert_eq!(closed.database().query_row(left, [], |row| row.get::<_, i64>(0)).unwrap(), 0);
    let house = closed.open().await.map_err(|(_, error)| error).unwrap();
    let home = home.within(&house);
    assert_eq!(home.encrypt(id, "x").await, Err(pending(Operation::Encrypt)));
    assert_eq!(home.decrypt(id, &message).await, Err(pending(Operation::Decrypt)));
    assert!(matches!(home.manage(Ask::RotateKey { key: by_id(id) }).await, Err(Error::Conflict(_))));

    assert_eq!(bring(&home, id, &OTHER, NewMaterial::default()).await, Err(NewMaterial::OTHER));
    house.ask(&house.operator, Ask::RotateTenantKey { tenant: home.id }).await.unwrap();
    assert_eq!(bring(&home, id, &OTHER, NewMaterial::default()).await, Err(NewMaterial::OTHER));
    bring(&home, id, &MATERIAL, NewMaterial::default()).await.unwrap();
    house.ask(&house.operator, Ask::RotateTenantKey { tenant: home.id }).await.unwrap();
    assert_eq!(home.decrypt(id, &message).await.unwrap(), "text");
    home.encrypt(id, "x").await.unwrap();
    assert!(matches!(unload(&home, home.aes().await.id, None).await, Err(Error::Unsupported(_))));
}

#[tokio::test]
async fn what_has_no_material_can_still_be_ended() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let id = awaiting(&home).await.id;
    bring(&home, id, &MATERIAL, NewMaterial::default()).await.unwrap();
    unload(&home, id, None).await.unwrap();
    home.manage(Ask::ScheduleDestroy { key: by_id(id), days: 7 }).await.unwrap();
    let ask = Ask::ImportParameters { key: by_id(id), mechanism: USUAL, wrapping: None };
    assert!(matches!(home.ask(&home.key_admin, ask).await, Err(Error::WrongState { .. })), "it is ending");
    home.manage(Ask::CancelDestroy { key: by_id(id), suspend: false }).await.unwrap();
    home.manage(Ask::DeactivateKey { key: by_id(id), version: None }).await.unwrap();
    let destroy = Ask::DestroyKey { key: by_id(id), version: 1, confirm: id };
    let gone = got!(home.ask(&home.custodian, destroy).await, Response::Key(key) => key);
    assert_eq!((states(&gone), gone.versions[0].check), (vec![State::Destroyed], None));
    let refused = unload(&home, id, None).await;
    assert_eq!(refused, Err(Error::WrongState { state: State::Destroyed, operation: Operation::UnloadKey }));
    let ask = Ask::ImportParameters { key: by_id(id), mechanism: USUAL, wrapping: None };
    assert!(matches!(home.ask(&home.key_admin, ask).await, Err(Error::WrongState { .. })));
}

#[tokio::test]
async fn material_that_ends_is_deleted_and_can_come_again() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let id = awaiting(&home).await.id;
    let past = house.engine.now().latest;
    let until = |expires| NewMaterial { expires: Some(expires), ..NewMaterial::default() };
    let refused = bring(&home, id, &MATERIAL, until(past)).await;
    assert!(matches!(refused, Err(Error::Invalid { field: "expires", .. })));
    let far = bring(&home, id, &MATERIAL, until(past.plus_days(1))).await.unwrap();
    assert_eq!(far.versions[0].expires, Some(past.plus_days(1)));
    let message = home.encrypt(id, "text").await.unwrap();
    let for_ever = bring(&home, id, &MATERIAL, NewMaterial::default()).await.unwrap();
    assert_eq!(for_ever.versions[0].expires, None, "what is there already gets another end");
    bring(&home, id, &MATERIAL, until(house.engine.now().latest.plus_ms(8_000))).await.unwrap();

    let ended = when_due(&house, &home, id).await;
    assert_eq!((has_material(&ended), ended.versions[0].expires), (vec![false], None));
    let detail = home.newest(Operation::DateReached).await.detail;
    assert_eq!(detail.as_deref(), Some("material of version 1 deleted"));
    assert_eq!(home.decrypt(id, &message).await, Err(pending(Operation::Decrypt)));
    assert_eq!(bring(&home, id, &OTHER, NewMaterial::default()).await, Err(NewMaterial::OTHER));
    bring(&home, id, &MATERIAL, NewMaterial::default()).await.unwrap();
    assert_eq!(home.decrypt(id, &message).await.unwrap(), "text");
}

#[tokio::test]
async fn a_rotated_import_awaits_its_material_while_the_old_version_serves() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let id = awaiting(&home).await.id;
    bring(&home, id, &MATERIAL, NewMaterial::default()).await.unwrap();
    let old = home.encrypt(id, "old").await.unwrap();
    let rotated = home.manage(Ask::RotateKey { key: by_id(id) }).await.unwrap();
    assert_eq!((rotated.primary, rotated.versions.len()), (1, 2));
    assert!(matches!(home.manage(Ask::RotateKey { key: by_id(id) }).await, Err(Error::Conflict(_))));
    home.encrypt(id, "still").await.unwrap();
    let again = bring(&home, id, &MATERIAL, NewMaterial::default()).await.unwrap();
    assert_eq!(has_material(&again), [true, false], "it is the first version's material");
    let renewed = bring(&home, id, &OTHER, NewMaterial::default()).await.unwrap();
    assert_eq!((renewed.primary, renewed.versions[0].state), (2, State::Deactivated));
    assert_eq!(home.decrypt(id, &old).await.unwrap(), "old");
}

#[tokio::test]
async fn material_brought_for_a_rotation_begins_with_it() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let id = awaiting(&home).await.id;
    let ahead = || NewMaterial { for_rotation: true, ..NewMaterial::default() };
    let first = bring(&home, id, &MATERIAL, ahead()).await.unwrap();
    assert_eq!(states(&first), [State::Active], "the first begins at once");
    let old = home.encrypt(id, "old").await.unwrap();
    assert_eq!(bring(&home, id, &MATERIAL, ahead()).await, Err(NewMaterial::KNOWN));
    let brought = bring(&home, id, &OTHER, ahead()).await.unwrap();
    assert_eq!((brought.primary, states(&brought)), (1, vec![State::Active, State::PreActive]));
    assert_eq!(bring(&home, id, &OTHER, ahead()).await, Err(NewMaterial::KNOWN));
    let third = *b"yet other 32 bytes of a material";
    assert_eq!(bring(&home, id, &third, ahead()).await, Err(NewMaterial::BROUGHT));
    let named = NewMaterial { version: Some(1), ..NewMaterial::default() };
    assert_eq!(bring(&home, id, &OTHER, named).await, Err(NewMaterial::OTHER));

    let rotated = home.manage(Ask::RotateKey { key: by_id(id) }).await.unwrap();
    assert_eq!((rotated.primary, states(&rotated)), (2, vec![State::Deactivated, State::Active]));
    assert_eq!(home.decrypt(id, &old).await.unwrap(), "old");
    let new = home.encrypt(id, "new").await.unwrap();

    // Each version takes its own again, in any order.
    unload(&home, id, Some(1)).await.unwrap();
    unload(&home, id, Some(2)).await.unwrap();
    let one = bring(&home, id, &MATERIAL, NewMaterial::default()).await.unwrap();
    assert_eq!(has_material(&one), [true, false]);
    assert_eq!(home.decrypt(id, &old).await.unwrap(), "old");
    assert_eq!(home.decrypt(id, &new).await, Err(pending(Operation::Decrypt)));
    bring(&home, id, &OTHER, NewMaterial::default()).await.unwrap();
    assert_eq!(home.decrypt(id, &new).await.unwrap(), "new");
    assert!(bring(&home, id, &third, ahead()).await.is_ok());
}

#[tokio::test]
async fn a_key_made_not_exportable_stays() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let exporter = home.issue("exporter", &[]).await;
    let text = r#"permit (principal, action == Keyhearth::Action::"export-key", resource);"#.to_owned();
    home.ask(&home.admin, Ask::PutPolicy { name: "export".parse().unwrap(), text }).await.unwrap();
    let key = home.aes().await.id;
    let recipient = hpke::generate(Suite::X25519).unwrap().public;
    let export = || Ask::ExportKey {
        key: by_id(key),
        version: None,
        mechanism: ImportMechanism::HpkeX25519,
        recipient: recipient.clone(),
    };
    assert!(matches!(home.ask(&exporter, export()).await, Err(Error::Unsupported(_))));
    // What a policy cannot give: guard-rails hold for those who manage or audit.
    for caller in [&home.key_admin, &home.admin, &home.auditor, &home.custodian] {
        assert_eq!(home.ask(caller, export()).await.unwrap_err(), Error::Denied);
    }
}
