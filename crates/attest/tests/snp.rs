//! SNP reports of made machines: what is sound is accepted as what it is, and every reason to refuse is reached.

use std::collections::BTreeSet;

use keyhearth_attest::snp::{Generation, Signer, SnpClaims, Tcb};
use keyhearth_attest::{
    Area, CERTIFICATES_MAX, Claims, Demands, ENDORSEMENT_BYTES_MAX, EVIDENCE_BYTES_MAX, Endorsements, Reason,
    Refusal, Revocation, RootError, Roots, Specific, appraise,
};
use keyhearth_machines::NOW_S;
use keyhearth_machines::snp::{Certificate, LEVELS, Leaf, List, ark, intermediate, report, sign, tcb};
use proptest::prelude::*;
use sev::firmware::guest::AttestationReport;
use sev::firmware::host::TcbVersion;
use sev::parser::ByteParser as _;

/// Evidence, what comes with it, and what is demanded; each test makes one thing otherwise.
struct Case {
    report: Vec<u8>,
    /// Changed after it was signed.
    forged: Vec<(usize, u8)>,
    leaf: Option<Leaf>,
    issuer: Option<Certificate>,
    lists: Vec<List>,
    files: Vec<Vec<u8>>,
    roots: Roots,
    demands: Demands,
    /// Instead of the report.
    evidence: Option<Vec<u8>>,
}

impl Case {
    fn new(version: u32, generation: Generation, signer: Signer) -> Self {
        Self {
            report: report(version, generation, signer),
            forged: Vec::new(),
            leaf: Some(Leaf::new(generation, signer)),
            issuer: Some(intermediate(generation, signer)),
            lists: vec![List::of(&[9])],
            files: Vec::new(),
            roots: Roots::built_in().with_amd("hearth", &ark().der()).expect("a root"),
            demands: Demands { report_data: Some([0xda; 64]), ..Demands::at(NOW_S) },
            evidence: None,
        }
    }

    fn genoa() -> Self {
        Self::new(3, Generation::Genoa, Signer::Vcek)
    }

    fn put(&mut self, offset: usize, bytes: &[u8]) {
        self.report[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    fn leaf(&mut self) -> &mut Leaf {
        self.leaf.as_mut().expect("no test asks after it took the leaf away")
    }

    fn issuer(&mut self) -> &mut Certificate {
        self.issuer.as_mut().expect("no test asks after it took the issuer away")
    }

    fn evidence(&self) -> Vec<u8> {
        self.evidence.clone().unwrap_or_else(|| {
            let mut report = self.report.clone();
            sign(&mut report);
            self.forged.iter().for_each(|(offset, byte)| report[*offset] = *byte);
            report
        })
    }

    fn endorsements(&self) -> Result<Endorsements, Refusal> {
        let certificates =
            self.leaf.iter().map(Leaf::der).chain(self.issuer.iter().map(|issuer| issuer.der()));
        let mut endorsements = Endorsements::default();
        let files = certificates.chain(self.lists.iter().map(List::der)).chain(self.files.iter().cloned());
        files.into_iter().try_for_each(|file| endorsements.add(&file))?;
        Ok(endorsements)
    }

    fn judge(&self) -> Result<Claims, Refusal> {
        appraise(&self.evidence(), &self.endorsements()?, &self.roots, &self.demands)
    }
}

fn snp(claims: &Claims) -> &SnpClaims {
    let Specific::Snp(claims) = &claims.specific else { panic!("{claims:?}") };
    claims
}

type Change = fn(&mut Case);

/// Each way to break a sound case, and the reason that it deserves.
const BROKEN: &[(Reason, Change)] = &[
    (Reason::EvidenceTooLarge, |case| case.evidence = Some(vec![3; EVIDENCE_BYTES_MAX + 1])),
    (Reason::EvidenceUnknown, |case| case.evidence = Some(vec![0; 1184])),
    (Reason::EvidenceUnknown, |case| case.evidence = Some(vec![3])),
    (Reason::ReportDataDiffers, |case| case.demands.report_data = Some([1; 64])),
    (Reason::SnpSize, |case| case.evidence = Some(case.report[..1183].to_vec())),
    (Reason::SnpSize, |case| case.evidence = Some([&case.report[..], &[0]].concat())),
    (Reason::SnpVersion, |case| case.put(0, &[6])),
    (Reason::SnpVersion, |case| case.put(0, &[1])),
    (Reason::SnpVersionLegacy, |case| case.put(0, &[2])),
    (Reason::SnpSignatureAlgorithm, |case| case.put(0x34, &[2])),
    (Reason::SnpUnsigned, |case| case.put(0x48, &[7 << 2])),
    (Reason::SnpUnsigned, |case| case.forged = (0x2a0..0x4a0).map(|offset| (offset, 0)).collect()),
    (Reason::SnpSignerUnknown, |case| case.put(0x48, &[3 << 2])),
    (Reason::SnpSignatureMalformed, |case| case.forged = vec![(0x2a0 + 48, 1)]),
    (Reason::SnpSignatureMalformed, |case| case.forged = vec![(0x49f, 1)]),
    (Reason::SnpProcessorUnknown, |case| case.put(0x188, &[0x17])),
    (Reason::SnpCertificateMissing, |case| case.leaf = None),
    (Reason::SnpCertificateMissing, |case| case.put(0x48, &[1 << 2])),
    (Reason::SnpCertificateMalformed, |case| case.leaf().product = "Rome-B0".to_owned()),
    (Reason::SnpCertificateMalformed, |case| case.leaf().hardware_id.truncate(63)),
    (Reason::SnpProductDiffers, |case| case.leaf().product = "Milan-B0".to_owned()),
    (Reason::SnpChipMasked, |case| case.put(0x1a0, &[0; 64])),
    (Reason::SnpChipDiffers, |case| case.put(0x1a0, &[2])),
    (Reason::SnpChipDiffers, |case| case.leaf().hardware_id[63] ^= 1),
    (Reason::SnpTcbDiffers, |case| case.leaf().levels[3] -= 1),
    (Reason::SnpTcbDiffers, |case| case.leaf().levels[4] += 1),
    (Reason::SnpSignature, |case| case.forged = vec![(0x90, 1)]),
    (Reason::SnpSignature, |case| case.forged = vec![(0x2a0, 1), (0x2a1, 1)]),
    (Reason::SnpTcbReported, |case| case.put(0x38, &tcb(Generation::Genoa, [1, 4, 2, 23, 217]))),
    (Reason::SnpTcbCommitted, |case| case.put(0x1e0, &tcb(Generation::Genoa, [1, 4, 2, 24, 218]))),
    (Reason::SnpDebug, |case| case.put(0x0a, &[0x0b])),
    (Reason::SnpMigration, |case| case.put(0x0a, &[0x07])),
    (Reason::SnpVmpl, |case| case.put(0x30, &[1])),
    (Reason::SnpVmpl, |case| case.put(0x30, &[0xff; 4])),
    (Reason::SnpVmpl, |case| case.demands.vmpl = 2),
    (Reason::EndorsementMalformed, |case| case.files = vec![b"no certificate".to_vec()]),
    (Reason::EndorsementMalformed, |case| case.files = vec![vec![0x30, 0x80]]),
    (Reason::EndorsementMalformed, |case| case.files = vec![[ark().der(), vec![0]].concat()]),
    (Reason::EndorsementTooLarge, |case| case.files = vec![vec![0x30; ENDORSEMENT_BYTES_MAX + 1]]),
    (Reason::EndorsementTooLarge, |case| {
        case.files = (0..CERTIFICATES_MAX).map(|number| serial(number).der()).collect();
    }),
    (Reason::IssuerMissing, |case| case.issuer = None),
    (Reason::IssuerMissing, |case| case.issuer().subject = "SEV-Other".to_owned()),
    (Reason::RootUntrusted, |case| case.roots = Roots::built_in()),
    (Reason::RootUntrusted, |case| case.issuer().issuer = "ARK-Other".to_owned()),
    (Reason::CertificateUnfit, |case| case.issuer().extensions.clear()),
    (Reason::CertificateUnfit, |case| case.issuer = case.issuer.take().map(|issuer| issuer.issuing(false))),
    (Reason::CertificateUnfit, |case| case.issuer = case.issuer.take().map(|issuer| issuer.with_unknown())),
    (Reason::CertificateUnfit, |case| {
        case.leaf().certificate = case.leaf().certificate.clone().with_unknown()
    }),
    (Reason::CertificateUnfit, |case| {
        case.leaf().certificate = case.leaf().certificate.clone().issuing(true)
    }),
    (Reason::CertificateSignature, |case| case.leaf().certificate.by_root = true),
    (Reason::CertificateSignature, |case| case.issuer().by_root = false),
    (Reason::CertificateSignature, |case| case.leaf().certificate.salt = 32),
    (Reason::CertificateNotYetValid, |case| case.leaf().certificate.not_before = "250701000001Z"),
    (Reason::CertificateNotYetValid, |case| case.demands.now_s = 0),
    (Reason::CertificateExpired, |case| case.leaf().certificate.not_after = "250630235959Z"),
    (Reason::CertificateExpired, |case| case.issuer().not_after = "250630235959Z"),
    (Reason::CertificateExpired, |case| case.demands.now_s = u64::MAX),
    (Reason::ListSignature, |case| case.lists[0].by_root = false),
    (Reason::CertificateRevoked, |case| case.lists[0].revoked = vec![9, 2]),
    (Reason::CertificateRevoked, |case| case.lists[0].revoked = vec![0]),
    (Reason::CertificateRevoked, |case| {
        case.lists = vec![List { next_update: Some("250101000000Z"), ..List::of(&[2]) }];
        case.demands.revocation = Revocation::IfGiven;
    }),
    (Reason::ListMissing, |case| case.lists.clear()),
    (Reason::ListMissing, |case| case.lists[0].issuer = "ARK-Other"),
    (Reason::ListStale, |case| case.lists[0].next_update = Some("250630235959Z")),
    (Reason::ListStale, |case| case.lists[0].next_update = None),
    (Reason::ListStale, |case| case.lists[0].this_update = "250701000001Z"),
];

/// A certificate that is no other's.
fn serial(number: usize) -> Certificate {
    let serial = u8::try_from(number).expect("the limit is small");
    Certificate { serial, ..ark() }
}

#[test]
fn every_reason_is_reached() {
    let mut reached = BTreeSet::new();
    for (index, (reason, change)) in BROKEN.iter().enumerate() {
        let mut case = Case::genoa();
        change(&mut case);
        let refusal = case.judge().expect_err(reason.code());
        assert_eq!(refusal.reason, *reason, "row {index}: {refusal}");
        reached.insert(*reason);
    }
    let ours = |reason: &&Reason| matches!(reason.area(), Area::Evidence | Area::Snp | Area::Certificates);
    let missed: Vec<_> = Reason::ALL.iter().filter(ours).filter(|reason| !reached.contains(reason)).collect();
    assert!(missed.is_empty(), "no test reaches {missed:?}");
}

#[test]
fn sound_reports_of_every_kind_are_accepted() {
    for generation in Generation::ALL {
        for signer in [Signer::Vcek, Signer::Vlek] {
            for version in 2..=5 {
                let mut case = Case::new(version, generation, signer);
                case.demands.legacy_reports = version == 2;
                let claims = case.judge().unwrap_or_else(|refusal| {
                    panic!("version {version}, {}, {}: {refusal}", generation.name(), signer.name())
                });
                let said = snp(&claims);
                assert_eq!(
                    (said.report_version, said.generation, said.signer),
                    (version, generation, signer)
                );
                assert_eq!((&*claims.root, claims.revocation_checked), ("hearth", true));
                let weak = generation == Generation::Milan && signer == Signer::Vcek;
                assert_eq!(
                    (claims.reduced_assurance, claims.memory_encrypted, claims.debug),
                    (weak, true, false)
                );
                assert_eq!(said.chip_id.is_some(), signer == Signer::Vcek);
                assert_eq!(said.provider.is_some(), signer == Signer::Vlek);
                let [fmc, bootloader, tee, snp, microcode] = LEVELS;
                let fmc = (generation == Generation::Turin).then_some(fmc);
                assert_eq!(said.reported_tcb, Tcb { fmc, bootloader, tee, snp, microcode });
            }
        }
    }
}

#[test]
fn claims_are_one_flat_record() {
    let claims = Case::genoa().judge().expect("a sound report");
    let json = serde_json::to_value(&claims).expect("claims are JSON");
    let depth = |value: &serde_json::Value| {
        value.as_object().is_some_and(|members| members.values().any(serde_json::Value::is_object))
    };
    assert!(!json.as_object().expect("a record").values().any(depth), "{json}");
    assert_eq!((&json["kind"], &json["guest_svn"]), (&"snp".into(), &7.into()));
    assert_eq!(json["measurement"], "3e".repeat(48));
    assert_eq!(json["id_key_digest"], "1d".repeat(48));
    assert_eq!(json["policy"]["abi_major"], 1);
    assert_eq!((&json["policy"]["smt"], &json["policy"]["single_socket"]), (&true.into(), &false.into()));
    assert_eq!(json["platform"]["alias_check_complete"], true);
    assert_eq!(json["current_tcb"]["microcode"], 217);
    // What the firmware leaves out is left out: author key, migration agent, FMC.
    for absent in ["author_key_digest", "report_id_ma", "provider"] {
        assert!(json.get(absent).is_none(), "{absent}");
    }
    assert!(json["current_tcb"].get("fmc").is_none());
}

#[test]
fn a_report_in_another_processors_name_is_refused() {
    // Version 2 does not name the processor, so the certificate's levels are all that is compared.
    let mut case = Case::new(2, Generation::Turin, Signer::Vcek);
    case.demands.legacy_reports = true;
    case.leaf().product = "Genoa".to_owned();
    assert_eq!(case.judge().expect_err("the id is short").reason, Reason::SnpCertificateMalformed);
}

#[test]
fn an_author_key_counts_only_if_it_signed() {
    let mut case = Case::genoa();
    case.put(0x110, &[0xa0; 48]);
    assert_eq!(snp(&case.judge().expect("sound")).author_key_digest, None);
    case.put(0x48, &[1]);
    let digest = snp(&case.judge().expect("sound")).author_key_digest.clone();
    assert_eq!(digest.expect("it signed").to_string(), "a0".repeat(48));
}

#[test]
fn the_expected_migration_agent_is_accepted() {
    let mut case = Case::genoa();
    case.put(0x0a, &[0x07]);
    case.put(0x160, &[0x3a; 32]);
    case.demands.migration_agent = Some([0x3b; 32]);
    assert_eq!(case.judge().expect_err("another agent").reason, Reason::SnpMigration);
    case.demands.migration_agent = Some([0x3a; 32]);
    assert!(snp(&case.judge().expect("the expected one")).policy.migrate_ma);
}

#[test]
fn without_a_list_the_claims_say_so() {
    for lists in [Vec::new(), vec![List { next_update: Some("250101000000Z"), ..List::of(&[]) }]] {
        let mut case = Case::genoa();
        (case.lists, case.demands.revocation) = (lists, Revocation::IfGiven);
        assert!(!case.judge().expect("no list is demanded").revocation_checked);
    }
}

#[test]
fn a_forged_list_takes_nothing_away_from_the_others() {
    for place in [0, 1] {
        let mut case = Case::genoa();
        case.lists.insert(place, List { by_root: false, ..List::of(&[2]) });
        assert!(case.judge().expect("one list is authentic").revocation_checked);
    }
}

#[test]
fn certificates_of_every_age_and_spelling_are_taken() {
    let mut case = Case::genoa();
    case.leaf().bare_id = true;
    assert!(case.judge().is_ok(), "hardware ids had no tag once");
    // What belongs to others does not matter, and repeated ones count once.
    let mut case = Case::genoa();
    let mut other = Leaf::new(Generation::Genoa, Signer::Vcek);
    other.hardware_id[0] = 7;
    let mut older = Leaf::new(Generation::Genoa, Signer::Vcek);
    older.levels[4] = 3;
    case.files = vec![other.der(), older.der(), ark().der(), ark().der()];
    assert!(case.judge().is_ok());
    // Of several that do not belong, the nearest one is spoken of.
    case.leaf = None;
    assert_eq!(case.judge().expect_err("its own is missing").reason, Reason::SnpTcbDiffers);
    // An expired certificate beside the renewed one does no harm.
    let mut case = Case::new(4, Generation::Genoa, Signer::Vlek);
    let mut expired = Leaf::new(Generation::Genoa, Signer::Vlek);
    expired.certificate.not_after = "250101000000Z";
    case.files = vec![expired.der()];
    assert!(case.judge().is_ok());
}

#[test]
fn the_hosts_table_of_certificates_is_taken() {
    let mut case = Case::genoa();
    let files = [case.leaf().der(), case.issuer().der(), b"something of the host's".to_vec()];
    let mut offset = 24 * (files.len() + 1);
    let mut table = Vec::new();
    for file in &files {
        let number = |number: usize| u32::try_from(number).expect("it is small").to_le_bytes();
        table.extend([&[0x63; 16][..], &number(offset), &number(file.len())].concat());
        offset += file.len();
    }
    table.extend([0; 24]);
    (case.leaf, case.issuer, case.files) = (None, None, vec![[table, files.concat()].concat()]);
    assert!(case.judge().is_ok());
}

#[test]
fn extra_roots_have_labels_of_their_own() {
    let ark = ark().der();
    for label in ["", "built-in", "Upper", "a b", &"x".repeat(65)] {
        assert_eq!(Roots::built_in().with_amd(label, &ark).map(drop), Err(RootError::Label), "{label}");
    }
    assert_eq!(Roots::built_in().with_amd("lab", b"none").map(drop), Err(RootError::Certificate));
}

/// Bits that are not refused: all of the policy but those of a migration agent and of debugging.
const POLICY_BITS: u64 = 0x03f3_ffff;

proptest! {
    #[test]
    fn another_reader_reads_the_same(
        policy in any::<u64>(), platform in any::<u64>(), svn in any::<u32>(), launch in any::<[u8; 8]>(),
        digests in any::<[u8; 32]>(), version in 3_u32..=5, generation in proptest::sample::select(&Generation::ALL),
    ) {
        let mut case = Case::new(version, generation, Signer::Vcek);
        case.put(0x04, &svn.to_le_bytes());
        case.put(0x08, &(policy & POLICY_BITS).to_le_bytes());
        case.put(0x40, &platform.to_le_bytes());
        case.put(0x1f0, &launch);
        for offset in [0x10, 0x90, 0xa0, 0xc0, 0xe0, 0x140] {
            case.put(offset, &digests);
        }
        let claims = case.judge().expect("nothing of that is refused");
        let ours = snp(&claims);
        let theirs = AttestationReport::from_bytes(&case.evidence()).expect("a report");
        let tcb = |tcb: TcbVersion| {
            let TcbVersion { fmc, bootloader, tee, snp, microcode } = tcb;
            Tcb { fmc, bootloader, tee, snp, microcode }
        };
        prop_assert_eq!(
            [ours.reported_tcb, ours.committed_tcb, ours.current_tcb, ours.launch_tcb],
            [theirs.reported_tcb, theirs.committed_tcb, theirs.current_tcb, theirs.launch_tcb].map(tcb)
        );
        prop_assert_eq!((ours.guest_svn, ours.vmpl), (theirs.guest_svn, theirs.vmpl));
        let chip = ours.chip_id.as_ref().expect("it is not hidden");
        for (bytes, other) in [
            (&ours.measurement, &theirs.measurement[..]),
            (&ours.host_data, &theirs.host_data),
            (&ours.family_id, &theirs.family_id),
            (&ours.image_id, &theirs.image_id),
            (&ours.report_id, &theirs.report_id),
            (&claims.report_data, &theirs.report_data),
            (chip, &theirs.chip_id),
        ] {
            prop_assert_eq!(&bytes.0, other);
        }
        let (bits, other) = (&ours.policy, &theirs.policy);
        prop_assert_eq!(
            [bits.smt, bits.single_socket, bits.cxl, bits.memory_aes_256_xts, bits.rapl_disabled,
                bits.ciphertext_hiding, bits.page_swap_disabled],
            [other.smt_allowed(), other.single_socket_required(), other.cxl_allowed(), other.mem_aes_256_xts(),
                other.rapl_dis(), other.ciphertext_hiding(), other.page_swap_disabled()]
        );
        let abi = |number: u64| u8::try_from(number).expect("eight bits");
        prop_assert_eq!(
            (bits.abi_major, bits.abi_minor),
            (abi(other.abi_major()), abi(other.abi_minor()))
        );
        let (bits, other) = (&ours.platform, &theirs.plat_info);
        prop_assert_eq!(
            [bits.smt, bits.tsme, bits.ecc, bits.rapl_disabled, bits.ciphertext_hiding,
                bits.alias_check_complete, bits.tio],
            [other.smt_enabled(), other.tsme_enabled(), other.ecc_enabled(), other.rapl_disabled(),
                other.ciphertext_hiding_enabled(), other.alias_check_complete(), other.tio_enabled()]
        );
    }

    #[test]
    fn any_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..1300), version in 0_u8..8) {
        let demands = Demands { legacy_reports: true, ..Demands::at(NOW_S) };
        let none = Endorsements::default();
        prop_assert!(appraise(&bytes, &none, &Roots::built_in(), &demands).is_err());
        let mut report = [&[version, 0, 0, 0][..], &bytes].concat();
        report.resize(1184, 0);
        prop_assert!(appraise(&report, &none, &Roots::built_in(), &demands).is_err());
        let mut endorsements = Endorsements::default();
        prop_assert!(endorsements.add(&bytes).is_err());
    }

    #[test]
    fn one_changed_bit_of_a_report_is_refused(offset in 0_usize..1184, bit in 0_u8..8) {
        let case = Case::genoa();
        let mut evidence = case.evidence();
        evidence[offset] ^= 1 << bit;
        let endorsements = case.endorsements().expect("they are sound");
        let demands = Demands { report_data: None, legacy_reports: true, ..case.demands };
        prop_assert!(appraise(&evidence, &endorsements, &case.roots, &demands).is_err());
    }

    #[test]
    fn one_changed_bit_of_a_certificate_is_refused(place in any::<proptest::sample::Index>(), bit in 0_u8..8) {
        let mut case = Case::genoa();
        let mut leaf = case.leaf().der();
        *place.get_mut(&mut leaf) ^= 1 << bit;
        (case.leaf, case.files) = (None, vec![leaf]);
        prop_assert!(case.judge().is_err());
    }
}
