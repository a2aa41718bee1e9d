//! What a log tells of a boot, after it was compared.
//!
//! Source: TCG PC Client Platform Firmware Profile rev. 1.05 §3.3.4 (PCRs), §10.4 (events); UEFI 2.10 §32
//! (variables); GRUB manual §19.2 (PCR 8); systemd-stub(7), systemd-pcrphase.service(8) (PCRs 11 and 12).

use std::collections::BTreeMap;

use keyhearth_crypto::digest::sha256;
use serde::Serialize;

use super::parse::Event;
use super::replay::{Bank, Replay, Role};
use crate::claims::Bytes;
use crate::reader::Reader;

/// The longest command line that is told; Linux takes 2,048 bytes on most machines.
const COMMAND_LINE_BYTES_MAX: usize = 4096;

/// What a log tells. A member that is absent is not known: its register was not quoted, nothing was measured, or
/// what was measured is not what the log says of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BootFacts {
    /// Whether the firmware started only what Secure Boot's keys allow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secure_boot: Option<bool>,
    /// SHA-256 of the variable `PK`: who may change the keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pk: Option<Bytes>,
    /// SHA-256 of the variable `KEK`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kek: Option<Bytes>,
    /// SHA-256 of the variable `db`: what may start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub db: Option<Bytes>,
    /// SHA-256 of the variable `dbx`: what may not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dbx: Option<Bytes>,
    /// Authenticode digests of what the firmware started, in order: boot loader, kernel. In the register's bank.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_applications: Option<Vec<Bytes>>,
    /// The kernel's file and parameters as GRUB was told them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel_command_line: Option<String>,
    /// What was added to the command line of a unified kernel image, all of it, in order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command_line_overrides: Option<Vec<String>>,
    /// Digests of the sections of a unified kernel image, by name without the dot, in the register's bank.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_sections: Option<BTreeMap<&'static str, Bytes>>,
    /// How far userspace came, if it measures that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<BootPhase>,
    /// Digests of what shim measured of the owner's keys (MOK), in order. Which is which is not measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mok: Option<Vec<Bytes>>,
}

/// How far userspace came, as systemd measures it into PCR 11.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BootPhase {
    /// Userspace did not begin, or does not measure that it did.
    BeforeInitrd,
    /// In the initial ramdisk: disks are still locked.
    EnterInitrd,
    /// Past it.
    LeaveInitrd,
    /// Services start.
    Sysinit,
    /// The system is up.
    Ready,
    /// The system goes down.
    Shutdown,
    /// Disks are being detached.
    Final,
}

impl BootPhase {
    pub(crate) const ENTER_INITRD: &'static str = "enter-initrd";

    /// What is measured when a phase begins, in order.
    const WORDS: [(Self, &str); 6] = [
        (Self::EnterInitrd, Self::ENTER_INITRD),
        (Self::LeaveInitrd, "leave-initrd"),
        (Self::Sysinit, "sysinit"),
        (Self::Ready, "ready"),
        (Self::Shutdown, "shutdown"),
        (Self::Final, "final"),
    ];

    /// The phase in which a register that was `before` has become `after`; nothing if it was extended otherwise.
    /// The firmware's log ends before userspace begins, so that these words are in no log. Initial ramdisks without
    /// systemd measure none of theirs.
    pub(super) fn between(bank: Bank, before: &[u8], after: &[u8]) -> Option<Self> {
        let (_, without_initrd) = Self::WORDS.split_at(2);
        [&Self::WORDS[..], without_initrd]
            .into_iter()
            .find_map(|words| Self::along(words, bank, before, after))
    }

    /// Whether a register that was `before` has become `after` by way of an initial ramdisk that measures itself; nothing
    /// if it was extended otherwise.
    pub(super) fn measures_initrd(bank: Bank, before: &[u8], after: &[u8]) -> Option<bool> {
        let (_, without_initrd) = Self::WORDS.split_at(2);
        let reached = |words| Self::along(words, bank, before, after).is_some();
        if reached(without_initrd) { Some(false) } else { reached(&Self::WORDS).then_some(true) }
    }

    fn along(words: &[(Self, &str)], bank: Bank, before: &[u8], after: &[u8]) -> Option<Self> {
        let mut value = before.to_vec();
        let mut reached = Self::BeforeInitrd;
        for (phase, word) in words {
            if value == after {
                break;
            }
            value = bank.hash(&[&value, &bank.hash(&[word.as_bytes()])]);
            reached = *phase;
        }
        (value == after).then_some(reached)
    }
}

pub(super) fn facts(replay: &Replay<'_>, phase: Option<BootPhase>) -> BootFacts {
    let variables = variables(replay);
    let variable = |name: &str| variables.get(name).copied().flatten();
    let digest = |name: &str| variable(name).map(|value| sha256(&[value]).as_slice().into());
    BootFacts {
        secure_boot: variable("SecureBoot").and_then(|value| match value {
            [] | [0] => Some(false),
            [1] => Some(true),
            _ => None,
        }),
        pk: digest("PK"),
        kek: digest("KEK"),
        db: digest("db"),
        dbx: digest("dbx"),
        boot_applications: boot_applications(replay),
        kernel_command_line: kernel_command_line(replay),
        command_line_overrides: command_line_overrides(replay),
        image_sections: image_sections(replay),
        phase,
        mok: digests(replay.events(Role::Mok)),
    }
}

/// In little endian as they are measured.
const GLOBAL_VARIABLE: [u8; 16] =
    [0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c];
const IMAGE_SECURITY_DATABASE: [u8; 16] =
    [0xcb, 0xb2, 0x19, 0xd7, 0x3a, 0x3d, 0x96, 0x45, 0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f];

const VARIABLES: &[([u8; 16], &str)] = &[
    (GLOBAL_VARIABLE, "SecureBoot"),
    (GLOBAL_VARIABLE, "PK"),
    (GLOBAL_VARIABLE, "KEK"),
    (IMAGE_SECURITY_DATABASE, "db"),
    (IMAGE_SECURITY_DATABASE, "dbx"),
];

/// Secure Boot's variables as the firmware measured them before it started anything: whatever is started later can
/// extend the register by what only looks like them. One that was measured twice with other contents is not known.
fn variables<'a>(replay: &Replay<'a>) -> BTreeMap<&'static str, Option<&'a [u8]>> {
    let mut variables = BTreeMap::new();
    for event in replay.events(Role::SecureBoot).unwrap_or_default() {
        if is_separator(replay, event) {
            return variables;
        }
        if let Some((name, value)) = variable(event.data).filter(|_| replay.is_of_data(event)) {
            let known = variables.entry(name).or_insert(Some(value));
            *known = known.filter(|known| *known == value);
        }
    }
    // Without a separator it is not known what was measured before anything was started.
    BTreeMap::new()
}

/// Name and contents of `UEFI_VARIABLE_DATA`, if it is one of Secure Boot's.
fn variable(data: &[u8]) -> Option<(&'static str, &[u8])> {
    let mut reader = Reader::new(data);
    let owner: [u8; 16] = reader.array()?;
    let name_units = u64::from_le_bytes(reader.array()?);
    let value_bytes = u64::from_le_bytes(reader.array()?);
    let name = reader.slice(usize::try_from(name_units).ok()?.checked_mul(2)?)?;
    let value = reader.slice(usize::try_from(value_bytes).ok()?)?;
    reader.end()?;
    let (_, known) = VARIABLES.iter().find(|(of, known)| *of == owner && utf16(known) == name)?;
    Some((known, value))
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// What is measured between firmware and what it starts.
const SEPARATORS: [&[u8]; 2] = [&[0; 4], &[0xff; 4]];

fn is_separator(replay: &Replay<'_>, event: &Event<'_>) -> bool {
    SEPARATORS.iter().any(|separator| replay.is_of(event, separator))
}

/// What firmware says in the registers of boot applications, besides the digests of these.
const ACTIONS: [&str; 6] = [
    "Calling EFI Application from Boot Option",
    "Returning from EFI Application from Boot Option",
    "Entering ROM Based Setup",
    "Exit Boot Services Invocation",
    "Exit Boot Services Returned with Success",
    "Exit Boot Services Returned with Failure",
];

/// A partition table begins with this, and no program does.
const PARTITION_TABLE: &[u8] = b"EFI PART";

/// Digests that are not of something harmless are of programs: what the log calls them does not count.
fn boot_applications(replay: &Replay<'_>) -> Option<Vec<Bytes>> {
    let harmless = |event: &Event<'_>| {
        is_separator(replay, event)
            || ACTIONS.iter().any(|action| replay.is_of(event, action.as_bytes()))
            || event.data.starts_with(PARTITION_TABLE) && replay.is_of_data(event)
    };
    let events = replay.events(Role::Applications)?.iter();
    Some(events.filter(|event| !harmless(event)).map(|event| event.digest.into()).collect())
}

/// What stands before a text of GRUB in the log; the last two are Red Hat's.
const GRUB_LABELS: [&str; 5] =
    ["grub_cmd: ", "kernel_cmdline: ", "module_cmdline: ", "grub_cmd ", "grub_kernel_cmdline "];
const GRUB_LOADERS: [&str; 3] = ["linux ", "linux16 ", "linuxefi "];

/// The kernel's file and parameters.
///
/// GRUB measures each command and each command line, but not which of both a text is, so labels do not count. A
/// command line is a text that says what a command that loads a kernel says; there has to be one, and no other.
fn kernel_command_line(replay: &Replay<'_>) -> Option<String> {
    let events = replay.events(Role::GrubTexts)?.iter();
    let measured = events.filter(|event| !is_separator(replay, event));
    let texts: Vec<_> = measured.map(|event| grub_text(replay, event)).collect::<Option<_>>()?;
    let loads = |text: &&str| GRUB_LOADERS.iter().any(|loader| text.starts_with(loader));
    let loaded = texts.iter().copied().filter(loads).filter_map(|text| text.split_once(' '));
    let loaded: Vec<_> = loaded.map(|(_, line)| line).collect();
    let (first, others) = loaded.split_first()?;
    let mut lines = texts.iter().filter(|text| unquoted(text) == *first);
    let told = lines.next().filter(|line| line.len() <= COMMAND_LINE_BYTES_MAX)?;
    let known = lines.all(|line| line == told) && others.iter().all(|line| line == first);
    known.then(|| (*told).to_owned())
}

/// The text of an event of GRUB, whose digest it has. Red Hat's GRUB measures the zero behind a command too.
fn grub_text<'a>(replay: &Replay<'_>, event: &Event<'a>) -> Option<&'a str> {
    let data = str::from_utf8(event.data.strip_suffix(b"\0")?).ok()?;
    let text = GRUB_LABELS.iter().find_map(|label| data.strip_prefix(label))?;
    let measured = [text.as_bytes(), b"\0"].concat();
    (replay.is_of(event, text.as_bytes()) || replay.is_of(event, &measured)).then_some(text)
}

/// A command line as the command had it: GRUB puts a parameter with spaces in quotes, and a backslash before quotes
/// and backslashes.
fn unquoted(line: &str) -> String {
    let mut letters = line.chars().peekable();
    std::iter::from_fn(|| match letters.find(|letter| *letter != '"')? {
        '\\' => letters.next_if(|next| matches!(next, '\\' | '\'' | '"')).or(Some('\\')),
        other => Some(other),
    })
    .collect()
}

/// Texts in UTF-16 whose digests the register has; nothing if it has others too, such as those of credentials.
fn command_line_overrides(replay: &Replay<'_>) -> Option<Vec<String>> {
    let events = replay.events(Role::Overrides)?.iter();
    let text = |event: &Event<'_>| {
        let units: Vec<_> =
            event.data.chunks(2).map(|unit| unit.try_into().map(u16::from_le_bytes)).collect();
        let units: Vec<u16> = units.into_iter().collect::<Result<_, _>>().ok()?;
        let (0, text) = units.split_last()? else { return None };
        let known = event.data.len() <= 2 * COMMAND_LINE_BYTES_MAX && replay.is_of_data(event);
        String::from_utf16(text).ok().filter(|_| known)
    };
    events.filter(|event| !is_separator(replay, event)).map(|event| text(event)).collect()
}

/// Sections of a unified kernel image that are measured.
const SECTIONS: [&str; 14] = [
    "linux", "osrel", "cmdline", "initrd", "ucode", "splash", "dtb", "dtbauto", "hwids", "efifw", "uname",
    "sbat", "pcrpkey", "profile",
];

/// Digests of sections: of each, first its name is measured and then its contents. Nothing is told if a section was
/// measured twice, or without any.
fn image_sections(replay: &Replay<'_>) -> Option<BTreeMap<&'static str, Bytes>> {
    let names =
        SECTIONS.map(|section| (section, replay.layout.bank().hash(&[b".", section.as_bytes(), b"\0"])));
    let mut sections = BTreeMap::new();
    let mut events = replay.events(Role::Image)?.iter();
    while let Some(event) = events.next() {
        let Some((section, _)) = names.iter().find(|(_, name)| event.digest == *name) else { continue };
        if sections.insert(*section, events.next()?.digest.into()).is_some() {
            return None;
        }
    }
    (!sections.is_empty()).then_some(sections)
}

fn digests(events: Option<&[&Event<'_>]>) -> Option<Vec<Bytes>> {
    let digests: Vec<_> = events?.iter().map(|event| event.digest.into()).collect();
    (!digests.is_empty()).then_some(digests)
}
