//! The header of a skill, and the names in it.
#![no_main]

use oauth3_core::{Runtime, SecretName, SkillId, parse_header};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(declared) = parse_header(data) else { return };
    // Code that ends the comment block ends the header.
    let after = [b"let x;\n", data].concat();
    assert_eq!(parse_header(&after).map(|d| d.secrets), Ok(None));
    for name in declared.secrets.unwrap_or_default() {
        if let Ok(name) = SecretName::parse(&name) {
            assert!(name.as_str().bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_'));
        }
    }
    let _ = declared.skill_id.map(|id| SkillId::parse(&id).is_ok());
    let _ = declared.runtime.map(|name| name.parse::<Runtime>().is_ok());
});
