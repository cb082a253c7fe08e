//! Host names as agents and owners write them.

use oauth3_core::{AgentName, ArgName, Host, SecretName, SkillId};
use proptest::prelude::*;

#[test]
fn plain_names_are_taken_and_everything_else_is_not() {
    let check = |text: &str, canonical: Option<&str>| {
        assert_eq!(Host::parse(text).ok().map(|h| h.to_string()).as_deref(), canonical, "{text:?}");
    };
    check("api.openai.com", Some("api.openai.com"));
    check("API.OpenAI.com", Some("api.openai.com"));
    check("api.example.com:443", Some("api.example.com"));
    check("api.example.com:8443", Some("api.example.com:8443"));
    check("localhost", Some("localhost"));
    check("xn--bcher-kva.example", Some("xn--bcher-kva.example"));
    for text in [
        "",
        ".",
        "a.",
        ".a",
        "a..b",
        "*.example.com",
        "https://a.example",
        "a.example/x",
        "a.example?x",
        "user@a.example",
        "a.example:",
        "a.example:0",
        "a.example:080",
        "a.example:65536",
        "a.example:443:443",
        "a.example:+443",
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f.1",
        "0x7f000001",
        "1.2.3.0x4",
        "[::1]",
        "::1",
        "a_b.example",
        "-a.example",
        "a-.example",
        "bücher.example",
        "a.example\u{200b}",
        "a.example ",
        " a.example",
        "a\0.example",
        "a.example\n",
    ] {
        check(text, None);
    }
    check(&format!("{}.example", "a".repeat(63)), Some(&format!("{}.example", "a".repeat(63))));
    check(&format!("{}.example", "a".repeat(64)), None);
    check(&vec!["a".repeat(50); 6].join("."), None);
}

#[test]
fn names_that_steer_a_loader_cannot_name_a_secret() {
    for name in ["OPENAI_API_KEY", "GH_TOKEN", "A", "DENOMINATION", "PATHS", "GITHUB_TOKEN"] {
        assert!(SecretName::parse(name).is_ok(), "{name}");
    }
    for name in [
        "PATH",
        "LD_PRELOAD",
        "LD_LIBRARY_PATH",
        "NODE_OPTIONS",
        "PYTHONPATH",
        "DENO_DIR",
        "SKILL_ARGS",
        "ARG_X",
        "HTTPS_PROXY",
        "BASH_ENV",
        "GIT_SSH_COMMAND",
    ] {
        assert!(SecretName::parse(name).is_err(), "{name}");
    }
}

/// Whether a text is a host, without reading it: as if it had been read.
#[test]
fn a_text_is_a_host_exactly_when_it_reads_as_that_host() {
    let hosts = ["a.example", "a.example:8443", "b.a.example"].map(|text| Host::parse(text).unwrap());
    let names = ["a.example", "A.Example", "b.a.example", "a.exampl", "a.examplee", "a.example.", ""];
    let ports =
        ["", ":", ":443", ":8443", ":08443", ":+8443", ":+443", ":0443", ":65979", ":8443:8443", " :443", ":443 "];
    for text in names.iter().flat_map(|name| ports.map(|port| format!("{name}{port}"))) {
        let read = Host::parse(&text).ok();
        for host in &hosts {
            assert_eq!(host.is(&text), read.as_ref() == Some(host), "{text:?} and {host}");
        }
    }
}

proptest! {
    #[test]
    fn whatever_is_taken_reads_back_the_same(text in "\\PC{0,80}") {
        if let Ok(host) = Host::parse(&text) {
            prop_assert_eq!(Host::parse(&host.to_string()).unwrap(), host.clone());
            prop_assert!(host.name().parse::<std::net::IpAddr>().is_err());
            prop_assert!(host.to_string().is_ascii());
        }
        for taken in [SecretName::parse(&text).is_ok(), AgentName::parse(&text).is_ok(), SkillId::parse(&text).is_ok(), ArgName::parse(&text).is_ok()] {
            prop_assert!(!taken || text.chars().all(|c| c.is_ascii_graphic()));
        }
    }
}
