//! What fuzzing holds this crate to. Ships nothing: a feature that only `fuzz/` asks for, and tests.

use crate::{Host, Runtime, SecretName, SkillId, is_public, parse_header};
use std::net::{IpAddr, Ipv6Addr};

/// Hosts and addresses: one spelling each, and none of a machine's own.
///
/// # Panics
/// When a host has two spellings or is an address, or an address that carries another one is public.
pub fn address(data: &[u8]) {
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
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    assert!(host.name().bytes().all(plain), "{text:?}");
}

/// The header of a skill, and the names in it.
///
/// # Panics
/// When it is read beyond the comment block, or a name passes that is none.
pub fn metadata(data: &[u8]) {
    let Ok(declared) = parse_header(data) else { return };
    // Code that ends the comment block ends the header.
    let after = [b"let x;\n", data].concat();
    assert_eq!(parse_header(&after).map(|d| d.secrets), Ok(None));
    for name in declared.secrets.unwrap_or_default() {
        if let Ok(name) = SecretName::parse(&name) {
            let variable = name.variable();
            assert!(variable.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_'));
            assert!(name.connection().is_some() || name.as_str() == variable, "{name} is what code finds it by");
        }
    }
    let _ = declared.skill_id.map(|id| SkillId::parse(&id).is_ok());
    let _ = declared.runtime.map(|name| name.parse::<Runtime>().is_ok());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    fn kept(target: &str) -> Vec<Vec<u8>> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/").to_owned() + target;
        std::fs::read_dir(folder).unwrap().map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect()
    }

    #[test]
    fn every_kept_input_holds() {
        for (target, run) in [("address", super::address as fn(&[u8])), ("metadata", super::metadata)] {
            let kept = kept(target);
            assert!(!kept.is_empty(), "{target}");
            kept.iter().for_each(|data| run(data));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_hold(data in proptest::collection::vec(any::<u8>(), 0..200)) {
            super::address(&data);
            super::metadata(&data);
        }

        #[test]
        fn any_header_holds(text in "((//|#|/\\*) ?@(skill|secrets|network|runtime|limits|timeout|x) [ -~]{0,20}\n){0,6}") {
            super::metadata(text.as_bytes());
        }

        #[test]
        fn any_host_holds(text in "([a-zA-Z0-9.:_\\[\\]%-]|xn--|é){0,30}") {
            super::address(text.as_bytes());
        }
    }
}
