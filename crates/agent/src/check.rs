//! A look at a machine that changes nothing: what the agent would read, what evidence there is, and whether the
//! headers of its volumes are of the form that is opened.
//!
//! Called by `keyhearth-boot check` and `keyhearth-boot ak`.

use std::fmt::Write as _;
use std::fs::File;
use std::path::Path;

use keyhearth_proto::boot::Transcript;
use serde::Serialize;

use crate::cloud::{self, Cloud};
use crate::config::{Config, Volume};
use crate::evidence::{Machine, Tee};
use crate::luks;
use crate::tpm::{self, Tpm};
use crate::transport::Transport;

/// What a look finds.
#[derive(Clone, Debug, Serialize)]
pub struct Findings {
    /// The evidence that would be collected.
    pub tee: Tee,
    /// How often the machine was started, as its TPM counts; 0 without one.
    pub boot_counter: u64,
    /// The cloud's document, if one is configured and its metadata service gives it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cloud: Option<Document>,
    /// Every volume, in the order of the configuration.
    pub volumes: Vec<Found>,
    /// What would keep this machine from starting.
    pub problems: Vec<String>,
}

/// The document of a cloud.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Document {
    /// Whose it is.
    pub of: Cloud,
    /// How long it is.
    pub bytes: usize,
}

/// What a look finds of a volume.
#[derive(Clone, Debug, Serialize)]
pub struct Found {
    /// Its name on the server.
    pub name: String,
    /// The path of its device.
    pub device: String,
    /// The UUID in its header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// What the server knows its header by: SHA-256 in hexadecimal digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
}

/// Looks.
#[must_use]
pub fn look(config: &Config, machine: &Machine) -> Findings {
    let mut problems = Vec::new();
    if let Err(error) = Transport::new(&config.ca) {
        problems.push(format!("ca: {} cannot be used: {error}", config.ca.display()));
    }
    let volumes = config.volumes.iter().map(|volume| found(volume, &mut problems)).collect();
    let boot_counter = machine.boot_counter().unwrap_or_else(|error| {
        problems.push(error.to_string());
        0
    });
    let cloud = config.cloud.and_then(|of| {
        // Made for no request, it serves for none.
        let document = cloud::document(of, &config.metadata, &Transcript([0; 64]));
        let found = document.map(|document| Document { of, bytes: document.len() });
        found.map_err(|error| problems.push(format!("cloud: no document of {of}: {error}"))).ok()
    });
    let tee = config.tee.tee().unwrap_or_else(|| machine.detect());
    Findings { tee, boot_counter, cloud, volumes, problems }
}

fn found(volume: &Volume, problems: &mut Vec<String>) -> Found {
    let path = volume.device.path();
    let header =
        header(path).map_err(|error| problems.push(format!("volume {}: {error}", volume.name.as_str()))).ok();
    Found {
        name: volume.name.as_str().to_owned(),
        device: path.display().to_string(),
        uuid: header.as_ref().map(|header| header.uuid().to_owned()),
        header: header.map(|header| hexadecimal(&header.hash())),
    }
}

fn header(device: &Path) -> Result<luks::Header, String> {
    let mut file =
        File::open(device).map_err(|error| format!("{} cannot be read: {error}", device.display()))?;
    luks::read(&mut file).map(|(header, _)| header).map_err(|refusal| refusal.to_string())
}

impl Findings {
    /// The findings for people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!("evidence      {}\nboot counter  {}\n", self.tee.name(), self.boot_counter);
        if let Some(Document { of, bytes }) = self.cloud {
            let _ = writeln!(text, "cloud         {of}: a document of {bytes} bytes");
        }
        for Found { name, device, uuid, header } in &self.volumes {
            let _ = writeln!(text, "volume        {name}: {device}");
            if let (Some(uuid), Some(header)) = (uuid, header) {
                let _ = writeln!(text, "  uuid        {uuid}\n  header      {header}");
            }
        }
        for problem in &self.problems {
            let _ = writeln!(text, "PROBLEM       {problem}");
        }
        text + if self.problems.is_empty() {
            "nothing found that keeps this machine from starting\n"
        } else {
            ""
        }
    }
}

/// The attestation key of this machine's TPM, as machines are enrolled with it.
#[derive(Clone, Debug, Serialize)]
pub struct Ak {
    /// SHA-256 of its `SubjectPublicKeyInfo`, in hexadecimal digits.
    pub sha256: String,
    /// The key in PEM.
    pub pem: String,
}

/// Makes the key, as every boot does, and gives its public half.
///
/// # Errors
/// [`tpm::Error`] without a TPM, or if it makes no such key.
pub fn ak(machine: &Machine) -> Result<Ak, tpm::Error> {
    use base64::Engine as _;

    let mut tpm = Tpm::open(&machine.tpm)?;
    let ak = tpm.create_ak()?;
    tpm.flush(&ak)?;
    let der = ak.spki()?;
    let base64 = base64::engine::general_purpose::STANDARD.encode(&der);
    let mut pem = "-----BEGIN PUBLIC KEY-----\n".to_owned();
    for line in base64.as_bytes().chunks(64) {
        pem.push_str(std::str::from_utf8(line).expect("base64 is ASCII"));
        pem.push('\n');
    }
    pem.push_str("-----END PUBLIC KEY-----\n");
    Ok(Ak { sha256: hexadecimal(&keyhearth_crypto::digest::sha256(&[&der])), pem })
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
