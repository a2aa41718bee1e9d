//! TPM 2.0, as far as the agent needs it: commands as bytes to the kernel's device, without a library.
//!
//! Every session is a password session with an empty password, as the endorsement hierarchy of a machine has that
//! nobody took over. Not here: what quotes prove; the server appraises them.
//!
//! Source: TCG TPM 2.0 Library rev. 1.59 part 1 §18 (commands), part 2 (structures), part 3 (commands by number).

mod template;
mod wire;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use keyhearth_crypto::digest::sha256;

pub use template::AttestationKey;
use wire::{Body, Command};

/// The PCRs that evidence is over: the firmware's, the boot loader's and the system's, and [`PCR_RELEASED`].
pub const PCRS_QUOTED: std::ops::RangeInclusive<u8> = 0..=15;
/// Is extended when keys were released, so that no later quote of the same boot looks as one before it: the only
/// PCR of those that a boot loader leaves alone and an operating system does not need at that time.
pub const PCR_RELEASED: u8 = 15;
/// What is extended by, as its SHA-256.
pub const RELEASED: &[u8] = b"keyhearth boot released v1";

/// A TPM answers at most so many bytes.
const RESPONSE_BYTES_MAX: usize = 4096;
/// So often a command is sent again that the TPM was not ready for.
const RETRIES_MAX: u32 = 20;
const RETRY_WAIT: Duration = Duration::from_millis(100);
/// PCRs may move while they are quoted: then once more.
const QUOTES_MAX: u32 = 3;
/// Bytes that are read of an NV index at once: every TPM can do so many.
const NV_CHUNK_BYTES: u16 = 512;
const NV_BYTES_MAX: usize = 16 << 10;

const ALG_SHA256: u16 = 0x000b;
const ALG_NULL: u16 = 0x0010;
const RH_OWNER: u32 = 0x4000_0001;
const RH_ENDORSEMENT: u32 = 0x4000_000b;

/// Commands by their number.
mod code {
    pub(super) const CREATE_PRIMARY: u32 = 0x131;
    pub(super) const NV_READ: u32 = 0x14e;
    pub(super) const QUOTE: u32 = 0x158;
    pub(super) const FLUSH_CONTEXT: u32 = 0x165;
    pub(super) const NV_READ_PUBLIC: u32 = 0x169;
    pub(super) const READ_PUBLIC: u32 = 0x173;
    pub(super) const PCR_READ: u32 = 0x17e;
    pub(super) const READ_CLOCK: u32 = 0x181;
    pub(super) const PCR_EXTEND: u32 = 0x182;
}

/// Why a TPM did not do what it was told.
#[derive(Debug)]
pub enum Error {
    /// There is no device.
    Absent,
    /// The device cannot be used.
    Device(PathBuf, io::Error),
    /// The connection to it failed.
    Io(io::Error),
    /// It answered a command with an error: number of the command, and response code.
    Refused(u32, u32),
    /// Its answer to a command is not of its form.
    Malformed(u32),
    /// PCRs changed each time that they were quoted.
    Moving,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("there is no TPM: neither /dev/tpmrm0 nor /dev/tpm0 exists"),
            Self::Device(path, error) => write!(f, "{} cannot be used: {error}", path.display()),
            Self::Io(error) => write!(f, "the TPM does not answer: {error}"),
            Self::Refused(command, code) => {
                write!(f, "the TPM refused command 0x{command:03x} with response code 0x{code:03x}")
            }
            Self::Malformed(command) => {
                write!(f, "the TPM's answer to command 0x{command:03x} is not of its form")
            }
            Self::Moving => f.write_str("PCRs were extended by somebody else while they were quoted"),
        }
    }
}

impl std::error::Error for Error {}

/// PCRs of the SHA-256 bank, a quote over them, and its signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quote {
    /// `TPMS_ATTEST`
    pub quoted: Vec<u8>,
    /// `TPMT_SIGNATURE`
    pub signature: Vec<u8>,
    /// The values that were quoted.
    pub pcrs: BTreeMap<u8, [u8; 32]>,
}

/// A TPM behind a device or any other stream.
#[derive(Debug)]
pub struct Tpm<S> {
    stream: S,
}

impl Tpm<File> {
    /// Opens the first device that exists.
    ///
    /// # Errors
    /// [`Error::Absent`] or [`Error::Device`].
    pub fn open(devices: &[PathBuf]) -> Result<Self, Error> {
        let device: &Path = devices.iter().find(|device| device.exists()).ok_or(Error::Absent)?;
        let stream = OpenOptions::new().read(true).write(true).open(device);
        stream.map(Self::new).map_err(|error| Error::Device(device.to_owned(), error))
    }
}

impl<S: Read + Write> Tpm<S> {
    /// A TPM that takes commands and gives responses on `stream`.
    pub fn new(stream: S) -> Self {
        Self { stream }
    }

    /// Makes the attestation key of this machine: the same each time, as the TPM derives it from its endorsement
    /// seed and the template. It takes a second or so on hardware.
    ///
    /// # Errors
    /// [`Error::Refused`], also where the endorsement hierarchy has a password.
    pub fn create_ak(&mut self) -> Result<AttestationKey, Error> {
        // Neither a password nor data of our own.
        const SENSITIVE: [u8; 6] = [0, 4, 0, 0, 0, 0];
        let command = Command::new(code::CREATE_PRIMARY)
            .handle(RH_ENDORSEMENT)
            .password()
            .bytes(&SENSITIVE)
            .sized(&template::ak())
            .sized(&[])
            .u32(0);
        let response = self.run(&command)?;
        let created = |mut body: Body<'_>| {
            let handle = body.u32()?;
            let mut parameters = body.parameters()?;
            Some(AttestationKey { handle, public: parameters.sized()?.to_vec() })
        };
        created(Body::new(&response)).ok_or(Error::Malformed(code::CREATE_PRIMARY))
    }

    /// The key behind a persistent handle.
    ///
    /// # Errors
    /// [`Error::Refused`] if there is none.
    pub fn read_ak(&mut self, handle: u32) -> Result<AttestationKey, Error> {
        let response = self.run(&Command::new(code::READ_PUBLIC).handle(handle))?;
        let public = Body::new(&response).sized().ok_or(Error::Malformed(code::READ_PUBLIC))?;
        Ok(AttestationKey { handle, public: public.to_vec() })
    }

    /// Quotes [`PCRS_QUOTED`] with what the caller wants to have signed, at most 32 bytes.
    ///
    /// # Errors
    /// [`Error::Moving`] if PCRs do not hold still.
    pub fn quote(&mut self, ak: &AttestationKey, qualifying: &[u8]) -> Result<Quote, Error> {
        let command = Command::new(code::QUOTE)
            .handle(ak.handle)
            .password()
            .sized(qualifying)
            .u16(ALG_NULL)
            .bytes(&selection(PCRS_QUOTED));
        for _ in 0..QUOTES_MAX {
            let response = self.run(&command)?;
            let parts = |mut body: Body<'_>| {
                let mut parameters = body.parameters()?;
                Some((parameters.sized()?.to_vec(), parameters.rest().to_vec()))
            };
            let (quoted, signature) = parts(Body::new(&response)).ok_or(Error::Malformed(code::QUOTE))?;
            let pcrs = self.pcrs()?;
            let values: Vec<&[u8]> = pcrs.values().map(<[u8; 32]>::as_slice).collect();
            // The digest of the PCRs ends a quote.
            if quoted.ends_with(&sha256(&values)) {
                return Ok(Quote { quoted, signature, pcrs });
            }
        }
        Err(Error::Moving)
    }

    /// The values of [`PCRS_QUOTED`] in the SHA-256 bank.
    ///
    /// # Errors
    /// [`Error`].
    pub fn pcrs(&mut self) -> Result<BTreeMap<u8, [u8; 32]>, Error> {
        let mut values = BTreeMap::new();
        for index in PCRS_QUOTED {
            let response = self.run(&Command::new(code::PCR_READ).bytes(&selection(index..=index)))?;
            let value = |mut body: Body<'_>| {
                let _updates = body.u32()?;
                let selected = body.slice(selection(index..=index).len())? == selection(index..=index);
                (selected && body.u32()? == 1).then(|| body.sized()?.try_into().ok())?
            };
            let value = value(Body::new(&response)).ok_or(Error::Malformed(code::PCR_READ))?;
            values.insert(index, value);
        }
        Ok(values)
    }

    /// Extends a PCR of the SHA-256 bank.
    ///
    /// # Errors
    /// [`Error`]; then the PCR is as it was.
    pub fn extend(&mut self, pcr: u8, digest: &[u8; 32]) -> Result<(), Error> {
        let command =
            Command::new(code::PCR_EXTEND).handle(pcr.into()).password().u32(1).u16(ALG_SHA256).bytes(digest);
        self.run(&command).map(drop)
    }

    /// How often the TPM was started from nothing.
    ///
    /// # Errors
    /// [`Error`].
    pub fn reset_count(&mut self) -> Result<u32, Error> {
        let response = self.run(&Command::new(code::READ_CLOCK))?;
        // After the time, and the clock.
        let count = |mut body: Body<'_>| {
            body.slice(16)?;
            body.u32()
        };
        count(Body::new(&response)).ok_or(Error::Malformed(code::READ_CLOCK))
    }

    /// What an NV index holds, or nothing if there is no such index.
    ///
    /// # Errors
    /// [`Error`]; [`Error::Malformed`] for more than 16 KiB.
    pub fn nv_read(&mut self, index: u32) -> Result<Option<Vec<u8>>, Error> {
        const RC_HANDLE: u32 = 0x18b;
        let public = match self.run(&Command::new(code::NV_READ_PUBLIC).handle(index)) {
            Ok(public) => public,
            Err(Error::Refused(_, RC_HANDLE)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let length = |mut body: Body<'_>| {
            let public = body.sized()?;
            public.last_chunk().map(|bytes| u16::from_be_bytes(*bytes))
        };
        let length = length(Body::new(&public)).filter(|length| usize::from(*length) <= NV_BYTES_MAX);
        let length = length.ok_or(Error::Malformed(code::NV_READ_PUBLIC))?;
        let mut content = Vec::new();
        let mut offset = 0;
        while offset < length {
            let chunk = NV_CHUNK_BYTES.min(length - offset);
            let command =
                Command::new(code::NV_READ).handle(RH_OWNER).handle(index).password().u16(chunk).u16(offset);
            let response = self.run(&command)?;
            let read = Body::new(&response).parameters().and_then(|mut parameters| parameters.sized());
            let read = read.filter(|read| read.len() == usize::from(chunk));
            content.extend_from_slice(read.ok_or(Error::Malformed(code::NV_READ))?);
            offset += chunk;
        }
        Ok(Some(content))
    }

    /// Gives the room back that a key took.
    ///
    /// # Errors
    /// [`Error`].
    pub fn flush(&mut self, ak: &AttestationKey) -> Result<(), Error> {
        self.run(&Command::new(code::FLUSH_CONTEXT).handle(ak.handle)).map(drop)
    }

    /// Sends a command, and gives what follows the header of its response.
    fn run(&mut self, command: &Command) -> Result<Vec<u8>, Error> {
        const RC_YIELDED: u32 = 0x908;
        const RC_TESTING: u32 = 0x90a;
        const RC_RETRY: u32 = 0x922;
        for _ in 0..RETRIES_MAX {
            let response = self.exchange(&command.encode()).map_err(Error::Io)?;
            let (code, body) = wire::response(&response).ok_or(Error::Malformed(command.code()))?;
            match code {
                0 => return Ok(body.to_vec()),
                RC_YIELDED | RC_TESTING | RC_RETRY => thread::sleep(RETRY_WAIT),
                code => return Err(Error::Refused(command.code(), code)),
            }
        }
        Err(Error::Refused(command.code(), RC_RETRY))
    }

    fn exchange(&mut self, command: &[u8]) -> io::Result<Vec<u8>> {
        self.stream.write_all(command)?;
        self.stream.flush()?;
        let mut response = vec![0; RESPONSE_BYTES_MAX];
        let mut length = 0;
        // The kernel's device gives a response at once, a socket may give it in pieces.
        while length < wire::stated_length(&response[..length]) {
            match self.stream.read(&mut response[length..])? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => length += read,
            }
        }
        response.truncate(length);
        Ok(response)
    }
}

/// `TPML_PCR_SELECTION` of PCRs of the SHA-256 bank.
fn selection(pcrs: std::ops::RangeInclusive<u8>) -> [u8; 10] {
    let bits = pcrs.fold(0_u32, |bits, index| bits | 1 << index).to_le_bytes();
    let [high, low] = ALG_SHA256.to_be_bytes();
    [0, 0, 0, 1, high, low, 3, bits[0], bits[1], bits[2]]
}
