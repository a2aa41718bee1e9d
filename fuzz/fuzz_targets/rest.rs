//! REST requests: `METHOD PATH[?QUERY]`, a line feed, the body.
#![no_main]

use keyhearth_core::operation::Operation;
use keyhearth_proto::rest::body::Unseal;
use keyhearth_proto::rest::{method_name, parse, read, route};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some(end) = data.iter().position(|byte| *byte == b'\n') else { return };
    let (Ok(line), body) = (str::from_utf8(&data[..end]), &data[end + 1..]) else { return };
    let Some((method, target)) = line.split_once(' ') else { return };
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    if let Ok((operation, params)) = route(method, path) {
        assert_eq!(method_name(operation.info().method), method);
        if operation == Operation::Unseal {
            let _ = read::<Unseal>(body);
        }
        if let Ok(ask) = parse(operation, &params, query, body) {
            assert_eq!(ask.operation(), operation);
        }
    }
});
