//! Evidence from real machines: each is accepted, or refused for exactly the reason it deserves.
//!
//! What the package of the crate `sev` holds is always there. `KEYHEARTH_VECTORS` names a folder with more, which is
//! no part of Keyhearth; without it those tests say that they were skipped.

mod packages;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use keyhearth_attest::snp::{Generation, Signer, SnpClaims};
use keyhearth_attest::{Claims, Demands, Endorsements, Reason, Revocation, Roots, Specific, appraise};

/// 2025-07-01, when every certificate of the fixtures is valid.
const NOW_S: u64 = 1_751_328_000;

/// The folder of the crate `sev`, as cargo unpacked it.
static SEV: LazyLock<PathBuf> = LazyLock::new(|| packages::folder("sev"));

fn sev(path: &str) -> Vec<u8> {
    fs::read(SEV.join(path)).expect("the package holds it")
}

/// The folder with more vectors, or a note that there is none.
fn vectors(test: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("KEYHEARTH_VECTORS").map(|folder| Path::new(&folder).join("attest"));
    if folder.is_none() {
        eprintln!("{test}: skipped, KEYHEARTH_VECTORS is not set");
    }
    folder
}

fn unhex(text: &[u8]) -> Vec<u8> {
    let digits: Vec<u8> = text.iter().copied().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| {
        str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok()).expect("pairs of digits")
    };
    digits.chunks(2).map(byte).collect()
}

fn endorsements(files: &[Vec<u8>]) -> Endorsements {
    let mut endorsements = Endorsements::default();
    files.iter().try_for_each(|file| endorsements.add(file)).expect("these are certificates");
    endorsements
}

/// Version 2 will do, and there is no list: neither is in the fixtures.
fn demands() -> Demands {
    Demands { legacy_reports: true, revocation: Revocation::IfGiven, ..Demands::at(NOW_S) }
}

fn judge(evidence: &[u8], files: &[Vec<u8>], demands: &Demands) -> Result<Claims, Reason> {
    appraise(evidence, &endorsements(files), &Roots::built_in(), demands).map_err(|refusal| {
        eprintln!("{refusal}");
        refusal.reason
    })
}

fn snp(claims: &Claims) -> &SnpClaims {
    let Specific::Snp(claims) = &claims.specific else { panic!("{claims:?}") };
    claims
}

#[test]
fn report_of_the_sev_package() {
    let report = unhex(&sev("tests/certs_data/report_milan.hex"));
    let vcek = sev("tests/certs_data/vcek_milan.der");
    let claims = judge(&report, std::slice::from_ref(&vcek), &demands()).expect("a sound report");
    assert_eq!((snp(&claims).generation, snp(&claims).signer), (Generation::Milan, Signer::Vcek));
    assert_eq!((snp(&claims).report_version, &*claims.root), (2, "built-in"));
    assert!(claims.reduced_assurance && claims.memory_encrypted && !claims.revocation_checked);

    let strict = Demands { legacy_reports: false, ..demands() };
    assert_eq!(judge(&report, std::slice::from_ref(&vcek), &strict), Err(Reason::SnpVersionLegacy));
    assert_eq!(judge(&report, &[], &demands()), Err(Reason::SnpCertificateMissing));
    // The one of a Turin chip is read as Turin's are, and belongs to another chip.
    let turin = sev("tests/certs_data/vcek_turin.der");
    assert_eq!(judge(&report, std::slice::from_ref(&turin), &demands()), Err(Reason::SnpChipDiffers));
    // With both, the right one is found.
    let chain = sev("tests/certs_data/cert_chain_milan");
    assert!(judge(&report, &[turin, chain, vcek.clone()], &demands()).is_ok());
    let listed = Demands { revocation: Revocation::Demanded, ..demands() };
    assert_eq!(judge(&report, &[vcek], &listed), Err(Reason::ListMissing));
}

#[test]
fn roots_are_those_of_the_sev_package() {
    for name in ["milan", "genoa", "turin"] {
        for part in ["ark", "ask"] {
            let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/snp/roots/{name}-{part}.pem"));
            let theirs = sev(&format!("src/certs/snp/builtin/{name}/{part}.pem"));
            assert_eq!(fs::read(ours).expect("the root is there"), theirs, "{name}-{part}");
        }
    }
}

#[test]
fn reports_of_trustee() {
    let Some(folder) = vectors("reports_of_trustee") else { return };
    let read = |name: &str| fs::read(folder.join("snp").join(name)).expect("the vector is there");

    let report = read("test-report.bin");
    let claims = judge(&report, &[read("test-vcek.der")], &demands()).expect("a sound report");
    assert_eq!((snp(&claims).report_version, snp(&claims).product.as_str()), (2, "Milan-B0"));
    for broken in ["test-vcek-invalid-legacy.der", "test-vcek-invalid-new.der"] {
        assert_eq!(judge(&report, &[read(broken)], &demands()), Err(Reason::SnpChipDiffers), "{broken}");
    }

    let report = read("test-vlek-report.bin");
    let roots = read("roots/milan_ask_ark_asvk.pem");
    let files = [read("test-vlek.der"), roots];
    let at_1 = Demands { vmpl: 1, ..demands() };
    let claims = judge(&report, &files, &at_1).expect("a sound report");
    assert_eq!((snp(&claims).signer, snp(&claims).report_version), (Signer::Vlek, 3));
    assert_eq!(snp(&claims).provider.as_deref(), Some("CN=cc-us-east-2.amazonaws.com"));
    assert!(!claims.reduced_assurance && snp(&claims).chip_id.is_none());
    assert_eq!(judge(&report, &files, &demands()), Err(Reason::SnpVmpl));
    let later = Demands { now_s: 1_795_000_000, ..at_1.clone() };
    assert_eq!(judge(&report, &files, &later), Err(Reason::CertificateExpired));
    let earlier = Demands { now_s: 1_700_000_000, ..at_1.clone() };
    assert_eq!(judge(&report, &files, &earlier), Err(Reason::CertificateNotYetValid));
    assert_eq!(judge(&report, &files[..1], &at_1), Err(Reason::IssuerMissing));
}

#[test]
fn reports_inside_azure_evidence() {
    let Some(folder) = vectors("reports_inside_azure_evidence") else { return };
    let read = |name: &str| fs::read(folder.join("azure").join(name)).expect("the vector is there");
    // The report follows a header of 32 bytes.
    let report = &read("hcl-report.bin")[32..][..1184];
    let claims = judge(report, &[read("vcek.pem")], &demands()).expect("a sound report");
    assert_eq!((snp(&claims).generation, snp(&claims).vmpl), (Generation::Milan, 0));
    assert_eq!(judge(report, &[read("other-chip-certs.pem")], &demands()), Err(Reason::SnpChipDiffers));
}
