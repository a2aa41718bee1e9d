//! Uses of keys by AWS's operations, and their refusals in the words that AWS was recorded with.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keyhearth_core::id::KeyId;
use keyhearth_core::request::{Ask, NewKey};
use keyhearth_crypto::algorithm::Algorithm;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256, Sha384, Sha512};

use super::access_keys::issue_access_key;
use super::aws::{Front, Program};
use super::support::{House, Household, by_id, new_key};

type Answer = Result<Value, (String, Option<String>)>;

fn base64(bytes: impl AsRef<[u8]>) -> String {
    STANDARD.encode(bytes)
}

fn bytes(value: &Value) -> Vec<u8> {
    STANDARD.decode(value.as_str().unwrap()).unwrap()
}

fn arn(key: KeyId) -> String {
    format!("arn:aws:kms:eu-central-1:111122223333:key/{key}")
}

/// What `body` gets with the members of `also`.
fn with(body: &Value, also: Value) -> Value {
    let mut body = body.clone();
    body.as_object_mut().unwrap().extend(also.as_object().unwrap().clone());
    body
}

#[track_caller]
fn refused(answer: Answer, kind: &str, message: Option<&str>) {
    let (found, said) = answer.unwrap_err();
    assert_eq!((found.as_str(), said.as_deref()), (kind, message));
}

fn of_use(algorithm: Algorithm, uses: &[&str]) -> NewKey {
    NewKey { usage: uses.iter().map(|&one| one.to_owned()).collect(), ..new_key(algorithm) }
}

/// A deployment with an AWS front and a program of the tenant's user.
struct Scene {
    house: House,
    home: Household,
    front: Front,
    program: Program,
}

impl Scene {
    async fn new() -> Self {
        let house = House::new().await;
        let home = house.tenant("one").await;
        let front = Front::of(&house.engine).await;
        let key = issue_access_key(&home, home.user.principal, None).await;
        let program = Program::new(&front, key).await;
        Self { house, home, front, program }
    }

    async fn call(&mut self, operation: &str, body: Value) -> Answer {
        self.program.call(operation, body).await
    }
}

#[tokio::test]
async fn what_is_encrypted_is_decrypted_under_any_name_of_its_key() {
    let mut scene = Scene::new().await;
    let new = NewKey { alias: Some("app/db".parse().unwrap()), ..new_key(Algorithm::Aes256) };
    let id = scene.home.create(new).await.id;
    let other = scene.home.aes().await.id;
    let names = [
        id.to_string(),
        arn(id),
        "alias/app/db".into(),
        arn(id).replace(&format!("key/{id}"), "alias/app/db"),
    ];
    let context = json!({ "b": "2", "a": "1" });
    let mut blob = String::new();
    for name in &names {
        let body = json!({ "KeyId": name, "Plaintext": base64("text"), "EncryptionContext": context });
        let answer = scene.call("Encrypt", body).await.unwrap();
        assert_eq!(answer["KeyId"], arn(id));
        assert_eq!(answer["EncryptionAlgorithm"], "SYMMETRIC_DEFAULT");
        assert_eq!(answer.as_object().unwrap().len(), 3);
        blob = answer["CiphertextBlob"].as_str().unwrap().to_owned();
    }
    let open = json!({ "CiphertextBlob": blob, "EncryptionContext": { "a": "1", "b": "2" } });
    let nameless = scene.call("Decrypt", open.clone()).await.unwrap();
    assert_eq!(bytes(&nameless["Plaintext"]), b"text");
    assert_eq!(nameless["KeyId"], arn(id));
    assert_eq!(nameless["EncryptionAlgorithm"], "SYMMETRIC_DEFAULT");
    assert_eq!(nameless["KeyMaterialId"].as_str().unwrap().len(), 64);
    for name in &names {
        let answer = scene.call("Decrypt", with(&open, json!({ "KeyId": name }))).await.unwrap();
        assert_eq!(answer, nameless);
    }

    let wrong = "The key ID in the request does not identify a CMK that can perform this operation.";
    let hmac = scene.home.create(new_key(Algorithm::HmacSha256)).await.id;
    for name in [other.to_string(), arn(hmac)] {
        let answer = scene.call("Decrypt", with(&open, json!({ "KeyId": name }))).await;
        refused(answer, "IncorrectKeyException", Some(wrong));
    }
    for also in [json!({ "EncryptionContext": {} }), json!({ "EncryptionContext": { "a": "1", "B": "2" } })] {
        refused(scene.call("Decrypt", with(&open, also)).await, "InvalidCiphertextException", None);
    }
    let mut changed = STANDARD.decode(&blob).unwrap();
    *changed.last_mut().unwrap() ^= 1;
    for (blob, key) in
        [(changed.clone(), None), (changed, Some(id)), (vec![1; 200], None), (vec![1; 200], Some(id))]
    {
        let mut body = with(&open, json!({ "CiphertextBlob": base64(blob) }));
        key.iter().for_each(|key| body["KeyId"] = json!(key.to_string()));
        refused(scene.call("Decrypt", body).await, "InvalidCiphertextException", None);
    }
    let nothing = "1 validation error detected: Value null at 'ciphertextBlob' failed to satisfy constraint: \
                   Member must not be null";
    refused(scene.call("Decrypt", json!({ "KeyId": arn(id) })).await, "ValidationException", Some(nothing));
}

#[tokio::test]
async fn who_may_not_use_a_key_learns_nothing_of_it() {
    let mut scene = Scene::new().await;
    let id = scene.home.aes().await.id;
    let blob = base64(scene.home.encrypt(id, "text").await.unwrap());
    let stranger = scene.home.issue("stranger", &[]).await;
    let key = issue_access_key(&scene.home, stranger.principal, None).await;
    let mut stranger = Program::new(&scene.front, key).await;
    let elsewhere = scene.house.tenant("two").await;
    let key = issue_access_key(&elsewhere, elsewhere.user.principal, None).await;
    let mut foreigner = Program::new(&scene.front, key).await;

    let unreachable = "The ciphertext refers to a customer master key that does not exist, does not exist in this \
                       region, or you are not allowed to access.";
    for program in [&mut stranger, &mut foreigner] {
        let answer = program.call("Decrypt", json!({ "CiphertextBlob": blob })).await;
        refused(answer, "AccessDeniedException", Some(unreachable));
    }
    let not_allowed = |action: &str| {
        format!(
            "User: arn:aws:iam::111122223333:user/stranger is not authorized to perform: kms:{action} on resource: \
             {} because no identity-based policy allows the kms:{action} action",
            arn(id)
        )
    };
    let missing = format!("Key '{}' does not exist", arn(id));
    for (operation, body) in [
        ("Encrypt", json!({ "KeyId": arn(id), "Plaintext": "AQ==" })),
        ("Decrypt", json!({ "KeyId": id.to_string(), "CiphertextBlob": blob })),
        // Neither its state nor what it is for makes a difference.
        ("Sign", json!({ "KeyId": arn(id), "Message": "AQ==", "SigningAlgorithm": "ECDSA_SHA_256" })),
        ("GenerateDataKey", json!({ "KeyId": arn(id), "KeySpec": "AES_256", "DryRun": true })),
    ] {
        let answer = stranger.call(operation, body.clone()).await;
        refused(answer, "AccessDeniedException", Some(&not_allowed(operation)));
        refused(foreigner.call(operation, body).await, "NotFoundException", Some(&missing));
    }
    let alias = foreigner.call("Encrypt", json!({ "KeyId": "alias/none", "Plaintext": "AQ==" })).await;
    let missing = "Alias arn:aws:kms:eu-central-1:111122223333:alias/none is not found.";
    refused(alias, "NotFoundException", Some(missing));
    drop((stranger, foreigner));
    scene.program.call("Encrypt", json!({ "KeyId": arn(id), "Plaintext": "AQ==" })).await.unwrap();
}

#[tokio::test]
async fn the_state_of_a_key_is_told_in_awss_words() {
    let mut scene = Scene::new().await;
    let (disabled, ending) = (scene.home.aes().await.id, scene.home.aes().await.id);
    let awaiting = NewKey { import: true, ..new_key(Algorithm::Aes256) };
    let awaiting = scene.home.create(awaiting).await.id;
    let blob = base64(scene.home.encrypt(disabled, "text").await.unwrap());
    scene.home.manage(Ask::SuspendKey { key: by_id(disabled), version: None }).await.unwrap();
    scene.home.manage(Ask::ScheduleDestroy { key: by_id(ending), days: 7 }).await.unwrap();
    for (key, kind, what) in [
        (disabled, "DisabledException", "disabled"),
        (ending, "KMSInvalidStateException", "pending deletion"),
        (awaiting, "KMSInvalidStateException", "pending import"),
    ] {
        let said = format!("{} is {what}.", arn(key));
        let encrypt = json!({ "KeyId": key.to_string(), "Plaintext": "AQ==" });
        refused(scene.call("Encrypt", encrypt.clone()).await, kind, Some(&said));
        refused(scene.call("Encrypt", with(&encrypt, json!({ "DryRun": true }))).await, kind, Some(&said));
        let data_key = json!({ "KeyId": key.to_string(), "KeySpec": "AES_128" });
        refused(scene.call("GenerateDataKey", data_key).await, kind, Some(&said));
    }
    let said = format!("{} is disabled.", arn(disabled));
    for body in [json!({ "CiphertextBlob": blob }), json!({ "CiphertextBlob": blob, "KeyId": arn(disabled) })]
    {
        refused(scene.call("Decrypt", body).await, "DisabledException", Some(&said));
    }
    let good = scene.home.aes().await.id;
    let from = json!({ "CiphertextBlob": blob, "DestinationKeyId": good.to_string() });
    refused(scene.call("ReEncrypt", from).await, "DisabledException", Some(&said));
    let blob = base64(scene.home.encrypt(good, "text").await.unwrap());
    let to = json!({ "CiphertextBlob": blob, "DestinationKeyId": disabled.to_string() });
    refused(scene.call("ReEncrypt", to).await, "DisabledException", Some(&said));
}

#[tokio::test]
async fn keys_are_used_for_what_they_are_and_for_nothing_else() {
    let mut scene = Scene::new().await;
    let aes = scene.home.aes().await.id;
    let rsa = scene.home.create(of_use(Algorithm::Rsa2048, &["encrypt", "decrypt"])).await.id;
    let signing = scene.home.create(of_use(Algorithm::EcP256, &["sign", "verify"])).await.id;
    let hmac = scene.home.create(new_key(Algorithm::HmacSha224)).await.id;
    let message = json!({ "Message": base64("message") });
    let usage = |key: KeyId, usage: &str, operation: &str| {
        format!("{} key usage is {usage} which is not valid for {operation}.", arn(key))
    };
    let algorithm =
        |algorithm: &str, spec: &str| format!("Algorithm {algorithm} is incompatible with key spec {spec}.");
    for (operation, key, also, said) in [
        (
            "GenerateMac",
            aes,
            json!({ "MacAlgorithm": "HMAC_SHA_256" }),
            usage(aes, "ENCRYPT_DECRYPT", "GenerateMac"),
        ),
        (
            "Sign",
            hmac,
            json!({ "SigningAlgorithm": "ECDSA_SHA_256" }),
            usage(hmac, "GENERATE_VERIFY_MAC", "Sign"),
        ),
        (
            "Verify",
            aes,
            json!({ "SigningAlgorithm": "RSASSA_PSS_SHA_256", "Signature": "AQ==" }),
            usage(aes, "ENCRYPT_DECRYPT", "Verify"),
        ),
        ("Encrypt", signing, json!({ "Plaintext": "AQ==" }), usage(signing, "SIGN_VERIFY", "Encrypt")),
        (
            "DeriveSharedSecret",
            signing,
            json!({ "KeyAgreementAlgorithm": "ECDH", "PublicKey": "AQ==" }),
            usage(signing, "SIGN_VERIFY", "DeriveSharedSecret"),
        ),
        (
            "GenerateMac",
            hmac,
            json!({ "MacAlgorithm": "HMAC_SHA_256" }),
            algorithm("HMAC_SHA_256", "HMAC_224"),
        ),
        (
            "VerifyMac",
            hmac,
            json!({ "MacAlgorithm": "HMAC_SHA_512", "Mac": "AQ==" }),
            algorithm("HMAC_SHA_512", "HMAC_224"),
        ),
        ("Encrypt", rsa, json!({ "Plaintext": "AQ==" }), algorithm("SYMMETRIC_DEFAULT", "RSA_2048")),
        (
            "Encrypt",
            aes,
            json!({ "Plaintext": "AQ==", "EncryptionAlgorithm": "RSAES_OAEP_SHA_256" }),
            algorithm("RSAES_OAEP_SHA_256", "SYMMETRIC_DEFAULT"),
        ),
        (
            "Sign",
            signing,
            json!({ "SigningAlgorithm": "ECDSA_SHA_384" }),
            algorithm("ECDSA_SHA_384", "ECC_NIST_P256"),
        ),
        (
            "GenerateDataKey",
            rsa,
            json!({ "NumberOfBytes": 1 }),
            "You cannot generate a data key with an asymmetric CMK".to_owned(),
        ),
    ] {
        let body = with(&with(&message, also), json!({ "KeyId": key.to_string() }));
        refused(scene.call(operation, body).await, "InvalidKeyUsageException", Some(&said));
    }

    for (algorithm, limit) in [("RSAES_OAEP_SHA_1", 214), ("RSAES_OAEP_SHA_256", 190)] {
        let body = |length: usize| json!({ "KeyId": arn(rsa), "Plaintext": base64(vec![7; length]), "EncryptionAlgorithm": algorithm });
        let said = format!(
            "Algorithm {algorithm} and key spec RSA_2048 cannot encrypt data larger than {limit} bytes."
        );
        refused(scene.call("Encrypt", body(limit + 1)).await, "ValidationException", Some(&said));
        let answer = scene.call("Encrypt", body(limit)).await.unwrap();
        assert_eq!(
            (bytes(&answer["CiphertextBlob"]).len(), &answer["EncryptionAlgorithm"]),
            (256, &json!(algorithm))
        );
        let open = json!({ "CiphertextBlob": answer["CiphertextBlob"], "EncryptionAlgorithm": algorithm });
        let opened = scene.call("Decrypt", with(&open, json!({ "KeyId": arn(rsa) }))).await.unwrap();
        assert_eq!(bytes(&opened["Plaintext"]), vec![7; limit]);
        assert_eq!(opened.get("KeyMaterialId"), None);
        refused(scene.call("Decrypt", open).await, "ValidationException", Some("KeyId must not be null"));
        let bound = with(&body(1), json!({ "EncryptionContext": { "a": "1" } }));
        let said = "EncryptionContext is not supported when encrypting/decrypting with asymmetric CMKs.";
        refused(scene.call("Encrypt", bound).await, "ValidationException", Some(said));
    }
}

#[tokio::test]
async fn signatures_and_macs() {
    let mut scene = Scene::new().await;
    for (algorithm, name, hash) in [
        (Algorithm::Rsa2048, "RSASSA_PSS_SHA_256", 256),
        (Algorithm::Rsa2048, "RSASSA_PKCS1_V1_5_SHA_512", 512),
        (Algorithm::EcP256, "ECDSA_SHA_256", 256),
        (Algorithm::EcP384, "ECDSA_SHA_384", 384),
        (Algorithm::EcSecp256k1, "ECDSA_SHA_256", 256),
    ] {
        let key = scene.home.create(of_use(algorithm, &["sign", "verify"])).await.id;
        let of_key = json!({ "KeyId": arn(key), "SigningAlgorithm": name });
        let raw = with(&of_key, json!({ "Message": base64("message"), "MessageType": "RAW" }));
        let digest = base64(sha(hash, b"message"));
        let digested = with(&of_key, json!({ "Message": digest, "MessageType": "DIGEST" }));
        for (signed, verified) in [(&raw, &digested), (&digested, &raw)] {
            let answer = scene.call("Sign", signed.clone()).await.unwrap();
            assert_eq!((&answer["KeyId"], &answer["SigningAlgorithm"]), (&json!(arn(key)), &json!(name)));
            let body = with(verified, json!({ "Signature": answer["Signature"] }));
            let expected = json!({ "KeyId": arn(key), "SignatureValid": true, "SigningAlgorithm": name });
            assert_eq!(scene.call("Verify", body.clone()).await.unwrap(), expected);
            let other = with(&body, json!({ "Message": base64("another"), "MessageType": "RAW" }));
            refused(scene.call("Verify", other.clone()).await, "KMSInvalidSignatureException", None);
            let dry = with(&other, json!({ "DryRun": true }));
            refused(scene.call("Verify", dry).await, "KMSInvalidSignatureException", None);
        }
        let short = with(&digested, json!({ "Message": base64("short") }));
        let said = format!("Digest is invalid length for algorithm {name}.");
        refused(scene.call("Sign", short).await, "ValidationException", Some(&said));
    }
    for algorithm in
        [Algorithm::HmacSha224, Algorithm::HmacSha256, Algorithm::HmacSha384, Algorithm::HmacSha512]
    {
        let key = scene.home.create(new_key(algorithm)).await.id;
        let name = format!("HMAC_SHA_{}", algorithm.info().key_bits);
        let body = json!({ "KeyId": arn(key), "MacAlgorithm": name, "Message": base64("message") });
        let answer = scene.call("GenerateMac", body.clone()).await.unwrap();
        assert_eq!(bytes(&answer["Mac"]).len(), usize::from(algorithm.info().key_bits) / 8);
        let body = with(&body, json!({ "Mac": answer["Mac"] }));
        let expected = json!({ "KeyId": arn(key), "MacValid": true, "MacAlgorithm": name });
        assert_eq!(scene.call("VerifyMac", body.clone()).await.unwrap(), expected);
        let other = with(&body, json!({ "Message": base64("another") }));
        refused(scene.call("VerifyMac", other).await, "KMSInvalidMacException", None);
    }
}

fn sha(bits: u16, message: &[u8]) -> Vec<u8> {
    match bits {
        256 => Sha256::digest(message).to_vec(),
        384 => Sha384::digest(message).to_vec(),
        _ => Sha512::digest(message).to_vec(),
    }
}

#[tokio::test]
async fn each_signing_algorithm_takes_its_message_types() {
    let mut scene = Scene::new().await;
    let ed25519 = scene.home.create(new_key(Algorithm::Ed25519)).await.id;
    let ml_dsa = scene.home.create(new_key(Algorithm::MlDsa44)).await.id;
    let body = |key: KeyId, algorithm: &str, kind: &str, message: &[u8]| json!({ "KeyId": arn(key), "SigningAlgorithm": algorithm, "MessageType": kind, "Message": base64(message) });
    for (key, algorithm, kind, length) in [
        (ed25519, "ED25519_SHA_512", "RAW", 64),
        (ed25519, "ED25519_PH_SHA_512", "DIGEST", 64),
        (ml_dsa, "ML_DSA_SHAKE_256", "RAW", 2420),
    ] {
        let body = body(key, algorithm, kind, &[9; 64]);
        let answer = scene.call("Sign", body.clone()).await.unwrap();
        assert_eq!(bytes(&answer["Signature"]).len(), length);
        let body = with(&body, json!({ "Signature": answer["Signature"] }));
        assert_eq!(scene.call("Verify", body).await.unwrap()["SignatureValid"], true);
    }
    for (key, algorithm, kind, message, said) in [
        (
            ed25519,
            "ED25519_SHA_512",
            "DIGEST",
            64,
            "Message type DIGEST is incompatible with algorithm ED25519_SHA_512.",
        ),
        (
            ed25519,
            "ED25519_PH_SHA_512",
            "RAW",
            64,
            "Message type RAW is incompatible with algorithm ED25519_PH_SHA_512.",
        ),
        (
            ed25519,
            "ED25519_PH_SHA_512",
            "DIGEST",
            63,
            "Digest is invalid length for algorithm ED25519_PH_SHA_512.",
        ),
        (
            ml_dsa,
            "ML_DSA_SHAKE_256",
            "DIGEST",
            64,
            "Message type DIGEST is incompatible with key spec ML_DSA_44.",
        ),
        (
            ml_dsa,
            "ML_DSA_SHAKE_256",
            "EXTERNAL_MU",
            63,
            "External Mu is invalid length for algorithm ML_DSA_SHAKE_256.",
        ),
    ] {
        let body = body(key, algorithm, kind, &vec![9; message]);
        refused(scene.call("Sign", body.clone()).await, "ValidationException", Some(said));
        let body = with(&body, json!({ "Signature": "AQ==" }));
        refused(scene.call("Verify", body).await, "ValidationException", Some(said));
    }
    let said = "Algorithm ECDSA_SHA_512 is incompatible with key spec ECC_NIST_EDWARDS25519.";
    let answer = scene.call("Sign", body(ed25519, "ECDSA_SHA_512", "RAW", b"m")).await;
    refused(answer, "InvalidKeyUsageException", Some(said));
}

#[tokio::test]
async fn data_keys_and_pairs() {
    let mut scene = Scene::new().await;
    let id = scene.home.aes().await.id;
    let of_key = json!({ "KeyId": id.to_string(), "EncryptionContext": { "a": "1" } });
    for (also, length) in [
        (json!({ "KeySpec": "AES_256" }), 32),
        (json!({ "KeySpec": "AES_128" }), 16),
        (json!({ "NumberOfBytes": 1024 }), 1024),
    ] {
        let body = with(&of_key, also);
        let made = scene.call("GenerateDataKey", body.clone()).await.unwrap();
        assert_eq!((bytes(&made["Plaintext"]).len(), &made["KeyId"]), (length, &json!(arn(id))));
        let open = json!({ "CiphertextBlob": made["CiphertextBlob"], "EncryptionContext": { "a": "1" } });
        let opened = scene.call("Decrypt", open).await.unwrap();
        assert_eq!(
            (&opened["Plaintext"], &opened["KeyMaterialId"]),
            (&made["Plaintext"], &made["KeyMaterialId"])
        );
        let hidden = scene.call("GenerateDataKeyWithoutPlaintext", body).await.unwrap();
        assert_eq!(
            hidden.as_object().unwrap().keys().collect::<Vec<_>>(),
            ["CiphertextBlob", "KeyId", "KeyMaterialId"]
        );
    }
    let said = "Please specify either number of bytes or key spec.";
    for also in [json!({}), json!({ "KeySpec": "AES_256", "NumberOfBytes": 32 })] {
        for operation in ["GenerateDataKey", "GenerateDataKeyWithoutPlaintext"] {
            refused(
                scene.call(operation, with(&of_key, also.clone())).await,
                "ValidationException",
                Some(said),
            );
        }
    }
    for spec in ["RSA_2048", "ECC_NIST_P256", "ECC_SECG_P256K1", "ECC_NIST_EDWARDS25519", "ML_KEM_1024"] {
        let body = with(&of_key, json!({ "KeyPairSpec": spec }));
        let made = scene.call("GenerateDataKeyPair", body.clone()).await.unwrap();
        assert_eq!((&made["KeyPairSpec"], &made["KeyId"]), (&json!(spec), &json!(arn(id))));
        assert!(!bytes(&made["PublicKey"]).is_empty());
        let open =
            json!({ "CiphertextBlob": made["PrivateKeyCiphertextBlob"], "EncryptionContext": { "a": "1" } });
        assert_eq!(scene.call("Decrypt", open).await.unwrap()["Plaintext"], made["PrivateKeyPlaintext"]);
        let hidden = scene.call("GenerateDataKeyPairWithoutPlaintext", body.clone()).await.unwrap();
        assert_eq!(hidden.get("PrivateKeyPlaintext"), None);
        let said = "The request would have succeeded, but the DryRun option is set.";
        for operation in ["GenerateDataKeyPair", "GenerateDataKeyPairWithoutPlaintext"] {
            let dry = with(&body, json!({ "DryRun": true }));
            refused(scene.call(operation, dry).await, "DryRunOperationException", Some(said));
        }
    }
    let sm2 = scene.call("GenerateDataKeyPair", with(&of_key, json!({ "KeyPairSpec": "SM2" }))).await;
    assert_eq!(sm2.unwrap_err().0, "UnsupportedOperationException");
    let recipient =
        json!({ "KeySpec": "AES_256", "Recipient": { "KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256" } });
    let attested = scene.call("GenerateDataKey", with(&of_key, recipient)).await;
    assert_eq!(attested.unwrap_err().0, "UnsupportedOperationException");
}

#[tokio::test]
async fn re_encrypting_changes_key_context_and_algorithm() {
    let mut scene = Scene::new().await;
    let (from, to) = (scene.home.aes().await.id, scene.home.aes().await.id);
    let rsa = scene.home.create(of_use(Algorithm::Rsa2048, &["encrypt", "decrypt"])).await.id;
    let encrypt =
        json!({ "KeyId": arn(from), "Plaintext": base64("text"), "EncryptionContext": { "a": "old" } });
    let blob = scene.call("Encrypt", encrypt).await.unwrap()["CiphertextBlob"].clone();
    let anew = json!({ "CiphertextBlob": blob, "SourceEncryptionContext": { "a": "old" },
        "DestinationKeyId": arn(to), "DestinationEncryptionContext": { "a": "new" } });
    let answer = scene.call("ReEncrypt", anew.clone()).await.unwrap();
    assert_eq!((&answer["SourceKeyId"], &answer["KeyId"]), (&json!(arn(from)), &json!(arn(to))));
    assert_eq!(answer["SourceEncryptionAlgorithm"], "SYMMETRIC_DEFAULT");
    assert_eq!(answer["DestinationEncryptionAlgorithm"], "SYMMETRIC_DEFAULT");
    assert_ne!(answer["SourceKeyMaterialId"], answer["DestinationKeyMaterialId"]);
    let open = json!({ "CiphertextBlob": answer["CiphertextBlob"], "EncryptionContext": { "a": "new" } });
    assert_eq!(bytes(&scene.call("Decrypt", open).await.unwrap()["Plaintext"]), b"text");

    let to_rsa = json!({ "CiphertextBlob": blob, "SourceEncryptionContext": { "a": "old" }, "DestinationKeyId": arn(rsa),
        "DestinationEncryptionAlgorithm": "RSAES_OAEP_SHA_256" });
    let second = scene.call("ReEncrypt", to_rsa).await.unwrap();
    assert_eq!(second.get("DestinationKeyMaterialId"), None);
    let back = json!({ "CiphertextBlob": second["CiphertextBlob"], "SourceKeyId": arn(rsa), "DestinationKeyId": arn(to),
        "SourceEncryptionAlgorithm": "RSAES_OAEP_SHA_256" });
    let third = scene.call("ReEncrypt", back.clone()).await.unwrap();
    let open = json!({ "CiphertextBlob": third["CiphertextBlob"] });
    assert_eq!(bytes(&scene.call("Decrypt", open).await.unwrap()["Plaintext"]), b"text");

    let incorrect = "The key ID in the request does not identify a CMK that can perform this operation.";
    let answer = scene.call("ReEncrypt", with(&anew, json!({ "SourceKeyId": arn(to) }))).await;
    refused(answer, "IncorrectKeyException", Some(incorrect));
    let answer = scene.call("ReEncrypt", with(&anew, json!({ "SourceEncryptionContext": {} }))).await;
    refused(answer, "InvalidCiphertextException", None);
    let nowhere = KeyId([9; 16]);
    let said = format!("Key '{}' does not exist", arn(nowhere));
    for member in ["SourceKeyId", "DestinationKeyId"] {
        let mut body = anew.clone();
        body[member] = json!(arn(nowhere));
        refused(scene.call("ReEncrypt", body).await, "NotFoundException", Some(&said));
    }
    let hmac = scene.home.create(new_key(Algorithm::HmacSha256)).await.id;
    let said = format!("{} key usage is GENERATE_VERIFY_MAC which is not valid for ReEncrypt.", arn(hmac));
    let answer = scene.call("ReEncrypt", with(&anew, json!({ "DestinationKeyId": arn(hmac) }))).await;
    refused(answer, "InvalidKeyUsageException", Some(&said));
    let said = "The request would have succeeded, but the DryRun option is set.";
    let dry = json!({ "SourceKeyId": arn(from), "DestinationKeyId": arn(to), "DryRun": true,
        "DryRunModifiers": ["IGNORE_CIPHERTEXT"] });
    refused(scene.call("ReEncrypt", dry).await, "DryRunOperationException", Some(said));
    let dry = json!({ "KeyId": arn(from), "DryRun": true, "DryRunModifiers": ["IGNORE_CIPHERTEXT"] });
    refused(scene.call("Decrypt", dry).await, "DryRunOperationException", Some(said));
    let wet = json!({ "KeyId": arn(from), "DryRunModifiers": ["IGNORE_CIPHERTEXT"] });
    assert_eq!(scene.call("Decrypt", wet).await.unwrap_err().0, "ValidationException");
}

#[tokio::test]
async fn secrets_that_two_parties_share() {
    let mut scene = Scene::new().await;
    let (ours, theirs) = (
        scene.home.create(of_use(Algorithm::EcP256, &["agree"])).await.id,
        scene.home.create(of_use(Algorithm::EcP256, &["agree"])).await.id,
    );
    let mut secrets = Vec::new();
    for (own, peer) in [(ours, theirs), (theirs, ours)] {
        let public = scene.call("GetPublicKey", json!({ "KeyId": arn(peer) })).await.unwrap();
        assert_eq!(
            (&public["KeySpec"], &public["KeyUsage"]),
            (&json!("ECC_NIST_P256"), &json!("KEY_AGREEMENT"))
        );
        assert_eq!(public["KeyAgreementAlgorithms"], json!(["ECDH"]));
        assert_eq!(public.get("SigningAlgorithms"), None);
        let body =
            json!({ "KeyId": arn(own), "KeyAgreementAlgorithm": "ECDH", "PublicKey": public["PublicKey"] });
        let answer = scene.call("DeriveSharedSecret", body).await.unwrap();
        assert_eq!((&answer["KeyOrigin"], &answer["KeyId"]), (&json!("AWS_KMS"), &json!(arn(own))));
        secrets.push(bytes(&answer["SharedSecret"]));
    }
    assert_eq!(secrets[0], secrets[1]);
    let body = json!({ "KeyId": arn(ours), "KeyAgreementAlgorithm": "ECDH", "PublicKey": base64("no key") });
    refused(scene.call("DeriveSharedSecret", body).await, "ValidationException", None);

    scene.home.manage(Ask::SuspendKey { key: by_id(ours), version: None }).await.unwrap();
    let said = format!("{} is disabled.", arn(ours));
    refused(
        scene.call("GetPublicKey", json!({ "KeyId": arn(ours) })).await,
        "DisabledException",
        Some(&said),
    );

    let kem = scene.home.create(new_key(Algorithm::MlKem768)).await.id;
    let of_key = json!({ "KeyId": arn(kem), "EncapsulationAlgorithm": "ML_KEM" });
    let made = scene.call("Encapsulate", of_key.clone()).await.unwrap();
    let back = with(&of_key, json!({ "SharedSecretCiphertextBlob": made["SharedSecretCiphertextBlob"] }));
    let answer = scene.call("Decapsulate", back.clone()).await.unwrap();
    assert_eq!((&answer["SharedSecret"], &answer["KeyId"]), (&made["SharedSecret"], &json!(arn(kem))));
    let short = with(&back, json!({ "SharedSecretCiphertextBlob": "AQ==" }));
    refused(scene.call("Decapsulate", short).await, "InvalidCiphertextException", None);
}

#[tokio::test]
async fn random_bytes_and_last_uses() {
    let mut scene = Scene::new().await;
    let answer = scene.call("GenerateRandom", json!({ "NumberOfBytes": 44 })).await.unwrap();
    assert_eq!(bytes(&answer["Plaintext"]).len(), 44);
    let said = "NumberOfBytes is required.";
    refused(scene.call("GenerateRandom", json!({})).await, "ValidationException", Some(said));
    let elsewhere = json!({ "NumberOfBytes": 1, "CustomKeyStoreId": "cks-1" });
    assert_eq!(scene.call("GenerateRandom", elsewhere).await.unwrap_err().0, "UnsupportedOperationException");

    let id = scene.home.aes().await.id;
    let ask = json!({ "KeyId": id.to_string() });
    let unused = scene.call("GetKeyLastUsage", ask.clone()).await.unwrap();
    assert_eq!((&unused["KeyId"], &unused["KeyLastUsage"]), (&json!(arn(id)), &json!({})));
    assert!(unused["TrackingStartDate"].as_f64().unwrap() >= unused["KeyCreationDate"].as_f64().unwrap());
    scene.call("GenerateDataKey", json!({ "KeyId": arn(id), "KeySpec": "AES_256" })).await.unwrap();
    let used = scene.call("GetKeyLastUsage", ask).await.unwrap();
    assert_eq!(used["KeyLastUsage"]["Operation"], "GenerateDataKey");
    assert_eq!(used["KeyLastUsage"]["KmsRequestId"].as_str().unwrap().len(), 36);
}
