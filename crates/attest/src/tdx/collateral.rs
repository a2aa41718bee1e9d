//! What Intel says about its platforms, as it comes with evidence: TCB info and QE identity, each a JSON text with a
//! signature, and the certificates and revocation lists that go with them.
//!
//! Two spellings are read: what Intel's service (PCS) answers, one statement in each answer; and the record of
//! everything together that DCAP libraries exchange (`QuoteCollateralV3`). What the statements say is read by
//! [`super::tcb`] after their signatures were checked.
//!
//! Source: Intel PCS API v4, "Get TDX TCB Info" and "Get TDX QE Identity"; `sgx_ql_qve_collateral_t` of DCAP.

use keyhearth_crypto::key::PublicKey;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use serde_json::value::RawValue;

use super::quote::is_signed;
use crate::claims::Bytes;
use crate::reason::{Reason, Refusal};

/// What a statement is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum About {
    /// TCB info: the security levels of one kind of platform.
    Platform,
    /// QE identity: what the quoting enclave is.
    QuotingEnclave,
}

/// A signed statement. Nothing in it is believed yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Statement {
    about: About,
    head: Head,
    /// What is signed, byte for byte.
    text: String,
    signature: [u8; 64],
}

/// What a statement is chosen by.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    id: String,
    #[serde(default)]
    fmspc: String,
    #[serde(default)]
    pce_id: String,
    tcb_evaluation_data_number: u32,
    /// RFC 3339 in UTC, so that later times are greater.
    issue_date: String,
    #[serde(default)]
    next_update: String,
}

impl Statement {
    fn new(about: About, text: String, Hex(signature): Hex) -> Result<Self, Refusal> {
        let Ok(head) = serde_json::from_str(&text) else {
            return Err(Reason::EndorsementMalformed.because("neither TCB info nor QE identity"));
        };
        let Ok(signature) = signature.try_into() else {
            return Err(Reason::EndorsementMalformed.because("the signature of TCB info or QE identity"));
        };
        Ok(Self { about, head, text, signature })
    }

    /// The newest TCB info for TDs on platforms of this kind.
    pub(super) fn of_platform<'a>(
        given: impl Iterator<Item = &'a Self>,
        fmspc: &str,
        pce_id: &str,
    ) -> Option<&'a Self> {
        newest(given.filter(|Self { about, head, .. }| {
            *about == About::Platform
                && head.id == "TDX"
                && head.fmspc.eq_ignore_ascii_case(fmspc)
                && head.pce_id.eq_ignore_ascii_case(pce_id)
        }))
    }

    /// The newest identity of the enclave that quotes TDs.
    pub(super) fn of_quoting_enclave<'a>(given: impl Iterator<Item = &'a Self>) -> Option<&'a Self> {
        newest(given.filter(|Self { about, head, .. }| *about == About::QuotingEnclave && head.id == "TD_QE"))
    }

    /// The kind of platform (FMSPC and PCE id, in lowercase digits) that it is TCB info of; nothing if it is an identity.
    pub(crate) fn platform(&self) -> Option<[String; 2]> {
        let of = || [&self.head.fmspc, &self.head.pce_id].map(|digits| digits.to_ascii_lowercase());
        (self.about == About::Platform).then(of)
    }

    /// Intel's name of what it is about: `TDX`, `TD_QE`, and those of SGX.
    pub(crate) fn id(&self) -> &str {
        &self.head.id
    }

    /// The number of Intel's evaluation that it comes from.
    pub(crate) fn evaluation(&self) -> u32 {
        self.head.tcb_evaluation_data_number
    }

    /// When it begins and when it ends, as RFC 3339 writes times.
    pub(crate) fn dates(&self) -> [&str; 2] {
        [&self.head.issue_date, &self.head.next_update]
    }

    /// As Intel's service answers it.
    pub(crate) fn to_json(&self) -> String {
        let member = match self.about {
            About::Platform => "tcbInfo",
            About::QuotingEnclave => "enclaveIdentity",
        };
        let signature = Bytes::from(&self.signature[..]);
        format!(r#"{{"{member}":{},"signature":"{signature}"}}"#, self.text)
    }

    /// What it says, if one of these keys signed it.
    pub(crate) fn signed_by(&self, signers: &[PublicKey]) -> Option<&str> {
        let text = self.text.as_str();
        signers.iter().any(|key| is_signed(key, text.as_bytes(), &self.signature)).then_some(text)
    }
}

/// Of several the one with the greatest evaluation number, so that an old one hides nothing.
fn newest<'a>(given: impl Iterator<Item = &'a Statement>) -> Option<&'a Statement> {
    given.max_by_key(|statement| (statement.head.tcb_evaluation_data_number, &statement.head.issue_date))
}

/// What a file of collateral holds.
pub(crate) struct Collateral {
    pub(crate) statements: Vec<Statement>,
    /// Certificates and revocation lists, in PEM or DER.
    pub(crate) files: Vec<Vec<u8>>,
}

/// One JSON document of either spelling; members that are not known are passed over.
#[derive(Deserialize)]
struct Document<'a> {
    #[serde(borrow, rename = "tcbInfo")]
    tcb_info_answer: Option<&'a RawValue>,
    #[serde(borrow, rename = "enclaveIdentity")]
    qe_identity_answer: Option<&'a RawValue>,
    signature: Option<Hex>,

    tcb_info: Option<String>,
    tcb_info_signature: Option<Hex>,
    qe_identity: Option<String>,
    qe_identity_signature: Option<Hex>,
    tcb_info_issuer_chain: Option<String>,
    qe_identity_issuer_chain: Option<String>,
    pck_crl_issuer_chain: Option<String>,
    pck_certificate_chain: Option<String>,
    root_ca_crl: Option<Hex>,
    pck_crl: Option<Hex>,
}

impl Collateral {
    /// Reads a JSON document.
    pub(crate) fn parse(json: &[u8]) -> Result<Self, Refusal> {
        let malformed = || Reason::EndorsementMalformed.because("JSON, but not collateral of Intel's");
        let document: Document<'_> = serde_json::from_slice(json).map_err(|_| malformed())?;
        let answered = |raw: Option<&RawValue>| raw.map(|raw| raw.get().to_owned());
        let signature = document.signature;
        let given = [
            (About::Platform, answered(document.tcb_info_answer), signature.clone()),
            (About::QuotingEnclave, answered(document.qe_identity_answer), signature),
            (About::Platform, document.tcb_info, document.tcb_info_signature),
            (About::QuotingEnclave, document.qe_identity, document.qe_identity_signature),
        ];
        let mut statements = Vec::new();
        for (about, text, signature) in given {
            let Some(text) = text else { continue };
            statements.push(Statement::new(about, text, signature.ok_or_else(malformed)?)?);
        }
        let chains = [
            document.tcb_info_issuer_chain,
            document.qe_identity_issuer_chain,
            document.pck_crl_issuer_chain,
            document.pck_certificate_chain,
        ];
        let lists = [document.root_ca_crl, document.pck_crl];
        let chains = chains.into_iter().flatten().map(String::into_bytes);
        let files: Vec<_> = chains.chain(lists.into_iter().flatten().map(|list| list.0)).collect();
        if statements.is_empty() && files.is_empty() {
            return Err(malformed());
        }
        Ok(Self { statements, files })
    }
}

/// Bytes that are written as hexadecimal digits.
#[derive(Clone)]
struct Hex(Vec<u8>);

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let byte = |pair: &[u8]| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        };
        let bytes: Option<Vec<u8>> = text.as_bytes().chunks(2).map(byte).collect();
        bytes.map(Self).ok_or_else(|| D::Error::custom("not hexadecimal digits"))
    }
}

fn digit(character: u8) -> Option<u8> {
    u8::try_from(char::from(character).to_digit(16)?).ok()
}

/// So many bytes that are written as hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct HexArray<const N: usize>(pub(super) [u8; N]);

impl<'de, const N: usize> Deserialize<'de> for HexArray<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Hex(bytes) = Hex::deserialize(deserializer)?;
        bytes.try_into().map(Self).map_err(|_| D::Error::custom("another number of bytes"))
    }
}
