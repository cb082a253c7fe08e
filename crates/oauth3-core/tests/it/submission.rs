//! One effective set per request, whatever is named where.

use oauth3_core::{Declared, Draft, Source, SubmissionError};
use proptest::prelude::*;

fn draft(body: Declared, metadata: Declared) -> Draft {
    Draft { skill_id: "s".into(), source: Source::Inline(vec![]), args: serde_json::Map::new(), body, metadata }
}

fn secrets(names: &[&str]) -> Declared {
    Declared { secrets: Some(names.iter().map(|n| (*n).to_owned()).collect()), ..Declared::default() }
}

#[test]
fn what_is_named_once_counts_and_differences_are_errors() {
    let check = |body: &Declared, metadata: &Declared, code: &str, want: Result<usize, SubmissionError>| {
        let got = draft(body.clone(), metadata.clone()).resolve(code.as_bytes()).map(|r| r.secrets.len());
        assert_eq!(got, want, "{body:?} {metadata:?} {code:?}");
    };
    let conflict = || Err(SubmissionError::Conflict("secrets"));
    let nothing = Declared::default();
    check(&nothing, &nothing, "1", Ok(0));
    check(&secrets(&["A", "B"]), &nothing, "1", Ok(2));
    check(&secrets(&["A", "B"]), &secrets(&["B", "A", "A"]), "1", Ok(2));
    check(&secrets(&["A", "B"]), &secrets(&["A"]), "1", conflict());
    check(&secrets(&["A"]), &secrets(&[]), "1", conflict());
    check(&secrets(&["A"]), &nothing, "// @secrets A\n1", Ok(1));
    check(&secrets(&["A"]), &nothing, "// @secrets\n1", conflict());
    check(&nothing, &nothing, "1 // @secrets A\n// @secrets B", Ok(0));
}

#[test]
fn limits_that_two_places_name_must_be_the_same() {
    let named = |limits: &[(&str, f64)]| Declared {
        limits: Some(limits.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()),
        ..Declared::default()
    };
    let check =
        |metadata: Declared, code: &str| draft(Declared::default(), metadata).resolve(code.as_bytes()).map(drop);
    let conflict = Err(SubmissionError::Conflict("limits"));
    assert_eq!(check(named(&[("memory_mb", 64.0)]), "1"), Ok(()));
    assert_eq!(check(named(&[("memory_mb", 64.0)]), "// @limits memory_mb=64\n1"), Ok(()));
    assert_eq!(check(named(&[("memory_mb", 64.0)]), "// @limits memory_mb=65\n1"), conflict);
    assert_eq!(check(named(&[("memory_mb", 64.0)]), "// @limits memory_mb=64 processes=4\n1"), conflict);
    assert_eq!(check(named(&[]), "// @limits processes=4\n1"), conflict);
    assert!(matches!(check(named(&[]), "// @limits speed=4\n1"), Err(SubmissionError::Invalid(_))));
}

#[test]
fn the_headers_skill_must_be_the_requests() {
    let other = draft(Declared::default(), Declared::default()).resolve(b"// @skill other\n1");
    assert_eq!(other, Err(SubmissionError::Conflict("skill_id")));
}

proptest! {
    #[test]
    fn no_code_and_no_value_panics(code in prop::collection::vec(any::<u8>(), 0..300), timeout in any::<f64>(), runtime in "\\PC{0,20}") {
        let body = Declared { timeout: Some(timeout), runtime: Some(runtime), ..Declared::default() };
        let resolved = draft(body, Declared::default()).resolve(&code);
        if let Ok(resolved) = resolved {
            prop_assert!(resolved.timeout_ms.is_some_and(|ms| ms > 0));
        }
    }

    #[test]
    fn headers_of_any_shape_are_read(lines in prop::collection::vec("(// ?|# ?|)@?(skill|secrets|network|timeout|runtime|description)?[ :]\\PC{0,30}", 0..10)) {
        let _ = oauth3_core::parse_header(lines.join("\n").as_bytes());
    }
}
