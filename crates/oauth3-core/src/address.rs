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
    /// Carries another address inside: v4-mapped, NAT64, 6to4, Teredo, ISATAP.
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
        // ISATAP puts a v4 address behind any prefix (RFC 5214 §6.1).
        [_, _, _, _, 0 | 0x0200, 0x5efe, ..] => AddressClass::Embedding,
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

    /// The IANA IPv4 and IPv6 Special-Purpose Address Registries, and the multicast blocks, as of 2025: every block,
    /// whether the registry calls it globally reachable or not. What is reachable only as a detour or as anycast of
    /// the network itself is no place of an API either.
    const SPECIAL_BLOCKS: [&str; 52] = [
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.0.0/29",
        "192.0.0.8/32",
        "192.0.0.9/32",
        "192.0.0.10/32",
        "192.0.0.170/31",
        "192.0.2.0/24",
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "192.175.48.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "255.255.255.255/32",
        "::1/128",
        "::/128",
        "::/96",
        "::ffff:0:0/96",
        "::ffff:0:0:0/96",
        "64:ff9b::/96",
        "64:ff9b:1::/48",
        "100::/64",
        "100:0:0:1::/64",
        "2001::/23",
        "2001::/32",
        "2001:1::1/128",
        "2001:1::2/128",
        "2001:1::3/128",
        "2001:2::/48",
        "2001:3::/32",
        "2001:4:112::/48",
        "2001:10::/28",
        "2001:20::/28",
        "2001:30::/28",
        "2001:db8::/32",
        "2002::/16",
        "3fff::/20",
        "5f00::/16",
        "fc00::/7",
        "fe80::/10",
        "fec0::/10",
        "ff00::/8",
    ];

    /// The first and last address of a block, and those next to it.
    fn edges(block: &str) -> ([IpAddr; 2], [Option<IpAddr>; 2]) {
        let (first, length) = block.split_once('/').unwrap();
        let length: u32 = length.parse().unwrap();
        match first.parse().unwrap() {
            IpAddr::V4(first) => {
                let first = first.to_bits();
                let last = first | u32::MAX.checked_shr(length).unwrap_or(0);
                let v4 = |bits: u32| IpAddr::from(Ipv4Addr::from_bits(bits));
                ([v4(first), v4(last)], [first.checked_sub(1).map(v4), last.checked_add(1).map(v4)])
            }
            IpAddr::V6(first) => {
                let first = first.to_bits();
                let last = first | u128::MAX.checked_shr(length).unwrap_or(0);
                let v6 = |bits: u128| IpAddr::from(Ipv6Addr::from_bits(bits));
                ([v6(first), v6(last)], [first.checked_sub(1).map(v6), last.checked_add(1).map(v6)])
            }
        }
    }

    #[test]
    fn no_block_of_the_special_purpose_registries_is_public() {
        for block in SPECIAL_BLOCKS {
            let ([first, last], _) = edges(block);
            assert!(!is_public(first) && !is_public(last), "{block}");
        }
    }

    #[test]
    fn what_lies_beside_a_special_block_is_public_unless_special_itself() {
        let within = |address: IpAddr| {
            SPECIAL_BLOCKS.iter().any(|block| {
                let ([first, last], _) = edges(block);
                first <= address && address <= last
            })
        };
        let mut beside = 0;
        for block in SPECIAL_BLOCKS {
            for address in edges(block).1.into_iter().flatten().filter(|address| !within(*address)) {
                // Of IPv6 only 2000::/3 is given out.
                let given_out = match address {
                    IpAddr::V4(_) => true,
                    IpAddr::V6(v6) => v6.segments()[0] >> 13 == 1,
                };
                assert_eq!(is_public(address), given_out, "{address} beside {block}");
                beside += usize::from(given_out);
            }
        }
        assert!(beside > 30, "{beside}");
    }

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
        for text in [
            "::ffff:8.8.8.8",
            "::ffff:127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "2001::1",
            "2002:7f00:1::",
            "2606:4700::5efe:7f00:1",
            "2606:4700::200:5efe:a00:1",
        ] {
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
