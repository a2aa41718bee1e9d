//! Real TDX quotes: each accepted or refused for the reason that it deserves.
//!
//! Those in the package of the crate `dcap-qvl` are always judged. More are judged if `KEYHEARTH_VECTORS` names a
//! folder with them; without it their test says that it was skipped.

mod packages;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use keyhearth_attest::tdx::TdxClaims;
use keyhearth_attest::{Claims, Demands, Endorsements, Reason, Roots, Specific, appraise};

/// Times at which the collateral of a quote is in force.
const QUOTE_NOW_S: u64 = 1_750_329_600;
const OUTDATED_NOW_S: u64 = 1_771_459_200;
const TD15EX_NOW_S: u64 = 1_792_000_000;
const LONG_AFTER_S: u64 = 1_793_000_000;

/// The folder of the crate `dcap-qvl`, as cargo unpacked it.
static DCAP: LazyLock<PathBuf> = LazyLock::new(|| packages::folder("dcap-qvl"));

fn sample(name: &str) -> Vec<u8> {
    fs::read(DCAP.join("sample").join(name)).expect("the package holds it")
}

fn endorsements(files: &[Vec<u8>]) -> Endorsements {
    let mut endorsements = Endorsements::default();
    files.iter().try_for_each(|file| endorsements.add(file)).expect("these are endorsements");
    endorsements
}

fn judge(quote: &[u8], files: &[Vec<u8>], demands: &Demands) -> Result<Claims, Reason> {
    appraise(quote, &endorsements(files), &Roots::built_in(), demands).map_err(|refusal| {
        eprintln!("{refusal}");
        refusal.reason
    })
}

fn tdx(claims: &Claims) -> &TdxClaims {
    let Specific::Tdx(claims) = &claims.specific else { panic!("{claims:?}") };
    claims
}

fn pair(name: &str) -> (Vec<u8>, [Vec<u8>; 1]) {
    (sample(name), [sample(&format!("{name}_collateral.json"))])
}

#[test]
fn quote_up_to_date() {
    let (quote, collateral) = pair("tdx_quote");
    let demands = Demands::at(QUOTE_NOW_S);
    let claims = judge(&quote, &collateral, &demands).expect("a sound quote");
    assert!(claims.memory_encrypted && claims.revocation_checked && !claims.debug);
    assert_eq!((&*claims.root, claims.reduced_assurance), ("built-in", false));
    let own = tdx(&claims);
    assert_eq!((own.quote_version, &*own.tcb_status, own.tcb_evaluation_data_number), (4, "UpToDate", 17));
    assert!(own.mrtd.to_string().starts_with("91eb2b44") && own.rtmr0.to_string().starts_with("44c0197b"));
    assert_eq!((own.certified.fmspc.to_string(), own.certified.pce_svn), ("b0c06f000000".to_owned(), 11));
    assert!(own.attributes.sept_ve_disable && own.mr_signer_seam.is_none() && own.td_id.is_none());

    let report_data = claims.report_data.0.clone().try_into().expect("64 bytes");
    let expected = Demands { report_data: Some(report_data), ..demands.clone() };
    assert!(judge(&quote, &collateral, &expected).is_ok());
    let other = Demands { report_data: Some([1; 64]), ..demands.clone() };
    assert_eq!(judge(&quote, &collateral, &other), Err(Reason::ReportDataDiffers));

    // It lies in a buffer that is longer than it; whatever the buffer, it is the same quote.
    let end = quote.iter().rposition(|byte| *byte != 0).expect("not all zeroes") + 2;
    assert!(end < quote.len());
    assert_eq!(judge(&quote[..end], &collateral, &demands), Ok(claims));
    let followed = [&*quote, &[1]].concat();
    assert_eq!(judge(&followed, &collateral, &demands), Err(Reason::TdxQuoteMalformed));
}

#[test]
fn quote_with_other_collateral() {
    let (quote, collateral) = pair("tdx_quote");
    let now = Demands::at(QUOTE_NOW_S);
    assert_eq!(judge(&quote, &[], &now), Err(Reason::TdxTcbInfoMissing));
    assert_eq!(judge(&quote, &[sample("sgx_quote_collateral.json")], &now), Err(Reason::TdxTcbInfoMissing));
    assert_eq!(judge(&quote, &pair("tdx_quote_outdated").1, &now), Err(Reason::TdxTcbInfoMissing));
    // For the same kind of platform, but of a year later.
    let later = pair("tdx_quote_td15ex").1;
    assert_eq!(judge(&quote, &later, &now), Err(Reason::ListStale));
    // What was up to date then is not now: why a policy asks for a number of evaluation.
    assert_eq!(judge(&quote, &later, &Demands::at(TD15EX_NOW_S)), Err(Reason::TdxTcbStatus));
    assert_eq!(judge(&quote, &collateral, &Demands::at(LONG_AFTER_S)), Err(Reason::ListStale));
    assert_eq!(judge(&quote, &collateral, &Demands::at(u64::MAX)), Err(Reason::CertificateExpired));
    assert_eq!(judge(&quote, &collateral, &Demands::at(0)), Err(Reason::CertificateNotYetValid));
    // The lists were in force half an hour before, TCB info 24 and QE identity 8 minutes.
    let before = |minutes: u64| Demands::at(QUOTE_NOW_S - 60 * minutes);
    assert_eq!(judge(&quote, &collateral, &before(30)), Err(Reason::TdxTcbInfoStale));
    assert_eq!(judge(&quote, &collateral, &before(20)), Err(Reason::TdxQeIdentityStale));
}

#[test]
fn collateral_as_the_service_answers() {
    let (quote, [together]) = pair("tdx_quote");
    let together: serde_json::Value = serde_json::from_slice(&together).expect("JSON");
    let text = |member: &str| together[member].as_str().expect("a text");
    let answer = |member: &str, text: &str, signature: &str| {
        format!(r#"{{"{member}":{text},"signature":"{signature}"}}"#).into_bytes()
    };
    let files = [
        answer("tcbInfo", text("tcb_info"), text("tcb_info_signature")),
        answer("enclaveIdentity", text("qe_identity"), text("qe_identity_signature")),
        text("tcb_info_issuer_chain").as_bytes().to_vec(),
        unhex(text("root_ca_crl")),
        unhex(text("pck_crl")),
    ];
    let demands = Demands::at(QUOTE_NOW_S);
    assert!(judge(&quote, &files, &demands).is_ok());
    for (left_out, reason) in [
        Reason::TdxTcbInfoMissing,
        Reason::TdxQeIdentityMissing,
        Reason::IssuerMissing,
        Reason::ListMissing,
        Reason::ListMissing,
    ]
    .into_iter()
    .enumerate()
    {
        let mut rest = files.to_vec();
        rest.remove(left_out);
        assert_eq!(judge(&quote, &rest, &demands), Err(reason), "{left_out}");
    }
}

fn unhex(text: &str) -> Vec<u8> {
    let byte = |pair: &[u8]| {
        str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok()).expect("pairs of digits")
    };
    text.as_bytes().chunks(2).map(byte).collect()
}

#[test]
fn other_samples() {
    // Version 5 with a report of TDX 1.5, from a platform that was not kept up to date.
    let (quote, collateral) = pair("tdx_quote_outdated");
    assert_eq!(judge(&quote, &collateral, &Demands::at(OUTDATED_NOW_S)), Err(Reason::TdxTcbUnknown));

    // Version 5 with an extended report. Its certificate comes with the collateral too.
    let (quote, collateral) = pair("tdx_quote_td15ex");
    let claims = judge(&quote, &collateral, &Demands::at(TD15EX_NOW_S)).expect("a sound quote");
    let own = tdx(&claims);
    assert_eq!((own.quote_version, own.seam_svn, own.tcb_evaluation_data_number), (5, 15, 20));
    assert!(own.td_id.is_some() && own.tee_tcb_svn_now.is_some());

    // Of an enclave, not of a TD.
    let (quote, collateral) = pair("sgx_quote");
    assert_eq!(judge(&quote, &collateral, &Demands::at(QUOTE_NOW_S)), Err(Reason::TdxTee));
}

#[test]
fn root_is_that_of_the_dcap_package() {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tdx/roots/intel-sgx-root.pem");
    let (_, ours) = x509_parser::pem::parse_x509_pem(&fs::read(ours).expect("it is there")).expect("PEM");
    let theirs = fs::read(DCAP.join("src/TrustedRootCA.der")).expect("the package holds it");
    assert_eq!(ours.contents, theirs);
}

#[test]
fn quotes_of_others() {
    let Some(folder) = std::env::var_os("KEYHEARTH_VECTORS").map(PathBuf::from) else {
        eprintln!("quotes_of_others: skipped, KEYHEARTH_VECTORS is not set");
        return;
    };
    let read = |name: &str| fs::read(folder.join("attest/tdx").join(name)).expect("the vector is there");
    // The collateral of none of them is whole here, so that none can be accepted: two platforms are of kinds
    // that there is no TCB info for, one TD rests on a service TD, and for another platform there is TCB info, but no
    // list of the same year.
    let borrowed =
        [read("tcbInfo.json"), read("enclaveIdentity.json"), pair("tdx_quote_outdated").1[0].clone()];
    for (name, reason) in [
        ("tdx_quote_4.dat", Reason::TdxTcbInfoMissing),
        ("tdx_quote_5.dat", Reason::TdxServiceTd),
        ("tdx_quote_6.dat", Reason::TdxTcbInfoStale),
        ("cos-113-tdx-quote.dat", Reason::TdxTcbInfoMissing),
    ] {
        let quote = read(name);
        assert_eq!(judge(&quote, &borrowed, &Demands::at(OUTDATED_NOW_S)), Err(reason), "{name}");
        assert_eq!(
            judge(&quote, &[], &Demands::at(OUTDATED_NOW_S)),
            Err(Reason::TdxTcbInfoMissing),
            "{name}"
        );
    }
}
