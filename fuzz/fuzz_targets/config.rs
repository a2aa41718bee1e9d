//! A configuration is refused with a reason, or keeps its own rules.
#![no_main]

use keyhearth::config::Config;
use keyhearth_core::log::KeyName;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(config) = Config::parse(text) else { return };
    assert!(config.health.ip().to_canonical().is_loopback());
    assert!(config.settings(false).origin.parse::<KeyName>().is_ok());
    assert!(config.aws.as_ref().is_none_or(|aws| aws.place().is_ok()));
    let limits = config.limits();
    assert!(limits.connections_max > 0 && limits.address_connections_max > 0);
});
