//! Evidence of what this machine is: collected from the kernel, appraised by the server alone.
//!
//! What the machine says of itself without hardware behind it (CPU flags, names of devices) chooses what is asked
//! for, and claims nothing.
//!
//! Called by [`crate::run`] and by `keyhearth-boot check`.

mod azure;
mod quote;
mod tsm;

use std::fmt;
use std::fs::File;
use std::io;
use std::path::PathBuf;

use keyhearth_attest::{eventlog, tdx};
use keyhearth_crypto::digest::{sha256, sha384};
pub use keyhearth_proto::boot::Tee;
use keyhearth_proto::boot::Transcript;
use keyhearth_sys::sev_guest;

use crate::tpm::{self, PCR_RELEASED, RELEASED, Tpm};

/// What is sent to the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// The evidence; absent for [`Tee::None`].
    pub evidence: Option<Vec<u8>>,
    /// Certificates that came with it.
    pub endorsements: Vec<Vec<u8>>,
}

/// Why there is no evidence.
#[derive(Debug)]
pub enum Error {
    /// The kernel does not offer it; the text says what is missing.
    Absent(&'static str),
    /// A report of the hardware was refused.
    Report(io::Error),
    /// The TPM.
    Tpm(tpm::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent(what) => f.write_str(what),
            Self::Report(error) => write!(f, "the hardware gave no report: {error}"),
            Self::Tpm(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Error {}

impl From<tpm::Error> for Error {
    fn from(error: tpm::Error) -> Self {
        Self::Tpm(error)
    }
}

/// Where the kernel shows what evidence is made of.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The reports of configfs-tsm: Linux 6.7.
    pub tsm: PathBuf,
    /// The driver of SNP guests: Linux 5.19.
    pub sev_guest: PathBuf,
    /// The driver of TDX guests; it makes no quotes.
    pub tdx_guest: PathBuf,
    /// The last of TDX's registers: Linux 6.16.
    pub rtmr: PathBuf,
    /// A TPM, the better one first.
    pub tpm: Vec<PathBuf>,
    /// What the firmware measured into the TPM.
    pub event_log: PathBuf,
    /// What the firmware of a TD measured into its registers (CCEL).
    pub td_event_log: PathBuf,
    /// By which Azure marks its machines.
    pub chassis: PathBuf,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            tsm: "/sys/kernel/config/tsm/report".into(),
            sev_guest: "/dev/sev-guest".into(),
            tdx_guest: "/dev/tdx_guest".into(),
            rtmr: "/sys/devices/virtual/misc/tdx_guest/measurements/rtmr3:sha384".into(),
            tpm: ["/dev/tpmrm0", "/dev/tpm0"].map(PathBuf::from).into(),
            event_log: "/sys/kernel/security/tpm0/binary_bios_measurements".into(),
            td_event_log: "/sys/firmware/acpi/tables/data/CCEL".into(),
            chassis: "/sys/class/dmi/id/chassis_asset_tag".into(),
        }
    }
}

impl Machine {
    /// The strongest evidence that this machine has.
    #[must_use]
    pub fn detect(&self) -> Tee {
        if azure::is_here(self) {
            return Tee::Azure;
        }
        match tsm::provider(&self.tsm).as_deref() {
            Ok("sev_guest") => Tee::Snp,
            Ok("tdx_guest") => Tee::Tdx,
            Ok(_) | Err(_) if self.sev_guest.exists() => Tee::Snp,
            Ok(_) | Err(_) if self.tdx_guest.exists() => Tee::Tdx,
            Ok(_) | Err(_) if self.tpm.iter().any(|device| device.exists()) => Tee::Tpm,
            Ok(_) | Err(_) => Tee::None,
        }
    }

    /// How often the machine was started, as its TPM counts; 0 without one.
    ///
    /// # Errors
    /// [`Error::Tpm`] if the TPM that there is does not answer.
    pub fn boot_counter(&self) -> Result<u64, Error> {
        match Tpm::open(&self.tpm) {
            Ok(mut tpm) => Ok(tpm.reset_count()?.into()),
            Err(tpm::Error::Absent) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// Evidence that carries the transcript of a request.
    ///
    /// # Errors
    /// [`Error`] if the machine has none of this kind.
    pub fn collect(&self, tee: Tee, transcript: &Transcript) -> Result<Collected, Error> {
        let report_data = &transcript.0;
        match tee {
            Tee::Snp => self.snp(report_data),
            Tee::Tdx if self.tsm.exists() => self.tdx(report_data),
            Tee::Tdx => {
                Err(Error::Absent("quotes of TDX need configfs-tsm: Linux 6.7, CONFIG_TDX_GUEST_DRIVER"))
            }
            Tee::Tpm => quote::collect(self, &transcript.qualifying_data()),
            Tee::Azure => azure::collect(self, &transcript.qualifying_data()),
            Tee::None => Ok(Collected::default()),
        }
    }

    /// A quote, with the firmware's event log if the kernel shows it.
    fn tdx(&self, report_data: &[u8; 64]) -> Result<Collected, Error> {
        let collected = tsm::report(&self.tsm, "tdx_guest", report_data).map_err(Error::Report)?;
        let Some(log) = quote::event_log(&self.td_event_log) else { return Ok(collected) };
        let with_log = |quote| tdx::Evidence { quote, log: eventlog::without_filler(&log).to_vec() }.encode();
        Ok(Collected { evidence: collected.evidence.map(with_log), ..collected })
    }

    fn snp(&self, report_data: &[u8; 64]) -> Result<Collected, Error> {
        if tsm::provider(&self.tsm).is_ok() {
            return tsm::report(&self.tsm, "sev_guest", report_data).map_err(Error::Report);
        }
        let missing = "neither configfs-tsm (Linux 6.7) nor /dev/sev-guest (CONFIG_SEV_GUEST) is here";
        let device = File::options().read(true).write(true).open(&self.sev_guest);
        let report = sev_guest::report(&device.map_err(|_| Error::Absent(missing))?, report_data);
        let report = report.map_err(Error::Report)?;
        let endorsements = Some(report.certificates).filter(|table| !table.is_empty());
        Ok(Collected { evidence: Some(report.report), endorsements: endorsements.into_iter().collect() })
    }

    /// Sees to it that no evidence of this boot looks any more as before the release.
    ///
    /// This is the commit point of a release: it comes before any volume is opened, so that whoever takes over the
    /// machine later finds it done. What ends between here and there has to boot again.
    ///
    /// # Errors
    /// [`Error`] if the evidence was a TPM's and the TPM refuses. Hardware that has no such register, as SNP, has
    /// nothing to do; its TPM, if there is one, is extended nevertheless.
    pub fn mark_released(&self, tee: Tee) -> Result<(), Error> {
        let extended =
            Tpm::open(&self.tpm).and_then(|mut tpm| tpm.extend(PCR_RELEASED, &sha256(&[RELEASED])));
        match tee {
            Tee::Tpm | Tee::Azure => extended.map_err(Error::Tpm),
            Tee::Tdx if self.rtmr.exists() => {
                std::fs::write(&self.rtmr, sha384(RELEASED)).map_err(Error::Report)
            }
            Tee::Snp | Tee::Tdx | Tee::None => Ok(()),
        }
    }
}
