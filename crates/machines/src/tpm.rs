//! Machines with a TPM: quotes, event logs and HCL reports.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keyhearth_attest::eventlog::BootPhase;
use keyhearth_attest::tpm::Pcrs;
use keyhearth_crypto::algorithm::{Algorithm, Mechanism};
use keyhearth_crypto::digest::{sha256, sha384};
use keyhearth_crypto::key::{Input, Key};

use crate::der::der_integer;
use crate::make;

/// `TPM_ALG_SHA1`.
pub const SHA1: u16 = 0x0004;
/// `TPM_ALG_SHA256`.
pub const SHA256: u16 = 0x000b;
/// `TPM_ALG_SHA384`.
pub const SHA384: u16 = 0x000c;
/// `TPM_ALG_RSASSA`.
pub const RSASSA: u16 = 0x0014;
/// `TPM_ALG_RSAPSS`.
pub const RSAPSS: u16 = 0x0016;
/// `TPM_ALG_ECDSA`.
pub const ECDSA: u16 = 0x0018;

struct Keys {
    rsa: Key,
    p256: Key,
    p384: Key,
}

static KEYS: LazyLock<Keys> = LazyLock::new(|| Keys {
    rsa: make(Algorithm::Rsa2048),
    p256: make(Algorithm::EcP256),
    p384: make(Algorithm::EcP384),
});

/// The attestation keys of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ak {
    /// RSA of 2048 bits, signing by RSASSA with SHA-256.
    Rsassa,
    /// The same key, signing by RSAPSS with SHA-256.
    Rsapss,
    /// ECDSA P-256 with SHA-256.
    P256,
    /// ECDSA P-384 with SHA-384.
    P384,
}

/// What TPMs say of restricted keys that sign: `fixedTPM`, `fixedParent`, `sensitiveDataOrigin`, `userWithAuth`,
/// `restricted`, `sign`.
pub const ATTRIBUTES: u32 = 0x0005_0072;

fn sized(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).expect("it is short").to_be_bytes(), bytes].concat()
}

impl Ak {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Rsassa, Self::Rsapss, Self::P256, Self::P384];

    fn key(self) -> &'static Key {
        match self {
            Self::Rsassa | Self::Rsapss => &KEYS.rsa,
            Self::P256 => &KEYS.p256,
            Self::P384 => &KEYS.p384,
        }
    }

    fn scheme(self) -> (u16, u16, Mechanism) {
        match self {
            Self::Rsassa => (RSASSA, SHA256, Mechanism::RsaPkcs1Sha256),
            Self::Rsapss => (RSAPSS, SHA256, Mechanism::RsaPssSha256),
            Self::P256 => (ECDSA, SHA256, Mechanism::EcdsaSha256),
            Self::P384 => (ECDSA, SHA384, Mechanism::EcdsaSha384),
        }
    }

    /// `SubjectPublicKeyInfo`.
    pub fn spki(self) -> Vec<u8> {
        self.key().public_key_der().expect("a pair").to_vec()
    }

    /// What it is enrolled by.
    pub fn fingerprint(self) -> [u8; 32] {
        sha256(&[&self.spki()])
    }

    /// The modulus: what follows the lengths at the front of these, and is followed by the exponent.
    pub fn modulus(self) -> Vec<u8> {
        let spki = self.spki();
        spki[spki.len() - 261..spki.len() - 5].to_vec()
    }

    /// `TPMT_PUBLIC`.
    pub fn public(self, attributes: u32) -> Vec<u8> {
        let (scheme, hash, _) = self.scheme();
        let [scheme, hash, none] = [scheme, hash, 0x0010].map(u16::to_be_bytes);
        let spki = self.spki();
        let point = |curve: u16, bytes: usize| {
            let (x, y) = spki[spki.len() - 2 * bytes..].split_at(bytes);
            [&curve.to_be_bytes()[..], &none, &sized(x), &sized(y)].concat()
        };
        let (kind, unique) = match self {
            Self::Rsassa | Self::Rsapss => {
                (1_u16, [&2048_u16.to_be_bytes()[..], &[0; 4], &sized(&self.modulus())].concat())
            }
            Self::P256 => (0x23, point(3, 32)),
            Self::P384 => (0x23, point(4, 48)),
        };
        let front = [&kind.to_be_bytes()[..], &SHA256.to_be_bytes(), &attributes.to_be_bytes()].concat();
        [&front, &sized(&[])[..], &none, &scheme, &hash, &unique].concat()
    }

    /// `TPMT_SIGNATURE`.
    pub fn sign(self, message: &[u8]) -> Vec<u8> {
        let (scheme, hash, mechanism) = self.scheme();
        let signature = self.key().sign(mechanism, Input::Message(message)).expect("a pair");
        let numbers = match self {
            Self::Rsassa | Self::Rsapss => sized(&signature),
            Self::P256 | Self::P384 => {
                let (r, rest) = der_integer(&signature[2..]);
                [sized(r), sized(der_integer(rest).0)].concat()
            }
        };
        [&scheme.to_be_bytes()[..], &hash.to_be_bytes(), &numbers].concat()
    }
}

/// What a TPM signs; what is not made otherwise is sound.
#[derive(Clone)]
pub struct Quote {
    /// What shows that a TPM made it.
    pub magic: u32,
    /// What kind of statement it is.
    pub kind: u16,
    /// What the request asked to be in it.
    pub extra_data: Vec<u8>,
    /// Whether the clock is known not to have gone back.
    pub safe: u8,
    /// The algorithm of each bank, and its PCRs as bits.
    pub banks: Vec<(u16, Vec<u8>)>,
    /// Of the values of these PCRs.
    pub digest: [u8; 32],
}

impl Quote {
    /// A quote of these PCRs for a request with this report data.
    pub fn of(pcrs: &Pcrs, report_data: &[u8; 64]) -> Self {
        let mut selected = vec![0; 3];
        for index in pcrs.keys() {
            selected[usize::from(index / 8)] |= 1 << (index % 8);
        }
        let values: Vec<u8> = pcrs.values().flatten().copied().collect();
        Self {
            magic: 0xff54_4347,
            kind: 0x8018,
            extra_data: sha256(&[report_data]).to_vec(),
            safe: 1,
            banks: vec![(SHA256, selected)],
            digest: sha256(&[&values]),
        }
    }

    /// `TPMS_ATTEST`.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = [&self.magic.to_be_bytes()[..], &self.kind.to_be_bytes()].concat();
        bytes.extend(sized(&[0x5a; 34]));
        bytes.extend(sized(&self.extra_data));
        bytes.extend(90_000_u64.to_be_bytes());
        bytes.extend([7_u32, 1].map(u32::to_be_bytes).concat());
        bytes.push(self.safe);
        bytes.extend(0x0102_0304_0506_0708_u64.to_be_bytes());
        bytes.extend(u32::try_from(self.banks.len()).expect("a few").to_be_bytes());
        for (algorithm, selected) in &self.banks {
            bytes.extend(algorithm.to_be_bytes());
            bytes.push(u8::try_from(selected.len()).expect("a few"));
            bytes.extend(selected);
        }
        bytes.extend(sized(&self.digest));
        bytes
    }
}

/// What is measured, and what the log says of it.
#[derive(Clone)]
pub struct Event {
    /// The PCR that it extends.
    pub register: u32,
    /// The type of the event.
    pub kind: u32,
    /// What its digests are of.
    pub measured: Vec<u8>,
    /// What the log says of it.
    pub data: Vec<u8>,
}

const EV_NO_ACTION: u32 = 0x03;
const EV_SEPARATOR: u32 = 0x04;
const EV_IPL: u32 = 0x0d;
const EV_EFI_VARIABLE_DRIVER_CONFIG: u32 = 0x8000_0001;
const EV_EFI_BOOT_SERVICES_APPLICATION: u32 = 0x8000_0003;
const EV_EFI_ACTION: u32 = 0x8000_0007;

impl Event {
    /// An event of any kind.
    pub fn new(register: u32, kind: u32, measured: &[u8], data: &[u8]) -> Self {
        Self { register, kind, measured: measured.to_vec(), data: data.to_vec() }
    }

    /// What ends the firmware's part of a register.
    pub fn separator(register: u32) -> Self {
        Self::new(register, EV_SEPARATOR, &[0; 4], &[0; 4])
    }

    /// Only informs.
    pub fn note(data: &[u8]) -> Self {
        Self::new(0, EV_NO_ACTION, &[], data)
    }

    /// A variable of Secure Boot.
    pub fn variable(name: &str, value: &[u8]) -> Self {
        let owner = if name.starts_with("db") {
            [0xcb, 0xb2, 0x19, 0xd7, 0x3a, 0x3d, 0x96, 0x45, 0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f]
        } else {
            [0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c]
        };
        let lengths = [name.len(), value.len()].map(|length| (length as u64).to_le_bytes()).concat();
        let data = [&owner[..], &lengths, &utf16(name), value].concat();
        Self::new(7, EV_EFI_VARIABLE_DRIVER_CONFIG, &data, &data)
    }

    /// A program that the firmware starts; its digest is not of what the log says.
    pub fn application(name: &str) -> Self {
        Self::new(4, EV_EFI_BOOT_SERVICES_APPLICATION, name.as_bytes(), b"where it was loaded from")
    }

    /// A text of GRUB.
    pub fn grub(label: &str, text: &str) -> Self {
        Self::new(8, EV_IPL, text.as_bytes(), format!("{label}{text}\0").as_bytes())
    }

    /// What is added to a command line.
    pub fn addition(text: &str) -> Self {
        let data = [&utf16(text)[..], &[0, 0]].concat();
        Self::new(12, EV_IPL, &data, &data)
    }

    /// The name and the contents of a section.
    pub fn section(name: &str, contents: &[u8]) -> [Self; 2] {
        let name = format!(".{name}\0");
        [
            Self::new(11, EV_IPL, name.as_bytes(), &utf16(&name)),
            Self::new(11, EV_IPL, contents, &utf16(&name)),
        ]
    }
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// The log of a whole boot: firmware, Secure Boot, shim, GRUB, a unified kernel image.
pub fn boot() -> Vec<Event> {
    let mut events = vec![
        Event::note(b"StartupLocality\0\x03"),
        Event::new(0, 8, b"a version", b"a version"),
        Event::variable("SecureBoot", &[1]),
        Event::variable("PK", b"owner"),
        Event::variable("KEK", b"exchange"),
        Event::variable("db", b"allowed"),
        Event::variable("dbx", b"forbidden"),
    ];
    events.extend((0..8).map(Event::separator));
    events.extend([
        Event::new(4, EV_EFI_ACTION, CALLING, CALLING),
        Event::application("shim"),
        Event::new(14, EV_IPL, b"keys", b"MokList\0"),
        Event::new(14, EV_IPL, b"no keys", b"MokListX\0"),
        Event::application("grub"),
        Event::grub("grub_cmd: ", "set root=hd0,gpt1"),
        Event::grub("grub_cmd: ", "linux /vmlinuz ro panic=0 dm=1 none"),
        Event::grub("kernel_cmdline: ", "/vmlinuz ro panic=0 \"dm=1 none\""),
        Event::application("kernel"),
        Event::addition("console=ttyS0"),
    ]);
    events.extend(Event::section("linux", b"a kernel"));
    events.extend(Event::section("cmdline", b"ro"));
    events
}

const CALLING: &[u8] = b"Calling EFI Application from Boot Option";

/// The log in bytes, with digests of these banks.
pub fn log(events: &[Event], banks: &[u16]) -> Vec<u8> {
    let number = |number: usize| u32::try_from(number).expect("it is small").to_le_bytes();
    let sizes = banks.iter().flat_map(|bank| {
        let size = u16::try_from(hash(*bank, &[]).len()).expect("it is small");
        [bank.to_le_bytes(), size.to_le_bytes()].concat()
    });
    let sizes: Vec<u8> = sizes.collect();
    let header = [&b"Spec ID Event03\0"[..], &[0, 0, 0, 0, 0, 2, 0, 2], &number(banks.len()), &sizes, &[0]];
    let header = header.concat();
    let mut log =
        [&[0; 4][..], &EV_NO_ACTION.to_le_bytes(), &[0; 20], &number(header.len()), &header].concat();
    for event in events {
        log.extend([event.register, event.kind].map(u32::to_le_bytes).concat());
        log.extend(number(banks.len()));
        for bank in banks {
            log.extend(bank.to_le_bytes());
            log.extend(hash(*bank, &event.measured));
        }
        log.extend(number(event.data.len()));
        log.extend(&event.data);
    }
    log
}

fn hash(bank: u16, bytes: &[u8]) -> Vec<u8> {
    match bank {
        SHA1 => vec![1; 20],
        SHA256 => sha256(&[bytes]).to_vec(),
        _ => sha384(bytes).to_vec(),
    }
}

/// The PCRs of a machine with this log, of which userspace came so far. PCR 16 is left out.
pub fn pcrs(events: &[Event], phase: BootPhase) -> Pcrs {
    let mut pcrs: Pcrs = (0..16).map(|index| (index, [0; 32])).collect();
    let mut extend = |register: u32, measured: &[u8]| {
        if let Some(value) = u8::try_from(register).ok().and_then(|index| pcrs.get_mut(&index)) {
            *value = sha256(&[value, &sha256(&[measured])]);
        }
    };
    let words = ["enter-initrd", "leave-initrd", "sysinit", "ready", "shutdown", "final"];
    for event in events.iter().filter(|event| event.kind != EV_NO_ACTION) {
        extend(event.register, &event.measured);
    }
    words.iter().take(phase as usize).for_each(|word| extend(11, word.as_bytes()));
    let locality = events.iter().any(|event| event.data == b"StartupLocality\0\x03");
    let measured = events.iter().filter(|event| event.register == 0 && event.kind != EV_NO_ACTION);
    let start: [u8; 32] = std::array::from_fn(|at| if locality && at == 31 { 3 } else { 0 });
    pcrs.insert(0, measured.fold(start, |value, event| sha256(&[&value, &sha256(&[&event.measured])])));
    pcrs
}

/// The runtime data of an Azure VM whose TPM has this key.
pub fn runtime_data(modulus: &[u8]) -> String {
    let number = URL_SAFE_NO_PAD.encode(modulus);
    format!(
        r#"{{"keys":[{{"kid":"HCLAkPub","kty":"RSA","e":"AQAB","n":"{number}"}},{{"kid":"HCLEkPub"}}],
"vm-configuration":{{"vmUniqueId":"5a64a0e6-30d5-4dfa-9a3c-1d0b8f6c5e11","secure-boot":true}}}}"#
    )
}

/// The paravisor's report, as long as the place that it has in a TPM.
pub fn hcl_report(hardware: &[u8], report_type: u32, hash_type: u32, runtime_data: &str) -> Vec<u8> {
    let length = u32::try_from(runtime_data.len()).expect("it is small");
    let mut report = [b"HCLA", &[2; 28][..], hardware].concat();
    for number in [20 + length, 1, report_type, hash_type, length] {
        report.extend(number.to_le_bytes());
    }
    report.extend(runtime_data.as_bytes());
    report.resize(2600, 0);
    report
}
