//! The life of keys by AWS's operations: states, aliases, tags, rotation, import, and who may look at them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keyhearth_core::id::KeyId;
use keyhearth_core::operation::Operation;
use keyhearth_core::request::Ask;
use keyhearth_crypto::algorithm::{Algorithm, Mechanism};
use keyhearth_crypto::key::{PublicKey, rsa_aes_kwp_wrap};
use serde_json::{Value, json};

use super::access_keys::issue_access_key;
use super::aws::{Front, Program};
use super::support::{House, Household, by_id, new_key};

type Answer = Result<Value, (String, Option<String>)>;

const MATERIAL: [u8; 32] = *b"thirty-two bytes of key material";
const OTHER: [u8; 32] = *b"another 32 bytes of key material";

fn arn(key: &str) -> String {
    format!("arn:aws:kms:eu-central-1:111122223333:key/{key}")
}

#[track_caller]
fn refused(answer: Answer, kind: &str, message: Option<&str>) {
    let (found, said) = answer.unwrap_err();
    assert_eq!((found.as_str(), said.as_deref()), (kind, message));
}

/// A deployment with an AWS front, a program that looks after keys, and one that uses them.
struct Scene {
    house: House,
    home: Household,
    front: Front,
    admin: Program,
    user: Program,
}

impl Scene {
    async fn new() -> Self {
        let house = House::new().await;
        let home = house.tenant("one").await;
        let front = Front::of(&house.engine).await;
        let admin = Program::new(&front, issue_access_key(&home, home.key_admin.principal, None).await).await;
        let user = Program::new(&front, issue_access_key(&home, home.user.principal, None).await).await;
        Self { house, home, front, admin, user }
    }

    async fn call(&mut self, operation: &str, body: Value) -> Answer {
        self.admin.call(operation, body).await
    }

    /// The id of a new key.
    async fn create(&mut self, body: Value) -> String {
        let answer = self.call("CreateKey", body).await.unwrap();
        answer["KeyMetadata"]["KeyId"].as_str().unwrap().to_owned()
    }

    async fn metadata(&mut self, key: &str) -> Value {
        self.call("DescribeKey", json!({ "KeyId": key })).await.unwrap()["KeyMetadata"].take()
    }

    async fn state(&mut self, key: &str) -> String {
        self.metadata(key).await["KeyState"].as_str().unwrap().to_owned()
    }

    async fn encrypt(&mut self, key: &str, text: &str) -> Answer {
        self.user.call("Encrypt", json!({ "KeyId": key, "Plaintext": STANDARD.encode(text) })).await
    }

    async fn decrypt(&mut self, blob: &Value) -> Answer {
        self.user.call("Decrypt", json!({ "CiphertextBlob": blob })).await
    }

    /// Imports material with `also` in the call.
    async fn import(&mut self, key: &str, material: &[u8], also: Value) -> Answer {
        let body = json!({ "KeyId": key, "WrappingAlgorithm": "RSA_AES_KEY_WRAP_SHA_256", "WrappingKeySpec": "RSA_2048" });
        let terms = self.call("GetParametersForImport", body).await?;
        assert_eq!(terms["KeyId"], arn(key));
        let public = STANDARD.decode(terms["PublicKey"].as_str().unwrap()).unwrap();
        let public = PublicKey::from_der(Algorithm::Rsa2048, &public).unwrap();
        let wrapped = rsa_aes_kwp_wrap(&public, Mechanism::RsaOaepSha256, material).unwrap();
        let mut body = json!({
            "KeyId": key,
            "ImportToken": terms["ImportToken"],
            "EncryptedKeyMaterial": STANDARD.encode(wrapped),
            "ExpirationModel": "KEY_MATERIAL_DOES_NOT_EXPIRE",
        });
        body.as_object_mut().unwrap().extend(also.as_object().unwrap().clone());
        self.call("ImportKeyMaterial", body).await
    }
}

#[tokio::test]
async fn a_key_goes_through_its_states_in_aws_words() {
    let mut scene = Scene::new().await;
    let made = json!({ "Description": "d", "Tags": [{ "TagKey": "a", "TagValue": "1" }] });
    let key = scene.create(made).await;
    let named = json!({ "KeyId": key });
    let (text, missing) = (arn(&key), json!({ "KeyId": "11111111-1111-1111-1111-111111111111" }));
    assert_eq!(scene.state(&key).await, "Enabled");
    let blob = scene.encrypt(&key, "text").await.unwrap()["CiphertextBlob"].take();
    let not_pending = format!("{text} is not pending deletion.");
    refused(
        scene.call("CancelKeyDeletion", named.clone()).await,
        "KMSInvalidStateException",
        Some(&not_pending),
    );
    for _ in 0..2 {
        assert_eq!(scene.call("DisableKey", named.clone()).await, Ok(Value::Null));
    }
    assert_eq!(scene.state(&key).await, "Disabled");
    let disabled = format!("{text} is disabled.");
    refused(scene.decrypt(&blob).await, "DisabledException", Some(&disabled));
    refused(scene.call("EnableKeyRotation", named.clone()).await, "DisabledException", Some(&disabled));
    refused(scene.call("RotateKeyOnDemand", named.clone()).await, "DisabledException", Some(&disabled));
    for _ in 0..2 {
        scene.call("EnableKey", named.clone()).await.unwrap();
    }
    scene.decrypt(&blob).await.unwrap();

    for days in [6, 31] {
        let body = json!({ "KeyId": key, "PendingWindowInDays": days });
        assert_eq!(scene.call("ScheduleKeyDeletion", body).await.unwrap_err().0, "ValidationException");
    }
    let scheduled =
        scene.call("ScheduleKeyDeletion", json!({ "KeyId": key, "PendingWindowInDays": 7 })).await.unwrap();
    assert_eq!((&scheduled["KeyId"], &scheduled["KeyState"]), (&json!(text), &json!("PendingDeletion")));
    let described = scene.metadata(&key).await;
    assert_eq!(described["DeletionDate"], scheduled["DeletionDate"]);
    assert_eq!((&described["KeyState"], &described["Enabled"]), (&json!("PendingDeletion"), &json!(false)));
    let pending = format!("{text} is pending deletion.");
    for (operation, also) in [
        ("EnableKey", json!({})),
        ("DisableKey", json!({})),
        ("ScheduleKeyDeletion", json!({})),
        ("UpdateKeyDescription", json!({ "Description": "x" })),
        ("TagResource", json!({ "Tags": [] })),
        ("UntagResource", json!({ "TagKeys": ["a"] })),
        ("EnableKeyRotation", json!({})),
        ("RotateKeyOnDemand", json!({})),
    ] {
        let mut body = named.clone();
        body.as_object_mut().unwrap().extend(also.as_object().unwrap().clone());
        refused(scene.call(operation, body).await, "KMSInvalidStateException", Some(&pending));
    }
    let alias = json!({ "AliasName": "alias/late", "TargetKeyId": key });
    refused(scene.call("CreateAlias", alias).await, "KMSInvalidStateException", Some(&pending));
    assert_eq!(scene.call("CancelKeyDeletion", named.clone()).await.unwrap(), json!({ "KeyId": text }));
    assert_eq!(scene.state(&key).await, "Disabled");
    scene.call("EnableKey", named).await.unwrap();
    scene.decrypt(&blob).await.unwrap();

    let absent = format!("Key '{}' does not exist", arn("11111111-1111-1111-1111-111111111111"));
    for operation in ["DescribeKey", "EnableKey", "ScheduleKeyDeletion", "GetKeyRotationStatus"] {
        refused(scene.call(operation, missing.clone()).await, "NotFoundException", Some(&absent));
    }
}

#[tokio::test]
async fn a_key_that_is_gone_is_forgotten() {
    let mut scene = Scene::new().await;
    let key = scene.create(json!({})).await;
    let id: KeyId = key.parse().unwrap();
    scene.home.manage(Ask::DeactivateKey { key: by_id(id), version: None }).await.unwrap();
    assert_eq!(scene.state(&key).await, "Disabled", "AWS has no word for what only decrypts");
    let destroy = Ask::DestroyKey { key: by_id(id), version: 1, confirm: id };
    scene.home.ask(&scene.home.custodian, destroy).await.unwrap();
    let absent = format!("Key '{}' does not exist", arn(&key));
    for operation in ["DescribeKey", "EnableKey", "CancelKeyDeletion", "ListResourceTags", "ListKeyRotations"]
    {
        refused(scene.call(operation, json!({ "KeyId": key })).await, "NotFoundException", Some(&absent));
    }
    assert_eq!(scene.call("ListKeys", json!({})).await.unwrap()["Keys"], json!([]));
}

#[tokio::test]
async fn who_may_not_manage_a_key_learns_nothing_of_its_state() {
    let mut scene = Scene::new().await;
    let key = scene.create(json!({ "Origin": "EXTERNAL" })).await;
    let calls = [
        ("DisableKey", json!({ "KeyId": key })),
        ("RotateKeyOnDemand", json!({ "KeyId": key })),
        ("CancelKeyDeletion", json!({ "KeyId": key })),
        ("DeleteImportedKeyMaterial", json!({ "KeyId": key })),
        ("TagResource", json!({ "KeyId": key, "Tags": [] })),
        ("CreateAlias", json!({ "AliasName": "alias/x", "TargetKeyId": key })),
    ];
    for (operation, body) in calls {
        let (kind, text) = scene.user.call(operation, body).await.unwrap_err();
        assert_eq!(kind, "AccessDeniedException", "{operation}");
        assert!(text.unwrap().contains(&format!("kms:{operation} on resource: {}", arn(&key))));
    }
    let elsewhere = scene.house.tenant("two").await;
    let access_key = issue_access_key(&elsewhere, elsewhere.key_admin.principal, None).await;
    let mut foreigner = Program::new(&scene.front, access_key).await;
    let absent = format!("Key '{}' does not exist", arn(&key));
    for operation in ["DescribeKey", "DisableKey", "RotateKeyOnDemand"] {
        let answer = foreigner.call(operation, json!({ "KeyId": key })).await;
        refused(answer, "NotFoundException", Some(&absent));
    }
}

#[tokio::test]
async fn listings_are_read_in_pages_by_who_began_them() {
    let mut scene = Scene::new().await;
    let mut made = Vec::new();
    for number in 0..5 {
        let key = scene.create(json!({})).await;
        let alias = json!({ "AliasName": format!("alias/{number}"), "TargetKeyId": key });
        assert_eq!(scene.call("CreateAlias", alias).await, Ok(Value::Null));
        made.push(key);
    }
    let tags: Vec<_> = (0..5).map(|n| json!({ "TagKey": n.to_string(), "TagValue": "" })).collect();
    scene.call("TagResource", json!({ "KeyId": made[0], "Tags": tags })).await.unwrap();
    for _ in 0..5 {
        scene.call("RotateKeyOnDemand", json!({ "KeyId": made[0] })).await.unwrap();
    }
    for (operation, member, also) in [
        ("ListKeys", "Keys", json!({})),
        ("ListAliases", "Aliases", json!({})),
        ("ListResourceTags", "Tags", json!({ "KeyId": made[0] })),
        ("ListKeyRotations", "Rotations", json!({ "KeyId": made[0] })),
    ] {
        let (mut all, mut marker) = (Vec::new(), None);
        loop {
            let mut body = also.clone();
            body["Limit"] = json!(2);
            if let Some(marker) = &marker {
                body["Marker"] = json!(marker);
                let (kind, _) = scene.user.call(operation, body.clone()).await.unwrap_err();
                assert_eq!(kind, "InvalidMarkerException", "{operation}: another caller's");
            }
            let page = scene.call(operation, body).await.unwrap();
            let items = page[member].as_array().unwrap();
            all.extend(items.clone());
            if page["Truncated"] == json!(false) {
                assert!(page.get("NextMarker").is_none());
                break;
            }
            assert_eq!(items.len(), 2);
            marker = page["NextMarker"].as_str().map(str::to_owned);
        }
        assert_eq!(all.len(), 5, "{operation}");
        all.dedup();
        assert_eq!(all.len(), 5, "{operation}");
    }
    let others = json!({ "ResourceOwners": ["OTHER_ACCOUNTS_VIA_RAM"] });
    assert_eq!(scene.call("ListKeys", others).await.unwrap(), json!({ "Keys": [], "Truncated": false }));
}

#[tokio::test]
async fn aliases_are_made_once_and_moved_to_keys_of_their_kind() {
    let mut scene = Scene::new().await;
    let (one, two) = (scene.create(json!({})).await, scene.create(json!({})).await);
    let signing = scene.create(json!({ "KeySpec": "ECC_NIST_P256", "KeyUsage": "SIGN_VERIFY" })).await;
    let to = |key: &str| json!({ "AliasName": "alias/orders", "TargetKeyId": key });
    let missing = "Alias arn:aws:kms:eu-central-1:111122223333:alias/orders is not found.";
    refused(scene.call("UpdateAlias", to(&one)).await, "NotFoundException", Some(missing));
    scene.call("CreateAlias", to(&arn(&one))).await.unwrap();
    let exists = "An alias with the name arn:aws:kms:eu-central-1:111122223333:alias/orders already exists";
    for key in [&one, &two] {
        refused(scene.call("CreateAlias", to(key)).await, "AlreadyExistsException", Some(exists));
    }
    let no_alias = "Aliases must refer to keys. Not aliases";
    refused(scene.call("CreateAlias", to("alias/orders")).await, "ValidationException", Some(no_alias));
    assert_eq!(scene.call("UpdateAlias", to(&signing)).await.unwrap_err().0, "ValidationException");
    scene.call("UpdateAlias", to(&two)).await.unwrap();
    assert_eq!(scene.metadata("alias/orders").await["KeyId"], json!(two));
    let listed = scene.call("ListAliases", json!({ "KeyId": two })).await.unwrap();
    let entry = &listed["Aliases"][0];
    assert_eq!((&entry["AliasName"], &entry["TargetKeyId"]), (&json!("alias/orders"), &json!(two)));
    assert!(entry["CreationDate"].as_f64() <= entry["LastUpdatedDate"].as_f64());
    assert_eq!(scene.call("ListAliases", json!({ "KeyId": one })).await.unwrap()["Aliases"], json!([]));
    scene.call("DeleteAlias", json!({ "AliasName": "alias/orders" })).await.unwrap();
    let gone = scene.call("DeleteAlias", json!({ "AliasName": "alias/orders" })).await;
    refused(gone, "NotFoundException", Some(missing));
    assert_eq!(scene.home.newest(Operation::MoveAlias).await.detail, Some(format!("orders from {one}")));
}

#[tokio::test]
async fn tags_are_set_one_by_one() {
    let mut scene = Scene::new().await;
    let key = scene.create(json!({})).await;
    let tag = |name: &str, value: &str| json!({ "TagKey": name, "TagValue": value });
    let set = |tags: Vec<Value>| json!({ "KeyId": key, "Tags": tags });
    scene.call("TagResource", set(vec![tag("a", "1"), tag("b", "2")])).await.unwrap();
    scene.call("TagResource", set(vec![tag("b", "3"), tag("c", "")])).await.unwrap();
    let removed = json!({ "KeyId": key, "TagKeys": ["a", "never"] });
    scene.call("UntagResource", removed).await.unwrap();
    let listed = scene.call("ListResourceTags", json!({ "KeyId": key })).await.unwrap();
    assert_eq!(listed, json!({ "Tags": [tag("b", "3"), tag("c", "")], "Truncated": false }));
    let many = (0..49).map(|n| tag(&n.to_string(), "")).collect();
    refused(scene.call("TagResource", set(many)).await, "TagException", Some("Too many tags"));
    let twice = set(vec![tag("d", ""), tag("d", "")]);
    refused(scene.call("TagResource", twice).await, "TagException", Some("Duplicate tag keys"));
    let reserved = json!({ "Tags": [tag("aws:x", "")] });
    let text = "Tags beginning with aws: are reserved";
    refused(scene.call("CreateKey", reserved).await, "TagException", Some(text));
}

#[tokio::test]
async fn rotation_is_for_symmetric_keys() {
    let mut scene = Scene::new().await;
    let key = scene.create(json!({})).await;
    let named = json!({ "KeyId": key });
    let off = json!({ "KeyId": arn(&key), "KeyRotationEnabled": false });
    assert_eq!(scene.call("GetKeyRotationStatus", named.clone()).await, Ok(off.clone()));
    scene.call("EnableKeyRotation", json!({ "KeyId": key, "RotationPeriodInDays": 90 })).await.unwrap();
    let on = scene.call("GetKeyRotationStatus", named.clone()).await.unwrap();
    assert_eq!((&on["KeyRotationEnabled"], &on["RotationPeriodInDays"]), (&json!(true), &json!(90)));
    scene.call("DisableKeyRotation", named.clone()).await.unwrap();
    assert_eq!(scene.call("GetKeyRotationStatus", named.clone()).await, Ok(off));
    let before = scene.metadata(&key).await["CurrentKeyMaterialId"].take();
    assert_eq!(scene.call("RotateKeyOnDemand", named.clone()).await, Ok(json!({ "KeyId": arn(&key) })));
    let after = scene.metadata(&key).await["CurrentKeyMaterialId"].take();
    assert_ne!(before, after);
    let rotations = scene.call("ListKeyRotations", named).await.unwrap()["Rotations"].take();
    assert_eq!(
        (&rotations[0]["KeyMaterialId"], &rotations[0]["RotationType"]),
        (&after, &json!("ON_DEMAND"))
    );

    for (spec, usage) in [("RSA_2048", "SIGN_VERIFY"), ("HMAC_256", "GENERATE_VERIFY_MAC")] {
        let other = scene.create(json!({ "KeySpec": spec, "KeyUsage": usage })).await;
        for operation in ["EnableKeyRotation", "DisableKeyRotation", "RotateKeyOnDemand", "ListKeyRotations"]
        {
            let answer = scene.call(operation, json!({ "KeyId": other })).await;
            refused(answer, "UnsupportedOperationException", None);
        }
        let status = scene.call("GetKeyRotationStatus", json!({ "KeyId": other })).await.unwrap();
        assert_eq!(status["KeyRotationEnabled"], json!(false));
    }
    let external = scene.create(json!({ "Origin": "EXTERNAL" })).await;
    let text = format!("{} origin is EXTERNAL which is not valid for this operation.", arn(&external));
    let answer = scene.call("EnableKeyRotation", json!({ "KeyId": external })).await;
    refused(answer, "UnsupportedOperationException", Some(&text));
}

#[tokio::test]
async fn imported_material_is_deleted_and_brought_again() {
    let mut scene = Scene::new().await;
    let key = scene.create(json!({ "Origin": "EXTERNAL" })).await;
    let pending = format!("{} is pending import.", arn(&key));
    for operation in ["EnableKey", "DisableKey", "RotateKeyOnDemand"] {
        let answer = scene.call(operation, json!({ "KeyId": key })).await;
        refused(answer, "KMSInvalidStateException", Some(&pending));
    }
    refused(scene.encrypt(&key, "x").await, "KMSInvalidStateException", Some(&pending));
    let imported = scene.import(&key, &MATERIAL, json!({})).await.unwrap();
    assert_eq!(imported["KeyId"], arn(&key));
    let described = scene.metadata(&key).await;
    assert_eq!(described["CurrentKeyMaterialId"], imported["KeyMaterialId"]);
    assert_eq!(described["ExpirationModel"], "KEY_MATERIAL_DOES_NOT_EXPIRE");
    let blob = scene.encrypt(&key, "text").await.unwrap()["CiphertextBlob"].take();

    let deleted = scene.call("DeleteImportedKeyMaterial", json!({ "KeyId": key })).await.unwrap();
    assert_eq!(deleted, imported);
    assert_eq!(scene.call("DeleteImportedKeyMaterial", json!({ "KeyId": key })).await.unwrap(), imported);
    assert_eq!(scene.state(&key).await, "PendingImport");
    refused(scene.decrypt(&blob).await, "KMSInvalidStateException", Some(&pending));
    let (kind, _) = scene.import(&key, &OTHER, json!({})).await.unwrap_err();
    assert_eq!(kind, "IncorrectKeyMaterialException");
    let (kind, _) = scene.import(&key, &MATERIAL[..16], json!({})).await.unwrap_err();
    assert_eq!(kind, "IncorrectKeyMaterialException");
    let again = json!({ "ImportType": "EXISTING_KEY_MATERIAL", "KeyMaterialId": imported["KeyMaterialId"] });
    assert_eq!(scene.import(&key, &MATERIAL, again).await.unwrap(), imported);
    scene.decrypt(&blob).await.unwrap();

    let generated = scene.create(json!({})).await;
    let text = format!("{} origin is AWS_KMS which is not valid for this operation.", arn(&generated));
    let answer = scene.call("DeleteImportedKeyMaterial", json!({ "KeyId": generated })).await;
    refused(answer, "UnsupportedOperationException", Some(&text));
    refused(
        scene.import(&generated, &MATERIAL, json!({})).await,
        "UnsupportedOperationException",
        Some(&text),
    );
}

#[tokio::test]
async fn import_tokens_and_ends_are_checked() {
    let mut scene = Scene::new().await;
    let (key, other) = (
        scene.create(json!({ "Origin": "EXTERNAL" })).await,
        scene.create(json!({ "Origin": "EXTERNAL" })).await,
    );
    let terms = async |scene: &mut Scene, key: &str| {
        let body =
            json!({ "KeyId": key, "WrappingAlgorithm": "RSAES_OAEP_SHA_1", "WrappingKeySpec": "RSA_2048" });
        scene.call("GetParametersForImport", body).await.unwrap()["ImportToken"].take()
    };
    let foreign = terms(&mut scene, &other).await;
    let replaced = terms(&mut scene, &key).await;
    for token in [foreign, replaced, json!("AQID")] {
        let (kind, text) = scene.import(&key, &MATERIAL, json!({ "ImportToken": token })).await.unwrap_err();
        assert_eq!((kind.as_str(), text), ("InvalidImportTokenException", None));
    }
    let garbage = json!({ "EncryptedKeyMaterial": STANDARD.encode([1; 300]) });
    refused(scene.import(&key, &MATERIAL, garbage).await, "InvalidCiphertextException", None);
    let text = "A validTo date must be set if the ExpirationModel is KEY_MATERIAL_EXPIRES";
    let endless = json!({ "ExpirationModel": "KEY_MATERIAL_EXPIRES" });
    refused(scene.import(&key, &MATERIAL, endless).await, "ValidationException", Some(text));
    let past = json!({ "ExpirationModel": "KEY_MATERIAL_EXPIRES", "ValidTo": 1_000_000_000 });
    assert_eq!(scene.import(&key, &MATERIAL, past).await.unwrap_err().0, "ValidationException");
    let end = scene.house.engine.now().latest.plus_days(3).unix_ms() / 1_000;
    let ends = json!({ "ExpirationModel": "KEY_MATERIAL_EXPIRES", "ValidTo": end });
    scene.import(&key, &MATERIAL, ends).await.unwrap();
    let described = scene.metadata(&key).await;
    assert_eq!(described["ExpirationModel"], "KEY_MATERIAL_EXPIRES");
    assert_eq!(described["ValidTo"].as_f64(), json!(end).as_f64());
    let body =
        json!({ "KeyId": key, "WrappingAlgorithm": "RSAES_PKCS1_V1_5", "WrappingKeySpec": "RSA_2048" });
    let (kind, _) = scene.call("GetParametersForImport", body).await.unwrap_err();
    assert_eq!(kind, "UnsupportedOperationException");
}

#[tokio::test]
async fn an_imported_key_is_rotated_to_new_material() {
    let mut scene = Scene::new().await;
    let key = scene.create(json!({ "Origin": "EXTERNAL" })).await;
    let named = json!({ "KeyId": key });
    let new = json!({ "ImportType": "NEW_KEY_MATERIAL", "KeyMaterialDescription": "second" });
    let first = scene.import(&key, &MATERIAL, json!({ "KeyMaterialDescription": "first" })).await.unwrap();
    let old = scene.encrypt(&key, "old").await.unwrap()["CiphertextBlob"].take();
    let text = format!("No available key material pending rotation for the key: {}.", arn(&key));
    refused(scene.call("RotateKeyOnDemand", named.clone()).await, "KMSInvalidStateException", Some(&text));
    assert_eq!(
        scene.import(&key, &MATERIAL, new.clone()).await.unwrap_err().0,
        "IncorrectKeyMaterialException"
    );
    let second = scene.import(&key, &OTHER, new.clone()).await.unwrap();
    assert_eq!(scene.metadata(&key).await["CurrentKeyMaterialId"], first["KeyMaterialId"]);
    let third = *b"yet other 32 bytes of a material";
    let (kind, text) = scene.import(&key, &third, new).await.unwrap_err();
    assert_eq!(kind, "KMSInvalidStateException");
    let pending = second["KeyMaterialId"].as_str().unwrap();
    let ends = format!(
        " into KMS key {}, because another key material (id: {pending}) is pending rotation.",
        arn(&key)
    );
    assert!(text.as_ref().unwrap().ends_with(&ends), "{text:?}");

    assert_eq!(scene.call("RotateKeyOnDemand", named.clone()).await.unwrap(), json!({ "KeyId": arn(&key) }));
    assert_eq!(scene.metadata(&key).await["CurrentKeyMaterialId"], second["KeyMaterialId"]);
    scene.decrypt(&old).await.unwrap();
    let body = json!({ "KeyId": key, "KeyMaterialId": first["KeyMaterialId"] });
    assert_eq!(scene.call("DeleteImportedKeyMaterial", body).await.unwrap(), first);
    let body = json!({ "KeyId": key, "IncludeKeyMaterial": "ALL_KEY_MATERIAL" });
    let all = scene.call("ListKeyRotations", body).await.unwrap()["Rotations"].take();
    let of = |at: usize, name: &str| all[at][name].as_str().unwrap_or_default().to_owned();
    let shown = ["KeyMaterialDescription", "KeyMaterialState", "ImportState"];
    assert_eq!(shown.map(|name| of(0, name)), ["first", "NON_CURRENT", "PENDING_IMPORT"]);
    assert_eq!(shown.map(|name| of(1, name)), ["second", "CURRENT", "IMPORTED"]);
    let unknown = json!({ "KeyId": key, "KeyMaterialId": "0".repeat(64) });
    assert_eq!(scene.call("DeleteImportedKeyMaterial", unknown).await.unwrap_err().0, "NotFoundException");
    let named_wrongly = json!({ "KeyMaterialId": second["KeyMaterialId"] });
    let (kind, _) = scene.import(&key, &MATERIAL, named_wrongly).await.unwrap_err();
    assert_eq!(kind, "IncorrectKeyMaterialException");
}

#[tokio::test]
async fn keys_of_kinds_that_aws_does_not_know_are_told_apart() {
    let mut scene = Scene::new().await;
    let key = scene.home.create(new_key(Algorithm::Aes128)).await.id.to_string();
    let (kind, text) = scene.call("DescribeKey", json!({ "KeyId": key })).await.unwrap_err();
    assert_eq!(kind, "UnsupportedOperationException");
    assert!(text.unwrap().ends_with(": aes-128."));
    assert_eq!(scene.call("ListKeys", json!({})).await.unwrap()["Keys"][0]["KeyId"], json!(key));
}
