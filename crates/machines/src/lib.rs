//! Made machines: the hardware and the makers that an appraisal needs, so that evidence can be signed which no real
//! machine gives, sound or broken in one place.
//!
//! Names, extensions and formats are the makers'; keys are made once in each process, and nobody's root vouches for
//! them: whoever appraises has to believe the made root.
//!
//! Used by the tests of appraisal, by fuzzing for its seeds, and by `keyhearth bench --protocol boot`. Functions panic
//! where a caller asks for what makes no sense; they are not for input from outside.

pub mod clouds;
mod der;
pub mod images;
pub mod snp;
pub mod tdx;
pub mod tpm;

use keyhearth_crypto::algorithm::Algorithm;
use keyhearth_crypto::key::{Key, generate};

/// 2025-07-01 in seconds since 1970, when everything is valid that is not made otherwise.
pub const NOW_S: u64 = 1_751_328_000;

/// When certificates and lists begin, unless they are made otherwise.
const BEFORE: &str = "240101000000Z";
/// When they end.
const AFTER: &str = "300101000000Z";

fn make(algorithm: Algorithm) -> Key {
    let material = generate(algorithm).expect("randomness and locked memory");
    Key::load(algorithm, &material).expect("what was generated loads")
}
