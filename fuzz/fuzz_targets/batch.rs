//! Bodies of `POST /v1/batch`.
#![no_main]

use keyhearth_proto::rest::{BATCH_MAX, batch, is_batched};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(requests) = batch(data) else { return };
    assert!((1..=BATCH_MAX).contains(&requests.len()));
    for (operation, ask) in requests.into_iter().flatten() {
        assert!(is_batched(operation) && ask.operation() == operation);
    }
});
