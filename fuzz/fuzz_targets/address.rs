//! Hosts and addresses: one spelling each, and none of a machine's own.
#![no_main]

use oauth3_core::{Host, is_public};
use std::net::{IpAddr, Ipv6Addr};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Some(bytes) = data.first_chunk::<16>() {
        let v6 = Ipv6Addr::from(*bytes);
        if let Some(v4) = v6.to_ipv4() {
            assert!(!is_public(IpAddr::V6(v6)), "{v6} carries {v4}");
        }
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(host) = Host::parse(text) else { return };
    assert_eq!(Host::parse(&host.to_string()).as_ref(), Ok(&host), "{text:?} has one spelling");
    assert!(host.name().parse::<IpAddr>().is_err(), "{text:?} is an address");
    assert!(
        host.name().bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b)),
        "{text:?}"
    );
});
