//! Certificates and requests: what the CA signs is a client certificate, and reading anything else is harmless.
#![no_main]

use std::sync::LazyLock;

use keyhearth::identity::{Ca, Subject, certificate_der, client_certificate};
use keyhearth_core::id::{DeploymentId, Name, PrincipalId, TenantId};
use keyhearth_core::time::{Now, Time};
use keyhearth_crypto::algorithm::Algorithm;
use keyhearth_crypto::key;
use libfuzzer_sys::fuzz_target;

const NOW: Time = Time::from_unix_ms(1_800_000_000_000);

static CA: LazyLock<Ca> = LazyLock::new(|| {
    let key = key::generate(Algorithm::EcP256).expect("randomness and locked memory");
    Ca::create(&key, DeploymentId([1; 16]), NOW).expect("a sound key")
});

fuzz_target!(|data: &[u8]| {
    let _ = client_certificate(data, Now::exactly(NOW));
    let Ok(text) = str::from_utf8(data) else { return };
    let _ = certificate_der(text);
    let name: Name = "fuzz".parse().expect("a name");
    let subject = Subject { tenant: TenantId([2; 16]), principal: PrincipalId([3; 16]), name: &name };
    if let Ok(issued) = CA.sign_client(text, subject, 1, NOW) {
        let der = certificate_der(&issued.pem).expect("the CA writes one certificate");
        let presented = client_certificate(&der, Now::exactly(NOW)).expect("it is made for clients");
        assert_eq!(presented.fingerprint, issued.fingerprint);
    }
});
