//! Quotes of a TPM that somebody else wrote (`swtpm`), made by somebody else's tools (`tpm2-tools`), as
//! `docs/formats/tpm-evidence.md` says to make them. Where these are not installed the test says that it was skipped.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use keyhearth_attest::tpm::{Evidence, Pcrs};
use keyhearth_attest::{Bytes, Claims, Demands, Endorsements, Reason, Roots, Specific, appraise};
use keyhearth_crypto::digest::sha256;
use tempfile::TempDir;

const REPORT_DATA: [u8; 64] = [0xda; 64];
const PCRS: [u8; 4] = [0, 7, 8, 23];

/// The scheme of a key, of its signatures, and their hash.
const KEYS: [(&str, &str, &str); 3] = [
    ("ecc256:ecdsa-sha256:null", "ecdsa", "sha256"),
    ("rsa2048:rsassa-sha256:null", "rsassa", "sha256"),
    ("rsa2048:rsapss-sha256:null", "rsapss", "sha256"),
];

/// A TPM with its state in a folder; it ends with the test.
struct Tpm {
    process: Child,
    folder: TempDir,
}

impl Drop for Tpm {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Tpm {
    /// Nothing if the programs are not there.
    fn start() -> Option<Self> {
        if matches!(Command::new("tpm2_quote").arg("-v").output(), Err(error) if error.kind() == ErrorKind::NotFound)
        {
            return None;
        }
        let folder = TempDir::new().expect("a folder");
        let path = |name: &str| folder.path().join(name).display().to_string();
        fs::create_dir(path("state")).expect("a folder");
        let process = Command::new("swtpm")
            .args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"])
            .args(["--tpmstate", &format!("dir={}", path("state"))])
            .args(["--server", &format!("type=unixio,path={}", path("tpm"))])
            .args(["--ctrl", &format!("type=unixio,path={}", path("tpm.ctrl"))])
            .stderr(Stdio::null())
            .spawn();
        let tpm = Self { process: process.ok()?, folder };
        for _ in 0..500 {
            if tpm.path("tpm").exists() {
                return Some(tpm);
            }
            sleep(Duration::from_millis(20));
        }
        panic!("the TPM did not start");
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// Runs a tool, in the folder. What it loaded into the TPM is forgotten.
    fn run(&self, command: &str) {
        for command in [command, "tpm2_flushcontext -t"] {
            let mut words = command.split(' ');
            let output = Command::new(words.next().expect("a program"))
                .args(words)
                .env("TPM2TOOLS_TCTI", format!("swtpm:path={}", self.path("tpm").display()))
                .current_dir(self.folder.path())
                .output()
                .expect("the tools are installed");
            assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }

    fn read(&self, name: impl AsRef<Path>) -> Vec<u8> {
        fs::read(self.folder.path().join(name)).expect("the tool wrote it")
    }
}

#[test]
fn quotes_of_another_tpm_are_accepted() {
    let Some(tpm) = Tpm::start() else {
        eprintln!("quotes_of_another_tpm_are_accepted: skipped, swtpm and tpm2-tools are not installed");
        return;
    };
    tpm.run("tpm2_createprimary -Q -C o -c primary");
    tpm.run(&format!("tpm2_pcrextend 8:sha256={}", Bytes(sha256(&[b"a boot loader"]).to_vec())));
    let extended = sha256(&[&[0; 32], &sha256(&[b"a boot loader"])]);
    let pcrs = Pcrs::from(PCRS.map(|index| (index, if index == 8 { extended } else { [0; 32] })));
    let list = PCRS.map(|index| index.to_string()).join(",");
    let extra = Bytes(sha256(&[&REPORT_DATA]).to_vec());
    for (key, scheme, hash) in KEYS {
        let attributes = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|restricted|sign";
        tpm.run(&format!("tpm2_create -Q -C primary -G {key} -u public -r private -a {attributes}"));
        tpm.run("tpm2_load -Q -C primary -u public -r private -c ak.ctx");
        tpm.run("tpm2_readpublic -Q -c ak.ctx -f der -o ak.der");
        tpm.run("tpm2_readpublic -Q -c ak.ctx -f tpmt -o ak.tpmt");
        tpm.run(&format!(
            "tpm2_quote -Q -c ak.ctx -l sha256:{list} -q {extra} -m quote -s signature -g {hash} --scheme {scheme}"
        ));
        for form in ["ak.der", "ak.tpmt"] {
            let evidence = Evidence {
                quote: tpm.read("quote"),
                signature: tpm.read("signature"),
                ak: Some(tpm.read(form)),
                pcrs: pcrs.clone(),
                log: None,
                hcl_report: None,
                td_quote: None,
            };
            let claims = judge(&evidence, &tpm.read("ak.der"))
                .unwrap_or_else(|reason| panic!("{key} {form}: {reason:?}"));
            let Specific::Tpm(said) = claims.specific else { panic!("{claims:?}") };
            assert_eq!((said.pcrs.len(), &said.pcrs[&8].0[..]), (4, &extended[..]));
            let other = Evidence { pcrs: PCRS.map(|index| (index, [0; 32])).into(), ..evidence };
            assert_eq!(judge(&other, &tpm.read("ak.der")).map(drop), Err(Reason::TpmPcrDigest));
        }
    }
    // A key that signs anything is another thing.
    let attributes = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|sign";
    tpm.run(&format!(
        "tpm2_create -Q -C primary -G ecc256:ecdsa-sha256:null -u public -r private -a {attributes}"
    ));
    tpm.run("tpm2_load -Q -C primary -u public -r private -c ak.ctx");
    tpm.run("tpm2_readpublic -Q -c ak.ctx -f tpmt -o ak.tpmt");
    tpm.run(&format!("tpm2_quote -Q -c ak.ctx -l sha256:{list} -q {extra} -m quote -s signature -g sha256"));
    let evidence = Evidence {
        quote: tpm.read("quote"),
        signature: tpm.read("signature"),
        ak: Some(tpm.read("ak.tpmt")),
        pcrs,
        log: None,
        hcl_report: None,
        td_quote: None,
    };
    assert_eq!(judge(&evidence, &[]).map(drop), Err(Reason::TpmKeyUnfit));
}

fn judge(evidence: &Evidence, spki: &[u8]) -> Result<Claims, Reason> {
    let demands =
        Demands { report_data: Some(REPORT_DATA), enrolled_aks: vec![sha256(&[spki])], ..Demands::at(0) };
    let judged = appraise(&evidence.encode(), &Endorsements::default(), &Roots::built_in(), &demands);
    judged.map_err(|refusal| {
        eprintln!("{refusal}");
        refusal.reason
    })
}
