//! Endorsements of made machines that are to be kept: what each is said to be, which of many an evidence gets, and what it
//! is said to lack.

use keyhearth_attest::snp::{Generation, Signer};
use keyhearth_attest::{
    Endorsements, Inspected, Library, Need, PckIssuer, Reason, Refusal, Roots, Subject, needs,
};
use keyhearth_machines::NOW_S;
use keyhearth_machines::snp::{Leaf, List, ark, intermediate, report, sign};
use keyhearth_machines::tdx;

fn roots() -> Roots {
    let roots = Roots::built_in().with("amd-lab", &ark().der()).expect("a root");
    roots.with("intel-lab", &tdx::root().der()).expect("a root")
}

/// What each of several is.
fn inspected(files: &[Vec<u8>]) -> Vec<Result<Inspected, Refusal>> {
    let mut all = Endorsements::default();
    files.iter().try_for_each(|file| all.add(file)).expect("they are endorsements");
    let issuers = all.issuers();
    all.each().map(|one| one.inspect(&issuers, &roots())).collect()
}

/// What a machine reports, changed before it was signed.
fn signed(version: u32, generation: Generation, signer: Signer, change: fn(&mut [u8])) -> Vec<u8> {
    let mut evidence = report(version, generation, signer);
    change(&mut evidence);
    sign(&mut evidence);
    evidence
}

fn snp_files(generation: Generation, signer: Signer) -> Vec<Vec<u8>> {
    vec![Leaf::new(generation, signer).der(), intermediate(generation, signer).der(), List::of(&[9]).der()]
}

#[test]
fn what_is_vouched_for_has_a_name_that_is_its_own() {
    let mut names = Vec::new();
    for generation in Generation::ALL {
        for signer in [Signer::Vcek, Signer::Vlek] {
            for found in inspected(&snp_files(generation, signer)) {
                let found = found.unwrap_or_else(|refusal| panic!("{generation:?} {signer:?}: {refusal}"));
                assert_eq!((&*found.root, found.is_root), ("amd-lab", false));
                assert_eq!(found.out_of_force(NOW_S), None);
                names.push(found.file_name());
            }
        }
    }
    let lists = [tdx::List::of_root(&[9]), tdx::List::of_pck_ca(&[9])];
    let together = tdx::together(&tdx::tcb_info(), &tdx::qe_identity(), [&lists[0], &lists[1]]);
    let of_intel: Vec<_> = inspected(&[together]).into_iter().map(|found| found.expect("sound")).collect();
    assert!(of_intel.iter().all(|found| found.root == "intel-lab"));
    let below: Vec<_> = of_intel.iter().filter(|found| !found.is_root).collect();
    assert_eq!((below.len(), below.len() < of_intel.len()), (6, true), "the root came with it");
    names.extend(below.into_iter().map(Inspected::file_name));
    for begin in
        ["vcek-milan-", "vcek-turin-c1c1c1c1c1c1c1c1-1-4-2-24-217-", "vlek-genoa-", "crl-ark-hearth-"]
    {
        assert!(names.iter().any(|name| name.starts_with(begin)), "{begin}: {names:?}");
    }
    for begin in ["tcb-info-f5bc00000000-", "qe-identity-td-qe-", "crl-hearth-sgx-root-ca-"] {
        assert!(names.iter().any(|name| name.starts_with(begin)), "{begin}: {names:?}");
    }
    names.retain(|name| !name.starts_with("crl-ark-hearth-"));
    let all = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), all, "{names:?}");
}

#[test]
fn what_nobody_vouches_for_is_refused_for_its_reason() {
    let files = snp_files(Generation::Milan, Signer::Vcek);
    let reason = |files: &[Vec<u8>], at: usize| {
        inspected(files).remove(at).map(drop).map_err(|refusal| refusal.reason)
    };
    assert_eq!(reason(&files[..1], 0), Err(Reason::IssuerMissing));
    let mut forged = files.clone();
    *forged[0].last_mut().expect("it has bytes") ^= 1;
    assert_eq!(reason(&forged, 0), Err(Reason::CertificateSignature));
    let by_another = List { by_root: false, ..List::of(&[]) };
    assert_eq!(reason(&[by_another.der()], 0), Err(Reason::ListSignature));
    let statement = |by| tdx::answer("tcbInfo", &tdx::tcb_info(), by);
    let signer = tdx::statement_signer().der();
    assert_eq!(reason(&[statement(tdx::By::Pck), signer.clone()], 1), Err(Reason::TdxTcbInfoSignature));
    assert_eq!(reason(&[statement(tdx::By::StatementSigner)], 0), Err(Reason::IssuerMissing));
    let mut of_sgx = tdx::tcb_info();
    of_sgx["id"] = "SGX".into();
    let of_sgx = tdx::answer("tcbInfo", &of_sgx, tdx::By::StatementSigner);
    assert_eq!(reason(&[of_sgx, signer], 1), Err(Reason::TdxCollateralMalformed));
}

#[test]
fn an_evidence_gets_the_certificates_of_its_own_chip() {
    let mut library = Library::default();
    let chip =
        |number: u8| Leaf { hardware_id: vec![number; 64], ..Leaf::new(Generation::Milan, Signer::Vcek) };
    let mut all = Endorsements::of_deployment();
    let files = (1..=40).map(|number| chip(number).der()).chain(snp_files(Generation::Milan, Signer::Vcek));
    files.into_iter().try_for_each(|file| all.add(&file)).expect("there is room");
    let issuers = all.issuers();
    for one in all.each() {
        let subject = one.inspect(&issuers, &roots()).expect("it is sound").subject;
        library.add(one, Some(&subject)).expect("there is room");
    }
    let of = |report: &[u8]| {
        let fitting = library.fitting(report);
        fitting.each().filter_map(|one| one.inspect(&issuers, &roots()).ok()).map(|one| one.subject).collect()
    };
    let own = signed(5, Generation::Milan, Signer::Vcek, |report| report[0x1a0..0x1e0].fill(7));
    let subjects: Vec<Subject> = of(&own);
    assert_eq!(subjects.len(), 3, "{subjects:?}");
    assert!(subjects.iter().any(|one| matches!(one, Subject::Vcek { chip, .. } if *chip == [7; 64])));
    assert_eq!(of(b"nothing that is known").len(), 2);
}

#[test]
fn what_is_lacking_is_said_if_somebody_publishes_it() {
    let asked = |evidence: &[u8], reason| needs(evidence, reason, &roots());
    let turin = signed(5, Generation::Turin, Signer::Vcek, |_| {});
    let [Need::Vcek { generation, chip, tcb }] = &asked(&turin, Reason::SnpCertificateMissing)[..] else {
        panic!("one certificate is lacking")
    };
    assert_eq!(
        (*generation, &chip[..], tcb.fmc, tcb.microcode),
        (Generation::Turin, &[0xc1; 8][..], Some(1), 217)
    );
    assert_eq!(asked(&turin, Reason::ListStale), [Need::AmdList(Generation::Turin)]);
    assert_eq!(asked(&turin, Reason::IssuerMissing), [Need::AmdIssuers(Generation::Turin, Signer::Vcek)]);
    assert!(asked(&turin, Reason::SnpSignature).is_empty());
    // The chip is hidden, or the key is a cloud's: nobody publishes such a certificate.
    let hidden = signed(5, Generation::Turin, Signer::Vcek, |report| report[0x1a0..0x1e0].fill(0));
    let vlek = signed(5, Generation::Genoa, Signer::Vlek, |_| {});
    assert!(asked(&hidden, Reason::SnpCertificateMissing).is_empty());
    assert!(asked(&vlek, Reason::SnpCertificateMissing).is_empty());
    assert_eq!(asked(&vlek, Reason::IssuerMissing), [Need::AmdIssuers(Generation::Genoa, Signer::Vlek)]);

    let quote = tdx::Quote::new(tdx::Body::Td15);
    let lists = [Need::PckList(PckIssuer::Platform), Need::IntelRootList];
    let statements = [Need::TcbInfo([0xf5, 0xbc, 0, 0, 0, 0]), Need::QeIdentity];
    let all: Vec<_> = statements.iter().chain(&lists).cloned().collect();
    assert_eq!(asked(&quote.bytes(), Reason::TdxTcbInfoMissing), all);
    assert_eq!(asked(&quote.bytes(), Reason::TdxQeIdentityStale), statements);
    assert_eq!(asked(&quote.bytes(), Reason::ListMissing), lists);
    // With its log, or in what a VM of Azure sends, it is the same.
    let document = keyhearth_attest::tdx::Evidence { quote: quote.bytes(), log: Vec::new() };
    assert_eq!(asked(&document.encode(), Reason::ListMissing), lists);
    // A certificate that anybody made asks nobody.
    assert!(needs(&quote.bytes(), Reason::TdxTcbInfoMissing, &Roots::built_in()).is_empty());
    // Other keys than the platform's sign nothing.
    let other = tdx::Quote { qe_by: tdx::By::AttestationKey, ..quote };
    assert!(asked(&other.bytes(), Reason::TdxTcbInfoMissing).is_empty());
}

#[test]
fn a_need_is_met_by_what_it_asks_for_alone() {
    let tcb = keyhearth_attest::snp::Tcb { fmc: None, bootloader: 4, tee: 2, snp: 24, microcode: 217 };
    let vcek = |chip: u8| Subject::Vcek { generation: Generation::Milan, chip: vec![chip; 64], tcb };
    let need = Need::Vcek { generation: Generation::Milan, chip: vec![7; 64], tcb };
    assert!(need.is_met_by(&vcek(7)) && !need.takes(&vcek(8)));
    let (certificate, list) =
        (Subject::Certificate("SEV-Milan".to_owned()), Subject::List("ARK-Milan".to_owned()));
    assert!(!need.takes(&certificate) && !need.takes(&list));
    // Issuers come with lists, but do not stand for them.
    let of_list = Need::of_successor(&list).expect("it is published");
    assert_eq!(of_list, Need::AmdList(Generation::Milan));
    assert!(of_list.takes(&certificate) && !of_list.is_met_by(&certificate) && of_list.is_met_by(&list));
    for (issuer, expected) in [
        ("Intel SGX Root CA", Some(Need::IntelRootList)),
        ("Intel SGX PCK Processor CA", Some(Need::PckList(PckIssuer::Processor))),
        ("ARK-Rome", None),
        ("somebody", None),
    ] {
        assert_eq!(Need::of_successor(&Subject::List(issuer.to_owned())), expected, "{issuer}");
    }
    let fmspc = Subject::TcbInfo("00806f050000".to_owned());
    assert_eq!(Need::of_successor(&fmspc), Some(Need::TcbInfo([0, 0x80, 0x6f, 5, 0, 0])));
    assert_eq!(Need::of_successor(&Subject::TcbInfo("x".to_owned())), None);
    assert_eq!(Need::of_successor(&vcek(7)), None);
}
