//! Identity documents of clouds with the certificates that they are judged by: whatever comes, there are claims or a refusal,
//! and what is accepted is accepted again, and for its own request alone.
//!
//! The input is a list of files, each after its length in two bytes: the document, then certificates, which are put into
//! the folder of every cloud as those of the region `hearth-west-1`.
#![no_main]

use keyhearth_attest::cloud::{Clouds, Provider, verify};
use keyhearth_attest::{Demands, Reason};
use keyhearth_fuzz::files;
use libfuzzer_sys::fuzz_target;

/// 2025-07-01, when the certificates of the seeds are valid.
const NOW_S: u64 = 1_751_328_000;
const REPORT_DATA: [u8; 64] = [0xda; 64];

fuzz_target!(|data: &[u8]| {
    let mut files = files(data);
    let Some(document) = files.next() else { return };
    let mut clouds = Clouds::default();
    for file in files {
        Provider::ALL.iter().for_each(|cloud| drop(clouds.add(*cloud, "hearth-west-1.pem", file)));
    }
    let demands = Demands { report_data: Some(REPORT_DATA), ..Demands::at(NOW_S) };
    let Ok(claims) = verify(document, &clouds, &demands) else { return };
    serde_json::to_string(&claims).expect("claims are JSON");
    assert_eq!(verify(document, &clouds, &demands).as_ref(), Ok(&claims));
    let other = Demands { report_data: Some([0; 64]), ..demands };
    let elsewhere = verify(document, &clouds, &other).map_err(|refusal| refusal.reason);
    assert!(!claims.fresh || elsewhere == Err(Reason::CloudNonceDiffers), "{elsewhere:?}");
});
