//! Boot release: how much evidence one core appraises in a second.
//!
//! Made machines give the evidence, so that nothing has to be brought. What is measured is from the bytes of evidence
//! and endorsements to claims, with nothing remembered from the time before. There is no server and no socket.

use std::fmt::{self, Display, Formatter};
use std::time::{Duration, Instant};

use keyhearth_attest::eventlog::BootPhase;
use keyhearth_attest::snp::{Generation, Signer};
use keyhearth_attest::tpm::Evidence;
use keyhearth_attest::{Claims, Demands, Endorsements, Refusal, Roots, appraise};
use keyhearth_crypto::digest::sha256;
use keyhearth_machines::{NOW_S, snp, tdx, tpm};
use serde::Serialize;

use crate::bench::error::Error;
use crate::bench::histogram::Histogram;
use crate::bench::load::Measurement;
use crate::bench::{Extent, median};

/// Numbers of revoked certificates in the lists of made machines, as many as there are in Intel's.
const REVOKED: std::ops::Range<u8> = 100..160;

/// One kind of evidence.
#[derive(Clone, Debug, Serialize)]
pub struct Appraised {
    /// What kind.
    pub evidence: String,
    /// Bytes of the evidence.
    pub evidence_bytes: usize,
    /// Bytes of the certificates, lists and statements that come with it.
    pub endorsement_bytes: usize,
    /// Appraisals in a second, and how long each takes.
    pub appraisals: Measurement,
}

/// All kinds. Displays as a table of at most 80 columns.
#[derive(Clone, Debug, Serialize)]
pub struct Appraisals {
    /// In the order measured.
    pub rows: Vec<Appraised>,
}

impl Display for Appraisals {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<24} {:>9} {:>12} {:>9} {:>9} {:>9}",
            "evidence", "bytes", "endorsements", "per s", "p50 us", "p99 us"
        )?;
        for Appraised { evidence, evidence_bytes, endorsement_bytes, appraisals } in &self.rows {
            writeln!(
                f,
                "{evidence:<24.24} {evidence_bytes:>9} {endorsement_bytes:>12} {:>9.0} {:>9.0} {:>9.0}",
                appraisals.ops_s, appraisals.p50_us, appraisals.p99_us,
            )?;
        }
        Ok(())
    }
}

/// Evidence, and what it is judged with.
struct Work {
    name: &'static str,
    evidence: Vec<u8>,
    endorsements: Vec<Vec<u8>>,
    roots: Roots,
    demands: Demands,
}

/// Measures every kind of evidence on this thread, or those whose names contain `only`.
///
/// # Errors
/// [`Error::Appraisal`] if a made machine is refused.
pub fn run(only: Option<&str>, extent: &Extent) -> Result<Appraisals, Error> {
    let chosen = |work: &&Work| only.is_none_or(|text| work.name.contains(text));
    let machines = machines();
    let rows = machines.iter().filter(chosen).map(|work| {
        let rounds = (0..extent.rounds.max(1)).map(|_| work.measure(extent)).collect::<Result<_, _>>()?;
        Ok(Appraised {
            evidence: work.name.to_owned(),
            evidence_bytes: work.evidence.len(),
            endorsement_bytes: work.endorsements.iter().map(Vec::len).sum(),
            appraisals: median(rounds),
        })
    });
    Ok(Appraisals { rows: rows.collect::<Result<_, Error>>()? })
}

impl Work {
    fn appraise(&self) -> Result<Claims, Refusal> {
        let mut endorsements = Endorsements::default();
        self.endorsements.iter().try_for_each(|file| endorsements.add(file))?;
        appraise(&self.evidence, &endorsements, &self.roots, &self.demands)
    }

    fn measure(&self, extent: &Extent) -> Result<Measurement, Error> {
        let mut durations_ns = Histogram::default();
        let begin = Instant::now();
        let warm = begin + Duration::from_millis(extent.warm_up_ms);
        let end = warm + Duration::from_millis(extent.measure_ms);
        let mut last = begin;
        while last < end {
            self.appraise()?;
            let now = Instant::now();
            if last >= warm {
                durations_ns.record(usize::try_from((now - last).as_nanos()).unwrap_or(usize::MAX));
            }
            last = now;
        }
        let quantile_us = |share| durations_ns.quantile(share) as f64 / 1000.0;
        Ok(Measurement {
            ops_s: durations_ns.count() as f64 / (last - warm).as_secs_f64(),
            p50_us: quantile_us(0.5),
            p99_us: quantile_us(0.99),
            errors: 0,
            first_error: None,
        })
    }
}

/// What the request asks to be in evidence.
const REPORT_DATA: [u8; 64] = [0xda; 64];

/// A machine of each kind.
fn machines() -> Vec<Work> {
    let known = |ak: tpm::Ak| Some(ak.spki());
    vec![
        snp_machine("snp", Signer::Vcek),
        snp_machine("snp-vlek", Signer::Vlek),
        tpm_machine("tpm-rsa", tpm::Ak::Rsassa, known(tpm::Ak::Rsassa), None),
        tpm_machine("tpm-ec", tpm::Ak::P256, known(tpm::Ak::P256), None),
        azure_machine("azure-snp"),
        tdx_machine("tdx"),
    ]
}

fn demands() -> Demands {
    Demands { report_data: Some(REPORT_DATA), ..Demands::at(NOW_S) }
}

fn snp_machine(name: &'static str, signer: Signer) -> Work {
    let generation = Generation::Genoa;
    let mut evidence = snp::report(5, generation, signer);
    snp::sign(&mut evidence);
    let endorsements = vec![
        snp::Leaf::new(generation, signer).der(),
        snp::intermediate(generation, signer).der(),
        snp::List::of(&REVOKED.collect::<Vec<_>>()).der(),
    ];
    let roots = Roots::built_in().with("made", &snp::ark().der()).expect("a made root is a certificate");
    Work { name, evidence, endorsements, roots, demands: demands() }
}

/// A machine that booted, with the log of it. Its key is known, or named by a report of its hardware.
fn tpm_machine(name: &'static str, ak: tpm::Ak, key: Option<Vec<u8>>, hcl_report: Option<Vec<u8>>) -> Work {
    let events = tpm::boot();
    let pcrs = tpm::pcrs(&events, BootPhase::EnterInitrd);
    let quote = tpm::Quote::of(&pcrs, &REPORT_DATA).bytes();
    let log = Some(tpm::log(&events, &[tpm::SHA1, tpm::SHA256]));
    let evidence =
        Evidence { signature: ak.sign(&quote), quote, ak: key, pcrs, log, hcl_report, td_quote: None }
            .encode();
    let demands = Demands { enrolled_aks: vec![ak.fingerprint()], ..demands() };
    Work { name, evidence, endorsements: Vec::new(), roots: Roots::built_in(), demands }
}

fn azure_machine(name: &'static str) -> Work {
    let ak = tpm::Ak::Rsassa;
    let runtime_data = tpm::runtime_data(&ak.modulus());
    let hardware = snp_machine(name, Signer::Vcek);
    let mut report = hardware.evidence;
    report[0x50..0x90].copy_from_slice(&[sha256(&[runtime_data.as_bytes()]), [0; 32]].concat());
    snp::sign(&mut report);
    let hcl_report = tpm::hcl_report(&report, 2, 1, &runtime_data);
    let Work { evidence, .. } = tpm_machine(name, ak, None, Some(hcl_report));
    Work { evidence, ..hardware }
}

fn tdx_machine(name: &'static str) -> Work {
    let lists = [tdx::List::of_root(&[9]), tdx::List::of_pck_ca(&REVOKED.collect::<Vec<_>>())];
    let collateral = tdx::together(&tdx::tcb_info(), &tdx::qe_identity(), [&lists[0], &lists[1]]);
    let roots = Roots::built_in().with("made", &tdx::root().der()).expect("a made root is a certificate");
    let evidence = tdx::Quote::new(tdx::Body::Td15).bytes();
    Work { name, evidence, endorsements: vec![collateral], roots, demands: demands() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_machine_is_accepted_and_counted() {
        let extent = Extent { warm_up_ms: 0, measure_ms: 1, rounds: 1, ..Extent::default() };
        let report = run(None, &extent).unwrap();
        assert_eq!(report.rows.len(), 6);
        assert!(report.rows.iter().all(|row| row.appraisals.ops_s > 0.0), "{report}");
        assert!(report.to_string().lines().all(|line| line.len() <= 80), "{report}");
        assert_eq!(run(Some("tdx"), &extent).unwrap().rows.len(), 1);
    }
}
