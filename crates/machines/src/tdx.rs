//! TDX machines: their own root, platform CA, platform certificate (PCK), quoting enclave and collateral.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keyhearth_crypto::algorithm::{Algorithm, Mechanism};
use keyhearth_crypto::digest::{sha256, sha384};
use keyhearth_crypto::key::{Input, Key};
use serde_json::{Value, json};

use crate::der::{
    bits, certificate_body, constraints, ecdsa_numbers, extension, integer, list_body, sequence, tlv,
    unknown_extension,
};
use crate::tpm::{self, Event};
use crate::{AFTER, BEFORE, make};

const ROOT: &str = "Hearth SGX Root CA";
const PCK_CA: &str = "Hearth SGX PCK Platform CA";
/// The name that verifiers know signers of collateral by.
const STATEMENT_SIGNER: &str = "Intel SGX TCB Signing";

/// Whose key signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The root.
    Root,
    /// The issuer of platform certificates.
    PckCa,
    /// The platform.
    Pck,
    /// The signer of TCB info and QE identity.
    StatementSigner,
    /// The quoting enclave's own key.
    AttestationKey,
}

static KEYS: LazyLock<[Key; 5]> = LazyLock::new(|| [(); 5].map(|()| make(Algorithm::EcP256)));

impl By {
    fn key(self) -> &'static Key {
        &KEYS[self as usize]
    }

    fn spki(self) -> &'static [u8] {
        self.key().public_key_der().expect("a pair")
    }

    /// An ECDSA signature in DER.
    fn der(self, message: &[u8]) -> Vec<u8> {
        self.key().sign(Mechanism::EcdsaSha256, Input::Message(message)).expect("an EC pair")
    }

    /// The same as bare numbers.
    fn sign(self, message: &[u8]) -> [u8; 64] {
        let [r, s] = ecdsa_numbers::<32>(&self.der(message));
        [r, s].concat().try_into().expect("two numbers of 32 bytes")
    }
}

/// ECDSA with SHA-256.
fn algorithm() -> Vec<u8> {
    sequence(&[&tlv(0x06, &[&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02]])])
}

fn signed(body: &[u8], by: By) -> Vec<u8> {
    sequence(&[body, &algorithm(), &bits(&by.der(body))])
}

/// Everything that a certificate says.
#[derive(Clone)]
pub struct Certificate {
    /// Its number.
    pub serial: u8,
    /// Common name of its holder.
    pub subject: &'static str,
    /// Common name of its issuer.
    pub issuer: &'static str,
    /// When it begins, as `UTCTime`.
    pub not_before: &'static str,
    /// When it ends, as `UTCTime`.
    pub not_after: &'static str,
    /// In DER, one after another; the first one says whether it is an issuer's.
    pub extensions: Vec<Vec<u8>>,
    /// Whose key it is for.
    pub key: By,
    /// Whose key signs it.
    pub by: By,
}

impl Certificate {
    fn new(serial: u8, [issuer, subject]: [&'static str; 2], key: By, by: By) -> Self {
        let extensions = vec![constraints(by == By::Root && key != By::StatementSigner)];
        Self { serial, subject, issuer, not_before: BEFORE, not_after: AFTER, extensions, key, by }
    }

    /// The certificate, signed.
    pub fn der(&self) -> Vec<u8> {
        let Self { serial, subject, issuer, not_before, not_after, extensions, key, by } = self;
        let dates = [*not_before, *not_after];
        let body = certificate_body(*serial, &algorithm(), [issuer, subject], dates, key.spki(), extensions);
        signed(&body, *by)
    }

    /// Adds the extension that nobody knows and that must be known.
    #[must_use]
    pub fn with_unknown(mut self) -> Self {
        self.extensions.push(unknown_extension());
        self
    }

    /// Makes it, or keeps it from being, an issuer's.
    #[must_use]
    pub fn issuing(mut self, may: bool) -> Self {
        self.extensions[0] = constraints(may);
        self
    }
}

/// The root of everything.
pub fn root() -> Certificate {
    Certificate::new(1, [ROOT, ROOT], By::Root, By::Root)
}

/// The issuer of platform certificates.
pub fn pck_ca() -> Certificate {
    Certificate::new(2, [ROOT, PCK_CA], By::PckCa, By::Root)
}

/// The signer of TCB info and QE identity.
pub fn statement_signer() -> Certificate {
    Certificate::new(3, [ROOT, STATEMENT_SIGNER], By::StatementSigner, By::Root)
}

/// The certificate of a platform, and what Intel's extension in it says.
#[derive(Clone)]
pub struct Pck {
    /// What certificates of any kind say.
    pub certificate: Certificate,
    /// The kind of platform.
    pub fmspc: [u8; 6],
    /// The enclave that certifies.
    pub pce_id: [u8; 2],
    /// The processor package, 16 bytes.
    pub ppid: Vec<u8>,
    /// The platform, if it has several packages.
    pub instance_id: Option<[u8; 16]>,
    /// Security versions of its parts.
    pub components: [u8; 16],
    /// Security version of the enclave that certifies.
    pub pce_svn: u16,
    /// Whether packages may be added, Intel keeps the keys, and multithreading is on.
    pub settings: Option<[bool; 3]>,
    /// Members that Intel's do not have, as DER.
    pub more: Vec<u8>,
}

impl Default for Pck {
    /// That of the machine, at its level.
    fn default() -> Self {
        Self {
            certificate: Certificate::new(4, [PCK_CA, "Hearth SGX PCK Certificate"], By::Pck, By::PckCa),
            fmspc: [0xf5, 0xbc, 0, 0, 0, 0],
            pce_id: [0, 0],
            ppid: vec![0x99; 16],
            instance_id: Some([0x1d; 16]),
            components: [4, 4, 2, 2, 4, 1, 0, 5, 0, 0, 0, 0, 0, 0, 0, 200],
            pce_svn: 300,
            settings: Some([false, true, true]),
            more: Vec::new(),
        }
    }
}

impl Pck {
    /// The certificate, signed.
    pub fn der(&self) -> Vec<u8> {
        let levels = (1..).zip(self.components).map(|(number, level)| member(&[2, number], &integer(level)));
        let mut levels: Vec<u8> = levels.flatten().collect();
        let [high, low] = self.pce_svn.to_be_bytes();
        levels.extend(member(&[2, 17], &if high == 0 { integer(low) } else { tlv(0x02, &[&[high, low]]) }));
        levels.extend(member(&[2, 18], &tlv(0x04, &[&self.components])));
        let mut members = [
            member(&[1], &tlv(0x04, &[&self.ppid])),
            member(&[2], &sequence(&[&levels])),
            member(&[3], &tlv(0x04, &[&self.pce_id])),
            member(&[4], &tlv(0x04, &[&self.fmspc])),
            member(&[5], &tlv(0x0a, &[&[1]])),
        ]
        .concat();
        if let Some(id) = self.instance_id {
            members.extend(member(&[6], &tlv(0x04, &[&id])));
        }
        if let Some(settings) = self.settings {
            let truth = |truth: bool| tlv(0x01, &[&[if truth { 0xff } else { 0 }]]);
            let settings = (1..).zip(settings).map(|(number, set)| member(&[7, number], &truth(set)));
            members.extend(member(&[7], &sequence(&[&settings.flatten().collect::<Vec<u8>>()])));
        }
        members.extend(&self.more);
        let mut certificate = self.certificate.clone();
        certificate.extensions.push(extension(&SGX, false, &sequence(&[&members])));
        certificate.der()
    }
}

/// Intel's extension: 1.2.840.113741.1.13.1.
const SGX: [u8; 9] = [0x2a, 0x86, 0x48, 0x86, 0xf8, 0x4d, 0x01, 0x0d, 0x01];

/// A member of Intel's extension.
pub fn member(path: &[u8], value: &[u8]) -> Vec<u8> {
    sequence(&[&tlv(0x06, &[&SGX, path]), value])
}

/// A revocation list.
#[derive(Clone)]
pub struct List {
    /// Common name of its issuer.
    pub issuer: &'static str,
    /// Numbers of certificates.
    pub revoked: Vec<u8>,
    /// When it begins, as `UTCTime`.
    pub this_update: &'static str,
    /// When it ends, as `UTCTime`.
    pub next_update: Option<&'static str>,
    /// Whose key signs it.
    pub by: By,
}

impl List {
    /// The root's, in force, which names these serial numbers.
    pub fn of_root(revoked: &[u8]) -> Self {
        let revoked = revoked.to_vec();
        Self { issuer: ROOT, revoked, this_update: BEFORE, next_update: Some(AFTER), by: By::Root }
    }

    /// The same of the issuer of platform certificates.
    pub fn of_pck_ca(revoked: &[u8]) -> Self {
        Self { issuer: PCK_CA, by: By::PckCa, ..Self::of_root(revoked) }
    }

    /// The list, signed.
    pub fn der(&self) -> Vec<u8> {
        let Self { issuer, revoked, this_update, next_update, by } = self;
        let extensions = [
            extension(&[0x55, 0x1d, 0x23], false, &sequence(&[&tlv(0x80, &[issuer.as_bytes()])])),
            extension(&[0x55, 0x1d, 0x14], false, &integer(1)),
        ]
        .concat();
        signed(&list_body(&algorithm(), issuer, this_update, *next_update, revoked, &extensions), *by)
    }
}

/// Security versions of TDX: the module's own and its version, and those of other parts.
pub const TEE_TCB_SVN: [u8; 16] = [6, 1, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// TCB info that calls the machine up to date, and has a lower level and an older TDX module too.
pub fn tcb_info() -> Value {
    let components = |svns: &[u8; 16]| json!(svns.map(|svn| json!({ "svn": svn })));
    let level = |sgx: &[u8; 16], pcesvn: u16, tdx: &[u8; 16], date: &str, status: &str| {
        json!({
            "tcb": {
                "sgxtcbcomponents": components(sgx), "pcesvn": pcesvn, "tdxtcbcomponents": components(tdx),
            },
            "tcbDate": date,
            "tcbStatus": status,
        })
    };
    let mut older = Pck::default().components;
    older[0] = 2;
    let module = |id: &str, levels: Value| {
        json!({
            "id": id,
            "mrsigner": "00".repeat(48),
            "attributes": "00".repeat(8),
            "attributesMask": "FF".repeat(8),
            "tcbLevels": levels,
        })
    };
    json!({
        "id": "TDX",
        "version": 3,
        "issueDate": "2025-06-19T10:16:03Z",
        "nextUpdate": "2025-07-19T10:16:03Z",
        "fmspc": "F5BC00000000",
        "pceId": "0000",
        "tcbType": 0,
        "tcbEvaluationDataNumber": 18,
        "tdxModule": {
            "mrsigner": "00".repeat(48), "attributes": "00".repeat(8), "attributesMask": "FF".repeat(8),
        },
        "tdxModuleIdentities": [
            module("TDX_03", json!([{ "tcb": { "isvsvn": 3 }, "tcbDate": "2024-03-13T00:00:00Z", "tcbStatus": "UpToDate" }])),
            module("TDX_01", json!([
                { "tcb": { "isvsvn": 6 }, "tcbDate": "2024-03-13T00:00:00Z", "tcbStatus": "UpToDate" },
                { "tcb": { "isvsvn": 2 }, "tcbDate": "2023-08-09T00:00:00Z", "tcbStatus": "OutOfDate",
                    "advisoryIDs": ["INTEL-SA-01036"] },
            ])),
        ],
        "tcbLevels": [
            level(&Pck::default().components, 11, &[5, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
                "2024-11-13T00:00:00Z", "UpToDate"),
            level(&older, 5, &[3, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
                "2018-01-04T00:00:00Z", "OutOfDate"),
        ],
    })
}

/// The identity of the machine's quoting enclave.
pub fn qe_identity() -> Value {
    json!({
        "id": "TD_QE",
        "version": 2,
        "issueDate": "2025-06-19T10:32:27Z",
        "nextUpdate": "2025-07-19T10:32:27Z",
        "tcbEvaluationDataNumber": 17,
        "miscselect": "00000000",
        "miscselectMask": "FFFFFFFF",
        "attributes": "11000000000000000000000000000000",
        "attributesMask": "FBFFFFFFFFFFFFFF0000000000000000",
        "mrsigner": "DC".repeat(32),
        "isvprodid": 2,
        "tcbLevels": [
            { "tcb": { "isvsvn": 4 }, "tcbDate": "2024-11-13T00:00:00Z", "tcbStatus": "UpToDate" },
            { "tcb": { "isvsvn": 2 }, "tcbDate": "2023-08-09T00:00:00Z", "tcbStatus": "OutOfDate" },
        ],
    })
}

/// A statement as Intel's service answers with it: `member` is `tcbInfo` or `enclaveIdentity`.
pub fn answer(member: &str, statement: &Value, by: By) -> Vec<u8> {
    let text = statement.to_string();
    let signature = hex(&by.sign(text.as_bytes()));
    format!(r#"{{"{member}":{text},"signature":"{signature}"}}"#).into_bytes()
}

/// Everything together as DCAP libraries exchange it.
pub fn together(tcb_info: &Value, qe_identity: &Value, lists: [&List; 2]) -> Vec<u8> {
    let [tcb_info, qe_identity] = [tcb_info, qe_identity].map(Value::to_string);
    let sign = |text: &str| hex(&By::StatementSigner.sign(text.as_bytes()));
    let signers = pem(&[statement_signer().der(), root().der()]);
    json!({
        "pck_crl_issuer_chain": pem(&[pck_ca().der(), root().der()]),
        "root_ca_crl": hex(&lists[0].der()),
        "pck_crl": hex(&lists[1].der()),
        "tcb_info_issuer_chain": signers,
        "tcb_info": tcb_info,
        "tcb_info_signature": sign(&tcb_info),
        "qe_identity_issuer_chain": signers,
        "qe_identity": qe_identity,
        "qe_identity_signature": sign(&qe_identity),
    })
    .to_string()
    .into_bytes()
}

/// Certificates as texts, one after another.
pub fn pem(certificates: &[Vec<u8>]) -> String {
    let block = |der: &Vec<u8>| {
        format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", STANDARD.encode(der))
    };
    certificates.iter().map(block).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

/// Kinds of TD reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// TDX 1.0, in a quote of version 4.
    V4,
    /// TDX 1.0, in a quote of version 5.
    Td10,
    /// TDX 1.5.
    Td15,
    /// TDX 1.5 extended.
    Td15Extended,
}

impl Body {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::V4, Self::Td10, Self::Td15, Self::Td15Extended];

    const fn bytes(self) -> usize {
        match self {
            Self::V4 | Self::Td10 => 584,
            Self::Td15 => 648,
            Self::Td15Extended => 885,
        }
    }
}

/// A quote before it is signed: what each party says.
#[derive(Clone)]
pub struct Quote {
    /// What precedes the TD report.
    pub header: Vec<u8>,
    /// The TD report.
    pub report: Vec<u8>,
    /// The report of the quoting enclave.
    pub qe_report: Vec<u8>,
    /// What the enclave hashes with its key.
    pub qe_data: Vec<u8>,
    /// The type of the certification data around the QE report, and of that inside.
    pub kinds: [u16; 2],
    /// The PCK chain.
    pub chain: Vec<u8>,
    /// Whether the QE vouches for the attestation key.
    pub vouched: bool,
    /// Whose key signs the TD report.
    pub by: By,
    /// Whose key signs the QE's report.
    pub qe_by: By,
}

impl Quote {
    /// What a sound machine says. It carries its certificates.
    pub fn new(body: Body) -> Self {
        let version: u16 = if body == Body::V4 { 4 } else { 5 };
        let vendor =
            [0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07];
        let mut header =
            [&version.to_le_bytes()[..], &[2, 0], &[0x81, 0, 0, 0], &[0; 4], &vendor, &[0x0d; 20]].concat();
        let length = u32::try_from(body.bytes()).expect("it is short").to_le_bytes();
        header.extend(match body {
            Body::V4 => Vec::new(),
            Body::Td10 => [&[2, 0], &length[..]].concat(),
            Body::Td15 => [&[3, 0], &length[..]].concat(),
            Body::Td15Extended => [&[4, 0], &length[..]].concat(),
        });
        let mut quote = Self {
            header,
            report: vec![0; body.bytes()],
            qe_report: vec![0; 384],
            qe_data: (0..32).collect(),
            kinds: [6, 5],
            chain: pem(&[Pck::default().der(), pck_ca().der(), root().der()]).into_bytes(),
            vouched: true,
            by: By::AttestationKey,
            qe_by: By::Pck,
        };
        quote.put(0, &TEE_TCB_SVN);
        quote.put(16, &[0x5e; 48]);
        quote.put(120, &(1_u64 << 28).to_le_bytes());
        quote.put(128, &[0xe7, 0x02, 0x06, 0, 0, 0, 0, 0]);
        quote.put(136, &[0x3e; 48]);
        for (offset, digest) in [(328, 0xa0), (376, 0xa1), (424, 0xa2), (472, 0xa3)] {
            quote.put(offset, &[digest; 48]);
        }
        quote.put(520, &[0xda; 64]);
        if matches!(body, Body::Td15 | Body::Td15Extended) {
            quote.put(584, &TEE_TCB_SVN);
        }
        if body == Body::Td15Extended {
            quote.put(649, &[0x7d; 32]);
        }
        quote.put_qe(48, &[0x15]);
        quote.put_qe(128, &[0xdc; 32]);
        quote.put_qe(256, &[2, 0, 4, 0]);
        quote
    }

    /// Changes the TD report.
    pub fn put(&mut self, offset: usize, bytes: &[u8]) {
        self.report[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    /// Puts the registers into the TD report that a log leads to.
    #[must_use]
    pub fn booted(mut self, events: &[Event]) -> Self {
        self.put(328, rtmrs(events).as_flattened());
        self
    }

    /// Changes the report of the quoting enclave.
    pub fn put_qe(&mut self, offset: usize, bytes: &[u8]) {
        self.qe_report[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    /// The quote, signed.
    pub fn bytes(&self) -> Vec<u8> {
        let spki = By::AttestationKey.spki();
        let key = &spki[spki.len() - 64..];
        let mut qe_report = self.qe_report.clone();
        if self.vouched {
            qe_report[320..352].copy_from_slice(&sha256(&[key, &self.qe_data]));
        }
        let typed = |kind: u16, bytes: &[u8]| {
            let length = u32::try_from(bytes.len()).expect("it is short");
            [&kind.to_le_bytes()[..], &length.to_le_bytes(), bytes].concat()
        };
        let data_bytes = u16::try_from(self.qe_data.len()).expect("it is short").to_le_bytes();
        let chain = typed(self.kinds[1], &self.chain);
        let certified =
            [&qe_report[..], &self.qe_by.sign(&qe_report), &data_bytes, &self.qe_data, &chain].concat();
        let signed = [&self.header[..], &self.report].concat();
        let auth = [&self.by.sign(&signed)[..], key, &typed(self.kinds[0], &certified)].concat();
        let length = u32::try_from(auth.len()).expect("it is short").to_le_bytes();
        [&signed[..], &length, &auth].concat()
    }
}

/// The log of a TD's boot: as that of a machine with a TPM, in the registers that stand for its PCRs.
///
/// Source: UEFI 2.10 §38.4.1 (which PCRs a measurement register stands for). MRTD, which stands for PCR 0, is extended by
/// no event.
pub fn boot() -> Vec<Event> {
    let register = |pcr: u32| match pcr {
        1 | 7 => Some(1),
        2..=6 => Some(2),
        8..=15 => Some(3),
        _ => None,
    };
    let of_td = |event: Event| Some(Event { register: register(event.register)?, ..event });
    tpm::boot().into_iter().filter_map(of_td).collect()
}

/// The registers that a log leads to.
pub fn rtmrs(events: &[Event]) -> [[u8; 48]; 4] {
    let mut rtmrs = [[0; 48]; 4];
    for event in events {
        let index = usize::try_from(event.register - 1).expect("it is small");
        rtmrs[index] = sha384(&[&rtmrs[index][..], &sha384(&event.measured)].concat());
    }
    rtmrs
}
