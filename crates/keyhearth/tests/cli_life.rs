//! The command line against a development server: what a user types, what comes back, and what is refused.

#![allow(clippy::unwrap_used, reason = "a test may panic, its functions too")]

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use base64::Engine as _;
use keyhearth_crypto::algorithm::{Algorithm, Mechanism};
use keyhearth_crypto::key::{PublicKey, rsa_aes_kwp_wrap};
use serde_json::Value;
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_keyhearth");

/// A running development server.
struct Server {
    folder: TempDir,
    child: Child,
    url: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How a command ended.
#[derive(Debug)]
struct Outcome {
    code: Option<i32>,
    output: Vec<u8>,
    error: String,
}

impl Outcome {
    fn text(&self) -> &str {
        assert_eq!(self.code, Some(0), "{}", self.error);
        std::str::from_utf8(&self.output).unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_str(self.text()).unwrap()
    }

    /// The code of the problem of a refused command that ran with `--json`.
    fn refusal(&self) -> String {
        assert_eq!(self.code, Some(1), "{}", self.error);
        let problem: Value = serde_json::from_str(&self.error).unwrap();
        assert!(!problem["next_step"].as_str().unwrap().is_empty());
        problem["code"].as_str().unwrap().to_owned()
    }
}

impl Server {
    /// A development server.
    fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let data = folder.path().join("data");
        Self::serve(folder, &["--dev", "--data", data.to_str().unwrap()])
    }

    fn serve(folder: TempDir, arguments: &[&str]) -> Self {
        let mut command = Command::new(PROGRAM);
        let mut child = command.arg("serve").args(arguments).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        let url =
            lines.by_ref().find_map(|line| line.strip_prefix("listening on ").map(str::to_owned)).unwrap();
        std::thread::spawn(move || lines.for_each(drop));
        Self { folder, child, url: url.split(';').next().unwrap().to_owned() }
    }

    fn data(&self, name: &str) -> PathBuf {
        self.folder.path().join("data").join(name)
    }

    fn at(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn developer(&self) -> Caller<'_> {
        Caller { server: self, certificate: self.data("dev.crt"), key: self.data("dev.key") }
    }

    fn operator(&self) -> Caller<'_> {
        let folder = self.data("operator");
        Caller { server: self, certificate: folder.join("operator.crt"), key: folder.join("operator.key") }
    }

    /// An identity whose files a command has put into a folder.
    fn caller(&self, folder: &str, name: &str) -> Caller<'_> {
        let folder = self.folder.path().join(folder);
        let path = |suffix| folder.join(format!("{name}.{suffix}"));
        Caller { server: self, certificate: path("crt"), key: path("key") }
    }
}

/// Someone who types commands.
struct Caller<'s> {
    server: &'s Server,
    certificate: PathBuf,
    key: PathBuf,
}

impl Caller<'_> {
    fn run(&self, arguments: &[&str], input: &[u8]) -> Outcome {
        let mut child = Command::new(PROGRAM)
            .args(arguments)
            .env("KEYHEARTH_URL", &self.server.url)
            .env("KEYHEARTH_CA_FILE", self.server.data("ca.crt"))
            .env("KEYHEARTH_CERT_FILE", &self.certificate)
            .env("KEYHEARTH_KEY_FILE", &self.key)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that fails early does not read its input.
        let _ = child.stdin.take().unwrap().write_all(input);
        let ended = child.wait_with_output().unwrap();
        let error = String::from_utf8(ended.stderr).unwrap();
        Outcome { code: ended.status.code(), output: ended.stdout, error }
    }

    fn does(&self, line: &str) -> Outcome {
        self.run(&line.split(' ').collect::<Vec<_>>(), b"")
    }

    fn with(&self, line: &str, input: &[u8]) -> Outcome {
        self.run(&line.split(' ').collect::<Vec<_>>(), input)
    }
}

fn id(answer: &Value) -> String {
    answer["id"].as_str().unwrap().to_owned()
}

#[test]
fn a_key_lives_and_dies_by_the_command_line() {
    let server = Server::start();
    let dev = server.developer();
    let key = id(&dev.does("key create aes-256 --alias app/db --tag team=blue --json").json());
    let secret = b"from \x00 to \xff";
    let sealed = dev.with("encrypt app/db --context row=7", secret).text().to_owned();
    assert_eq!(dev.with("decrypt app/db --context row=7", sealed.as_bytes()).output, secret);
    let wrong = dev.with("decrypt app/db --context row=8 --json", sealed.as_bytes());
    assert_eq!(wrong.refusal(), "not_authentic");
    let plain = dev.with("decrypt app/db --context row=8", sealed.as_bytes());
    assert!(plain.error.contains("next: ") && plain.error.contains("request: "), "{}", plain.error);

    dev.does("key suspend app/db").text();
    let refused = dev.with("decrypt app/db --context row=7 --json", sealed.as_bytes());
    assert_eq!(refused.refusal(), "wrong_state");
    dev.does("key resume app/db").text();
    dev.does("key rotate app/db").text();
    assert_eq!(dev.with("decrypt app/db --context row=7", sealed.as_bytes()).output, secret);
    let renewed = dev.with("rewrap app/db --context row=7", sealed.as_bytes()).text().to_owned();
    assert_ne!(renewed, sealed);

    assert_eq!(dev.does("key destroy app/db --version 1").code, Some(2));
    let shown = dev.does(&format!("key destroy app/db --version 1 --confirm {key}"));
    assert!(shown.text().contains("destroyed"), "{}", shown.text());
    assert_eq!(dev.with("decrypt app/db --context row=7 --json", sealed.as_bytes()).refusal(), "wrong_state");
    assert_eq!(dev.with("decrypt app/db --context row=7", renewed.as_bytes()).output, secret);
    assert!(dev.does("key show app/db").text().contains(&key));
    assert_eq!(dev.does("key schedule-destroy app/db --days 7 --json").json()["id"], key);
    dev.does("key cancel-destroy app/db").text();
}

#[test]
fn files_are_made_once_and_secrets_only_for_their_owner() {
    use std::os::unix::fs::PermissionsExt as _;
    let server = Server::start();
    let dev = server.developer();
    dev.does("key create aes-256 --alias a").text();
    dev.does("key create ec-p256 --alias s").text();
    let (data_key, signature, message) = (server.at("dk"), server.at("sig"), server.at("message"));
    assert!(dev.does("data-key a").error.contains("--output"));
    let sealed = dev.does(&format!("data-key a --output {data_key}")).text().to_owned();
    let mode = std::fs::metadata(&data_key).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(dev.with("decrypt a", sealed.as_bytes()).output, std::fs::read(&data_key).unwrap());
    let again = dev.does(&format!("data-key a --output {data_key}"));
    assert!(again.code == Some(1) && again.error.contains("overwritten"), "{}", again.error);

    std::fs::write(&message, "I agree").unwrap();
    dev.does(&format!("sign s {message} --output {signature}")).text();
    assert_eq!(dev.does(&format!("verify s {message} --signature {signature}")).text(), "valid\n");
    let other = dev.with(&format!("verify s --signature {signature}"), b"I disagree");
    assert_eq!((other.code, &*other.output), (Some(1), &b"not valid\n"[..]));
    assert!(dev.does("key public s").text().starts_with("-----BEGIN PUBLIC KEY-----\n"));
    assert_eq!(dev.does("random 16").output.len(), 16);
}

#[test]
fn an_auditor_sees_and_uses_nothing_else() {
    let server = Server::start();
    let dev = server.developer();
    let key = id(&dev.does("key create aes-256 --alias a --json").json());
    let out = server.at("auditor");
    let issued = dev.does(&format!("identity issue eve --role auditor --out {out}"));
    assert!(issued.error.contains("KEYHEARTH_KEY_FILE"), "{}", issued.error);
    let whoami = dev.does("whoami --json").json();
    let identity = whoami["identity"].as_str().unwrap();
    let taken = dev.does(&format!("identity issue dev --role auditor --out {out} --json"));
    assert!(taken.refusal() == "conflict" && !Path::new(&out).join("dev.key").exists());
    let auditor = server.caller("auditor", "eve");
    assert_eq!(auditor.does("whoami --json").json()["name"], "eve");
    assert!(auditor.does(&format!("key show {key}")).text().contains("aes-256"));
    assert_eq!(auditor.with("encrypt a --json", b"x").refusal(), "denied");
    assert_eq!(auditor.does("key rotate a --json").refusal(), "denied");
    assert!(auditor.does("policy who-can a").text().contains("dev"));
    for list in ["audit list", "key list", "key aliases", "policy who-can a"] {
        let shown = auditor.does(list);
        assert!(shown.text().lines().all(|line| line.chars().count() <= 80), "{}", shown.text());
    }
    assert!(auditor.does("audit list").text().contains("denied"));
    assert!(dev.does(&format!("policy test {identity} encrypt --key a")).text().starts_with("allowed by "));
}

#[test]
fn tenants_do_not_see_each_other_and_a_policy_changes_who_may() {
    let server = Server::start();
    let (dev, operator) = (server.developer(), server.operator());
    let key = id(&dev.does("key create aes-256 --alias mine --json").json());
    assert_eq!(dev.does("tenant list --json").refusal(), "denied");
    let out = server.at("other");
    operator.does(&format!("tenant create other --admin boss --out {out}")).text();
    let boss = server.caller("other", "boss");
    assert_eq!(boss.does("key list --json").json()["keys"], serde_json::json!([]));
    assert_eq!(boss.does(&format!("key show {key} --json")).refusal(), "not_found");
    assert_eq!(operator.does(&format!("key show {key} --json")).refusal(), "not_found");

    let policy = server.at("policy.cedar");
    std::fs::write(&policy, "permit(principal, action, resource);\nforbid(principal action, resource);")
        .unwrap();
    let fault = dev.does(&format!("policy set rule {policy} --yes"));
    assert!(fault.error.contains("line 2, column"), "{}", fault.error);
    let forbid = format!(
        "forbid(principal, action == Keyhearth::Action::\"encrypt\", resource == Keyhearth::Key::\"{key}\");"
    );
    std::fs::write(&policy, forbid).unwrap();
    let unasked = dev.does(&format!("policy set rule {policy}"));
    assert!(
        unasked.error.contains("--yes") && String::from_utf8_lossy(&unasked.output).contains("loses"),
        "{unasked:?}"
    );
    dev.with("encrypt mine", b"x").text();
    dev.does(&format!("policy set rule {policy} --yes")).text();
    assert_eq!(dev.with("encrypt mine --json", b"x").refusal(), "denied");
    dev.does("policy delete rule --yes").text();
    dev.with("encrypt mine", b"x").text();
}

#[test]
fn an_exported_log_is_verified_offline_and_damage_is_named() {
    let server = Server::start();
    let (dev, operator) = (server.developer(), server.operator());
    for _ in 0..3 {
        dev.does("key create aes-256").text();
    }
    let out = server.at("watch");
    assert_eq!(operator.does("audit export nowhere --json").refusal(), "denied");
    operator.does(&format!("identity issue watch --role auditor --out {out}")).text();
    let auditor = server.caller("watch", "watch");
    let (folder, key) = (server.at("log"), server.data("log.vkey"));
    let key = key.to_str().unwrap();
    auditor.does(&format!("audit export {folder}")).text();
    let verify = format!("audit verify {folder} --log-key-file {key}");
    let report = operator.does(&format!("{verify} --json")).json();
    let entries = report["entries"].as_u64().unwrap();
    assert!(entries > 3);
    let shown = operator.does(&format!("audit show {folder} --log-key-file {key}"));
    assert_eq!(shown.text().lines().count() as u64, entries);
    assert_eq!(shown.text().matches("\"operation\":\"create-key\",").count(), 3);
    let listed = dev.does("audit list --json").json();
    let (mine, foreign) = (listed["entries"][0]["index"].as_u64().unwrap(), 0);
    let proof = dev.does(&format!("audit prove {mine} --log-key-file {key}"));
    assert!(proof.text().starts_with(&format!("c2sp.org/tlog-proof@v1\nindex {mine}\n")), "{}", proof.text());
    assert_eq!(dev.does(&format!("audit prove {foreign} --json")).refusal(), "not_found");
    dev.does(&format!("audit checkpoint --log-key-file {key}")).text();
    assert_eq!(operator.does(&format!("audit verify {folder}")).code, Some(1));

    let bundle = first_file(Path::new(&folder).join("tile/entries"));
    let mut bytes = Vec::new();
    std::fs::File::open(&bundle).unwrap().read_to_end(&mut bytes).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&bundle, bytes).unwrap();
    let damaged = operator.does(&verify);
    assert_eq!(damaged.code, Some(1));
    assert!(damaged.error.contains("tile/entries/"), "{}", damaged.error);
}

#[test]
fn custodians_open_a_sealed_server_with_their_shares() {
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (data, shares, config) = (at("data"), at("shares"), at("keyhearth.toml"));
    let made = Command::new(PROGRAM)
        .args(["init", "--data", &data, "--shares", "3", "--threshold", "2", "--shares-out", &shares])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    assert!(!String::from_utf8_lossy(&made.stdout).contains("khshare1-"));
    let text = format!("data = '{data}'\nlisten = '127.0.0.1:0'\nhealth = '127.0.0.1:0'\n");
    std::fs::write(&config, text).unwrap();
    let server = Server::serve(folder, &["--config", &config]);
    let operator = server.operator();
    assert_eq!(operator.does("tenant list --json").refusal(), "sealed");
    let given = operator.does(&format!("unseal --file {shares}/share-1 --json")).json();
    assert_eq!((&given["sealed"], &given["shares_given"]), (&true.into(), &1.into()));
    let third = std::fs::read(format!("{shares}/share-3")).unwrap();
    assert_eq!(operator.with("unseal --json", &third).json()["sealed"], false);
    assert_eq!(operator.does("status --json").json()["sealed"], false);
    operator.does("seal rotate-root").text();

    let renewed = server.at("renewed");
    operator.does(&format!("seal rekey --shares 3 --threshold 2 --out {renewed}")).text();
    let prove =
        |number| operator.does(&format!("seal rekey --prove --file {renewed}/share-{number} --json")).json();
    assert_eq!(prove(1)["done"], false);
    assert!((2..=3).any(|number| prove(number)["done"] == true));
    operator.does("seal now").text();
    assert_eq!(operator.does("tenant list --json").refusal(), "sealed");
    assert_eq!(operator.with("unseal --json", &third).refusal(), "invalid");
    let new = |number| operator.does(&format!("unseal --file {renewed}/share-{number} --json")).json();
    assert_eq!((&new(1)["sealed"], &new(3)["sealed"]), (&true.into(), &false.into()));
}

#[test]
fn grants_and_access_keys_are_given_and_taken() {
    let server = Server::start();
    let dev = server.developer();
    dev.does("key create aes-256 --alias a").text();
    let out = server.at("guest");
    let guest_id = id(&dev.does(&format!("identity issue guest --out {out} --json")).json());
    let guest = server.caller("guest", "guest");
    assert_eq!(guest.with("encrypt a --json", b"x").refusal(), "denied");
    let line = format!("grant create a {guest_id} --operation encrypt,decrypt --context row=7 --json");
    let grant = id(&dev.does(&line).json());
    guest.with("encrypt a --context row=7", b"x").text();
    assert_eq!(guest.with("encrypt a --context row=8 --json", b"x").refusal(), "denied");
    assert!(dev.does("grant list a").text().contains(&grant));
    dev.does(&format!("grant revoke a {grant}")).text();
    assert_eq!(guest.with("encrypt a --context row=7 --json", b"x").refusal(), "denied");

    let made = dev.does(&format!("access-key create {guest_id} --json")).json();
    let (access, secret) = (made["id"].as_str().unwrap(), made["secret"].as_str().unwrap());
    let listed = dev.does("access-key list");
    assert!(listed.text().contains(access) && !listed.text().contains(secret));
    dev.does(&format!("access-key disable {access}")).text();
    assert!(dev.does("access-key list").text().contains("disabled"));
    let temporary = dev.does(&format!("access-key create {guest_id} --minutes 15 --json")).json();
    assert!(temporary["session_token"].is_string() && temporary["end"].is_string());
    assert!(dev.does("access-key list").text().contains("until 20"));
    let import = format!("access-key import {guest_id} AKIAIOSFODNN7EXAMPLE");
    let brought = dev.with(&import, b"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY\n");
    assert_eq!(brought.text(), "AKIAIOSFODNN7EXAMPLE is imported\n");
    assert_eq!(dev.with(&format!("{import} --json"), b"another-secret-of-enough").refusal(), "conflict");
    let again = server.at("renewed");
    guest.does(&format!("identity renew --out {again}")).text();
    let renewed = server.caller("renewed", "guest").does("whoami --json").json();
    assert_eq!(renewed["identity"], guest_id.as_str());
    dev.does(&format!("identity revoke {guest_id}")).text();
    assert_eq!(guest.does("whoami --json").refusal(), "unauthenticated");
}

#[test]
fn material_comes_in_and_goes_out_wrapped() {
    let server = Server::start();
    let dev = server.developer();
    dev.does("key create rsa-2048 --usage wrap,unwrap --alias recipient").text();
    dev.does("key create aes-256 --exportable --alias out").text();
    let (recipient, parameters) = (server.at("recipient.pem"), server.at("parameters.der"));
    dev.does(&format!("key public recipient --output {recipient}")).text();
    let exported = dev.does(&format!("key export out {recipient} --mechanism rsa-oaep-sha256"));
    let unwrap = "unwrap recipient --mechanism rsa-oaep-sha256";
    let material = dev.with(unwrap, exported.text().as_bytes()).output;
    assert_eq!(material.len(), 32);
    dev.does("key create aes-256 --alias kept").text();
    let kept = dev.does(&format!("key export kept {recipient} --mechanism rsa-oaep-sha256 --json"));
    assert_eq!(kept.refusal(), "unsupported");

    dev.does("key create aes-256 --import --alias in").text();
    let mechanism = "--mechanism rsa-aes-kwp-sha256";
    dev.does(&format!("key import-parameters in {mechanism} --output {parameters}")).text();
    let public = PublicKey::from_der(Algorithm::Rsa3072, &std::fs::read(&parameters).unwrap()).unwrap();
    let wrapped = rsa_aes_kwp_wrap(&public, Mechanism::RsaOaepSha256, &material).unwrap();
    dev.with("key import in --raw", &wrapped).text();
    let sealed = dev.with("encrypt in --mechanism aes-gcm --json", b"x").json();
    let (iv, ciphertext) = (sealed["iv"].as_str().unwrap(), sealed["ciphertext"].as_str().unwrap());
    let line = format!("decrypt out --mechanism aes-gcm --version 1 --iv {iv}");
    assert_eq!(dev.with(&line, ciphertext.as_bytes()).output, b"x");
}

#[test]
fn every_other_use_of_keys_is_its_own_inverse() {
    let server = Server::start();
    let dev = server.developer();
    for line in
        ["ml-kem-768 --alias kem", "hmac-sha256 --alias mac", "aes-256 --usage wrap,unwrap --alias kek"]
    {
        dev.does(&format!("key create {line}")).text();
    }
    let (secret, code) = (server.at("secret"), server.at("code"));
    let encapsulated = dev.does(&format!("encapsulate kem --output {secret}")).text().to_owned();
    assert_eq!(dev.with("decapsulate kem", encapsulated.as_bytes()).output, std::fs::read(&secret).unwrap());
    let wrapped = dev.with("wrap kek", &[7; 32]).text().to_owned();
    assert_eq!(dev.with("unwrap kek", wrapped.as_bytes()).output, [7; 32]);
    dev.with(&format!("mac mac --output {code}"), b"message").text();
    assert_eq!(dev.with(&format!("mac mac --verify {code}"), b"message").text(), "valid\n");
    assert_eq!(dev.with(&format!("mac mac --verify {code}"), b"massage").code, Some(1));

    for name in ["ours", "theirs"] {
        dev.does(&format!("key create x25519 --alias {name}")).text();
    }
    let agreed = |ours: &str, theirs: &str| {
        let public = dev.does(&format!("key public {theirs} --json")).json();
        let der = public["der"].as_str().unwrap().to_owned();
        let der = base64::engine::general_purpose::STANDARD.decode(der).unwrap();
        dev.with(&format!("agree {ours}"), &der).output
    };
    assert_eq!(agreed("ours", "theirs"), agreed("theirs", "ours"));
    assert_eq!(agreed("ours", "theirs").len(), 32);
}

/// The first file in a folder or the folders in it.
fn first_file(mut path: PathBuf) -> PathBuf {
    while path.is_dir() {
        path = std::fs::read_dir(&path).unwrap().next().unwrap().unwrap().path();
    }
    path
}

#[test]
fn nothing_needed_is_asked_of_the_wrong_place() {
    let run = |line: &str| Command::new(PROGRAM).args(line.split(' ')).env_clear().output().unwrap();
    let unconfigured = run("key list");
    assert_eq!(unconfigured.status.code(), Some(1));
    assert!(String::from_utf8(unconfigured.stderr).unwrap().contains("KEYHEARTH_URL"));
    assert_eq!(run("key lst").status.code(), Some(2));
    let schema = run("policy schema");
    assert!(schema.status.success() && String::from_utf8(schema.stdout).unwrap().contains("entity Key"));
    let completions = run("completions bash");
    assert!(String::from_utf8(completions.stdout).unwrap().contains("schedule-destroy"));
}
