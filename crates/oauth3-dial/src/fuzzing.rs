//! What fuzzing holds this crate to. Ships nothing: a feature that only `fuzz/` asks for, and tests.

use crate::client::named_by_an_agent;
use oauth3_core::Host;

/// An address of the web, as an agent would give it.
///
/// # Panics
/// When one passes that is not https to a host by its name.
pub fn url(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(name) = named_by_an_agent(text) {
        assert!(Host::parse(&name).is_ok_and(|host| host.name() == name), "{text:?} names {name:?}");
        assert!(name.parse::<std::net::IpAddr>().is_err(), "{text:?} names an address");
    }
}
