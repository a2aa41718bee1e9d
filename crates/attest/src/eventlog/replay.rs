//! From events to the registers that they lead to.

use keyhearth_crypto::digest::{sha256, sha384};

use super::facts::BootPhase;
use super::parse::{Event, Log};
use crate::reason::{Reason, Refusal};
use crate::tpm::Pcrs;

/// The registers that a log is compared with.
#[derive(Clone, Copy, Debug)]
pub enum Quoted<'a> {
    /// PCRs of a TPM's SHA-256 bank.
    Pcrs(&'a Pcrs),
    /// The RTMRs of a TDX VM.
    Rtmrs(&'a [[u8; 48]; 4]),
}

impl Quoted<'_> {
    pub(super) fn bank(self) -> Bank {
        self.layout().bank()
    }

    pub(super) fn layout(self) -> Layout {
        match self {
            Self::Pcrs(_) => Layout::Pcrs,
            Self::Rtmrs(_) => Layout::Rtmrs,
        }
    }

    /// The value of a register, if it was quoted.
    fn value(&self, register: usize) -> Option<&[u8]> {
        match self {
            Self::Pcrs(pcrs) => pcrs.get(&u8::try_from(register).ok()?).map(<[u8; 32]>::as_slice),
            Self::Rtmrs(rtmrs) => rtmrs.get(register).map(<[u8; 48]>::as_slice),
        }
    }
}

/// A hash, and the bank of registers that it extends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bank {
    Sha256,
    Sha384,
}

impl Bank {
    pub(super) fn algorithm(self) -> u16 {
        match self {
            Self::Sha256 => 0x000b,
            Self::Sha384 => 0x000c,
        }
    }

    pub(super) fn digest_bytes(self) -> u16 {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
        }
    }

    pub(super) fn hash(self, parts: &[&[u8]]) -> Vec<u8> {
        match self {
            Self::Sha256 => sha256(parts).to_vec(),
            Self::Sha384 => sha384(&parts.concat()).to_vec(),
        }
    }
}

/// Which registers there are, and what each is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    Pcrs,
    Rtmrs,
}

/// What is measured into a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Secure Boot: its state, and the variables that configure it.
    SecureBoot,
    /// What the firmware started.
    Applications,
    /// What GRUB was told.
    GrubTexts,
    /// The sections of a unified kernel image, and how far userspace came.
    Image,
    /// What a unified kernel image was told besides what is in it.
    Overrides,
    /// The keys of a machine's owner that shim trusts.
    Mok,
}

impl Layout {
    pub(super) fn bank(self) -> Bank {
        match self {
            Self::Pcrs => Bank::Sha256,
            Self::Rtmrs => Bank::Sha384,
        }
    }

    /// How many there are: PCRs above 16 are not a boot's.
    fn registers(self) -> usize {
        match self {
            Self::Pcrs => 17,
            Self::Rtmrs => 4,
        }
    }

    /// So many registers, from the first, are the firmware's: each of their events is in the log.
    fn firmware_registers(self) -> usize {
        match self {
            Self::Pcrs => 8,
            Self::Rtmrs => 2,
        }
    }

    /// The register of an event. Logs of confidential VMs count MRTD, which no event extends, as 0.
    fn register(self, index: u32) -> Option<usize> {
        let index = usize::try_from(index).ok()?;
        let register = match self {
            Self::Pcrs => index,
            Self::Rtmrs => index.checked_sub(1)?,
        };
        (register < self.registers()).then_some(register)
    }

    /// The register with this role. An RTMR is several PCRs in one, so that most roles have none there: Secure Boot's
    /// variables share RTMR0 with what the host configures (PCR 1), and an image's sections share RTMR2 with whatever a boot
    /// loader reads (PCR 9). Whoever chooses the contents of those chooses what the log seems to say of the others.
    pub(super) fn of(self, role: Role) -> Option<usize> {
        match (self, role) {
            (Self::Pcrs, Role::SecureBoot) => Some(7),
            (Self::Pcrs, Role::Applications) => Some(4),
            (Self::Pcrs, Role::GrubTexts) => Some(8),
            (Self::Pcrs, Role::Image) => Some(11),
            (Self::Pcrs, Role::Overrides) => Some(12),
            (Self::Pcrs, Role::Mok) => Some(14),
            (Self::Rtmrs, Role::Applications) => Some(1),
            (Self::Rtmrs, Role::SecureBoot | Role::GrubTexts | Role::Image | Role::Overrides | Role::Mok) => {
                None
            }
        }
    }

    fn name(self, register: usize) -> String {
        match self {
            Self::Pcrs => format!("PCR {register}"),
            Self::Rtmrs => format!("RTMR{register}"),
        }
    }
}

/// What a log leads to.
pub(super) struct Replay<'a> {
    pub(super) layout: Layout,
    registers: Vec<Register<'a>>,
}

#[derive(Default)]
struct Register<'a> {
    value: Vec<u8>,
    events: Vec<&'a Event<'a>>,
    /// Whether the log leads to what was quoted.
    explained: bool,
}

/// In the first register's last byte the firmware says from which locality it started.
const STARTUP_LOCALITY: &[u8; 16] = b"StartupLocality\0";
const STARTUP_LOCALITIES: [u8; 3] = [0, 3, 4];

impl<'a> Replay<'a> {
    pub(super) fn of(log: &'a Log<'a>, layout: Layout) -> Result<Self, Refusal> {
        let bank = layout.bank();
        let start = || Register { value: vec![0; bank.digest_bytes().into()], ..Register::default() };
        let mut registers: Vec<_> = (0..layout.registers()).map(|_| start()).collect();
        for event in &log.events {
            if event.informs {
                if layout == Layout::Pcrs && registers[0].events.is_empty() {
                    start_at_locality(&mut registers[0].value, event);
                }
                continue;
            }
            let unknown = || Reason::EventLogRegister.because(format!("register {}", event.register));
            let index = layout.register(event.register).ok_or_else(unknown)?;
            let register = &mut registers[index];
            register.value = bank.hash(&[&register.value, event.digest]);
            register.events.push(event);
        }
        Ok(Self { layout, registers })
    }

    /// Compares with what was quoted. Gives how far userspace came, if the boot measures that.
    pub(super) fn compare(&mut self, quoted: &Quoted<'_>) -> Result<Option<BootPhase>, Refusal> {
        let (bank, layout) = (self.layout.bank(), self.layout);
        let mut phase = None;
        for (index, register) in self.registers.iter_mut().enumerate() {
            let Some(value) = quoted.value(index) else { continue };
            register.explained = register.value == value;
            if layout == Layout::Pcrs && layout.of(Role::Image) == Some(index) && !register.events.is_empty()
            {
                phase = BootPhase::between(bank, &register.value, value);
                register.explained = phase.is_some();
            }
            let must = index < layout.firmware_registers() || !register.events.is_empty();
            if must && !register.explained {
                return Err(Reason::EventLogDiffers.because(layout.name(index)));
            }
        }
        Ok(phase)
    }

    /// The events of the register with a role, if the log explains its value.
    pub(super) fn events(&self, role: Role) -> Option<&[&'a Event<'a>]> {
        let register = &self.registers[self.layout.of(role)?];
        register.explained.then_some(&*register.events)
    }

    /// The values of a bank of SHA-256, by index.
    pub(super) fn pcrs(&self) -> Pcrs {
        let value = |register: &Register<'_>| register.value.as_slice().try_into().ok();
        (0..).zip(&self.registers).filter_map(|(index, register)| Some((index, value(register)?))).collect()
    }

    /// Whether an event's digest is of these bytes.
    pub(super) fn is_of(&self, event: &Event<'_>, bytes: &[u8]) -> bool {
        event.digest == self.layout.bank().hash(&[bytes])
    }

    /// The same of what the log says of it.
    pub(super) fn is_of_data(&self, event: &Event<'_>) -> bool {
        self.is_of(event, event.data)
    }
}

fn start_at_locality(value: &mut [u8], event: &Event<'_>) {
    if let Some([locality]) = event.data.strip_prefix(STARTUP_LOCALITY)
        && STARTUP_LOCALITIES.contains(locality)
        && let Some(last) = value.last_mut()
    {
        *last = *locality;
    }
}
