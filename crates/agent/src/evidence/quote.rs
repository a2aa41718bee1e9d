//! A TPM's quote, with the PCRs and the event log that it is about.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use keyhearth_attest::eventlog::LOG_BYTES_MAX;
use keyhearth_attest::tpm::Evidence;

use super::{Collected, Error, Machine};
use crate::tpm::{AttestationKey, Tpm};

pub(super) fn collect(machine: &Machine, qualifying: &[u8; 32]) -> Result<Collected, Error> {
    let mut tpm = Tpm::open(&machine.tpm)?;
    let ak = tpm.create_ak()?;
    let evidence = evidence(&mut tpm, &ak, qualifying, event_log(&machine.event_log));
    tpm.flush(&ak)?;
    Ok(Collected { evidence: Some(evidence?.encode()), endorsements: Vec::new() })
}

fn evidence<S: Read + Write>(
    tpm: &mut Tpm<S>,
    ak: &AttestationKey,
    qualifying: &[u8; 32],
    log: Option<Vec<u8>>,
) -> Result<Evidence, Error> {
    let quote = tpm.quote(ak, qualifying)?;
    Ok(Evidence {
        quote: quote.quoted,
        signature: quote.signature,
        ak: Some(ak.public.clone()),
        pcrs: quote.pcrs,
        log,
        hcl_report: None,
        td_quote: None,
    })
}

/// What the firmware measured; nothing if the kernel does not show it, or if it is longer than evidence may be.
pub(super) fn event_log(path: &Path) -> Option<Vec<u8>> {
    let mut log = Vec::new();
    File::open(path).ok()?.take(LOG_BYTES_MAX as u64 + 1).read_to_end(&mut log).ok()?;
    (1..=LOG_BYTES_MAX).contains(&log.len()).then_some(log)
}

#[cfg(test)]
mod tests {
    use keyhearth_attest::{Claims, Demands, Endorsements, Reason, Roots, Specific, appraise};
    use keyhearth_crypto::digest::sha256;
    use keyhearth_proto::boot::Transcript;

    use super::*;
    use crate::tpm::testing::Swtpm;
    use crate::tpm::{PCR_RELEASED, RELEASED};

    const TRANSCRIPT: Transcript = Transcript([7; 64]);
    const NOW_S: u64 = 1_800_000_000;

    /// What the server says of evidence, if machines were enrolled with the key of this SHA-256.
    fn appraised(evidence: &Evidence, enrolled: [u8; 32], transcript: &Transcript) -> Result<Claims, Reason> {
        let demands =
            Demands { report_data: Some(transcript.0), enrolled_aks: vec![enrolled], ..Demands::at(NOW_S) };
        let claims = appraise(&evidence.encode(), &Endorsements::default(), &Roots::built_in(), &demands);
        claims.map_err(|refusal| refusal.reason)
    }

    #[test]
    fn the_server_believes_a_quote_of_the_enrolled_key_for_its_request_alone() {
        let swtpm = Swtpm::start();
        let mut tpm = swtpm.connect();
        let ak = tpm.create_ak().unwrap();
        let enrolled = sha256(&[&ak.spki().unwrap()]);
        let mut collect = || evidence(&mut tpm, &ak, &TRANSCRIPT.qualifying_data(), None).unwrap();
        let fresh = collect();
        let claims = appraised(&fresh, enrolled, &TRANSCRIPT).unwrap();
        let Specific::Tpm(claims) = claims.specific else { panic!("{claims:?}") };
        assert!(claims.vtpm_host_trusted);
        assert_eq!(claims.ak.0, enrolled);
        assert_eq!(claims.pcrs[&PCR_RELEASED].0, [0; 32]);

        assert_eq!(appraised(&fresh, [0; 32], &TRANSCRIPT), Err(Reason::TpmKeyUntrusted));
        assert_eq!(appraised(&fresh, enrolled, &Transcript([8; 64])), Err(Reason::ReportDataDiffers));
        let mut other = fresh.clone();
        other.pcrs.insert(PCR_RELEASED, [1; 32]);
        assert_eq!(appraised(&other, enrolled, &TRANSCRIPT), Err(Reason::TpmPcrDigest));
    }

    #[test]
    fn what_is_collected_after_a_release_shows_it() {
        let swtpm = Swtpm::start();
        let mut tpm = swtpm.connect();
        let ak = tpm.create_ak().unwrap();
        tpm.extend(PCR_RELEASED, &sha256(&[RELEASED])).unwrap();
        let late = evidence(&mut tpm, &ak, &TRANSCRIPT.qualifying_data(), None).unwrap();
        let claims = appraised(&late, sha256(&[&ak.spki().unwrap()]), &TRANSCRIPT).unwrap();
        let Specific::Tpm(claims) = claims.specific else { panic!("{claims:?}") };
        assert_eq!(claims.pcrs[&PCR_RELEASED].0, sha256(&[&[0; 32], &sha256(&[RELEASED])]));
    }

    /// As Azure keeps its key: RSA, behind a persistent handle.
    #[test]
    fn the_server_believes_a_quote_of_an_rsa_key_that_somebody_else_made() {
        const HANDLE: u32 = 0x8100_0003;
        let swtpm = Swtpm::start();
        let mut tpm = swtpm.connect();
        tpm.make_rsa(HANDLE);
        let ak = tpm.read_ak(HANDLE).unwrap();
        let evidence = evidence(&mut tpm, &ak, &TRANSCRIPT.qualifying_data(), None).unwrap();
        // Whoever enrols it knows the key by the refusal, or by other means.
        assert_eq!(appraised(&evidence, [0; 32], &TRANSCRIPT), Err(Reason::TpmKeyUntrusted));
        let demands = Demands::at(NOW_S);
        let refused = appraise(&evidence.encode(), &Endorsements::default(), &Roots::built_in(), &demands);
        let detail = refused.unwrap_err().to_string();
        let digits = detail.rsplit(|c: char| !c.is_ascii_hexdigit()).find(|word| word.len() == 64).unwrap();
        let mut enrolled = [0; 32];
        for (byte, pair) in enrolled.iter_mut().zip(digits.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        }
        appraised(&evidence, enrolled, &TRANSCRIPT).unwrap();
    }
}
