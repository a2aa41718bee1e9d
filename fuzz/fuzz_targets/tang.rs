//! Requests to the Tang front: `METHOD PATH`, an empty line, the body; and signatures as it prints them.
#![no_main]

use keyhearth_crypto::algorithm::Algorithm;
use keyhearth_crypto::key::PublicKey;
use keyhearth_proto::tang::{Point, Thumbprint, advertisement, payload, route};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let end = data.windows(2).position(|two| two == b"\n\n").unwrap_or(data.len());
    let (line, body) = (&data[..end], data.get(end + 2..).unwrap_or_default());
    if let Some((method, path)) = std::str::from_utf8(line).ok().and_then(|line| line.split_once(' ')) {
        let _ = route(method, path);
    }
    let Ok(point) = Point::read(body) else {
        let _ = advertisement(b"{}", &[body.to_vec()]);
        return;
    };
    // What has the form of a point is printed as it was read, on the curve or not.
    assert_eq!(Point::read(&point.reply()), Ok(point.clone()));
    let named = Thumbprint::read(&point.thumbprints().to_string()).expect("as it is printed");
    assert!(point.thumbprints().are(&named));
    let _ = payload(&point, &point);
    if let Ok(public) = PublicKey::from_der(Algorithm::EcP521, point.bytes()) {
        assert_eq!(Point::of_public_key(public.der()), Some(point));
    }
});
