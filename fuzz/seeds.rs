//! Writes the inputs that fuzzing starts from into `seeds/`, for formats that nobody writes by hand.
//!
//! Run it after a format has changed: `scripts/fuzz --seeds`. The private keys among them are made here and used
//! nowhere else.

use std::collections::BTreeMap;
use std::fs;
use std::io::Result;
use std::net::Ipv4Addr;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keyhearth::config::Config;
use keyhearth::identity::{Ca, Subject, generate_key_and_csr};
use keyhearth::policy::{GUARDS, ROLES};
use keyhearth::seal::{Passphrase, Quorum, SealChoice, create};
use keyhearth_attest::eventlog::BootPhase;
use keyhearth_attest::snp::{Generation, Signer};
use keyhearth_attest::tpm::Evidence;
use keyhearth_core::entry::{self, Entry};
use keyhearth_core::grant::Grant;
use keyhearth_core::id::{DeploymentId, GrantId, KeyId, PrincipalId, RequestId, TenantId};
use keyhearth_core::key::{Cryptoperiod, Key, Material, Origin, Rotation, Usage, Version};
use keyhearth_core::log::{Checkpoint, EntryProof, Tree, VerifierKey, WitnessRequest, leaf_hash, push_entry};
use keyhearth_core::operation::Operation;
use keyhearth_core::policy::{KeyPolicy, Policy};
use keyhearth_core::principal::{AccessKey, Fingerprint, Principal, Role, Roles};
use keyhearth_core::secret::KeptSecret;
use keyhearth_core::state::{State, Switches};
use keyhearth_core::tenant::Tenant;
use keyhearth_core::time::Time;
use keyhearth_crypto::algorithm::{Algorithm, Mechanism};
use keyhearth_crypto::digest::sha256;
use keyhearth_crypto::hpke::{self, Suite};
use keyhearth_crypto::key;
use keyhearth_crypto::kh1::{self, Context};
use keyhearth_crypto::note::NoteKey;
use keyhearth_crypto::passphrase::Params;
use keyhearth_crypto::secret::SecretBytes;
use keyhearth_crypto::shamir;
use keyhearth_files::age::{self, FileKey, Recipient};
use keyhearth_files::esdk::{self, Context as Pairs, DataKey, EncryptedDataKey};
use keyhearth_files::held::{FileId, Kept, Wrapped};
use keyhearth_machines::{clouds, images, snp, tdx, tpm};
use keyhearth_proto::aws::sigv4::{Message, Scope, SigningKey, authorization};
use keyhearth_proto::aws::{self, Field, Place, coverage};
use keyhearth_proto::tang::Point;
// Instrumented libraries need the fuzzer's runtime in every program.
use libfuzzer_sys as _;
use serde_json::{Map, Value, json};

const TENANT: TenantId = TenantId([2; 16]);
const PRINCIPAL: PrincipalId = PrincipalId([3; 16]);
const KEY: KeyId = KeyId([5; 16]);
const NOW: Time = Time::from_unix_ms(1_800_000_000_000);

fn main() -> Result<()> {
    crypto()?;
    log()?;
    records()?;
    seal_records()?;
    certificates()?;
    policies()?;
    aws_policies()?;
    write("config", "reference", Config::reference())?;
    signatures()?;
    requests()?;
    tang()?;
    boot()?;
    aws_requests()?;
    reports()?;
    headers()?;
    quotes()?;
    quotes_of_tdx()?;
    documents_of_clouds()?;
    files_to_measure()?;
    sealed_files()
}

fn write(target: &str, name: &str, bytes: impl AsRef<[u8]>) -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join(name), bytes)
}

fn crypto() -> Result<()> {
    let message = kh1::seal(&[9; 32], KEY.0, 1, &Context::empty(), b"seed").expect("it is small");
    write("kh1", "message", message)?;

    let secret = SecretBytes::copy_from(&[4; 32]).expect("locked memory");
    let shares = shamir::split(&secret, 2, 3).expect("2 of 3");
    let lines: Vec<_> = shares.iter().map(shamir::Share::to_text).collect();
    write("shares", "one", &*lines[0])?;
    write("shares", "all", lines.iter().map(|line| line.as_str()).collect::<Vec<_>>().join("\n"))?;

    for suite in [Suite::X25519, Suite::X25519MlKem768] {
        let recipient = hpke::generate(suite).expect("randomness");
        let message = hpke::seal(suite, &recipient.public, b"fuzz", b"", b"seed").expect("a public key");
        write("hpke", &format!("message-{}", recipient.public.len()), message)?;
        write("hpke", &format!("public-{}", recipient.public.len()), recipient.public)?;
    }

    for (choice, algorithm) in (0_u8..).zip(Algorithm::ALL) {
        let material = key::generate(*algorithm).expect("randomness");
        let chosen = |bytes: &[u8]| [&[choice], bytes].concat();
        write("keys", algorithm.name(), chosen(material.expose()))?;
        let loaded = key::Key::load(*algorithm, &material).expect("what was generated loads");
        if let Some(der) = loaded.public_key_der() {
            write("keys", &format!("{}-public", algorithm.name()), chosen(der))?;
        }
    }
    Ok(())
}

fn tang() -> Result<()> {
    let material = key::generate(Algorithm::EcP521).expect("randomness");
    let key = key::Key::load(Algorithm::EcP521, &material).expect("what was generated loads");
    let point = Point::of_public_key(key.public_key_der().expect("a pair")).expect("on P-521");
    let body = String::from_utf8(point.reply()).expect("JSON");
    write("tang", "recovery", format!("POST /db1/rec/{}\n\n{body}", point.thumbprints()))?;
    write("tang", "advertisement", "GET /adv/\n\n")?;
    let signature =
        key.sign(Mechanism::EcdsaSha512, key::Input::Message(b"seed")).expect("it is a signing key");
    write("tang", "signature", [&b"GET /db1/adv\n\n"[..], &signature].concat())
}

/// Messages of boot release, each behind the number that its target knows it by.
fn boot() -> Result<()> {
    let named = |kind: u8, name: &str, message: Value| {
        write("boot", name, [&[kind][..], message.to_string().as_bytes()].concat())
    };
    let base64 = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
    let (session, mac) = (base64(&[1; 16]), base64(&[2; 32]));
    let (machine, request) = (PRINCIPAL.to_string(), RequestId([4; 16]).to_string());
    named(0, "challenge", json!({ "machine": machine, "tee": "tpm", "volumes": ["root", "data"] }))?;
    let attest = json!({
        "session": session, "ephemeral": base64(&[5; 1216]), "headers": [mac], "boot_counter": 7,
        "evidence": base64(&[6; 100]), "endorsements": [base64(&[7; 100])],
        "continues": { "session": session, "mac": mac },
        "candidate": {
            "claims": [{ "claim": "pcrs.11", "value": "00ff" }, { "claim": "measurement", "value": "aa" }],
            "dry_run": false,
        },
    });
    named(1, "attest", attest)?;
    let confirm =
        json!({ "machine": machine, "session": session, "opened": ["root"], "token": mac, "mac": mac });
    named(2, "confirm", confirm)?;
    let server = DeploymentId([8; 16]).to_string();
    named(
        3,
        "challenged",
        json!({ "session": session, "nonce": mac, "server": server, "expires_in_s": 120 }),
    )?;
    let sealed = base64(&[9; 1184]);
    let release = json!({
        "volumes": [{ "volume": "root", "generation": 1, "sealed": sealed }], "confirm": sealed, "not_after_s": 1,
        "lease_s": 120, "outlook": { "candidate": request, "lacks": ["pcrs.11"], "unnamed": ["pcrs.4"] }, "signature": base64(&[10; 64]),
    });
    named(4, "release", release)?;
    named(5, "pending", json!({ "approval": request, "poll_after_s": 10 }))?;
    named(6, "refused", json!({ "code": "policy", "text": "No.", "audit": request }))?;
    named(7, "confirmed", json!({ "token": mac, "lease_s": 120 }))?;
    let clone = json!({
        "session": session, "ephemeral": base64(&[5; 1216]), "headers": [mac], "boot_counter": 0, "clone": true,
    });
    named(1, "attest-clone", clone)?;
    let identity = json!({ "machine": machine, "sealed": sealed, "recovery": sealed });
    let release = json!({
        "volumes": [{ "volume": "root", "generation": 1, "sealed": sealed }], "confirm": sealed, "not_after_s": 1,
        "lease_s": 120, "identity": identity, "signature": base64(&[10; 64]),
    });
    named(4, "release-clone", release)?;
    named(8, "settle", json!({ "machine": machine, "session": session, "header": mac, "mac": mac }))?;
    named(9, "settled", json!({}))
}

fn log() -> Result<()> {
    let key = NoteKey::from_seed(&[3; 32]).expect("a seed of 32 bytes");
    let origin: keyhearth_core::log::KeyName = "fuzz.example/log".parse().expect("a name");
    let mut tree = Tree::empty();
    let mut bundle = Vec::new();
    for index in 0..3_u64 {
        tree.append(leaf_hash(&index.to_be_bytes()), &mut |_, _| ());
        push_entry(&mut bundle, &index.to_be_bytes()).expect("it is small");
    }
    let checkpoint = Checkpoint::new(origin.clone(), tree.size(), tree.root());
    write("log_texts", "checkpoint", checkpoint.to_string())?;
    let checkpoint = checkpoint.sign(&key);
    write("log_texts", "signed", checkpoint.to_string())?;
    let cosigned = checkpoint.cosign("fuzz.example/witness".parse().expect("a name"), &key, 1_800_000_000);
    write("log_texts", "cosigned", format!("{checkpoint}{cosigned}"))?;
    write("log_texts", "verifier", VerifierKey::log(origin, key.public()).to_string())?;
    let proof = vec![[7; 32]; 2];
    let entry_proof = EntryProof { index: 2, path: proof.clone(), checkpoint: checkpoint.clone() };
    write("log_texts", "proof", entry_proof.to_string())?;
    write("log_texts", "witness", WitnessRequest { old_size: 2, proof, checkpoint }.to_string())?;
    write("log_texts", "bundle", bundle)?;
    (0..6).try_for_each(|file| write("log_export", &format!("file-{file}"), [file, 0, 40, 1, b'x']))
}

fn records() -> Result<()> {
    let named = |kind: u8, name: &str, bytes: Vec<u8>| write("records", name, [vec![kind], bytes].concat());
    let cbor = "writing to memory does not fail";
    named(0, "entry", entry().to_bytes())?;
    named(1, "key", minicbor::to_vec(key_record()).expect(cbor))?;
    let material = Material { tenant_key: 1, wrapped: vec![6; 157], public: Some(vec![4; 65]) };
    named(2, "material", minicbor::to_vec(material).expect(cbor))?;
    let grant = Grant {
        id: GrantId([8; 16]),
        key: KEY,
        grantee: PRINCIPAL,
        grantor: PRINCIPAL,
        operations: vec![32, 33],
        context: BTreeMap::from([("dept".into(), "hr".into())]),
        expires: Some(NOW),
        delegable: true,
        parent: Some(GrantId([9; 16])),
        depth: 1,
        created: NOW,
        name: Some("payroll".into()),
        exact_context: Some(BTreeMap::from([("dept".into(), "hr".into())])),
        retiree: Some(PRINCIPAL),
    };
    named(3, "grant", minicbor::to_vec(grant).expect(cbor))?;
    let principal = Principal {
        id: PRINCIPAL,
        tenant: TENANT,
        name: "web-1".parse().expect("a name"),
        roles: Roles::new([Role::KeyUser], TENANT).expect("one role"),
        created: NOW,
        revoked: Some(NOW),
        certificates: vec![Fingerprint([1; 32])],
    };
    named(4, "principal", minicbor::to_vec(principal).expect(cbor))?;
    let access_key = AccessKey {
        id: "AKIAIOSFODNN7EXAMPLE".into(),
        principal: PRINCIPAL,
        wrapped_secret: vec![6; 157],
        created: NOW,
        disabled: None,
        tenant_key_version: 1,
        end: Some(NOW),
    };
    named(5, "access-key", minicbor::to_vec(access_key).expect(cbor))?;
    let policy = Policy { name: "p".parse().expect("a name"), text: "permit".into(), activated: NOW };
    named(6, "policy", minicbor::to_vec(policy).expect(cbor))?;
    let tenant = Tenant {
        id: TENANT,
        name: "acme".parse().expect("a name"),
        created: NOW,
        disabled: None,
        tenant_key: 1,
    };
    named(7, "tenant", minicbor::to_vec(tenant).expect(cbor))?;
    let secret = KeptSecret { key: KEY, version: 1, created: NOW, ciphertext: vec![6; 121] };
    named(8, "secret", minicbor::to_vec(secret).expect(cbor))
}

fn entry() -> Entry {
    Entry {
        time: NOW,
        incarnation: 3,
        request: RequestId([1; 16]),
        tenant: TENANT,
        actor: Some(PRINCIPAL),
        actor_name: Some("web-1".parse().expect("a name")),
        certificate: Some([4; 8]),
        address: Some(Ipv4Addr::LOCALHOST.octets().to_vec()),
        operation: Operation::Encrypt.info().code,
        key: Some(KEY),
        version: Some(1),
        result: entry::Result::Refused,
        error: Some("wrong-state".into()),
        by: vec!["role:key-user".into()],
        context: Some([6; 16]),
        reason: Some("a reason".into()),
        detail: Some("a detail".into()),
        access_key: Some("AKIAIOSFODNN7EXAMPLE".into()),
        lease_seconds: Some(28_800),
    }
}

fn key_record() -> Key {
    let version = Version {
        number: 1,
        state: State::Active,
        created: NOW,
        activation: Some(NOW),
        protect_end: Some(NOW),
        process_end: Some(NOW),
        compromised: None,
        destroyed: None,
        has_material: true,
        random_iv_uses: 7,
        automatic: true,
        expires: Some(NOW),
        check: Some([9; 32]),
        description: Some("ours".into()),
    };
    Key {
        id: KEY,
        tenant: TENANT,
        algorithm: Algorithm::Aes256,
        usage: Usage::usual(Algorithm::Aes256),
        exportable: true,
        origin: Origin::Generated,
        created: NOW,
        creator: PRINCIPAL,
        description: "a key".into(),
        tags: BTreeMap::from([("env".into(), "prod".into())]),
        primary: 1,
        versions: vec![version],
        switches: Switches::default(),
        cryptoperiod: Cryptoperiod { protect_days: Some(365), process_days: Some(730) },
        rotation: Some(Rotation { every_days: 90, next: NOW }),
        destroy_at: Some(NOW),
        aliases: vec!["alias-of-it".parse().expect("an alias")],
        suspended: Some(NOW),
        policy: Some(KeyPolicy { document: Some("{}".into()), closed: true }),
    }
}

fn seal_records() -> Result<()> {
    let passphrase = Some(Passphrase { text: b"correct horse battery", params: Params::MIN });
    let quorum = Some(Quorum { threshold: 2, count: 3 });
    for (name, choice) in [
        ("passphrase", SealChoice { passphrase, quorum: None }),
        ("shares", SealChoice { passphrase: None, quorum }),
        ("both", SealChoice { passphrase, quorum }),
    ] {
        let created = create(DeploymentId([1; 16]), &choice).expect("a sound choice");
        write("seal_record", name, created.record.to_bytes())?;
    }
    Ok(())
}

fn certificates() -> Result<()> {
    let key = key::generate(Algorithm::EcP256).expect("randomness");
    let ca = Ca::create(&key, DeploymentId([1; 16]), NOW).expect("a sound key");
    let (_, request) = generate_key_and_csr("seed").expect("randomness");
    let name = "seed".parse().expect("a name");
    let subject = Subject { tenant: TENANT, principal: PRINCIPAL, name: &name };
    let issued = ca.sign_client(&request, subject, 1, NOW).expect("our own request");
    write("certificates", "ca", ca.certificate())?;
    write("certificates", "client", issued.pem)?;
    write("certificates", "request", request)
}

/// The shipped policies, and one that uses what those do not.
fn policies() -> Result<()> {
    for (name, text) in ROLES.iter().chain(GUARDS) {
        write("policy", &name.replace(':', "-"), text)?;
    }
    let own = format!(
        r#"@id("own")
forbid (
  principal == Keyhearth::Principal::"{PRINCIPAL}",
  action in [Keyhearth::Action::"encrypt", Keyhearth::Action::"create-key"],
  resource
) when {{
  context.now > datetime("2026-01-01") && !context.ip.isInRange(ip("10.0.0.0/8")) || 1 + 2 * 3 < 7
}} unless {{ if context.ip.isLoopback() then true else ["a", "b"].contains("a") }};"#
    );
    write("policy", "own", own)
}

fn aws_policies() -> Result<()> {
    let place = Place::new("111122223333", "eu-central-1").expect("twelve digits and a region");
    write("aws_policy", "usual", aws::policy::usual(&place))?;
    write(
        "aws_policy",
        "all",
        r#"{"Version":"2008-10-17","Id":"i","Statement":[{"Sid":"a","Effect":"Allow","Principal":{"AWS":
["111122223333","arn:aws:iam::111122223333:user/web-1"]},"Action":"kms:*","Resource":"*"},
{"Sid":"b","Effect":"Deny","Principal":"*","NotAction":["kms:Describe*","kms:Get*","kms:List*"],"Resource":["*"],
"Condition":{"NotIpAddress":{"aws:SourceIp":["10.0.0.0/8","2001:db8::1"]},"Bool":{"aws:SecureTransport":"true"},
"StringNotEqualsIfExists":{"kms:EncryptionContext:dept":"hr"},"Null":{"aws:ResourceTag/env":"true"}}},
{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:role/db"},"Action":["kms:Decrypt","kms:CreateGrant"],
"Resource":"*","Condition":{"Bool":{"kms:GrantIsForAWSResource":false},"ArnLike":{"aws:PrincipalArn":"*"},
"ForAllValues:StringEquals":{"kms:EncryptionContextKeys":["a","b"]},"StringLike":{"kms:KeySpec":"RSA_*"},
"DateLessThan":{"aws:CurrentTime":"2027-01-31T12:00:00Z"},"StringEquals":{"kms:CallerAccount":"111122223333"}}}]}"#,
    )
}

fn signatures() -> Result<()> {
    let call = "x-amz-target: TrentService.ListKeys\ncontent-type: application/x-amz-json-1.1";
    write("sigv4", "call", format!("POST /\n{call}\n\n{{}}"))?;
    let query = "GET /a//b/../c%20d/?b=2&a=%2F+x&a\nmy-header:  a   b \nmy-header: c\n\n";
    write("sigv4", "query", query)?;
    let scope = Scope { region: "us-east-1", service: "kms" };
    let key = SigningKey::derive(b"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "20261120", scope);
    let headers = [("host", &b"localhost"[..]), ("x-amz-date", b"20261120T120000Z")];
    let message = Message { method: "POST", path: "/", query: "", headers: &headers };
    let signed_by = ("AKIAIOSFODNN7EXAMPLE", &key);
    let header = authorization(&message, &sha256(&[b"{}"]), scope, signed_by).expect("there is a date");
    let head = format!("host: localhost\nx-amz-date: 20261120T120000Z\nauthorization: {header}");
    write("sigv4", "signed", format!("POST /\n{head}\n\n{{}}"))
}

/// One request for every operation, and a batch of all that may be in one.
fn requests() -> Result<()> {
    let id = KEY.to_string();
    let mut batch = Vec::new();
    for operation in Operation::ALL.iter().filter(|operation| operation.is_request()) {
        let info = operation.info();
        let path: Vec<_> =
            info.path.split('/').map(|part| if part.starts_with('{') { &id } else { part }).collect();
        let method = keyhearth_proto::rest::method_name(info.method);
        let body = body(*operation).replace("ID", &id);
        if keyhearth_proto::rest::is_batched(*operation) {
            batch.push(format!(r#"{{"operation":"{}","key":"{id}","body":{body}}}"#, info.name));
        }
        write("rest", info.name, format!("{method} {}?limit=10\n{body}", path.join("/")))?;
    }
    let refused = r#"{"operation":"destroy-key","key":"@","body":{"version":1}}"#;
    write("batch", "all", format!(r#"{{"requests":[{},{refused}]}}"#, batch.join(",")))?;
    write("batch", "one", format!(r#"{{"requests":[{}]}}"#, batch[0]))
}

/// The operation's body, with `ID` where an id goes.
fn body(operation: Operation) -> &'static str {
    match operation {
        Operation::CreateKey => {
            r#"{"algorithm":"aes-256","usage":["encrypt"],"exportable":true,"tags":{"env":"prod"},"alias":"a/b",
"activation":"2026-11-20T12:00:00Z","cryptoperiod":{"protect_days":365},"rotate_days":90}"#
        }
        Operation::UpdateKey => {
            r#"{"description":"d","tags":{"a":"b"},"switches":{"process_when_suspended":true},"rotate_days":null}"#
        }
        Operation::ScheduleDestroy => r#"{"days":7}"#,
        Operation::DestroyKey => r#"{"version":1,"confirm":"ID"}"#,
        Operation::ImportParameters => r#"{"mechanism":"hpke-x25519"}"#,
        Operation::ExportKey => r#"{"version":1,"mechanism":"rsa-oaep-sha256","recipient":"AAEC"}"#,
        Operation::Encrypt => r#"{"mechanism":"aes-gcm","context":{"b":"2","a":"1"},"plaintext":"AAEC"}"#,
        Operation::Decrypt => {
            r#"{"version":1,"iv":"AAEC","context":{"dept":"hr"},"ciphertext":"AAEC","lease_seconds":28800}"#
        }
        Operation::Rewrap => {
            r#"{"source":"o","source_mechanism":"rsa-oaep-sha256","context":{},"new_context":{"a":"1"},"ciphertext":"AAEC"}"#
        }
        Operation::DataKey | Operation::DataKeyWithoutPlaintext => r#"{"bytes":64,"context":{"a":"1"}}"#,
        Operation::DataKeyPair | Operation::DataKeyPairWithoutPlaintext => r#"{"algorithm":"rsa-2048"}"#,
        Operation::Sign => r#"{"mechanism":"ecdsa-sha256","digest":"AAEC"}"#,
        Operation::Verify => r#"{"version":1,"message":"AAEC","signature":"AAEC"}"#,
        Operation::Mac | Operation::VerifyMac => r#"{"message":"AAEC","mac":"AAEC"}"#,
        Operation::Wrap | Operation::Unwrap | Operation::ImportKey => r#"{"wrapped":"AAEC"}"#,
        Operation::Agree => r#"{"version":1,"peer":"AAEC"}"#,
        Operation::Decapsulate => r#"{"version":1,"encapsulated":"AAEC"}"#,
        Operation::Random => r#"{"bytes":32}"#,
        Operation::KeepSecret => r#"{"name":"restic","value":"AAEC","replace":true}"#,
        Operation::ReadSecret => r#"{"name":"file/d1eb8eebe25e358cdd75d27577c8571a","lease_seconds":28800}"#,
        Operation::ShredSecret => r#"{"name":"file/d1eb8eebe25e358cdd75d27577c8571a"}"#,
        Operation::CreateGrant => {
            r#"{"grantee":"ID","operations":["encrypt"],"context":{"a":"1"},"expires":"2026-11-20T12:00:00Z",
"delegable":true,"name":"n","exact_context":{"a":"1"},"retiree":"ID"}"#
        }
        Operation::IssueIdentity => r#"{"name":"n","roles":["key-user"],"request":"PEM","days":1}"#,
        Operation::RenewIdentity => r#"{"request":"PEM","days":1}"#,
        Operation::SetRoles => r#"{"roles":["auditor"]}"#,
        Operation::BindCertificate => r#"{"certificate":"PEM"}"#,
        Operation::CreateAccessKey => r#"{"identity":"ID","id":"ABCDEFGHIJ012345","secret":"s"}"#,
        Operation::PutPolicy | Operation::DiffPolicy => r#"{"text":"permit(principal, action, resource);"}"#,
        Operation::PutKeyPolicy => r#"{"text":"permit(principal, action, resource);","closed":true}"#,
        Operation::TestPolicy => {
            r#"{"identity":"ID","operation":"sign","key":"k","context":{"a":"1"},"lease_seconds":60}"#
        }
        Operation::CreateTenant => r#"{"name":"t","admin":"a","request":"PEM"}"#,
        Operation::Rekey => r#"{"shares":{"threshold":3,"count":5}}"#,
        Operation::Unseal => r#"{"share":"khshare1-"}"#,
        _ => "{}",
    }
}

/// One body for each operation of the AWS KMS API, with every member.
fn aws_requests() -> Result<()> {
    for (choice, row) in (0_u8..).zip(coverage()) {
        let body = aws_structure(&row.input, "");
        write("aws_body", row.operation, [&[choice], body.to_string().as_bytes()].concat())?;
    }
    Ok(())
}

/// A structure whose members' paths begin with `whole`.
fn aws_structure(fields: &[Field], whole: &str) -> Value {
    let members = fields.iter().filter_map(|field| Some((field, field.path.strip_prefix(whole)?)));
    let own = members.filter(|(_, name)| !name.is_empty() && !name.contains(['.', '[']));
    own.map(|(field, name)| (name.to_owned(), aws_value(fields, field))).collect::<Map<_, _>>().into()
}

fn aws_value(fields: &[Field], field: &Field) -> Value {
    match field.kind {
        "text" if field.pattern.is_some_and(|pattern| pattern.contains("arn")) => {
            json!("arn:aws:s3::111122223333:bucket")
        }
        "text" if field.path.ends_with("ServicePrincipal") => json!("a.example.com"),
        "text" if field.path.ends_with("Region") => json!("eu-central-1"),
        "text" => json!("a".repeat(field.min.unwrap_or(1).max(1) as usize)),
        "blob" => json!("AQID"),
        "integer" => json!(field.min),
        "boolean" => json!(false),
        "timestamp" => json!(1_800_000_000.5),
        "enum" => json!(field.values[0]),
        "map" => json!({"b": "2", "a": "1"}),
        "list" => {
            let path = format!("{}[]", field.path);
            let element = fields.iter().find(|field| field.path == path).expect("a list has elements");
            json!([aws_value(fields, element)])
        }
        _ => aws_structure(fields, &format!("{}.", field.path)),
    }
}

/// Files one after another, each after its length in two bytes.
fn files(files: &[Vec<u8>]) -> Vec<u8> {
    let file = |bytes: &Vec<u8>| {
        let length = u16::try_from(bytes.len()).expect("evidence and certificates are small");
        [&length.to_be_bytes(), &bytes[..]].concat()
    };
    files.iter().flat_map(file).collect()
}

/// What comes with the report of a made machine: the root, a revocation list, certificates.
fn endorsements(generation: Generation, signer: Signer) -> [Vec<u8>; 4] {
    [
        snp::ark().der(),
        snp::List::of(&[9]).der(),
        snp::intermediate(generation, signer).der(),
        snp::Leaf::new(generation, signer).der(),
    ]
}

/// Reports of made machines, each with what it needs.
fn reports() -> Result<()> {
    for (version, generation) in [(2, Generation::Milan), (3, Generation::Genoa), (5, Generation::Turin)] {
        for signer in [Signer::Vcek, Signer::Vlek] {
            let mut report = snp::report(version, generation, signer);
            snp::sign(&mut report);
            let endorsements = endorsements(generation, signer);
            let files = files(&[&[report][..], &endorsements].concat());
            let name = format!("v{version}-{}-{}", generation.name(), signer.name());
            write("attest_snp", &name, &files)?;
            write("attest_endorsements", &name, files)?;
        }
    }
    Ok(())
}

/// What cryptsetup writes into headers.
fn headers() -> Result<()> {
    let octets = "x".repeat(43) + "=";
    let derivations = [
        ("pbkdf2", json!({"type": "pbkdf2", "hash": "sha256", "iterations": 1000, "salt": octets})),
        ("argon2id", json!({"type": "argon2id", "time": 4, "memory": 1_048_576, "cpus": 4, "salt": octets})),
    ];
    for (name, derivation) in derivations {
        let cipher = "aes-xts-plain64";
        let area =
            json!({"type": "raw", "offset": "32768", "size": "258048", "encryption": cipher, "key_size": 64});
        let header = json!({
            "keyslots": {"0": {
                "type": "luks2", "key_size": 64, "priority": 2, "area": area, "kdf": derivation,
                "af": {"type": "luks1", "stripes": 4000, "hash": "sha256"},
            }},
            "tokens": {"0": {
                "type": "keyhearth", "keyslots": ["0"], "machine": PRINCIPAL.to_string(), "volume": "root", "generation": 1,
            }},
            "segments": {"0": {
                "type": "crypt", "offset": "16777216", "size": "dynamic", "iv_tweak": "0", "encryption": cipher,
                "sector_size": 512,
            }},
            "digests": {"0": {
                "type": "pbkdf2", "keyslots": ["0"], "segments": ["0"], "hash": "sha256", "iterations": 1000,
                "salt": octets, "digest": octets,
            }},
            "config": {
                "json_size": "12288", "keyslots_size": "16744448", "flags": ["allow-discards"],
                "requirements": {"mandatory": []},
            },
        });
        write("luks_header", name, header.to_string())?;
    }
    Ok(())
}

/// TDX quotes of made machines, each with the root and collateral, together and one by one.
fn quotes_of_tdx() -> Result<()> {
    let lists = [tdx::List::of_root(&[9]), tdx::List::of_pck_ca(&[9])];
    let (tcb_info, qe_identity) = (tdx::tcb_info(), tdx::qe_identity());
    let together = tdx::together(&tcb_info, &qe_identity, [&lists[0], &lists[1]]);
    for body in tdx::Body::ALL {
        let parts = [tdx::Quote::new(body).bytes(), tdx::root().der(), together.clone()];
        write("attest_tdx", &format!("{body:?}"), files(&parts))?;
    }
    let events = tdx::boot();
    let (quote, log) = (tdx::Quote::new(tdx::Body::Td15).booted(&events), tpm::log(&events, &[tpm::SHA384]));
    let document = keyhearth_attest::tdx::Evidence { quote: quote.bytes(), log }.encode();
    write("attest_tdx", "document", files(&[document, tdx::root().der(), together.clone()]))?;
    let bare = tdx::Quote { chain: Vec::new(), kinds: [6, 1], ..tdx::Quote::new(tdx::Body::V4) };
    let parts = [
        bare.bytes(),
        tdx::root().der(),
        tdx::Pck::default().der(),
        tdx::pck_ca().der(),
        tdx::statement_signer().der(),
        lists[0].der(),
        lists[1].der(),
        tdx::answer("tcbInfo", &tcb_info, tdx::By::StatementSigner),
        tdx::answer("enclaveIdentity", &qe_identity, tdx::By::StatementSigner),
    ];
    write("attest_endorsements", "answers", files(&parts))?;
    write("attest_tdx", "answers", files(&parts))
}

/// Quotes of made machines, on a host and on Azure, and the logs of how they booted.
fn quotes() -> Result<()> {
    let events = tpm::boot();
    let log = tpm::log(&events, &[tpm::SHA1, tpm::SHA256]);
    write("attest_eventlog", "boot", &log)?;
    write("attest_eventlog", "ovmf-uki", include_bytes!("../crates/attest/vectors/ovmf-uki.log"))?;
    write("attest_eventlog", "sha384", tpm::log(&events, &[tpm::SHA384]))?;
    let pcrs = tpm::pcrs(&events, BootPhase::EnterInitrd);
    let quote = tpm::Quote::of(&pcrs, &[0xda; 64]).bytes();
    for ak in tpm::Ak::ALL {
        for (form, key) in [("spki", ak.spki()), ("public", ak.public(tpm::ATTRIBUTES))] {
            let signature = ak.sign(&quote);
            let (quote, pcrs, log) = (quote.clone(), pcrs.clone(), Some(log.clone()));
            let document =
                Evidence { quote, signature, ak: Some(key), pcrs, log, hcl_report: None, td_quote: None };
            write("attest_tpm", &format!("{ak:?}-{form}"), files(&[document.encode()]))?;
        }
    }
    let (generation, signer) = (Generation::Genoa, Signer::Vcek);
    let runtime_data = tpm::runtime_data(&tpm::Ak::Rsassa.modulus());
    let mut report = snp::report(3, generation, signer);
    report[0x50..0x90].copy_from_slice(&[sha256(&[runtime_data.as_bytes()]), [0; 32]].concat());
    snp::sign(&mut report);
    let hcl_report = Some(tpm::hcl_report(&report, 2, 1, &runtime_data));
    let signature = tpm::Ak::Rsassa.sign(&quote);
    let document = Evidence { quote, signature, ak: None, pcrs, log: Some(log), hcl_report, td_quote: None };
    let endorsements = endorsements(generation, signer);
    write("attest_tpm", "azure", files(&[&[document.encode()][..], &endorsements].concat()))?;
    let [root, list, issuer, leaf] = endorsements;
    let json = json!({
        "report": document.hcl_report,
        "quote": { "message": document.quote, "signature": document.signature[6..], "pcrs": vec![[0; 32]; 24] },
        "vcek": URL_SAFE_NO_PAD.encode(leaf),
    });
    write("attest_tpm", "azure-json", files(&[json.to_string().into_bytes(), root, list, issuer]))?;
    let mut td = tdx::Quote::new(tdx::Body::V4);
    td.put(520, &[sha256(&[runtime_data.as_bytes()]), [0; 32]].concat());
    let hcl_report = Some(tpm::hcl_report(&[0; 1184], 4, 1, &runtime_data));
    let document = Evidence { hcl_report, td_quote: Some(td.bytes()), log: None, ..document };
    let lists = [tdx::List::of_root(&[9]), tdx::List::of_pck_ca(&[9])];
    let together = tdx::together(&tdx::tcb_info(), &tdx::qe_identity(), [&lists[0], &lists[1]]);
    write("attest_tpm", "azure-tdx", files(&[document.encode(), tdx::root().der(), together]))
}

/// What each cloud says of a made instance, to a request whose report data the target demands.
fn documents_of_clouds() -> Result<()> {
    let report_data = [0xda; 64];
    let certificates = [clouds::Certificate::of_region(), clouds::Certificate::ca()].map(|one| one.der());
    let aws = clouds::Message::aws(&clouds::aws_document());
    let azure = clouds::Message::azure(&clouds::azure_document(&report_data));
    let documents = [
        ("aws", aws.as_aws()),
        ("aws-definite", clouds::Message { streamed: false, ..aws }.as_aws()),
        ("azure", azure.as_azure()),
        ("azure-attributes", clouds::Message { attributes: true, streamed: true, ..azure }.as_azure()),
        ("gcp", clouds::jwt("RS256", &clouds::gcp_token(&report_data), clouds::Signer::Region)),
    ];
    for (name, document) in documents {
        write("attest_cloud", name, files(&[&[document][..], &certificates].concat()))?;
    }
    Ok(())
}

/// Firmware, and a unified kernel image of each age.
fn files_to_measure() -> Result<()> {
    let sections = [(0x1000, 4096, 1), (0x2000, 4096, 2), (0x3000, 4096, 3), (0x4000, 4096, 0x10)];
    write("measure", "ovmf", &images::ovmf(&sections, Some(0x4c00))[2048..])?;
    for stub in ["252.39-1", "257.13", "262.1"] {
        let (magic, kernel) = (images::magic(stub), images::kernel("6.12.1"));
        let sections: [(&str, &[u8]); 7] = [
            (".sdmagic", magic.as_bytes()),
            (".sbat", b"sbat,1"),
            (".osrel", b"ID=any"),
            (".cmdline", b"ro quiet"),
            (".uname", b"6.12.1"),
            (".initrd", b"ramdisk"),
            (".linux", &kernel),
        ];
        write("measure", &format!("uki-{stub}"), images::signed(images::pe(true, &sections), true))?;
    }
    Ok(())
}

/// Under the keys of the target, so that their content is reached too.
fn sealed_files() -> Result<()> {
    let file_key = FileKey::from_bytes(&[7; 16]).expect("a key");
    let recipient = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj";
    let recipient: Recipient = recipient.parse().expect("a recipient");
    let wrapped = Wrapped {
        key: "files".to_owned(),
        file: FileId::random().expect("randomness"),
        made: 1_800_000_000,
        ciphertext: vec![5; 121],
    };
    let kept = Kept { key: "files".to_owned(), file: wrapped.file };
    let stanzas = vec![wrapped.to_stanza(), kept.to_stanza(), recipient.wrap(&file_key).expect("randomness")];
    let header = age::Header::new(&file_key, stanzas).expect("a header");
    let mut file = Vec::new();
    keyhearth_files::seal_stream(&file_key, &header, &mut &b"seed"[..], &mut file).expect("it is small");
    let text = base64::engine::general_purpose::STANDARD.encode(&file);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    let text = format!(
        "-----BEGIN AGE ENCRYPTED FILE-----\n{}\n-----END AGE ENCRYPTED FILE-----\n",
        lines.join("\n")
    );
    write("files", "recipient", recipient.to_string())?;
    write("files", "age", file)?;
    write("files", "age-text", text)?;

    let data_key = DataKey::from_bytes(&[7; 32]).expect("a key");
    let context = Pairs::from([("purpose".to_owned(), "backup".to_owned())]);
    let encrypted = EncryptedDataKey::aws_kms("arn:aws:kms:eu-central-1:111122223333:key/k", vec![5; 137]);
    let made = esdk::Header::create(&data_key, context, vec![encrypted], 16).expect("a header");
    let mut file = Vec::new();
    esdk::seal_stream(made, &mut &[b's'; 40][..], &mut file).expect("it is small");
    write("files", "esdk", file)
}
