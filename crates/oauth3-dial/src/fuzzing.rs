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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    fn kept(target: &str) -> Vec<Vec<u8>> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/").to_owned() + target;
        std::fs::read_dir(folder).unwrap().map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect()
    }

    #[test]
    fn every_kept_input_holds() {
        let kept = kept("url");
        assert!(!kept.is_empty());
        kept.iter().for_each(|data| super::url(data));
    }

    proptest! {
        #[test]
        fn any_bytes_hold(data in proptest::collection::vec(any::<u8>(), 0..200)) {
            super::url(&data);
        }

        #[test]
        fn anything_like_an_address_holds(text in "(https|http|data|HTTPS|)(://|:|)([a-z0-9.@:\\[\\]%/?#\\\\-]|127\\.0\\.0\\.1|::1|0x7f|localhost|é){0,20}") {
            super::url(text.as_bytes());
        }
    }
}
