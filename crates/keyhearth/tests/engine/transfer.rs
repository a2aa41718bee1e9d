//! Key material on its way in and out, by each mechanism.

use keyhearth_core::Error;
use keyhearth_core::id::KeyId;
use keyhearth_core::key::{Key, Origin};
use keyhearth_core::operation::Operation;
use keyhearth_core::request::{Ask, ImportMechanism, Response};
use keyhearth_core::state::State;
use keyhearth_crypto::algorithm::{Algorithm, Mechanism};
use keyhearth_crypto::hpke::{self, Suite};
use keyhearth_crypto::key::{PublicKey, generate, rsa_aes_kwp_unwrap, rsa_aes_kwp_wrap};

use super::support::{House, Household, by_id, got, new_key};

/// Material that is none of the weak kinds.
const MATERIAL: [u8; 32] = *b"thirty-two bytes of key material";

const MECHANISMS: [ImportMechanism; 4] = [
    ImportMechanism::RsaOaepSha256,
    ImportMechanism::RsaAesKwpSha256,
    ImportMechanism::HpkeX25519,
    ImportMechanism::HpkeX25519MlKem768,
];

fn suite(mechanism: ImportMechanism) -> Suite {
    if mechanism == ImportMechanism::HpkeX25519 { Suite::X25519 } else { Suite::X25519MlKem768 }
}

fn wrap(mechanism: ImportMechanism, public: &[u8], key: KeyId, material: &[u8]) -> Vec<u8> {
    let rsa = || PublicKey::from_der(Algorithm::Rsa3072, public).unwrap();
    match mechanism {
        ImportMechanism::RsaOaepSha256 => rsa().wrap(Mechanism::RsaOaepSha256, material).unwrap(),
        ImportMechanism::RsaAesKwpSha256 => {
            rsa_aes_kwp_wrap(&rsa(), Mechanism::RsaOaepSha256, material).unwrap()
        }
        ImportMechanism::HpkeX25519 | ImportMechanism::HpkeX25519MlKem768 => {
            hpke::seal(suite(mechanism), public, b"keyhearth/import", &key.0, material).unwrap()
        }
    }
}

async fn awaiting(home: &Household) -> Key {
    let mut new = new_key(Algorithm::Aes256);
    (new.import, new.exportable) = (true, true);
    home.create(new).await
}

async fn parameters(home: &Household, key: KeyId, mechanism: ImportMechanism) -> Vec<u8> {
    let ask = Ask::ImportParameters { key: by_id(key), mechanism };
    got!(home.ask(&home.key_admin, ask).await, Response::ImportParameters { public, .. } => public)
}

async fn import(home: &Household, key: KeyId, wrapped: Vec<u8>) -> Result<Key, Error> {
    home.manage(Ask::ImportKey { key: by_id(key), wrapped }).await
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
    for (mechanism, byte) in MECHANISMS.into_iter().zip(1..) {
        let key = awaiting(&home).await;
        assert_eq!((key.origin, key.versions[0].state), (Origin::Imported, State::PreActive));
        assert!(matches!(home.encrypt(key.id, "x").await, Err(Error::WrongState { .. })));
        assert!(
            matches!(import(&home, key.id, vec![1; 40]).await, Err(Error::Conflict(_))),
            "no parameters yet"
        );

        let material: [u8; 32] = std::array::from_fn(|at| byte + u8::try_from(at).unwrap());
        let public = parameters(&home, key.id, mechanism).await;
        let wrapped = wrap(mechanism, &public, key.id, &material);
        let mut altered = wrapped.clone();
        *altered.last_mut().unwrap() ^= 1;
        assert_eq!(import(&home, key.id, altered).await, Err(Error::NotAuthentic));
        let imported = import(&home, key.id, wrapped.clone()).await.unwrap();
        assert_eq!((imported.versions[0].state, imported.versions[0].has_material), (State::Active, true));
        assert!(import(&home, key.id, wrapped).await.is_err(), "the parameters served once");
        let message = home.encrypt(key.id, "text").await.unwrap();
        assert_eq!(home.decrypt(key.id, &message).await.unwrap(), "text");

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
async fn a_rotated_import_awaits_its_material_while_the_old_version_serves() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let id = awaiting(&home).await.id;
    let mechanism = ImportMechanism::HpkeX25519;
    let public = parameters(&home, id, mechanism).await;
    import(&home, id, wrap(mechanism, &public, id, &MATERIAL)).await.unwrap();
    let old = home.encrypt(id, "old").await.unwrap();
    let rotated = home.manage(Ask::RotateKey { key: by_id(id) }).await.unwrap();
    assert_eq!((rotated.primary, rotated.versions.len()), (1, 2));
    assert!(matches!(home.manage(Ask::RotateKey { key: by_id(id) }).await, Err(Error::Conflict(_))));
    home.encrypt(id, "still").await.unwrap();
    let public = parameters(&home, id, mechanism).await;
    let renewed = import(&home, id, wrap(mechanism, &public, id, &MATERIAL)).await.unwrap();
    assert_eq!((renewed.primary, renewed.versions[0].state), (2, State::Deactivated));
    assert_eq!(home.decrypt(id, &old).await.unwrap(), "old");
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
