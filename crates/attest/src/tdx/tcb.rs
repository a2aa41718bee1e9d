//! What Intel's statements say, and how a platform compares with it.
//!
//! A platform has as many security versions as it has parts. TCB info lists levels, each a lower bound for every part
//! and Intel's judgement of what meets it; the TDX module and the quoting enclave have levels of their own. Only the
//! best judgement is accepted, and `SWHardeningNeeded` if the caller says so, so that judgements need not be put
//! together: the worst one refuses.
//!
//! Source: Intel PCS API v4, "Get TDX TCB Info" (the algorithm is in the description of `tcbLevels`), "Get TDX QE
//! Identity"; Intel, "TDX DCAP Quoting Library API" §4.1.

use keyhearth_crypto::key::PublicKey;
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Error as _};

use super::collateral::{HexArray, Statement};
use super::pck::Platform;
use super::quote::QeReport;
use super::report::TdReport;
use crate::claims::printable;
use crate::reason::{Reason, Refusal};
use crate::x509;

/// The version of TCB info that is understood here.
const TCB_INFO_VERSION: u32 = 3;
/// The version of QE identity that is understood here.
const QE_IDENTITY_VERSION: u32 = 2;
/// The only way to compare levels that there is: part by part.
const TCB_TYPE: u32 = 0;

const UP_TO_DATE: &str = "UpToDate";
const HARDENING_NEEDED: &str = "SWHardeningNeeded";

/// The security levels of one kind of platform.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TcbInfo {
    version: u32,
    tcb_type: u32,
    issue_date: Moment,
    next_update: Moment,
    pub(super) tcb_evaluation_data_number: u32,
    /// Modules of the first generation, which have no version.
    tdx_module: Module,
    #[serde(default)]
    tdx_module_identities: Vec<Module>,
    tcb_levels: Vec<Level<Svns>>,
}

/// What the quoting enclave is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct QeIdentity {
    version: u32,
    issue_date: Moment,
    next_update: Moment,
    pub(super) tcb_evaluation_data_number: u32,
    miscselect: HexArray<4>,
    miscselect_mask: HexArray<4>,
    attributes: HexArray<16>,
    attributes_mask: HexArray<16>,
    mrsigner: HexArray<32>,
    isvprodid: u16,
    tcb_levels: Vec<Level<IsvSvn>>,
}

/// TDX modules of one version.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Module {
    #[serde(default)]
    id: String,
    mrsigner: HexArray<48>,
    attributes: HexArray<8>,
    attributes_mask: HexArray<8>,
    #[serde(default)]
    tcb_levels: Vec<Level<IsvSvn>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Level<T> {
    tcb: T,
    tcb_date: Moment,
    tcb_status: String,
    #[serde(default, rename = "advisoryIDs")]
    advisory_ids: Vec<String>,
}

/// Security versions of the parts of a platform, as lower bounds. Ordered as Intel orders levels.
#[derive(Deserialize, PartialEq, Eq, PartialOrd, Ord)]
struct Svns {
    #[serde(rename = "sgxtcbcomponents")]
    sgx: [Component; 16],
    pcesvn: u16,
    #[serde(rename = "tdxtcbcomponents")]
    tdx: [Component; 16],
}

#[derive(Deserialize, PartialEq, Eq, PartialOrd, Ord)]
struct Component {
    svn: u8,
}

#[derive(Deserialize, PartialEq, Eq, PartialOrd, Ord)]
struct IsvSvn {
    isvsvn: u16,
}

/// A time as Intel writes it, `2025-06-19T10:16:03Z`, so that later ones are greater.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Moment(String);

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let shape = text.bytes().map(|byte| if byte.is_ascii_digit() { b'0' } else { byte });
        if shape.eq(*b"0000-00-00T00:00:00Z") {
            return Ok(Self(text));
        }
        Err(D::Error::custom("not a time in UTC"))
    }
}

/// What the levels of platform, TDX module and quoting enclave come to.
pub(super) struct Verdict {
    /// [`UP_TO_DATE`] or [`HARDENING_NEEDED`].
    pub(super) status: String,
    /// What Intel published about the levels.
    pub(super) advisories: Vec<String>,
    /// When it published the older one of platform and TDX module.
    pub(super) date: String,
}

impl Verdict {
    pub(super) fn is_up_to_date(&self) -> bool {
        self.status == UP_TO_DATE
    }
}

impl TcbInfo {
    /// Reads a statement that one of these keys signed, and that is in force.
    pub(super) fn open(statement: &Statement, signers: &[PublicKey], now_s: u64) -> Result<Self, Refusal> {
        let info: Self = read(statement, signers, Reason::TdxTcbInfoSignature)?;
        if info.version != TCB_INFO_VERSION || info.tcb_type != TCB_TYPE {
            let detail = format!("TCB info of version {}, type {}", info.version, info.tcb_type);
            return Err(Reason::TdxCollateralMalformed.because(detail));
        }
        check_in_force(&info.issue_date, &info.next_update, now_s, Reason::TdxTcbInfoStale)?;
        Ok(info)
    }

    /// Judges a platform and its TDX module by the security versions of a TD report, those at launch and those
    /// now. `qe` is the level of the quoting enclave.
    pub(super) fn judge(
        &self,
        platform: &Platform,
        report: TdReport<'_>,
        qe: &Judged<'_>,
        sw_hardening: bool,
    ) -> Result<Verdict, Refusal> {
        let launched = self.levels(platform, report.tee_tcb_svn())?;
        self.module(report.tee_tcb_svn())?.check(report)?;
        let now = report.tee_tcb_svn_now().map(|svns| self.levels(platform, svns)).transpose()?;
        let all = || launched.iter().chain(now.iter().flatten()).chain([qe]);
        let mut advisories: Vec<String> = Vec::new();
        for id in all().flat_map(|level| level.advisory_ids).map(|id| printable(id)) {
            if !advisories.contains(&id) {
                advisories.push(id);
            }
        }
        for level in all() {
            let reason = match level.status {
                UP_TO_DATE => continue,
                HARDENING_NEEDED if level.of_platform && sw_hardening => continue,
                HARDENING_NEEDED if level.of_platform => Reason::TdxTcbHardening,
                _ => Reason::TdxTcbStatus,
            };
            let detail = format!("{} {}", printable(level.status), advisories.join(" "));
            return Err(reason.because(detail.trim_end().to_owned()));
        }
        let status = all().map(|level| level.status).find(|status| *status != UP_TO_DATE);
        let date = launched.iter().map(|level| level.date).min();
        Ok(Verdict {
            status: status.unwrap_or(UP_TO_DATE).to_owned(),
            advisories,
            date: date.map(|date| date.0.clone()).unwrap_or_default(),
        })
    }

    /// The levels of the platform and, if it has a version, of its TDX module.
    fn levels(&self, platform: &Platform, tdx: &[u8; 16]) -> Result<Vec<Judged<'_>>, Refusal> {
        let unknown = || Reason::TdxTcbUnknown.because("the platform");
        let of_platform =
            highest(&self.tcb_levels, |level| level.is_met(platform, tdx)).ok_or_else(unknown)?;
        let [svn, version, ..] = tdx;
        let mut levels = vec![Judged { of_platform: true, ..of_platform }];
        if *version != 0 {
            levels.push(isv_level(&self.module(tdx)?.tcb_levels, (*svn).into(), "the TDX module")?);
        }
        Ok(levels)
    }

    /// What Intel says of the TDX module of this version, the second of its security versions.
    fn module(&self, tdx: &[u8; 16]) -> Result<&Module, Refusal> {
        let version = tdx[1];
        if version == 0 {
            return Ok(&self.tdx_module);
        }
        let id = format!("TDX_{version:02X}");
        let found = self.tdx_module_identities.iter().find(|module| module.id.eq_ignore_ascii_case(&id));
        found.ok_or_else(|| Reason::TdxModuleUnknown.because(id))
    }
}

impl QeIdentity {
    /// Reads a statement that one of these keys signed, and that is in force.
    pub(super) fn open(statement: &Statement, signers: &[PublicKey], now_s: u64) -> Result<Self, Refusal> {
        let identity: Self = read(statement, signers, Reason::TdxQeIdentitySignature)?;
        if identity.version != QE_IDENTITY_VERSION {
            let detail = format!("QE identity of version {}", identity.version);
            return Err(Reason::TdxCollateralMalformed.because(detail));
        }
        check_in_force(&identity.issue_date, &identity.next_update, now_s, Reason::TdxQeIdentityStale)?;
        Ok(identity)
    }

    /// Checks that an enclave is the one that is meant; gives its level.
    pub(super) fn judge(&self, qe: QeReport<'_>) -> Result<Judged<'_>, Refusal> {
        for (what, same) in [
            ("its signer", *qe.mr_signer() == self.mrsigner.0),
            ("its product id", qe.isv_prod_id() == self.isvprodid),
            ("MISCSELECT", masked(qe.misc_select(), &self.miscselect, &self.miscselect_mask)),
            ("ATTRIBUTES", masked(qe.attributes(), &self.attributes, &self.attributes_mask)),
        ] {
            if !same {
                return Err(Reason::TdxQeDiffers.because(what));
            }
        }
        isv_level(&self.tcb_levels, qe.isv_svn(), "the quoting enclave")
    }
}

impl Module {
    /// Checks that the TDX module of a report is of this kind.
    fn check(&self, report: TdReport<'_>) -> Result<(), Refusal> {
        if *report.mr_signer_seam() != self.mrsigner.0 {
            return Err(Reason::TdxModuleSigner.into());
        }
        if !masked(report.seam_attributes(), &self.attributes, &self.attributes_mask) {
            return Err(Reason::TdxModuleAttributes.into());
        }
        Ok(())
    }
}

impl Svns {
    /// Whether no part of the platform is below these. The first two of TDX are left to the TDX module's own levels
    /// if it has a version.
    fn is_met(&self, platform: &Platform, tdx: &[u8; 16]) -> bool {
        let meet =
            |bounds: &[Component], svns: &[u8]| bounds.iter().zip(svns).all(|(bound, svn)| *svn >= bound.svn);
        let own = if tdx[1] == 0 { 0 } else { 2 };
        meet(&self.sgx, &platform.components)
            && platform.pce_svn >= self.pcesvn
            && meet(&self.tdx[own..], &tdx[own..])
    }
}

/// A level that is met.
pub(super) struct Judged<'a> {
    status: &'a str,
    advisory_ids: &'a [String],
    date: &'a Moment,
    /// Of the platform, rather than of a program on it.
    of_platform: bool,
}

/// The highest of the levels that are met; of equal ones the first.
fn highest<'a, T: Ord>(levels: &'a [Level<T>], is_met: impl Fn(&T) -> bool) -> Option<Judged<'a>> {
    let met = levels.iter().rev().filter(|level| is_met(&level.tcb));
    met.max_by(|one, other| one.tcb.cmp(&other.tcb)).map(
        |Level { tcb_status, advisory_ids, tcb_date, .. }| Judged {
            status: tcb_status,
            advisory_ids,
            date: tcb_date,
            of_platform: false,
        },
    )
}

fn isv_level<'a>(levels: &'a [Level<IsvSvn>], svn: u16, what: &'static str) -> Result<Judged<'a>, Refusal> {
    highest(levels, |level| svn >= level.isvsvn).ok_or_else(|| Reason::TdxTcbUnknown.because(what))
}

fn masked<const N: usize>(found: &[u8; N], expected: &HexArray<N>, mask: &HexArray<N>) -> bool {
    (0..N).all(|at| (found[at] ^ expected.0[at]) & mask.0[at] == 0)
}

fn read<T: DeserializeOwned>(
    statement: &Statement,
    signers: &[PublicKey],
    unsigned: Reason,
) -> Result<T, Refusal> {
    let text = statement.signed_by(signers).ok_or(unsigned)?;
    serde_json::from_str(text).map_err(|error| {
        let place = format!("line {}, column {}", error.line(), error.column());
        Reason::TdxCollateralMalformed.because(place)
    })
}

fn check_in_force(issued: &Moment, next: &Moment, now_s: u64, reason: Reason) -> Result<(), Refusal> {
    let now = x509::rfc3339_of(now_s);
    if now.is_some_and(|now| *issued.0 <= *now && *now <= *next.0) {
        return Ok(());
    }
    Err(reason.because(format!("{} to {}", issued.0, next.0)))
}
