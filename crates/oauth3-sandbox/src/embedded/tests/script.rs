//! What is refused before anything runs.

use super::{job_of, run, run_job};

/// A program that must not start, and what its message contains.
fn refused(source: &str, parts: &[&str]) {
    let ran = run(source);
    assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{source}");
    for part in parts {
        assert!(ran.err.contains(part), "{source}\n{:?} lacks {part:?}", ran.err);
    }
}

#[test]
fn syntax_errors_name_line_and_column() {
    refused(
        "console.log(1);\n  const y = ;",
        &["does not parse", "const y = ;\n            ^", "file:///skill/main.ts:2:13"],
    );
    refused("let x = 1; let x = 2;", &["`x` has already been declared", ":1:"]);
    refused("\u{feff}const é = '😀' +;", &["file:///skill/main.ts:1:"]);
    refused("return 1", &["file:///skill/main.ts:1:1"]);
    refused("function (", &["does not parse"]);
}

#[test]
fn static_imports_are_refused_with_their_place() {
    for specifier in
        ["https://deno.land/x.ts", "http://a/b.js", "npm:openai@4", "jsr:@std/path", "node:fs", "lodash", "./a.ts"]
    {
        for source in [
            format!("console.log('ran');\nimport x from '{specifier}'; x()"),
            format!("console.log('ran');\nimport '{specifier}'"),
            format!("console.log('ran');\nexport * from '{specifier}'"),
            format!("console.log('ran');\nexport {{ a }} from '{specifier}'"),
        ] {
            refused(&source, &[&format!("\"{specifier}\" is refused"), "file:///skill/main.ts:2:1"]);
        }
    }
}

#[test]
fn imports_of_types_are_no_imports() {
    let ran = run("import type { A } from 'npm:types'; const a: A = 1; console.log(a)");
    assert_eq!((ran.code, ran.out.as_str()), (0, "1\n"), "{}", ran.err);
}

#[test]
fn what_is_no_text_is_refused() {
    let ran = run_job(job_of(&[("main.ts", b"console.log('\xff')")]));
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("no UTF-8 text: bad byte at offset 13"), "{}", ran.err);
}

#[test]
fn deep_nesting_is_refused_and_what_people_write_is_not() {
    refused(&format!("x = {}", "[".repeat(100_000)), &["more than 2000 deep"]);
    let ran = run(&format!("const x = {}{}; console.log(x.length)", "[".repeat(500), "]".repeat(500)));
    assert_eq!(ran.out, "1\n", "{}", ran.err);
}

#[test]
fn edges_of_the_source_are_fine() {
    for (source, out) in [
        ("", ""),
        ("#!/usr/bin/env deno\nconsole.log(1)", "1\n"),
        ("\u{feff}console.log(2)", "2\n"),
        ("// only a comment", ""),
    ] {
        let ran = run(source);
        assert_eq!((ran.code, ran.out.as_str()), (0, out), "{source:?}\n{}", ran.err);
    }
}
