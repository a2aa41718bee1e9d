//! Every method of the client against a real server. Runs where `KEYHEARTH_BIN` names one.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::io::Write;

use keyhearth_client::testing::Server;
use keyhearth_client::{
    Algorithm, Client, ImportMechanism, KeyRef, Object, Operation, Page, Pairs, Role, State, Time, Use,
    Within, answer, body, id,
};
use keyhearth_core::secret::SecretName;
use rcgen::{CertificateParams, KeyPair};
use zeroize::Zeroizing;

/// A server, or a word on why there is none.
fn server() -> Option<Server> {
    if std::env::var_os("KEYHEARTH_BIN").is_none() {
        // Past the test harness, which keeps what a test that passes prints.
        std::io::stderr().write_all(b"skipped: KEYHEARTH_BIN names no server\n").unwrap();
        return None;
    }
    Some(Server::start().unwrap())
}

/// A certificate request and its private key, both PEM.
fn request() -> (String, String) {
    let key = KeyPair::generate().unwrap();
    (CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap(), key.serialize_pem())
}

async fn create(client: &Client, key: impl Into<body::NewKey>) -> String {
    client.create_key(&key.into()).await.unwrap().id.to_string()
}

async fn issue(client: &Client, name: &str, roles: &[Role]) -> (answer::IssuedIdentity, String) {
    let (request, private) = request();
    let body = body::NewIdentity {
        name: name.parse::<id::Name>().unwrap().into(),
        roles: roles.iter().map(|&role| role.into()).collect(),
        request: request.into(),
        days: None,
    };
    (client.issue_identity(&body).await.unwrap(), private)
}

fn states(key: &answer::Key) -> Vec<State> {
    key.versions.iter().map(|version| *version.state).collect()
}

fn of(version: u32) -> body::OfVersion {
    body::OfVersion { version: body::Number::new(version) }
}

#[test]
fn every_method_is_called_here() {
    let here = include_str!("live.rs");
    for operation in Operation::ALL.iter().filter(|operation| !operation.info().path.is_empty()) {
        let method = if *operation == Operation::Unwrap {
            "unwrap_key".to_owned()
        } else {
            operation.name().replace('-', "_")
        };
        assert!(here.contains(&format!(".{method}(")), "{method}");
    }
}

#[tokio::test]
async fn keys_and_their_life() {
    let Some(server) = server() else { return };
    let client = server.client().because("a test");
    let key = create(&client, Algorithm::Aes256).await;
    let described = client.describe_key(&key).await.unwrap();
    assert_eq!((*described.algorithm, described.primary), (Algorithm::Aes256, 1));
    let change = body::KeyChange { description: Some("d".to_owned().into()), ..Default::default() };
    assert_eq!(client.update_key(&key, &change).await.unwrap().description, "d");
    assert_eq!(client.list_keys(&Page::default()).await.unwrap().keys.len(), 1);

    assert_eq!(client.set_alias(&key, "team/db").await.unwrap().aliases.len(), 1);
    let aliases = client.list_aliases(Some(&key), &Page::default()).await.unwrap().aliases;
    assert_eq!(aliases[0].key.to_string(), key);
    assert_eq!(client.move_alias(&key, "team/db").await.unwrap().aliases.len(), 1);
    assert_eq!(client.delete_alias("team/db", "team/db").await.unwrap().aliases, []);

    assert_eq!(client.rotate_key(&key).await.unwrap().primary, 2);
    let second = body::KeyOrVersion { version: body::Number::new(2) };
    let suspended = client.suspend_key(&key, &second).await.unwrap();
    assert_eq!(states(&suspended)[1], State::Suspended);
    assert_eq!(states(&client.resume_key(&key, &second).await.unwrap())[1], State::Active);
    assert!(client.suspend_key(&key, &body::KeyOrVersion::default()).await.unwrap().suspended.is_some());
    assert_eq!(client.resume_key(&key, &body::KeyOrVersion::default()).await.unwrap().suspended, None);
    assert_eq!(states(&client.deactivate_key(&key, &of(2)).await.unwrap())[1], State::Deactivated);
    assert_eq!(states(&client.compromise_key(&key, &of(1)).await.unwrap())[0], State::Compromised);
    let destruction = body::Destruction { version: Within::new(1).unwrap(), confirm: described.id };
    client.destroy_key(&key, &destruction).await.unwrap();
    assert!(client.describe_key(&key).await.unwrap().versions[0].destroyed.is_some());
    let scheduled = client.schedule_destroy(&key, &body::Schedule::default()).await.unwrap();
    assert!(scheduled.destroy_at.is_some());
    assert!(client.cancel_destroy(&key, &body::Cancellation::default()).await.unwrap().destroy_at.is_none());

    let far = Time::from_unix_ms(4_000_000_000_000);
    let later = body::NewKey { activation: Some(far.into()), ..Algorithm::Aes256.into() };
    let later = create(&client, later).await;
    let activated = client.activate_key(&later, &body::OfVersion::default()).await.unwrap();
    assert_eq!(states(&activated), [State::Active]);

    let exportable = body::NewKey { exportable: Some(true), ..Algorithm::HmacSha256.into() };
    let (from, to) = (create(&client, exportable).await, {
        let import = body::NewKey { import: Some(true), ..Algorithm::HmacSha256.into() };
        create(&client, import).await
    });
    let mechanism = ImportMechanism::RsaOaepSha256.into();
    let terms =
        client.import_parameters(&to, &body::ImportTerms { mechanism, wrapping: None }).await.unwrap();
    let recipient = terms.public.to_vec().into();
    let body = body::Export { version: None, mechanism: terms.mechanism, recipient };
    let wrapped = client.export_key(&from, &body).await.unwrap().wrapped.to_vec();
    client.import_key(&to, &wrapped.into()).await.unwrap();
    assert!(!client.unload_key(&to, &body::OfVersion::default()).await.unwrap().versions[0].has_material);
    let wrapped = client.export_key(&from, &body).await.unwrap().wrapped.to_vec();
    client.import_key(&to, &wrapped.into()).await.unwrap();
    let body = body::ComputeMac { mechanism: None, message: b"the same"[..].into() };
    assert_eq!(client.mac(&from, &body).await.unwrap().mac, client.mac(&to, &body).await.unwrap().mac);
}

#[tokio::test]
async fn uses_of_keys() {
    let Some(server) = server() else { return };
    let client = server.client();
    let aes = create(&client, Algorithm::Aes256).await;
    let context = Some(Pairs::from_iter([("table", "users")]));
    let body = body::Encrypt { mechanism: None, context: context.clone(), plaintext: b"hello"[..].into() };
    let encrypted = client.encrypt(&aes, &body).await.unwrap();
    let source = Some(aes.parse::<KeyRef>().unwrap().into());
    let ciphertext = encrypted.ciphertext.to_vec().into();
    let body = body::Rewrap { source, context: context.clone(), ciphertext, ..body::Rewrap::default() };
    let other = create(&client, Algorithm::Aes256).await;
    let rewrapped = client.rewrap(&other, &body).await.unwrap();
    let decrypt = |context, ciphertext: &[u8]| body::Decrypt {
        mechanism: None,
        version: None,
        iv: None,
        context,
        ciphertext: ciphertext.into(),
        lease_seconds: None,
    };
    let decrypted = client.decrypt(&other, &decrypt(context, &rewrapped.ciphertext)).await.unwrap();
    assert_eq!(&decrypted.plaintext[..], b"hello");
    assert_eq!(*client.last_use(&other).await.unwrap().operation.unwrap(), Operation::Decrypt);
    let without = client.decrypt(&other, &decrypt(None, &rewrapped.ciphertext)).await.unwrap_err();
    assert_eq!(without.code(), Some("not_authentic"));
    let made = client.data_key(&aes, &body::MakeDataKey::default()).await.unwrap();
    let recovered = client.decrypt(&aes, &decrypt(None, &made.ciphertext)).await.unwrap();
    assert_eq!(made.plaintext.unwrap(), recovered.plaintext);
    let hidden = client.data_key_without_plaintext(&aes, &body::MakeDataKey::default()).await.unwrap();
    assert!(hidden.plaintext.is_none());
    let body = body::MakeDataKeyPair { algorithm: Algorithm::EcP256.into(), context: None };
    let made = client.data_key_pair(&aes, &body).await.unwrap();
    let recovered = client.decrypt(&aes, &decrypt(None, &made.ciphertext)).await.unwrap();
    assert_eq!(made.private.unwrap(), recovered.plaintext);
    assert!(client.data_key_pair_without_plaintext(&aes, &body).await.unwrap().private.is_none());

    let signing = create(&client, Algorithm::EcP256).await;
    let message = || Some(b"message"[..].into());
    let body = body::Sign { message: message(), ..Default::default() };
    let signature = client.sign(&signing, &body).await.unwrap().signature.to_vec().into();
    let body = body::Verify { mechanism: None, version: None, message: message(), digest: None, signature };
    assert!(client.verify(&signing, &body).await.unwrap().valid);
    let wrong = body::Verify { message: Some(b"another"[..].into()), ..body };
    assert!(!client.verify(&signing, &wrong).await.unwrap().valid);

    let hmac = create(&client, Algorithm::HmacSha256).await;
    let body = body::ComputeMac { mechanism: None, message: b"message"[..].into() };
    let mac = client.mac(&hmac, &body).await.unwrap().mac.to_vec().into();
    let body = body::VerifyMac { mechanism: None, version: None, message: body.message, mac };
    assert!(client.verify_mac(&hmac, &body).await.unwrap().valid);

    let usage = Some(vec![Use("wrap").into(), Use("unwrap").into()]);
    let kek = create(&client, body::NewKey { usage, ..Algorithm::Aes256.into() }).await;
    let body = body::Wrap { mechanism: None, material: [7; 32][..].into() };
    let wrapped = client.wrap(&kek, &body).await.unwrap().wrapped.to_vec().into();
    let body = body::Unwrap { mechanism: None, version: None, wrapped };
    assert_eq!(client.unwrap_key(&kek, &body).await.unwrap().material[..], [7; 32]);

    let ours = create(&client, Algorithm::X25519).await;
    let theirs = create(&client, Algorithm::X25519).await;
    let mut secrets = Vec::new();
    for (own, peer) in [(&ours, &theirs), (&theirs, &ours)] {
        let peer = client.public_key(peer, Some(1)).await.unwrap().der.to_vec().into();
        secrets.push(client.agree(own, &body::Agree { version: None, peer }).await.unwrap().secret);
    }
    assert_eq!(secrets[0], secrets[1]);

    let usage = Some(vec![Use("exchange").into()]);
    let holder = create(&client, body::NewKey { usage, ..Algorithm::EcP521.into() }).await;
    let own = client.public_key(&holder, None).await.unwrap().der;
    let body = body::Exchange { version: None, peer: own.to_vec().into() };
    assert_eq!(client.exchange(&holder, &body).await.unwrap().point.len(), 133);

    let kem = create(&client, Algorithm::MlKem768).await;
    let made = client.encapsulate(&kem).await.unwrap();
    let body = body::Decapsulate { version: None, encapsulated: made.encapsulated.to_vec().into() };
    assert_eq!(client.decapsulate(&kem, &body).await.unwrap().secret, made.secret);

    let body = body::MakeRandom { bytes: Within::new(64).unwrap() };
    assert_eq!(client.random(&body).await.unwrap().bytes.len(), 64);
}

#[tokio::test]
async fn secrets_that_are_kept() {
    let Some(server) = server() else { return };
    let client = server.client().because("a test");
    let key = create(&client, Algorithm::Aes256).await;
    let name = || "restic".parse::<SecretName>().unwrap().into();
    let value = Some(b"a password".to_vec().into());
    let new = body::KeepSecret { name: name(), value, generate: None, replace: None };
    let kept = client.keep_secret(&key, &new).await.unwrap();
    assert_eq!((kept.key.to_string(), kept.version), (key.clone(), 1));
    let of = body::OfSecret { name: name() };
    let read = body::ReadSecret { name: name(), lease_seconds: None };
    assert_eq!(*client.read_secret(&key, &read).await.unwrap().value, *b"a password");
    assert_eq!(client.list_secrets(&Page::default()).await.unwrap().secrets[0].name, kept.name);
    client.shred_secret(&key, &of).await.unwrap();
    assert!(client.read_secret(&key, &read).await.is_err());
}

#[tokio::test]
async fn machines_that_boot() {
    let Some(server) = server() else { return };
    let client = server.client().because("a test");
    let usage = Some(vec![Use("release").into()]);
    let key = create(&client, body::NewKey { usage, ..Algorithm::HmacSha256.into() }).await;
    let new = body::NewMachine {
        name: "web-1".parse::<id::Name>().unwrap().into(),
        key: key.parse::<KeyRef>().unwrap().into(),
        volumes: vec!["root".parse::<id::Name>().unwrap().into()],
        reference: None,
        clones: None,
        recovery: None,
    };
    let machine = client.enroll_machine(&new).await.unwrap();
    let of = body::VolumeOf { machine: machine.id.clone(), volume: machine.volumes[0].name.clone() };
    let secret = client.volume_secret(&key, &of).await.unwrap();
    assert_eq!((secret.generation, secret.secret.len()), (1, 32));
    assert_ne!(client.recovery_secret(&key, &of).await.unwrap().secret, secret.secret);
    let prepared = body::PreparedVolume {
        name: of.volume.clone(),
        generation: Within::new(1).unwrap(),
        header: keyhearth_core::principal::Fingerprint([1; 32]).into(),
    };
    let change = body::MachineChange { volumes: Some(vec![prepared]), ..body::MachineChange::default() };
    assert_eq!(client.update_machine(*machine.id, &change).await.unwrap().volumes[0].generation, 1);
    assert_eq!(client.describe_machine(*machine.id).await.unwrap().boots, 0);
    assert_eq!(client.list_machines(&Page::default()).await.unwrap().machines.len(), 1);
    assert!(client.list_approvals(&Page::default()).await.unwrap().approvals.is_empty());
    let none =
        client.decide_approval(id::RequestId([0; 16]), &body::ApprovalDecision { approve: true }).await;
    assert!(none.is_err());
    let reject = body::CandidateDecision { accept: false };
    assert!(client.decide_candidate(*machine.id, id::RequestId([0; 16]), &reject).await.is_err());
}

#[tokio::test]
async fn who_may_do_what() {
    let Some(server) = server() else { return };
    let client = server.client();
    let key = create(&client, Algorithm::Aes256).await;
    let me = client.who_am_i().await.unwrap();
    let (issued, private) = issue(&client, "app", &[]).await;
    let app = issued.identity.id.clone();
    assert_eq!(client.list_identities(&Page::default()).await.unwrap().identities.len(), 2);

    let identity = (issued.certificate.as_bytes(), private.as_bytes());
    let as_app = Client::new(server.url(), issued.ca.as_bytes(), Some(identity)).unwrap();
    assert_eq!(as_app.describe_key(&key).await.unwrap_err().code(), Some("denied"));
    let body = body::Roles { roles: vec![Role::KeyUser.into()] };
    assert_eq!(client.set_roles(*app, &body).await.unwrap().roles, body.roles);
    as_app.describe_key(&key).await.unwrap();
    let body = body::Renewal { request: request().0.into(), days: None };
    assert_eq!(as_app.renew_identity(&body).await.unwrap().identity.certificates.len(), 2);
    let foreign = CertificateParams::default().self_signed(&KeyPair::generate().unwrap()).unwrap().pem();
    let body = body::Certificate { certificate: foreign.into() };
    assert_eq!(client.bind_certificate(*app, &body).await.unwrap().certificates.len(), 3);

    let body =
        body::NewGrant { retiree: Some(app.clone()), ..body::NewGrant::new(*app, [Operation::Decrypt]) };
    let grant = client.create_grant(&key, &body).await.unwrap().id;
    assert_eq!(client.list_grants(&key, &Page::default()).await.unwrap().grants[0].grantee, app);
    let retirable = client.list_retirable_grants(*app, &Page::default()).await.unwrap();
    assert_eq!(retirable.grants[0].id, grant);
    let abilities = client.who_can(&key).await.unwrap().abilities;
    assert!(abilities.iter().any(|ability| ability.identity == app));
    client.revoke_grant(&key, *grant).await.unwrap();

    let policy: id::Name = "closed".parse().unwrap();
    let text = "forbid (principal, action == Keyhearth::Action::\"encrypt\", resource is Keyhearth::Key);";
    let draft = body::PolicyDraft { text: Some(text.to_owned().into()) };
    let differences = client.diff_policy(&policy, &draft).await.unwrap().differences;
    assert!(differences.iter().any(|one| one.identity == me.identity && !one.gains));
    client.put_policy(&policy, &body::Policy { text: text.to_owned().into() }).await.unwrap();
    assert_eq!(client.list_policies().await.unwrap().policies[0].text, text);
    let question = body::Question {
        identity: me.identity,
        operation: Operation::Encrypt.into(),
        key: Some(key.parse::<KeyRef>().unwrap().into()),
        context: None,
        lease_seconds: None,
    };
    assert!(!client.test_policy(&question).await.unwrap().allowed);
    client.delete_policy(&policy).await.unwrap();
    assert!(client.test_policy(&question).await.unwrap().allowed);

    let text = r#"permit (principal, action, resource == Keyhearth::Key::"this");"#.to_owned();
    let own = body::KeyPolicy { text: Some(text.into()), closed: Some(true) };
    client.put_key_policy(&key, &own).await.unwrap();
    let own = client.key_policy(&key).await.unwrap();
    assert!(own.closed && own.text.unwrap().contains(&key));
    client.put_key_policy(&key, &body::KeyPolicy::default()).await.unwrap();
    assert_eq!(client.key_policy(&key).await.unwrap().text, None);

    let body = body::NewAccessKey { identity: app.clone(), id: None, secret: None, minutes: None };
    let access_key = client.create_access_key(&body).await.unwrap().id;
    client.disable_access_key(&access_key).await.unwrap();
    let access_keys = client.list_access_keys(&Page::default()).await.unwrap().access_keys;
    let disabled = access_keys.iter().find(|one| one.id == access_key).unwrap();
    assert!(disabled.disabled.is_some());
    assert!(client.revoke_identity(*app).await.unwrap().revoked.is_some());
    assert!(as_app.who_am_i().await.is_err());
}

#[tokio::test]
async fn log_and_deployment() {
    let Some(server) = server() else { return };
    let (client, operator) = (server.client(), server.operator());
    create(&client, Algorithm::Aes256).await;
    let entries = client.list_entries(0, Some(1000)).await.unwrap().entries;
    let proof = client.prove_entry(entries[0].index, None).await.unwrap();
    assert_eq!(proof.entry, entries[0].bytes);
    assert!(client.checkpoint().await.unwrap().checkpoint.starts_with("keyhearth.dev/log\n"));
    let (issued, private) = issue(&operator, "auditor", &[Role::Auditor]).await;
    let identity = (issued.certificate.as_bytes(), private.as_bytes());
    let auditor = Client::new(server.url(), issued.ca.as_bytes(), Some(identity)).unwrap();
    assert!(auditor.export_log("checkpoint").await.unwrap().starts_with(b"keyhearth.dev/log\n"));

    let name = |name: &str| name.parse::<id::Name>().unwrap().into();
    let body = body::NewTenant { name: name("second"), admin: name("admin"), request: request().0.into() };
    let tenant = *operator.create_tenant(&body).await.unwrap().tenant.id;
    assert!(operator.list_tenants().await.unwrap().tenants.len() >= 2);
    operator.disable_tenant(tenant).await.unwrap();
    operator.enable_tenant(tenant).await.unwrap();
    let dev = *client.who_am_i().await.unwrap().tenant;
    assert!(operator.rotate_tenant_key(dev).await.unwrap().rows > 0);
    assert!(operator.rotate_root().await.unwrap().rows > 0);
    let cancelled = body::Rekey::Passphrase(Zeroizing::new(b"another passphrase".to_vec()).into());
    operator.rekey(&cancelled).await.unwrap();
    operator.rekey(&body::Rekey::Cancel(Object(body::Nothing {}))).await.unwrap();

    assert!(!operator.status().await.unwrap().sealed);
    operator.seal().await.unwrap();
    assert_eq!(operator.status().await.unwrap_err().code(), Some("sealed"));
    let passphrase = std::fs::read(server.data().join("dev.passphrase")).unwrap();
    let opened = client.unseal(&body::Unseal::Passphrase(Zeroizing::new(passphrase).into())).await.unwrap();
    assert!(!opened.sealed);
    assert_eq!(client.list_keys(&Page::default()).await.unwrap().keys.len(), 1);
}

#[test]
fn nothing_is_left_even_after_a_panic() {
    let Some(server) = server() else { return };
    let (data, url) = (server.data(), server.url().to_owned());
    assert!(data.join("dev.env").exists());
    let authority = url.strip_prefix("https://").unwrap();
    std::net::TcpStream::connect(authority).unwrap();
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _server = server;
        panic!("on purpose");
    }))
    .unwrap_err();
    assert!(!data.parent().unwrap().exists());
    assert!(std::net::TcpStream::connect(authority).is_err());
}
