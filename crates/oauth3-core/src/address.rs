//! Which addresses the outside world may be found at.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What kind of place an address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressClass {
    /// Globally reachable unicast.
    Public,
    /// 127.0.0.0/8, `::1`.
    Loopback,
    /// RFC 1918, unique local (RFC 4193), CGNAT (RFC 6598).
    Private,
    /// 169.254.0.0/16, fe80::/10: where cloud metadata services live.
    LinkLocal,
    /// Carries another address inside: v4-mapped, NAT64, 6to4, Teredo.
    Embedding,
    /// Multicast, broadcast, unspecified, documentation, benchmarking, reserved.
    Special,
}

/// Whether an address may be dialled without the owner's word.
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    classify(address) == AddressClass::Public
}

/// Sorts an address by the IANA special-purpose registries (RFC 6890). What is unknown is not public.
#[must_use]
pub fn classify(address: IpAddr) -> AddressClass {
    match address {
        IpAddr::V4(v4) => classify_v4(v4),
        IpAddr::V6(v6) => classify_v6(v6),
    }
}

fn classify_v4(address: Ipv4Addr) -> AddressClass {
    match address.octets() {
        [127, ..] => AddressClass::Loopback,
        [10, ..] | [192, 168, ..] | [172, 16..=31, ..] | [100, 64..=127, ..] => AddressClass::Private,
        [169, 254, ..] => AddressClass::LinkLocal,
        // 6to4 relay anycast (RFC 7526).
        [192, 88, 99, _] => AddressClass::Embedding,
        // "this network", protocol assignments, documentation, benchmarking, multicast, reserved, broadcast.
        [0, ..]
        | [192, 0, 0 | 2, _]
        | [192, 31, 196, _]
        | [192, 52, 193, _]
        | [192, 175, 48, _]
        | [198, 18 | 19, ..]
        | [198, 51, 100, _]
        | [203, 0, 113, _]
        | [224..=255, ..] => AddressClass::Special,
        _ => AddressClass::Public,
    }
}

fn classify_v6(address: Ipv6Addr) -> AddressClass {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => AddressClass::Loopback,
        // v4-mapped, v4-compatible and v4-translated; NAT64 in both prefixes; Teredo; 6to4.
        [0, 0, 0, 0, 0 | 0xffff, ..] | [0x64, 0xff9b, ..] | [0x2001, 0, ..] | [0x2002, ..] => AddressClass::Embedding,
        [0xfe80..=0xfebf, ..] => AddressClass::LinkLocal,
        // Unique local, and site local (deprecated by RFC 3879, still routed by some).
        [0xfc00..=0xfdff, ..] | [0xfec0..=0xfeff, ..] => AddressClass::Private,
        // Protocol assignments, documentation (old and new), ORCHID, SRv6 SIDs.
        [0x2001, 0x0001..=0x01ff | 0x0db8, ..] | [0x3fff, 0..=0x0fff, ..] | [0x5f00, ..] => AddressClass::Special,
        // Only 2000::/3 is allocated as global unicast.
        [0x2000..=0x3fff, ..] => AddressClass::Public,
        _ => AddressClass::Special,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_special_range_is_kept_apart() {
        let check = |text: &str, class: AddressClass| {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(classify(address), class, "{text}");
        };
        for text in ["8.8.8.8", "1.1.1.1", "172.15.0.1", "172.32.0.1", "100.63.0.1", "100.128.0.1", "2606:4700::1111"] {
            check(text, AddressClass::Public);
        }
        for text in ["127.0.0.1", "127.255.255.254", "::1"] {
            check(text, AddressClass::Loopback);
        }
        for text in ["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "fd00::1", "fec0::1"] {
            check(text, AddressClass::Private);
        }
        for text in ["169.254.169.254", "fe80::1"] {
            check(text, AddressClass::LinkLocal);
        }
        for text in
            ["::ffff:8.8.8.8", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::1", "2001::1", "2002:7f00:1::"]
        {
            check(text, AddressClass::Embedding);
        }
        for text in
            ["0.0.0.0", "0.1.2.3", "224.0.0.1", "240.0.0.1", "255.255.255.255", "198.18.0.1", "ff02::1", "2001:db8::1"]
        {
            check(text, AddressClass::Special);
        }
        // Unspecified and v4-compatible forms are never public.
        for text in ["::", "::7f00:1"] {
            assert!(!is_public(text.parse().unwrap()), "{text}");
        }
    }
}
