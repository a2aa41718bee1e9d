//! A real software TPM, for tests.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::{RH_OWNER, Tpm, code, template, wire};

/// swtpm with a state of its own, ended with this.
pub(crate) struct Swtpm {
    child: Child,
    folder: tempfile::TempDir,
}

impl Swtpm {
    /// A new TPM.
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let child = Self::spawn(folder.path());
        Self { child, folder }
    }

    fn spawn(folder: &Path) -> Child {
        let socket = |name: &str| format!("type=unixio,path={}", folder.join(name).display());
        Command::new("swtpm")
            .args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear", "--tpmstate"])
            .arg(format!("dir={}", folder.display()))
            .args(["--server", &socket("tpm"), "--ctrl", &socket("control")])
            .stdin(Stdio::null())
            .spawn()
            .expect("swtpm is installed")
    }

    /// Starts the same TPM anew, as a reset of the machine does.
    pub(crate) fn restart(&mut self) {
        self.end();
        for name in ["tpm", "control"] {
            let _ = std::fs::remove_file(self.folder.path().join(name));
        }
        self.child = Self::spawn(self.folder.path());
    }

    fn end(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Its commands, once it takes them.
    pub(crate) fn connect(&self) -> Tpm<UnixStream> {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            match UnixStream::connect(self.folder.path().join("tpm")) {
                Ok(stream) => return Tpm::new(stream),
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Swtpm {
    fn drop(&mut self) {
        self.end();
    }
}

impl Tpm<UnixStream> {
    /// Makes a restricted RSA key that signs, and keeps it behind `handle`.
    pub(crate) fn make_rsa(&mut self, handle: u32) {
        // As the template of P-256, but RSASSA with SHA-256, 2048 bits, the usual exponent, no unique value.
        let public = [
            &[0, 1, 0, 0x0b][..],
            &template::ATTRIBUTES.to_be_bytes(),
            &[0, 0, 0, 0x10, 0, 0x14, 0, 0x0b, 8, 0, 0, 0, 0, 0, 0, 0],
        ]
        .concat();
        let create = wire::Command::new(code::CREATE_PRIMARY)
            .handle(RH_OWNER)
            .password()
            .bytes(&[0, 4, 0, 0, 0, 0])
            .sized(&public)
            .sized(&[])
            .u32(0);
        let response = self.run(&create).unwrap();
        let made = wire::Body::new(&response).u32().unwrap();
        // TPM2_EvictControl
        self.run(&wire::Command::new(0x120).handle(RH_OWNER).handle(made).password().u32(handle)).unwrap();
    }
}
